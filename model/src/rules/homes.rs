//! Homes: which node the clients of each of the 4096 slots call home. A table, so that shares are
//! even to one slot and no more moves than must when a node comes or goes.
//!
//! A node has its share from its first joining until it is removed: one that is away keeps it,
//! because a home is a preference and its clients come back to it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use proto::event::SHARD as SHARD_EVENT;
use proto::limits::{NODES_MAX, SLOTS};
use proto::member::ring_order;
use proto::overview::{Move, Share};
use proto::slots::slot_of_key;
use proto::wire::{Plan, Planned, Routed, Slots};
use proto::{Name, Stream};

use crate::rows::error::{QueryError, StateError, conflict, invalid, not_found};
use crate::rows::keys;
use crate::rows::member_rows::{can_do_without, nodes};
use crate::rows::slots::{slot_of, slot_table};
use crate::rows::view::{Table, View};
use crate::rules::events::Event;
use crate::rules::machine::Machine;

/// The homes of all slots, or of none before there is a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Homes {
    epoch: u64,
    /// In the order of the ring.
    nodes: Vec<String>,
    /// For each slot the place of its home in `nodes`; `SLOTS` long, or empty without nodes.
    homes: Vec<u8>,
}

const _: () = assert!(NODES_MAX <= 1 << 8, "the place of a node fits a byte");

#[derive(Clone, PartialEq, Message)]
struct HomesRow {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(string, repeated, tag = "2")]
    nodes: Vec<String>,
    #[prost(bytes = "bytes", tag = "3")]
    homes: Bytes,
}

impl Homes {
    pub(crate) fn load(view: &dyn View) -> Result<Self, StateError> {
        let Some(bytes) = view.get(Table::Slots, keys::HOMES)? else { return Ok(Self::default()) };
        let corrupt = |what| StateError::corrupt(Table::Slots, what);
        let row = HomesRow::decode(bytes).map_err(|_| corrupt("the homes do not parse"))?;
        let expected = if row.nodes.is_empty() { 0 } else { SLOTS };
        if row.homes.len() != expected {
            return Err(corrupt("the homes are not one for each slot"));
        }
        if row.homes.iter().any(|home| usize::from(*home) >= row.nodes.len()) {
            return Err(corrupt("a home is no node"));
        }
        if row.nodes.iter().collect::<BTreeSet<_>>().len() != row.nodes.len() {
            return Err(corrupt("a node has two shares"));
        }
        Ok(Self { epoch: row.epoch, nodes: row.nodes, homes: row.homes.to_vec() })
    }

    fn encode(&self) -> Vec<u8> {
        let due = if self.nodes.is_empty() { 0 } else { SLOTS };
        assert_eq!(self.homes.len(), due, "every slot has one home");
        let homes = Bytes::copy_from_slice(&self.homes);
        HomesRow { epoch: self.epoch, nodes: self.nodes.clone(), homes }.encode_to_vec()
    }

    fn home(&self, slot: u16) -> Option<&str> {
        let home = self.homes.get(usize::from(slot))?;
        self.nodes.get(usize::from(*home)).map(String::as_str)
    }

    /// Slots by home, in the order of the ring.
    fn shares(&self) -> Vec<(&str, Vec<u16>)> {
        let mut shares: Vec<(&str, Vec<u16>)> =
            self.nodes.iter().map(|node| (node.as_str(), Vec::new())).collect();
        for (slot, home) in (0..).zip(&self.homes) {
            if let Some((_, slots)) = shares.get_mut(usize::from(*home)) {
                slots.push(slot);
            }
        }
        shares
    }

    /// The table with these nodes. Every share is a floor or a ceiling of the even one, those who
    /// have most keep the ceilings, and nothing moves between two that stay but to even them.
    fn with_nodes(&self, mut names: Vec<String>) -> Self {
        names.sort_by(|a, b| ring_order(a, b));
        names.dedup();
        let epoch = self.epoch + 1;
        if names.is_empty() {
            return Self { epoch, ..Self::default() };
        }
        let mut shares: BTreeMap<&str, Vec<u16>> = self.shares().into_iter().collect();
        let mut most: Vec<&str> = names.iter().map(String::as_str).collect();
        // Stable, so nodes with equal shares stay in the order of the ring.
        most.sort_by_key(|name| std::cmp::Reverse(shares.get(name).map_or(0, Vec::len)));
        let (floor, ceilings) = (SLOTS / names.len(), SLOTS % names.len());
        let due: BTreeMap<&str, usize> =
            (0..).zip(most).map(|(i, name)| (name, floor + usize::from(i < ceilings))).collect();

        assert_eq!(due.values().sum::<usize>(), SLOTS, "the shares are all slots");
        let mut free: Vec<u16> = if self.homes.is_empty() { all_slots() } else { Vec::new() };
        for (name, slots) in &mut shares {
            slots.sort_by_cached_key(|slot| rank(name, *slot));
            free.extend(slots.drain(due.get(name).copied().unwrap_or(0).min(slots.len())..));
        }
        // Another order each time, in which nobody's slots stand together: who comes gets some of
        // everybody's. No name begins with '#'.
        let deal = format!("#{epoch}");
        free.sort_by_cached_key(|slot| rank(&deal, *slot));
        let mut free = free.into_iter();
        let mut homes = vec![0; SLOTS];
        for (home, name) in (0..).zip(&names) {
            let kept = shares.remove(name.as_str()).unwrap_or_default();
            let missing = due.get(name.as_str()).copied().unwrap_or(0) - kept.len();
            for slot in kept.into_iter().chain(free.by_ref().take(missing)) {
                if let Some(entry) = homes.get_mut(usize::from(slot)) {
                    *entry = home;
                }
            }
        }
        assert_eq!(free.next(), None, "no slot is left over");
        Self { epoch, nodes: names, homes }
    }

    /// The table after some come and some go; `None` if nothing changes by that.
    fn after(&self, come: &[String], go: &[String]) -> Option<Self> {
        let span = self.nodes.iter().filter(|name| !go.contains(name));
        let mut names: Vec<String> = span.cloned().collect();
        names.extend(come.iter().filter(|name| !self.nodes.contains(name)).cloned());
        names.sort_by(|a, b| ring_order(a, b));
        (names != self.nodes).then(|| self.with_nodes(names))
    }

    /// How many slots go from whom to whom; an empty name is nobody.
    fn moves<'h>(&'h self, after: &'h Self) -> BTreeMap<(&'h str, &'h str), u32> {
        let mut moves = BTreeMap::new();
        for slot in all_slots() {
            let (from, to) = (self.home(slot).unwrap_or(""), after.home(slot).unwrap_or(""));
            if from != to {
                *moves.entry((from, to)).or_insert(0) += 1;
            }
        }
        moves
    }
}

fn all_slots() -> Vec<u16> {
    (0..).take(SLOTS).collect()
}

/// An order of slots that is each node's own, so that what it hands over lies all over the table.
fn rank(node: &str, slot: u16) -> [u8; 8] {
    let mut input = slot.to_be_bytes().to_vec();
    input.extend_from_slice(node.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&input).as_bytes();
    [a, b, c, d, e, f, g, h]
}

impl Machine<'_> {
    /// Shares the slots out anew, if that is due, and says so.
    pub(crate) fn share_out(
        &mut self,
        come: &[String],
        go: &[String],
    ) -> Result<Option<Event>, StateError> {
        if come.is_empty() && go.is_empty() {
            return Ok(None);
        }
        let before = Homes::load(&self.rows)?;
        let Some(after) = before.after(come, go) else { return Ok(None) };
        assert!(after.epoch > before.epoch, "another table has another epoch");
        self.put(Table::Slots, keys::HOMES, after.encode());
        let moves = before.moves(&after);
        let slots: u32 = moves.values().sum();
        assert!(slots as usize <= SLOTS, "a slot moves once");
        if slots == 0 {
            return Ok(None);
        }
        let by = |side: fn(&(&str, &str)) -> String| {
            let mut sums: BTreeMap<String, u32> = BTreeMap::new();
            for (pair, slots) in &moves {
                *sums.entry(side(pair)).or_insert(0) += slots;
            }
            let mut sums: Vec<_> = sums.into_iter().filter(|(name, _)| !name.is_empty()).collect();
            sums.sort_by(|a, b| ring_order(&a.0, &b.0));
            sums
        };
        let (from, to) = (by(|pair| pair.0.to_owned()), by(|pair| pair.1.to_owned()));
        let listed = |sums: &[(String, u32)]| {
            let each = sums.iter().map(|(name, slots)| format!("{name}:{slots}"));
            each.collect::<Vec<_>>().join(",")
        };
        let names: Vec<&str> = to.iter().map(|(name, _)| name.as_str()).collect();
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        let event = Event::new(SHARD_EVENT, format!("shard: {slots} slots move to {names}"))
            .with("slots", slots)
            .with("from", listed(&from))
            .with("to", listed(&to))
            .with("epoch", after.epoch);
        Ok(Some(event))
    }
}

/// The homes of all slots.
///
/// # Errors
/// When the state cannot be read.
pub fn slots(view: &dyn View) -> Result<Slots, StateError> {
    let homes = Homes::load(view)?;
    Ok(Slots {
        epoch: homes.epoch,
        homes: homes.homes.into_iter().map(u32::from).collect(),
        nodes: homes.nodes,
    })
}

/// The home of a client that pinned none: that of its slot. `None` before the first member is known.
///
/// # Errors
/// When the state cannot be read.
pub fn home_of(view: &dyn View, client: &Name) -> Result<Option<String>, StateError> {
    let slot = slot_of(&Stream::Client(client.clone()));
    Ok(Homes::load(view)?.home(slot).map(str::to_owned))
}

/// Where a key lies, as far as the state knows: it names neither a primary nor replicas.
///
/// # Errors
/// When the state cannot be read.
pub fn route(view: &dyn View, key: &str) -> Result<Routed, StateError> {
    let slot = slot_of_key(key);
    let homes = Homes::load(view)?;
    let shard = slot_table(view)?.shard_of(slot).unwrap_or_default();
    Ok(Routed {
        key: key.to_owned(),
        slot: u32::from(slot),
        shard: u32::from(shard),
        home: homes.home(slot).unwrap_or_default().to_owned(),
        epoch: homes.epoch,
        ..Routed::default()
    })
}

/// What would change hands if nodes came and went. A removal that would be refused is refused here.
///
/// # Errors
/// `Invalid`, `Conflict` where one comes that is there, `NotFound` where one goes that is not.
pub fn plan(view: &dyn View, plan: &Plan) -> Result<Planned, QueryError> {
    let (before, members) = (Homes::load(view)?, nodes(view)?);
    let all: Vec<&String> = plan.add.iter().chain(&plan.remove).collect();
    if all.is_empty() {
        return Err(invalid("no node is named").into());
    }
    for (i, name) in all.iter().enumerate() {
        name.parse::<Name>().map_err(invalid)?;
        if all.iter().take(i).any(|other| other == name) {
            return Err(invalid(format!("'{name}' is named twice")).into());
        }
    }
    if let Some(name) = plan.add.iter().find(|name| before.nodes.contains(name)) {
        return Err(conflict(format!("{name} is a node of this cluster already")).into());
    }
    if before.nodes.len() + plan.add.len() > NODES_MAX {
        return Err(conflict(format!("at most {NODES_MAX} nodes are allowed")).into());
    }
    let there = |name: &String| {
        before.nodes.contains(name) || members.get(name).is_some_and(|node| !node.is_removed())
    };
    if let Some(name) = plan.remove.iter().find(|name| !there(name)) {
        let message = format!("no node '{name}': logctl nodes lists them");
        return Err(not_found(message).into());
    }
    let going: Vec<&str> = plan.remove.iter().map(String::as_str).collect();
    can_do_without(&members, &going)?;
    let after = before.after(&plan.add, &plan.remove).unwrap_or_else(|| before.clone());
    let shares = |homes: &Homes| {
        let one = |(node, slots): (&str, Vec<u16>)| Share {
            node: node.to_owned(),
            slots: u32::try_from(slots.len()).unwrap_or(u32::MAX),
        };
        homes.shares().into_iter().map(one).collect()
    };
    let one = |((from, to), slots): ((&str, &str), u32)| Move {
        from: from.to_owned(),
        to: to.to_owned(),
        slots,
    };
    let mut moves: Vec<Move> = before.moves(&after).into_iter().map(one).collect();
    let is_home = |homes: &Homes, name: &String| name.is_empty() || homes.nodes.contains(name);
    let between = |one: &Move| is_home(&before, &one.from) && is_home(&after, &one.to);
    assert!(moves.iter().all(between), "slots move between nodes that are known");
    moves.sort_by(|a, b| ring_order(&a.from, &b.from).then(ring_order(&a.to, &b.to)));
    Ok(Planned { before: shares(&before), after: shares(&after), moves })
}
