//! `logctl compact`: every node drops deleted and expired bodies from its disk.

use proto::ExitCode;
use proto::wire::{Empty, Op, Reply};
use serde::Serialize;

use crate::cli::Globals;
use crate::each_node::EachNode;
use crate::error::CtlError;
use crate::out::{Cell, Out, Show, Tone};

#[derive(Debug, Serialize)]
struct CompactView {
    node: String,
    compacted: bool,
    problem: Option<String>,
}

/// Compacts all nodes, or with `--via` only that one.
pub(crate) async fn run(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let each = EachNode::open(globals)?;
    let targets = match &globals.via {
        Some(node) => vec![node.clone()],
        None => each.names().await?,
    };
    let mut rows = Vec::new();
    let mut failed = None;
    // One after the other: a compaction keeps the disk busy.
    for node in targets {
        let done = match each.ask(Some(&node), Op::Compact(Empty {})).await {
            Ok((_, Reply::Compacted(_))) => Ok(()),
            Ok(_) => Err(CtlError::unexpected("no confirmation")),
            Err(error) => Err(error),
        };
        let problem = done.as_ref().err().map(CtlError::line);
        if problem.is_none() {
            out.did(format!("{node} is compacted"));
        }
        rows.push(CompactView { node: node.to_string(), compacted: problem.is_none(), problem });
        failed = failed.or_else(|| done.err());
    }
    out.list(&rows)?;
    match failed {
        None => Ok(()),
        Some(error) if rows.len() == 1 => Err(error),
        Some(error) => Err(CtlError::refused(
            ExitCode::Degraded,
            format!("not every node is compacted: {}", error.line()),
            "logctl status, then compact again",
        )),
    }
}

impl Show for CompactView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "COMPACTED", "PROBLEM"]
    }

    fn row(&self) -> Vec<Cell> {
        let (text, tone) = if self.compacted { ("yes", Tone::Good) } else { ("no", Tone::Bad) };
        let problem = self.problem.clone().unwrap_or_default();
        vec![self.node.as_str().into(), Cell::toned(text, tone), problem.into()]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.node.clone(),
            self.compacted.to_string(),
            self.problem.clone().unwrap_or_default(),
        ]
    }
}
