//! `logctl clock`: what the nodes know about the time, and from whom.

mod lower;
mod report;
mod wait;

use proto::wire::{Empty, Op, Reply};
use proto::{ExitCode, Name};
use views::clocks::{ClockView, LEGEND};

use crate::cli::{Clock, ClockVerb, Globals, Whose};
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::{Out, Shape, Show};

pub(crate) async fn run(args: Clock, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    match args.verb {
        None => tracking(args.whose, globals, out).await,
        Some(ClockVerb::Tracking(whose)) => tracking(whose, globals, out).await,
        Some(ClockVerb::Sources(whose)) => sources(whose, globals, out).await,
        Some(ClockVerb::Peers(whose)) => peers(whose, globals, out).await,
        Some(ClockVerb::Wait(args)) => wait::run(args, globals, out).await,
        Some(ClockVerb::LowerCeiling(whose)) => lower::run(whose, globals, out).await,
        Some(ClockVerb::Report(args)) => report::run(args, globals, out).await,
    }
}

async fn tracking(whose: Whose, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let clocks = ask(whose, globals).await?;
    match clocks.views.as_slice() {
        [view] if !whose.all => show(view, out)?,
        views => out.list(views)?,
    }
    clocks.verdict(out)
}

async fn sources(whose: Whose, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let clocks = ask(whose, globals).await?;
    let rows: Vec<_> =
        clocks.views.iter().flat_map(|view| view.sources().iter().cloned()).collect();
    out.list(&rows)?;
    // Data before its explanation, also when both go to one terminal.
    out.hand_over();
    if rows.is_empty() {
        out.note("no time server is configured: the machine's own clock is taken as it is");
    }
    if globals.verbose > 0 {
        let refusals: Vec<String> = rows.iter().filter_map(|row| row.refusals()).collect();
        refusals.iter().for_each(|text| out.note(text));
        LEGEND.iter().for_each(|text| out.note(text));
    }
    clocks.verdict(out)
}

async fn peers(whose: Whose, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let clocks = ask(whose, globals).await?;
    let rows: Vec<_> = clocks.views.iter().flat_map(|view| view.peers().iter().cloned()).collect();
    out.list(&rows)?;
    clocks.verdict(out)
}

/// One clock in full.
fn show(view: &ClockView, out: &mut Out) -> Result<(), CtlError> {
    match out.shape() {
        Shape::Json => out.json(view),
        Shape::Ndjson => out.json_line(view),
        Shape::Plain | Shape::Raw => plain(view, out),
        Shape::Table => {
            for (key, value) in view.tracking() {
                out.line(&format!("{key:<15} : {}", crate::out::escape_controls(&value)))?;
            }
            if !view.sources().is_empty() {
                out.line("")?;
                out.list(view.sources())?;
            }
            if !view.peers().is_empty() {
                out.line("")?;
                out.list(view.peers())?;
            }
            Ok(())
        }
    }
}

/// A fact a line; then a line for each server and each peer, behind a word that says which.
fn plain(view: &ClockView, out: &mut Out) -> Result<(), CtlError> {
    let facts = view.facts().into_iter().map(|(key, value)| vec![key.to_owned(), value]);
    let line = |word: &str, fields: Vec<String>| [vec![word.to_owned()], fields].concat();
    let sources = view.sources().iter().map(|source| line("source", source.plain()));
    let peers = view.peers().iter().map(|peer| line("peer", peer.plain()));
    let lines: Vec<Vec<String>> = facts.chain(sources).chain(peers).collect();
    lines.iter().try_for_each(|fields| out.plain_line(fields))
}

/// The clocks that were asked for, and the nodes that did not answer.
struct Clocks {
    views: Vec<ClockView>,
    silent: Vec<(Name, CtlError)>,
}

/// Asks the node that answers, the one named, or each one.
async fn ask(whose: Whose, globals: &Globals) -> Result<Clocks, CtlError> {
    let each = EachNode::open(globals)?;
    let mut clocks = Clocks { views: Vec::new(), silent: Vec::new() };
    if !whose.all {
        let (_, reply) = each.ask(globals.via.as_ref(), Op::Clock(Empty {})).await?;
        clocks.views.push(view(reply)?);
        return Ok(clocks);
    }
    refuse_via(globals)?;
    let nodes = each.names().await?;
    for (node, answer) in each.ask_all(&nodes, &Op::Clock(Empty {})).await {
        match answer.and_then(view) {
            Ok(view) => clocks.views.push(view),
            Err(error) => clocks.silent.push((node, error)),
        }
    }
    Ok(clocks)
}

/// All nodes and one of them cannot both be meant.
fn refuse_via(globals: &Globals) -> Result<(), CtlError> {
    match &globals.via {
        None => Ok(()),
        Some(node) => Err(CtlError::usage(
            format!("--all asks every node itself, and --via (or LOGCTL_VIA) names {node}"),
            "give only one of the two",
        )),
    }
}

fn view(reply: Reply) -> Result<ClockView, CtlError> {
    let Reply::Clock(report) = reply else {
        return Err(CtlError::unexpected("no clock report"));
    };
    Ok(report.into())
}

impl Clocks {
    /// Says what is alarming; the gravest clock decides the exit code.
    fn verdict(self, out: &mut Out) -> Result<(), CtlError> {
        out.hand_over();
        for view in &self.views {
            for alarm in view.alarms() {
                out.warn(&format!("{}: {alarm}", view.node()));
            }
        }
        let first = self.silent.into_iter().next();
        let worst = self.views.iter().max_by_key(|view| view.exit_code());
        match (worst, first) {
            (None, Some((_, error))) => Err(error),
            (Some(view), Some((node, error))) if view.exit_code() < Some(ExitCode::Clock) => {
                Err(CtlError::refused(
                    ExitCode::Degraded,
                    format!("{node} does not answer: {}", error.line()),
                    "logctl status",
                ))
            }
            (Some(view), _) => Ok(view.verdict()?),
            (None, None) => Ok(()),
        }
    }
}
