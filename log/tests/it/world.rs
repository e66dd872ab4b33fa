//! A disk and a log that a golden script does things to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use golden::Line;
use log::memory::MemoryDisk;
use log::{Disk, Entry, Log, LogError, Mark, Options, Upkeep, Vote};

use crate::history::{STORE, records};

fn options() -> Options {
    Options { segment_bytes: 8 << 10, group_bytes: 2 << 10, recent_bytes: 1 << 10 }
}

pub(crate) struct World {
    disk: MemoryDisk,
    log: Option<Log<MemoryDisk>>,
    note: Option<Mark>,
    copies: BTreeMap<String, MemoryDisk>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { disk: MemoryDisk::new(0), log: None, note: None, copies: BTreeMap::new() }
    }

    fn log(&self) -> &Log<MemoryDisk> {
        self.log.as_ref().expect("the log is open")
    }

    /// Does what the command says; what it prints.
    pub(crate) fn run(&mut self, command: &str) -> Vec<String> {
        let mut line = Line::parse(command);
        let asks = ["append", "vote", "truncate", "purge", "mark", "flush", "upkeep", "note"];
        if self.log.is_none() && asks.contains(&line.verb.as_str()) {
            return vec!["the log is not open".to_owned()];
        }
        match line.verb.as_str() {
            "create" => Log::create(self.disk.clone(), STORE, options()).unwrap(),
            "open" => return self.open(),
            "append" => self.append(&mut line),
            "vote" => {
                let (term, node) = (line.word_as(1), line.option_as("node").unwrap_or(1));
                let vote = Vote { term, node, committed: line.has("committed") };
                {
                    let _ = self.log().vote(shard(&line), vote).unwrap();
                }
            }
            "truncate" => {
                let after = (!line.has("all")).then(|| line.word_as(1));
                {
                    let _ = self.log().truncate_after(shard(&line), after).unwrap();
                }
            }
            "purge" => {
                let floor = self.log().place_at(shard(&line), line.word_as(1)).unwrap().unwrap();
                {
                    let _ = self.log().purge_to(shard(&line), floor).unwrap();
                }
            }
            "mark" => {
                let _ = self.log().mark().unwrap();
            }
            "flush" => drop(self.log().flush().unwrap()),
            "upkeep" => while self.log().upkeep(&mut |_| {}).unwrap() != Upkeep::Nothing {},
            "note" => self.note = Some((*self.log().durable().mark).clone()),
            "forget" => self.note = None,
            "records" => return self.records(),
            _ => self.harm(&line),
        }
        line.end();
        Vec::new()
    }

    fn append(&self, line: &mut Line) {
        let size = line.option_as("bytes").unwrap_or(20);
        let term = line.option_as("term").unwrap_or(1);
        let (first, end) = line.word(1).split_once("..").unwrap();
        let entries = (first.parse().unwrap()..end.parse().unwrap()).map(|index| Entry {
            index,
            term,
            payload: vec![b'x'; size].into(),
        });
        self.log().append(shard(line), entries.collect()).unwrap();
    }

    /// What a bad disk or a person does to the files.
    fn harm(&mut self, line: &Line) {
        let file = |at| format!("{:016}.segment", line.word_as::<u64>(at));
        match line.verb.as_str() {
            "flip" => self.disk.flip(&file(0), line.word_as::<u64>(1) * 8 + 1).unwrap(),
            "zero" => {
                let mut bytes = self.disk.bytes(&file(0)).unwrap();
                let at = |at| line.word_as::<usize>(at);
                bytes[at(1)..at(2)].fill(0);
                self.disk.put(&file(0), &bytes);
            }
            "cut" => self.disk.cut(&file(0), line.word_as(1)).unwrap(),
            "take" => self.disk.take(&file(0)),
            "copy" => drop(self.copies.insert(line.word(0).to_owned(), self.disk.kill())),
            "back" => self.disk = self.copies[line.word(0)].kill(),
            "bring" => {
                let old = self.copies[line.word(1)].bytes(&file(0)).unwrap();
                self.disk.put(&file(0), &old);
            }
            other => panic!("unknown command {other}"),
        }
    }

    fn open(&mut self) -> Vec<String> {
        self.log = None;
        self.disk = self.disk.kill();
        let opened = Log::open(self.disk.clone(), STORE, options(), self.note.as_ref());
        let (log, found) = match opened {
            Ok(opened) => opened,
            Err(LogError::Damaged(finding)) => {
                return vec![format!("damaged ({:?}): {finding}", finding.kind())];
            }
            Err(error) => return vec![format!("error: {error}")],
        };
        let mark = log.durable().mark;
        let mut said = format!("intact, group {}", mark.group);
        if found.torn || found.dropped > 0 {
            let torn = if found.torn { ", the last group in part" } else { "" };
            write!(said, "{torn}, {} records dropped", found.dropped).unwrap();
        }
        let mut lines = vec![said];
        for shard in &mark.shards {
            let (first, end) = log.range(shard.shard);
            let mut line = format!("  shard {}: {first}..{end}", shard.shard);
            if let Some(last) = shard.last {
                write!(line, ", last {} of term {}", last.index, last.term).unwrap();
            }
            if let Some(Vote { term, node, committed }) = shard.vote {
                let how = if committed { ", committed" } else { "" };
                write!(line, ", vote {term} for {node}{how}").unwrap();
            }
            lines.push(line);
        }
        self.log = Some(log);
        lines
    }

    /// Where records lie: segment, byte, group, kind, shard, index.
    fn records(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in self.disk.list().unwrap() {
            let bytes = self.disk.bytes(&name).unwrap();
            let life: u64 = name.split('.').next().unwrap().parse().unwrap();
            let all = records(&name, &bytes);
            let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            for (at, _) in all {
                let kind = ["?", "entry", "vote", "truncation", "floor", "mark"];
                let kind = kind[usize::from(bytes[at + 30])];
                let flags = ["", " last", " full", " full last", "", " seal"];
                let flags = flags.get(usize::from(bytes[at + 31] & 7)).unwrap_or(&"?");
                let (group, index, shard) = (number(at + 16), number(at + 32), bytes[at + 29]);
                let what = match kind {
                    "mark" => String::new(),
                    "vote" => format!(" shard {shard}"),
                    _ => format!(" shard {shard} index {index}"),
                };
                lines.push(format!("{life}:{at} group {group} {kind}{what}{flags}"));
            }
        }
        lines
    }
}

fn shard(line: &Line) -> u16 {
    line.word_as(0)
}
