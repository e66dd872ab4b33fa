//! What a golden script acts on: a stored state and a primary that stamps entries for it.

use bytes::Bytes;
use clock::{Hlc, Stamp};
use golden::Line;
use model::{
    Batch, Caller, Command, CommandOp, Found, Machine, MemoryView, Outcome, Page, Query, Reader,
    Table, query,
};
use proto::group::{GroupMembers, GroupName, GroupOp, GroupView};
use proto::kv::KvRow;
use proto::wire::{Configure, GroupChange, KvChange, OnLoss, Position, TimeMode};
use proto::{Header, Record};

use crate::cluster;

/// Second 0 of every script: 2026-11-21T01:00:00Z.
const START_NS: u64 = 1_795_222_800_000_000_000;
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// What a script can do.
#[derive(Debug, Clone, Copy)]
enum Verb {
    // Commands of the log; the first word is who asks.
    Register,
    Send,
    Delete,
    Cursor,
    Configure,
    Group,
    Kv,
    // Commands of nodes.
    Event,
    Init,
    Expire,
    Tick,
    Term,
    // The log itself.
    Blank,
    Clock,
    Bounds,
    Propose,
    // Reads.
    Page,
    Get,
    Clients,
    CursorOf,
    Head,
    Settings,
    Stats,
    Rows,
    Slot,
    Home,
    Groups,
    GroupOf,
    KvGet,
    KvList,
    Gateways,
    // Nodes, tokens and homes.
    Cluster(cluster::Verb),
}

impl Verb {
    fn parse(word: &str) -> Self {
        if let Some(verb) = cluster::Verb::parse(word) {
            return Self::Cluster(verb);
        }
        match word {
            "register" => Self::Register,
            "send" => Self::Send,
            "delete" => Self::Delete,
            "cursor" => Self::Cursor,
            "configure" => Self::Configure,
            "group" => Self::Group,
            "kv" => Self::Kv,
            "event" => Self::Event,
            "init" => Self::Init,
            "expire" => Self::Expire,
            "tick" => Self::Tick,
            "term" => Self::Term,
            "blank" => Self::Blank,
            "clock" => Self::Clock,
            "bounds" => Self::Bounds,
            "propose" => Self::Propose,
            "page" => Self::Page,
            "get" => Self::Get,
            "clients" => Self::Clients,
            "cursor-of" => Self::CursorOf,
            "head" => Self::Head,
            "settings" => Self::Settings,
            "stats" => Self::Stats,
            "rows" => Self::Rows,
            "slot" => Self::Slot,
            "home" => Self::Home,
            "groups" => Self::Groups,
            "group-of" => Self::GroupOf,
            "kv-get" => Self::KvGet,
            "kv-list" => Self::KvList,
            "gateways" => Self::Gateways,
            _ => panic!("unknown command {word}"),
        }
    }
}

pub(crate) struct World {
    view: MemoryView,
    index: u64,
    term: u64,
    /// Nanoseconds since `START_NS`.
    clock_ns: u64,
    /// Stamp to propose for the next entry instead of a proper one.
    proposed: Option<Hlc>,
    last: Hlc,
    /// Bounds of what is stamped, microseconds.
    early_us: u32,
    late_us: u32,
}

impl Default for World {
    fn default() -> Self {
        Self {
            view: MemoryView::default(),
            index: 0,
            term: 0,
            clock_ns: 0,
            proposed: None,
            last: Hlc::ZERO,
            early_us: 5,
            late_us: 7,
        }
    }
}

impl World {
    /// Runs the commands of one block and returns what they print.
    pub(crate) fn run(&mut self, commands: &[String]) -> Vec<String> {
        let (mut out, mut batch) = (Vec::new(), Vec::new());
        for text in commands {
            // `+ ` in front puts a command into the entry of the one before.
            let joined = text.strip_prefix("+ ");
            let mut line = Line::parse(joined.unwrap_or(text));
            let verb = Verb::parse(&line.verb);
            if joined.is_none() {
                self.apply(std::mem::take(&mut batch), &mut out);
            }
            match self.command(verb, &mut line) {
                Some(command) => batch.push(command),
                None => self.control(verb, &mut line, &mut out),
            }
            line.end();
        }
        self.apply(batch, &mut out);
        out
    }

    fn command(&mut self, verb: Verb, line: &mut Line) -> Option<Command> {
        let op = match verb {
            Verb::Register => CommandOp::Register {
                name: line.text("name"),
                fingerprint: fingerprint(&line.text("with")),
                home: line.text("home"),
            },
            Verb::Send => CommandOp::Send {
                to: line.text("to"),
                id: line.text("id"),
                headers: headers(line),
                body: body(line),
            },
            Verb::Delete => CommandOp::Delete {
                id: line.text("id"),
                from: line.text("from"),
                reason: line.text("reason"),
            },
            Verb::Cursor => CommandOp::SetCursor {
                name: line.text("name"),
                positions: positions(&line.text("at")),
            },
            Verb::Configure => CommandOp::Configure(settings(line)),
            Verb::Group => CommandOp::Group(group_change(line)),
            Verb::Kv => CommandOp::Kv(kv_change(line)),
            Verb::Init => CommandOp::InitSettings(settings(line)),
            Verb::Event => {
                CommandOp::Event { id: line.text("id"), headers: headers(line), body: body(line) }
            }
            Verb::Expire => CommandOp::Expire {
                max_age_ns: line.number::<u64>("age") * SECOND_NS,
                max_records: line.number("records"),
                max_bytes: line.number("bytes"),
            },
            Verb::Tick => CommandOp::Tick,
            Verb::Term => {
                self.term = line.number("of");
                CommandOp::TermStart { node: line.word(0).to_owned(), term: self.term }
            }
            Verb::Cluster(verb) => verb.command(line)?,
            _ => return None,
        };
        let name = line.words.first().map_or("n1", String::as_str).to_owned();
        let key = line.option("key").unwrap_or_else(|| name.clone());
        let role = line.text("role");
        let admin = role == "admin" || name == "admin";
        let fingerprint = if role == "node" { [0; 32] } else { fingerprint(&key) };
        let caller = Caller { name, admin, fingerprint };
        let gateway = line.option("via").unwrap_or_else(|| "n2".to_owned());
        Some(Command { caller, gateway, op })
    }

    /// Stamps, encodes, decodes and applies one entry.
    fn apply(&mut self, commands: Vec<Command>, out: &mut Vec<String>) {
        if commands.is_empty() {
            return;
        }
        let now = Hlc::from_ns(START_NS + self.clock_ns);
        let tick = if now > self.last { now } else { self.last.succ() };
        let hlc = self.proposed.take().unwrap_or(tick);
        let base = Stamp { hlc, early_us: self.early_us, late_us: self.late_us };
        let batch = Batch { base, primary: "n1".to_owned(), commands };
        let decoded = Batch::decode(&batch.encode()).unwrap();
        assert_eq!(decoded, batch);
        for outcome in self.entry(Some(&decoded), out) {
            out.push(describe(outcome));
        }
    }

    fn entry(&mut self, batch: Option<&Batch>, out: &mut Vec<String>) -> Vec<Outcome> {
        self.index += 1;
        let mut machine = Machine::new(&self.view).unwrap();
        let outcomes = machine.apply(self.index, self.term, batch).unwrap();
        if machine.ratcheted() > 0 {
            out.push(format!("({} stamps ratcheted)", machine.ratcheted()));
        }
        self.last = machine.last_stamp();
        let changes = machine.into_changes();
        self.view.write(changes);
        outcomes
    }

    fn control(&mut self, verb: Verb, line: &mut Line, out: &mut Vec<String>) {
        match verb {
            Verb::Blank => {
                self.entry(None, out);
                out.push(format!("last stamp {}", short(self.last)));
            }
            Verb::Clock => self.clock_ns = nanos(line.word(0)),
            Verb::Bounds => {
                (self.early_us, self.late_us) = (micros(line.word(0)), micros(line.word(1)));
            }
            Verb::Propose => self.proposed = Some(Hlc::from_ns(START_NS + nanos(line.word(0)))),
            _ => self.read(verb, line, out),
        }
    }

    fn read(&self, verb: Verb, line: &mut Line, out: &mut Vec<String>) {
        let view = &self.view;
        match verb {
            Verb::Page => out.extend(page(view, line)),
            Verb::Cluster(verb) => out.extend(verb.read(view, line)),
            Verb::Get => {
                let (id, from) = (line.text("id"), line.text("from"));
                out.push(match query::get(view, &reader(line), &id, &from) {
                    Ok(Found::One(record)) => describe_record(&record),
                    Ok(Found::Nothing) => "nothing".to_owned(),
                    Ok(Found::Several(senders)) => format!("several: {}", senders.join(", ")),
                    Err(error) => refused(&error.into_failure()),
                });
            }
            Verb::Clients => out.extend(query::clients(view).unwrap().into_iter().map(|client| {
                format!("{} home={} since {}", client.name, client.home, short(client.since))
            })),
            Verb::CursorOf => {
                let name = line.text("name");
                out.push(match query::cursor(view, line.word(0), &name) {
                    Ok(positions) => format!("{positions:?}"),
                    Err(error) => refused(&error.into_failure()),
                });
            }
            Verb::Head => {
                let head = query::head(view, &line.word(0).parse().unwrap()).unwrap();
                out.push(format!("{head:?}"));
            }
            Verb::Settings => out.push(format!("{:?}", query::settings(view).unwrap())),
            Verb::Stats => out.push(stats(view)),
            Verb::Rows => {
                let table = Table::ALL.into_iter().find(|t| format!("{t:?}") == line.word(0));
                let keys = view.rows(table.unwrap());
                out.extend(keys.map(|(key, _)| key.escape_ascii().to_string()));
            }
            Verb::Slot => {
                let slot = model::slot_of(&line.word(0).parse().unwrap());
                let table = query::slot_table(view).unwrap();
                let shard = table.shard_of(slot).unwrap();
                out.push(format!("slot {slot}, shard {shard}, epoch {}", table.epoch));
            }
            Verb::Home => {
                let home = query::home_of(view, &line.word(0).parse().unwrap()).unwrap();
                out.push(home.unwrap_or_else(|| "none".to_owned()));
            }
            _ => self.read_tables(verb, line, out),
        }
    }
}

impl World {
    fn read_tables(&self, verb: Verb, line: &mut Line, out: &mut Vec<String>) {
        let view = &self.view;
        match verb {
            Verb::Groups => {
                out.extend(query::groups(view, &reader(line)).unwrap().iter().map(describe_group));
            }
            Verb::GroupOf => out.push(match query::group(view, &reader(line), line.word(1)) {
                Ok(group) => describe_group(&group),
                Err(error) => refused(&error.into_failure()),
            }),
            Verb::KvGet => out.push(match query::kv_get(view, line.word(0)) {
                Ok(Some(row)) => describe_kv(&row),
                Ok(None) => "nothing".to_owned(),
                Err(error) => refused(&error.into_failure()),
            }),
            Verb::KvList => match query::kv_list(view, &line.text("prefix"), &line.text("after")) {
                Ok(page) => {
                    out.extend(page.rows.iter().map(describe_kv));
                    out.push(if page.more { "more" } else { "end" }.to_owned());
                }
                Err(error) => out.push(refused(&error.into_failure())),
            },
            Verb::Gateways => out.push(format!("{:?}", query::gateway_counts(view).unwrap())),
            other => unreachable!("{other:?} is not a read"),
        }
    }
}

/// `group bob add @ops members=carol,dan id=g2 history=yes`.
fn group_change(line: &mut Line) -> GroupChange {
    let name = line.words.get(2).map_or("", String::as_str).trim_start_matches('@').to_owned();
    let members = line.text("members");
    let members: Vec<String> =
        members.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let history = line.text("history") == "yes";
    let op = match line.word(1) {
        "create" => Some(GroupOp::Create(GroupName { name })),
        "delete" => Some(GroupOp::Delete(GroupName { name })),
        "add" => Some(GroupOp::Add(GroupMembers { name, members, history })),
        "remove" => Some(GroupOp::Remove(GroupMembers { name, members, history })),
        _ => None,
    };
    GroupChange { op, id: line.text("id") }
}

/// `kv bob put k value=v expect=3 id=k1 shared=@ops`, `kv bob delete k id=k2`; `value-bytes=N` makes
/// a value of N.
fn kv_change(line: &mut Line) -> KvChange {
    let value = match line.word(1) {
        "put" => match line.number("value-bytes") {
            0 => Some(line.text("value").into_bytes()),
            len => Some(vec![b'x'; len]),
        },
        "delete" => None,
        other => panic!("no change {other}"),
    };
    let expect = line.text("expect");
    let expect = (!expect.is_empty()).then(|| expect.parse().unwrap());
    let key = match line.number("key-bytes") {
        0 => line.words.get(2).cloned().unwrap_or_default(),
        len => "k".repeat(len),
    };
    // `shared=nobody`: the owner's alone.
    let shared_with = match &*line.text("shared") {
        "" => None,
        "nobody" => Some(String::new()),
        with => Some(with.to_owned()),
    };
    KvChange { key, value, expect, id: line.text("id"), shared_with }
}

fn describe_group(group: &GroupView) -> String {
    let members = group.members.iter().map(|m| format!(" {}>={}", m.name, m.from_seq));
    let since = Hlc::from_slice(&group.since).map_or_else(|| "none".to_owned(), short);
    format!(
        "@{} of {} since {since} size {}{}",
        group.name,
        group.owner,
        group.size,
        members.collect::<String>()
    )
}

fn describe_kv(row: &KvRow) -> String {
    let value = match row.value.len() {
        len @ 81.. => format!("{len} bytes"),
        _ => format!("'{}'", row.value.escape_ascii()),
    };
    let key =
        if row.key.len() > 80 { format!("({} bytes)", row.key.len()) } else { row.key.clone() };
    let mut of = match row.owner == row.by {
        true => String::new(),
        false => format!(" of {}", if row.owner.is_empty() { "nobody" } else { &row.owner }),
    };
    if !row.shared_with.is_empty() {
        of.push_str(&format!(" shared with {}", row.shared_with));
    }
    format!("{key} = {value} version {} by {}{of} at {}", row.version, row.by, stamp(&row.stamp))
}

fn page(view: &MemoryView, line: &mut Line) -> Vec<String> {
    let instant = |text: String| (!text.is_empty()).then(|| Hlc::from_ns(START_NS + nanos(&text)));
    let query = Query {
        since: instant(line.text("since")),
        until: instant(line.text("until")),
        mode: match &*line.text("mode") {
            "" | "nominal" => TimeMode::Nominal,
            "possible" => TimeMode::Possible,
            "definite" => TimeMode::Definite,
            other => panic!("no mode {other}"),
        },
        from: line.text("from"),
        to: line.text("to"),
        with: line.text("with"),
        resumes: line.has_option("after"),
        after: line.number("after"),
        limit: line.number("limit"),
    };
    match query::page(view, &reader(line), &query) {
        Ok(Page { records, next, end, safe, gap }) => {
            let end = if end { "end" } else { "more" };
            let last = format!("next {next}, {end}, safe {}", short(safe));
            let gap = gap.map(|gap| format!("missing {} to {}", gap.from_seq, gap.to_seq));
            gap.into_iter().chain(records.iter().map(describe_record)).chain([last]).collect()
        }
        Err(error) => vec![refused(&error.into_failure())],
    }
}

fn reader(line: &Line) -> Reader {
    let name = line.word(0).to_owned();
    Reader { admin: name == "admin", name }
}

fn describe(outcome: Outcome) -> String {
    match outcome {
        Outcome::Sent(ack) => format!(
            "{} {} seq {} index {} stamp {} primary {} gateway {}",
            if ack.duplicate { "duplicate" } else { "stored" },
            ack.id,
            ack.seq,
            ack.index,
            stamp(&ack.stamp),
            ack.primary,
            ack.gateway
        ),
        Outcome::Deleted(record) => describe_record(&record),
        Outcome::Registered { home } => format!("registered home={home}"),
        Outcome::CursorSet => "cursor set".to_owned(),
        Outcome::Configured(settings) => format!("{settings:?}"),
        Outcome::Expired { records, bytes, more } => {
            format!("expired {records} records, {bytes} bytes, more: {more}")
        }
        Outcome::Members(members) => cluster::describe_members(&members).join("\n"),
        Outcome::Tokens(tokens) => cluster::describe_tokens(&tokens).join("\n"),
        Outcome::Groups(groups) => {
            groups.groups.iter().map(describe_group).collect::<Vec<_>>().join("; ")
        }
        Outcome::Admins(admins) if admins.admins.is_empty() => "nobody was entered".to_owned(),
        Outcome::Admins(admins) => cluster::describe_admins(&admins).join("\n"),
        Outcome::Kv(rows) => rows.rows.iter().map(describe_kv).collect::<Vec<_>>().join("; "),
        Outcome::Done => "done".to_owned(),
        Outcome::Refused(failure) => refused(&failure),
    }
}

fn describe_record(record: &Record) -> String {
    assert!(model::hash::verify(record), "hashes of {record:?}");
    let headers = match record.headers.len() {
        many @ 4.. => format!(" {many} headers"),
        _ => record.headers.iter().map(|h| format!(" {}={}", h.key, h.value)).collect(),
    };
    let content = match &record.deleted {
        Some(gone) => format!("deleted by {} at {} '{}'", gone.by, stamp(&gone.stamp), gone.reason),
        None if record.body.len() > 80 => format!("{} bytes", record.body.len()),
        None => format!("'{}'", record.body.escape_ascii()),
    };
    format!(
        "{} at {} {} -> {} {}{headers} {content}",
        record.seq,
        short(record.hlc().unwrap()),
        record.from,
        record.to,
        record.id,
    )
}

pub(crate) fn refused(failure: &proto::Failure) -> String {
    format!("{:?}: {}", failure.error_code(), failure.message)
}

fn stats(view: &MemoryView) -> String {
    let stats = query::stats(view).unwrap();
    let digest: String = stats.digest[..4].iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "index {} term {} last {} seqs {}..={} bytes {} clients {} digest {digest}",
        stats.index,
        stats.term,
        short(stats.last_stamp),
        stats.first_seq,
        stats.last_seq,
        stats.bytes,
        stats.clients,
    )
}

/// `error-us=50000 on-loss=refuse retain-ms=5000 retain-count=9 retain-bytes=0 cert-life-s=60`.
fn settings(line: &mut Line) -> Configure {
    let on_loss = match &*line.text("on-loss") {
        "" => None,
        "degrade" => Some(OnLoss::Degrade.into()),
        "refuse" => Some(OnLoss::Refuse.into()),
        other => Some(other.parse().unwrap()),
    };
    let mut number = |key: &str| Some(line.text(key)).filter(|text| !text.is_empty());
    let mut number = |key| number(key).map(|text| text.parse().unwrap());
    Configure {
        max_clock_error_us: number("error-us"),
        on_loss,
        retain_age_ms: number("retain-ms"),
        retain_count: number("retain-count"),
        retain_bytes: number("retain-bytes"),
        cert_life_s: number("cert-life-s"),
    }
}

/// Seconds since the script's start, and the logical part.
pub(crate) fn short(hlc: Hlc) -> String {
    let ns = hlc.ns - START_NS;
    let (secs, nanos) = (ns / SECOND_NS, ns % SECOND_NS);
    let fraction = format!(".{nanos:09}");
    format!("{secs}{}~{}", fraction.trim_end_matches('0').trim_end_matches('.'), hlc.logical)
}

fn stamp(bytes: &[u8]) -> String {
    let stamp = proto::record::read_stamp(bytes).unwrap();
    format!("{} -{}/+{} us", short(stamp.hlc), stamp.early_us, stamp.late_us)
}

/// `2.5`, `3h`: seconds or hours as nanoseconds.
fn nanos(text: &str) -> u64 {
    if let Some(hours) = text.strip_suffix('h') {
        return hours.parse::<u64>().unwrap() * 3600 * SECOND_NS;
    }
    let (secs, fraction) = text.split_once('.').unwrap_or((text, "0"));
    secs.parse::<u64>().unwrap() * SECOND_NS + format!("{fraction:0<9}").parse::<u64>().unwrap()
}

/// Microseconds, or `unknown`.
fn micros(text: &str) -> u32 {
    if text == "unknown" { Stamp::UNKNOWN } else { text.parse().unwrap() }
}

pub(crate) fn fingerprint(key: &str) -> [u8; 32] {
    *blake3::hash(key.as_bytes()).as_bytes()
}

fn body(line: &mut Line) -> Bytes {
    match line.number("body-bytes") {
        0 => line.text("body").into(),
        len => vec![b'x'; len].into(),
    }
}

/// `headers=a:1,b:2`, or `header-count=N` of `header-bytes=B` each.
fn headers(line: &mut Line) -> Vec<Header> {
    let (count, bytes): (usize, usize) = (line.number("header-count"), line.number("header-bytes"));
    let many = (0..count).map(|i| Header { key: format!("k{i}"), value: "v".repeat(bytes) });
    let listed = line.text("headers");
    let listed = listed.split(',').filter_map(|pair| pair.split_once(':'));
    let one = |(key, value): (&str, &str)| Header { key: key.into(), value: value.into() };
    listed.map(one).chain(many).collect()
}

/// `7`, or `shard:seq` pairs.
fn positions(text: &str) -> Vec<Position> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let one = |part: &str| {
        let (shard, seq) = part.split_once(':').unwrap_or(("1", part));
        Position { shard: shard.parse().unwrap(), seq: seq.parse().unwrap() }
    };
    parts.map(one).collect()
}
