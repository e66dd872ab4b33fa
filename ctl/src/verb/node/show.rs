//! `logctl node show`: everything about one node.

use proto::Name;
use proto::member::MemberRow;
use proto::wire::{Empty, NodeRow, Op, RaftView, Reply};
use serde::Serialize;
use uuid::Uuid;
use views::engine::EngineView;
use views::member::MemberView;
use views::node::NodeLine;
use views::record::hlc_text;

use crate::cli::Globals;
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::{Cell, Out, Shape, Show};
use crate::renewal::now_s;

use super::{Talk, present};

/// A node: what the cluster wants it to be, what is seen of it, and what its engine says.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    member: MemberView,
    /// Incarnation of its store.
    store: Option<String>,
    /// Since when its state is what it is.
    since: Option<String>,
    /// What is seen of it; absent if no node has it in its list.
    node: Option<NodeLine>,
    rtt_us: Option<u64>,
    problems: Vec<String>,
    /// What its engine says; absent if it does not answer.
    engine: Option<EngineView>,
}

/// A fact, for people and for pipes.
#[derive(Debug, Serialize)]
struct Fact(String, String);

impl Show for Fact {
    fn headings() -> &'static [&'static str] {
        &["WHAT", "IS"]
    }

    fn row(&self) -> Vec<Cell> {
        vec![self.0.as_str().into(), self.1.as_str().into()]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.0.clone(), self.1.clone()]
    }
}

pub(super) async fn run(name: &Name, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let talk = Talk::open(globals)?;
    let seen = seen(&talk, name).await;
    talk.close().await;
    let (row, node) = seen?;
    // Of itself only the node can speak; that it does not is shown, and no failure.
    let brief = Globals { timeout: super::LOOK_TIME.min(globals.timeout), ..globals.clone() };
    let engine = EachNode::open(&brief)?.ask(Some(name), Op::Raft(Empty {})).await;
    let engine = match engine {
        Ok((_, Reply::Raft(view))) => Some(view),
        Ok(_) => None,
        Err(error) => {
            out.warn(&format!("{name}: {}", error.line()));
            None
        }
    };
    let document = document(&row, node.as_ref(), engine);
    match out.shape() {
        Shape::Json => out.json(&document),
        Shape::Ndjson => out.json_line(&document),
        Shape::Table | Shape::Plain | Shape::Raw => {
            out.list(&facts(&serde_json::to_value(&document).unwrap_or_default()))
        }
    }
}

async fn seen(talk: &Talk, name: &Name) -> Result<(MemberRow, Option<NodeRow>), CtlError> {
    let rows = talk.members().await?;
    let row = present(&rows, name)?.clone();
    let nodes = talk.change.nodes().await?;
    Ok((row, nodes.into_iter().find(|node| node.name == name.as_str())))
}

fn document(row: &MemberRow, node: Option<&NodeRow>, engine: Option<RaftView>) -> Document {
    Document {
        member: MemberView::from(row),
        store: Uuid::from_slice(&row.incarnation).ok().map(|store| store.to_string()),
        since: hlc_text(&row.since),
        rtt_us: node.map(|node| node.rtt_us).filter(|us| *us > 0),
        problems: node.map(texts_of).unwrap_or_default(),
        node: node.map(|row| NodeLine::new(row, now_s())),
        engine: engine.map(EngineView::from),
    }
}

fn texts_of(node: &NodeRow) -> Vec<String> {
    node.problems.iter().map(proto::Problem::text).collect()
}

/// The leaves of a document, each with its path.
fn facts(value: &serde_json::Value) -> Vec<Fact> {
    fn walk(path: &str, value: &serde_json::Value, facts: &mut Vec<Fact>) {
        use serde_json::Value;
        let mut push = |text: String| facts.push(Fact(path.to_owned(), text));
        match value {
            Value::Null => {}
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, facts);
                }
            }
            Value::Array(values) => {
                let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                push(texts.join(" "));
            }
            Value::String(text) => push(text.clone()),
            Value::Bool(_) | Value::Number(_) => push(value.to_string()),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    out
}
