//! What passes through a node, and how long that takes.

use proto::stage::{BUCKETS, Counted, Stage, first_of};

use super::cluster::own;
use super::shape::{Buckets, Family, Kind, Sample};
use super::{Seen, Work};

use Kind::{Counter, Gauge, Histogram};

pub(super) const FAMILIES: &[Family] = &[
    Family::of_node(
        (Gauge, "logd_applied_entries"),
        "Index of the last applied entry.",
        &[],
        |seen| own(seen).map(|row| Sample::whole(row.applied)).into_iter().collect(),
    ),
    Family::of_node(
        (Gauge, "logd_replication_lag_entries"),
        "Entries behind the most advanced node.",
        &[],
        |seen| own(seen).map(|row| Sample::whole(row.lag)).into_iter().collect(),
    ),
    Family::of_node(
        (Gauge, "logd_peer_lag_entries"),
        "On the primary: entries that another node's log is behind.",
        &["peer"],
        |seen| {
            let behind = work(seen).flat_map(|work| &work.behind);
            behind.map(|(peer, entries)| Sample::whole(*entries).with(peer)).collect()
        },
    ),
    Family::of_node((Gauge, "logd_first_seq"), "Lowest seq that is kept.", &[], |seen| {
        work(seen).map(|_| Sample::whole(seen.facts.status.first_seq)).collect()
    }),
    Family::of_node((Gauge, "logd_last_seq"), "Highest seq.", &[], |seen| {
        work(seen).map(|_| Sample::whole(seen.facts.status.last_seq)).collect()
    }),
    Family::of_node((Gauge, "logd_record_bytes"), "Bytes of the records that are kept.", &[], {
        |seen| work(seen).map(|_| Sample::whole(seen.facts.status.bytes)).collect()
    }),
    Family::of_node((Counter, "logd_records"), "Records that the node has applied.", &[], |seen| {
        work(seen).map(|work| Sample::whole(work.records)).collect()
    }),
    Family::of_node(
        (Counter, "logd_duplicates"),
        "Messages that came again with an id that was stored before.",
        &[],
        |seen| work(seen).map(|work| Sample::whole(work.duplicates)).collect(),
    ),
    Family::of_node((Counter, "logd_pairs"), "Neighbours in the order of the log.", &[], |seen| {
        work(seen).map(|work| Sample::whole(work.pairs.all)).collect()
    }),
    Family::of_node(
        (Counter, "logd_pairs_unproven"),
        "Those whose order is agreed and not proven: their bounds overlap, or are not known.",
        &[],
        |seen| work(seen).map(|work| Sample::whole(work.pairs.unproven)).collect(),
    ),
    Family::of_node(
        (Gauge, "logd_pairs_unproven_ratio"),
        "Share of those in the last 1,024 neighbours.",
        &[],
        |seen| {
            let known = work(seen).map(|work| work.pairs).filter(|pairs| pairs.last > 0);
            let share = known.map(|pairs| pairs.last_unproven as f64 / pairs.last as f64);
            share.map(Sample::real).collect()
        },
    ),
    Family::of_node(
        (Counter, "logd_stamps_raised"),
        "Stamps that had to be raised at apply; expected to stay 0.",
        &[],
        |seen| work(seen).map(|work| Sample::whole(work.stamps_raised)).collect(),
    ),
    Family::of_node(
        (Gauge, "logd_queue_commands"),
        "Commands that wait to be put into an entry.",
        &[],
        |seen| work(seen).map(|work| Sample::whole(work.queued_commands)).collect(),
    ),
    Family::of_node(
        (Gauge, "logd_queue_disk_bytes"),
        "Bytes that wait for the disk.",
        &[],
        |seen| work(seen).map(|work| Sample::whole(work.queued_bytes)).collect(),
    ),
    Family::of_node(
        (Gauge, "logd_longest_wait_seconds"),
        "How long the command has waited that waits longest for a majority.",
        &[],
        |seen| work(seen).map(|work| Sample::micros(work.longest_wait_us)).collect(),
    ),
    Family::of_node(
        (Histogram, "logd_append_duration_seconds"),
        "Stages of a message's way: how long each took.",
        &["stage"],
        |seen| {
            let way = |stage: &Stage| stage.is_time() && *stage != Stage::Sync;
            let told = |stage: Stage| Some(histogram(seen, stage)?.with(stage.as_str()));
            Stage::ALL.into_iter().filter(way).filter_map(told).collect()
        },
    ),
    Family::of_node(
        (Histogram, "logd_fsync_duration_seconds"),
        "How long syncs of the log took.",
        &[],
        |seen| histogram(seen, Stage::Sync).into_iter().collect(),
    ),
    Family::of_node(
        (Histogram, "logd_entry_commands"),
        "Commands in an entry that the node made as primary.",
        &[],
        |seen| histogram(seen, Stage::Commands).into_iter().collect(),
    ),
    Family::of_node(
        (Counter, "logd_requests"),
        "Requests of clients that were answered, refusals too.",
        &[],
        |seen| vec![Sample::whole(seen.facts.requests)],
    ),
    Family::of_node(
        (Counter, "logd_http_requests"),
        "Requests over HTTPS that were answered, by route and status code.",
        &["route", "code"],
        |seen| {
            let counts = seen.facts.http.iter();
            let sample = counts.map(|http| Sample::whole(http.count).with(&http.route));
            let codes = seen.facts.http.iter().map(|http| http.code.to_string());
            sample.zip(codes).map(|(sample, code)| sample.with(code)).collect()
        },
    ),
    Family::of_node(
        (Gauge, "logd_connected_clients"),
        "Clients that are connected.",
        &[],
        |seen| vec![Sample::whole(seen.facts.connected_clients)],
    ),
];

fn work(seen: &Seen) -> impl Iterator<Item = &Work> {
    seen.facts.work.iter()
}

/// Doublings of which the first and the last one with an end of its own are shown, in microseconds: 64 µs to
/// 16 s; of sizes from 4 on.
const TIMES: std::ops::RangeInclusive<usize> = 5..=BUCKETS / 4 - 1;
const SIZES: std::ops::RangeInclusive<usize> = 1..=11;

/// What was counted of a stage, by doublings: a fourth of the buckets are enough for a scrape.
fn histogram(seen: &Seen, stage: Stage) -> Option<Sample> {
    let stages = &seen.facts.work.as_ref()?.stages;
    let counted = stages.iter().find(|counted| counted.stage == i32::from(stage))?;
    Some(Sample::buckets(buckets(counted, stage.is_time())))
}

fn buckets(counted: &Counted, time: bool) -> Buckets {
    let doublings = if time { TIMES } else { SIZES };
    let (mut counts, mut from) = (Vec::new(), 0);
    for doubling in doublings {
        let to = doubling * 4;
        let below = counted.buckets.iter().skip(from).take(to - from).sum();
        // A time was cut to whole microseconds, so it is below the next; a size is what it is.
        let end = first_of(to);
        let end = if time { end as f64 / 1e6 } else { end.saturating_sub(1) as f64 };
        counts.push((end, below));
        from = to;
    }
    counts.push((f64::INFINITY, counted.buckets.iter().skip(from).sum()));
    let sum = counted.sum as f64;
    Buckets { sum: if time { sum / 1e6 } else { sum }, counts }
}

#[cfg(test)]
mod tests {
    use proto::stage::bucket_of;

    use super::*;

    /// Seen to fail with: an end that is a bucket off.
    #[test]
    fn nothing_is_lost_and_nothing_is_above_its_end() {
        for (time, values) in [
            (true, vec![0, 63, 64, 127, 128, 1_000_000, u64::MAX]),
            (false, vec![1, 3, 4, 4095, 9000]),
        ] {
            for value in values {
                let mut counted = Counted { buckets: vec![0; BUCKETS], ..Counted::default() };
                counted.buckets[bucket_of(value)] = 1;
                let Buckets { counts, .. } = buckets(&counted, time);
                let (end, _) = *counts.iter().find(|(_, count)| *count == 1).unwrap();
                let before = counts.iter().rev().map(|(end, _)| *end).find(|e| *e < end);
                let value = if time { value as f64 / 1e6 } else { value as f64 };
                assert!(
                    value <= end && before.is_none_or(|before| value >= before),
                    "{value} {end}"
                );
            }
        }
    }
}
