//! `logctl ping`: requests that are answered and nothing else; who answers is the point.

use net::Spread;
use proto::wire::{Empty, Op, Reply};
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::{Globals, Ping, Policy};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Out, Shape};
use crate::session::Session;
use crate::spread::Report;

/// What draws a key for each ping.
const RANDOM: &str = "random";

/// One answer.
#[derive(Debug, Serialize)]
struct PingView {
    gateway: String,
    rtt_us: u64,
}

impl PingView {
    fn hello(&self) -> String {
        format!("hello from {}", self.gateway)
    }
}

pub(crate) async fn run(args: Ping, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let policy = session.policy_or(Policy::Rr);
    if args.key.is_some() && policy != Policy::Hash {
        return Err(CtlError::usage(
            "--key says whose home is asked, and that is what --spread hash does",
            "logctl ping --spread hash --key bob",
        ));
    }
    let done = pings(&args, policy, &session, out).await;
    session.close().await;
    done
}

async fn pings(
    args: &Ping,
    policy: Policy,
    session: &Session,
    out: &mut Out,
) -> Result<(), CtlError> {
    let own = session.context().name.to_string();
    let spread = || match args.key.as_deref() {
        Some(RANDOM) => policy.over(&uuid::Uuid::new_v4().to_string()),
        key => policy.over(key.unwrap_or(&own)),
    };
    let mut report = Report::new(&spread());
    let mut views = Vec::new();
    for _ in 0..args.count {
        match ping(session, &spread()).await {
            Ok((view, retried)) => {
                report.answered(&view.gateway, retried);
                if args.report {
                    continue;
                }
                match out.shape() {
                    Shape::Json => views.push(view),
                    Shape::Ndjson => out.json_line(&view)?,
                    Shape::Table | Shape::Plain | Shape::Raw => out.line(&view.hello())?,
                }
                // What was pinged so far still has its verdict.
                if out.shape() != Shape::Json && out.flush().is_err() {
                    break;
                }
            }
            Err(error) => report.failed(error),
        }
    }
    if args.report {
        report.know(session.node_names());
        report.show(out)?;
    } else if out.shape() == Shape::Json {
        match (args.count, views.first()) {
            (1, Some(view)) => out.json(view)?,
            (1, None) => {}
            _ => out.json(&views)?,
        }
    }
    report.verdict()
}

async fn ping(session: &Session, spread: &Spread) -> Result<(PingView, u32), CtlError> {
    let asked = Instant::now();
    match session.call_over(Op::Ping(Empty {}), spread).await? {
        (gateway, Reply::Pong(Empty {}), retried) => {
            let rtt_us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            Ok((PingView { gateway, rtt_us }, retried))
        }
        _ => Err(CtlError::unexpected("no answer to a ping")),
    }
}
