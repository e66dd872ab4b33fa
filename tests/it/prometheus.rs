//! What a cluster tells Prometheus, judged by Debian's Prometheus and its checker.

use std::fs;

use tests::Cluster;
use tests::prometheus::promtool;

/// Seen to fail with: a family without help, a counter's name that lacks `_total`, and two nodes' texts one
/// behind the other.
#[test]
fn the_checker_of_prometheus_has_nothing_to_say() {
    let cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice"]).unwrap();
    for id in ["one", "two", "two"] {
        cluster.user().ok(&["send", "--as", "alice", "--to", "*", "--id", id, "hello"]).unwrap();
    }
    let of_all = cluster.user().run(&["health", "--prometheus"]).unwrap();
    let of_one = cluster.user().run(&["health", "--prometheus", "--node", "n2"]).unwrap();
    for told in [&of_all, &of_one] {
        assert_eq!(told.code, 0, "{told}");
        let text = told.text();
        let Some(run) = promtool(&["check", "metrics"], cluster.folder(), text.as_bytes()).unwrap()
        else {
            return;
        };
        assert!(run.code == 0 && run.text().is_empty() && run.stderr.is_empty(), "{run}\n{text}");
        assert!(text.contains("logd_fsync_duration_seconds_count{node=\"n2\"}"), "{text}");
    }
    let text = of_all.text();
    let duplicates = text.lines().filter(|line| line.starts_with("logd_duplicates_total{"));
    assert!(duplicates.clone().count() == 3, "{text}");
    assert!(duplicates.clone().any(|line| line.ends_with(" 1")), "{text}");
}

#[test]
fn rules_are_what_they_are_meant_to_be() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../views/monitoring");
    let folder = std::path::Path::new(folder);
    for args in [&["test", "rules", "alerts_test.yml"][..], &["check", "rules", "alerts.yml"]] {
        let Some(run) = promtool(args, folder, &[]).unwrap() else { return };
        assert!(run.code == 0 && run.text().contains("SUCCESS"), "{run}");
    }
    // Each alert has a case in which it must fire, and one in which it must not.
    let rules = fs::read_to_string(folder.join("alerts.yml")).unwrap();
    let cases = fs::read_to_string(folder.join("alerts_test.yml")).unwrap();
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let case = format!("alertname: {name}\n");
        assert_eq!(cases.matches(&case).count(), 2, "cases of {name}");
        let quiet = format!("{case}        exp_alerts: []\n");
        assert_eq!(cases.matches(&quiet).count(), 1, "cases in which {name} must not fire");
    }
}

#[test]
fn what_is_generated_is_taken() {
    let cluster = Cluster::create(3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (what, file) in [("prometheus", "prometheus.yml"), ("alerts", "logd-alerts.yml")] {
        let run = cluster.user().ok(&["generate", what]).unwrap();
        fs::write(folder.path().join(file), run.text()).unwrap();
    }
    let args = ["check", "config", "prometheus.yml"];
    let Some(run) = promtool(&args, folder.path(), &[]).unwrap() else { return };
    assert!(run.code == 0 && run.text().contains("1 rule files found"), "{run}");
}
