//! The cluster as a node sees it, and what is known of each node.

use proto::life::Life;
use proto::wire::NodeRow;
use proto::{Problem, ProblemCode};

use super::shape::{Family, Kind, Sample};
use super::{Disk, Seen};

use Kind::Gauge;

pub(super) const FAMILIES: &[Family] = &[
    Family::of_cluster(
        "logd_healthy",
        "Whether nothing in the cluster needs a look.",
        &[],
        |seen| vec![Sample::flag(seen.view.is_healthy())],
    ),
    Family::of_cluster("logd_problems", "Things that a person should look at.", &[], |seen| {
        vec![Sample::whole(seen.facts.status.problems.len() as u64)]
    }),
    Family::of_cluster("logd_problem", "The same of each kind.", &["kind"], |seen| {
        ProblemCode::all().map(|code| of_kind(&seen.facts.status.problems, code)).collect()
    }),
    Family::of_cluster("logd_quorum", "Whether a write would find a majority.", &[], |seen| {
        vec![Sample::flag(seen.facts.status.quorum)]
    }),
    Family::of_cluster("logd_term", "Raft term.", &[], |seen| {
        vec![Sample::whole(seen.facts.status.term)]
    }),
    Family::of_cluster("logd_nodes", "Nodes that are members.", &[], |seen| {
        vec![Sample::whole(seen.facts.status.nodes.len() as u64)]
    }),
    Family::of_cluster("logd_voters", "Nodes that vote.", &[], |seen| {
        vec![Sample::whole(seen.facts.status.nodes.iter().filter(|row| row.voter).count() as u64)]
    }),
    Family::of_cluster(
        "logd_clock_degraded",
        "Whether the cluster leads on a clock that is not good enough, or cannot lead for it.",
        &[],
        |seen| vec![Sample::flag(seen.view.is_clock_degraded())],
    ),
    Family::of_cluster(
        "logd_clock_error_limit_seconds",
        "Largest error bound of a clock with which a node may be primary.",
        &[],
        |seen| {
            let settings = seen.facts.status.settings.iter();
            settings.map(|settings| Sample::micros(settings.max_clock_error_us)).collect()
        },
    ),
    Family::of_node((Gauge, "logd_build_info"), "Release of the node.", &["version"], |seen| {
        let known = own(seen).filter(|row| !row.version.is_empty());
        known.map(|row| Sample::flag(true).with(&row.version)).into_iter().collect()
    }),
    Family::of_node((Gauge, "logd_ready"), "Whether the node takes reads and writes now.", &[], {
        |seen| vec![Sample::flag(seen.facts.ready)]
    }),
    Family::of_node((Gauge, "logd_is_primary"), "Whether the node is the primary.", &[], |seen| {
        vec![Sample::flag(seen.facts.status.primary == seen.facts.node)]
    }),
    Family::of_node(
        (Gauge, "logd_peer_up"),
        "Whether another node answers it.",
        &["peer"],
        |seen| others(seen).map(|row| Sample::flag(row.up).with(&row.name)).collect(),
    ),
    Family::of_node(
        (Gauge, "logd_peer_rtt_seconds"),
        "Round trip to another node.",
        &["peer"],
        |seen| {
            let known = others(seen).filter(|row| row.up && row.rtt_us > 0);
            known.map(|row| Sample::micros(row.rtt_us).with(&row.name)).collect()
        },
    ),
    Family::of_node(
        (Gauge, "logd_cert_expiry_timestamp_seconds"),
        "Last moment of a certificate: the node's own, and that of the cluster's authority.",
        &["cert"],
        |seen| {
            certs(seen).map(|(cert, life)| Sample::signed(life.until_unix_s).with(cert)).collect()
        },
    ),
    Family::of_node(
        (Gauge, "logd_cert_late_seconds"),
        "With less than this left it should have been renewed: two ninths of its life, 20 days at most.",
        &["cert"],
        |seen| certs(seen).map(|(cert, life)| Sample::signed(life.late_s()).with(cert)).collect(),
    ),
    Family::of_node(
        (Gauge, "logd_cert_left_seconds"),
        "What is left of it by the node's clock; below 0 once it has expired.",
        &["cert"],
        |seen| {
            let Some(now) = seen.now_unix_s else { return Vec::new() };
            let left = |life: Life| Sample::signed(life.until_unix_s.saturating_sub(now));
            certs(seen).map(|(cert, life)| left(life).with(cert)).collect()
        },
    ),
    Family::of_node(
        (Gauge, "logd_scrub_rounds"),
        "Times that the node has read its whole disk again since it started.",
        &[],
        |seen| {
            let scrub = own(seen).and_then(|row| row.scrub);
            scrub.map(|scrub| Sample::whole(scrub.rounds)).into_iter().collect()
        },
    ),
    Family::of_node(
        (Gauge, "logd_scrub_age_seconds"),
        "Time since it last came to the end of that.",
        &[],
        |seen| {
            let age = own(seen).and_then(|row| row.scrub?.last_round_age_s);
            age.map(Sample::whole).into_iter().collect()
        },
    ),
    Family::of_node((Gauge, "logd_disk_free_bytes"), "Free on the data disk.", &[], |seen| {
        disk(seen).map(|disk| Sample::whole(disk.free_bytes)).into_iter().collect()
    }),
    Family::of_node((Gauge, "logd_disk_size_bytes"), "Size of the data disk.", &[], |seen| {
        disk(seen).map(|disk| Sample::whole(disk.size_bytes)).into_iter().collect()
    }),
    Family::of_node(
        (Gauge, "logd_disk_reserve_bytes"),
        "With less than this free, a primary refuses what stays on the disk.",
        &[],
        |seen| disk(seen).map(|disk| Sample::whole(disk.reserve_bytes)).into_iter().collect(),
    ),
    Family::of_node(
        (Gauge, "logd_stores_aside"),
        "Old stores that are kept in its data directory.",
        &[],
        |seen| own(seen).map(|row| Sample::whole(row.stores_aside)).into_iter().collect(),
    ),
];

/// The node itself.
pub(super) fn own(seen: &Seen) -> Option<&NodeRow> {
    seen.facts.status.nodes.iter().find(|row| row.name == seen.facts.node)
}

fn others(seen: &Seen) -> impl Iterator<Item = &NodeRow> {
    seen.facts.status.nodes.iter().filter(|row| row.name != seen.facts.node)
}

fn disk(seen: &Seen) -> Option<Disk> {
    seen.facts.work.as_ref()?.disk
}

fn of_kind(problems: &[Problem], code: ProblemCode) -> Sample {
    let found = problems.iter().filter(|problem| problem.kind() == code).count();
    Sample::whole(found as u64).with(code.word())
}

/// Certificates, and when they end.
fn certs(seen: &Seen) -> impl Iterator<Item = (&'static str, Life)> {
    let own = own(seen).filter(|row| row.not_after_unix_s != 0);
    let own = own.map(|row| {
        let (from_unix_s, until_unix_s) = (row.not_before_unix_s, row.not_after_unix_s);
        ("node", Life { from_unix_s, until_unix_s })
    });
    // It lives for years, whenever it began.
    let authority = seen.facts.authority_until_unix_s;
    let authority =
        authority.map(|until| ("authority", Life { from_unix_s: 0, until_unix_s: until }));
    own.into_iter().chain(authority)
}
