//! Nodes that join and leave while messages are sent and nodes die: nothing acknowledged is lost,
//! nothing is there twice, and no change of members stays half done.

use tests::life::Joining;
use tests::patience::when;
use tests::{Cluster, Load, Watch, checks, until};

use crate::failover::account_for;

/// Rounds of joining, killing and leaving.
const ROUNDS: usize = 3;

/// Waits until the engine's members are exactly these, and no change is in progress.
fn wait_voters(cluster: &Cluster, via: &str, wanted: &[&str]) {
    until("the voters", || {
        let show = ["raft", "show", "--via", via];
        let view = cluster.user().json(&show).map_err(|error| error.to_string())?;
        let rows = view.as_array().cloned().unwrap_or_else(|| vec![view.clone()]);
        let row = rows.iter().find(|row| row["node"] == via).ok_or_else(|| view.to_string())?;
        let mut voters: Vec<_> = (row["voters"].as_array().into_iter().flatten())
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        voters.sort();
        when(voters == wanted && row["joint"] == false, row.to_string())
    })
    .unwrap();
}

#[test]
fn nodes_join_and_leave_under_load_with_kills() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob"]).unwrap();
    let watch = Watch::start(&cluster).unwrap();
    let load = Load::start(&cluster, &["alice", "bob"], 3, "bob", "members").unwrap();
    for round in 0..ROUNDS {
        let name = format!("m{round}");
        load.wait_more(30).unwrap();
        cluster.join(&name, &Joining::default()).unwrap();
        // The primary dies while the newcomer catches up or is promoted.
        let primary = cluster.wait_primary("n1").unwrap();
        cluster.kill(&primary).unwrap();
        load.wait_more(30).unwrap();
        cluster.start_node(&primary).unwrap();
        cluster.wait_node(&name, "voter").unwrap();
        wait_voters(&cluster, "n2", &[&name, "n1", "n2", "n3"]);
        load.wait_more(30).unwrap();
        // It goes; the primary dies meanwhile, and the removal is finished by the next one.
        let primary = cluster.wait_primary("n1").unwrap();
        let remove = ["-y", "node", "remove", &name, "--timeout", "60s"];
        let mut removal = cluster.user().command(&remove).unwrap();
        let mut removal = removal.stderr(std::process::Stdio::null()).spawn().unwrap();
        if round % 2 == 0 && primary != name {
            cluster.kill(&primary).unwrap();
            load.wait_more(30).unwrap();
            cluster.start_node(&primary).unwrap();
        }
        removal.wait().unwrap();
        // Whatever the first one was told, the same again finishes it, or finds it done.
        let again = cluster.user().run(&remove).unwrap();
        assert!(again.code == 0 || again.code == 5, "{again}");
        cluster.set_away(&name);
        cluster.wait_node(&name, "removed").unwrap();
        wait_voters(&cluster, "n2", &["n1", "n2", "n3"]);
        assert_eq!(cluster.node(&name).unwrap().ended().unwrap().code(), Some(13));
        cluster.wait_healthy().unwrap();
    }
    load.wait_more(30).unwrap();
    let history = load.finish(&cluster).unwrap();
    let led = watch.finish(&cluster).unwrap();
    assert_eq!(checks::one_primary_per_term(&led), Vec::<String>::new());
    assert!(led.len() > ROUNDS, "only {} terms were seen: the kills did not bite", led.len());
    let failed: Vec<_> = history.failed().collect();
    assert!(failed.is_empty(), "sends failed although a majority was there: {failed:?}");
    account_for(&cluster, &history);
}

#[test]
fn a_removed_name_comes_back_as_another_store() {
    let mut cluster = Cluster::start(3).unwrap();
    cluster.join_as_voter("n4").unwrap();
    let id = |cluster: &Cluster| {
        let view = cluster.user().json(&["raft", "show", "--via", "n4"]).unwrap();
        let rows = view.as_array().cloned().unwrap_or_else(|| vec![view.clone()]);
        let row = rows.into_iter().find(|row| row["node"] == "n4").unwrap();
        row["raft_id"].as_u64().unwrap()
    };
    let first = id(&cluster);
    cluster.user().ok(&["-y", "node", "remove", "n4", "--timeout", "60s"]).unwrap();
    cluster.set_away("n4");
    cluster.wait_node("n4", "removed").unwrap();
    assert_eq!(cluster.node("n4").unwrap().ended().unwrap().code(), Some(13));
    std::fs::rename(cluster.joined_dir("n4"), cluster.folder().join("old")).unwrap();
    cluster.join_as_voter("n4").unwrap();
    assert!(id(&cluster) > first, "a raft id was taken twice");
    cluster.wait_healthy().unwrap();
}
