//! `logctl chart`: who took how many messages, as the cluster counts them and counted in the log.

use std::io::Read;
use std::path::Path;

use proto::wire::{self, Distribution, Empty, Op, Reply};
use proto::{ExitCode, Role};
use serde::Serialize;

use crate::chart::{Bars, bars, field};
use crate::cli::{Chart, ChartBars, ChartDistribution, ChartForm, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::local::find_logd;
use crate::out::{Cell, Out, Shape, Show, Tone};
use crate::scenario::{self, Played};
use crate::session::Session;
use crate::spread::Counts;

/// How often the two counts are taken again while messages come in.
const ROUNDS: u32 = 5;
/// Most that is read from standard input.
const INPUT_MAX: u64 = 1 << 20;

/// Who took how much.
#[derive(Debug, Serialize)]
struct DistributionView {
    nodes: Vec<Row>,
    /// Whether the cluster's count and that of the log agree; absent where the log was not read, or
    /// changed meanwhile.
    agree: Option<bool>,
}

/// One node.
#[derive(Debug, Serialize)]
struct Row {
    node: String,
    /// As the cluster counts.
    messages: u64,
    /// As counted in the log.
    from_log: Option<u64>,
    slots: u32,
    requests: Option<u64>,
}

pub(crate) async fn run(args: Chart, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    match args {
        Chart::Distribution(ChartDistribution { form, scenario: Some(scenario), logd }) => {
            let played = scenario::play(&scenario, find_logd(logd)?, globals, out).await?;
            show_played(&played, &form, out)
        }
        Chart::Distribution(ChartDistribution { form, .. }) => {
            let session = Session::open(globals, &Home::from_env()?)?;
            let view = distribution(&session).await;
            session.close().await;
            show(&view?, &form, out)
        }
        Chart::Bars(args) => from_input(&args, out),
    }
}

/// Counts both ways, again if messages came in between.
async fn distribution(session: &Session) -> Result<DistributionView, CtlError> {
    let mut before = counters(session).await?;
    // Only an admin sees the whole log.
    if session.context().role != Role::Admin {
        return Ok(DistributionView::new(&before, None, None));
    }
    for _ in 0..ROUNDS {
        let log = scan(session).await?;
        let after = counters(session).await?;
        if messages(&before) == messages(&after) {
            let agree = after.rows.iter().all(|row| count(&log, &row.node) == row.messages)
                && log.iter().all(|(node, _)| after.rows.iter().any(|row| row.node == node));
            return Ok(DistributionView::new(&after, Some(&log), Some(agree)));
        }
        before = after;
    }
    Ok(DistributionView::new(&before, None, None))
}

async fn counters(session: &Session) -> Result<Distribution, CtlError> {
    match session.call(Op::Distribution(Empty {})).await? {
        (_, Reply::Distribution(distribution)) => Ok(distribution),
        _ => Err(CtlError::unexpected("no distribution")),
    }
}

fn messages(distribution: &Distribution) -> Vec<(&str, u64)> {
    distribution.rows.iter().map(|row| (row.node.as_str(), row.messages)).collect()
}

fn count(counts: &Counts, node: &str) -> u64 {
    counts.iter().find(|(name, _)| *name == node).map_or(0, |(_, count)| count)
}

/// Counts the records of the whole log by the gateway that each of them names.
async fn scan(session: &Session) -> Result<Counts, CtlError> {
    let mut counts = Counts::default();
    let mut read = wire::Read::default();
    loop {
        let Reply::Page(page) = session.call(Op::Read(read.clone())).await?.1 else {
            return Err(CtlError::unexpected("no page"));
        };
        page.records.iter().for_each(|record| counts.add(&record.gateway, 1));
        if page.end {
            return Ok(counts);
        }
        if page.records.is_empty() && page.next == read.after {
            return Err(CtlError::unexpected("a page that leads nowhere"));
        }
        read.go_on(&page);
    }
}

impl DistributionView {
    fn new(counted: &Distribution, log: Option<&Counts>, agree: Option<bool>) -> Self {
        let row = |row: &proto::overview::DistributionRow| Row {
            node: row.node.clone(),
            messages: row.messages,
            from_log: log.map(|log| count(log, &row.node)),
            slots: row.slots,
            requests: row.requests,
        };
        let mut nodes: Vec<Row> = counted.rows.iter().map(row).collect();
        // A node that the cluster does not count and the log knows must be seen.
        for (node, messages) in log.iter().flat_map(|log| log.iter()) {
            if !counted.rows.iter().any(|row| row.node == node) {
                nodes.push(Row {
                    node: node.to_owned(),
                    messages: 0,
                    from_log: Some(messages),
                    slots: 0,
                    requests: None,
                });
            }
        }
        Self { nodes, agree }
    }

    fn bars(&self) -> Bars {
        let exact = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let rows: Vec<(String, f64)> =
            self.nodes.iter().map(|row| (row.node.clone(), exact(row.messages))).collect();
        let nodes = if rows.len() == 1 { "1 node" } else { &format!("{} nodes", rows.len()) };
        bars(&format!("Messages by gateway, {nodes}"), &rows)
    }

    fn csv(&self) -> String {
        let mut text = "node,messages,from_log,slots,requests\n".to_owned();
        for row in &self.nodes {
            let [_, messages, from_log, slots, requests] = row.fields();
            let node = field(&row.node);
            text.push_str(&format!("{node},{messages},{from_log},{slots},{requests}\n"));
        }
        text
    }
}

fn show(view: &DistributionView, form: &ChartForm, out: &mut Out) -> Result<(), CtlError> {
    if let Some(path) = &form.svg {
        write_svg(&view.bars(), path, out)?;
    } else if form.ascii {
        out.bytes(view.bars().ascii().as_bytes())?;
    } else if form.csv {
        out.bytes(view.csv().as_bytes())?;
    } else {
        match out.shape() {
            Shape::Json => out.json(view)?,
            Shape::Ndjson => out.json_line(view)?,
            Shape::Table | Shape::Plain | Shape::Raw => out.list(&view.nodes)?,
        }
    }
    match view.agree {
        Some(true) => out.note("counted in the log: the same"),
        Some(false) => {
            return Err(CtlError::refused(
                ExitCode::Integrity,
                "the cluster's count of messages by gateway is not that of its log",
                "run logctl verify --state, and report what it says",
            ));
        }
        None => out.note("not compared with the log: only an admin reads all of it, at rest"),
    }
    Ok(())
}

fn show_played(played: &Played, form: &ChartForm, out: &mut Out) -> Result<(), CtlError> {
    let bars = played.bars();
    if let Some(path) = &form.svg {
        write_svg(&bars, path, out)?;
    } else if form.ascii {
        out.bytes(bars.ascii().as_bytes())?;
    } else if form.csv {
        out.bytes(bars.csv().as_bytes())?;
    } else if out.shape() == Shape::Json {
        out.json(played)?;
    } else {
        out.list(&played.lines())?;
    }
    out.hand_over();
    out.note(&format!("{} messages failed", played.failed));
    played.verdict()
}

fn write_svg(bars: &Bars, path: &Path, out: &mut Out) -> Result<(), CtlError> {
    let svg = bars.svg();
    if path == Path::new("-") {
        return out.bytes(svg.as_bytes());
    }
    std::fs::write(path, svg).map_err(CtlError::file("write", path))?;
    out.note(&format!("chart written to {}", path.display()));
    Ok(())
}

/// A chart of the lines on standard input.
fn from_input(args: &ChartBars, out: &mut Out) -> Result<(), CtlError> {
    let mut text = String::new();
    let input = std::io::stdin().take(INPUT_MAX).read_to_string(&mut text);
    input.map_err(CtlError::file("read", Path::new("standard input")))?;
    let bars = bars(&args.title, &read_rows(&text)?);
    if let Some(path) = &args.form.svg {
        return write_svg(&bars, path, out);
    }
    out.bytes(if args.form.csv { bars.csv() } else { bars.ascii() }.as_bytes())
}

fn read_rows(text: &str) -> Result<Vec<(String, f64)>, CtlError> {
    let row = |line: &str| {
        let (name, number) = line.rsplit_once(',')?;
        let number: f64 = number.trim().parse().ok()?;
        (number.is_finite() && number >= 0.0).then(|| (name.trim().to_owned(), number))
    };
    let read = |line: &str| {
        row(line).ok_or_else(|| {
            let shown: String = line.chars().take(80).collect();
            CtlError::usage(
                format!("'{shown}' is not a name, a comma and a number"),
                "printf 'n1,4\\nn2,5\\n' | logctl chart bars",
            )
        })
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(read).collect()
}

impl Row {
    fn fields(&self) -> [String; 5] {
        let known = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
        [
            self.node.clone(),
            self.messages.to_string(),
            known(self.from_log),
            self.slots.to_string(),
            known(self.requests),
        ]
    }
}

impl Show for Row {
    fn headings() -> &'static [&'static str] {
        &["NODE", "MESSAGES", "FROM LOG", "SLOTS", "REQUESTS"]
    }

    fn row(&self) -> Vec<Cell> {
        let differs = self.from_log.is_some_and(|log| log != self.messages);
        let tone = if differs { Tone::Bad } else { Tone::Neutral };
        self.fields().into_iter().map(|text| Cell::toned(text, tone)).collect()
    }

    fn plain(&self) -> Vec<String> {
        self.fields().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_input_are_read_strictly() {
        assert_eq!(
            read_rows("n1,4\n\n a, b ,2.5\n").unwrap(),
            [("n1".to_owned(), 4.0), ("a, b".to_owned(), 2.5)]
        );
        for bad in ["n1", "n1,", "n1,x", "n1,-1", "n1,inf"] {
            assert_eq!(read_rows(bad).unwrap_err().exit_code(), ExitCode::Usage, "{bad}");
        }
    }
}
