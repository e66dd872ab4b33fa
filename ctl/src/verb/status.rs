//! `logctl status` and `logctl health`: how the cluster is, in full and in one line.

use std::time::Duration;

use proto::member::NodeRole;
use proto::wire::{Empty, Op, Reply, Status as StatusReply};
use proto::{ExitCode, Name, Problem, ProblemCode};
use views::health::{HealthView, NodeView, StatusView, nagios};
use views::metrics::{Reached, joined};

use crate::cli::{Globals, Health, Status};
use crate::context;
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Out, Shape, Tone};
use crate::renewal::now_s;
use crate::session::Session;

/// Longest wait for the word of others than the gateway.
const OTHERS_WITHIN: Duration = Duration::from_secs(2);
/// Time between two views of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Status, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let done = if args.watch {
        out.endless();
        watch(&session, globals, out).await
    } else {
        match ask(&session, globals).await {
            Ok(asked) => show(&StatusView::new(asked.status, now_s()), out),
            Err(error) => Err(error),
        }
    };
    session.close().await;
    done
}

/// Shows the status each second. It ends with Ctrl-C and the verdict on the last one.
async fn watch(session: &Session, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let mut every = tokio::time::interval(WATCH_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut last = Ok(());
    loop {
        let status = tokio::select! {
            status = async { every.tick().await; ask(session, globals).await } => status,
            _ = &mut stop => return last,
        };
        out.clear()?;
        last = match status {
            Ok(asked) => show(&StatusView::new(asked.status, now_s()), out),
            Err(error) => Err(error),
        };
        if out.flush().is_err() {
            return last;
        }
        if let Err(error) = &last {
            out.warn(&error.line());
        }
    }
}

/// The status, and who took no part in what it tells.
pub(super) struct Asked {
    /// As the gateway, or somebody who knows better, sees it.
    pub(super) status: StatusReply,
    /// The gateway, if it sees no majority and another one does.
    pub(super) apart: Option<String>,
}

/// Asks for the status. A node that takes no part, is cut off, or gives no status may be wrong or down: then
/// the others are asked too, unless the command names whom to ask, and one who sees a majority knows
/// better.
///
/// # Errors
/// When neither the gateway nor anybody else has an answer: the gateway's refusal.
pub(super) async fn ask(session: &Session, globals: &Globals) -> Result<Asked, CtlError> {
    let (first, known, gateway) = match session.call(Op::Status(Empty {})).await {
        Ok((gateway, Reply::Status(status))) => {
            let mut row = status.nodes.iter().filter(|row| row.name == gateway);
            let takes_part = status.quorum && row.all(|row| row.node_role() != NodeRole::Repairing);
            if takes_part || globals.via.is_some() {
                return Ok(Asked { status, apart: None });
            }
            let known = status.nodes.iter().map(|row| row.name.clone()).collect();
            (Ok(status), known, Some(gateway))
        }
        Ok(_) => return Err(CtlError::unexpected("no status")),
        // A silence, or a trouble of its own. It says nothing of the others.
        Err(error) if globals.via.is_none() && error.exit_code().may_pass() => {
            (Err(error), session.node_names(), None)
        }
        Err(error) => return Err(error),
    };
    let others = known.iter().filter(|&name| Some(name) != gateway.as_ref());
    let others: Vec<Name> = others.filter_map(|name| name.parse().ok()).collect();
    let timeout = globals.timeout.min(OTHERS_WITHIN);
    let each = EachNode::open(&Globals { timeout, ..globals.clone() })?;
    let better = each.ask_all(&others, &Op::Status(Empty {})).await.into_iter();
    let better = better.filter_map(|(_, answer)| match answer {
        Ok(Reply::Status(status)) if status.quorum => Some(status),
        Ok(_) | Err(_) => None,
    });
    match better.max_by_key(|status| status.term) {
        Some(status) => Ok(Asked { status, apart: gateway }),
        None => first.map(|status| Asked { status, apart: None }),
    }
}

/// Shows a status and judges it.
fn show(status: &StatusView, out: &mut Out) -> Result<(), CtlError> {
    match out.shape() {
        Shape::Json => out.json(status)?,
        Shape::Ndjson => out.json_line(status)?,
        Shape::Plain | Shape::Raw => out.list(status.nodes())?,
        Shape::Table => {
            out.line(&status.headline())?;
            out.line("")?;
            out.list(status.nodes())?;
            out.line("")?;
            for note in status.nodes().iter().filter_map(NodeView::note) {
                out.line(&note)?;
            }
            let (text, tone) = if status.is_healthy() {
                ("healthy", Tone::Good)
            } else {
                ("not healthy", Tone::Bad)
            };
            let text = out.paint(text, tone);
            out.line(&text)?;
        }
    }
    Ok(status.verdict()?)
}

pub(crate) async fn health(args: Health, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    if args.prometheus {
        return print_metrics(args.node.as_ref(), globals, out).await;
    }
    let judged = judge(args.node.as_ref(), globals).await;
    if args.nagios {
        let (line, code) = nagios(match &judged {
            Ok((view, Ok(()))) => Ok(view),
            Ok((_, Err(error))) | Err(error) => Err((error.exit_code(), error.line())),
        });
        out.line(&line)?;
        return if code == 0 { Ok(()) } else { Err(CtlError::Told(code)) };
    }
    let (view, verdict) = judged?;
    out.one(&view)?;
    verdict
}

/// The health of the cluster or of one node, and the exit code that it asks for.
///
/// # Errors
/// When nobody could be asked.
async fn judge(
    node: Option<&Name>,
    globals: &Globals,
) -> Result<(HealthView, Result<(), CtlError>), CtlError> {
    let home = Home::from_env()?;
    let (name, context) = context::choose(&home, globals.context.as_ref())?;
    // A node answers for itself: a gateway may see it differently.
    let via = node.or(globals.via.as_ref());
    let session = Session::with(globals, &home, &name, context, via)?;
    let globals = Globals { via: via.cloned(), ..globals.clone() };
    let status = ask(&session, &globals).await;
    session.close().await;
    let mut status = status?.status;
    let mut repairing = false;
    if let Some(node) = node {
        status.nodes.retain(|row| row.name == node.as_str());
        status.problems.clear();
        for row in &mut status.nodes {
            repairing |= row.node_role() == NodeRole::Repairing;
            match row.node_role() {
                NodeRole::Repairing | NodeRole::Unknown | NodeRole::Learner => {
                    row.problems.push(Problem::new(ProblemCode::Role).about(&row.role));
                }
                NodeRole::Primary | NodeRole::Backup | NodeRole::Candidate | NodeRole::Isolated => {
                }
            }
        }
    }
    let view = StatusView::new(status, now_s());
    let shown = HealthView {
        node: node.map(Name::to_string),
        healthy: view.is_healthy(),
        problems: view.problems(),
    };
    let verdict = match node {
        Some(node) if repairing => Err(CtlError::refused(
            ExitCode::Integrity,
            format!("{node} takes no part: {}", view.problems().join("; ")),
            format!("look at the log of {node}: it names the file, and how to replace the node"),
        )),
        _ => view.verdict().map_err(CtlError::from),
    };
    Ok((shown, verdict))
}

/// Prints the metrics of every node, or of one, as they tell them. Whoever scrapes judges by the values: it
/// is no failure here that something is wrong there.
///
/// # Errors
/// When the list of nodes or the one node that is named does not answer.
async fn print_metrics(
    node: Option<&Name>,
    globals: &Globals,
    out: &mut Out,
) -> Result<(), CtlError> {
    let each = EachNode::open(globals)?;
    let names = match node.or(globals.via.as_ref()) {
        Some(node) => vec![node.clone()],
        None => each.names().await?,
    };
    let (mut told, mut last) = (Vec::new(), None);
    for (node, answer) in each.ask_all(&names, &Op::Metrics(Empty {})).await {
        let text = match answer {
            Ok(Reply::Metrics(metrics)) => Some(metrics.text),
            Ok(_) => return Err(CtlError::unexpected("no metrics")),
            Err(error) => {
                out.warn(&format!("{node} does not answer: {}", error.line()));
                last = Some(error);
                None
            }
        };
        told.push(Reached { node: node.to_string(), text });
    }
    match last {
        Some(error) if told.iter().all(|node| node.text.is_none()) => Err(error),
        Some(_) | None => Ok(out.bytes(joined(&told).as_bytes())?),
    }
}
