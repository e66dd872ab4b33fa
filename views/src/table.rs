//! Tables: columns by what a terminal shows of a text, not by how many characters it has; and what becomes
//! of them where there is little room. A last column that is too long goes on below itself. Where not even
//! that fits, each row is a block with a line for each of its cells.
//!
//! Not here: how wide the terminal is, and its colours (`ctl`).

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::show::{Cell, Paint, Show};

/// What lies between two columns.
const BETWEEN: usize = 2;
/// The least that a last column may be left with before rows become blocks.
const LAST_MIN: usize = 16;

/// Widths of the columns so far, so that a later part of the same table stays aligned.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    widths: Vec<usize>,
    /// Columns of the terminal; `None`: as many as it takes.
    room: Option<usize>,
    /// Whether something was shown already.
    begun: bool,
}

impl Columns {
    /// None yet; `room`: columns of the terminal, if there is one.
    #[must_use]
    pub fn within(room: Option<usize>) -> Self {
        Self { widths: Vec::new(), room: room.filter(|&room| room > 0), begun: false }
    }

    /// The next rows, and before the first ones the headings.
    pub fn rows<T: Show>(&mut self, items: &[T], paint: Paint<'_>) -> String {
        let head: Vec<Cell> = T::headings().iter().map(|&heading| heading.into()).collect();
        let rows: Vec<Vec<Cell>> = items.iter().map(Show::row).collect();
        self.widths.resize(head.len(), 0);
        let mut last_max = 0;
        for row in rows.iter().chain(std::iter::once(&head)) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text().width());
            }
            last_max = last_max.max(row.last().map_or(0, |cell| cell.text().width()));
        }
        let before_last: usize =
            self.widths.iter().rev().skip(1).map(|width| width + BETWEEN).sum();
        let first = !std::mem::replace(&mut self.begun, true);
        let last_room = match self.room {
            Some(room) if before_last + last_max > room => {
                if before_last + LAST_MIN > room {
                    return blocks(&head, &rows, room, first, paint);
                }
                Some(room - before_last)
            }
            Some(_) | None => None,
        };
        let lines = first.then_some(&head).into_iter().chain(&rows);
        lines.map(|row| self.line(row, before_last, last_room, paint)).collect()
    }

    /// A row, with the end of its last line.
    fn line(
        &self,
        row: &[Cell],
        before_last: usize,
        last_room: Option<usize>,
        paint: Paint<'_>,
    ) -> String {
        let Some((last, others)) = row.split_last() else { return "\n".to_owned() };
        let mut line = String::new();
        for (cell, &width) in others.iter().zip(&self.widths) {
            line += &paint(cell.text(), cell.tone());
            line += &" ".repeat(width - cell.text().width() + BETWEEN);
        }
        for (at, part) in pieces(last.text(), last_room).into_iter().enumerate() {
            if at > 0 {
                line.truncate(line.trim_end().len());
                line += "\n";
                line += &" ".repeat(before_last);
            }
            line += &paint(part.trim_end(), last.tone());
        }
        line.trim_end().to_owned() + "\n"
    }
}

/// How many columns of a terminal a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// Each row as a block: a line for each cell, with its heading.
fn blocks(head: &[Cell], rows: &[Vec<Cell>], room: usize, first: bool, paint: Paint<'_>) -> String {
    let names = head.iter().map(|cell| cell.text().width()).max().unwrap_or(0) + BETWEEN;
    let value_room = room.saturating_sub(names).max(8);
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        if at > 0 || !first {
            text += "\n";
        }
        for (name, cell) in head.iter().zip(row).filter(|(_, cell)| !cell.text().is_empty()) {
            let mut name = name.text().to_owned();
            for part in pieces(cell.text(), Some(value_room)) {
                let padding = " ".repeat(names - name.width());
                text += &format!("{name}{padding}{}\n", paint(part.trim_end(), cell.tone()));
                name.clear();
            }
        }
    }
    text
}

/// A text in pieces that fit, cut at spaces where there are some.
fn pieces(text: &str, room: Option<usize>) -> Vec<&str> {
    let Some(room) = room.filter(|&room| text.width() > room) else { return vec![text] };
    let (mut pieces, mut rest) = (Vec::new(), text);
    while rest.width() > room {
        let (mut width, mut cut, mut space) = (0, 0, None);
        for (at, c) in rest.char_indices() {
            width += c.width().unwrap_or(0);
            // One character at least, or it would never end.
            if width > room && at > 0 {
                break;
            }
            if c == ' ' {
                space = Some(at + 1);
            }
            cut = at + c.len_utf8();
        }
        // A word that is longer than half a line is cut.
        let at = space.filter(|&space| space * 2 > cut).unwrap_or(cut);
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::show::Tone;

    #[derive(Serialize)]
    struct Row(&'static str, &'static str);

    impl Show for Row {
        fn headings() -> &'static [&'static str] {
            &["FROM", "BODY"]
        }
        fn row(&self) -> Vec<Cell> {
            vec![self.0.into(), Cell::toned(self.1, Tone::Good)]
        }
        fn plain(&self) -> Vec<String> {
            Vec::new()
        }
    }

    fn shown(rows: &[Row], room: usize) -> String {
        Columns::within(Some(room)).rows(rows, &|text, _| text.to_owned())
    }

    /// Meant to catch: characters counted: the second row stood two columns further left.
    #[test]
    fn columns_go_by_what_is_seen() {
        let rows = [Row("日本", "a"), Row("e\u{301}", "b"), Row("alice", "c")];
        assert_eq!(shown(&rows, 80), "FROM   BODY\n日本   a\ne\u{301}      b\nalice  c\n");
    }

    /// Meant to catch: the last column cut by characters: 東京 takes two columns each.
    #[test]
    fn a_long_last_column_goes_on_below_itself() {
        let rows = [Row("alice", "one two three four five six seven eight"), Row("bob", "x")];
        assert_eq!(
            shown(&rows, 32),
            "FROM   BODY\nalice  one two three four five\n       six seven eight\nbob    x\n"
        );
        let wide = [Row("bob", "東京東京東京東京東京東京東京東京")];
        for line in shown(&wide, 32).lines() {
            assert!(line.width() <= 32, "{line}");
        }
        assert_eq!(shown(&wide, 32).matches('京').count(), 8, "nothing is lost");
    }

    #[test]
    fn without_room_each_row_is_a_block() {
        let rows = [Row("alice", "one two three four"), Row("bob", "")];
        assert_eq!(shown(&rows, 20), "FROM  alice\nBODY  one two three\n      four\n\nFROM  bob\n");
        assert!(shown(&[Row("a", "0123456789abcdefghij")], 1).contains("01234567"));
    }

    #[test]
    fn a_later_part_stays_aligned_and_has_no_headings() {
        let mut columns = Columns::within(None);
        let plain = |text: &str, _| text.to_owned();
        assert_eq!(columns.rows(&[Row("alice", "a")], &plain), "FROM   BODY\nalice  a\n");
        assert_eq!(columns.rows(&[Row("bob", "b")], &plain), "bob    b\n");
    }
}
