//! The context, the way to each node, and what the cluster says of itself and of the time.

use proto::life::{Validity, left_text};
use proto::wire::{ClockReport, Empty, Op, Reply};
use proto::{ExitCode, Name};
use views::health::{ClockHealth, StatusView, clock_health};

use crate::cli::Globals;
use crate::context::Context;
use crate::each_node::{EachNode, brief};
use crate::error::CtlError;
use crate::home::Home;
use crate::renewal::{Files, now_s};
use crate::session::Session;

use super::Finding;

/// What the finding about the whole cluster is called.
pub(super) const STATUS: &str = "cluster";
/// What those about single nodes are called.
pub(super) const NODE: &str = "node";
/// How far this machine's clock may be from the cluster's before that is worth a look.
const APART_MAX_S: u64 = 2;

/// Looks from a context outwards. Everything is asked at a time.
pub(super) async fn look(
    home: &Home,
    name: &Name,
    context: Context,
    globals: &Globals,
) -> Vec<Finding> {
    let globals = &brief(globals);
    let mut findings = vec![credentials(home, name, &context)];
    let here = async {
        let session = Session::with(globals, home, name, context, globals.via.as_ref())?;
        let found = tokio::join!(own_clock(&session), status(&session));
        session.close().await;
        Ok::<_, CtlError>([found.0, found.1])
    };
    let (nodes, here) = tokio::join!(nodes(globals), here);
    let told = |check, error: CtlError| vec![Finding::error(check, "-", &error)];
    findings.extend(nodes.unwrap_or_else(|error| told("nodes", error)));
    findings.extend(here.map_or_else(|error| told(STATUS, error), Vec::from));
    findings
}

fn credentials(home: &Home, name: &Name, context: &Context) -> Finding {
    let (check, subject) = ("context", name.as_str());
    let own = match Files::of(home, name, context).load_any_age() {
        Ok(own) => own,
        Err(error) => return Finding::error(check, subject, &error.into()),
    };
    let left = left_text(own.life().until_unix_s.saturating_sub(now_s()));
    let who = format!("{} {}", own.identity().role.label(), own.identity().name);
    match own.life().standing(now_s()) {
        Validity::Fine => {
            Finding::ok(check, subject, format!("{who}, its certificate is valid for {left} more"))
        }
        Validity::Late => Finding::warning(
            check,
            subject,
            format!("{who}, its certificate is valid for {left} more"),
            "logctl certs renew",
        ),
        Validity::Expired => Finding::bad(
            check,
            subject,
            format!("{who}, its certificate has expired"),
            (ExitCode::Denied, "logctl certs renew"),
        ),
    }
}

/// Asks every node, each over a connection of its own.
async fn nodes(globals: &Globals) -> Result<Vec<Finding>, CtlError> {
    let each = EachNode::open(globals)?;
    let names = each.known().await;
    let (status, clock) = (Op::Status(Empty {}), Op::Clock(Empty {}));
    let (states, clocks) =
        tokio::join!(each.ask_all(&names, &status), each.ask_all(&names, &clock));
    let mut findings = releases(states);
    // A node that does not answer has been named.
    let told = clocks.into_iter().filter_map(|(node, answer)| match answer {
        Ok(Reply::Clock(report)) => Some(clock_of(&node, &report)),
        Ok(_) | Err(_) => None,
    });
    findings.extend(told);
    Ok(findings)
}

/// What each node is and runs, and whether all run the same.
fn releases(states: Vec<(Name, Result<Reply, CtlError>)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut versions: Vec<(String, String)> = Vec::new();
    for (node, answer) in states {
        match answer {
            Ok(Reply::Status(status)) => {
                let row = status.nodes.iter().find(|row| row.name == node.as_str());
                let (version, role) =
                    row.map_or(("", ""), |row| (row.version.as_str(), row.role.as_str()));
                let found = format!("{role}, logd {version}");
                findings.push(Finding::ok(NODE, node.as_str(), found));
                versions.push((node.to_string(), version.to_owned()));
            }
            Ok(_) => {
                let error = CtlError::unexpected("no status");
                findings.push(Finding::error(NODE, node.as_str(), &error));
            }
            Err(error) => findings.push(Finding::error(NODE, node.as_str(), &error)),
        }
    }
    if let Some((one, first)) = versions.first()
        && let Some((other, second)) = versions.iter().find(|(_, version)| version != first)
    {
        let found = format!("{one} runs {first}, {other} runs {second}");
        let hint = "bring all nodes to one release, one after the other";
        findings.push(Finding::warning("releases", "nodes", found, hint));
    }
    findings
}

fn clock_of(node: &Name, report: &ClockReport) -> Finding {
    let reason =
        if report.reason.is_empty() { String::new() } else { format!(": {}", report.reason) };
    let found = format!("{}{reason}", report.state);
    let hint = format!("logctl clock sources --via {node}");
    match clock_health(&report.state) {
        ClockHealth::Fine => Finding::ok("clock", node.as_str(), found),
        ClockHealth::Degraded => Finding::warning("clock", node.as_str(), found, hint),
        ClockHealth::Untrusted => {
            Finding::bad("clock", node.as_str(), found, (ExitCode::Clock, hint))
        }
    }
}

/// This machine's clock beside that of the node that answers, to the second.
async fn own_clock(session: &Session) -> Finding {
    let (check, subject) = ("clock", "here");
    let now_ns = match session.node_now().await {
        Ok(now_ns) => now_ns,
        Err(error) => return Finding::error(check, subject, &error),
    };
    let own = u64::try_from(now_s()).unwrap_or_default();
    let theirs = now_ns / 1_000_000_000;
    let gateway = session.gateway();
    let apart = own.abs_diff(theirs);
    let way = if own > theirs { "ahead of" } else { "behind" };
    if apart < APART_MAX_S {
        Finding::ok(check, subject, format!("that of {gateway}, to the second"))
    } else {
        Finding::warning(
            check,
            subject,
            format!("{apart} s {way} that of {gateway}"),
            "set this machine's clock: timedatectl; a certificate is judged by it",
        )
    }
}

async fn status(session: &Session) -> Finding {
    let (check, subject) = (STATUS, "status");
    match session.call(Op::Status(Empty {})).await {
        Ok((_, Reply::Status(status))) => {
            let view = StatusView::new(status, now_s());
            match view.verdict() {
                Ok(()) => Finding::ok(check, subject, view.headline()),
                Err(unwell) => Finding::error(check, subject, &unwell.into()),
            }
        }
        Ok(_) => Finding::error(check, subject, &CtlError::unexpected("no status")),
        Err(error) => Finding::error(check, subject, &error),
    }
}
