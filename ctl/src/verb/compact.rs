//! `logctl compact`: every node drops deleted and expired bodies from its disk.

use proto::Name;
use proto::wire::{Empty, Op, Reply};
use serde::Serialize;

use crate::cli::Globals;
use crate::context::{self, Context};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Show, Tone};
use crate::session::Session;
use crate::verb::nodes;

#[derive(Debug, Serialize)]
struct CompactView {
    node: String,
    compacted: bool,
    problem: Option<String>,
}

/// Compacts all nodes, or with `--via` only that one.
pub(crate) async fn run(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let home = Home::from_env()?;
    let (name, context) = context::choose(&home, globals.context.as_ref())?;
    let targets = match &globals.via {
        Some(node) => vec![node.to_string()],
        None => {
            let session = Session::with(globals, &home, &name, context.clone(), None)?;
            let list = nodes::list(&session).await;
            session.close().await;
            list?.iter().map(|node| node.id().to_owned()).collect()
        }
    };
    let mut rows = Vec::new();
    let mut failed = None;
    for node in targets {
        let done = compact(globals, &home, &name, context.clone(), &node).await;
        let problem = done.as_ref().err().map(CtlError::line);
        rows.push(CompactView { node, compacted: problem.is_none(), problem });
        failed = failed.or_else(|| done.err());
    }
    out.list(&rows)?;
    match failed {
        None => Ok(()),
        Some(error) if rows.len() == 1 => Err(error),
        Some(error) => Err(CtlError::refused(
            10,
            format!("not every node is compacted: {}", error.line()),
            "logctl status, then compact again",
        )),
    }
}

async fn compact(
    globals: &Globals,
    home: &Home,
    name: &Name,
    context: Context,
    node: &str,
) -> Result<(), CtlError> {
    let via = node.parse().map_err(|_| CtlError::strange("a node without a name"))?;
    let session = Session::with(globals, home, name, context, Some(&via))?;
    let answer = session.call(Op::Compact(Empty {})).await;
    session.close().await;
    match answer? {
        (_, Reply::Compacted(_)) => Ok(()),
        _ => Err(CtlError::strange("no confirmation")),
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
