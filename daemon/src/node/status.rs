//! The cluster as this node sees it: members, their state, and what a person should look at.

use std::sync::atomic::Ordering;
use std::time::Duration;

use clock::lead::OnLoss;
use clock::{ClockState, Reading};
use config::FileSettings;
use model::query;
use proto::member::{LeftReason, MemberState, NodeRole};
use proto::settings::age_text;
use proto::wire::{ClockReport, NodeRow, Settings, Status};
use proto::{Problem, ProblemCode};

use crate::peer_monitor::PeerStatus;

use super::reach::{self, Seen};
use super::{Body, Node};

/// How long after its start a node may wait for the others' first words before it tells how they are.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// A node that is missing for this long may be missing for ever.
const LOST_AFTER: Duration = Duration::from_secs(300);
/// Between two looks for that.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a write would find.
pub(super) struct Led {
    term: u64,
    /// The primary that it would reach; empty if there is none.
    pub(super) primary: String,
    /// Whether it would be stored by a majority.
    quorum: bool,
    /// Whether the primary can mint stamps; true where there is none.
    pub(super) mints: bool,
}

/// A backup that is this many entries behind is told to people.
const LAG_WORTH_SAYING: u64 = 10_000;

impl Node {
    /// The home of a client that pinned none; empty before the first member is known.
    pub(super) fn derived_home(&self, client: &str) -> String {
        super::place::home_of(self, client).unwrap_or_default()
    }

    pub(super) fn is_disk_full(&self) -> bool {
        self.inner.disk_full.load(Ordering::Relaxed)
    }

    /// What this node itself complains of.
    pub(crate) fn own_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(damage) = self.damage() {
            problems.push(Problem::new(ProblemCode::Damaged).detail(damage));
        }
        if let Body::Repairing(repairing) = &self.inner.body {
            problems.extend(repairing.waits.load().as_deref().cloned());
        }
        if let Some(detail) = self.inner.undecided.load().as_deref() {
            problems.push(Problem::new(ProblemCode::StatesDiffer).detail(detail));
        }
        problems.extend(self.store_incomplete());
        if self.is_disk_full() {
            problems.push(Problem::new(ProblemCode::DiskFull));
        }
        problems.extend(self.inner.witness.lost_memory());
        for (name, trouble) in self.inner.witness.troubles() {
            problems.push(trouble.problem(&name));
        }
        if self.inner.disk_slow.load(Ordering::Relaxed) {
            problems.push(Problem::new(ProblemCode::DiskSlow));
        }
        problems.extend(self.elsewhere());
        problems.extend(self.certificate_problem());
        problems.extend(self.inner.node_clock.problem());
        if let Some(behind) = self.inner.node_clock.behind() {
            problems.push(Problem::new(ProblemCode::ClockBehind).detail(behind));
        } else if let Some(ns) = self.inner.node_clock.log_ahead_ns() {
            let detail = format!("by {} s, which all new stamps share", ns / 1_000_000_000);
            problems.push(Problem::new(ProblemCode::LogAhead).detail(detail));
        }
        if let Some(settings) = self.settings() {
            problems.extend(disagreements(&self.inner.file_settings, &settings));
        }
        if let Some(lead) = self.lead() {
            problems.extend(lead.problems());
        }
        if let Some(engine) = self.engine()
            && engine.ratcheted() > 0
        {
            problems.push(Problem::new(ProblemCode::StampsRaised).detail(engine.ratcheted()));
        }
        problems
    }

    /// Whether this node is dialled elsewhere than it says that it listens. The table follows a node that
    /// moved as soon as another has called it back there; it does not follow a claim that is false.
    fn elsewhere(&self) -> Option<Problem> {
        let Body::Whole(core) = &self.inner.body else { return None };
        let (name, claims) = (self.inner.name.as_str(), self.inner.advertise.as_str());
        let table = self.members_at_hand(core).ok()?;
        let row = table.members.iter().find(|row| row.name == name && !row.address.is_empty())?;
        let elsewhere = row.address != claims && self.inner.began.elapsed() >= reach::STEADY_AFTER;
        elsewhere.then(|| {
            Problem::new(ProblemCode::ListensElsewhere).detail(format!(
                "it says that it listens at {claims}, where nobody could reach it; the table says \
                 {}",
                row.address
            ))
        })
    }

    /// The cluster's settings, as far as this node has applied the log; `None` before the first
    /// primary, and if the node takes no part.
    fn settings(&self) -> Option<Settings> {
        match &self.inner.body {
            Body::Whole(core) => self.settings_at_hand(core).ok()?,
            Body::Repairing(_) => None,
        }
    }

    /// How long the cluster wants certificates to live, if this node knows.
    pub(super) fn cert_life(&self) -> Option<Duration> {
        self.settings()?.cert_life_s.map(Duration::from_secs)
    }

    /// The status, once enough was heard to tell: a node that has just started knows of nobody yet, and
    /// that is no word on the others.
    pub(crate) async fn steady_status(&self) -> Status {
        while self.inner.began.elapsed() < HEARD_WITHIN && !self.leader().quorum {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.status()
    }

    /// Who of a majority has been missing for long, and what a person can do; empty before.
    fn lost_majority(&self) -> String {
        let Body::Whole(core) = &self.inner.body else { return String::new() };
        let view = core.engine.view().borrow().clone();
        let own = view.id;
        let silent = |id: &u64| {
            let name = view.members.get(id).map(|member| member.name.clone()).unwrap_or_default();
            let heard = self.inner.members.heard(&name);
            let silence = heard.map_or_else(|| self.inner.began.elapsed(), |it| it.silence());
            (silence >= LOST_AFTER).then_some(name)
        };
        let missing: Vec<String> =
            view.voters.iter().filter(|id| **id != own).filter_map(silent).collect();
        if missing.len() * 2 < view.voters.len() {
            return String::new();
        }
        format!(
            "; {} did not answer for {} min or longer: start them. If they never come back: logd recover \
             --dry-run on each node that is left",
            missing.join(", "),
            LOST_AFTER.as_secs() / 60
        )
    }

    fn status(&self) -> Status {
        let table = self.table();
        let mut nodes = self.rows_of(&table);
        let Led { term, primary, quorum, mints } = self.leader();
        // Two that both call themselves primary: at most one is.
        for row in nodes
            .iter_mut()
            .filter(|row| row.name != primary && row.node_role() == NodeRole::Primary)
        {
            NodeRole::Isolated.as_str().clone_into(&mut row.role);
        }
        let mut problems = Vec::new();
        let takes_part = matches!(self.inner.body, Body::Whole(_));
        if !quorum && mints {
            let detail = match takes_part {
                true => {
                    format!("writes are refused, reads work with --stale{}", self.lost_majority())
                }
                false => "as far as a node that takes no part can tell".to_owned(),
            };
            problems.push(Problem::new(ProblemCode::NoQuorum).detail(detail));
        }
        let noted = |node: &NodeRow| {
            let row = table.members.iter().find(|row| row.name == node.name);
            row.is_none_or(|row| node.incarnation <= row.starts)
        };
        problems.extend(nodes.iter().flat_map(|node| problems_of(node, noted(node))));
        let repaired = table.members.iter().filter_map(|row| Some((row, row.repair.as_ref()?)));
        let repaired = repaired.filter(|(row, _)| row.noticed() != MemberState::Removed);
        for (row, repair) in repaired {
            // It restarts with its new store: a moment of that is no absence.
            problems.retain(|p| p.subject != row.name || p.kind() != ProblemCode::NodeNotBack);
            problems.push(Problem::new(ProblemCode::Repairing).of(&row.name).detail(&repair.why));
        }
        // It has no table that could say so.
        problems.retain(|problem| takes_part || problem.kind() != ProblemCode::NodeNotNoted);
        for problem in reach::problems(&self.seen(&nodes), &primary, self.inner.name.as_str()) {
            if problems.iter().all(|known: &Problem| known.key() != problem.key()) {
                problems.push(problem);
            }
        }
        let stats = match &self.inner.body {
            Body::Whole(core) => {
                let view = core.store.snapshot().ok();
                view.and_then(|view| view.judged(query::stats(&view)).ok())
            }
            Body::Repairing(_) => None,
        };
        Status {
            cluster: self.inner.identity.cluster.to_string(),
            term,
            primary,
            quorum,
            nodes,
            problems,
            last_seq: stats.map_or(0, |stats| stats.last_seq),
            first_seq: stats.map_or(0, |stats| stats.first_seq),
            bytes: stats.map_or(0, |stats| stats.bytes),
            settings: self.settings(),
        }
    }

    /// What a write would find that came to this node now.
    pub(super) fn leader(&self) -> Led {
        let can_mint = |problems: &[Problem]| {
            problems.iter().all(|problem| problem.kind() != ProblemCode::ClockBehind)
        };
        let heard = |name: &str| self.inner.members.heard(name).filter(|heard| self.sees_up(heard));
        // Another node leads if it answers, says so itself, in no older term, and is followed.
        let led_by = |heard: &PeerStatus, term: u64| {
            let info = &heard.info;
            (NodeRole::read(&info.role) == NodeRole::Primary && info.term >= term && info.followed)
                .then(|| (info.name.clone(), can_mint(&info.problems)))
        };
        let (term, found) = match &self.inner.body {
            Body::Repairing { .. } => {
                let all = self.inner.members.all_heard();
                let leading = all.values().filter(|heard| self.sees_up(heard));
                let leading = leading.filter(|heard| led_by(heard, 0).is_some());
                let leading = leading.max_by_key(|heard| heard.info.term);
                let term = leading.map_or(0, |heard| heard.info.term);
                (term, leading.and_then(|heard| led_by(heard, 0)))
            }
            Body::Whole(core) => {
                let view = core.engine.view().borrow().clone();
                let found = if view.is_primary() {
                    let fed = self.fed(core, &view);
                    let mints = self.inner.node_clock.behind().is_none();
                    fed.followed.then(|| (self.inner.name.to_string(), mints))
                } else {
                    let primary = view.primary_member().map(|(_, member)| &member.name);
                    let heard = primary.and_then(|name| heard(name));
                    heard.and_then(|heard| led_by(&heard, view.term))
                };
                (view.term, found)
            }
        };
        let mints = found.as_ref().is_none_or(|(_, mints)| *mints);
        let quorum = found.as_ref().is_some_and(|(_, mints)| *mints);
        let primary = found.map(|(name, _)| name).unwrap_or_default();
        Led { term, primary, quorum, mints }
    }

    /// Whether another node is up, as far as this one can tell. Who takes no part may be refused an answer
    /// by nodes that are well: it goes by their questions.
    pub(super) fn sees_up(&self, heard: &PeerStatus) -> bool {
        match &self.inner.body {
            Body::Whole(_) => heard.is_up(),
            Body::Repairing(_) => heard.speaks(),
        }
    }

    /// The members as they are seen from here.
    fn seen(&self, rows: &[NodeRow]) -> Vec<Seen> {
        let own = self.inner.name.as_str();
        let seen = |row: &NodeRow| {
            let mut seen = Seen {
                name: row.name.clone(),
                voter: row.voter,
                may_go: row.drained || row.left() == Some(LeftReason::Stopped),
                table: row.address.clone(),
                ..Seen::default()
            };
            if row.name == own {
                let info = self.info();
                (seen.speaks, seen.answers, seen.run) = (true, true, self.inner.began.elapsed());
                (seen.reaches, seen.unfed) = (info.reaches, info.unfed);
                let before = self.inner.members.applied_before();
                seen.applied = before.map(|before| before.min(info.applied));
                (seen.term, seen.log_end) = (info.term, info.last_index);
            } else if let Some(heard) = self.inner.members.heard(&row.name) {
                seen.may_go |= heard.info.leaving;
                (seen.speaks, seen.answers, seen.run) =
                    (heard.speaks(), self.sees_up(&heard), heard.run());
                heard.claims().unwrap_or_default().clone_into(&mut seen.claims);
                seen.two = heard.is_two(&row.address);
                seen.applied = heard.applied_for_long();
                (seen.term, seen.log_end) = (heard.info.term, heard.info.last_index);
                (seen.reaches, seen.unfed) = (heard.info.reaches, heard.info.unfed);
            }
            seen
        };
        rows.iter().map(seen).collect()
    }

    /// One line for the service manager.
    pub(crate) fn summary(&self) -> String {
        let info = self.info();
        let clock = info.clock.unwrap_or_default();
        let bound = match error_bound_us(&clock) {
            Some(us) => format!("±{}.{:03} ms", us / 1000, us % 1000),
            None => "without bounds".to_owned(),
        };
        let follows = NodeRole::read(&info.role) == NodeRole::Backup && !info.primary.is_empty();
        let role = if follows { format!("{} of {}", info.role, info.primary) } else { info.role };
        let trouble = if info.problems.is_empty() {
            String::new()
        } else {
            let texts: Vec<_> = info.problems.iter().map(Problem::text).collect();
            format!("; {}", texts.join("; "))
        };
        let (term, applied, state) = (info.term, info.applied, clock.state);
        format!("{role}, term {term}, applied {applied}, clock {state} {bound}{trouble}")
    }
}

/// What a person should look at in a node. A drained one may go whenever it likes, and so may one
/// without a vote that says so before: neither takes anything from what the cluster can bear. `noted`:
/// the table knows its last start; until then rings leave out whom they have seen fail.
fn problems_of(node: &NodeRow, noted: bool) -> Vec<Problem> {
    let name = node.name.as_str();
    let told = node.problems.iter().filter(|_| node.up);
    let mut problems: Vec<_> = told.map(|problem| problem.clone().of(name)).collect();
    // Who has no vote yet catches up; that is no trouble.
    if node.up && node.voter && node.lag > LAG_WORTH_SAYING {
        problems.push(Problem::new(ProblemCode::Lagging).of(name).detail(node.lag));
    }
    let admitted = node.noticed() == Some(MemberState::Admitted);
    // A newcomer comes when it likes. This one had a store that was started, and the cluster went on without
    // it: whoever was promised so many nodes has to know that it is not there.
    let was_here = admitted && node.incarnation > 0;
    let why = match (node.left(), node.up) {
        (Some(LeftReason::CutOff), _) => ProblemCode::NodeCutOff,
        // It takes no part: that it does not prove its store is all there is to say.
        (_, true) if takes_no_part(node) => return problems,
        // Its ring has a gap until a primary has noted it: a table of twelve requests shows it.
        (_, true)
            if node.voter && !node.drained && (node.state.is_empty() || !node.serves || !noted) =>
        {
            ProblemCode::NodeNotNoted
        }
        (_, true) => return problems,
        (Some(LeftReason::Stopped), false) => ProblemCode::NodeStopped,
        (Some(LeftReason::Unreachable), false) => ProblemCode::NodeUnreachable,
        (Some(LeftReason::Removed) | None, false) if was_here => ProblemCode::NodeNotBack,
        (Some(LeftReason::Removed) | None, false) if admitted => ProblemCode::NodeNeverHeard,
        (Some(LeftReason::Removed) | None, false) => ProblemCode::NodeDown,
    };
    let never_came = admitted && !was_here;
    let calm = !node.voter && (never_came || node.left() == Some(LeftReason::Stopped));
    if !node.drained && !calm {
        let comes_back = why == ProblemCode::NodeNotBack;
        let detail = format!("start it, or give it up: logctl node remove {name}");
        let detail = if comes_back { detail } else { String::new() };
        problems.push(Problem::new(why).of(name).detail(detail));
    }
    problems
}

fn takes_no_part(node: &NodeRow) -> bool {
    node.problems.iter().any(|problem| problem.kind() == ProblemCode::Damaged)
}

/// Error bound of a clock, microseconds; `None` if it has none that counts. A suspect clock reports
/// what it believed, for its peers; nobody else may take it for a bound.
pub(super) fn error_bound_us(clock: &ClockReport) -> Option<u64> {
    if clock.state == ClockState::Suspect.as_str() {
        return None;
    }
    let reading = Reading {
        now_ns: clock.now_ns,
        earliest_ns: clock.earliest_ns,
        latest_ns: clock.latest_ns,
    };
    reading.error_us()
}

/// Where a file says something else than the cluster. It does nothing any more, so it misleads.
fn disagreements(file: &FileSettings, cluster: &Settings) -> Vec<Problem> {
    let differs = |setting: &str| Problem::new(ProblemCode::SettingDiffers).about(setting);
    let mut out = Vec::new();
    if let Some(ms) = file.max_error_ms
        && u64::from(ms) * 1000 != cluster.max_clock_error_us
    {
        let (whole, part) = (cluster.max_clock_error_us / 1000, cluster.max_clock_error_us % 1000);
        let cluster = if part == 0 { whole.to_string() } else { format!("{whole}.{part:03}") };
        let detail = format!("the file says {ms}, the cluster has {cluster}");
        out.push(differs("max_error_ms").detail(detail));
    }
    let refuses = cluster.on_loss == i32::from(proto::wire::OnLoss::Refuse);
    let on_loss = if refuses { OnLoss::Refuse } else { OnLoss::Degrade };
    if let Some(said) = file.on_loss
        && said != on_loss
    {
        let detail = format!("the file says \"{said}\", the cluster has \"{on_loss}\"");
        out.push(differs("on_loss").detail(detail));
    }
    let limit = |value: u64| if value == 0 { "none".to_owned() } else { value.to_string() };
    let age = |ms: u64| if ms == 0 { "none".to_owned() } else { age_text(ms) };
    let mut compare =
        |key: &str, said: Option<u64>, set: Option<u64>, text: &dyn Fn(u64) -> String| {
            if let (Some(said), Some(set)) = (said, set)
                && said != set
            {
                let detail = format!("the file says {}, the cluster has {}", text(said), text(set));
                out.push(differs(key).detail(detail));
            }
        };
    compare("max_age", file.max_age_ms, cluster.retain_age_ms, &age);
    compare("max_records", file.max_records, cluster.retain_count, &limit);
    compare("max_bytes", file.max_bytes, cluster.retain_bytes, &limit);
    let life = |s: u64| age_text(s.saturating_mul(1000));
    compare("cert_life", file.cert_life_s, cluster.cert_life_s, &life);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the comparison of defaults: a file that says nothing complained as soon as
    /// the cluster's setting was changed.
    #[test]
    fn a_file_is_compared_only_in_what_it_says() {
        let cluster = Settings { max_clock_error_us: 2500, on_loss: 1, ..Settings::default() };
        assert_eq!(disagreements(&FileSettings::default(), &cluster), []);
        let file = FileSettings {
            max_error_ms: Some(50),
            on_loss: Some(OnLoss::Degrade),
            ..FileSettings::default()
        };
        let texts = |file: &FileSettings, cluster: &Settings| {
            disagreements(file, cluster).iter().map(Problem::text).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(&file, &cluster),
            [
                "its file disagrees about max_error_ms: the file says 50, the cluster has 2.500",
                "its file disagrees about on_loss: the file says \"degrade\", the cluster has \
                 \"refuse\""
            ]
        );
        let same = Settings { max_clock_error_us: 50_000, on_loss: 0, ..Settings::default() };
        assert_eq!(disagreements(&file, &same), []);
        let file = FileSettings {
            max_age_ms: Some(86_400_000),
            max_records: Some(9),
            max_bytes: Some(7),
            cert_life_s: Some(90),
            ..FileSettings::default()
        };
        assert_eq!(disagreements(&file, &same), [], "nobody has set it");
        let set = Settings {
            retain_age_ms: Some(0),
            retain_count: Some(9),
            retain_bytes: Some(8),
            cert_life_s: Some(60),
            ..same
        };
        assert_eq!(
            texts(&file, &set),
            [
                "its file disagrees about max_age: the file says 1d, the cluster has none",
                "its file disagrees about max_bytes: the file says 7, the cluster has 8",
                "its file disagrees about cert_life: the file says 90s, the cluster has 1m"
            ]
        );
    }

    #[test]
    fn what_a_suspect_clock_believed_is_no_bound() {
        let mut clock = ClockReport {
            state: "synced".to_owned(),
            now_ns: 10_000,
            earliest_ns: Some(4_000),
            latest_ns: Some(13_000),
            ..ClockReport::default()
        };
        assert_eq!(error_bound_us(&clock), Some(6));
        "suspect".clone_into(&mut clock.state);
        assert_eq!(error_bound_us(&clock), None);
    }

    /// Seen to fail with drained nodes counted, with a stopped voter let go, with the lag of a learner
    /// counted, and with all that were admitted let go: after a majority was lost the one that went on was
    /// "healthy" alone.
    #[test]
    fn who_may_go_is_no_problem_and_everybody_else_is() {
        let node = |up, voter, drained, state: &str, reason: &str| NodeRow {
            name: "n2".to_owned(),
            up,
            voter,
            drained,
            state: state.to_owned(),
            reason: reason.to_owned(),
            lag: LAG_WORTH_SAYING + 1,
            serves: matches!(state, "" | "joined" | "suspect") && !drained,
            ..NodeRow::default()
        };
        for (row, expected) in [
            (node(true, true, false, "joined", ""), "n2: entries behind: 10001"),
            (node(true, false, false, "joined", ""), ""),
            (node(false, true, false, "joined", ""), "n2 does not answer"),
            (node(false, true, false, "suspect", ""), "n2 does not answer"),
            (node(false, true, false, "", ""), "n2 does not answer"),
            (node(false, true, false, "left", "stopped"), "n2 stopped"),
            (node(false, false, false, "left", "stopped"), ""),
            (node(false, true, true, "left", "stopped"), ""),
            (node(false, true, false, "left", "unreachable"), "n2 is unreachable"),
            (node(false, false, false, "left", "unreachable"), "n2 is unreachable"),
            (node(false, true, true, "left", "unreachable"), ""),
            (
                node(true, false, false, "left", "cut off"),
                "n2 is cut off: some nodes reach it and some do not",
            ),
            (node(false, false, false, "admitted", ""), ""),
            (node(true, false, false, "admitted", ""), ""),
            (
                NodeRow { incarnation: 2, ..node(false, false, false, "admitted", "") },
                "n2 has not come back with a new store yet: start it, or give it up: logctl node remove n2",
            ),
            (NodeRow { incarnation: 2, ..node(true, false, false, "admitted", "") }, ""),
            (NodeRow { incarnation: 2, ..node(false, false, true, "admitted", "") }, ""),
            (
                node(true, true, false, "", ""),
                "n2: entries behind: 10001; n2 is up, but the table of nodes does not say so yet",
            ),
            (
                node(true, true, false, "admitted", ""),
                "n2: entries behind: 10001; n2 is up, but the table of nodes does not say so yet",
            ),
            (
                node(false, true, false, "admitted", ""),
                "n2 was admitted and has not been heard from yet",
            ),
        ] {
            let texts: Vec<_> = problems_of(&row, true).iter().map(Problem::to_string).collect();
            assert_eq!(texts.join("; "), expected, "{row:?}");
        }
        let full = Problem::new(ProblemCode::DiskFull);
        let own = NodeRow { problems: vec![full.clone()], ..node(true, false, true, "", "") };
        assert_eq!(problems_of(&own, true), [full.of("n2")], "what a drained node says counts");
        // Its start is not in the table yet: rings that saw it fail leave it out.
        let row = NodeRow { lag: 0, ..node(true, true, false, "joined", "") };
        assert_eq!(problems_of(&row, true), []);
        assert_eq!(problems_of(&row, false), [Problem::new(ProblemCode::NodeNotNoted).of("n2")]);
        // Seen to fail: it was said beside it, for as long as that lasted.
        let damaged = Problem::new(ProblemCode::Damaged);
        let repairing = NodeRow { problems: vec![damaged.clone()], ..row };
        assert_eq!(problems_of(&repairing, false), [damaged.of("n2")]);
    }
}
