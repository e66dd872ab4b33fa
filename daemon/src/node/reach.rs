//! The verdict on who takes part: who answers, whom some reach and others do not, who gets nothing,
//! and who says that it is elsewhere.
//!
//! That a node speaks says only that its words come through. It takes part if it can be reached as
//! well, by everybody, at the address that the table says, and takes what the primary sends.
//!
//! Not here: who is heard and who answers (`peer_monitor`), what a primary knows of its followers
//! (`feeding`), nodes that are silent (`status`, by what the table notes of them).

use std::collections::BTreeMap;
use std::time::Duration;

use proto::{Problem, ProblemCode};

/// Nodes that have not been heard for this long yet cannot be expected to reach everybody.
pub(super) const STEADY_AFTER: Duration = Duration::from_secs(3);

/// A node as it is seen from here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) voter: bool,
    /// Whether it may be away: it is drained, or about to stop.
    pub(super) may_go: bool,
    /// Where the table says that it listens.
    pub(super) table: String,
    /// Whether its words come here.
    pub(super) speaks: bool,
    /// Whether it answers, too.
    pub(super) answers: bool,
    /// For how long it has been heard without a pause.
    pub(super) run: Duration,
    /// Where it says that it listens; empty if it says nothing.
    pub(super) claims: String,
    /// Whether somebody answers where the table says, while another claims to be it elsewhere.
    pub(super) two: bool,
    /// Who answers it, as it says.
    pub(super) reaches: Vec<String>,
    /// As primary: who takes nothing of what it sends.
    pub(super) unfed: Vec<String>,
    /// Its term.
    pub(super) term: u64,
    /// What it has applied for seconds; `None` if that is not known.
    pub(super) applied: Option<u64>,
    /// Where its log ends; 0 if it does not say.
    pub(super) log_end: u64,
}

/// What a person should look at. `nodes` are all members, this node, `own`, among them.
pub(super) fn problems(nodes: &[Seen], primary: &str, own: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for node in nodes.iter().filter(|node| !node.may_go) {
        problems.extend(elsewhere(node));
        problems.extend(deaf(node, own));
        problems.extend(cut_off(nodes, node));
    }
    let leads = nodes.iter().find(|node| node.name == primary);
    problems.extend(leads.into_iter().flat_map(|leads| ahead(nodes, leads)));
    for name in leads.into_iter().flat_map(|leads| &leads.unfed) {
        let unfed = nodes.iter().find(|node| node.name == *name);
        if unfed.is_some_and(|node| node.voter && !node.may_go) {
            problems.push(Problem::new(ProblemCode::GetsNothing).of(name));
        }
    }
    problems
}

/// A node whose word contradicts the table.
fn elsewhere(node: &Seen) -> Option<Problem> {
    let Seen { name, table, claims, .. } = node;
    let other = node.speaks && !claims.is_empty() && claims != table;
    let detail = if node.two {
        format!("it says that it listens at {claims}, but a node with its key answers at {table}")
    } else {
        format!("it says that it listens at {claims}, but the table says {table}")
    };
    let problem = || Problem::new(ProblemCode::ListensElsewhere).of(name).detail(detail);
    (other || node.two).then(problem)
}

/// Nodes that have applied what the primary does not have. What is applied was decided, and whoever
/// leads in that term or a later one has all that was: one of the two stores was set back.
///
/// What was applied is seconds old and the primary's word is fresh, so that its log has grown
/// meanwhile if it ever will.
fn ahead(nodes: &[Seen], leads: &Seen) -> Vec<Problem> {
    if !leads.answers || leads.run < STEADY_AFTER || leads.log_end == 0 {
        return Vec::new();
    }
    let ahead = |node: &Seen| {
        let counts = node.speaks && node.run >= STEADY_AFTER && node.term <= leads.term;
        let applied = node.applied.filter(|applied| counts && *applied > leads.log_end)?;
        let detail =
            format!("entry {applied}; the log of {} ends at {}", leads.name, leads.log_end);
        Some(Problem::new(ProblemCode::AheadOfPrimary).of(&node.name).detail(detail))
    };
    nodes.iter().filter(|node| node.name != leads.name).filter_map(ahead).collect()
}

/// A node that is heard and does not answer. It knows earlier than others that it hears nobody, and
/// says so: an answer may be on its way.
fn deaf(node: &Seen, own: &str) -> Option<Problem> {
    let Seen { name, table, .. } = node;
    let hears_us = node.answers && (name == own || node.reaches.iter().any(|name| name == own));
    let deaf = node.speaks && !hears_us && node.run >= STEADY_AFTER;
    let detail = format!("no answer from {table}");
    deaf.then(|| Problem::new(ProblemCode::DoesNotHear).of(name).detail(detail))
}

/// A node that some reach and others do not. Only those are asked whose words are steady, and who
/// reach anybody: else the fault is theirs.
fn cut_off(nodes: &[Seen], node: &Seen) -> Option<Problem> {
    let steady = |other: &&Seen| {
        let counts = other.answers && other.run >= STEADY_AFTER && !other.reaches.is_empty();
        other.name != node.name && !other.may_go && counts
    };
    let mut reached: BTreeMap<bool, Vec<&str>> = BTreeMap::new();
    for other in nodes.iter().filter(steady) {
        let reaches = other.reaches.contains(&node.name);
        reached.entry(reaches).or_default().push(&other.name);
    }
    // One that has just come is reached by one after the other.
    let fresh = node.speaks && node.run < STEADY_AFTER;
    let (Some(by), Some(not_by)) = (reached.get(&true), reached.get(&false)) else { return None };
    let detail = format!("{} reach it, {} do not", by.join(", "), not_by.join(", "));
    (!fresh).then(|| Problem::new(ProblemCode::NodeCutOff).of(&node.name).detail(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes that all reach each other, seen from n1.
    fn all_well() -> Vec<Seen> {
        let node = |n: u32| Seen {
            name: format!("n{n}"),
            voter: true,
            table: format!("h:{n}"),
            claims: format!("h:{n}"),
            speaks: true,
            answers: true,
            run: STEADY_AFTER,
            reaches: (1..=3).filter(|other| *other != n).map(|n| format!("n{n}")).collect(),
            ..Seen::default()
        };
        (1..=3).map(node).collect()
    }

    fn said(nodes: &[Seen]) -> Vec<String> {
        problems(nodes, "n3", "n1").iter().map(Problem::to_string).collect()
    }

    /// Seen to fail with: everybody who speaks called well, as the code before this rule did.
    #[test]
    fn who_speaks_and_cannot_be_reached_takes_no_part() {
        assert_eq!(said(&all_well()), [""; 0]);
        let mut nodes = all_well();
        nodes[1].answers = false;
        nodes[2].reaches = vec!["n1".to_owned()];
        nodes[0].reaches = vec!["n3".to_owned()];
        assert_eq!(said(&nodes), ["n2: it is heard but does not answer: no answer from h:2"]);
        nodes[1].run = Duration::ZERO;
        assert_eq!(said(&nodes), [""; 0], "it has just started");
        nodes[1].run = STEADY_AFTER;
        nodes[1].may_go = true;
        assert_eq!(said(&nodes), [""; 0]);
        // By its own word, before an answer is overdue.
        let mut nodes = all_well();
        nodes[1].reaches.clear();
        assert!(said(&nodes)[0].starts_with("n2: it is heard but does not answer"));
    }

    #[test]
    fn whom_some_reach_and_others_do_not_is_cut_off() {
        let mut nodes = all_well();
        nodes[0].reaches = vec!["n3".to_owned()];
        nodes[1].answers = false;
        assert_eq!(
            said(&nodes)[1..],
            ["n2 is cut off: some nodes reach it and some do not: n3 reach it, n1 do not"]
        );
        // Seen from n3, which reaches both: each is cut off from the other.
        let mut nodes = all_well();
        nodes[0].reaches = vec!["n3".to_owned()];
        nodes[1].reaches = vec!["n3".to_owned()];
        let cut: Vec<_> = problems(&nodes, "n3", "n3").iter().map(Problem::to_string).collect();
        assert!(cut.len() == 2 && cut[0].starts_with("n1 is cut off") && cut[1].starts_with("n2"));
        // Silent for all is not cut off; and a witness that has just come is none.
        let mut nodes = all_well();
        nodes[0].reaches = vec!["n3".to_owned()];
        nodes[2].reaches = vec!["n1".to_owned()];
        nodes[1] = Seen { speaks: false, answers: false, ..nodes[1].clone() };
        assert_eq!(said(&nodes), [""; 0], "what is silent the table tells of");
        let mut nodes = all_well();
        nodes[0].reaches.clear();
        nodes[0].run = Duration::ZERO;
        assert_eq!(said(&nodes), [""; 0]);
    }

    #[test]
    fn a_claim_against_the_table_and_a_voter_that_gets_nothing_are_told() {
        let mut nodes = all_well();
        nodes[0].claims = "h:9".to_owned();
        assert_eq!(
            said(&nodes),
            ["n1: it listens elsewhere: it says that it listens at h:9, but the table says h:1"]
        );
        nodes[0].two = true;
        assert!(
            said(&nodes)[0].ends_with("but a node with its key answers at h:1"),
            "{:?}",
            said(&nodes)
        );
        let mut nodes = all_well();
        nodes[2].unfed = vec!["n1".to_owned(), "n2".to_owned(), "n7".to_owned()];
        nodes[1].voter = false;
        assert_eq!(said(&nodes), ["n1: it gets nothing from the primary"]);
        assert_eq!(problems(&nodes, "n1", "n1"), [], "what another says who once led");
    }

    /// Seen to fail with a primary of an older term believed.
    #[test]
    fn who_has_applied_what_the_primary_lacks_is_told() {
        let nodes = |applied, log_end| {
            let mut nodes = all_well();
            (nodes[0].applied, nodes[0].term) = (Some(applied), 7);
            (nodes[2].log_end, nodes[2].term) = (log_end, 7);
            nodes
        };
        let told =
            ["n1: it has applied entries that the primary does not have: entry 9; the log of n3 \
              ends at 8"];
        assert_eq!(said(&nodes(9, 9)), [""; 0]);
        assert_eq!(said(&nodes(9, 8)), told);
        assert_eq!(said(&nodes(9, 0)), [""; 0], "it does not say");
        let but = |change: fn(&mut Vec<Seen>)| {
            let mut nodes = nodes(9, 8);
            change(&mut nodes);
            said(&nodes)
        };
        assert_eq!(but(|nodes| nodes[2].term = 8), told);
        assert_eq!(but(|nodes| nodes[0].term = 8), [""; 0], "n3 led once");
        assert_eq!(but(|nodes| nodes[0].applied = None), [""; 0]);
        for old in [0, 2] {
            let mut nodes = nodes(9, 8);
            nodes[old].run = Duration::ZERO;
            assert_eq!(said(&nodes), [""; 0], "its word may be an old one");
        }
        assert_eq!(but(|nodes| nodes[2].name = "n4".to_owned()), [""; 0], "nobody leads");
    }
}
