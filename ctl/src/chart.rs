//! Charts of bars: as SVG, as text, and as the numbers themselves. Written by hand: a chart of a few
//! bars needs no library.

use std::fmt::Write;

/// Width of the SVG, height of a bar with the space below it, and where the bars begin.
const WIDTH: f64 = 640.0;
const ROW: f64 = 32.0;
const TOP: f64 = 48.0;
const LEFT: f64 = 120.0;
/// Space at the right for the numbers.
const RIGHT: f64 = 90.0;
/// Longest bar of the text form, in characters.
const CHARS: usize = 40;

/// A chart of one bar a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bars {
    title: String,
    rows: Vec<(String, f64)>,
}

/// A chart of these rows: a name and a number that is not negative.
pub(crate) fn bars(title: &str, rows: &[(String, f64)]) -> Bars {
    let sane = |n: f64| if n.is_finite() && n > 0.0 { n } else { 0.0 };
    let rows = rows.iter().map(|(name, number)| (name.clone(), sane(*number))).collect();
    Bars { title: title.to_owned(), rows }
}

impl Bars {
    /// An SVG document.
    pub(crate) fn svg(&self) -> String {
        let rows = self.rows.iter().fold(0.0, |rows, _| rows + 1.0);
        let height = TOP + ROW * rows + 16.0;
        let mut svg = String::new();
        // Writing into a string cannot fail.
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"14\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"16\" y=\"28\" font-size=\"16\" font-weight=\"bold\">{}</text>",
            escape(&self.title)
        );
        let most = self.most();
        let mut y = TOP;
        for (name, number) in &self.rows {
            let width = (WIDTH - LEFT - RIGHT) * number / most;
            let (middle, after) = (y + 16.0, LEFT + width + 8.0);
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\n\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"22\" fill=\"#2f6f9f\"/>\n\
                 <text x=\"{after:.1}\" y=\"{middle}\">{}</text>",
                LEFT - 8.0,
                escape(name),
                plain(*number)
            );
            y += ROW;
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Lines of text.
    pub(crate) fn ascii(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let most = self.most();
        let mut text =
            if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        for (name, number) in &self.rows {
            let mut bar = String::new();
            let mut part = 0.5;
            for _ in 0..CHARS {
                if part / 40.0 > number / most {
                    break;
                }
                bar.push('#');
                part += 1.0;
            }
            let _ = writeln!(text, "{name:<width$}  {bar:<CHARS$}  {}", plain(*number));
        }
        text
    }

    /// The numbers, comma-separated, with a heading.
    pub(crate) fn csv(&self) -> String {
        let mut text = "name,value\n".to_owned();
        for (name, number) in &self.rows {
            let _ = writeln!(text, "{},{}", field(name), plain(*number));
        }
        text
    }

    /// The largest number; not 0, for it is divided by.
    fn most(&self) -> f64 {
        let most = self.rows.iter().map(|(_, number)| *number).fold(0.0, f64::max);
        if most > 0.0 { most } else { 1.0 }
    }
}

/// A number without digits that say nothing.
fn plain(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text in an XML document. Characters that XML does not know are left out.
fn escape(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
        out
    })
}

/// Text in a comma-separated line (RFC 4180).
pub(crate) fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Bars {
        bars(
            "a < b & c",
            &[("n1".to_owned(), 6.0), ("n2".to_owned(), 0.0), ("n,3".to_owned(), 3.25)],
        )
    }

    #[test]
    fn the_text_is_proportional() {
        let full = "#".repeat(40);
        let part = format!("{:<40}", "#".repeat(22));
        assert_eq!(
            rows().ascii(),
            format!("a < b & c\nn1   {full}  6\nn2   {:<40}  0\nn,3  {part}  3.25\n", "")
        );
        assert_eq!(bars("", &[]).ascii(), "");
    }

    #[test]
    fn the_numbers_can_be_read_by_programs() {
        assert_eq!(rows().csv(), "name,value\nn1,6\nn2,0\n\"n,3\",3.25\n");
        assert_eq!(bars("", &[("x".to_owned(), f64::NAN)]).csv(), "name,value\nx,0\n");
    }

    /// Every element is closed and every text is escaped.
    #[test]
    fn the_svg_is_well_formed() {
        let svg = bars("<&>\"\u{7}", &[("<b>".to_owned(), 1.0), ("x".to_owned(), -1.0)]).svg();
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').unwrap();
            assert!(!text.contains('>') && !tag.contains('\u{7}'), "{part}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split_whitespace().next().unwrap().to_owned()),
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains("width=\"430.0\"") && svg.contains("width=\"0.0\""), "{svg}");
    }
}
