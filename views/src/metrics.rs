//! The cluster as metrics, in Prometheus's text format: base units, `_seconds`, `_total`, one
//! `# HELP` and `# TYPE` for each name.
//!
//! A value that nobody knows has no sample: no zero stands for it.

use std::fmt::Write as _;

use clock::ClockState;
use proto::wire::{ClockReport, NodeRow, Status};

use crate::clocks::{decimal, error_bound_ns};

/// What one node answered.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// Its name.
    pub node: String,
    /// Its clock; `None` if it did not answer.
    pub clock: Option<ClockReport>,
}

/// All values of one name.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: Vec<(Labels, String)>,
}

type Labels = Vec<(&'static str, String)>;

impl Family {
    fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: "gauge", samples: Vec::new() }
    }

    fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: "counter", samples: Vec::new() }
    }

    fn with(mut self, samples: impl IntoIterator<Item = (Labels, String)>) -> Self {
        self.samples.extend(samples);
        self
    }

    fn write(&self, out: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        // Writing into a String cannot fail.
        let _ = writeln!(out, "# HELP {} {}", self.name, self.help);
        let _ = writeln!(out, "# TYPE {} {}", self.name, self.kind);
        for (labels, value) in &self.samples {
            let labels: Vec<String> =
                labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escaped(text))).collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(out, "{}{labels} {value}", self.name);
        }
    }
}

/// The text of a status and of what each node says of itself. `healthy` is the verdict on it all.
pub fn text(status: &Status, nodes: &[NodeFacts], healthy: bool, degraded: bool) -> String {
    let mut out = String::new();
    let clocks = clocks(nodes);
    let families = cluster_families(status, healthy, degraded)
        .into_iter()
        .chain(node_families(status, nodes))
        .chain(clock_families(&clocks))
        .chain(source_families(&clocks));
    for family in families {
        family.write(&mut out);
    }
    out
}

/// The clocks that are known.
fn clocks(nodes: &[NodeFacts]) -> Vec<(&str, &ClockReport)> {
    nodes.iter().filter_map(|facts| Some((facts.node.as_str(), facts.clock.as_ref()?))).collect()
}

fn cluster_families(status: &Status, healthy: bool, degraded: bool) -> Vec<Family> {
    let one = |value: String| [(Labels::new(), value)];
    vec![
        Family::gauge("logd_healthy", "Whether nothing in the cluster needs a look.")
            .with(one(flag(healthy))),
        Family::gauge("logd_problems", "Things that a person should look at.")
            .with(one(status.problems.len().to_string())),
        Family::gauge("logd_quorum", "Whether a write would find a majority.")
            .with(one(flag(status.quorum))),
        Family::gauge("logd_term", "Raft term.").with(one(status.term.to_string())),
        Family::gauge(
            "logd_clock_degraded",
            "Whether the cluster leads on a clock that is not good enough, or cannot lead for it.",
        )
        .with(one(flag(degraded))),
        Family::gauge(
            "logd_clock_error_limit_seconds",
            "Largest error bound of a clock with which a node may be primary.",
        )
        .with(status.settings.map(|settings| (Labels::new(), micros(settings.max_clock_error_us)))),
    ]
}

fn node_families(status: &Status, nodes: &[NodeFacts]) -> Vec<Family> {
    let each = |value: fn(&NodeRow) -> String| {
        status.nodes.iter().map(move |row| (vec![("node", row.name.clone())], value(row)))
    };
    let up = nodes.iter().map(|facts| (of(&facts.node), flag(facts.clock.is_some())));
    let build = status.nodes.iter().filter(|row| !row.version.is_empty()).map(|row| {
        (vec![("node", row.name.clone()), ("version", row.version.clone())], flag(true))
    });
    let certified = || status.nodes.iter().filter(|row| row.not_after_unix_s != 0);
    let ends = certified().map(|row| (of(&row.name), row.not_after_unix_s.to_string()));
    // By the node's own clock: this machine's may be another one.
    let left = certified().filter_map(|row| {
        let facts = nodes.iter().find(|facts| facts.node == row.name)?;
        let now_s = i64::try_from(facts.clock.as_ref()?.now_ns / 1_000_000_000).ok()?;
        Some((of(&row.name), row.not_after_unix_s.saturating_sub(now_s).to_string()))
    });
    let scrubbed = || status.nodes.iter().filter_map(|row| Some((row, row.scrub?)));
    vec![
        Family::gauge("logd_cert_expiry_timestamp_seconds", "Last moment of the certificate.")
            .with(ends),
        Family::gauge("logd_cert_left_seconds", "What is left of it; below 0 once it has expired.")
            .with(left),
        Family::gauge(
            "logd_scrub_rounds",
            "Times that the node has read its whole disk again since it started.",
        )
        .with(scrubbed().map(|(row, scrub)| (of(&row.name), scrub.rounds.to_string()))),
        Family::gauge("logd_scrub_age_seconds", "Time since it last came to the end of that.")
            .with(scrubbed().filter_map(|(row, scrub)| {
                Some((of(&row.name), scrub.last_round_age_s?.to_string()))
            })),
        Family::gauge("logd_up", "Whether the node answers logctl.").with(up),
        Family::gauge("logd_build_info", "Release of the node.").with(build),
        Family::gauge("logd_is_primary", "Whether the node is the primary.")
            .with(status.nodes.iter().map(|row| (of(&row.name), flag(row.name == status.primary)))),
        Family::gauge("logd_applied_entries", "Index of the last applied entry.")
            .with(each(|row| row.applied.to_string())),
        Family::gauge("logd_replication_lag_entries", "Entries behind the most advanced node.")
            .with(each(|row| row.lag.to_string())),
    ]
}

fn clock_families(clocks: &[(&str, &ClockReport)]) -> Vec<Family> {
    let each = |value: fn(&ClockReport) -> Option<String>| {
        clocks.iter().filter_map(move |(node, clock)| Some((of(node), value(clock)?)))
    };
    let states = clocks.iter().flat_map(|(node, clock)| {
        ClockState::ALL.into_iter().map(move |state| {
            let labels = vec![("node", (*node).to_owned()), ("state", state.to_string())];
            (labels, flag(clock.state == state.as_str()))
        })
    });
    let peers = clocks.iter().flat_map(|(node, clock)| {
        clock.peers.iter().map(|peer| {
            let labels = vec![("node", (*node).to_owned()), ("peer", peer.node.clone())];
            (labels, decimal(peer.offset_ns.into()))
        })
    });
    vec![
        Family::gauge("logd_clock_synchronized", "Whether enough time servers answer and agree.")
            .with(each(|clock| Some(flag(clock.state == ClockState::Synced.as_str())))),
        Family::gauge("logd_clock_state", "State of the clock: 1 for the one it is in.")
            .with(states),
        Family::gauge("logd_clock_error_bound_seconds", "How far the clock may be wrong at most.")
            .with(each(|clock| error_bound_ns(clock).map(|ns| decimal(ns.into())))),
        Family::gauge("logd_clock_may_lead", "Whether the node may be primary with this clock.")
            .with(each(|clock| Some(flag(clock.may_lead)))),
        Family::gauge(
            "logd_clock_refusal_seconds",
            "Time until the bound passes the limit if no server answers.",
        )
        .with(each(|clock| clock.refusal_in_ms.map(|ms| micros(ms.saturating_mul(1000))))),
        Family::gauge(
            "logd_clock_drift_allowance_ratio",
            "Drift that the bound allows for, seconds a second.",
        )
        .with(each(|clock| Some(decimal(clock.drift_ppb.into())))),
        Family::gauge(
            "logd_clock_slew_seconds",
            "What the reading is still moved by: target minus reading.",
        )
        .with(each(|clock| Some(decimal(clock.slew_ns.into())))),
        Family::gauge(
            "logd_hlc_ahead_of_physical_seconds",
            "How far the highest stamp lies ahead of the reading.",
        )
        .with(each(|clock| Some(decimal(clock.lead_ns.into())))),
        Family::counter(
            "logd_clock_epochs_total",
            "How often the clock was set: once, and at each disruption.",
        )
        .with(each(|clock| Some(clock.epoch.to_string()))),
        Family::gauge("logd_clock_peer_offset_seconds", "Another node's reading minus the node's.")
            .with(peers),
    ]
}

fn source_families(clocks: &[(&str, &ClockReport)]) -> Vec<Family> {
    let sources = || {
        clocks.iter().flat_map(|(node, clock)| {
            clock.sources.iter().map(move |source| {
                (vec![("node", (*node).to_owned()), ("source", source.address.clone())], source)
            })
        })
    };
    let sampled = || sources().filter(|(_, source)| source.age_ms.is_some());
    let rejected = sources().flat_map(|(labels, source)| {
        source.refused.iter().map(move |refused| {
            let reason = [("reason", refused.reason.clone())];
            (labels.iter().cloned().chain(reason).collect(), refused.count.to_string())
        })
    });
    vec![
        Family::gauge("logd_clock_offset_seconds", "The server's time minus the node's reading.")
            .with(sampled().map(|(labels, s)| (labels, decimal(s.offset_ns.into())))),
        Family::gauge(
            "logd_clock_root_distance_seconds",
            "How far the server's time may be wrong from here.",
        )
        .with(sampled().map(|(labels, s)| (labels, decimal(s.distance_ns.into())))),
        Family::gauge(
            "logd_clock_source_selected",
            "Whether the server takes part and agrees with the majority.",
        )
        .with(sources().map(|(labels, s)| (labels, flag(s.is_selected())))),
        Family::counter(
            "logd_clock_sample_rejected_total",
            "Answers of the server that were refused, by reason.",
        )
        .with(rejected),
    ]
}

fn of(node: &str) -> Labels {
    vec![("node", node.to_owned())]
}

fn flag(is: bool) -> String {
    u8::from(is).to_string()
}

fn micros(us: u64) -> String {
    decimal(i128::from(us) * 1000)
}

/// A label's value: backslash, quote and line end are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
