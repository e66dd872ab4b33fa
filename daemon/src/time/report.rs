//! What the node tells of its clock: the report for people and peers, and the sentences in it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use clock::tracker::Alarm;
use clock::{ClockState, ClockView, Failure, Source, Tracker, Verdict};
use config::ClockMode;
use proto::wire::{ClockReport, ClockSource, Refused};
use proto::{Problem, ProblemCode};

use super::node_clock::NodeClock;
use super::servers::{Server, Spot};

/// The furthest that is looked ahead for the moment at which the bound passes the limit,
/// nanoseconds: 2^54, some 208 days.
const AHEAD_NS: u64 = 1 << 54;

impl NodeClock {
    /// The clock as clients and peers are told of it. What the peers think of it, and whether the
    /// node may lead with it, others add.
    #[must_use]
    pub fn report(&self, node: &str) -> ClockReport {
        self.notice_suspension();
        let inner = &self.inner;
        let tracker = inner.tracker.lock();
        let raw_ns = self.raw_ns();
        let view = **inner.view.load();
        let ((claim, _), (reading, state)) = (self.claim_at(raw_ns), self.look_at(raw_ns));
        let ceiling = self.hlc().ceiling();
        let told = self.hlc().floor().min(ceiling);
        ClockReport {
            node: node.to_owned(),
            state: state.to_string(),
            now_ns: reading.now_ns,
            // Also if the peers overrule it: only so can they see when it agrees again.
            earliest_ns: claim.earliest_ns,
            latest_ns: claim.latest_ns,
            drift_ppb: view.phi_ppb,
            max_error_us: self.max_error_ns() / 1000,
            hlc: told.to_bytes().to_vec(),
            ceiling_ns: ceiling.ns,
            sources: self.report_sources(&tracker, &view, raw_ns),
            peers: Vec::new(),
            epoch: view.epoch,
            reason: self.reason_at(&tracker, raw_ns),
            refusal_in_ms: self.refusal_in_ms(raw_ns),
            may_lead: false,
            slew_ns: view.to_target_ns(raw_ns),
            leap: tracker.leap().to_string(),
            alarms: self.alarms_of(&tracker),
            lead_ns: told.ns.saturating_sub(reading.now_ns),
            turned: self.turned_of(&tracker).into_iter().collect(),
            doubtful: inner.doubtful.load().iter().cloned().collect(),
        }
    }

    /// What a person should look at; empty if nothing.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        self.alarms_of(&self.inner.tracker.lock())
    }

    /// What is wrong with the clock by its own servers, for `status`; `None` if nothing is. The peers' verdict is told by those who ask them (`lead`).
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        self.notice_suspension();
        let tracker = self.inner.tracker.lock();
        let raw_ns = self.raw_ns();
        let (_, state) = self.claim_at(raw_ns);
        if matches!(state, ClockState::Synced | ClockState::Local) {
            return None;
        }
        let mut detail = tracker.reason(raw_ns);
        if let Some(left_ms) = self.refusal_in_ms(raw_ns) {
            detail += &format!(", refusal in {} s", left_ms / 1000);
        }
        Some(Problem::new(ProblemCode::ClockState).about(state).detail(detail))
    }

    /// How many answers of time servers were refused, by server and reason.
    #[must_use]
    pub fn refused(&self) -> Vec<(String, &'static str, u64)> {
        let tracker = self.inner.tracker.lock();
        let mut rows = Vec::new();
        for ((source, _), server) in tracker.sources().zip(self.inner.servers.iter()) {
            let counts = source.refused().iter();
            let address = &server.config.address;
            rows.extend(counts.map(|(reason, count)| (address.clone(), *reason, *count)));
        }
        rows
    }

    /// Why the state is what it is; empty if synced.
    fn reason_at(&self, tracker: &Tracker, raw_ns: u64) -> String {
        let (_, claimed) = self.claim_at(raw_ns);
        let (_, state) = self.look_at(raw_ns);
        if state != claimed
            && let Some(why) = &*self.inner.fenced.load()
        {
            return why.to_string();
        }
        if state == ClockState::Local {
            return "the machine's own clock, which nobody checks".to_owned();
        }
        tracker.reason(raw_ns)
    }

    /// The state in one sentence, for the log and the history.
    pub(super) fn describe(&self, tracker: &Tracker, raw_ns: u64) -> String {
        let (reading, state) = self.look_at(raw_ns);
        let mut text = format!("clock {state}");
        if let Some(error_us) = reading.error_us() {
            text += &format!(", error bound {}.{:03} ms", error_us / 1000, error_us % 1000);
        }
        let reason = self.reason_at(tracker, raw_ns);
        if !reason.is_empty() {
            text += &format!(": {reason}");
        }
        text
    }

    /// What is wrong with the servers, in words that change only when something changes for good;
    /// empty if nothing.
    pub(super) fn server_troubles(&self, tracker: &Tracker) -> String {
        let mut troubles = Vec::new();
        for (index, (source, verdict)) in tracker.sources().enumerate() {
            let name = self.inner.servers.name(index);
            if let Some(trouble) = self.trouble_of(index, source, verdict) {
                troubles.push(format!("{name} {trouble}"));
            }
        }
        troubles.join(", ")
    }

    /// The servers that this node calls falsetickers after it had believed them for long.
    #[must_use]
    pub(crate) fn turned(&self) -> BTreeSet<String> {
        self.turned_of(&self.inner.tracker.lock())
    }

    fn turned_of(&self, tracker: &Tracker) -> BTreeSet<String> {
        tracker.turned().map(|index| self.inner.servers.name(index).to_owned()).collect()
    }

    /// What is wrong with a server for longer than a lost packet; `None` if nothing is.
    fn trouble_of(&self, index: usize, source: &Source, verdict: Verdict) -> Option<String> {
        let name = self.inner.servers.name(index);
        if verdict == Verdict::Falseticker && self.inner.doubtful.load().contains(name) {
            return Some(DOUBTFUL.to_owned());
        }
        lasting_trouble(source, verdict)
    }

    fn alarms_of(&self, tracker: &Tracker) -> Vec<String> {
        if self.inner.mode == ClockMode::Local {
            return Vec::new();
        }
        let servers = &self.inner.servers;
        let sentence = |alarm: Alarm| match alarm {
            Alarm::StaleReference { server } => {
                format!("{}: its clock was last corrected over a day ago", servers.name(server))
            }
            Alarm::FewServers { .. } | Alarm::Drift { .. } | Alarm::Inconsistent { .. } => {
                alarm.to_string()
            }
        };
        let mut alarms: Vec<String> = tracker.alarms().into_iter().map(sentence).collect();
        for (index, (source, verdict)) in tracker.sources().enumerate() {
            if let Some(trouble) = self.trouble_of(index, source, verdict) {
                alarms.push(format!("{} {trouble}", servers.name(index)));
            }
        }
        alarms
    }

    /// Milliseconds until the error bound passes the limit if no server answers any more; `None` if
    /// it has, or is not known.
    fn refusal_in_ms(&self, raw_ns: u64) -> Option<u64> {
        let view = self.inner.view.load();
        let (reading, state) = self.look_at(raw_ns);
        let max_error_ns = self.max_error_ns();
        if !state.is_trusted() || reading.error_ns()? > max_error_ns {
            return None;
        }
        let passes_at = |wait_ns: u64| {
            let error_ns = view.now(raw_ns.saturating_add(wait_ns)).error_ns();
            error_ns.is_some_and(|error_ns| error_ns > max_error_ns)
        };
        // From inside the limit the error passes it once: while the reading is slewed towards the
        // middle it may shrink at first, but then it only grows.
        if !passes_at(AHEAD_NS) {
            return None;
        }
        let (mut low_ns, mut high_ns) = (0, AHEAD_NS);
        while high_ns - low_ns > 1 {
            let middle_ns = low_ns.midpoint(high_ns);
            if passes_at(middle_ns) {
                high_ns = middle_ns;
            } else {
                low_ns = middle_ns;
            }
        }
        Some(low_ns / 1_000_000)
    }

    fn report_sources(&self, tracker: &Tracker, view: &ClockView, raw_ns: u64) -> Vec<ClockSource> {
        let pairs = tracker.sources().zip(self.inner.servers.iter()).enumerate();
        let row = |(index, ((source, verdict), server))| {
            self.report_source(index, source, verdict, server, view.c_at(raw_ns), raw_ns)
        };
        pairs.map(row).collect()
    }

    fn report_source(
        &self,
        index: usize,
        source: &Source,
        verdict: Verdict,
        server: &Server,
        c_ns: i64,
        raw_ns: u64,
    ) -> ClockSource {
        let newest = source.newest();
        let servers = &self.inner.servers;
        let (asked, verdict) = match servers.spot(index) {
            Spot::At(address) => (address.to_string(), verdict.to_string()),
            Spot::Nowhere(before) => {
                (before.map(|at| at.to_string()).unwrap_or_default(), verdict.to_string())
            }
            Spot::Duplicate(of) => (String::new(), format!("duplicate of {}", servers.name(of))),
            Spot::Own => (String::new(), "this node itself".to_owned()),
        };
        let refused = source.refused().iter();
        let refused =
            refused.map(|(reason, count)| Refused { reason: (*reason).to_owned(), count: *count });
        let interval_s = source.poll().interval_ms() / 1000;
        ClockSource {
            address: server.config.address.clone(),
            reach: u32::from(source.reach()),
            stratum: newest.map_or(0, |sample| u32::from(sample.stratum)),
            offset_ns: newest.map_or(0, |sample| sample.theta_ns.saturating_sub(c_ns)),
            delay_ns: newest.map_or(0, |sample| sample.delta_ns),
            distance_ns: newest.map_or(0, |sample| sample.lambda_ns),
            verdict,
            next_poll_ms: server.wait_ns(raw_ns) / 1_000_000,
            refid: newest.map_or_else(String::new, |s| refid_text(s.refid, s.stratum)),
            poll_s: u32::try_from(interval_s).unwrap_or(u32::MAX),
            age_ms: newest.map(|sample| raw_ns.saturating_sub(sample.raw_ns) / 1_000_000),
            refused: refused.collect(),
            asked,
        }
    }
}

/// What is said of a server that all nodes have turned against at once.
const DOUBTFUL: &str = "is doubtful: it was believed for long, and all nodes call it a falseticker now; \
                        either it is wrong, or the others are";

/// What is wrong with a server for longer than a lost packet; `None` if nothing is.
fn lasting_trouble(source: &Source, verdict: Verdict) -> Option<String> {
    let silent = source.reach() == 0 && source.queries() >= 8;
    match verdict {
        Verdict::Waiting | Verdict::Selected | Verdict::TooFew | Verdict::Disagrees => None,
        Verdict::Falseticker => Some("is a falseticker".to_owned()),
        Verdict::Unreachable => Some("is unreachable".to_owned()),
        Verdict::Kiss(code) if source.poll().is_disabled() => {
            Some(format!("refuses this node ({})", code.escape_ascii()))
        }
        Verdict::Failed(Failure::Duplicate) => {
            Some("is asked under another name already".to_owned())
        }
        Verdict::Failed(Failure::Own) => Some("is this node itself".to_owned()),
        Verdict::Kiss(_) | Verdict::Rejected(_) | Verdict::Failed(_) => {
            silent.then(|| format!("gives nothing that can be used ({verdict})"))
        }
    }
}

/// What a server follows, as chronyc's users know it: letters if that is a clock, else the address.
fn refid_text(refid: [u8; 4], stratum: u8) -> String {
    let letters = refid.iter().take_while(|byte| **byte != 0).count();
    let (name, rest) = refid.split_at(letters);
    let printable = name.iter().all(u8::is_ascii_graphic) && rest.iter().all(|byte| *byte == 0);
    if stratum == 1 && letters > 0 && printable {
        return name.escape_ascii().to_string();
    }
    Ipv4Addr::from(refid).to_string()
}

/// A length of time in seconds, for a sentence.
pub(super) fn seconds(ns: u64) -> String {
    format!("{:.3} s", Duration::from_nanos(ns).as_secs_f64())
}
