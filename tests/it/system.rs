//! A node that joins as a machine's own, below a folder that stands for `/`.
//!
//! The service itself is started in a fresh root of Debian, by `make deb-test`.

use std::os::unix::fs::MetadataExt;

use tests::{Cluster, Logd, ports};

/// Meant to catch: a file left out, or the store looked for elsewhere than it may be made.
#[test]
fn a_node_joins_as_its_machines_own_and_votes() {
    let mut cluster = Cluster::start(1).unwrap();
    let root = cluster.folder().join("machine");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    let own = std::fs::metadata(&root).unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    std::fs::write(root.join("etc/passwd"), format!("logd:x:{uid}:{gid}:::\n")).unwrap();
    let address = format!("127.0.0.1:{}", ports::in_a_row(1).unwrap());
    let token = cluster.node_token(&[]).unwrap();
    let join = ["cluster", "join", &token, "--name", "n9", "--system", "--root"];
    let at = [root.to_str().unwrap(), "--listen", &address, "--advertise", &address];
    let stranger = cluster.stranger("n9");
    let run = stranger.run(&[&join[..], &at].concat()).unwrap();
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stderr.contains("systemctl enable --now logd"), "{run}");
    // The same again has nothing to do; another's files are in its way.
    let again = stranger.run(&[&join[..], &at].concat()).unwrap();
    assert!(again.code == 0 && again.stderr.contains("has joined before"), "{again}");
    let other = ["cluster", "join", &token, "--name", "n8", "--system", "--root", at[0]];
    let refused = stranger.run(&other).unwrap();
    assert!(refused.code == 6 && refused.stderr.contains("that of node n9"), "{refused}");

    let config = root.join("etc/logd/node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let inside = "data_dir = \"/var/lib/logd/n9\"";
    assert!(text.contains(inside), "{text}");
    let outside = format!("data_dir = \"{}\"", root.join("var/lib/logd/n9").display());
    std::fs::write(&config, text.replace(inside, &outside)).unwrap();
    let log = cluster.folder().join("n9.log");
    cluster.enter(Logd::new("n9", config, log), address.clone());
    cluster.start_node("n9").unwrap();
    cluster.wait_node("n9", "voter").unwrap();
}
