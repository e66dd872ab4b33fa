//! `logctl bench`: messages at a steady rate, or so many on the way at all times, and how long each takes.
//!
//! At a rate the loop is open: each message has its time, and its latency counts from that time, whether
//! or not the earlier ones were answered. A closed loop waits while the cluster stalls, and does not see
//! what its users see; it is there to find how much a cluster takes. In the end the messages are read
//! back: every acknowledged one must be there, once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use net::Spread;
use proto::ExitCode;
use proto::wire::{self, Ack, Op, Position, Reply};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::cli::{Bench, Globals, Policy};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Show, Tone};
use crate::session::Session;
use crate::spread::Counts;
use crate::target::Target;

/// Most messages of one run: each is remembered until the end.
const MESSAGES_MAX: u64 = 5_000_000;
/// Most messages on the way at a time. Beyond it the next one waits, and its latency says so.
const ON_THE_WAY_MAX: usize = 4096;
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Longest latency that is told apart from longer ones: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;
/// Decimal digits of a latency that are told apart.
const DIGITS: u8 = 3;

/// What came of the run.
#[derive(Debug, Serialize)]
struct BenchView {
    sent: u64,
    acked: u64,
    failed: u64,
    /// Acknowledged messages a second, from the first send to the last ack.
    per_second: f64,
    /// Attempts that brought no answer; the messages went on elsewhere.
    retried: u64,
    /// Acks that said: this was stored before.
    deduplicated: u64,
    /// Messages that are in the log more than once.
    duplicates: u64,
    /// Messages that were acknowledged and are not in the log.
    lost: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    /// Longest time without a success.
    max_gap_us: u64,
    counts: Counts,
    errors: Vec<String>,
    targets: Vec<Reached>,
    #[serde(skip)]
    /// Why the first that failed did, and what to try then.
    first: Option<(ExitCode, String)>,
}

/// A target, and what came of it.
#[derive(Debug, PartialEq, Serialize)]
struct Reached {
    target: Target,
    /// Microseconds, or messages a second.
    measured: f64,
    met: bool,
}

/// When the next message goes.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// Each at its time, so many a second, this many in all.
    Rate(u32, u64),
    /// As soon as fewer are on the way, for so long.
    InFlight(usize, Duration),
}

/// What a pace says of the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It goes so long after the beginning.
    Due(Duration),
    /// It goes when another one is answered.
    Waits,
    /// There is none.
    None,
}

/// One message's end.
struct Done {
    id: String,
    /// When it was to be sent, and when it was answered, since the beginning.
    due: Duration,
    at: Duration,
    answer: Result<(String, Ack, u32), CtlError>,
}

pub(crate) async fn run(args: Bench, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let pace = match args.in_flight {
        Some(most) => Pace::InFlight(most.into(), args.duration),
        None => Pace::Rate(args.rate, messages(args.rate, args.duration)?),
    };
    let home = Home::from_env()?;
    let mut sessions = Vec::new();
    for _ in 0..args.connections {
        sessions.push(Arc::new(Session::open_own_ring(globals, &home)?));
    }
    let view = Box::pin(bench(&args, pace, &sessions, out)).await;
    for session in sessions {
        if let Some(session) = Arc::into_inner(session) {
            session.close().await;
        }
    }
    let view = view?;
    out.did(format!("{} messages are stored, of {} that were sent", view.acked, view.sent));
    out.one(&view)?;
    view.verdict()
}

fn messages(rate: u32, duration: Duration) -> Result<u64, CtlError> {
    let count = duration.as_millis().saturating_mul(rate.into()) / 1000;
    match u64::try_from(count) {
        Ok(count) if (1..=MESSAGES_MAX).contains(&count) => Ok(count),
        _ => Err(CtlError::usage(
            format!("that is {count} messages; at least 1 and at most {MESSAGES_MAX} are sent"),
            "give another --rate or --duration",
        )),
    }
}

async fn bench(
    args: &Bench,
    pace: Pace,
    sessions: &[Arc<Session>],
    out: &Out,
) -> Result<BenchView, CtlError> {
    let Some(first) = sessions.first() else { return Err(CtlError::unexpected("no client")) };
    let to = args.to.as_ref().map_or_else(|| first.context().name.to_string(), ToString::to_string);
    let spread = first.policy_or(Policy::Rr).over(&to);
    let body = bytes_of(usize::try_from(args.size).unwrap_or(0));
    // Where the log ends before: what is read back later begins after it.
    let before = first.call(Op::Status(wire::Empty {})).await?;
    let Reply::Status(status) = before.1 else { return Err(CtlError::unexpected("no status")) };
    let send = wire::Send { to: to.clone(), body: body.into(), ..wire::Send::default() };
    let done = drive(pace, sessions, &spread, &send, out).await;
    out.note(&format!("{} messages sent; reading them back", done.len()));
    let stored = read_back(first, &to, status.last_seq).await?;
    summary(done, &stored, Counts::of(first.node_names()), &args.targets)
}

/// Sends copies of a message, each with an id of its own, until the pace has no more or Ctrl-C: ended
/// early, it still says how what was sent fared.
async fn drive(
    pace: Pace,
    sessions: &[Arc<Session>],
    spread: &Spread,
    send: &wire::Send,
    out: &Out,
) -> Vec<Done> {
    let start = Instant::now();
    let (mut tasks, mut done, mut sent) = (JoinSet::new(), Vec::new(), 0_u64);
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut progress = interval(PROGRESS_EVERY);
    let mut ended = false;
    for session in sessions.iter().cycle() {
        let due = loop {
            let next = match ended {
                true => Next::None,
                false => pace.next(sent, tasks.len(), start.elapsed()),
            };
            let due = match next {
                Next::None if tasks.is_empty() => {
                    out.progress("");
                    return done;
                }
                Next::Due(due) => Some(due),
                Next::Waits | Next::None => None,
            };
            tokio::select! {
                biased;
                _ = &mut stop, if !ended => ended = true,
                () = net::wait_until(start + due.unwrap_or_default()), if due.is_some() => {
                    break due.unwrap_or_default();
                }
                Some(end) = tasks.join_next(), if !tasks.is_empty() => done.extend(end.ok()),
                _ = progress.tick() => {
                    let seconds = start.elapsed().as_secs();
                    out.progress(&format!("{seconds} s: {sent} sent, {} answered", done.len()));
                }
            }
        };
        let send = wire::Send { id: uuid::Uuid::now_v7().to_string(), ..send.clone() };
        let (session, spread) = (Arc::clone(session), spread.clone());
        tasks.spawn(async move { one(&session, send, &spread, start, due).await });
        sent += 1;
    }
    done
}

impl Pace {
    fn next(self, sent: u64, on_the_way: usize, now: Duration) -> Next {
        let (more, due, most) = match self {
            Self::Rate(rate, count) => {
                let due = sent.saturating_mul(1_000_000_000) / u64::from(rate);
                (sent < count, Duration::from_nanos(due), ON_THE_WAY_MAX)
            }
            Self::InFlight(most, duration) => (now < duration && sent < MESSAGES_MAX, now, most),
        };
        match (more, on_the_way < most) {
            (false, _) => Next::None,
            (true, true) => Next::Due(due),
            (true, false) => Next::Waits,
        }
    }
}

async fn one(
    session: &Session,
    send: wire::Send,
    spread: &Spread,
    start: Instant,
    due: Duration,
) -> Done {
    let id = send.id.clone();
    let answer = match session.call_over(Op::Send(send), spread).await {
        Ok((gateway, Reply::Ack(ack), retried)) => Ok((gateway, ack, retried)),
        Ok(_) => Err(CtlError::unexpected("no acknowledgement")),
        Err(error) => Err(error),
    };
    Done { id, due, at: start.elapsed(), answer }
}

fn bytes_of(size: usize) -> Vec<u8> {
    b"logctl bench ".iter().copied().cycle().take(size).collect()
}

/// How often each id is in the log.
async fn read_back(
    session: &Session,
    to: &str,
    after: u64,
) -> Result<HashMap<String, u32>, CtlError> {
    let mut stored = HashMap::new();
    let mut read = wire::Read {
        from: session.context().name.to_string(),
        to: to.to_owned(),
        after: vec![Position { shard: 1, seq: after }],
        ..wire::Read::default()
    };
    loop {
        let Reply::Page(page) = session.call(Op::Read(read.clone())).await?.1 else {
            return Err(CtlError::unexpected("no page"));
        };
        let (end, stuck) = (page.end, page.records.is_empty() && page.next == read.after);
        for record in page.records {
            *stored.entry(record.id).or_insert(0) += 1;
        }
        if end {
            return Ok(stored);
        }
        if stuck {
            return Err(CtlError::unexpected("a page that leads nowhere"));
        }
        read.after = page.next;
    }
}

fn summary(
    done: Vec<Done>,
    stored: &HashMap<String, u32>,
    counts: Counts,
    targets: &[Target],
) -> Result<BenchView, CtlError> {
    let mut latencies = latencies()?;
    let mut successes = vec![Duration::ZERO];
    let mut view = BenchView {
        sent: done.len() as u64,
        acked: 0,
        failed: 0,
        per_second: 0.0,
        retried: 0,
        deduplicated: 0,
        duplicates: 0,
        lost: 0,
        p50_us: 0,
        p99_us: 0,
        p999_us: 0,
        max_us: 0,
        max_gap_us: 0,
        counts,
        errors: Vec::new(),
        targets: Vec::new(),
        first: None,
    };
    for done in done {
        let copies = stored.get(&done.id).copied().unwrap_or(0);
        view.duplicates += u64::from(copies > 1);
        match done.answer {
            Ok((gateway, ack, retried)) => {
                view.acked += 1;
                view.retried += u64::from(retried);
                view.deduplicated += u64::from(ack.duplicate);
                view.lost += u64::from(copies == 0);
                view.counts.add(&gateway, 1);
                let latency = micros(done.at.saturating_sub(done.due));
                latencies.saturating_record(latency);
                view.max_us = view.max_us.max(latency);
                successes.push(done.at);
            }
            Err(error) => {
                view.failed += 1;
                let line = error.line();
                view.first.get_or_insert_with(|| (error.exit_code(), error.hint()));
                if view.errors.len() < 10 && !view.errors.contains(&line) {
                    view.errors.push(line);
                }
            }
        }
    }
    successes.sort_unstable();
    let gaps = successes.iter().zip(successes.iter().skip(1));
    view.max_gap_us = gaps.map(|(a, b)| micros(*b - *a)).max().unwrap_or(0);
    // The histogram rounds up; no quantile lies above the longest.
    let at = |quantile| latencies.value_at_quantile(quantile).min(view.max_us);
    (view.p50_us, view.p99_us, view.p999_us) = (at(0.5), at(0.99), at(0.999));
    let last = successes.last().copied().unwrap_or_default();
    if !last.is_zero() {
        view.per_second = (figure(view.acked) / last.as_secs_f64() * 10.0).round() / 10.0;
    }
    let reached = |target: &Target| {
        let in_time = |us: u64, limit: Duration| (figure(us), us <= micros(limit));
        let (measured, met) = match target {
            Target::Percentile(percent, limit) => in_time(at(percent / 100.0), *limit),
            Target::Longest(limit) => in_time(view.max_us, *limit),
            Target::Rate(rate) => (view.per_second, view.per_second >= *rate),
        };
        // Where nothing was acknowledged nothing was reached.
        Reached { target: target.clone(), measured, met: met && view.acked > 0 }
    };
    view.targets = targets.iter().map(reached).collect();
    Ok(view)
}

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn figure(n: u64) -> f64 {
    n as f64
}

/// An empty histogram of microseconds.
fn latencies() -> Result<Histogram<u64>, CtlError> {
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS)
        .map_err(|error| CtlError::refused(ExitCode::Other, format!("no histogram: {error}"), ""))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Reached {
    fn line(&self) -> String {
        let measured = match self.target {
            Target::Rate(_) => format!("{} messages a second", self.measured),
            Target::Percentile(..) | Target::Longest(_) => {
                format!("{:.3} ms", self.measured / 1000.0)
            }
        };
        format!("{} is missed: {measured}", self.target)
    }
}

impl Show for BenchView {
    fn headings() -> &'static [&'static str] {
        &[
            "SENT",
            "PER SECOND",
            "FAILED",
            "RETRIED",
            "DUPLICATES",
            "LOST",
            "P50",
            "P99",
            "P99.9",
            "MAX",
            "MAX GAP",
            "GATEWAYS",
        ]
    }

    fn row(&self) -> Vec<Cell> {
        let bad = |n: u64| Cell::toned(n.to_string(), if n == 0 { Tone::Good } else { Tone::Bad });
        let ms = |us: u64| Cell::from(format!("{}.{:03} ms", us / 1000, us % 1000));
        vec![
            self.sent.to_string().into(),
            format!("{:.0}", self.per_second).into(),
            bad(self.failed),
            self.retried.to_string().into(),
            bad(self.duplicates),
            bad(self.lost),
            ms(self.p50_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us),
            ms(self.max_gap_us),
            self.gateways().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        let numbers = [
            self.sent,
            self.failed,
            self.retried,
            self.duplicates,
            self.lost,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.max_us,
            self.max_gap_us,
        ];
        numbers.iter().map(ToString::to_string).chain([self.gateways()]).collect()
    }
}

impl BenchView {
    /// Whether all went well, and what was wanted was reached.
    fn verdict(&self) -> Result<(), CtlError> {
        if self.failed + self.lost + self.duplicates > 0 {
            let slower = "logctl status; run the same with a lower --rate";
            let (code, hint) = match &self.first {
                Some((code @ (ExitCode::NotFound | ExitCode::Denied | ExitCode::Usage), hint))
                    if self.lost + self.duplicates == 0 =>
                {
                    (*code, hint.as_str())
                }
                Some((code, _)) if self.lost + self.duplicates == 0 => (*code, slower),
                Some(_) | None => (ExitCode::Integrity, slower),
            };
            let first = self.errors.first().map(|error| format!("; the first: {error}"));
            let problem = format!(
                "of {} messages {} failed, {} were lost, {} are doubled{}",
                self.sent,
                self.failed,
                self.lost,
                self.duplicates,
                first.unwrap_or_default()
            );
            return Err(CtlError::refused(code, problem, hint));
        }
        let missed = self.targets.iter().filter(|reached| !reached.met).map(Reached::line);
        let missed: Vec<_> = missed.collect();
        if missed.is_empty() {
            return Ok(());
        }
        let hint =
            "logctl node stats shows where the time goes; or a lower --rate, another --target";
        Err(CtlError::refused(ExitCode::Degraded, missed.join("; "), hint))
    }

    fn gateways(&self) -> String {
        let each = |(name, count): (&str, u64)| format!("{name}={count}");
        self.counts.iter().map(each).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    //! Seen to fail with latencies from the time of sending instead of the time that was due,
    //! and with quantiles that the histogram's rounding puts above the longest.

    use super::*;

    fn done(id: &str, due_ms: u64, at_ms: u64, good: bool) -> Done {
        let answer = if good {
            Ok(("n1".to_owned(), Ack::default(), 0))
        } else {
            Err(CtlError::refused(ExitCode::NoQuorum, "no majority", "logctl status"))
        };
        let ms = Duration::from_millis;
        Done { id: id.to_owned(), due: ms(due_ms), at: ms(at_ms), answer }
    }

    #[test]
    fn a_stall_is_seen_by_all_that_wait_for_it() {
        let stored = [("a", 1), ("b", 2), ("c", 1)].map(|(id, n)| (id.to_owned(), n)).into();
        let all = vec![
            done("a", 0, 2, true),
            done("b", 10, 100, true),
            done("c", 20, 101, true),
            done("d", 30, 31, false),
            done("e", 40, 102, true),
        ];
        let view = summary(all, &stored, Counts::default(), &[]).unwrap();
        assert_eq!((view.sent, view.acked, view.failed), (5, 4, 1));
        let code = view.first.as_ref().map(|(code, _)| *code);
        assert_eq!((view.duplicates, view.lost, code), (1, 1, Some(ExitCode::NoQuorum)));
        // Of 62 ms three digits are kept: to 32 us, rounded up.
        assert_eq!((view.p50_us, view.max_us), (62_015, 90_000));
        assert_eq!((view.p99_us, view.p999_us), (90_000, 90_000));
        assert_eq!(view.max_gap_us, 98_000);
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let after = |us: u64| Done { at: Duration::from_micros(us), ..done("a", 0, 0, true) };
        let of = |all: Vec<Done>| {
            let view = summary(all, &HashMap::new(), Counts::default(), &[]).unwrap();
            [view.p50_us, view.p99_us, view.p999_us]
        };
        assert_eq!(of((1..=1000).map(after).collect()), [500, 990, 999]);
        assert_eq!((of(vec![after(7)]), of(Vec::new())), ([7, 7, 7], [0, 0, 0]));
    }

    /// Seen to fail with no regard to what is on the way.
    #[test]
    fn the_next_one_goes_at_its_time_or_when_another_is_answered() {
        let ms = Duration::from_millis;
        let (rate, closed) = (Pace::Rate(100, 3), Pace::InFlight(2, ms(50)));
        assert_eq!(rate.next(2, 2, ms(500)), Next::Due(ms(20)), "late: it counts from its time");
        assert_eq!(rate.next(2, ON_THE_WAY_MAX, ms(500)), Next::Waits);
        assert_eq!(rate.next(3, 1, ms(500)), Next::None);
        assert_eq!(closed.next(7, 1, ms(49)), Next::Due(ms(49)));
        assert_eq!(closed.next(7, 2, ms(49)), Next::Waits);
        assert_eq!(closed.next(7, 0, ms(50)), Next::None);
    }

    /// Seen to fail with the comparison turned round.
    #[test]
    fn a_missed_target_is_said_with_what_was_measured() {
        let stored = |n: usize| (0..n).map(|n| (n.to_string(), 1)).collect::<HashMap<_, _>>();
        let all = || (1..=100).map(|n| done(&(n - 1).to_string(), 0, n, true)).collect::<Vec<_>>();
        let of = |targets: &[&str]| {
            let targets: Vec<_> = targets.iter().map(|text| text.parse().unwrap()).collect();
            summary(all(), &stored(100), Counts::default(), &targets).unwrap()
        };
        of(&["p50=51ms", "p99=100ms", "max=100ms", "rate=1000"]).verdict().unwrap();
        let view = of(&["p50=49ms", "max=99ms", "rate=1000.5", "p99=1s"]);
        let missed = view.verdict().unwrap_err();
        assert_eq!(missed.exit_code(), ExitCode::Degraded);
        let line = missed.line();
        for part in ["p50=49ms is missed: 50.", "max=99ms is missed: 100.000 ms", "1000 messages a"]
        {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains("p99"), "{line}");
        let none =
            summary(Vec::new(), &HashMap::new(), Counts::default(), &["p99=1s".parse().unwrap()]);
        assert!(none.unwrap().verdict().is_err(), "nothing was acknowledged");
    }

    #[test]
    fn runs_have_an_end() {
        assert_eq!(messages(200, Duration::from_secs(30)).unwrap(), 6000);
        for (rate, secs) in [(1, 0), (100_000, 3600)] {
            assert_eq!(
                messages(rate, Duration::from_secs(secs)).unwrap_err().exit_code(),
                ExitCode::Usage
            );
        }
    }
}
