//! I7: reads by time, in every mode, are what a linear scan over all records gives. The logs are long
//! enough to fill blocks; bounds are narrow, wide, or unknown; stamps are raised; records are deleted
//! and expire; blocks begin in the middle of a log, as after an upgrade.
//!
//! Seen to fail with a span's `earliest` taken from the latest, with a block's row written although
//! counting began inside it, with `Skipper` caching the block's answer for the next one, with
//! possible time searched only between the stamps, with a page that goes on one record too far after
//! a pause, with rows of expired blocks left behind, and with definite time by stamp.

use bytes::Bytes;
use clock::{Hlc, Stamp};
use model::{
    Batch, Caller, Command, CommandOp, Machine, MemoryView, Query, Reader, Table, View, query,
};
use proptest::prelude::*;
use proto::Record;
use proto::limits::PAGE_STEPS_MAX;
use proto::wire::{Configure, TimeMode};

use crate::arbitrary::{NAMES, caller};

const START_NS: u64 = 1_700_000_000_000_000_000;
const MODES: [TimeMode; 3] = [TimeMode::Nominal, TimeMode::Possible, TimeMode::Definite];

/// A small generator, so that a log of thousands of commands comes from one number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// Narrow, wide, absurd or unknown. A spell keeps them for a while, as a clock does.
fn bounds(dice: &mut Dice) -> (u32, u32) {
    match dice.below(8) {
        0 => (Stamp::UNKNOWN, Stamp::UNKNOWN),
        1 => (dice.one(&[0, 9, Stamp::UNKNOWN]), Stamp::UNKNOWN),
        2 => (4_000_000_000, 4_000_000_000),
        3 => (0, 0),
        _ => {
            let most = dice.one(&[3, 2_000, 900_000]);
            (u32::try_from(dice.below(most)).unwrap(), u32::try_from(dice.below(most)).unwrap())
        }
    }
}

struct Log {
    view: MemoryView,
    index: u64,
    dice: Dice,
    ns: u64,
    bounds: (u32, u32),
    sent: u64,
}

impl Log {
    fn entry(&mut self, commands: Vec<Command>) {
        self.index += 1;
        let (early_us, late_us) = self.bounds;
        let base = Stamp { hlc: Hlc::from_ns(self.ns), early_us, late_us };
        let batch = Batch { base, primary: "n1".into(), commands };
        let mut machine = Machine::new(&self.view).unwrap();
        machine.apply(self.index, 1, Some(&batch)).unwrap();
        let changes = machine.into_changes();
        self.view.write(changes);
    }

    fn send(&mut self) -> Command {
        self.sent += 1;
        let op = CommandOp::Send {
            to: self.dice.one(&["alice", "bob", "*"]).into(),
            id: format!("m{}", self.sent),
            headers: Vec::new(),
            body: Bytes::from_static(b"x"),
        };
        Command { caller: caller(self.dice.one(&NAMES[..2])), gateway: "n1".into(), op }
    }

    fn node(op: CommandOp) -> Command {
        let caller = Caller::node(&"n1".parse().unwrap());
        Command { caller, gateway: "n1".into(), op }
    }

    /// One entry of a few sends, and now and then something else.
    fn step(&mut self) {
        if self.dice.below(30) == 0 {
            self.bounds = bounds(&mut self.dice);
        }
        // Steps back make the ratchet raise stamps.
        let step = self.dice.one(&[1_000, 700_000, 90_000_000, 3_000_000_000]);
        self.ns = match self.dice.below(20) {
            0 => self.ns - self.dice.below(1_000_000_000),
            _ => self.ns + self.dice.below(step),
        };
        let mut commands: Vec<Command> =
            (0..1 + self.dice.below(40)).map(|_| self.send()).collect();
        if self.dice.below(6) == 0 {
            let id = format!("m{}", 1 + self.dice.below(self.sent));
            let op = CommandOp::Delete { id, from: String::new(), reason: String::new() };
            commands.push(Command { caller: caller("admin"), gateway: "n1".into(), op });
        }
        if self.dice.below(4) == 0 {
            let op = CommandOp::Event {
                id: format!("e{}", self.sent),
                headers: vec![],
                body: "e".into(),
            };
            commands.push(Self::node(op));
        }
        self.entry(commands);
    }

    /// A log of at least `records`, with blocks from about `blocks_from` on, of which the oldest are
    /// expired.
    fn build(seed: u64, records: u64, blocks_from: u64, expired: u64) -> Self {
        let dice = Dice(seed);
        let view = MemoryView::default();
        let mut log = Self { view, index: 0, dice, ns: START_NS, bounds: (5, 7), sent: 0 };
        let register = |name: &&str| {
            let op = CommandOp::Register {
                name: (*name).into(),
                fingerprint: [7; 32],
                home: String::new(),
            };
            Command { caller: caller("admin"), gateway: "n1".into(), op }
        };
        log.entry(NAMES[..2].iter().map(register).collect());
        let mut begun = false;
        while log.sent < records {
            if !begun && log.sent >= blocks_from {
                begun = true;
                let all = Configure {
                    max_clock_error_us: Some(100_000),
                    on_loss: Some(0),
                    ..Configure::default()
                };
                log.entry(vec![Self::node(CommandOp::InitSettings(all))]);
            }
            log.step();
        }
        let stats = query::stats(&log.view).unwrap();
        let max_records = (stats.last_seq - expired).max(1);
        for _ in 0..=expired / 1000 {
            let op = CommandOp::Expire { max_age_ns: 0, max_records, max_bytes: 0 };
            log.entry(vec![Self::node(op)]);
        }
        log
    }

    /// Every kept record, straight from the rows' own seqs, with no search at all.
    fn all(&self) -> Vec<Record> {
        let admin = Reader { name: "admin".into(), admin: true };
        let mut all = Vec::new();
        for to in ["", "$events"] {
            let mut query = Query { to: to.into(), ..Query::default() };
            loop {
                let page = query::page(&self.view, &admin, &query).unwrap();
                query.after = page.next;
                all.extend(page.records);
                if page.end {
                    break;
                }
            }
        }
        all.sort_by_key(|record| record.seq);
        assert_eq!(all.len(), self.view.rows(Table::Records).count());
        all
    }
}

/// The rule, in other words than the code's: the nanoseconds of an interval against a range of stamps.
fn belongs(query: &Query, stamp: Stamp) -> bool {
    let since = query.since.unwrap_or(Hlc::ZERO);
    let before_end = |hlc: Hlc| query.until.is_none_or(|until| hlc < until);
    let interval = stamp.earliest_ns().zip(stamp.latest_ns());
    match query.mode {
        TimeMode::Nominal => stamp.hlc >= since && before_end(stamp.hlc),
        TimeMode::Possible => match interval {
            None => before_end(since),
            Some((earliest, latest)) => {
                let lowest = since.max(Hlc::from_ns(earliest));
                lowest <= Hlc { ns: latest, logical: u32::MAX } && before_end(lowest)
            }
        },
        TimeMode::Definite => interval.is_some_and(|(earliest, latest)| {
            Hlc::from_ns(earliest) >= since && before_end(Hlc { ns: latest, logical: u32::MAX })
        }),
    }
}

fn shown(reader: &Reader, query: &Query, record: &Record) -> bool {
    let inbox = record.to == reader.name || record.to == "*";
    let event = record.to == "$events";
    (if event { query.to == record.to } else { reader.admin || inbox || query.from == reader.name })
        && (query.from.is_empty() || query.from == record.from)
        && (query.to.is_empty() || query.to == record.to)
        && record.seq > query.after
        && belongs(query, record.full_stamp().unwrap())
}

/// An end of a range: none, anywhere, or at an edge of some record, just before it or just after.
fn end(dice: &mut Dice, all: &[Record]) -> Option<Hlc> {
    if dice.below(6) == 0 {
        return None;
    }
    let stamp = all[usize::try_from(dice.below(all.len() as u64)).unwrap()].full_stamp().unwrap();
    let edge = match dice.below(4) {
        0 => stamp.hlc,
        1 => Hlc::from_ns(stamp.earliest_ns().unwrap_or(stamp.hlc.ns)),
        2 => Hlc::from_ns(stamp.latest_ns().unwrap_or(stamp.hlc.ns)),
        _ => Hlc::from_ns(stamp.hlc.ns + dice.below(5_000_000_000)),
    };
    Some(match dice.below(4) {
        0 => edge.succ(),
        1 => Hlc { logical: edge.logical.saturating_sub(1), ..edge },
        2 => Hlc::from_ns(edge.ns + 1),
        _ => edge,
    })
}

fn question(dice: &mut Dice, all: &[Record]) -> (Reader, Query) {
    let (mut since, mut until) = (end(dice, all), end(dice, all));
    if let (Some(a), Some(b)) = (since, until)
        && b < a
    {
        (since, until) = (until, since);
    }
    let name = dice.one(&["admin", "alice"]);
    let query = Query {
        since,
        until,
        mode: dice.one(&MODES),
        from: dice.one(&["", "", "alice", "n1"]).into(),
        to: dice.one(&["", "", "alice", "*", "$events"]).into(),
        with: String::new(),
        after: dice.one(&[0, 0, 1000, 1023, 1024, 4095]),
        resumes: false,
        limit: usize::try_from(dice.one(&[0, 1000, 130, 7])).unwrap(),
    };
    (Reader { name: name.into(), admin: name == "admin" }, query)
}

/// Reads page after page; a small limit is followed for some pages only.
fn read(view: &dyn View, reader: &Reader, query: &Query) -> (Vec<Record>, bool) {
    let (mut found, mut query) = (Vec::new(), query.clone());
    for _ in 0..60 {
        let page = query::page(view, reader, &query).unwrap();
        assert!(page.end || page.next > query.after, "a page leads on");
        assert!(page.records.iter().all(|record| record.seq <= page.next));
        assert!(query.until.is_none_or(|until| page.safe <= until));
        query.after = page.next;
        found.extend(page.records);
        if page.end {
            return (found, true);
        }
    }
    (found, false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn modes_are_a_scan(
        seed in any::<u64>(),
        blocks_from in prop_oneof![3 => Just(0u64), 2 => 0u64..3000, 1 => Just(u64::MAX)],
        expired in prop_oneof![2 => Just(0u64), 2 => 0u64..4500],
    ) {
        let log = Log::build(seed, 4500, blocks_from, expired);
        let all = log.all();
        let rows = log.view.rows(Table::Blocks).count();
        prop_assert!(rows <= 50 && (rows > 8 || blocks_from > 2000 || expired > 2000));
        let first_seq = query::stats(&log.view).unwrap().first_seq;
        for (key, _) in log.view.rows(Table::Blocks) {
            let block = u64::from_be_bytes(key[1..].try_into().unwrap());
            let end = (block + 1) << (7 + 5 * u64::from(key[0]));
            prop_assert!(end > first_seq, "what is gone has no block");
        }
        let mut dice = Dice(seed ^ 0x5eed);
        for _ in 0..60 {
            let (reader, query) = question(&mut dice, &all);
            let expected: Vec<&Record> =
                all.iter().filter(|record| shown(&reader, &query, record)).collect();
            let (found, whole) = read(&log.view, &reader, &query);
            let matching = found.iter().eq(expected.iter().copied().take(found.len()));
            prop_assert!(matching, "{query:?}");
            prop_assert!(!whole || found.len() == expected.len(), "{query:?}");
            prop_assert!(whole || query.limit == 7, "sixty pages suffice for {query:?}");
        }
    }
}

/// What a block passes over is not read: with a view that counts, a search in possible time for the
/// newest of many records reads few rows.
#[test]
fn a_search_passes_over_blocks() {
    let mut log = Log::build(7, 1, 0, 0);
    log.bounds = (3, 3);
    while log.sent < 40_000 {
        log.ns += 1_000_000_000;
        let sends = (0..2000).map(|_| log.send()).collect();
        log.entry(sends);
    }
    let since = Some(Hlc::from_ns(log.ns));
    let admin = Reader { name: "admin".into(), admin: true };
    let query = Query { since, mode: TimeMode::Possible, limit: 1, ..Query::default() };
    let counting = Counting { view: &log.view, reads: std::cell::Cell::new(0) };
    let page = query::page(&counting, &admin, &query).unwrap();
    assert_eq!(page.records.len(), 1);
    let reads = counting.reads.get();
    assert!(reads < 300, "{reads} reads for one record of {}", log.sent);
}

struct Counting<'v> {
    view: &'v MemoryView,
    reads: std::cell::Cell<usize>,
}

impl View for Counting<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, model::ViewError> {
        self.reads.set(self.reads.get() + 1);
        self.view.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: model::Direction,
        limit: usize,
    ) -> Result<Vec<model::view::Row>, model::ViewError> {
        self.reads.set(self.reads.get() + 1);
        self.view.scan(table, from, to, direction, limit)
    }
}

/// No page takes longer than its steps, however little it finds: most bounds are unknown, so next to
/// nothing is definite, and no blocks are kept that would say so. Where the steps end, every other
/// record belongs to the answer, and none of them is lost.
#[test]
fn a_page_ends_before_it_takes_too_long() {
    let mut log = Log::build(7, 1, u64::MAX, 0);
    log.bounds = (Stamp::UNKNOWN, Stamp::UNKNOWN);
    let unknown = |log: &mut Log, until: u64| {
        while log.sent < until {
            log.ns += 1_000_000_000;
            let sends = (0..2000.min(until - log.sent)).map(|_| log.send()).collect();
            log.entry(sends);
        }
    };
    let around = PAGE_STEPS_MAX as u64;
    unknown(&mut log, around - 50);
    for known in [true, false].repeat(100) {
        log.bounds = if known { (1, 1) } else { (Stamp::UNKNOWN, Stamp::UNKNOWN) };
        let send = log.send();
        log.entry(vec![send]);
    }
    unknown(&mut log, 20_000);
    let belongs = |record: &&Record| belongs(&definite(), record.full_stamp().unwrap());
    let expected = log.all().iter().filter(belongs).count();
    let admin = Reader { name: "admin".into(), admin: true };
    let mut query = definite();
    let (mut pages, mut found) = (0, 0);
    loop {
        let counting = Counting { view: &log.view, reads: std::cell::Cell::new(0) };
        let page = query::page(&counting, &admin, &query).unwrap();
        assert!(counting.reads.get() < PAGE_STEPS_MAX + 200, "{}", counting.reads.get());
        pages += 1;
        found += page.records.len();
        query.after = page.next;
        if page.end {
            break;
        }
        let last = query::stats(&log.view).unwrap().last_stamp;
        assert!(page.safe < last, "what was not looked at is not said to be complete");
    }
    assert!(pages > 2, "{pages}");
    assert!(expected > 100 && found == expected, "{found} of {expected}");
}

fn definite() -> Query {
    Query { mode: TimeMode::Definite, ..Query::default() }
}
