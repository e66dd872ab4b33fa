//! What a log must come to: every state that it went through, and which of them was promised.

use std::collections::BTreeMap;
use std::sync::Arc;

use log::memory::{MemoryDisk, Random};
use log::{Entry, Log, LogError, Mark, Options, Place, Vote};

pub(crate) const STORE: [u8; 16] = *b"the test's store";
pub(crate) const SHARDS: [u16; 2] = [1, 2];

pub(crate) fn options() -> Options {
    Options { segment_bytes: 16 << 10, group_bytes: 4 << 10, recent_bytes: 2 << 10 }
}

/// Seeds that a property is tried with: this many, or those of `SEEDS=100..5000`.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    let Ok(wanted) = std::env::var("SEEDS") else { return 0..count };
    let range = wanted.split_once("..").and_then(|(from, to)| {
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (from < to).then_some(from..to)
    });
    range.unwrap_or_else(|| panic!("SEEDS={wanted}: first..end"))
}

/// What one shard comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) floor: Option<Place>,
    pub(crate) last: Option<Place>,
    pub(crate) vote: Option<Vote>,
    pub(crate) entries: Vec<Entry>,
}

pub(crate) type State = BTreeMap<u16, Shard>;

impl Shard {
    pub(crate) fn end(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    fn append(&mut self, entry: Entry) {
        self.last = Some(Place::after(self.last.as_ref(), &entry));
        self.entries.push(entry);
    }

    fn truncate(&mut self, end: u64, last: Option<Place>) {
        self.entries.retain(|entry| entry.index < end);
        self.last = last;
    }

    fn purge(&mut self, floor: Place) {
        self.entries.retain(|entry| entry.index > floor.index);
        if self.last.is_none_or(|last| last.index <= floor.index) {
            self.last = Some(floor);
        }
        self.floor = Some(floor);
    }

    /// The place of an entry, counted anew.
    pub(crate) fn place(&self, index: u64) -> Option<Place> {
        let mut last = self.floor;
        for entry in self.entries.iter().take_while(|entry| entry.index <= index) {
            last = Some(Place::after(last.as_ref(), entry));
        }
        last.filter(|last| last.index == index)
    }
}

/// Where the records of a segment lie, as its headers say: first byte, and one past the last.
pub(crate) fn records(name: &str, bytes: &[u8]) -> Vec<(usize, usize)> {
    let life: u64 = name.split('.').next().unwrap().parse().unwrap();
    let (mut found, mut at) = (Vec::new(), 512);
    while at + 48 <= bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let end = at + 48 + usize::try_from(length).unwrap();
        let back = u32::from_be_bytes(bytes[at + 24..at + 28].try_into().unwrap());
        let start = at.checked_sub(usize::try_from(back).unwrap());
        let is_record = bytes[at + 8..at + 16] == life.to_be_bytes()
            && start.is_some_and(|start| start > 0 && start % 512 == 0)
            && (1..=5).contains(&bytes[at + 30]);
        if is_record && end <= bytes.len() {
            found.push((at, end));
            at = end.next_multiple_of(8);
        } else {
            at += 8;
        }
    }
    found
}

/// What the log says of itself, read in full.
pub(crate) fn state_of(log: &Log<MemoryDisk>) -> Result<State, LogError> {
    let mark = log.durable().mark;
    let mut state = State::new();
    for shard in SHARDS {
        let entries = log.entries(shard, 0, u64::MAX, usize::MAX)?;
        let (first, end) = log.range(shard);
        assert_eq!(entries.len() as u64, end - first, "all of the range is there");
        let (floor, vote) = (log.floor(shard), log.last_vote(shard));
        let last = mark.shard(shard).and_then(|mark| mark.last);
        let found = Shard { floor, last, vote, entries };
        assert_eq!(found.end(), end);
        if found != Shard::default() {
            state.insert(shard, found);
        }
    }
    Ok(state)
}

/// A log under way, with everything that it was told.
pub(crate) struct Run {
    pub(crate) disk: MemoryDisk,
    pub(crate) log: Log<MemoryDisk>,
    /// The states that it went through, one for every record.
    pub(crate) states: Vec<State>,
    /// The last of them that is durable by its word.
    pub(crate) acked: usize,
    /// What was durable by its word.
    pub(crate) mark: Arc<Mark>,
    pub(crate) random: Random,
    made: u64,
}

impl Run {
    /// A new log on a new disk.
    pub(crate) fn new(seed: u64) -> Self {
        let disk = MemoryDisk::new(seed);
        Log::create(disk.clone(), STORE, options()).unwrap();
        Self::open(disk, seed, None).unwrap()
    }

    /// A log that is there.
    pub(crate) fn open(disk: MemoryDisk, seed: u64, mark: Option<&Mark>) -> Result<Self, LogError> {
        let (log, _) = Log::open(disk.clone(), STORE, options(), mark)?;
        let (states, mark) = (vec![state_of(&log)?], log.durable().mark);
        Ok(Self { disk, log, states, acked: 0, mark, random: Random::new(seed), made: seed << 20 })
    }

    pub(crate) fn state(&self) -> &State {
        self.states.last().unwrap()
    }

    fn change(&mut self, shard: u16, change: impl FnOnce(&mut Shard)) {
        let mut state = self.state().clone();
        change(state.entry(shard).or_default());
        state.retain(|_, shard| *shard != Shard::default());
        self.states.push(state);
    }

    /// Takes some steps by chance; an error is the disk's.
    pub(crate) fn steps(&mut self, steps: usize) -> Result<(), LogError> {
        (0..steps).try_for_each(|_| self.step())
    }

    fn step(&mut self) -> Result<(), LogError> {
        let shard = SHARDS[usize::from(self.random.percent(30))];
        match self.random.below(100) {
            0..45 => self.append(shard),
            45..52 => self.vote(shard),
            52..57 => self.truncate(shard),
            57..64 => self.purge(shard),
            64..70 => self.log.mark().map(drop),
            70..76 => self.log.upkeep(&mut |_| {}).map(drop),
            _ => self.flush(),
        }
    }

    fn append(&mut self, shard: u16) -> Result<(), LogError> {
        let before = self.state().get(&shard).cloned().unwrap_or_default();
        let term = before.last.map_or(1, |last| last.term) + u64::from(self.random.percent(10));
        let mut entries = Vec::new();
        for at in 0..self.random.below(4) {
            self.made += 1;
            let size = [5, 40, 300, 900, 1500][usize::try_from(self.random.below(5)).unwrap()];
            let payload: Vec<u8> = self.made.to_be_bytes().into_iter().cycle().take(size).collect();
            entries.push(Entry { index: before.end() + at, term, payload: payload.into() });
        }
        self.log.append(shard, entries.clone())?;
        for entry in entries {
            self.change(shard, |shard| shard.append(entry));
        }
        Ok(())
    }

    fn vote(&mut self, shard: u16) -> Result<(), LogError> {
        let known = self.state().get(&shard).and_then(|shard| shard.vote);
        let term = known.map_or(1, |known| known.term + 1);
        let vote =
            Vote { term, node: self.random.below(3) + 1, committed: self.random.percent(50) };
        self.log.vote(shard, vote)?;
        self.change(shard, |shard| shard.vote = Some(vote));
        Ok(())
    }

    fn truncate(&mut self, shard: u16) -> Result<(), LogError> {
        let Some(now) = self.state().get(&shard).cloned() else { return Ok(()) };
        let end = now.end() - self.random.below(now.entries.len() as u64 + 1);
        self.log.truncate_after(shard, end.checked_sub(1))?;
        if end < now.end() {
            let last = end.checked_sub(1).and_then(|index| now.place(index));
            self.change(shard, |shard| shard.truncate(end, last));
        }
        Ok(())
    }

    fn purge(&mut self, shard: u16) -> Result<(), LogError> {
        let Some(now) = self.state().get(&shard).cloned() else { return Ok(()) };
        let Some(first) = now.entries.first() else { return Ok(()) };
        let floor = if self.random.percent(10) {
            // A snapshot brought what lies beyond the log's end.
            let (index, byte) =
                (now.end() + self.random.below(5), self.random.draw().to_be_bytes()[0]);
            Place { index, term: now.last.map_or(1, |last| last.term), hash: [byte; 32] }
        } else {
            let index = first.index + self.random.below(now.entries.len() as u64);
            now.place(index).unwrap()
        };
        self.log.purge_to(shard, floor)?;
        self.change(shard, |shard| shard.purge(floor));
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), LogError> {
        let durable = self.log.flush()?;
        (self.acked, self.mark) = (self.states.len() - 1, durable.mark);
        for (number, shard) in self.state() {
            let told = self.mark.shard(*number).unwrap();
            assert_eq!((told.floor, told.last, told.vote), (shard.floor, shard.last, shard.vote));
        }
        Ok(())
    }

    /// The idle log's mark.
    pub(crate) fn mark_idle(&mut self) {
        self.flush().unwrap();
        self.log.mark().unwrap();
        self.flush().unwrap();
        assert!(!self.log.wants_mark());
    }

    /// Whether a state is one that this log may come to after a fault: nothing that was promised is
    /// gone, and nothing is there that was never asked for.
    pub(crate) fn may_become(&self, state: &State) -> bool {
        self.states[self.acked..].contains(state)
    }
}
