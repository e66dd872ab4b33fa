//! A problem of a node becomes two events: one when it has held for a moment, one when it has been over
//! for as long. In between status tells it; the stream tells when it began and ended.
//!
//! Not here: which problems there are (`node::status`), how an event is stored (`events`).

use std::collections::BTreeMap;
use std::time::Duration;

use proto::event::{ALARM, NODE, TYPE};
use proto::peer::NodeEvent;
use proto::problem::{Problem, ProblemKey};
use proto::{Header, Name};
use tokio::time::Instant;

use crate::events::EventSink;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a problem has to last, or to be gone, before it is told.
const HOLDS_FOR: Duration = Duration::from_secs(2);

/// Tells the log of a node's problems, for ever.
pub(crate) async fn run(node: Name, problems: impl Fn() -> Vec<Problem> + Send, events: EventSink) {
    let mut alarms = Alarms::default();
    loop {
        for news in alarms.look(Instant::now(), &problems()) {
            tracing::warn!(raised = news.raised, "{}", news.text);
            events.push(news.event(&node));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The problems of one node, by what stays the same in them while their figures change.
#[derive(Debug, Default)]
struct Alarms(BTreeMap<ProblemKey, Alarm>);

#[derive(Debug)]
struct Alarm {
    text: String,
    /// Whether it was there at the last look.
    there: bool,
    /// Since when it is there, or gone.
    since: Instant,
    /// Whether the log says that it is there.
    told: bool,
}

/// An alarm that is raised or over.
#[derive(Debug, PartialEq, Eq)]
struct AlarmChange {
    raised: bool,
    text: String,
}

impl AlarmChange {
    fn event(self, node: &Name) -> NodeEvent {
        let Self { raised, text } = self;
        let header = |key: &str, value: &str| Header { key: key.into(), value: value.into() };
        let state = if raised { "raised" } else { "cleared" };
        let text = if raised {
            format!("alarm {node}: {text}")
        } else {
            format!("alarm {node} cleared: {text}")
        };
        let headers =
            vec![header(TYPE, ALARM), header(NODE, node.as_str()), header("state", state)];
        NodeEvent { id: String::new(), headers, text }
    }
}

impl Alarms {
    /// Takes the problems of now. Kept is no more than that, and what is told and not over.
    fn look(&mut self, now: Instant, problems: &[Problem]) -> Vec<AlarmChange> {
        let present: BTreeMap<ProblemKey, &Problem> =
            problems.iter().map(|problem| (problem.key(), problem)).collect();
        for (key, problem) in &present {
            let new = || Alarm { text: String::new(), there: true, since: now, told: false };
            let alarm = self.0.entry(key.clone()).or_insert_with(new);
            alarm.text = problem.text();
        }
        let mut news = Vec::new();
        self.0.retain(|key, alarm| {
            let there = present.contains_key(key);
            if alarm.there != there {
                (alarm.there, alarm.since) = (there, now);
            }
            if there != alarm.told && now.saturating_duration_since(alarm.since) >= HOLDS_FOR {
                alarm.told = there;
                news.push(AlarmChange { raised: there, text: alarm.text.clone() });
            }
            there || alarm.told
        });
        news
    }
}

/// Seen to fail with: no wait before an alarm is raised, none before it is over, figures compared, and
/// alarms kept that were never told.
#[cfg(test)]
mod tests {
    use proto::ProblemCode;

    use super::*;

    /// What is told at each look, of problems at given milliseconds.
    fn told(looks: &[(u64, &[Problem])]) -> Vec<(u64, String)> {
        let (start, mut alarms, mut out) = (Instant::now(), Alarms::default(), Vec::new());
        for (at_ms, problems) in looks {
            let news = alarms.look(start + Duration::from_millis(*at_ms), problems);
            let node = "n2".parse().unwrap();
            out.extend(news.into_iter().map(|news| (*at_ms, news.event(&node).text)));
        }
        out
    }

    #[test]
    fn an_alarm_is_raised_once_and_cleared_once() {
        let disk = [Problem::new(ProblemCode::DiskFull)];
        let looks = [
            (0, &disk[..]),
            (1999, &disk),
            (2000, &disk),
            (5000, &disk),
            (6000, &[]),
            (7999, &[]),
            (8000, &[]),
            (20_000, &[]),
        ];
        assert_eq!(
            told(&looks),
            [
                (
                    2000,
                    "alarm n2: its data disk is nearly full: as primary it refuses sends"
                        .to_owned()
                ),
                (
                    8000,
                    "alarm n2 cleared: its data disk is nearly full: as primary it refuses sends"
                        .to_owned()
                ),
            ]
        );
    }

    #[test]
    fn what_comes_and_goes_is_told_when_it_stays() {
        let a = &[Problem::new(ProblemCode::Other)][..];
        let looks = [(0, a), (1500, &[]), (2500, a), (4000, a), (4500, a), (5000, &[]), (6000, a)];
        let text = a[0].text();
        assert_eq!(told(&looks), [(4500, format!("alarm n2: {text}"))]);
    }

    #[test]
    fn figures_and_reasons_do_not_make_another_alarm() {
        let clock =
            |state: &str, why: &str| Problem::new(ProblemCode::ClockState).about(state).detail(why);
        let raised = |n: u64| Problem::new(ProblemCode::StampsRaised).detail(n);
        let looks: [(u64, &[Problem]); 4] = [
            (0, &[clock("holdover", "1 of 3 answers, refusal in 9 s"), raised(7)]),
            (2000, &[clock("holdover", "0 of 3 answers"), raised(8)]),
            (4000, &[clock("holdover", "1 of 3 answers"), raised(9)]),
            (9000, &[clock("expired", "0 of 3 answers")]),
        ];
        assert_eq!(
            told(&looks),
            [
                (2000, "alarm n2: clock holdover: 0 of 3 answers".to_owned()),
                (2000, "alarm n2: stamps had to be raised at apply: 8".to_owned()),
            ]
        );
    }

    #[test]
    fn what_was_never_told_is_forgotten() {
        let (now, mut alarms) = (Instant::now(), Alarms::default());
        for name in ["a", "b", "c"] {
            let problem = Problem::new(ProblemCode::Other).about(name);
            assert_eq!(alarms.look(now, &[problem]), []);
        }
        assert_eq!(alarms.0.len(), 1);
    }

    #[test]
    fn an_event_says_it_in_its_headers() {
        let event =
            AlarmChange { raised: false, text: "a".to_owned() }.event(&"n2".parse().unwrap());
        let headers: Vec<_> =
            event.headers.iter().map(|h| format!("{}={}", h.key, h.value)).collect();
        assert_eq!(headers, ["type=alarm", "node=n2", "state=cleared"]);
    }
}
