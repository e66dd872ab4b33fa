//! What a cluster tells Prometheus, judged by Debian's Prometheus and its checker.

use std::fs;

use tests::Cluster;
use tests::curl::Curl;
use tests::patience::{until, when};
use tests::prometheus::{Prometheus, promtool};

/// Meant to catch: a family without help, a counter's name that lacks `_total`, and two nodes' texts one
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

/// Meant to catch: everybody told, and a path in place of its route.
#[test]
fn metrics_are_told_to_who_is_known_and_to_everybody_where_that_is_wanted() {
    let mut cluster = Cluster::create(1).unwrap();
    let config = cluster.node("n1").unwrap().config().to_owned();
    cluster.start_all().unwrap();
    cluster.wait_healthy().unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice"]).unwrap();
    let alice = stranger.of(cluster.user(), "alice").unwrap();
    let url = format!("https://{}/metrics", cluster.address("n1").unwrap());
    stranger.ask(&[&url]).unwrap().refused(401, "denied").unwrap();
    stranger.ask(&[&url.replace("metrics", "somewhere")]).unwrap().refused(401, "denied").unwrap();
    let answer = alice.ask(&[&url]).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let counted = "logd_http_requests_total{node=\"n1\",route=";
    for line in [r#""/metrics",code="401"} 1"#, r#""none",code="401"} 1"#] {
        let line = format!("{counted}{line}");
        assert!(answer.body.lines().any(|have| have == line), "{line}\n{}", answer.body);
    }
    assert!(!answer.body.contains("somewhere"), "{}", answer.body);
    cluster.stop("n1").unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\n[http]\n", "\n[http]\nmetrics = \"open\"\n")).unwrap();
    cluster.start_node("n1").unwrap();
    cluster.wait_healthy().unwrap();
    let answer = stranger.ask(&[&url]).unwrap();
    assert!(
        answer.status == 200 && answer.body.contains("logd_ready{node=\"n1\"} 1"),
        "{answer:?}"
    );
}

/// The scrape that is generated, by the real one. Meant to catch: a certificate that names no host.
#[test]
fn a_real_prometheus_scrapes_a_cluster() {
    let cluster = Cluster::start(3).unwrap();
    cluster.register(&["prometheus"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let generated =
        |what: &str| cluster.user().ok(&["generate", what, "--as", "prometheus"]).unwrap().text();
    fs::write(folder.path().join("logd-alerts.yml"), generated("alerts")).unwrap();
    let config = generated("prometheus").replace("scrape_interval: 15s", "scrape_interval: 5s");
    let Some(prometheus) = Prometheus::start(&config, folder.path()).unwrap() else { return };
    for (expression, value) in [
        ("sum(up{job=\"logd\"})", "3"),
        ("count(logd_ready == 1)", "3"),
        ("sum(logd_is_primary)", "1"),
        ("count(logd_fsync_duration_seconds_count > 0)", "3"),
        ("count(logd_http_requests_total{route=\"/metrics\",code=\"200\"} > 0)", "3"),
        ("count(process_resident_memory_bytes > 1e6)", "3"),
    ] {
        until(expression, || {
            let told = prometheus.values(expression, folder.path())?;
            when(told.contains(&format!("=> {value} @")), told)
        })
        .unwrap();
    }
}
