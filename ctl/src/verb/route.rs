//! `logctl route`: where a key lies, and what would change hands if nodes came or went.

use proto::limits::SLOTS;
use proto::wire::{self, Op, Planned, Reply, Routed};
use serde::Serialize;

use crate::cli::{Globals, Route};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Shape, Show, Tone};
use crate::session::Session;
use crate::spread::{Counts, percent};

/// Where a key lies.
#[derive(Debug, Serialize)]
struct RouteView {
    key: String,
    slot: u32,
    shard: u32,
    home: String,
    primary: String,
    replicas: Vec<String>,
    epoch: u64,
}

/// What would change hands.
#[derive(Debug, Serialize)]
struct PlanView {
    slots: usize,
    moved: u64,
    percent: f64,
    before: Counts,
    after: Counts,
    moves: Vec<MoveView>,
}

#[derive(Debug, Serialize)]
struct MoveView {
    from: String,
    to: String,
    slots: u32,
}

/// One node's slots.
#[derive(Debug, Serialize)]
struct ShareView {
    node: String,
    before: u64,
    after: u64,
}

pub(crate) async fn run(args: Route, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let op = match read_plan(&args.plan)? {
        Some(plan) => Op::Plan(plan),
        None => {
            let key = args.key.or(args.key_option).unwrap_or_default();
            Op::Route(wire::Route { key })
        }
    };
    let session = Session::open(globals, &Home::from_env()?)?;
    let answer = session.call(op).await;
    session.close().await;
    match answer? {
        (_, Reply::Routed(routed)) => out.one(&RouteView::from(routed)),
        (_, Reply::Planned(planned)) => show_plan(&planned, out),
        _ => Err(CtlError::unexpected("no route")),
    }
}

/// Reads `add n4 n5` or `remove n2`.
fn read_plan(words: &[String]) -> Result<Option<wire::Plan>, CtlError> {
    let Some((what, names)) = words.split_first() else { return Ok(None) };
    let names: Vec<String> = names.to_vec();
    if let Some(bad) = names.iter().find(|name| name.parse::<proto::Name>().is_err()) {
        return Err(CtlError::usage(
            format!("'{bad}' is not the name of a node"),
            "logctl route --plan add n4",
        ));
    }
    match what.as_str() {
        "add" => Ok(Some(wire::Plan { add: names, remove: Vec::new() })),
        "remove" => Ok(Some(wire::Plan { add: Vec::new(), remove: names })),
        other => Err(CtlError::usage(
            format!("'{other}' is no plan: add or remove, and then nodes"),
            "logctl route --plan add n4, or --plan remove n2",
        )),
    }
}

/// Shows what would change hands.
fn show_plan(planned: &Planned, out: &mut Out) -> Result<(), CtlError> {
    let view = PlanView::from(planned);
    match out.shape() {
        Shape::Json => out.json(&view)?,
        Shape::Ndjson => out.json_line(&view)?,
        Shape::Table | Shape::Plain | Shape::Raw => out.list(&view.shares())?,
    }
    for moved in &view.moves {
        let (from, to) = (nobody(&moved.from), nobody(&moved.to));
        out.note(&format!("{from} -> {to}: {} slots", moved.slots));
    }
    out.note(&format!("{} of {} slots would move, {:.1} %", view.moved, view.slots, view.percent));
    Ok(())
}

fn nobody(name: &str) -> &str {
    if name.is_empty() { "nobody" } else { name }
}

impl From<Routed> for RouteView {
    fn from(routed: Routed) -> Self {
        let Routed { key, slot, shard, home, primary, replicas, epoch } = routed;
        Self { key, slot, shard, home, primary, replicas, epoch }
    }
}

impl Show for RouteView {
    fn headings() -> &'static [&'static str] {
        &["KEY", "SLOT", "SHARD", "HOME", "PRIMARY", "REPLICAS"]
    }

    fn row(&self) -> Vec<Cell> {
        self.plain().into_iter().map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.key.clone(),
            self.slot.to_string(),
            self.shard.to_string(),
            self.home.clone(),
            self.primary.clone(),
            self.replicas.join(","),
        ]
    }
}

impl From<&Planned> for PlanView {
    fn from(planned: &Planned) -> Self {
        let counts = |shares: &[proto::overview::Share]| {
            let mut counts = Counts::default();
            shares.iter().for_each(|share| counts.add(&share.node, share.slots.into()));
            counts
        };
        let moves = planned.moves.iter().map(|moved| MoveView {
            from: moved.from.clone(),
            to: moved.to.clone(),
            slots: moved.slots,
        });
        let moved = planned.moves.iter().map(|moved| u64::from(moved.slots)).sum();
        Self {
            slots: SLOTS,
            moved,
            percent: percent(moved, SLOTS as u64),
            before: counts(&planned.before),
            after: counts(&planned.after),
            moves: moves.collect(),
        }
    }
}

impl PlanView {
    fn shares(&self) -> Vec<ShareView> {
        let names = self.before.iter().chain(self.after.iter()).map(|(name, _)| name.to_owned());
        let all = Counts::of(names);
        let of = |counts: &Counts, node: &str| {
            counts.iter().find(|(name, _)| *name == node).map_or(0, |(_, slots)| slots)
        };
        let share = |(node, _): (&str, u64)| ShareView {
            node: node.to_owned(),
            before: of(&self.before, node),
            after: of(&self.after, node),
        };
        all.iter().map(share).collect()
    }
}

impl Show for ShareView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "SLOTS", "THEN", "CHANGE"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = if self.before == self.after { Tone::Neutral } else { Tone::Warning };
        let [node, before, after] =
            [self.node.clone(), self.before.to_string(), self.after.to_string()];
        vec![node.into(), before.into(), after.into(), Cell::toned(self.change(), tone)]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.node.clone(), self.before.to_string(), self.after.to_string(), self.change()]
    }
}

impl ShareView {
    fn change(&self) -> String {
        match self.after.checked_sub(self.before) {
            Some(0) => "0".to_owned(),
            Some(more) => format!("+{more}"),
            None => format!("-{}", self.before.abs_diff(self.after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::overview::{Move, Share};

    use proto::ExitCode;

    use super::*;
    use crate::out::tests::shown;

    fn share(node: &str, slots: u32) -> Share {
        Share { node: node.to_owned(), slots }
    }

    #[test]
    fn a_plan_names_every_node_and_its_change() {
        let moved = |from: &str, slots| Move { from: from.into(), to: "n3".into(), slots };
        let planned = Planned {
            before: vec![share("n1", 2048), share("n2", 2048)],
            after: vec![share("n1", 1366), share("n2", 1365), share("n3", 1365)],
            moves: vec![moved("n1", 682), moved("n2", 683)],
        };
        let view = PlanView::from(&planned);
        assert_eq!((view.moved, format!("{:.1}", view.percent)), (1365, "33.3".to_owned()));
        assert_eq!(
            shown(Shape::Plain, &view.shares()),
            "n1\t2048\t1366\t-682\nn2\t2048\t1365\t-683\nn3\t0\t1365\t+1365\n"
        );
    }

    #[test]
    fn plans_are_read_strictly() {
        let read = |words: &[&str]| {
            read_plan(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["add", "n4", "n5"]).unwrap().unwrap().add, ["n4", "n5"]);
        assert_eq!(read(&["remove", "n2"]).unwrap().unwrap().remove, ["n2"]);
        for bad in [&["swap", "n1"][..], &["add", "N1"], &["add", ""]] {
            assert_eq!(read(bad).unwrap_err().exit_code(), ExitCode::Usage, "{bad:?}");
        }
    }
}
