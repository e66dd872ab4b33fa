//! `logctl clock report`: what the bounds were, as a table that an auditor can check against the
//! log. CSV unless another form is asked for.

use clock::hlc::utc_text;
use proto::ExitCode;
use proto::wire::{Empty, Op, Reply};
use views::history::{self, COLUMNS, Entry, Range, Row, RowView, Sum};
use views::range::When;

use crate::cli::{ClockReport, Form, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Out, Shape, Show};
use crate::session::Session;

pub(crate) async fn run(
    args: ClockReport,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    crate::input::check_order(args.since, args.until)?;
    let session = Session::open(globals, &Home::from_env()?)?;
    let found = find(&args, &session, out).await;
    session.close().await;
    let (range, nodes, entries) = found?;
    let tolerance_us = u64::try_from(args.tolerance.as_micros()).unwrap_or(u64::MAX);
    let by_node = history::by_node(entries);
    let mut views = Vec::new();
    let mut sums = Vec::new();
    for node in nodes {
        let entries = by_node.get(&node).map_or(&[][..], Vec::as_slice);
        let rows = history::rows(entries, range, tolerance_us);
        if let Some(note) = begins_late(&node, range, &rows) {
            out.note(&note);
        }
        sums.push((node.clone(), Sum::of(&rows)));
        views.extend(rows.into_iter().map(|row| RowView::new(&node, row, tolerance_us)));
    }
    show(&views, globals, out)?;
    verdict(&sums, &humantime::format_duration(args.tolerance).to_string(), out)
}

/// The range in full, the nodes to report on, and their entries.
async fn find(
    args: &ClockReport,
    session: &Session,
    out: &Out,
) -> Result<(Range, Vec<String>, Vec<Entry>), CtlError> {
    let now_ns = match session.call(Op::Clock(Empty {})).await? {
        (_, Reply::Clock(report)) => report.now_ns,
        _ => return Err(CtlError::unexpected("no clock report")),
    };
    let at = |when: Option<When>| when.map(|when| when.hlc(now_ns).ns);
    let range = Range { since_ns: at(args.since), until_ns: at(args.until), now_ns };
    if range.since_ns.is_some_and(|since_ns| since_ns >= now_ns) {
        return Err(CtlError::usage(
            format!("--since is not before now, which is {}", utc_text(now_ns)),
            "give a range that has begun",
        ));
    }
    if range.until_ns.is_some_and(|until_ns| until_ns > now_ns) {
        out.note(&format!(
            "--until is in the future; the report ends now, at {}",
            utc_text(now_ns)
        ));
    }
    let mut nodes: Vec<String> = session.nodes().await?.into_iter().map(|node| node.name).collect();
    let mut entries = read(range, session, out).await?;
    // A node that has left the cluster is part of its history.
    nodes.extend(entries.iter().map(|entry| entry.event.node.clone()));
    nodes.sort();
    nodes.dedup();
    if let Some(only) = &args.node {
        if !nodes.iter().any(|node| node == only.as_str()) {
            return Err(CtlError::not_found(
                format!("there is no node '{only}', and no history of one"),
                format!("give one of {}", nodes.join(", ")),
            ));
        }
        nodes.retain(|node| node == only.as_str());
        entries.retain(|entry| entry.event.node == only.as_str());
    }
    Ok((range, nodes, entries))
}

/// Every clock event that may speak of the range, in the order of the log.
async fn read(range: Range, session: &Session, out: &Out) -> Result<Vec<Entry>, CtlError> {
    let mut read = range.asks();
    let mut entries = Vec::new();
    loop {
        let (_, reply) = session.call(Op::Read(read.clone())).await?;
        let Reply::Page(page) = reply else { return Err(CtlError::unexpected("no page")) };
        for record in &page.records {
            match history::entry(record) {
                Ok(entry) => entries.extend(entry),
                Err(why) => out.warn(&why),
            }
        }
        if page.end {
            return Ok(entries);
        }
        if page.records.is_empty() && page.next == read.after {
            return Err(CtlError::unexpected("a page that leads nowhere"));
        }
        read.go_on(&page);
    }
}

/// What to say of a range that begins before a node's first entry.
fn begins_late(node: &str, range: Range, rows: &[Row]) -> Option<String> {
    range.since_ns?;
    let (first, second) = (rows.first()?, rows.get(1)?);
    (first.proof.is_none() && second.proof.is_some()).then(|| {
        format!("the history of {node} in this range begins at {} only", utc_text(first.to_ns))
    })
}

fn show(views: &[RowView], globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    // What an auditor asks for is a file, so that is the form unless another one is named.
    let csv = globals.output == Form::Auto && !globals.json || out.shape() == Shape::Raw;
    if !csv {
        return out.list(views);
    }
    out.bytes(csv_line(&COLUMNS.map(str::to_owned)).as_bytes())?;
    views.iter().try_for_each(|view| out.bytes(csv_line(&view.plain()).as_bytes()))
}

/// One record of RFC 4180, with its line end.
fn csv_line(fields: &[String]) -> String {
    let field = |field: &String| {
        if field.contains([',', '"', '\r', '\n']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.clone()
        }
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    format!("{}\r\n", fields.join(","))
}

/// Sums up each node; an error unless all of them were good all the time.
fn verdict(sums: &[(String, Sum)], tolerance: &str, out: &mut Out) -> Result<(), CtlError> {
    out.hand_over();
    let sentence = |(node, sum): &(String, Sum)| format!("{node}: {}", sum.sentence(tolerance));
    let bad: Vec<String> = sums.iter().filter(|(_, sum)| !sum.is_good()).map(sentence).collect();
    if bad.is_empty() && !sums.is_empty() {
        let good: Vec<String> = sums.iter().map(sentence).collect();
        out.note(&good.join("; "));
        return Ok(());
    }
    let what = if bad.is_empty() { "there is no node".to_owned() } else { bad.join("; ") };
    Err(CtlError::refused(
        ExitCode::Clock,
        what,
        "look at the rows that are not 'yes'; logctl read --to '$events' shows the records of \
         their stamps",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_would_break_it() {
        let line = |fields: &[&str]| {
            csv_line(&fields.iter().map(|&field| field.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(line(&["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(
            line(&["a,b", "say \"no\"", "two\r\nlines"]),
            "\"a,b\",\"say \"\"no\"\"\",\"two\r\nlines\"\r\n"
        );
    }

    #[test]
    fn plain_and_csv_have_the_fields_of_json_in_their_order() {
        let row = Row {
            from_ns: 0,
            to_ns: 1,
            state: "synced".into(),
            worst_error_us: Some(900),
            within: history::Within::Yes,
            cause: "history",
            reason: "fine".into(),
            proof: Some((7, "stamp".into())),
        };
        let view = RowView::new("n1", row, 50_000);
        assert_eq!(view.plain().len(), COLUMNS.len());
        let text = serde_json::to_string(&view).unwrap();
        let places: Vec<_> = COLUMNS.map(|c| text.find(&format!("\"{c}\":")).unwrap()).into();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(
            csv_line(&view.plain()),
            "n1,1970-01-01T00:00:00.000000000Z,1970-01-01T00:00:00.000000001Z,synced,900,50000,\
             yes,history,fine,7,stamp\r\n"
        );
    }
}
