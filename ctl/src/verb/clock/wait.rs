//! `logctl clock wait`: until a clock, or every clock, is good enough.

use std::time::Duration;

use clock::ClockState;
use proto::wire::{ClockReport, Empty, Op, Reply};
use proto::{ExitCode, Name};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};
use views::clocks::error_bound_ns;

use super::refuse_via;
use crate::cli::{ClockWait, Globals};
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::{Cell, Out, Show};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time that one look may take: a node that is not up yet is asked again.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// A clock that is as it was wanted.
#[derive(Debug, Serialize)]
struct ReadyView {
    node: String,
    state: String,
    error_bound_us: Option<u64>,
}

pub(crate) async fn run(args: ClockWait, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let give_up = Instant::now() + globals.timeout;
    let look_globals = Globals { timeout: LOOK_TIME.min(globals.timeout), ..globals.clone() };
    let each = EachNode::open(&look_globals)?;
    if args.whose.all {
        refuse_via(globals)?;
    }
    let mut last = "no node has answered".to_owned();
    loop {
        let look = timeout_at(give_up, look(&each, &args, globals.via.as_ref())).await;
        match look {
            Ok(Ok(ready)) => return out.list(&ready),
            Ok(Err(NotYet::Over(error))) => return Err(error),
            Ok(Err(NotYet::Because(why))) => last = why,
            Err(_) => {}
        }
        if Instant::now() + LOOK_EVERY >= give_up {
            let all = if args.whose.all { " --all" } else { "" };
            return Err(CtlError::refused(
                ExitCode::Unknown,
                format!("not {} after {:?}: {last}", wanted(&args), globals.timeout),
                format!("logctl clock sources{all} -v, or give a longer --timeout"),
            ));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Why to look again, or not.
enum NotYet {
    Because(String),
    Over(CtlError),
}

impl From<CtlError> for NotYet {
    /// Waiting mends a node that is down or busy, not a context that is wrong.
    fn from(error: CtlError) -> Self {
        if error.exit_code().may_pass() { Self::Because(error.line()) } else { Self::Over(error) }
    }
}

async fn look(
    each: &EachNode,
    args: &ClockWait,
    via: Option<&Name>,
) -> Result<Vec<ReadyView>, NotYet> {
    let reports = if args.whose.all {
        let nodes = every_node(each).await;
        let mut reports = Vec::new();
        for (node, answer) in each.ask_all(&nodes, &Op::Clock(Empty {})).await {
            let reply = answer.map_err(NotYet::from).map_err(|not| named(&node, not))?;
            reports.push(reply);
        }
        reports
    } else {
        vec![each.ask(via, Op::Clock(Empty {})).await?.1]
    };
    let mut ready = Vec::new();
    for reply in reports {
        let Reply::Clock(report) = reply else {
            return Err(NotYet::Over(CtlError::unexpected("no clock report")));
        };
        if let Some(why) = lacks(&report, args.state, args.max_error) {
            return Err(NotYet::Because(why));
        }
        ready.push(ReadyView {
            error_bound_us: bound_us(&report),
            node: report.node,
            state: report.state,
        });
    }
    Ok(ready)
}

fn named(node: &Name, not: NotYet) -> NotYet {
    match not {
        NotYet::Because(why) => NotYet::Because(format!("{node}: {why}")),
        over @ NotYet::Over(_) => over,
    }
}

/// The live list and what the context remembers: before the cluster is up, only that is known.
async fn every_node(each: &EachNode) -> Vec<Name> {
    let mut nodes = each.remembered();
    nodes.extend(each.names().await.unwrap_or_default());
    nodes.sort();
    nodes.dedup();
    nodes
}

/// What a clock lacks; `None` if it is as wanted.
fn lacks(report: &ClockReport, state: ClockState, max_error: Option<Duration>) -> Option<String> {
    let node = &report.node;
    let why = if report.reason.is_empty() { String::new() } else { format!(": {}", report.reason) };
    if report.state != state.as_str() {
        return Some(format!("{node} is {}{why}", report.state));
    }
    let limit = max_error?;
    match error_bound_ns(report) {
        Some(ns) if u128::from(ns) <= limit.as_nanos() => None,
        Some(ns) => Some(format!("the error bound of {node} is {} us{why}", ns.div_ceil(1000))),
        None => Some(format!("the error bound of {node} is unknown{why}")),
    }
}

fn bound_us(report: &ClockReport) -> Option<u64> {
    error_bound_ns(report).map(|ns| ns.div_ceil(1000))
}

fn wanted(args: &ClockWait) -> String {
    match args.max_error {
        None => args.state.to_string(),
        Some(limit) => {
            format!("{} within {}", args.state, humantime::format_duration(limit))
        }
    }
}

impl Show for ReadyView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "STATE", "BOUND_US"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        let bound = self.error_bound_us.map(|us| us.to_string()).unwrap_or_default();
        vec![self.node.clone(), self.state.clone(), bound]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ready_in_its_state_and_within_the_bound() {
        let report = ClockReport {
            node: "n1".into(),
            state: "synced".into(),
            now_ns: 10_000_000,
            earliest_ns: Some(9_000_000),
            latest_ns: Some(10_000_001),
            ..ClockReport::default()
        };
        let lacks = |report: &ClockReport, error| {
            lacks(report, ClockState::Synced, Some(Duration::from_nanos(error)))
        };
        assert_eq!(lacks(&report, 1_000_000), None);
        assert_eq!(lacks(&report, 999_999).unwrap(), "the error bound of n1 is 1000 us");
        let unknown = ClockReport { latest_ns: None, ..report.clone() };
        assert!(lacks(&unknown, 1_000_000).unwrap().contains("unknown"));
        let holdover = ClockReport {
            state: "holdover".into(),
            reason: "1 of 3 servers answers; 2 are needed".into(),
            ..report
        };
        assert_eq!(
            lacks(&holdover, 1_000_000).unwrap(),
            "n1 is holdover: 1 of 3 servers answers; 2 are needed"
        );
    }
}
