//! The context, the way to each node, and what the cluster says of itself and of the time.

use proto::life::{Validity, left_text};
use proto::wire::{Empty, Op, Reply};
use proto::{ExitCode, Name};
use views::health::{ClockHealth, StatusView, clock_health};

use crate::cli::Globals;
use crate::context::Context;
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::home::Home;
use crate::renewal::{Files, now_s};
use crate::session::Session;

use super::Finding;

/// How far this machine's clock may be from the cluster's before that is worth a look.
const APART_MAX_S: u64 = 2;

/// Looks from a context outwards.
pub(super) async fn look(
    home: &Home,
    name: &Name,
    context: Context,
    globals: &Globals,
) -> Vec<Finding> {
    let mut findings = vec![credentials(home, name, &context)];
    let nodes = nodes(globals, &mut findings).await;
    if let Err(error) = nodes {
        findings.push(Finding::error("nodes", "-", &error));
        return findings;
    }
    match Session::with(globals, home, name, context, globals.via.as_ref()) {
        Ok(session) => {
            findings.push(own_clock(&session).await);
            findings.push(status(&session).await);
            session.close().await;
        }
        Err(error) => findings.push(Finding::error("cluster", "-", &error)),
    }
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

/// Asks every node, each over a connection of its own; those of the context where no list is to be had.
async fn nodes(globals: &Globals, findings: &mut Vec<Finding>) -> Result<(), CtlError> {
    let each = EachNode::open(globals)?;
    let names = each.names().await.unwrap_or_else(|_| each.remembered());
    let mut versions: Vec<(String, String)> = Vec::new();
    for (node, answer) in each.ask_all(&names, &Op::Status(Empty {})).await {
        match answer {
            Ok(Reply::Status(status)) => {
                let row = status.nodes.iter().find(|row| row.name == node.as_str());
                let (version, role) =
                    row.map_or(("", ""), |row| (row.version.as_str(), row.role.as_str()));
                findings.push(Finding::ok(
                    "node",
                    node.as_str(),
                    format!("{role}, logd {version}"),
                ));
                versions.push((node.to_string(), version.to_owned()));
            }
            Ok(_) => {
                let error = CtlError::unexpected("no status");
                findings.push(Finding::error("node", node.as_str(), &error));
            }
            Err(error) => findings.push(Finding::error("node", node.as_str(), &error)),
        }
    }
    if let Some((one, first)) = versions.first()
        && let Some((other, second)) = versions.iter().find(|(_, version)| version != first)
    {
        let found = format!("{one} runs {first}, {other} runs {second}");
        let hint = "bring all nodes to one release, one after the other";
        findings.push(Finding::warning("releases", "nodes", found, hint));
    }
    for (node, answer) in each.ask_all(&names, &Op::Clock(Empty {})).await {
        // A node that does not answer has been named.
        let Ok(Reply::Clock(report)) = answer else { continue };
        let reason =
            if report.reason.is_empty() { String::new() } else { format!(": {}", report.reason) };
        let found = format!("{}{reason}", report.state);
        let hint = format!("logctl clock sources --via {node}");
        findings.push(match clock_health(&report.state) {
            ClockHealth::Fine => Finding::ok("clock", node.as_str(), found),
            ClockHealth::Degraded => Finding::warning("clock", node.as_str(), found, hint),
            ClockHealth::Untrusted => {
                Finding::bad("clock", node.as_str(), found, (ExitCode::Clock, hint))
            }
        });
    }
    Ok(())
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
    let (check, subject) = ("cluster", "status");
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
