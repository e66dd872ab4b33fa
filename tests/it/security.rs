//! Certificates that are not what they must be: refused, with the reason on both sides.
//!
//! Promise 7, known sender. Negative control, seen to fail: a daemon that lets clients speak the
//! protocol of nodes. Beside the forged certificates stand the right ones, which are served.

use std::time::Duration;

use net::{Client, ClientConfig, ClientError};
use proto::peer::PEER_ALPN;
use proto::wire::{CLIENT_ALPN, Op};
use proto::{ClusterId, Role};
use tests::forge::{Forge, Forged};
use tests::raw::Raw;
use tests::{Cluster, until};

use crate::smoke::alice_and_bob;

fn id(cluster: &Cluster) -> ClusterId {
    cluster.user().credentials("admin").unwrap().identity().cluster.clone()
}

/// Asks n1 with forged files, as `logctl` would.
fn call(cluster: &Cluster, forged: &Forged) -> Result<(), ClientError> {
    let address = format!("n1={}", cluster.address("n1").unwrap());
    let mut config = ClientConfig::new(vec![address], forged.credentials().unwrap());
    config.timeout = Duration::from_secs(10);
    cluster.wait(async {
        let client = Client::new(config)?;
        let answer = client.call(Op::Status(Default::default())).await;
        client.close().await;
        answer.map(drop)
    })
}

/// Both sides say why: the caller's error, and the log of n1.
#[track_caller]
fn refused_on_both_sides(cluster: &mut Cluster, forged: &Forged, part: &str) {
    let error = call(cluster, forged).unwrap_err();
    assert_eq!(error.exit_code().number(), 4, "{error}");
    assert!(error.to_string().contains(part), "'{part}' is not in '{error}'");
    assert!(!error.hint().is_empty());
    logged(cluster, part);
}

/// The log of n1 tells of a refusal.
#[track_caller]
fn logged(cluster: &mut Cluster, part: &str) {
    let node = cluster.node("n1").unwrap();
    until(&format!("a refusal with '{part}' in the log of n1"), || {
        let log = node.log();
        let found = log.lines().any(|line| line.contains("refused") && line.contains(part));
        tests::patience::when(found, "there is none")
    })
    .unwrap();
}

#[test]
fn a_client_of_a_rogue_authority_is_refused() {
    let mut cluster = Cluster::start(3).unwrap();
    let ca = cluster.dir().join("pki/ca.crt");
    let rogue = Forge::rogue(&cluster.folder().join("rogue"), &id(&cluster)).unwrap();
    for (role, name) in [(Role::Admin, "admin"), (Role::Client, "alice")] {
        let forged = rogue.identity(role, name, &ca).unwrap();
        let part = format!("{} {name} was not signed by the authority", role.label());
        refused_on_both_sides(&mut cluster, &forged, &part);
    }
    // Even the right authority's certificate of the same name is none without the key. Seen to fail:
    // status was everybody's who had a certificate.
    let pki = cluster.dir().join("pki");
    let right = Forge::stolen(&cluster.folder().join("right"), &pki).unwrap();
    for (role, name) in [(Role::Admin, "admin"), (Role::Client, "alice")] {
        let forged = right.identity(role, name, &ca).unwrap();
        assert_eq!(call(&cluster, &forged).unwrap_err().exit_code().number(), 4, "{name}");
    }
    cluster.user().ok(&["status"]).unwrap();
}

#[test]
fn an_expired_certificate_is_refused() {
    let mut cluster = Cluster::start(3).unwrap();
    let pki = cluster.dir().join("pki");
    let forge = Forge::stolen(&cluster.folder().join("forge"), &pki).unwrap();
    let forged = forge.expired(Role::Admin, "admin", &pki.join("ca.crt")).unwrap();
    refused_on_both_sides(&mut cluster, &forged, "expired on 2020-03-01");

    // logctl says it itself, and names the file.
    let user = cluster.user();
    let [ca, cert, key] = user.identity_files("admin").unwrap();
    for (from, to) in [(&forged.ca, &ca), (&forged.cert, &cert), (&forged.key, &key)] {
        std::fs::copy(from, to).unwrap();
    }
    let said = user.refused(&["status"], 4).unwrap();
    assert!(said.contains("admin.crt") && said.contains("2020-03-01"), "{said}");
}

#[test]
fn members_of_two_clusters_refuse_each_other() {
    let (mut one, other) = (Cluster::start(1).unwrap(), Cluster::start(1).unwrap());
    let [ca, cert, key] = other.user().identity_files("admin").unwrap();
    let file = |path: &std::path::PathBuf| path.to_str().unwrap().to_owned();
    let address = format!("n1={}", one.address("n1").unwrap());
    let add = [
        "context",
        "add",
        "stranger",
        "--ca",
        &file(&ca),
        "--cert",
        &file(&cert),
        "--key",
        &file(&key),
        "--node",
        &address,
    ];
    one.user().ok(&add).unwrap();
    let said = one.user().refused(&["--as", "stranger", "status"], 4).unwrap();
    assert!(said.contains(&format!("is of cluster {}", id(&one))), "{said}");
    logged(&mut one, &format!("this is cluster {}", id(&other)));
}

#[test]
fn a_client_is_no_node() {
    let mut cluster = alice_and_bob();
    let address = cluster.address("n1").unwrap();
    let refusal = |cluster: &Cluster, forged: &certs::Credentials, alpn: &[u8]| {
        cluster.wait(async {
            let raw = Raw::connect(forged, &address, "n1", alpn).await.unwrap();
            raw.closed().await.unwrap()
        })
    };
    for name in ["alice", "admin"] {
        let credentials = cluster.user().credentials(name).unwrap();
        let said = refusal(&cluster, &credentials, PEER_ALPN);
        let part = format!("{name} is not a node's");
        assert!(said.contains(&part), "{said}");
        logged(&mut cluster, &part);
    }
    // Nor is a node a client.
    let pki = cluster.dir().join("pki");
    let node = Forged { ca: pki.join("ca.crt"), cert: pki.join("n2.crt"), key: pki.join("n2.key") };
    let node = node.credentials().unwrap();
    let said = refusal(&cluster, &node, CLIENT_ALPN);
    assert!(said.contains("n2 is not a client's"), "{said}");
    logged(&mut cluster, "n2 is not a client's");

    // A daemon does not even start with a client's certificate.
    let [_, cert, key] = cluster.user().identity_files("alice").unwrap();
    cluster.kill("n3").unwrap();
    for (from, to) in [(cert, "n3.crt"), (key, "n3.key")] {
        std::fs::copy(from, pki.join(to)).unwrap();
    }
    cluster.start_node("n3").unwrap();
    assert_eq!(cluster.node("n3").unwrap().ended().unwrap().code(), Some(4));
    cluster.node("n3").unwrap().says("that of client alice").unwrap();
    let send = ["--as", "alice", "send", "--to", "bob", "the others go on"];
    cluster.user().ok(&send).unwrap();
}

#[test]
fn a_forged_node_opens_no_peer_protocol() {
    let mut cluster = Cluster::start(3).unwrap();
    let pki = cluster.dir().join("pki");
    let (ca, address) = (pki.join("ca.crt"), cluster.address("n1").unwrap());
    let rogue = Forge::rogue(&cluster.folder().join("rogue"), &id(&cluster)).unwrap();
    let stolen = Forge::stolen(&cluster.folder().join("stolen"), &pki).unwrap();
    let forged = [
        (rogue.identity(Role::Node, "n2", &ca).unwrap(), "n2 was not signed by the authority"),
        (stolen.expired(Role::Node, "n2", &ca).unwrap(), "n2 expired on 2020-03-01"),
        (stolen.identity(Role::Node, "n1", &ca).unwrap(), "n1 is this node itself"),
    ];
    for (forged, part) in forged {
        let said = cluster.wait(async {
            let credentials = forged.credentials().unwrap();
            match Raw::connect(&credentials, &address, "n1", PEER_ALPN).await {
                Ok(raw) => raw.closed().await.unwrap(),
                Err(error) => error.to_string(),
            }
        });
        assert!(said.contains(part), "'{part}' is not in '{said}'");
        logged(&mut cluster, part);
    }
    cluster.wait_healthy().unwrap();
}

#[test]
fn the_sender_is_the_certificates_and_rights_are_the_roles() {
    let cluster = alice_and_bob();
    let user = cluster.user();
    user.ok(&["--as", "alice", "send", "--to", "bob", "--id", "hers", "hi"]).unwrap();
    // A client registers nobody, compacts nothing, and deletes nobody else's messages.
    user.refused(&["--as", "alice", "register", "mallory"], 4).unwrap();
    let compact = user.run(&["--as", "alice", "compact", "--via", "n1"]).unwrap();
    assert_eq!(compact.code, 4, "{compact}");
    user.refused(&["--as", "bob", "delete", "hers", "-y"], 4).unwrap();
    user.refused(&["--as", "bob", "read", "--to", "alice"], 4).unwrap();
    // A certificate of the right authority for a name that was never registered is nobody's.
    let pki = cluster.dir().join("pki");
    let forge = Forge::stolen(&cluster.folder().join("forge"), &pki).unwrap();
    let mallory = forge.identity(Role::Client, "mallory", &pki.join("ca.crt")).unwrap();
    let file = |path: &std::path::PathBuf| path.to_str().unwrap().to_owned();
    let address = format!("n1={}", cluster.address("n1").unwrap());
    let add = [
        "context",
        "add",
        "mallory",
        "--ca",
        &file(&mallory.ca),
        "--cert",
        &file(&mallory.cert),
        "--key",
        &file(&mallory.key),
        "--node",
        &address,
    ];
    user.ok(&add).unwrap();
    user.refused(&["--as", "mallory", "send", "--to", "bob", "hi"], 4).unwrap();
    user.refused(&["--as", "mallory", "read"], 4).unwrap();
    // And a second key for a name that is taken gets no certificate.
    let thief = tests::User::new(cluster.folder().join("thief"));
    let admin = [
        "context",
        "add",
        "admin",
        "--ca",
        &file(&pki.join("ca.crt")),
        "--cert",
        &file(&pki.join("admin.crt")),
        "--key",
        &file(&pki.join("admin.key")),
        "--node",
        &address,
    ];
    thief.ok(&admin).unwrap();
    let said = thief.refused(&["--as", "admin", "register", "alice"], 6).unwrap();
    assert!(said.contains("alice"), "{said}");
    // The same key again is the same registration.
    user.ok(&["register", "alice"]).unwrap();
    let read = user.json(&["--as", "bob", "read"]).unwrap();
    assert_eq!(read.as_array().unwrap().len(), 1);
    assert_eq!(read[0]["from"], "alice");
}
