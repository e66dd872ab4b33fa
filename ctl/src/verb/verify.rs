//! `logctl verify --state`: do all nodes hold the same, and does each disk hold what was written?

use std::collections::{BTreeMap, BTreeSet};

use proto::overview::DigestAt;
use proto::wire::{self, Op, Reply, Verified};
use proto::{ExitCode, Name};
use serde::Serialize;

use crate::cli::{Globals, Verify};
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::{Cell, Out, Show, Tone};

use super::histories::{self, Histories};

/// Rounds until two nodes are seen at the same entry. Under load they remember enough to be seen at
/// once; what they hold as a whole they read behind an entry that the primary orders for that.
const ROUNDS: usize = 3;

/// What was found at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct NodeLine {
    node: String,
    /// `same`, `different`, `two histories`, `alone` (nothing to compare with), `damaged` or
    /// `no answer`.
    verdict: &'static str,
    /// Entry at which it was compared.
    index: Option<u64>,
    digest: Option<String>,
    records: Option<u64>,
    bytes: Option<u64>,
    problems: Vec<String>,
}

impl Show for NodeLine {
    fn headings() -> &'static [&'static str] {
        &["NODE", "STATE", "INDEX", "DIGEST", "RECORDS", "BYTES", "PROBLEMS"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = match self.verdict {
            "same" => Tone::Good,
            "alone" => Tone::Neutral,
            _ => Tone::Bad,
        };
        let mut cells: Vec<Cell> = self.texts().into_iter().map(Cell::from).collect();
        if let Some(cell) = cells.get_mut(1) {
            *cell = Cell::toned(self.verdict, tone);
        }
        cells
    }

    fn plain(&self) -> Vec<String> {
        self.texts().into()
    }
}

impl NodeLine {
    fn texts(&self) -> [String; 7] {
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let digest = self.digest.as_deref().map_or("-", |hex| hex.get(..16).unwrap_or(hex));
        [
            self.node.clone(),
            self.verdict.to_owned(),
            number(self.index),
            digest.to_owned(),
            number(self.records),
            number(self.bytes),
            self.problems.join("; "),
        ]
    }
}

pub(crate) async fn run(args: Verify, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let each = EachNode::open(globals)?;
    // A node that is down stands in the live list too.
    let nodes = match each.names().await {
        Ok(names) if !names.is_empty() => names,
        Ok(_) => each.remembered(),
        Err(error) => return Err(error),
    };
    let op = Op::Verify(wire::Verify { deep: args.deep, places: Vec::new() });
    let mut found = Found::default();
    for _ in 0..ROUNDS {
        found.take(each.ask_all(&nodes, &op).await)?;
        if found.is_complete(args.deep) {
            break;
        }
    }
    let histories = histories::compare(&each, found.verified()).await;
    let lines = found.lines(&nodes, args.deep, histories.as_ref());
    out.list(&lines)?;
    out.hand_over();
    found.note(args.deep, out);
    verdict(&lines, histories.as_ref())
}

/// Answers of the nodes, the last of each.
#[derive(Debug, Default)]
struct Found {
    /// In the order in which the nodes were asked.
    answers: BTreeMap<String, Result<Verified, (ExitCode, String)>>,
}

/// An entry at which nodes are compared, and what each of them was like there.
type At = (u64, BTreeMap<String, Vec<u8>>);

impl Found {
    fn take(&mut self, answers: Vec<(Name, Result<Reply, CtlError>)>) -> Result<(), CtlError> {
        for (node, answer) in answers {
            let answer = match answer {
                Ok(Reply::Verified(verified)) => Ok(verified),
                Ok(_) => return Err(CtlError::unexpected("no digests")),
                // Not a matter of one node: the caller may not, or the command is no good.
                Err(error) => match error.exit_code() {
                    ExitCode::Usage | ExitCode::Denied | ExitCode::Conflict => return Err(error),
                    code @ (ExitCode::Other
                    | ExitCode::Unreachable
                    | ExitCode::NotFound
                    | ExitCode::Unknown
                    | ExitCode::Degraded
                    | ExitCode::NoQuorum
                    | ExitCode::Clock
                    | ExitCode::Integrity
                    | ExitCode::Interrupted
                    | ExitCode::ReaderGone) => Err((code, error.line())),
                },
            };
            // What found damage takes no part from then on; what it found is the answer.
            let told = |answer: &Result<Verified, _>| {
                answer.as_ref().is_ok_and(|verified| !verified.problems.is_empty())
            };
            if answer.is_err() && self.answers.get(node.as_str()).is_some_and(told) {
                continue;
            }
            self.answers.insert(node.to_string(), answer);
        }
        Ok(())
    }

    fn verified(&self) -> impl Iterator<Item = &Verified> {
        self.answers.values().flatten()
    }

    /// The newest entry that all who answer remember, or else as many of them as possible.
    fn common(&self) -> Option<At> {
        let digests = |node: &Verified| node.digests.clone();
        self.best(digests)
    }

    /// The entry at which most were read as a whole.
    fn content(&self) -> Option<At> {
        self.best(|node| node.contents.iter().chain(&node.content).cloned().collect())
    }

    fn best(&self, of: impl Fn(&Verified) -> Vec<DigestAt>) -> Option<At> {
        let mut by_index: BTreeMap<u64, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        for node in self.verified() {
            for at in of(node) {
                by_index.entry(at.index).or_default().insert(node.node.clone(), at.digest);
            }
        }
        by_index.into_iter().max_by_key(|(index, nodes)| (nodes.len(), *index))
    }

    fn is_complete(&self, deep: bool) -> bool {
        let count = self.verified().count();
        let all = |at: Option<At>| at.is_some_and(|(_, nodes)| nodes.len() == count);
        count == self.answers.len() && all(self.common()) && (!deep || all(self.content()))
    }

    fn lines(&self, nodes: &[Name], deep: bool, histories: Option<&Histories>) -> Vec<NodeLine> {
        let common = self.common();
        let content = if deep { self.content() } else { None };
        let line = |name: &Name| match self.answers.get(name.as_str()) {
            Some(Ok(verified)) => line(verified, common.as_ref(), content.as_ref(), histories),
            Some(Err((code, why))) => NodeLine {
                node: name.to_string(),
                verdict: if *code == ExitCode::Integrity { "damaged" } else { "no answer" },
                index: None,
                digest: None,
                records: None,
                bytes: None,
                problems: vec![why.clone()],
            },
            None => unanswered(name),
        };
        nodes.iter().map(line).collect()
    }

    fn note(&self, deep: bool, out: &Out) {
        let (asked, answered) = (self.answers.len(), self.verified().count());
        let compared = self.common().map_or(0, |(_, nodes)| nodes.len());
        if compared < answered {
            out.note(&format!(
                "{compared} of {answered} nodes were at the same entry; the others are catching up"
            ));
        }
        let read = self.content().map_or(0, |(_, nodes)| nodes.len());
        if deep && read < answered {
            out.note(&format!(
                "{read} of {asked} nodes were read as a whole at the same entry: without a primary \
                 that orders it, the whole is compared only where nothing is written meanwhile"
            ));
        }
    }
}

fn unanswered(name: &Name) -> NodeLine {
    NodeLine {
        node: name.to_string(),
        verdict: "no answer",
        index: None,
        digest: None,
        records: None,
        bytes: None,
        problems: Vec::new(),
    }
}

/// Compares one node with the others.
fn line(
    verified: &Verified,
    common: Option<&At>,
    content: Option<&At>,
    histories: Option<&Histories>,
) -> NodeLine {
    let own = |at: Option<&At>| at.and_then(|(_, nodes)| nodes.get(&verified.node).cloned());
    let mut problems = verified.problems.clone();
    let side = histories.and_then(|histories| histories.side_of(&verified.node));
    problems.extend(side.clone());
    // Where the histories are two, so is everything that came of them: nobody is wrong by that.
    let alike = side.is_none();
    for (at, what) in [(common, "its history"), (content, "what it holds")] {
        let Some((index, _)) = at else { continue };
        if alike && at.is_some_and(|at| differs(at, &verified.node)) {
            problems.push(format!("{what} is not that of the others at entry {index}"));
        }
    }
    let digest = own(common);
    let others = common.map_or(0, |(_, nodes)| nodes.len());
    let verdict = match (problems.is_empty(), verified.problems.is_empty()) {
        (false, false) => "damaged",
        (false, true) if !alike => "two histories",
        (false, true) => "different",
        (true, _) if digest.is_some() && others > 1 => "same",
        (true, _) => "alone",
    };
    NodeLine {
        node: verified.node.clone(),
        verdict,
        index: digest.is_some().then(|| common.map(|(index, _)| *index)).flatten(),
        digest: digest.map(|bytes| hex(&bytes)),
        records: content.map(|_| verified.records),
        bytes: content.map(|_| verified.bytes),
        problems,
    }
}

/// Whether a node is not one of the largest group of equals; where no group is, all differ.
fn differs((_, nodes): &At, node: &str) -> bool {
    let Some(own) = nodes.get(node) else { return false };
    let distinct: BTreeSet<&Vec<u8>> = nodes.values().collect();
    let count = |digest: &Vec<u8>| nodes.values().filter(|other| *other == digest).count();
    distinct.into_iter().any(|other| other != own && count(other) >= count(own))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verdict(lines: &[NodeLine], histories: Option<&Histories>) -> Result<(), CtlError> {
    let those = |verdicts: &[&str]| {
        let is = |line: &&NodeLine| verdicts.contains(&line.verdict);
        lines.iter().filter(is).map(|line| line.node.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (damaged, silent) = (those(&["damaged", "different"]), those(&["no answer"]));
    if !damaged.is_empty() {
        return Err(CtlError::refused(
            ExitCode::Integrity,
            format!("not what the others hold, or not what was written: {damaged}"),
            "it steps back and is repaired by the others: see logctl status, and its log",
        ));
    }
    if let Some(histories) = histories {
        return Err(CtlError::refused(
            ExitCode::Integrity,
            histories.to_string(),
            "logctl --via NODE read --stale shows what each holds; decide with which to go on",
        ));
    }
    if !silent.is_empty() {
        let hint = "logctl status; give a longer --timeout where there is much to read";
        return Err(CtlError::refused(ExitCode::Degraded, format!("no answer of {silent}"), hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(node: &str, digests: &[(u64, u8)]) -> Verified {
        let at = |&(index, byte): &(u64, u8)| DigestAt { index, digest: vec![byte; 32] };
        Verified {
            node: node.to_owned(),
            digests: digests.iter().map(at).collect(),
            ..Verified::default()
        }
    }

    fn found(answers: impl IntoIterator<Item = Verified>) -> (Found, Vec<Name>) {
        let answers: BTreeMap<_, _> =
            answers.into_iter().map(|answer| (answer.node.clone(), Ok(answer))).collect();
        let names = answers.keys().map(|name| name.parse().unwrap()).collect();
        (Found { answers }, names)
    }

    fn verdicts((found, names): &(Found, Vec<Name>), deep: bool) -> Vec<&'static str> {
        found.lines(names, deep, None).iter().map(|line| line.verdict).collect()
    }

    /// Seen to fail with the newest entry of any node taken instead of one that most remember.
    #[test]
    fn nodes_are_compared_where_they_all_have_been() {
        let nodes = found([
            verified("n1", &[(5, 1), (6, 2), (7, 3)]),
            verified("n2", &[(4, 9), (5, 1), (6, 2)]),
            verified("n3", &[(5, 1), (6, 2), (7, 3), (8, 4)]),
        ]);
        let lines = nodes.0.lines(&nodes.1, false, None);
        assert!(lines.iter().all(|line| line.index == Some(6) && line.verdict == "same"));
        assert!(nodes.0.is_complete(false) && verdict(&lines, None).is_ok());
    }

    #[test]
    fn the_one_that_went_its_own_way_is_named() {
        let nodes = found([
            verified("n1", &[(5, 1)]),
            verified("n2", &[(5, 7)]),
            verified("n3", &[(5, 1)]),
        ]);
        assert_eq!(verdicts(&nodes, false), ["same", "different", "same"]);
        let error = verdict(&nodes.0.lines(&nodes.1, false, None), None).unwrap_err();
        assert!(
            error.exit_code() == ExitCode::Integrity && error.line().ends_with("n2"),
            "{}",
            error.line()
        );
        let two = found([verified("n1", &[(5, 1)]), verified("n2", &[(5, 7)])]);
        assert_eq!(verdicts(&two, false), ["different", "different"]);
    }

    #[test]
    fn damage_and_silence_are_told_apart() {
        let mut hurt = verified("n1", &[(5, 1)]);
        hurt.problems.push("record 3 is not what was stored".to_owned());
        let mut nodes = found([hurt, verified("n2", &[(5, 1)])]);
        assert_eq!(verdicts(&nodes, false), ["damaged", "same"]);
        nodes.0.answers.insert("n1".to_owned(), Err((ExitCode::Unreachable, "down".to_owned())));
        let lines = nodes.0.lines(&nodes.1, false, None);
        assert_eq!(lines[0].verdict, "no answer");
        assert_eq!(verdict(&lines, None).unwrap_err().exit_code(), ExitCode::Degraded);
        nodes.0.answers.insert("n1".to_owned(), Err((ExitCode::Integrity, "repairing".to_owned())));
        assert_eq!(
            verdict(&nodes.0.lines(&nodes.1, false, None), None).unwrap_err().exit_code(),
            ExitCode::Integrity
        );
    }

    /// Seen to fail with the contents not compared.
    #[test]
    fn what_is_held_counts_too() {
        let with = |node: &str, byte: u8| Verified {
            content: Some(DigestAt { index: 5, digest: vec![byte; 32] }),
            ..verified(node, &[(5, 1)])
        };
        let nodes = found([with("n1", 1), with("n2", 2), with("n3", 1)]);
        assert_eq!(verdicts(&nodes, true), ["same", "different", "same"]);
    }
}
