//! What a node complains of becomes two events: one when it has held for a moment, one when it has been
//! over for as long. In between status tells it; the stream tells when it began and ended.
//!
//! Not here: what is complained of (`node::status`), how an event is stored (`events`).

use std::collections::BTreeMap;
use std::time::Duration;

use proto::event::{ALARM, NODE, TYPE};
use proto::peer::NodeEvent;
use proto::{Header, Name};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::events::EventSink;
use crate::node::Node;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a complaint has to last, or to be gone, before it is told.
const HOLDS_FOR: Duration = Duration::from_secs(2);

/// Tells the log of this node's complaints until `stop`.
pub(crate) async fn run(node: Node, events: EventSink, stop: CancellationToken) {
    let mut alarms = Alarms::default();
    let looking = async {
        loop {
            for news in alarms.look(Instant::now(), &node.complaints()) {
                tracing::warn!(raised = news.raised, "{}", news.text);
                events.push(news.event(node.name()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = looking => {}
    }
}

/// The complaints of one node, by what stays the same in them while their figures change.
#[derive(Debug, Default)]
struct Alarms(BTreeMap<String, Alarm>);

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
struct News {
    raised: bool,
    text: String,
}

impl News {
    fn event(self, node: &Name) -> NodeEvent {
        let Self { raised, text } = self;
        let header = |key: &str, value: &str| Header { key: key.into(), value: value.into() };
        let state = if raised { "raised" } else { "cleared" };
        let text = if raised {
            format!("alarm {node}: {text}")
        } else {
            format!("alarm {node} is over: {text}")
        };
        let headers =
            vec![header(TYPE, ALARM), header(NODE, node.as_str()), header("state", state)];
        NodeEvent { id: String::new(), headers, text }
    }
}

impl Alarms {
    /// Takes what is complained of now. Kept is no more than that, and what is told and not over.
    fn look(&mut self, now: Instant, complaints: &[String]) -> Vec<News> {
        let present: BTreeMap<String, &String> =
            complaints.iter().map(|text| (constant_part(text), text)).collect();
        for (key, text) in &present {
            let new = || Alarm { text: String::new(), there: true, since: now, told: false };
            let alarm = self.0.entry(key.clone()).or_insert_with(new);
            alarm.text.clone_from(text);
        }
        let mut news = Vec::new();
        self.0.retain(|key, alarm| {
            let there = present.contains_key(key);
            if alarm.there != there {
                (alarm.there, alarm.since) = (there, now);
            }
            if there != alarm.told && now.saturating_duration_since(alarm.since) >= HOLDS_FOR {
                alarm.told = there;
                news.push(News { raised: there, text: alarm.text.clone() });
            }
            there || alarm.told
        });
        news
    }
}

/// What a complaint has in common with the same one a moment later: the part before its reasons,
/// without figures.
fn constant_part(text: &str) -> String {
    let head = text.split(": ").next().unwrap_or(text);
    head.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Seen to fail with: no wait before an alarm is raised, none before it is over, figures compared, and
/// alarms kept that were never told.
#[cfg(test)]
mod tests {
    use super::*;

    /// What is told at each look, of complaints at given milliseconds.
    fn told(looks: &[(u64, &[&str])]) -> Vec<(u64, String)> {
        let (start, mut alarms, mut out) = (Instant::now(), Alarms::default(), Vec::new());
        for (at_ms, complaints) in looks {
            let complaints: Vec<_> = complaints.iter().map(|&text| text.to_owned()).collect();
            let news = alarms.look(start + Duration::from_millis(*at_ms), &complaints);
            let node = "n2".parse().unwrap();
            out.extend(news.into_iter().map(|news| (*at_ms, news.event(&node).text)));
        }
        out
    }

    #[test]
    fn an_alarm_is_raised_once_and_cleared_once() {
        const DISK: &[&str] = &["its data disk is nearly full: sends are refused"];
        let looks = [
            (0, DISK),
            (1999, DISK),
            (2000, DISK),
            (5000, DISK),
            (6000, &[]),
            (7999, &[]),
            (8000, &[]),
            (20_000, &[]),
        ];
        assert_eq!(
            told(&looks),
            [
                (2000, "alarm n2: its data disk is nearly full: sends are refused".to_owned()),
                (
                    8000,
                    "alarm n2 is over: its data disk is nearly full: sends are refused".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn what_comes_and_goes_is_told_when_it_stays() {
        const A: &[&str] = &["a"];
        let looks = [(0, A), (1500, &[]), (2500, A), (4000, A), (4500, A), (5000, &[]), (6000, A)];
        assert_eq!(told(&looks), [(4500, "alarm n2: a".to_owned())]);
    }

    #[test]
    fn figures_and_reasons_do_not_make_another_alarm() {
        let looks: [(u64, &[&str]); 4] = [
            (0, &["clock holdover: 1 of 3 answers, refusal in 9 s", "7 stamps had to be raised"]),
            (2000, &["clock holdover: 0 of 3 answers", "8 stamps had to be raised"]),
            (4000, &["clock holdover: 1 of 3 answers", "9 stamps had to be raised"]),
            (9000, &["clock expired: 0 of 3 answers"]),
        ];
        assert_eq!(
            told(&looks),
            [
                (2000, "alarm n2: 8 stamps had to be raised".to_owned()),
                (2000, "alarm n2: clock holdover: 0 of 3 answers".to_owned()),
            ]
        );
    }

    #[test]
    fn what_was_never_told_is_forgotten() {
        let (now, mut alarms) = (Instant::now(), Alarms::default());
        for name in ["a", "b", "c"] {
            assert_eq!(alarms.look(now, &[name.to_owned()]), []);
        }
        assert_eq!(alarms.0.len(), 1);
    }

    #[test]
    fn an_event_says_it_in_its_headers() {
        let event = News { raised: false, text: "a".to_owned() }.event(&"n2".parse().unwrap());
        let headers: Vec<_> =
            event.headers.iter().map(|h| format!("{}={}", h.key, h.value)).collect();
        assert_eq!(headers, ["type=alarm", "node=n2", "state=cleared"]);
    }
}
