//! Charts of bars: as SVG, as text, and as the numbers themselves. Written by hand: a chart of a few
//! bars needs no library.

use std::fmt::Write;

use views::table::width;

/// Longest bar of the SVG, height of a bar with the space below it, and where the bars begin.
const BAR: f64 = 430.0;
const ROW: f64 = 32.0;
const TOP: f64 = 48.0;
/// Space that a legend takes.
const LEGEND: f64 = 28.0;
/// About as wide is a character, and as many of a name are shown.
const CHAR: f64 = 8.5;
const NAME_MAX: usize = 48;
/// Space at the right for the numbers.
const RIGHT: f64 = 90.0;
/// Longest bar of the text form, in characters.
const CHARS: usize = 40;
/// One for each phase: told apart by those who see no red and green as well, and in print by their lightness.
const COLOURS: [&str; 4] = ["#2f6f9f", "#e69f00", "#56b4e9", "#5b5b5b"];
/// The same in text.
const FILLS: [char; 4] = ['#', '=', '+', 'o'];

/// A chart of one bar a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bars {
    title: String,
    /// What the colours mean; none where there is one.
    phases: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    phase: usize,
    name: String,
    number: f64,
}

/// A chart of these rows: a name and a number that is not negative.
pub(crate) fn bars(title: &str, rows: &[(String, f64)]) -> Bars {
    let mut bars = Bars { title: title.to_owned(), phases: Vec::new(), rows: Vec::new() };
    bars.add(rows);
    bars
}

/// A chart of the same things in several phases, each in a colour of its own.
pub(crate) fn phases(title: &str, phases: &[(String, Vec<(String, f64)>)]) -> Bars {
    let mut bars = bars(title, &[]);
    for (phase, rows) in phases {
        bars.phases.push(phase.clone());
        bars.add(rows);
    }
    bars
}

impl Bars {
    /// Rows of the last phase.
    fn add(&mut self, rows: &[(String, f64)]) {
        let sane = |n: f64| if n.is_finite() && n > 0.0 { n } else { 0.0 };
        let phase = self.phases.len().saturating_sub(1);
        self.rows.extend(rows.iter().map(|(name, number)| Row {
            phase,
            name: name.clone(),
            number: sane(*number),
        }));
    }

    /// An SVG document, as wide as its names need.
    pub(crate) fn svg(&self) -> String {
        let floats = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let longest = self.rows.iter().map(|row| width(&shown(&row.name))).max().unwrap_or(0);
        let title_room = 32.0 + CHAR * 1.2 * floats(width(&self.title));
        let left = 24.0 + CHAR * floats(longest);
        let wide = (left + BAR + RIGHT).max(title_room).ceil();
        let top = if self.phases.is_empty() { TOP } else { TOP + LEGEND };
        let height = top + ROW * floats(self.rows.len()) + 16.0;
        let mut svg = String::new();
        // Writing into a string cannot fail.
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}\" height=\"{height}\" \
             viewBox=\"0 0 {wide} {height}\" font-family=\"sans-serif\" font-size=\"14\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"16\" y=\"28\" font-size=\"16\" font-weight=\"bold\">{}</text>",
            escape(&self.title)
        );
        let mut x = 16.0;
        for (at, phase) in self.phases.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"42\" width=\"14\" height=\"14\" fill=\"{}\"/>\n\
                 <text x=\"{:.1}\" y=\"54\">{}</text>",
                of(&COLOURS, at),
                x + 20.0,
                escape(phase)
            );
            x += 48.0 + CHAR * floats(width(phase));
        }
        let most = self.most();
        let mut y = top;
        for Row { phase, name, number } in &self.rows {
            let bar = BAR * number / most;
            let (middle, after) = (y + 16.0, left + bar + 8.0);
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\n\
                 <rect x=\"{left:.1}\" y=\"{y}\" width=\"{bar:.1}\" height=\"22\" fill=\"{}\">\
                 <title>{}</title></rect>\n\
                 <text x=\"{after:.1}\" y=\"{middle}\">{}</text>",
                left - 8.0,
                escape(&shown(name)),
                of(&COLOURS, *phase),
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
        let names = self.rows.iter().map(|row| width(&row.name)).max().unwrap_or(0);
        let most = self.most();
        let mut text =
            if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        let legend = self.phases.iter().enumerate();
        let legend: Vec<String> =
            legend.map(|(at, phase)| format!("{} {phase}", of(&FILLS, at))).collect();
        if !legend.is_empty() {
            let _ = writeln!(text, "{}", legend.join("   "));
        }
        for Row { phase, name, number } in &self.rows {
            let mut bar = String::new();
            let mut part = 0.5;
            for _ in 0..CHARS {
                if part / 40.0 > number / most {
                    break;
                }
                bar.push(of(&FILLS, *phase));
                part += 1.0;
            }
            let padding = " ".repeat(names - width(name));
            let _ = writeln!(text, "{name}{padding}  {bar:<CHARS$}  {}", plain(*number));
        }
        text
    }

    /// The numbers, comma-separated, with a heading.
    pub(crate) fn csv(&self) -> String {
        let phased = !self.phases.is_empty();
        let mut text = if phased { "phase,name,value\n" } else { "name,value\n" }.to_owned();
        for Row { phase, name, number } in &self.rows {
            if let Some(phase) = self.phases.get(*phase) {
                let _ = write!(text, "{},", field(phase));
            }
            let _ = writeln!(text, "{},{}", field(name), plain(*number));
        }
        text
    }

    /// The largest number; not 0, for it is divided by.
    fn most(&self) -> f64 {
        let most = self.rows.iter().map(|row| row.number).fold(0.0, f64::max);
        if most > 0.0 { most } else { 1.0 }
    }
}

/// One of several, again from the first where there are more phases.
fn of<T: Copy + Default, const N: usize>(all: &[T; N], at: usize) -> T {
    all.get(at % N).copied().unwrap_or_default()
}

/// A name as far as there is room for it; the whole one is shown to who points at its bar.
fn shown(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    let mut begin: String = name.chars().take(NAME_MAX - 1).collect();
    begin.push('…');
    begin
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

    /// Meant to catch: a fixed margin: a long name began left of the picture.
    #[test]
    fn names_of_any_length_have_room() {
        let left = |name: &str| {
            let svg = bars("t", &[(name.to_owned(), 1.0)]).svg();
            let (_, rest) = svg.split_once("text-anchor").unwrap();
            let (_, rest) = rest.split_once("<rect x=\"").unwrap();
            rest.split('"').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(left("a-name-of-thirty-characters-xx") > 30.0 * 7.0);
        assert!(left("n1") < 60.0, "a short name leaves the room to its bar");
        let long = "x".repeat(300);
        assert!(left(&long) < 500.0);
        assert!(bars("", &[(long.clone(), 1.0)]).svg().contains(&format!("<title>{long}</title>")));
        let wide = bars("", &[("日本".to_owned(), 1.0), ("abcd".to_owned(), 1.0)]).ascii();
        let at: Vec<usize> =
            wide.lines().map(|line| width(line.split('#').next().unwrap())).collect();
        assert_eq!(at[0], at[1], "{wide}");
    }

    /// Meant to catch: one colour for all.
    #[test]
    fn each_phase_has_its_colour_and_is_named() {
        let phase = |name: &str, n| (name.to_owned(), vec![("n1".to_owned(), n)]);
        let chart = phases("t", &[phase("before", 2.0), phase("without", 1.0)]);
        let svg = chart.svg();
        for colour in &COLOURS[..2] {
            assert_eq!(svg.matches(colour).count(), 2, "{colour}: its bar and its legend");
        }
        assert!(svg.contains(">before<") && svg.contains(">without<"), "{svg}");
        let text = chart.ascii();
        assert!(text.contains("# before   = without") && text.contains("===="), "{text}");
        assert_eq!(chart.csv(), "phase,name,value\nbefore,n1,2\nwithout,n1,1\n");
    }
}
