//! What Prometheus and Grafana are given to watch a cluster: a scrape, alerts, a board. They are files beside
//! this crate's source, and name families of [`metrics`](crate::metrics) only.

/// Alert rules, tested by `promtool test rules`.
pub const ALERTS: &str = include_str!("../monitoring/alerts.yml");
/// A Grafana board.
pub const DASHBOARD: &str = include_str!("../monitoring/dashboard.json");
/// The scrape, with places and files that stand for others.
const SCRAPE: &str = include_str!("../monitoring/prometheus.yml");

/// Files and addresses of a cluster, for the scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Certificate of the authority.
    pub ca: String,
    /// A certificate of the cluster.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// The nodes, `host:port`.
    pub addresses: Vec<String>,
}

/// A fragment of `prometheus.yml`; without targets with ones that stand for others.
#[must_use]
pub fn scrape(targets: Option<&Targets>) -> String {
    let Some(Targets { ca, cert, key, addresses }) = targets else { return SCRAPE.to_owned() };
    let mut out = String::new();
    let mut told = false;
    for line in SCRAPE.lines() {
        let field = line.trim_start();
        let lead = line.strip_suffix(field).unwrap_or_default();
        let value = match field.split_once(':') {
            Some(("ca_file", _)) => Some(("ca_file: ", ca)),
            Some(("cert_file", _)) => Some(("cert_file: ", cert)),
            Some(("key_file", _)) => Some(("key_file: ", key)),
            Some(_) | None => None,
        };
        if let Some((name, value)) = value {
            out.push_str(&format!("{lead}{name}{}\n", quoted(value)));
        } else if field.starts_with("- ") && field.contains(':') && lead.len() == 10 {
            if !std::mem::replace(&mut told, true) {
                addresses.iter().for_each(|at| out.push_str(&format!("{lead}- {}\n", quoted(at))));
            }
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// A text as YAML takes it, whatever is in it: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::{Family, Kind, families};

    const DOCUMENT: &str = include_str!("../../docs/metrics.md");

    /// Names of ours that a text holds.
    fn named(text: &str) -> BTreeSet<String> {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c: char| !part(c)).filter(|word| word.len() > 8);
        let ours = |word: &&str| word.starts_with("logd_") || word.starts_with("process_");
        words.filter(ours).map(str::to_owned).collect()
    }

    /// Those that no family has.
    fn unknown(text: &str) -> Vec<String> {
        let known = |name: &str, family: &Family| match family.kind {
            Kind::Gauge | Kind::Counter => family.name() == name,
            Kind::Histogram => {
                let parts = ["_bucket", "_sum", "_count"];
                parts.iter().any(|part| name.strip_suffix(part) == Some(&family.name()))
            }
        };
        named(text).into_iter().filter(|name| !families().any(|f| known(name, f))).collect()
    }

    #[test]
    fn rules_and_board_name_what_exists() {
        assert_eq!(
            unknown("logd_nothing_at_all + logd_term + logd_records"),
            ["logd_nothing_at_all", "logd_records"]
        );
        assert_eq!(
            unknown("rate(logd_fsync_duration_seconds[1m])").len(),
            1,
            "it has no such series"
        );
        assert_eq!(unknown(ALERTS), Vec::<String>::new());
        assert_eq!(unknown(DASHBOARD), Vec::<String>::new());
        assert!(named(ALERTS).len() > 10 && named(DASHBOARD).len() > 20);
        let board: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
        let panels = board["panels"].as_array().unwrap();
        assert!(panels.iter().all(|panel| panel["targets"][0]["expr"].is_string()));
    }

    #[test]
    fn the_scrape_takes_a_clusters_files_and_nodes() {
        let targets = Targets {
            ca: "/a/ca.crt".into(),
            cert: "/a/\"c\".crt".into(),
            key: "/a/k.key".into(),
            addresses: vec!["n1.example:7101".into(), "[::1]:7102".into()],
        };
        let text = scrape(Some(&targets));
        for line in [
            r#"      ca_file: "/a/ca.crt""#,
            r#"      cert_file: "/a/\"c\".crt""#,
            r#"          - "n1.example:7101""#,
            r#"          - "[::1]:7102""#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(!text.contains("10.0.0.") && !text.contains("/etc/"), "{text}");
        assert!(scrape(None).contains("10.0.0.3:7101"));
    }

    /// Unit of a family, by its name and its sentence.
    fn unit(family: &Family) -> &'static str {
        let name = family.stem();
        let by_end = [
            ("_timestamp_seconds", "s since 1970"),
            ("_seconds", "s"),
            ("_bytes", "bytes"),
            ("_ratio", "0 to 1"),
            ("_entries", "entries"),
            ("_commands", "commands"),
            ("_seq", "seq"),
        ];
        let by_end = by_end.iter().find(|(end, _)| name.ends_with(end));
        match by_end {
            Some((_, unit)) => unit,
            None if family.help.starts_with("Whether") => "0 or 1",
            None if name.ends_with("_info") || name.ends_with("_state") => "0 or 1",
            None => "count",
        }
    }

    /// The rows of the document's table.
    fn rows() -> Vec<String> {
        let row = |family: &Family| {
            let node = if family.of_node { "`node` " } else { "" };
            let others: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
            let labels = format!("{node}{}", others.join(" "));
            let (name, kind) = (family.name(), family.kind.as_str());
            format!(
                "| `{name}` | {kind} | {} | {} | {} |",
                unit(family),
                labels.trim(),
                family.help
            )
        };
        families().map(row).collect()
    }

    /// Meant to catch: a family that the document lacks.
    #[test]
    fn the_document_is_the_table() {
        let told: Vec<&str> = DOCUMENT.lines().filter(|line| line.starts_with("| `")).collect();
        let rows = rows();
        assert!(told == rows, "the table of docs/metrics.md is to be:\n{}", rows.join("\n"));
    }
}
