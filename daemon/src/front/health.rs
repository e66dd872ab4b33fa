//! How this node is, for probes and balancers.
//!
//! `/livez`: a restart would not help. `/readyz`: a client would be served now. `/startupz`: the store was
//! opened. `/healthz`: what `logctl status` thinks of the cluster, for alarms.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use proto::wire::{Empty, Op, Reply, Request};
use proto::{ErrorCode, Failure};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use views::health::{StatusView, VerdictView};

use crate::node::{Check, Deadline};

use super::answer::{IN_A_MOMENT, Refused, UNCACHED, json};
use super::visit::Visit;

/// How long a read may take of a node that is ready.
const BARRIER_WITHIN: Duration = Duration::from_secs(1);
/// How long what was found out is taken for true.
const KNOWN_FOR: Duration = Duration::from_millis(500);
/// Who has asked in this time is expected to ask again.
const ASKS_WITHIN: Duration = Duration::from_secs(30);
/// Longest that a node which stops waits to be asked whether it is ready.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// Time for that answer to be written.
const GOES_OUT_WITHIN: Duration = Duration::from_millis(100);
/// Longest wait for the thread of the way of a message.
const MOVES_WITHIN: Duration = Duration::from_secs(2);

/// What was found out last: taken for true for a moment, so that strangers cost nothing, however many they
/// are.
#[derive(Debug)]
pub(super) struct Lately<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// Those who ask whether this node is ready, and send clients elsewhere once they are told that it is not.
#[derive(Debug, Default)]
pub(super) struct Balancers {
    asked: parking_lot::Mutex<Option<Instant>>,
    told: CancellationToken,
}

impl Balancers {
    /// Somebody was answered, and told that the node leaves if it does.
    fn answered(&self, leaves: bool) {
        *self.asked.lock() = Some(Instant::now());
        if leaves {
            self.told.cancel();
        }
    }

    /// Completes once somebody who asks now and then was told that the node leaves; at once if nobody asks.
    pub(super) async fn told(&self) {
        let asks = self.asked.lock().is_some_and(|last| last.elapsed() < ASKS_WITHIN);
        if asks && timeout(TOLD_WITHIN, self.told.cancelled()).await.is_ok() {
            // The answer has to go out yet.
            tokio::time::sleep(GOES_OUT_WITHIN).await;
        }
    }
}

/// What a probe asks for besides the answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    verbose: bool,
    stale: bool,
    exclude: Vec<String>,
}

impl Asked {
    fn read(query: Option<&str>) -> Self {
        let mut asked = Self::default();
        for part in query.unwrap_or_default().split('&') {
            let (key, value) = part.split_once('=').unwrap_or((part, "true"));
            let is = value != "false" && value != "0";
            match key {
                "verbose" => asked.verbose = is,
                "stale" => asked.stale = is,
                "exclude" => asked.exclude.extend(value.split(',').map(str::to_owned)),
                _ => {}
            }
        }
        asked
    }

    /// The answer to a probe: what failed, and everything if that is asked for.
    fn answer(&self, what: &str, checks: Vec<Check>) -> Response {
        let left_out = |check: &Check| self.exclude.iter().any(|name| name == check.name);
        let failed = checks.iter().any(|check| check.failed.is_some() && !left_out(check));
        let mut text = String::new();
        for check in &checks {
            let (name, out) = (check.name, left_out(check));
            match &check.failed {
                _ if out && self.verbose => text += &format!("[+]{name} excluded: ok\n"),
                Some(why) if !out => text += &format!("[-]{name} failed: {why}\n"),
                None if self.verbose => text += &format!("[+]{name} ok\n"),
                Some(_) | None => {}
            }
        }
        let known = |name: &&String| checks.iter().any(|check| check.name == **name);
        for name in self.exclude.iter().filter(|name| !known(name)) {
            text += &format!("warn: there is no check '{name}'\n");
        }
        let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        text += &match (failed, text.is_empty()) {
            (true, _) => format!("{what} check failed\n"),
            (false, true) => "ok\n".to_owned(),
            (false, false) => format!("{what} check passed\n"),
        };
        let headers =
            [(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")), UNCACHED];
        later_if(failed, (status, headers, text).into_response())
    }
}

/// The answer of one that may be well in a moment says when to look again.
fn later_if(failed: bool, mut response: Response) -> Response {
    if failed {
        response.headers_mut().extend([IN_A_MOMENT]);
    }
    response
}

/// Whether a restart would not help: the evidence that feeds the service manager's watchdog.
pub(super) async fn live(State(visit): State<Visit>, RawQuery(query): RawQuery) -> Response {
    let front = &visit.front.0;
    let moves = timeout(MOVES_WITHIN, front.core.spawn(std::future::ready(()))).await;
    let stands = moves.is_err().then(|| {
        format!("the thread of the way of a message stood still for {} s", MOVES_WITHIN.as_secs())
    });
    let checks = vec![
        Check { name: "core", failed: stands },
        Check { name: "disk", failed: front.server.node.progress().err() },
    ];
    Asked::read(query.as_deref()).answer("livez", checks)
}

/// Whether a client would be served now.
pub(super) async fn ready(State(visit): State<Visit>, RawQuery(query): RawQuery) -> Response {
    let asked = Asked::read(query.as_deref());
    let front = &visit.front.0;
    let node = &front.server.node;
    let leaves = node.is_leaving();
    let mut checks = node.ready();
    // One that stops says so at once.
    if !asked.stale && !leaves {
        let barrier = || async {
            let reached = node.reach_barrier(Deadline::within(BARRIER_WITHIN)).await;
            reached.map_err(|failure| failure.message)
        };
        let failed = front.readiness.asked(barrier).await.err();
        checks.push(Check { name: "barrier", failed });
    }
    front.balancers.answered(leaves);
    asked.answer("readyz", checks)
}

/// The store was opened, or this would not be served.
pub(super) async fn started() -> Response {
    Asked::default().answer("startupz", Vec::new())
}

/// What `logctl status` thinks of the cluster: 200 where it would end with 0. Who is a client is told what
/// is wrong.
pub(super) async fn healthy(
    State(visit): State<Visit>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let known = visit.known(&headers).await;
    let (front, node) = (&visit.front.0, &visit.front.0.server.node);
    let status = match &known {
        Ok((principal, _)) => {
            let request = Request { op: Some(Op::Status(Empty {})), ..Request::default() };
            match front.server.answer(principal, request).await.reply {
                Some(Reply::Status(status)) => status,
                Some(Reply::Failure(failure)) => return Err(failure.into()),
                _ => return Err(Failure::new(ErrorCode::Internal, "no status").into()),
            }
        }
        Err(_) => front.verdict.asked(|| node.steady_status()).await,
    };
    let view = StatusView::new(status, node.wall_unix_s());
    let verdict = VerdictView::new(&view, known.is_ok());
    let well = verdict.exit_code == 0;
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(later_if(!well, json(status, &verdict)))
}

impl<T: Clone> Lately<T> {
    /// What is known, or what `ask` finds out if that is too long ago. Who asks meanwhile waits for the same.
    pub(super) async fn asked<F>(&self, ask: impl FnOnce() -> F) -> T
    where
        F: Future<Output = T>,
    {
        let mut last = self.0.lock().await;
        if let Some((at, known)) = last.as_ref()
            && at.elapsed() < KNOWN_FOR
        {
            return known.clone();
        }
        let known = ask().await;
        *last = Some((Instant::now(), known.clone()));
        known
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Meant to catch: nothing kept, and a barrier that is kept for ever.
    #[tokio::test(start_paused = true)]
    async fn probes_share_a_barrier_for_a_moment() {
        let (readiness, count) = (Lately::default(), Cell::new(0));
        let barrier = || async {
            count.set(count.get() + 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
            if count.get() == 1 { Ok(()) } else { Err("no".to_owned()) }
        };
        let (one, two) = tokio::join!(readiness.asked(barrier), readiness.asked(barrier));
        assert_eq!((one, two, count.get()), (Ok(()), Ok(()), 1));
        tokio::time::advance(KNOWN_FOR - Duration::from_millis(1)).await;
        assert_eq!((readiness.asked(barrier).await, count.get()), (Ok(()), 1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((readiness.asked(barrier).await, count.get()), (Err("no".to_owned()), 2));
    }

    /// Meant to catch: nobody waited for; somebody waited for who never asked, or long ago.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_waits_for_who_asks_now_and_then() {
        let waited = async |balancers: &Balancers| {
            let began = Instant::now();
            balancers.told().await;
            began.elapsed()
        };
        let balancers = Balancers::default();
        assert_eq!(waited(&balancers).await, Duration::ZERO, "nobody asks");
        balancers.answered(false);
        assert_eq!(waited(&balancers).await, TOLD_WITHIN, "it asks no more");
        tokio::time::advance(ASKS_WITHIN).await;
        assert_eq!(waited(&balancers).await, Duration::ZERO, "it has not asked for long");
        balancers.answered(false);
        balancers.answered(true);
        assert_eq!(waited(&balancers).await, GOES_OUT_WITHIN, "it was told");
    }

    #[test]
    fn a_probe_says_what_it_wants() {
        let read = |query: &str| Asked::read(Some(query));
        assert_eq!(Asked::read(None), Asked::default());
        let all = read("verbose&exclude=a&exclude=b,c&stale=1&other=2");
        assert!(all.verbose && all.stale);
        assert_eq!(all.exclude, ["a", "b", "c"]);
        assert_eq!(read("verbose=false"), Asked::default());
    }
}
