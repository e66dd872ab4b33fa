//! What is missing, by tables.

use super::*;

fn row(name: &str) -> NodeRow {
    NodeRow {
        name: name.to_owned(),
        role: if name == "n1" { "primary" } else { "backup" }.to_owned(),
        up: true,
        applied: 100,
        clock_state: "synced".to_owned(),
        state: "joined".to_owned(),
        voter: true,
        ..NodeRow::default()
    }
}

fn status(change: impl FnOnce(&mut Status)) -> Status {
    let nodes = vec![row("n1"), row("n2"), row("n3")];
    let mut status = Status { primary: "n1".to_owned(), quorum: true, nodes, ..Status::default() };
    change(&mut status);
    status
}

/// Seen to fail with: drained nodes counted, nodes beyond the wanted number accepted, and a node that
/// is up but not joined accepted, and what `status` complains of overlooked.
#[test]
fn ready_means_led_and_every_node_there() {
    let missing = |nodes, change: fn(&mut Status)| not_ready(&status(change), nodes).join("; ");
    for (nodes, change, expected) in [
        (None, (|_| {}) as fn(&mut Status), ""),
        (Some(3), |_| {}, ""),
        (Some(4), |_| {}, "3 of 4 nodes"),
        (Some(2), |_| {}, "3 of 2 nodes"),
        (None, |s| s.primary.clear(), "there is no primary"),
        (None, |s| s.quorum = false, "the primary takes no writes"),
        (Some(3), |s| s.nodes[1].up = false, "n2 does not answer; 2 of 3 nodes"),
        (None, |s| s.nodes[1].state = "suspect".to_owned(), "n2 is suspect"),
        (None, |s| s.nodes[2].state.clear(), "n3 is not noted as a member yet"),
        (None, |s| s.nodes[2].voter = false, ""),
        (
            Some(2),
            |s| {
                s.nodes[2].drained = true;
                s.nodes[2].up = false;
            },
            "",
        ),
        (Some(3), |s| s.nodes[1].drained = true, "2 of 3 nodes, without n2, which is drained"),
        (None, |s| s.problems = gets_nothing(), "n2: it gets nothing from the primary"),
        (
            None,
            |s| {
                s.problems = gets_nothing();
                s.nodes[1].drained = true;
            },
            "",
        ),
        // It works, and somebody should look.
        (None, |s| s.problems = vec![Problem::new(ProblemCode::DiskSlow).of("n2")], ""),
        (
            None,
            |s| s.problems = vec![Problem::new(ProblemCode::NodeCutOff).of("n2")],
            "n2 is cut off: some nodes reach it and some do not",
        ),
    ] {
        assert_eq!(missing(nodes, change), expected);
    }
}

fn gets_nothing() -> Vec<Problem> {
    vec![Problem::new(ProblemCode::GetsNothing).of("n2")]
}

/// Seen to fail with `not_in_sync` going by the front of each look: under load nobody ever was in
/// sync.
#[test]
fn in_sync_means_with_what_there_was_at_the_beginning() {
    let missing = |front, change: fn(&mut Status)| not_in_sync(&status(change), front).join("; ");
    assert_eq!(missing(100, |s| s.nodes[0].applied = 200), "");
    assert_eq!(
        missing(101, |s| s.nodes[0].applied = 200),
        "n2 is 1 entries behind; n3 is 1 entries behind"
    );
    assert_eq!(missing(100, |s| s.nodes[1].up = false), "n2 does not answer");
    assert_eq!(missing(100, |s| s.quorum = false), "the primary takes no writes");
    let lags = |s: &mut Status| (s.nodes[1].applied, s.nodes[1].drained) = (0, true);
    assert_eq!(missing(100, lags), "");
}

#[test]
fn clocks_are_good_when_synced_or_local() {
    let missing =
        |state: &str| bad_clocks(&status(|s| s.nodes[1].clock_state = state.to_owned())).join("; ");
    for good in ["synced", "local"] {
        assert_eq!(missing(good), "");
    }
    for bad in ["holdover", "disagree", "unsynced", "expired", "suspect"] {
        assert_eq!(missing(bad), format!("the clock of n2 is {bad}"));
    }
    assert_eq!(bad_clocks(&status(|s| s.nodes[1].up = false)), ["n2 does not answer"]);
}

/// Seen to fail with a learner that was never heard, and with `left` for any node that is down.
#[test]
fn a_node_is_in_each_state_or_is_said_to_be_in_another() {
    use NodeIs::{Down, Joined, Learner, Left, Primary, Removed, Up, Voter};
    type Case = (fn(&mut NodeRow), &'static [NodeIs]);
    let is = |state: NodeIs, change: fn(&mut NodeRow)| {
        node_is_not(&status(|s| change(&mut s.nodes[1])), "n2", state).is_none()
    };
    let changes: [Case; 6] = [
        // Meant to catch: the gateway believed alone: who says of itself that it only learns does not vote.
        (|row| row.role = "learner".to_owned(), &[Joined, Up]),
        (|_| {}, &[Voter, Joined, Up]),
        (|row| row.voter = false, &[Learner, Joined, Up]),
        (|row| (row.voter, row.state) = (false, "admitted".to_owned()), &[Up]),
        (|row| (row.up, row.state) = (false, "suspect".to_owned()), &[Voter, Down]),
        (|row| (row.up, row.state) = (false, "left".to_owned()), &[Voter, Down, Left]),
    ];
    for (change, holds) in changes {
        for state in [Voter, Learner, Joined, Left, Up, Down, Primary, Removed] {
            assert_eq!(is(state, change), holds.contains(&state), "{state:?} {holds:?}");
        }
    }
    assert_eq!(node_is_not(&status(|_| {}), "n1", Primary), None);
    assert_eq!(
        node_is_not(&status(|s| s.nodes[1].up = false), "n2", Up).unwrap(),
        "n2 is joined, down, a voter, backup"
    );
    assert_eq!(node_is_not(&status(|_| {}), "n9", Up).unwrap(), "n9 is not in the list of nodes");
}

#[test]
fn removed_is_known_of_members_only() {
    let row = |state: MemberState| MemberRow {
        name: "n2".to_owned(),
        state: state.into(),
        ..MemberRow::default()
    };
    assert!(removed("n2", &[row(MemberState::Removed)]).is_ok());
    assert!(matches!(removed("n2", &[row(MemberState::Left)]), Err(NotYet::Because(_))));
    let never = removed("n3", &[row(MemberState::Removed)]);
    assert!(matches!(never, Err(NotYet::Over(error)) if error.exit_code() == ExitCode::NotFound));
}
