//! Registering clients and acting as one.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use certs::{Authority, IssueOptions};
use parking_lot::Mutex;
use proto::wire::{Op, Registered, Reply};
use proto::{ErrorCode, Identity, Role};

use crate::node::{FakeNode, ack, failure};
use crate::user::{User, json};

/// A node that admits each name for one key, as the real one does.
fn registrar(user: &User) -> FakeNode {
    let pki = user.home.path().join("cluster/pki");
    let read = |name: &str| std::fs::read_to_string(pki.join(name)).unwrap();
    let authority = Authority::load(&read("ca.crt"), &read("ca.key")).unwrap();
    let keys = Mutex::new(std::collections::BTreeMap::new());
    FakeNode::start(user, move |identity, op| match op {
        Op::Register(register) if identity.role == Role::Admin => {
            let cluster = authority.cluster().clone();
            let name = register.name.parse().unwrap();
            let client = Identity { cluster, role: Role::Client, name };
            let signed =
                authority.sign_csr(&register.csr, &client, &IssueOptions::default()).unwrap();
            let mut keys = keys.lock();
            let key = keys.entry(register.name.clone()).or_insert(signed.fingerprint);
            if *key != signed.fingerprint {
                return vec![failure(ErrorCode::Conflict)];
            }
            vec![Reply::Registered(Registered {
                certificate: signed.cert_pem,
                ca: authority.cert_pem().to_owned(),
                home: if register.home.is_empty() { "n1".into() } else { register.home.clone() },
            })]
        }
        Op::Send(send) if identity.role == Role::Client => {
            vec![ack(&format!("{}-{}", identity.name, send.id))]
        }
        _ => vec![failure(ErrorCode::Denied)],
    })
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_client_is_registered_once_and_acts_as_itself() {
    let user = User::with_cluster();
    let node = registrar(&user);
    let made = json(&user.ok(&["register", "alice", "--home", "n2", "--json"]));
    assert_eq!(made, serde_json::json!({"name": "alice", "home": "n2", "context": "alice"}));
    let keys = user.home.path().join("keys");
    assert_eq!(files(&keys), ["alice.ca.crt", "alice.crt", "alice.key"]);
    let key = keys.join("alice.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    user.ok(&["register", "alice"]);
    assert_eq!(std::fs::read(&key).unwrap(), before, "the key changed");
    assert_eq!(user.ok(&["context", "list"]).lines().count(), 2);
    let ack =
        json(&user.ok(&["--as", "alice", "send", "--to", "bob", "hi", "--id", "x", "--json"]));
    assert_eq!(ack["id"], "alice-x");
    // A client in use: the admin's context is found by itself, unless another is asked for.
    user.ok(&["context", "use", "alice"]);
    user.ok(&["register", "bob"]);
    user.fails(&["--as", "alice", "register", "carol"], 4);
    assert!(!keys.join("carol.key").exists(), "a refused register left a key");
    assert!(node.ops().len() >= 4);
}

#[test]
fn a_taken_name_changes_nothing() {
    let user = User::with_cluster();
    let _node = registrar(&user);
    user.ok(&["register", "alice"]);
    // The same name from another machine: another key.
    std::fs::remove_dir_all(user.home.path().join("keys")).unwrap();
    std::fs::remove_file(user.home.path().join("contexts/alice.toml")).unwrap();
    user.fails(&["register", "alice"], 6);
    assert_eq!(files(&user.home.path().join("keys")), [] as [String; 0]);
    assert_eq!(files(&user.home.path().join("contexts")), ["admin.toml"]);
}

#[test]
fn an_interrupted_registration_is_finished_with_the_same_key() {
    let user = User::with_cluster();
    let _node = registrar(&user);
    user.ok(&["register", "alice"]);
    std::fs::remove_file(user.home.path().join("contexts/alice.toml")).unwrap();
    std::fs::remove_file(user.home.path().join("keys/alice.crt")).unwrap();
    user.ok(&["register", "alice"]);
    user.ok(&["--as", "alice", "send", "--to", "bob", "hi"]);
}

#[test]
fn a_context_of_something_else_is_not_replaced() {
    let user = User::with_cluster();
    let node = registrar(&user);
    let contexts = user.home.path().join("contexts");
    std::fs::copy(contexts.join("admin.toml"), contexts.join("alice.toml")).unwrap();
    assert!(user.fails(&["register", "alice"], 6).contains("admin admin"));
    assert_eq!(node.ops(), []);
}
