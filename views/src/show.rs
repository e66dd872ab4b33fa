//! The forms of output, without a terminal: what each of them makes of a list of things.
//!
//! Not here: where it goes, and in which colour (`ctl`).

use serde::Serialize;

use crate::table::Columns;

/// Something that can be shown in every form of output.
pub trait Show: Serialize {
    /// Headings of the table.
    fn headings() -> &'static [&'static str];
    /// One row for people.
    fn row(&self) -> Vec<Cell>;
    /// One row for programs, tab-separated when written.
    fn plain(&self) -> Vec<String>;
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// What the colour of a cell means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Neutral,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Broken.
    Bad,
}

impl Cell {
    /// A cell with a colour.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: printable(&text.into()), tone }
    }

    /// What is shown.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What its colour means.
    #[must_use]
    pub fn tone(&self) -> Tone {
        self.tone
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Neutral)
    }
}

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Columns for people.
    Table,
    /// Tab-separated fields, a line each.
    Plain,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Ndjson,
    /// As plain, or the bytes themselves where there are some.
    Raw,
}

/// Text in the colour of its meaning.
pub type Paint<'a> = &'a dyn Fn(&str, Tone) -> String;

/// Many things: one array, a line each, or a table; with its last line end.
///
/// # Errors
/// When something cannot be turned into JSON.
pub fn list<T: Show>(items: &[T], shape: Shape, paint: Paint<'_>) -> serde_json::Result<String> {
    let mut text = match shape {
        Shape::Json => return Ok(serde_json::to_string_pretty(items)? + "\n"),
        Shape::Ndjson => {
            let lines = items.iter().map(|item| serde_json::to_string(item));
            lines.collect::<Result<Vec<_>, _>>()?
        }
        Shape::Plain | Shape::Raw => items.iter().map(|item| plain_line(&item.plain())).collect(),
        Shape::Table => return Ok(Columns::within(None).rows(items, paint)),
    };
    // So that the last line has its end, and no line is no text at all.
    text.push(String::new());
    Ok(text.join("\n"))
}

/// A tab-separated line, without its end. Tabs, line ends and backslashes in a field are escaped.
#[must_use]
pub fn plain_line(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|field| printable(field)).collect();
    fields.join("\t")
}

/// One line that cannot move the cursor, colour the screen or break a column.
fn printable(text: &str) -> String {
    escape_controls(&text.replace('\\', "\\\\"))
}

/// Control characters as escapes; nothing a sender wrote may drive a reader's terminal.
#[must_use]
pub fn escape_controls(text: &str) -> String {
    // Direction overrides reorder what is seen, so they are escaped like controls.
    let drives =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if drives(c) {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The text of a list in one form, without colour.
    pub(crate) fn shown<T: Show>(shape: Shape, items: &[T]) -> String {
        list(items, shape, &|text, _| text.to_owned()).unwrap()
    }

    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        state: &'static str,
    }

    impl Show for Row {
        fn headings() -> &'static [&'static str] {
            &["NAME", "STATE"]
        }
        fn row(&self) -> Vec<Cell> {
            vec![self.name.into(), Cell::toned(self.state, Tone::Good)]
        }
        fn plain(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.state.to_owned()]
        }
    }

    const ROWS: [Row; 2] =
        [Row { name: "n1", state: "up" }, Row { name: "a\tlong\nname", state: "down" }];

    #[test]
    fn every_form_of_a_list() {
        assert_eq!(
            shown(Shape::Table, &ROWS),
            "NAME           STATE\nn1             up\na\\tlong\\nname  down\n"
        );
        assert_eq!(shown(Shape::Plain, &ROWS), "n1\tup\na\\tlong\\nname\tdown\n");
        assert_eq!(
            shown(Shape::Ndjson, &ROWS),
            "{\"name\":\"n1\",\"state\":\"up\"}\n{\"name\":\"a\\tlong\\nname\",\"state\":\"down\"}\n"
        );
        let document: serde_json::Value = serde_json::from_str(&shown(Shape::Json, &ROWS)).unwrap();
        assert_eq!(document[1]["state"], "down");
        let none: [Row; 0] = [];
        assert_eq!((shown(Shape::Plain, &none), shown(Shape::Ndjson, &none)), Default::default());
    }

    #[test]
    fn colour_does_not_move_columns() {
        let paint = |text: &str, tone| match tone {
            Tone::Good => format!("<{text}>"),
            Tone::Neutral | Tone::Warning | Tone::Bad => text.to_owned(),
        };
        let text = list(&ROWS[..1], Shape::Table, &paint).unwrap();
        assert_eq!(text, "NAME  STATE\nn1    <up>\n");
    }

    #[test]
    fn text_cannot_drive_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\\\u{202e}b\u{7}"), "a\\u{1b}[2J\\\\\\u{202e}b\\u{7}");
    }
}
