//! What `logd recover` says, to people and to programs.

use std::fmt::Write as _;
use std::io::Write as _;

use proto::attest::Shown;
use proto::lineage::Lineage;
use serde::Serialize;

use crate::cli::Output;
use crate::exit::Failed;

use super::build::Begun;
use super::survey::{Answer, Survey, held};

/// The whole of it, for programs.
#[derive(Serialize)]
struct Report<'a> {
    node: &'a str,
    cluster: &'a str,
    raft_id: u64,
    lineage: String,
    intact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<&'a str>,
    starts: u64,
    term: u64,
    last_index: u64,
    last_term: u64,
    committed_index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_stamp: Option<&'a str>,
    voters: Vec<&'a str>,
    remembers: Vec<Store<'a>>,
    others: Vec<Other<'a>>,
    /// Whether a majority is there, or would be with this node.
    majority_is_there: bool,
    /// Why the command would be refused, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<Recovered>,
}

/// What another node has shown of its store.
#[derive(Serialize)]
struct Store<'a> {
    node: &'a str,
    raft_id: u64,
    starts: u64,
    term: u64,
    last_index: u64,
    committed_index: u64,
}

/// What another voter says now.
#[derive(Serialize)]
struct Other<'a> {
    node: &'a str,
    answers: bool,
    intact: bool,
    says: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shows: Option<Store<'a>>,
}

/// What was done.
#[derive(Serialize)]
struct Recovered {
    lineage: String,
    raft_id: u64,
    old_store: String,
    stamps_above: String,
    clock: &'static str,
}

impl<'a> Store<'a> {
    fn of(shown: &'a Shown) -> Self {
        Self {
            node: &shown.name,
            raft_id: shown.raft_id,
            starts: shown.starts,
            term: shown.term,
            last_index: held(shown),
            committed_index: shown.committed.as_ref().map_or(0, |place| place.index),
        }
    }
}

impl<'a> Report<'a> {
    fn of(survey: &'a Survey, begun: Option<&Begun>) -> Self {
        let (last_index, last_term) = survey.holds.last();
        let state = survey.holds.state.as_ref();
        Self {
            node: &survey.identity.node,
            cluster: &survey.identity.cluster,
            raft_id: survey.identity.raft_id,
            lineage: survey.lineage().to_string(),
            intact: survey.damage.is_none(),
            damage: survey.damage.as_deref(),
            starts: survey.holds.starts,
            term: survey.holds.term(),
            last_index,
            last_term,
            committed_index: survey.holds.committed(),
            applied_index: state.map(|state| state.applied_index),
            last_seq: state.map(|state| state.last_seq),
            last_stamp: state.map(|state| state.last_stamp.as_str()),
            voters: survey.voters.values().map(|member| member.name.as_str()).collect(),
            remembers: survey.remembers.iter().map(Store::of).collect(),
            others: survey.others.iter().map(other).collect(),
            majority_is_there: survey.require_loss().is_err(),
            refused: survey.require().err().map(|refused| format!("{refused:#}")),
            recovered: begun.map(|begun| Recovered {
                lineage: begun.lineage.to_string(),
                raft_id: begun.raft_id,
                old_store: begun.aside.display().to_string(),
                stamps_above: begun.stamps_above.clone(),
                clock: begun.clock.as_str(),
            }),
        }
    }
}

fn other((node, answer): &(String, Answer)) -> Other<'_> {
    match answer {
        Answer::None(why) => Other { node, answers: false, intact: false, says: why, shows: None },
        Answer::There(there) => Other {
            node,
            answers: true,
            intact: there.intact,
            says: &there.refusal,
            shows: there.shown.as_ref().map(Store::of),
        },
    }
}

/// Says what was found, and for programs what was done.
pub(super) fn survey(output: Output, survey: &Survey, begun: Option<&Begun>) -> Result<(), Failed> {
    let text = match output {
        Output::Text => text_of(survey),
        Output::Json => {
            let json = serde_json::to_string_pretty(&Report::of(survey, begun));
            json.map_err(Failed::other("write JSON"))? + "\n"
        }
    };
    print(&text)
}

/// Says to a person what was done and what comes next.
pub(super) fn begun(survey: &Survey, begun: &Begun) -> Result<(), Failed> {
    let Begun { lineage, raft_id, aside, stamps_above, clock } = begun;
    let node = &survey.identity.node;
    let mut out = format!(
        "\n{node} goes on alone: lineage {lineage}, raft id {raft_id}. Its old store is kept in {}.\n\
         Stamps go on above {stamps_above}, by a clock that is {}.\n",
        aside.display(),
        clock.as_str()
    );
    let others: Vec<&str> = survey.others.iter().map(|(name, _)| name.as_str()).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "next: start logd on {node}; then {} as they are or wiped, with rejoin = true: their stores are \
         put aside, and they vote again once they have everything. Remove those that never come back: \
         logctl node remove NAME",
        others.join(", ")
    );
    print(&out)
}

fn text_of(survey: &Survey) -> String {
    let (node, holds) = (&survey.identity.node, &survey.holds);
    let (last, last_term) = holds.last();
    let mut out = format!(
        "{node} of cluster {}: raft id {}, lineage {}, {} starts\n",
        survey.identity.cluster,
        survey.identity.raft_id,
        survey.lineage(),
        holds.starts
    );
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<14}{text}");
    };
    line(
        "store",
        match &survey.damage {
            None => "intact".to_owned(),
            Some(damage) => format!("damaged: {damage}. What follows is what was noted of it"),
        },
    );
    line("term", holds.term().to_string());
    line("last entry", format!("{last} of term {last_term}"));
    line("committed", format!("up to entry {}, as far as this node knows", holds.committed()));
    if let Some(state) = &holds.state {
        line(
            "state",
            format!(
                "of entry {}: {} records, the last stamped {}; the log goes on behind it",
                state.applied_index, state.last_seq, state.last_stamp
            ),
        );
    }
    let voters: Vec<&str> = survey.voters.values().map(|member| member.name.as_str()).collect();
    line("voters", voters.join(", "));
    for (name, answer) in &survey.others {
        line(name, said(answer));
    }
    for shown in &survey.remembers {
        let Store { node, term, last_index, committed_index, .. } = Store::of(shown);
        let of = Lineage::of(shown.raft_id);
        line(
            "remembers",
            format!(
                "{node}, lineage {of}: last entry {last_index}, committed up to {committed_index}, term {term}"
            ),
        );
    }
    let _ = write!(out, "{}", losses(survey));
    if let Err(refused) = survey.require() {
        let _ = writeln!(out, "This node may not go on alone: {refused:#}.");
    }
    out
}

fn said(answer: &Answer) -> String {
    match answer {
        Answer::None(why) => format!("no answer: {why}"),
        Answer::There(there) => {
            let how = if there.intact { "answers" } else { "answers, and cannot prove its store" };
            let shows = there.shown.as_ref().map_or_else(String::new, |shown| {
                let Store { last_index, committed_index, .. } = Store::of(shown);
                format!(", last entry {last_index}, committed up to {committed_index}")
            });
            let refuses = match there.refusal.as_str() {
                "" => String::new(),
                why => format!("; it refuses this node: {why}"),
            };
            format!("{how}{shows}{refuses}")
        }
    }
}

/// What would be lost, as far as anybody can say.
fn losses(survey: &Survey) -> String {
    let (last, committed) = (survey.holds.last().0, survey.holds.committed());
    let mut out = String::new();
    if committed < last {
        let from = committed + 1;
        let _ = writeln!(
            out,
            "Entries {from} to {last} may or may not have been acknowledged. They are here, and stay."
        );
    }
    match survey.furthest() {
        Some((name, index)) if index > last => {
            let from = last + 1;
            let _ = writeln!(
                out,
                "Entries {from} to {index} are missing here: {name} held them, and may have acknowledged \
                 them."
            );
        }
        Some(_) | None => {
            let _ = writeln!(out, "This node knows of no entry that it lacks.");
        }
    }
    let _ = writeln!(
        out,
        "What the others acknowledged after entry {} without this node is lost if it goes on alone: \
         nobody can say from here how much that is.",
        survey.furthest().map_or(last, |(_, index)| index.max(last))
    );
    out
}

fn print(text: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).map_err(Failed::other("write to stdout"))
}
