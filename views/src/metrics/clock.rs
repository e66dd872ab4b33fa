//! A node's clock, its time servers, and the other nodes' clocks as it sees them.

use clock::ClockState;
use proto::wire::{ClockReport, ClockSource};

use super::Seen;
use super::shape::{Family, Kind, Sample};
use crate::clocks::error_bound_ns;

use Kind::{Counter, Gauge};

pub(super) const FAMILIES: &[Family] = &[
    Family::of_node(
        (Gauge, "logd_clock_synchronized"),
        "Whether enough time servers answer and agree.",
        &[],
        |seen| known(seen, |clock| Some(Sample::flag(clock.state == ClockState::Synced.as_str()))),
    ),
    Family::of_node(
        (Gauge, "logd_clock_state"),
        "State of the clock: 1 for the one it is in.",
        &["state"],
        |seen| {
            let clock = &seen.facts.clock;
            let flag = |state: ClockState| Sample::flag(clock.state == state.as_str());
            let states = ClockState::ALL.into_iter();
            states.map(|state| flag(state).with(state.as_str())).collect()
        },
    ),
    Family::of_node(
        (Gauge, "logd_clock_error_bound_seconds"),
        "How far the clock may be wrong at most.",
        &[],
        |seen| known(seen, |clock| error_bound_ns(clock).map(|ns| Sample::nanos(ns.into()))),
    ),
    Family::of_node(
        (Gauge, "logd_clock_earliest_offset_seconds"),
        "Lower end of the interval that holds true time, minus the reading.",
        &[],
        |seen| known(seen, |clock| from_reading(clock, clock.earliest_ns)),
    ),
    Family::of_node(
        (Gauge, "logd_clock_latest_offset_seconds"),
        "Upper end of the interval that holds true time, minus the reading.",
        &[],
        |seen| known(seen, |clock| from_reading(clock, clock.latest_ns)),
    ),
    Family::of_node(
        (Gauge, "logd_clock_may_lead"),
        "Whether the node may be primary with this clock.",
        &[],
        |seen| known(seen, |clock| Some(Sample::flag(clock.may_lead))),
    ),
    Family::of_node(
        (Gauge, "logd_clock_refusal_seconds"),
        "Time until the bound passes the limit if no server answers.",
        &[],
        |seen| {
            known(seen, |clock| {
                clock.refusal_in_ms.map(|ms| Sample::micros(ms.saturating_mul(1000)))
            })
        },
    ),
    Family::of_node(
        (Gauge, "logd_clock_drift_allowance_ratio"),
        "Drift that the bound allows for, seconds a second.",
        &[],
        |seen| known(seen, |clock| Some(Sample::nanos(clock.drift_ppb.into()))),
    ),
    Family::of_node(
        (Gauge, "logd_clock_slew_seconds"),
        "What the reading is still moved by: target minus reading.",
        &[],
        |seen| known(seen, |clock| Some(Sample::nanos(clock.slew_ns.into()))),
    ),
    Family::of_node(
        (Gauge, "logd_hlc_ahead_of_physical_seconds"),
        "How far the highest stamp lies ahead of the reading.",
        &[],
        |seen| known(seen, |clock| Some(Sample::nanos(clock.lead_ns.into()))),
    ),
    Family::of_node(
        (Counter, "logd_clock_epochs"),
        "How often the clock was set: once, and at each disruption.",
        &[],
        |seen| known(seen, |clock| Some(Sample::whole(clock.epoch))),
    ),
    Family::of_node(
        (Gauge, "logd_clock_peer_offset_seconds"),
        "Another node's reading minus the node's.",
        &["peer"],
        |seen| {
            let peers = seen.facts.clock.peers.iter();
            peers.map(|peer| Sample::nanos(peer.offset_ns.into()).with(&peer.node)).collect()
        },
    ),
    Family::of_node(
        (Gauge, "logd_clock_offset_seconds"),
        "A time server's time minus the node's reading.",
        &["source"],
        |seen| sampled(seen, |source| Sample::nanos(source.offset_ns.into())),
    ),
    Family::of_node(
        (Gauge, "logd_clock_root_distance_seconds"),
        "How far the server's time may be wrong from here.",
        &["source"],
        |seen| sampled(seen, |source| Sample::nanos(source.distance_ns.into())),
    ),
    Family::of_node(
        (Gauge, "logd_clock_source_selected"),
        "Whether the server takes part and agrees with the majority.",
        &["source"],
        |seen| {
            let sources = seen.facts.clock.sources.iter();
            sources.map(|source| Sample::flag(source.is_selected()).with(&source.address)).collect()
        },
    ),
    Family::of_node(
        (Counter, "logd_clock_sample_rejected"),
        "Answers of the server that were refused, by reason.",
        &["source", "reason"],
        |seen| {
            let sources = seen.facts.clock.sources.iter();
            let each = |source: &ClockSource| {
                let count = |count: u64| Sample::whole(count).with(&source.address);
                let refused = source.refused.iter();
                refused
                    .map(|refused| count(refused.count).with(&refused.reason))
                    .collect::<Vec<_>>()
            };
            sources.flat_map(each).collect()
        },
    ),
];

fn known(seen: &Seen, value: fn(&ClockReport) -> Option<Sample>) -> Vec<Sample> {
    value(&seen.facts.clock).into_iter().collect()
}

/// Where an end of the band lies, if the node vouches for it: a suspect clock does not.
fn from_reading(clock: &ClockReport, end_ns: Option<u64>) -> Option<Sample> {
    error_bound_ns(clock)?;
    end_ns.map(|end| Sample::nanos(i128::from(end) - i128::from(clock.now_ns)))
}

/// Of the servers that have answered.
fn sampled(seen: &Seen, value: fn(&ClockSource) -> Sample) -> Vec<Sample> {
    let sampled = seen.facts.clock.sources.iter().filter(|source| source.age_ms.is_some());
    sampled.map(|source| value(source).with(&source.address)).collect()
}
