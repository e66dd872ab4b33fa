//! Clocks in the forms that are shown, in the words that chronyc's users know. The field names and
//! their order are part of the product: scripts read them.
//!
//! Not here: the history (`history`).

use clock::ClockState;
use clock::hlc::utc_text;
use proto::ExitCode;
use proto::wire::{ClockPeer, ClockReport, ClockSource, Refused};
use serde::Serialize;

use crate::Unwell;
use crate::health::{ClockHealth, clock_health};
use crate::record::hlc_text;
use crate::show::{Cell, Show, Tone};

/// One node's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockView {
    node: String,
    state: String,
    now: String,
    earliest: Option<String>,
    latest: Option<String>,
    error_bound_us: Option<u64>,
    max_error_us: u64,
    drift_ppb: u64,
    hlc: Option<String>,
    ceiling: Option<String>,
    reason: String,
    reference: Vec<String>,
    stratum: Option<u32>,
    root_distance_ns: Option<u64>,
    update_interval_s: Option<u32>,
    slew_ns: i64,
    leap: String,
    hlc_lead_ns: u64,
    epoch: u64,
    refusal_in_ms: Option<u64>,
    may_lead: bool,
    alarms: Vec<String>,
    sources: Vec<SourceView>,
    peers: Vec<PeerView>,
}

/// One time server as a node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceView {
    node: String,
    mark: &'static str,
    address: String,
    asked: String,
    stratum: u32,
    poll_s: u32,
    reach: String,
    age_ms: Option<u64>,
    offset_ns: i64,
    distance_ns: u64,
    delay_ns: u64,
    refid: String,
    verdict: String,
    next_poll_ms: u64,
    refused: Vec<RefusedView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct RefusedView {
    reason: String,
    count: u64,
}

/// Another node's clock as a node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerView {
    node: String,
    peer: String,
    state: String,
    offset_ns: i64,
    delay_ns: u64,
    error_bound_us: Option<u64>,
    verdict: String,
    age_ms: u64,
}

/// What a node claims: true time lies between these two, nanoseconds since 1970. A suspect clock
/// reports what it believed, which is no claim.
fn claim(report: &ClockReport) -> Option<(u64, u64)> {
    let suspect = report.state == ClockState::Suspect.as_str();
    report.earliest_ns.zip(report.latest_ns).filter(|_| !suspect)
}

/// The error bound that a node claims, in nanoseconds; `None` if it claims none.
pub fn error_bound_ns(report: &ClockReport) -> Option<u64> {
    let now = report.now_ns;
    claim(report).map(|(from, to)| now.saturating_sub(from).max(to.saturating_sub(now)))
}

impl From<ClockReport> for ClockView {
    fn from(report: ClockReport) -> Self {
        let claim = claim(&report);
        let sources = source_views(&report);
        let used = |source: &&ClockSource| source.verdict == SELECTED;
        let used: Vec<&ClockSource> = report.sources.iter().filter(used).collect();
        Self {
            error_bound_us: error_bound_ns(&report).map(|ns| ns.div_ceil(1000)),
            earliest: claim.map(|(from, _)| utc_text(from)),
            latest: claim.map(|(_, to)| utc_text(to)),
            now: utc_text(report.now_ns),
            max_error_us: report.max_error_us,
            drift_ppb: report.drift_ppb,
            hlc: hlc_text(&report.hlc),
            ceiling: (report.ceiling_ns > 0).then(|| utc_text(report.ceiling_ns)),
            reference: used.iter().map(|source| source.address.clone()).collect(),
            // As with chronyc: one more than that of the server.
            stratum: used.iter().map(|source| source.stratum.saturating_add(1)).min(),
            root_distance_ns: used.iter().map(|source| source.distance_ns).min(),
            update_interval_s: used.iter().map(|source| source.poll_s).min(),
            slew_ns: report.slew_ns,
            leap: report.leap,
            hlc_lead_ns: report.lead_ns,
            epoch: report.epoch,
            refusal_in_ms: report.refusal_in_ms,
            may_lead: report.may_lead,
            alarms: report.alarms,
            sources,
            peers: report.peers.iter().map(|peer| PeerView::new(&report.node, peer)).collect(),
            node: report.node,
            state: report.state,
            reason: report.reason,
        }
    }
}

const SELECTED: &str = "selected";
const FALSETICKER: &str = "falseticker";

/// The servers of a node, with chronyc's marks: the used one with the smallest distance is `*`.
fn source_views(report: &ClockReport) -> Vec<SourceView> {
    let (node, sources) = (&report.node, &report.sources);
    let verdict = |source: &ClockSource| {
        let doubted = source.verdict == FALSETICKER && report.doubtful.contains(&source.address);
        if doubted { "doubtful".to_owned() } else { source.verdict.clone() }
    };
    let used = sources.iter().enumerate().filter(|(_, source)| source.verdict == SELECTED);
    let best = used.min_by_key(|(_, source)| source.distance_ns).map(|(at, _)| at);
    let view = |(at, source): (usize, &ClockSource)| SourceView {
        node: node.clone(),
        mark: mark(&source.verdict, best == Some(at)),
        address: source.address.clone(),
        asked: source.asked.clone(),
        stratum: source.stratum,
        poll_s: source.poll_s,
        reach: format!("{:o}", source.reach & 0xff),
        age_ms: source.age_ms,
        offset_ns: source.offset_ns,
        distance_ns: source.distance_ns,
        delay_ns: source.delay_ns,
        refid: source.refid.clone(),
        verdict: verdict(source),
        next_poll_ms: source.next_poll_ms,
        refused: source.refused.iter().map(RefusedView::from).collect(),
    };
    sources.iter().enumerate().map(view).collect()
}

/// What the marks of chronyc say of a verdict: `^` is a server, then its state.
fn mark(verdict: &str, best: bool) -> &'static str {
    match verdict {
        SELECTED if best => "^*",
        SELECTED => "^+",
        FALSETICKER => "^x",
        "waiting" | "unreachable" => "^?",
        _ => "^-",
    }
}

/// What the marks mean, for `-v`.
pub const LEGEND: [&str; 3] = [
    "MS: ^ server; * the best, + used too, x falseticker, - not used, ? no answer yet or any more",
    "too few: it contradicts nobody, and not enough answer; doubtful: it was believed for long, and all \
     nodes call it a falseticker: either it is wrong, or the others are",
    "OFFSET is the server's time minus the node's; BOUND is how far it may be wrong from here",
];

impl From<&Refused> for RefusedView {
    fn from(refused: &Refused) -> Self {
        Self { reason: refused.reason.clone(), count: refused.count }
    }
}

impl PeerView {
    fn new(node: &str, peer: &ClockPeer) -> Self {
        Self {
            node: node.to_owned(),
            peer: peer.node.clone(),
            state: peer.state.clone(),
            offset_ns: peer.offset_ns,
            delay_ns: peer.delay_ns,
            error_bound_us: peer.error_bound_us,
            verdict: peer.verdict.clone(),
            age_ms: peer.age_ms,
        }
    }
}

impl ClockView {
    /// The node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its time servers.
    pub fn sources(&self) -> &[SourceView] {
        &self.sources
    }

    /// The other nodes' clocks as it sees them.
    pub fn peers(&self) -> &[PeerView] {
        &self.peers
    }

    /// What a person should look at.
    pub fn alarms(&self) -> &[String] {
        &self.alarms
    }

    /// Key and value, for programs.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
        let number = |number: Option<u64>| known(number.map(|number| number.to_string()));
        vec![
            ("node", self.node.clone()),
            ("state", self.state.clone()),
            ("now", self.now.clone()),
            ("earliest", known(self.earliest.clone())),
            ("latest", known(self.latest.clone())),
            ("bound_us", number(self.error_bound_us)),
            ("limit_us", self.max_error_us.to_string()),
            ("drift_ppb", self.drift_ppb.to_string()),
            ("hlc", known(self.hlc.clone())),
            ("ceiling", known(self.ceiling.clone())),
            ("reason", self.reason.clone()),
            ("reference", self.reference.join(",")),
            ("stratum", number(self.stratum.map(u64::from))),
            ("root_distance_ns", number(self.root_distance_ns)),
            ("update_interval_s", number(self.update_interval_s.map(u64::from))),
            ("slew_ns", self.slew_ns.to_string()),
            ("leap", self.leap.clone()),
            ("hlc_lead_ns", self.hlc_lead_ns.to_string()),
            ("epoch", self.epoch.to_string()),
            ("refusal_in_ms", number(self.refusal_in_ms)),
            ("may_lead", if self.may_lead { "yes" } else { "no" }.to_owned()),
            ("alarms", self.alarms.join("; ")),
        ]
    }

    /// Name and value, for people: the words of `chronyc tracking` first.
    pub fn tracking(&self) -> Vec<(&'static str, String)> {
        let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
        let seconds = |ns: u64| format!("{} seconds", decimal(ns.into()));
        let state = match self.reason.as_str() {
            "" => self.state.clone(),
            reason => format!("{} ({reason})", self.state),
        };
        let reference = match self.reference.as_slice() {
            [] if self.state == ClockState::Local.as_str() => "the machine's own clock".to_owned(),
            [] => "none".to_owned(),
            used => format!("{} ({} of {})", used.join(", "), used.len(), self.sources.len()),
        };
        let pace = if self.slew_ns < 0 { "fast" } else { "slow" };
        let refusal = match (self.refusal_in_ms, self.error_bound_us) {
            (Some(ms), _) => format!("{} seconds without any server", ms / 1000),
            (None, Some(us)) if us > self.max_error_us => "past the limit".to_owned(),
            (None, _) => "unknown".to_owned(),
        };
        vec![
            ("Node", self.node.clone()),
            ("State", state),
            ("Reference", reference),
            ("Stratum", known(self.stratum.map(|stratum| stratum.to_string()))),
            ("Time (UTC)", self.now.clone()),
            ("System time", format!("{} {pace} of NTP time", seconds(self.slew_ns.unsigned_abs()))),
            ("Earliest", known(self.earliest.clone())),
            ("Latest", known(self.latest.clone())),
            ("Error bound", known(self.error_bound_us.map(|us| seconds(us.saturating_mul(1000))))),
            ("Error limit", seconds(self.max_error_us.saturating_mul(1000))),
            ("Root distance", known(self.root_distance_ns.map(seconds))),
            ("Drift allowance", ppm(self.drift_ppb)),
            ("Update interval", known(self.update_interval_s.map(|s| format!("{s} seconds")))),
            ("Leap status", leap_text(&self.leap)),
            ("HLC", known(self.hlc.clone())),
            ("HLC lead", seconds(self.hlc_lead_ns)),
            ("Ceiling", known(self.ceiling.clone())),
            ("Epoch", self.epoch.to_string()),
            ("Refusal in", refusal),
            ("May lead", if self.may_lead { "yes" } else { "no" }.to_owned()),
        ]
    }

    /// The exit code that the state asks for; `None`: success.
    pub fn exit_code(&self) -> Option<ExitCode> {
        match clock_health(&self.state) {
            ClockHealth::Fine => None,
            ClockHealth::Degraded => Some(ExitCode::Degraded),
            ClockHealth::Untrusted => Some(ExitCode::Clock),
        }
    }

    /// State and reason in one sentence.
    pub fn sentence(&self) -> String {
        let why = if self.reason.is_empty() {
            let verdict = |source: &SourceView| format!("{} {}", source.address, source.verdict);
            let verdicts: Vec<String> = self.sources.iter().map(verdict).collect();
            if verdicts.is_empty() { "no time server".to_owned() } else { verdicts.join(", ") }
        } else {
            self.reason.clone()
        };
        format!("the clock of {} is {}: {why}", self.node, self.state)
    }

    /// What is wrong and the exit code that it asks for: never success for a clock that needs a look.
    ///
    /// # Errors
    /// When it does.
    pub fn verdict(&self) -> Result<(), Unwell> {
        match self.exit_code() {
            None => Ok(()),
            Some(code) => Err(Unwell {
                code,
                what: self.sentence(),
                hint: "logctl clock sources -v: reach and verdict of the node's [[clock.server]]"
                    .to_owned(),
            }),
        }
    }
}

/// A clock as one of many.
impl Show for ClockView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "STATE", "BOUND", "LIMIT", "REFUSAL", "LEAP", "MAY LEAD", "REASON"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = match clock_health(&self.state) {
            ClockHealth::Fine => Tone::Good,
            ClockHealth::Degraded => Tone::Warning,
            ClockHealth::Untrusted => Tone::Bad,
        };
        let micros = |us: u64| human(us.saturating_mul(1000));
        let bound = self.error_bound_us.map(|us| format!("+/- {}", micros(us)));
        vec![
            self.node.as_str().into(),
            Cell::toned(self.state.as_str(), tone),
            bound.unwrap_or_else(|| "unknown".to_owned()).into(),
            micros(self.max_error_us).into(),
            self.refusal_in_ms.map_or_else(|| "-".to_owned(), age).into(),
            leap_text(&self.leap).into(),
            if self.may_lead { "yes" } else { "no" }.into(),
            self.reason.as_str().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        vec![
            self.node.clone(),
            self.state.clone(),
            number(self.error_bound_us),
            self.max_error_us.to_string(),
            number(self.refusal_in_ms),
            self.leap.clone(),
            if self.may_lead { "yes" } else { "no" }.to_owned(),
            self.reason.clone(),
        ]
    }
}

impl SourceView {
    /// Refused answers, for `-v`; `None` if there are none.
    pub fn refusals(&self) -> Option<String> {
        let count = |refused: &RefusedView| format!("{} {}", refused.count, refused.reason);
        let counts: Vec<String> = self.refused.iter().map(count).collect();
        (!counts.is_empty()).then(|| {
            format!("{}: {} refused answers of {}", self.node, counts.join(", "), self.address)
        })
    }

    fn refused_in_all(&self) -> u64 {
        self.refused.iter().map(|refused| refused.count).sum()
    }
}

impl Show for SourceView {
    fn headings() -> &'static [&'static str] {
        &[
            "NODE", "MS", "ADDRESS", "STRATUM", "POLL", "REACH", "LASTRX", "OFFSET", "BOUND",
            "REFUSED", "VERDICT",
        ]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = match self.mark {
            "^*" | "^+" => Tone::Good,
            "^x" => Tone::Bad,
            _ => Tone::Warning,
        };
        let sampled = |text: String| if self.age_ms.is_some() { text } else { "-".to_owned() };
        vec![
            self.node.as_str().into(),
            Cell::toned(self.mark, tone),
            self.address.as_str().into(),
            self.stratum.to_string().into(),
            format!("{}s", self.poll_s).into(),
            self.reach.as_str().into(),
            self.age_ms.map_or_else(|| "-".to_owned(), age).into(),
            sampled(signed(self.offset_ns)).into(),
            sampled(format!("+/- {}", human(self.distance_ns))).into(),
            self.refused_in_all().to_string().into(),
            Cell::toned(self.verdict.as_str(), tone),
        ]
    }

    fn plain(&self) -> Vec<String> {
        let refused = |refused: &RefusedView| format!("{}={}", refused.reason, refused.count);
        vec![
            self.node.clone(),
            self.mark.to_owned(),
            self.address.clone(),
            self.stratum.to_string(),
            self.poll_s.to_string(),
            self.reach.clone(),
            self.age_ms.map(|ms| ms.to_string()).unwrap_or_default(),
            self.offset_ns.to_string(),
            self.distance_ns.to_string(),
            self.delay_ns.to_string(),
            self.refid.clone(),
            self.verdict.clone(),
            self.refused.iter().map(refused).collect::<Vec<_>>().join(","),
        ]
    }
}

impl Show for PeerView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "PEER", "STATE", "OFFSET", "DELAY", "BOUND", "LASTRX", "VERDICT"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = match self.verdict.as_str() {
            "compatible" => Tone::Good,
            "disjoint" => Tone::Bad,
            _ => Tone::Warning,
        };
        let bound = self.error_bound_us.map(|us| human(us.saturating_mul(1000)));
        vec![
            self.node.as_str().into(),
            self.peer.as_str().into(),
            self.state.as_str().into(),
            signed(self.offset_ns).into(),
            human(self.delay_ns).into(),
            bound.map_or_else(|| "unknown".to_owned(), |bound| format!("+/- {bound}")).into(),
            age(self.age_ms).into(),
            Cell::toned(self.verdict.as_str(), tone),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.node.clone(),
            self.peer.clone(),
            self.state.clone(),
            self.offset_ns.to_string(),
            self.delay_ns.to_string(),
            self.error_bound_us.map(|us| us.to_string()).unwrap_or_default(),
            self.age_ms.to_string(),
            self.verdict.clone(),
        ]
    }
}

/// Nanoseconds as seconds with nine decimals.
pub fn decimal(ns: i128) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// Parts per billion as parts per million.
fn ppm(ppb: u64) -> String {
    format!("{}.{:03} ppm", ppb / 1000, ppb % 1000)
}

/// chronyc's words for what is announced.
fn leap_text(leap: &str) -> String {
    match leap {
        "normal" => "Normal".to_owned(),
        "insert" => "Insert second".to_owned(),
        "delete" => "Delete second".to_owned(),
        "" => "unknown".to_owned(),
        other => other.to_owned(),
    }
}

/// Four digits at most and a unit, as chronyc prints offsets; rounded up, since bounds are shown.
fn human(ns: u64) -> String {
    match ns {
        0..=9_999 => format!("{ns}ns"),
        10_000..=9_999_000 => format!("{}us", ns.div_ceil(1_000)),
        9_999_001..=9_999_000_000 => format!("{}ms", ns.div_ceil(1_000_000)),
        _ => format!("{}s", ns.div_ceil(1_000_000_000)),
    }
}

fn signed(ns: i64) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    format!("{sign}{}", human(ns.unsigned_abs()))
}

/// How long ago, in the largest unit that leaves two digits.
fn age(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..=599 => format!("{seconds}s"),
        seconds @ 600..=35_999 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

#[cfg(test)]
#[path = "clocks_test.rs"]
mod tests;
