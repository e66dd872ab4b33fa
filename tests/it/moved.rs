//! Nodes that come back at another address: the others call them back there, the table follows, and
//! nobody has to do anything.
//!
//! Seen to fail on the code before, which believed in the table for ever: the node lagged, everything
//! was called healthy, and with two of three sends ended with 11 while status said that there was a
//! majority.

use std::fs;

use proto::ProblemCode;
use tests::patience::when;
use tests::{Cluster, ports, until};

/// Gives a stopped node another port, from its next start on. Returns where it was.
fn move_away(cluster: &mut Cluster, node: &str) -> String {
    let was = cluster.address(node).unwrap();
    let now = format!("127.0.0.1:{}", ports::in_a_row(1).unwrap());
    let path = cluster.node(node).unwrap().config().to_owned();
    let text = fs::read_to_string(&path).unwrap();
    let listen = format!("\nlisten = \"{was}\"");
    assert!(text.contains(&listen), "{text}");
    fs::write(&path, text.replace(&listen, &format!("\nlisten = \"{now}\""))).unwrap();
    cluster.set_address(node, &now);
    was
}

/// Waits until every node lists a node where it is now, and has applied the same as the others.
fn followed(cluster: &Cluster, node: &str) {
    let address = cluster.address(node).unwrap();
    for via in cluster.names() {
        until(&format!("{via} to list {node} at {address}"), || {
            let status = cluster.status(&via).map_err(|error| error.to_string())?;
            let row = status.nodes.iter().find(|row| row.name == node);
            when(row.is_some_and(|row| row.address == address), format!("{row:?}"))
        })
        .unwrap();
    }
    cluster.wait_level().unwrap();
    let event = format!("moved to {address}");
    let events = cluster.events("n3").unwrap();
    let told =
        events.iter().filter(|event| event.text.starts_with(&format!("member {node}: moved")));
    let told: Vec<_> = told.filter(|event| event.text.ends_with(&address)).collect();
    assert_eq!(told.len(), 1, "told once, {event}: {events:?}");
}

#[test]
fn a_node_that_comes_back_at_another_address_is_found_there() {
    let mut cluster = Cluster::start(3).unwrap();
    let user = cluster.user().clone();
    user.ok(&["send", "--to", "*", "--id", "before", "hi"]).unwrap();
    cluster.stop("n1").unwrap();
    move_away(&mut cluster, "n1");
    cluster.start_node("n1").unwrap();
    followed(&cluster, "n1");
    user.ok(&["wait", "ready", "--timeout", "60s"]).unwrap();
    user.ok(&["status"]).unwrap();
    user.ok(&["send", "--to", "*", "--id", "after", "hi"]).unwrap();
    assert!(cluster.records("n1", false).unwrap().iter().any(|record| record.id == "after"));
}

#[test]
fn two_of_three_that_come_back_elsewhere_find_a_majority_again() {
    let mut cluster = Cluster::start(3).unwrap();
    let user = cluster.user().clone();
    user.ok(&["send", "--to", "*", "--id", "before", "hi"]).unwrap();
    for node in ["n1", "n2"] {
        cluster.kill(node).unwrap();
    }
    for node in ["n1", "n2"] {
        move_away(&mut cluster, node);
        cluster.start_node(node).unwrap();
    }
    for node in ["n1", "n2"] {
        followed(&cluster, node);
    }
    user.ok(&["send", "--to", "*", "--id", "after", "--timeout", "60s", "hi"]).unwrap();
    // The next start finds everybody by the table alone.
    for node in cluster.names() {
        cluster.stop(&node).unwrap();
    }
    cluster.start_all().unwrap();
    cluster.wait_level().unwrap();
    for node in cluster.names() {
        let records = cluster.records(&node, false).unwrap();
        for id in ["before", "after"] {
            assert!(records.iter().any(|record| record.id == id), "{node}: {id}");
        }
    }
}

/// A configuration that advertises what is not the node's: it is dialled where it was, and everybody says
/// what is wrong, the node itself too.
///
/// Seen to fail on the code before: the node said nothing, and no event told of it.
#[test]
fn a_false_claim_of_an_address_moves_nobody_and_is_told_by_all() {
    let mut cluster = Cluster::start(3).unwrap();
    let user = cluster.user().clone();
    let (was, others) = (cluster.address("n1").unwrap(), cluster.address("n2").unwrap());
    let config = cluster.node("n1").unwrap().config().to_owned();
    let text = fs::read_to_string(&config).unwrap();
    let nobodys = format!("127.0.0.1:{}", ports::in_a_row(1).unwrap());
    for claim in [&nobodys, &others] {
        cluster.stop("n1").unwrap();
        let listen = format!("\nlisten = \"{was}\"");
        assert!(text.contains(&listen), "{text}");
        let claims = format!("{listen}\nadvertise = \"{claim}\"");
        fs::write(&config, text.replace(&listen, &claims)).unwrap();
        cluster.start_node("n1").unwrap();
        for via in cluster.names() {
            until(&format!("{via} to tell of {claim}"), || {
                let status = cluster.status(&via).map_err(|error| error.to_string())?;
                let told = status.problems.iter().any(|p| {
                    p.kind() == ProblemCode::ListensElsewhere
                        && p.subject == "n1"
                        && p.detail.contains(claim)
                });
                let stays = status.nodes.iter().any(|n| n.name == "n1" && n.up && n.address == was);
                when(told && stays, format!("{status:?}"))
            })
            .unwrap();
        }
        assert_eq!(user.run(&["status", "--via", "n1"]).unwrap().code, 10);
        assert_eq!(user.run(&["health", "--node", "n1"]).unwrap().code, 10);
        until("an event that tells of it", || {
            let events = cluster.events("n2").map_err(|error| error.to_string())?;
            let told = |text: &str| text.starts_with("alarm n1: it listens elsewhere");
            let told = events.iter().any(|e| told(&e.text) && e.text.contains(claim));
            when(told, format!("{events:?}"))
        })
        .unwrap();
    }
    cluster.stop("n1").unwrap();
    fs::write(&config, text).unwrap();
    cluster.start_node("n1").unwrap();
    cluster.wait_healthy().unwrap();
}
