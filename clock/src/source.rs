//! One time server as a node sees it: samples, schedule, and what is made of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::drift::{Drift, Measure};
use crate::filter::{Estimate, Filter};
use crate::poll::Poll;
use crate::sample::{Limits, RawExchange, Reject, Sample, Scale};

/// What came of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A datagram that answers the query.
    Exchange(RawExchange),
    /// A kiss code that answers the query.
    Kiss([u8; 4]),
    /// Nothing that can be used.
    Failed(Failure),
}

/// Why a query has no answer that can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The name has no address.
    Unresolved,
    /// The name leads to the address of another entry, which is asked already.
    Duplicate,
    /// The name leads to this very node.
    Own,
    /// The network refused the datagram.
    Network,
    /// No answer in time.
    Timeout,
    /// The answer breaks the protocol; what exactly, as a metric's label.
    Protocol(&'static str),
}

impl Failure {
    /// The failure as a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Duplicate => "duplicate",
            Self::Own => "own_address",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Protocol(what) => what,
        }
    }
}

/// What is made of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has not answered yet.
    Waiting,
    /// It takes part in the hull and agrees with the majority.
    Selected,
    /// It takes part and contradicts none of those that answer, which are too few to be believed.
    TooFew,
    /// It takes part, and there is no majority to agree with.
    Disagrees,
    /// It contradicts the majority.
    Falseticker,
    /// Eight queries in a row got nothing that can be used.
    Unreachable,
    /// Its last answer was a kiss.
    Kiss([u8; 4]),
    /// Its last answer was no sample.
    Rejected(Reject),
    /// Its last query failed.
    Failed(Failure),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting"),
            Self::Selected => f.write_str("selected"),
            Self::TooFew => f.write_str("too few"),
            Self::Disagrees => f.write_str("disagree"),
            Self::Falseticker => f.write_str("falseticker"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Kiss(code) => write!(f, "kiss {}", code.escape_ascii()),
            Self::Rejected(why) => write!(f, "rejected {why}"),
            Self::Failed(why) => write!(f, "failed {}", why.as_str()),
        }
    }
}

/// One time server.
#[derive(Debug, Clone)]
pub struct Source {
    filter: Filter,
    drift: Drift,
    poll: Poll,
    reach: u8,
    queries: u64,
    /// What was wrong with the last answer, if anything was.
    trouble: Option<Verdict>,
    refused: BTreeMap<&'static str, u64>,
}

impl Source {
    /// A server that has not been asked.
    #[must_use]
    pub fn new(poll: Poll) -> Self {
        Self {
            filter: Filter::default(),
            drift: Drift::default(),
            poll,
            reach: 0,
            queries: 0,
            trouble: None,
            refused: BTreeMap::new(),
        }
    }

    /// Takes what came of a query. Returns whether it was a sample.
    pub fn answered(&mut self, answer: &Answer, scale: &Scale, limits: &Limits) -> bool {
        self.queries += 1;
        self.reach <<= 1;
        self.trouble = match answer {
            Answer::Exchange(exchange) => match exchange.judge(scale, limits) {
                Ok(sample) => {
                    self.filter.add(sample);
                    self.drift.add(sample);
                    self.reach |= 1;
                    self.poll.settle();
                    None
                }
                Err(why) => Some(self.refuse(why.as_str(), Verdict::Rejected(why))),
            },
            Answer::Kiss(code) => {
                match code {
                    b"RATE" => self.poll.slow_down(),
                    b"DENY" | b"RSTR" => self.poll.disable(),
                    _ => {}
                }
                Some(self.refuse("kiss", Verdict::Kiss(*code)))
            }
            Answer::Failed(why) => Some(self.refuse(why.as_str(), Verdict::Failed(*why))),
        };
        self.trouble.is_none()
    }

    /// Forgets the samples and asks quickly again: what comes cannot be compared with what was.
    pub fn restart(&mut self) {
        self.filter.clear();
        self.drift.clear();
        self.poll.burst();
    }

    /// Forgets all but the newest sample: what was before cannot be compared with what comes.
    pub fn doubt(&mut self) {
        self.filter.forget_old();
        self.drift.clear();
    }

    /// What it says of the counter's drift, if it is honest.
    #[must_use]
    pub fn drift(&self) -> Option<Measure> {
        self.drift.measure()
    }

    /// What its samples say together at a value of the raw counter; `None` if it is not fresh.
    #[must_use]
    pub fn estimate(&self, raw_ns: u64, phi_ppb: u64) -> Option<Estimate> {
        if self.reach == 0 {
            return None;
        }
        self.filter.estimate(raw_ns, phi_ppb)
    }

    /// Whether it has a say at a value of the raw counter.
    #[must_use]
    pub fn is_fresh(&self, raw_ns: u64) -> bool {
        self.fresh_until_ns().is_some_and(|until_ns| raw_ns <= until_ns)
    }

    /// Whether it has a say, or will not have one soon.
    #[must_use]
    pub fn is_settled(&self, raw_ns: u64) -> bool {
        self.is_fresh(raw_ns) || !self.poll.is_bursting()
    }

    /// Raw counter up to which it is fresh if it never answers again, nanoseconds.
    #[must_use]
    pub fn fresh_until_ns(&self) -> Option<u64> {
        if self.reach == 0 { None } else { self.filter.fresh_until_ns() }
    }

    /// What is made of it on its own; who agrees with whom is decided in `tracker`.
    #[must_use]
    pub fn own_verdict(&self) -> Option<Verdict> {
        if self.queries == 0 {
            return Some(Verdict::Waiting);
        }
        match self.trouble {
            Some(kiss @ Verdict::Kiss(_)) if self.poll.is_disabled() => Some(kiss),
            trouble if self.reach == 0 && self.queries >= 8 => {
                Some(trouble.filter(is_telling).unwrap_or(Verdict::Unreachable))
            }
            trouble => trouble,
        }
    }

    /// Its schedule.
    #[must_use]
    pub fn poll(&self) -> &Poll {
        &self.poll
    }

    /// Its schedule, to change it.
    pub fn poll_mut(&mut self) -> &mut Poll {
        &mut self.poll
    }

    /// Success of the last eight queries, newest in the lowest bit.
    #[must_use]
    pub fn reach(&self) -> u8 {
        self.reach
    }

    /// How often it was asked.
    #[must_use]
    pub fn queries(&self) -> u64 {
        self.queries
    }

    /// Whether its address should be looked up again: eight queries in a row have failed.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.reach == 0 && self.queries > 0 && self.queries.is_multiple_of(8)
    }

    /// Its newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<&Sample> {
        self.filter.newest()
    }

    /// How many answers were refused, by reason.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }

    /// Counts datagrams that answered no query.
    pub fn count_strays(&mut self, strays: u64) {
        if strays > 0 {
            *self.refused.entry("stray").or_default() += strays;
        }
    }

    fn refuse(&mut self, reason: &'static str, verdict: Verdict) -> Verdict {
        *self.refused.entry(reason).or_default() += 1;
        verdict
    }
}

/// Whether a trouble says more than that nothing came.
fn is_telling(trouble: &Verdict) -> bool {
    match trouble {
        Verdict::Kiss(_) | Verdict::Rejected(_) => true,
        Verdict::Failed(why) => !matches!(why, Failure::Network | Failure::Timeout),
        Verdict::Waiting
        | Verdict::Selected
        | Verdict::TooFew
        | Verdict::Disagrees
        | Verdict::Falseticker
        | Verdict::Unreachable => false,
    }
}
