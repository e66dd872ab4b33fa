//! Which node is tried first, and what is kept.

use proto::wire::NodeRow;
use proto::{Identity, Role};

use super::*;

fn cluster() -> ClusterId {
    ClusterId::from_bytes([1; 16])
}

/// Credentials play no part here, but a configuration has some.
fn config(addresses: &[&str]) -> ClientConfig {
    let identity =
        Identity { cluster: cluster(), role: Role::Client, name: "bob".parse().unwrap() };
    let authority = certs::Authority::create(&cluster()).unwrap();
    let issued = authority.issue(&identity, &certs::IssueOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    certs::write_public(&path("ca"), authority.cert_pem()).unwrap();
    certs::write_public(&path("crt"), &issued.cert_pem).unwrap();
    certs::write_private(&path("key"), &issued.key_pem).unwrap();
    let credentials = certs::Credentials::load(&path("ca"), &path("crt"), &path("key")).unwrap();
    ClientConfig::new(addresses.iter().map(ToString::to_string).collect(), credentials)
}

fn list(epoch: u64, nodes: &[(&str, &str)]) -> Nodes {
    let row = |(name, address): &(&str, &str)| NodeRow {
        name: (*name).to_owned(),
        address: (*address).to_owned(),
        ..NodeRow::default()
    };
    Nodes { cluster: cluster().to_string(), epoch, nodes: nodes.iter().map(row).collect() }
}

fn labels(directory: &Directory) -> Vec<String> {
    directory.candidates().iter().map(Node::label).collect()
}

#[tokio::test(start_paused = true)]
async fn the_useless_are_asked_last_for_a_while() {
    let config = config(&["n1=a:1", "n2=b:1", "n3=c:1"]);
    let directory = Directory::new(&config, &cluster()).unwrap();
    assert_eq!(labels(&directory), ["n1 at a:1", "n2 at b:1", "n3 at c:1"]);
    directory.demote("a:1");
    assert_eq!(labels(&directory), ["n2 at b:1", "n3 at c:1", "n1 at a:1"]);
    tokio::time::advance(DEMOTED).await;
    assert_eq!(labels(&directory), ["n1 at a:1", "n2 at b:1", "n3 at c:1"]);
}

#[tokio::test(start_paused = true)]
async fn home_comes_first_unless_it_is_useless() {
    let mut config = config(&["n1=a:1", "n2=b:1"]);
    config.home = Some("n2".to_owned());
    let directory = Directory::new(&config, &cluster()).unwrap();
    assert_eq!(labels(&directory), ["n2 at b:1", "n1 at a:1"]);
    directory.demote("b:1");
    assert_eq!(labels(&directory), ["n1 at a:1", "n2 at b:1"]);
    assert_eq!(directory.home(), None);
}

#[test]
fn a_learnt_list_goes_before_what_was_told() {
    let directory = Directory::new(&config(&["a:1", "z:9"]), &cluster()).unwrap();
    assert!(directory.learn(list(5, &[("n1", "a:1"), ("n2", "b:1")])).is_none(), "no file is set");
    assert_eq!(labels(&directory), ["n1 at a:1", "n2 at b:1", "z:9"]);
    // Neither an older list nor one of another cluster nor an empty one.
    directory.learn(list(4, &[("n7", "x:1")]));
    directory.learn(Nodes { cluster: "other".to_owned(), ..list(6, &[("n8", "x:1")]) });
    directory.learn(list(6, &[]));
    assert_eq!(labels(&directory), ["n1 at a:1", "n2 at b:1", "z:9"]);
    directory.learn(list(6, &[("n2", "b:2"), ("not a name", "c:1")]));
    assert_eq!(labels(&directory), ["n2 at b:2", "a:1", "z:9"]);
}

#[test]
fn the_file_brings_the_list_to_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&["a:1"]);
    config.cache = Some(folder.path().join("new/nodes.json"));
    let directory = Directory::new(&config, &cluster()).unwrap();
    directory.learn(list(5, &[("n1", "a:1"), ("n2", "b:1")])).unwrap().write();
    let next = Directory::new(&config, &cluster()).unwrap();
    assert_eq!((next.epoch(), labels(&next)), (5, vec!["n1 at a:1".into(), "n2 at b:1".into()]));
    // Another cluster's client does not take it over.
    let other = Directory::new(&config, &ClusterId::from_bytes([2; 16])).unwrap();
    assert_eq!(labels(&other), ["a:1"]);
    let left: Vec<_> = std::fs::read_dir(folder.path().join("new")).unwrap().collect();
    assert_eq!(left.len(), 1, "a draft was left behind");
}
