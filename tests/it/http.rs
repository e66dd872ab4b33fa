//! HTTPS as strangers use it: a real curl, and what probes ask.
//!
//! Meant to catch: every path open to everybody, a barrier that is not asked for, and a certificate
//! without host names.

use std::net::TcpListener;

use tests::Cluster;
use tests::curl::Curl;
use tests::patience::{until, when};

/// Every check of `/readyz`.
const CHECKS: [&str; 7] =
    ["store", "admitted", "in-service", "certificate", "stamps", "replication", "barrier"];
const HEALTH: [&str; 4] = ["livez", "readyz", "startupz", "healthz"];

fn url(cluster: &Cluster, node: &str, path: &str) -> String {
    format!("https://{}/{path}", cluster.address(node).unwrap())
}

#[test]
fn without_a_certificate_only_the_health_is_answered() {
    let cluster = Cluster::start(3).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice"]).unwrap();
    let alice = stranger.of(cluster.user(), "alice").unwrap();
    for node in cluster.names() {
        for path in HEALTH {
            let url = url(&cluster, &node, path);
            for version in ["--http1.1", "--http2"] {
                let answer = stranger.ask(&[version, &url]).unwrap();
                assert_eq!(answer.status, 200, "{path} of {node}: {answer:?}");
            }
        }
        let nowhere = url(&cluster, &node, "v1/nowhere");
        stranger.ask(&[&nowhere]).unwrap().refused(401, "denied").unwrap();
        alice.ask(&[&nowhere]).unwrap().refused(404, "not-found").unwrap();
        let livez = url(&cluster, &node, "livez");
        stranger.ask(&["-X", "POST", &livez]).unwrap().refused(401, "denied").unwrap();
        alice.ask(&["-X", "POST", &livez]).unwrap().refused(405, "invalid").unwrap();
        // By its name on its own machine, too.
        let local = livez.replace("127.0.0.1", "localhost");
        assert_eq!(stranger.ask(&[&local]).unwrap().status, 200);
    }
    let everything = url(&cluster, "n1", "readyz?verbose");
    let answer = stranger.ask(&[&everything]).unwrap();
    for check in CHECKS {
        assert!(answer.body.contains(&format!("[+]{check} ok\n")), "{answer:?}");
    }
    // What is wrong is told to those alone who may know of nodes and addresses.
    let health = url(&cluster, "n1", "healthz");
    let told = stranger.ask(&[&health]).unwrap().json().unwrap();
    assert_eq!(told, serde_json::json!({"healthy": true, "exit_code": 0}));
    let told = alice.ask(&[&health]).unwrap().json().unwrap();
    assert_eq!(told, serde_json::json!({"healthy": true, "exit_code": 0, "problems": []}));
    // A node is no client, and another cluster's client is nobody.
    let pki = cluster.dir().join("pki");
    let node = stranger.showing(pki.join("n2.crt"), pki.join("n2.key"));
    node.ask(&[&url(&cluster, "n1", "v1/nowhere")]).unwrap().refused(403, "denied").unwrap();
    // It may scrape.
    let scraped = node.ask(&[&url(&cluster, "n1", "metrics")]).unwrap();
    assert!(scraped.status == 200 && scraped.body.contains("# TYPE logd_"), "{scraped:?}");
    let other = Cluster::create(1).unwrap();
    let pki = other.dir().join("pki");
    let foreign = stranger.showing(pki.join("admin.crt"), pki.join("admin.key"));
    // The handshake fails; how curl tells of that depends on who is faster.
    foreign.ask(&[&health]).unwrap_err();
}

#[test]
fn a_node_is_ready_while_it_would_serve_and_no_longer() {
    let mut cluster = Cluster::start(3).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    let ask = |cluster: &Cluster, path: &str| stranger.ask(&[&url(cluster, "n1", path)]).unwrap();
    cluster.user().ok(&["node", "drain", "n1"]).unwrap();
    until("a drained node", || {
        let answer = ask(&cluster, "readyz");
        when(answer.status == 503 && answer.body.contains("[-]in-service"), answer.body)
    })
    .unwrap();
    let answer = ask(&cluster, "readyz");
    assert_eq!((answer.header("retry-after"), answer.header("cache-control")), ("1", "no-store"));
    let answer = ask(&cluster, "readyz?exclude=in-service&verbose");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("[+]in-service excluded"), "{answer:?}");
    cluster.user().ok(&["node", "drain", "n1", "--off"]).unwrap();
    until("a node in service", || {
        let answer = ask(&cluster, "readyz");
        when(answer.status == 200, answer.body)
    })
    .unwrap();
    for other in ["n2", "n3"] {
        cluster.set_away(other);
        cluster.kill(other).unwrap();
    }
    until("a node that is not ready", || {
        let answer = ask(&cluster, "readyz");
        when(answer.status == 503 && answer.body.contains("[-]barrier"), answer.body)
    })
    .unwrap();
    // A restart would not help it, and it has started.
    for path in ["livez", "startupz"] {
        assert_eq!(ask(&cluster, path).status, 200, "{path}");
    }
    until("a verdict", || {
        let answer = ask(&cluster, "healthz");
        let verdict = answer.json().unwrap();
        let right = answer.status == 503 && verdict["exit_code"] == 11;
        assert!(!right || answer.header("retry-after") == "1", "{answer:?}");
        when(right && verdict["healthy"] == false, answer.body)
    })
    .unwrap();
    for other in ["n2", "n3"] {
        cluster.start_node(other).unwrap();
    }
    cluster.wait_healthy().unwrap();
    until("a node that is ready again", || {
        let answer = ask(&cluster, "readyz");
        when(answer.status == 200, answer.body)
    })
    .unwrap();
}

/// A balancer hears that a node stops before its port is gone. Meant to catch: the port closed at once.
#[test]
fn who_asks_now_and_then_is_told_that_a_node_stops() {
    let mut cluster = Cluster::start(1).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    let readyz = url(&cluster, "n1", "readyz");
    until("a node that is ready", || {
        let answer = stranger.ask(&[&readyz]).unwrap();
        when(answer.status == 200, answer.body)
    })
    .unwrap();
    cluster.set_away("n1");
    cluster.node("n1").unwrap().signal(rustix::process::Signal::TERM).unwrap();
    until("a node that says that it stops", || {
        let answer = stranger.ask(&[&readyz]).map_err(|error| error.to_string()).unwrap();
        when(answer.status == 503 && answer.body.contains("it is stopping"), answer.body)
    })
    .unwrap();
    assert_eq!(cluster.node("n1").unwrap().ended().unwrap().code(), Some(0));
}

/// Meant to catch: a node that dials the primary until the time of the request is over.
#[test]
fn without_a_majority_a_write_is_refused_and_not_waited_for() {
    let mut cluster = Cluster::start(3).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    cluster.register(&["alice"]).unwrap();
    let alice = stranger.of(cluster.user(), "alice").unwrap();
    cluster.wait_level().unwrap();
    let primary = cluster.wait_primary("n1").unwrap();
    let survivor = cluster.names().into_iter().find(|name| *name != primary).unwrap();
    for name in cluster.names().into_iter().filter(|name| *name != survivor) {
        cluster.set_away(&name);
        cluster.kill(&name).unwrap();
    }
    let url = url(&cluster, &survivor, "v1/messages/m?to=alice");
    // Much more time than curl has.
    let put = ["-T", "-", "-H", "Logd-Timeout-Ms: 120000", &url];
    let answer = until("a refusal that knows", || {
        let answer = alice.ask_with(&put, b"hi").map_err(|error| error.to_string())?;
        // What was handed over while the primary was believed to be there may have been done.
        when(answer.status != 504, format!("{answer:?}")).map(|()| answer)
    })
    .unwrap();
    answer.refused(503, "no-quorum").unwrap();
    assert_ne!(answer.header("retry-after"), "");
}

#[test]
fn a_taken_port_is_named_and_another_one_serves() {
    let mut cluster = Cluster::create(1).unwrap();
    let Some(stranger) = Curl::stranger(&cluster).unwrap() else { return };
    let own = cluster.address("n1").unwrap();
    let taken = TcpListener::bind(&own).unwrap();
    cluster.start_node("n1").unwrap();
    let status = cluster.node("n1").unwrap().ended().unwrap();
    assert_eq!(status.code(), Some(3));
    let log = cluster.node("n1").unwrap().log();
    assert!(log.contains(&format!("cannot serve HTTPS on TCP {own}")), "{log}");
    assert!(log.contains("listen in [http]"), "{log}");
    let config = cluster.node("n1").unwrap().config().to_owned();
    let text = std::fs::read_to_string(&config).unwrap();
    let other = format!("127.0.0.1:{}", tests::ports::in_a_row(1).unwrap());
    let section = format!("\n[http]\nlisten = \"{other}\"\n");
    std::fs::write(&config, text.replace("\n[http]\n", &section)).unwrap();
    cluster.start_node("n1").unwrap();
    cluster.wait_healthy().unwrap();
    let answer = stranger.ask(&[&format!("https://{other}/startupz")]).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    drop(taken);
    // Switched off, the port is nobody's.
    cluster.stop("n1").unwrap();
    std::fs::write(&config, text.replace("\n[http]\n", "\n[http]\nenabled = false\n")).unwrap();
    cluster.start_node("n1").unwrap();
    cluster.wait_healthy().unwrap();
    drop(TcpListener::bind(&own).unwrap());
}
