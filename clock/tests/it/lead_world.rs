//! What the commands of the scripts in `testscripts/lead/` act on: one node and its policy.
//!
//! `node start=wait` begins. `at 1s key=value …` changes the situation and prints what is decided;
//! what is not named stays. `until 5s` lets the situation last, asks every 100 ms, and prints each
//! decision that differs from the one before.

use clock::ClockState;
use clock::lead::{ClockFitness, Decision, Mint, OnLoss, Policy, Situation, UnsyncedStart};
use golden::Line;

use crate::script::{span, span_ns};

const ELECTION_MS: u64 = 400;
const STEP_MS: u64 = 100;

pub(crate) struct LeadWorld {
    policy: Policy,
    situation: Situation,
    now_ms: u64,
    said: String,
}

impl Default for LeadWorld {
    fn default() -> Self {
        let standing = ClockFitness {
            state: ClockState::Unsynced,
            error_ns: None,
            ahead_ns: 0,
            behind: false,
        };
        Self {
            policy: Policy::new(0, ELECTION_MS, UnsyncedStart::Wait),
            situation: Situation {
                standing,
                is_primary: false,
                has_primary: true,
                another_may_lead: false,
                successor: false,
                refused: false,
                max_error_ns: 100_000_000,
                on_loss: OnLoss::Degrade,
            },
            now_ms: 0,
            said: String::new(),
        }
    }
}

impl LeadWorld {
    /// Runs a command; returns what it prints, if anything.
    pub(crate) fn run(&mut self, text: &str) -> Option<String> {
        let mut line = Line::parse(text);
        match line.verb.as_str() {
            "node" => {
                let start = line.option("start").map(|text| text.parse().unwrap());
                line.end();
                *self = Self::default();
                self.policy = Policy::new(0, ELECTION_MS, start.unwrap_or_default());
                None
            }
            "at" => {
                self.now_ms = election_max_ms(&line);
                self.change(line);
                self.said = self.decide();
                Some(format!("{}: {}", show_ms(self.now_ms), self.said))
            }
            "until" => Some(self.until(election_max_ms(&line))),
            other => panic!("unknown command {other}"),
        }
    }

    fn change(&mut self, mut line: Line) {
        let situation = &mut self.situation;
        let mut flag = |key: &str, old: &mut bool| {
            if let Some(text) = line.option(key) {
                *old = text == "yes";
            }
        };
        flag("primary", &mut situation.is_primary);
        flag("heard", &mut situation.has_primary);
        flag("others", &mut situation.another_may_lead);
        flag("successor", &mut situation.successor);
        flag("refused", &mut situation.refused);
        situation.has_primary |= situation.is_primary;
        if let Some(text) = line.option("clock") {
            situation.standing.state = text.parse().unwrap();
        }
        if let Some(text) = line.option("error") {
            let known = (text != "unknown").then(|| span_ns(&text).unsigned_abs());
            situation.standing.error_ns = known;
        }
        if let Some(ns) = span(&mut line, "ahead") {
            situation.standing.ahead_ns = ns.unsigned_abs();
        }
        if let Some(text) = line.option("behind") {
            situation.standing.behind = text == "yes";
        }
        if let Some(text) = line.option("on_loss") {
            situation.on_loss = text.parse().unwrap();
        }
        line.end();
    }

    fn until(&mut self, until_ms: u64) -> String {
        let mut out = Vec::new();
        while self.now_ms < until_ms {
            self.now_ms += STEP_MS;
            let says = self.decide();
            if says != self.said {
                out.push(format!("{}: {says}", show_ms(self.now_ms)));
                self.said = says;
            }
        }
        if out.is_empty() { "nothing changes".to_owned() } else { out.join("\n") }
    }

    fn decide(&mut self) -> String {
        let decision = self.policy.decide(self.now_ms, &self.situation);
        show(&decision, self.situation.is_primary)
    }
}

fn election_max_ms(line: &Line) -> u64 {
    span_ns(line.word(0)).unsigned_abs() / 1_000_000
}

fn show_ms(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

fn show(decision: &Decision, is_primary: bool) -> String {
    let mut parts = Vec::new();
    if is_primary {
        parts.push(match decision.mint {
            Mint::Allowed => "mints".to_owned(),
            Mint::Unbounded => "mints without bounds".to_owned(),
            Mint::Refused(why) => format!("mints nothing ({why})"),
        });
        for (said, word) in [
            (decision.hand_over, "asks to hand over"),
            (!decision.heartbeats, "silent"),
            (decision.degraded, "DEGRADED"),
        ] {
            parts.extend(said.then(|| word.to_owned()));
        }
    } else {
        let stands = if decision.elections { "may stand" } else { "does not stand" };
        parts.push(stands.to_owned());
    }
    let good = if decision.may_lead { "a good choice" } else { "no good choice" };
    parts.push(good.to_owned());
    parts.join(", ")
}
