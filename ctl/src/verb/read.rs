//! `logctl read`: pages of records, or records as they come.

use clock::Hlc;
use clock::hlc::utc_text;
use clock::overlap::Overlap;
use proto::wire::{self, Empty, Gap, Op, Page, Position, Reply, SetCursor};
use proto::{Name, Record, Stream};
use serde::Serialize;
use views::gap::GapView;
use views::range::When;
use views::read_hash::ReadHash;
use views::record::{self, RecordView};
use views::table::Columns;

use crate::cli::{From as Begin, Globals, Mode, Read};
use crate::error::CtlError;
use crate::filter::Filter;
use crate::gap::Gaps;
use crate::home::Home;
use crate::out::{Out, Shape, reader_gone};
use crate::session::Session;
use crate::tail::Backwards;

/// With how many messages a reader begins that stays, and does not say where.
pub(crate) const LAST_SHOWN: u64 = 10;

pub(crate) async fn run(args: Read, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    crate::input::check_order(args.since, args.until)?;
    if args.mode.is_some() && args.since.is_none() && args.until.is_none() {
        return Err(CtlError::usage(
            "--mode says what belongs to a range of time, and there is none",
            "logctl read --mode possible --since 10m",
        ));
    }
    if args.follow {
        out.endless();
    }
    let session = Session::open(globals, &Home::from_env()?)?;
    let done = read(&args, &session, out).await;
    session.close().await;
    done
}

async fn read(args: &Read, session: &Session, out: &mut Out) -> Result<(), CtlError> {
    // Nobody would ever see that a name is mistyped.
    if args.follow {
        known(args, session).await?;
    }
    // Whether an answer is complete up to `10m` can be told only by a clock as well.
    let relative =
        args.since.is_some_and(When::needs_now) || args.until.is_some_and(When::is_relative);
    let now_ns = if relative { session.node_now().await? } else { 0 };
    // Dates are for people.
    let today = match out.shape() {
        Shape::Table if relative => Some(now_ns),
        Shape::Table => session.today().await?,
        Shape::Plain | Shape::Json | Shape::Ndjson | Shape::Raw => None,
    };
    let filter =
        Filter { pattern: args.grep.clone(), headers: args.headers.clone(), types: Vec::new() };
    let point = |when: Option<When>| when.map(|when| when.resolve(now_ns));
    let read = wire::Read {
        since: point(args.since),
        until: point(args.until),
        from: match &args.from {
            Some(Begin::Sender(name)) => name.to_string(),
            Some(Begin::Seq(_)) | None => String::new(),
        },
        to: args.to.as_ref().map(ToString::to_string).unwrap_or_default(),
        // What is looked for here is counted here.
        limit: args.limit.filter(|_| filter.is_empty()).unwrap_or(0),
        follow: args.follow,
        cursor: args.cursor.as_ref().map(Name::to_string).unwrap_or_default(),
        after: match args.from {
            // 0 is no place: whatever is kept.
            Some(Begin::Seq(seq)) if seq > 0 => {
                vec![Position { shard: crate::SHARD, seq: seq - 1 }]
            }
            Some(Begin::Seq(_) | Begin::Sender(_)) | None => Vec::new(),
        },
        mode: wire::TimeMode::from(args.mode.unwrap_or(Mode::Nominal)).into(),
        stale: args.stale,
        ..wire::Read::default()
    };
    let wanted = args.until.map(|until| until.hlc(now_ns));
    let mut sink = Sink::new(args, &filter, today, out);
    sink.begin()?;
    let safe = match last(args) {
        Some(count) => {
            let back = Backwards::begin(session, read, &filter, count).await?;
            backwards(back, count, args, session, &mut sink).await?
        }
        None if args.follow => {
            follow(read, session, &mut sink).await?;
            None
        }
        None => pages(read, session, &mut sink).await?,
    };
    if let Some(note) = incomplete(wanted, safe) {
        sink.out.note(&note);
    }
    sink.end(session).await?;
    let nothing = !sink.any;
    sink.gaps.verdict()?;
    if nothing && !args.follow { known(args, session).await } else { Ok(()) }
}

/// Whether a sender or recipient of whom nothing was found is anybody: a name may be mistyped.
///
/// # Errors
/// Exit code 5 if nobody has the name. Who cannot be told has it.
async fn known(args: &Read, session: &Session) -> Result<(), CtlError> {
    let sender = match &args.from {
        Some(Begin::Sender(name)) => Some(name),
        Some(Begin::Seq(_)) | None => None,
    };
    let recipient = match &args.to {
        Some(Stream::Client(name)) => Some(name),
        Some(Stream::Group(_) | Stream::Everyone | Stream::Events) | None => None,
    };
    let names: Vec<&Name> = sender.into_iter().chain(recipient).collect();
    if names.is_empty() {
        return Ok(());
    }
    let Ok((_, Reply::Clients(clients))) = session.call(Op::Clients(Empty {})).await else {
        return Ok(());
    };
    let Ok((_, Reply::Admins(admins))) = session.call(Op::Admins(Empty {})).await else {
        return Ok(());
    };
    let nodes = session.nodes().await.unwrap_or_default();
    for name in names {
        let is = |other: &str| other == name.as_str();
        let found = clients.clients.iter().any(|row| is(&row.name))
            || admins.admins.iter().any(|row| is(&row.name))
            || nodes.iter().any(|row| is(&row.name));
        if !found {
            let hint = "logctl clients; logctl admin list";
            return Err(CtlError::not_found(format!("there is no client '{name}'"), hint));
        }
    }
    Ok(())
}

/// How many of the last messages are wanted, where it is not from a place on.
fn last(args: &Read) -> Option<u64> {
    let begins =
        args.since.is_some() || args.cursor.is_some() || matches!(args.from, Some(Begin::Seq(_)));
    match args.last {
        Some(count) => Some(count),
        None if args.reverse => Some(args.limit.unwrap_or(u64::MAX)),
        None if args.follow && !begins => Some(args.limit.unwrap_or(u64::MAX).min(LAST_SHOWN)),
        None => None,
    }
}

/// Shows the last messages, the newest first or last, and then what comes, if that is wanted. Returns how
/// far the answer is complete.
async fn backwards(
    mut back: Backwards<'_>,
    count: u64,
    args: &Read,
    session: &Session,
    sink: &mut Sink<'_>,
) -> Result<Option<Hlc>, CtlError> {
    let (gateway, behind_ms) = back.told_by();
    sink.note_staleness(gateway, behind_ms);
    if args.reverse {
        sink.left = Some(count);
        while !sink.is_full()
            && let Some(mut piece) = back.piece().await?
        {
            piece.reverse();
            sink.records(piece)?;
        }
        sink.missing(back.gap())?;
        return Ok(back.safe());
    }
    let records = back.last(count).await?;
    sink.missing(back.gap())?;
    sink.records(records)?;
    if args.follow && !sink.is_full() {
        follow(back.onwards(), session, sink).await?;
        return Ok(None);
    }
    Ok(back.safe())
}

impl From<Mode> for wire::TimeMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Nominal => Self::Nominal,
            Mode::Possible => Self::Possible,
            Mode::Definite => Self::Definite,
        }
    }
}

/// What to say of an answer that ends before the end of its range: later messages may still get a
/// stamp in between.
fn incomplete(until: Option<Hlc>, safe: Option<Hlc>) -> Option<String> {
    let (until, safe) = (until?, safe?);
    (safe < until).then(|| {
        format!(
            "complete up to {} only: messages may still get a stamp before {}",
            utc_text(safe.ns),
            utc_text(until.ns)
        )
    })
}

/// Reads to the end of the range. Returns how far the answer is complete, if it is all there.
async fn pages(
    mut read: wire::Read,
    session: &Session,
    sink: &mut Sink<'_>,
) -> Result<Option<Hlc>, CtlError> {
    loop {
        let (gateway, reply) = session.call(Op::Read(read.clone())).await?;
        let Reply::Page(page) = reply else { return Err(CtlError::unexpected("no page")) };
        let (end, nowhere) = (page.end, page.records.is_empty() && page.next == read.after);
        let safe = Hlc::from_slice(&page.safe);
        read.go_on(&page);
        sink.take(page, &gateway, session).await?;
        if sink.is_full() {
            return Ok(None);
        }
        if end {
            return Ok(safe);
        }
        if nowhere {
            return Err(CtlError::unexpected("a page that leads nowhere"));
        }
        if read.limit > 0 {
            read.limit = sink.left.unwrap_or(0);
        }
    }
}

async fn follow(read: wire::Read, session: &Session, sink: &mut Sink<'_>) -> Result<(), CtlError> {
    let mut follow = session.follow(read).await?;
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut unread = std::pin::pin!(reader_gone());
    loop {
        let page = tokio::select! {
            biased;
            // The way to end it: what was shown is shown, and the cursor stands behind it.
            _ = &mut stop => return Ok(()),
            page = follow.next() => page?,
            // Nobody would see the next one, which may be long in coming.
            () = &mut unread => return Ok(()),
        };
        let Some(page) = page else { return Ok(()) };
        let gateway = session.gateway();
        sink.take(page, &gateway, session).await?;
        if sink.is_full() {
            return Ok(());
        }
    }
}

/// Where the records go: written, flushed, and only then passed by the cursor. A document is good for
/// nothing before its end, nor is a hash: there the cursor moves at the end alone.
struct Sink<'a> {
    out: &'a mut Out,
    cursor: Option<String>,
    stood_at: Vec<Position>,
    /// Where the cursor is to stand, once all before it is out of our hands.
    behind: Option<Vec<Position>>,
    stale: bool,
    /// Records that may still be shown.
    left: Option<u64>,
    /// Whether there was one.
    any: bool,
    filter: &'a Filter,
    columns: Columns,
    /// What day it is, for people.
    today: Option<u64>,
    times: Vec<record::Times>,
    /// None where they are shown backwards.
    overlap: Option<Overlap>,
    /// Gathers the records instead of showing them.
    hash: Option<ReadHash>,
    gaps: Gaps,
    /// Whether the one document has an element.
    begun: bool,
}

impl<'a> Sink<'a> {
    fn new(args: &Read, filter: &'a Filter, today: Option<u64>, out: &'a mut Out) -> Self {
        let columns = out.columns();
        Self {
            out,
            cursor: args.cursor.as_ref().map(Name::to_string),
            stood_at: Vec::new(),
            behind: None,
            stale: args.stale,
            left: args.limit,
            any: false,
            filter,
            columns,
            today,
            times: args.times.iter().map(|&form| form.into()).collect(),
            overlap: (!args.reverse).then(Overlap::default),
            hash: args.hash.then(ReadHash::default),
            gaps: Gaps::new(args.allow_gap),
            begun: false,
        }
    }

    fn begin(&mut self) -> Result<(), CtlError> {
        match self.out.shape() {
            Shape::Json if self.hash.is_none() => self.out.bytes(b"["),
            Shape::Json | Shape::Ndjson | Shape::Table | Shape::Plain | Shape::Raw => Ok(()),
        }
    }

    async fn end(&mut self, session: &Session) -> Result<(), CtlError> {
        match (&self.hash, self.out.shape()) {
            (Some(hash), _) => self.out.one(&hash.view(self.gaps.count_max()))?,
            (None, Shape::Json) if self.begun => self.out.bytes(b"\n]\n")?,
            (None, Shape::Json) => self.out.bytes(b"]\n")?,
            (None, _) => return Ok(()),
        }
        self.out.flush()?;
        self.pass(session).await
    }

    /// Whether nothing is shown before all is.
    fn is_whole(&self) -> bool {
        self.hash.is_some() || self.out.shape() == Shape::Json
    }

    /// Moves the cursor behind what was shown.
    async fn pass(&mut self, session: &Session) -> Result<(), CtlError> {
        let (Some(name), Some(positions)) = (self.cursor.clone(), self.behind.take()) else {
            return Ok(());
        };
        session.call(Op::SetCursor(SetCursor { name, positions })).await?;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    async fn take(&mut self, page: Page, gateway: &str, session: &Session) -> Result<(), CtlError> {
        self.note_staleness(gateway, page.behind_ms);
        self.missing(page.gap)?;
        // A page that is shown in part is passed in part.
        let mut next = page.next;
        let mut records = page.records;
        records.retain(|record| self.filter.takes(record));
        if let Some(left) = self.left.filter(|&left| left < records.len() as u64) {
            records.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            if let (Some(last), Some(at)) = (records.last(), next.first_mut()) {
                at.seq = last.seq;
            }
        }
        self.records(records)?;
        if !next.is_empty() && next != self.stood_at {
            self.stood_at.clone_from(&next);
            self.behind = Some(next);
        }
        if self.is_whole() { Ok(()) } else { self.pass(session).await }
    }

    /// Shows records, or gathers them for the hash.
    fn records(&mut self, mut records: Vec<Record>) -> Result<(), CtlError> {
        if let Some(left) = &mut self.left {
            records.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= records.len() as u64;
        }
        self.any |= !records.is_empty();
        if let Some(hash) = &mut self.hash {
            records.iter().for_each(|record| hash.add(record));
            return Ok(());
        }
        let records: Vec<RecordView> =
            records.into_iter().map(|record| self.view(record)).collect::<Result<_, _>>()?;
        self.write(&records)?;
        self.out.flush()
    }

    /// Says once how far behind a node is that answers by itself.
    fn note_staleness(&mut self, gateway: &str, behind_ms: u64) {
        if std::mem::take(&mut self.stale) {
            self.out.note(&staleness(gateway, behind_ms));
        }
    }

    fn view(&mut self, record: Record) -> Result<RecordView, CtlError> {
        let stamp =
            record.full_stamp().map_err(|error| CtlError::unexpected(&error.to_string()))?;
        let overlaps = self.overlap.as_mut().map(|overlap| overlap.next(&stamp));
        Ok(RecordView::listed(record, overlaps, &self.times, self.today)?)
    }

    fn write(&mut self, records: &[RecordView]) -> Result<(), CtlError> {
        match self.out.shape() {
            Shape::Table if records.is_empty() => Ok(()),
            Shape::Table => self.out.table(records, &mut self.columns),
            Shape::Plain | Shape::Ndjson => self.out.list(records),
            Shape::Raw => records.iter().filter_map(RecordView::body).try_for_each(|body| {
                self.out.bytes(body)?;
                self.out.bytes(b"\n")
            }),
            Shape::Json => records.iter().try_for_each(|record| self.element(record)),
        }
    }

    /// Says what retention has removed, if it has.
    fn missing(&mut self, gap: Option<Gap>) -> Result<(), CtlError> {
        let Some(gap) = gap else { return Ok(()) };
        let gap = self.gaps.meet(gap, self.out);
        if self.hash.is_none() { self.show_gap(&gap) } else { Ok(()) }
    }

    /// In the place of the records that are missing.
    fn show_gap(&mut self, gap: &GapView) -> Result<(), CtlError> {
        match self.out.shape() {
            Shape::Json => self.element(gap)?,
            Shape::Ndjson | Shape::Plain | Shape::Table | Shape::Raw => self.out.gap_line(gap)?,
        }
        self.out.flush()
    }

    /// One more element of the one document.
    fn element(&mut self, value: &impl Serialize) -> Result<(), CtlError> {
        let first = !std::mem::replace(&mut self.begun, true);
        self.out.bytes(if first { b"\n" } else { b",\n" })?;
        self.out.json_part(value)
    }
}

/// How far behind a node's own state may be.
fn staleness(gateway: &str, behind_ms: u64) -> String {
    match behind_ms {
        u64::MAX => format!("stale: {gateway} has not heard from a primary since it started"),
        ms => format!(
            "stale: {gateway} answers from its own state; it heard from a primary {}.{:03} s ago",
            ms / 1000,
            ms % 1000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_ends_early_says_where() {
        let at = |ns| Some(Hlc::from_ns(ns));
        let note = incomplete(at(2_000_000_000), at(1_500_000_000)).unwrap();
        assert!(note.contains("up to 1970-01-01T00:00:01.500000000Z"), "{note}");
        for (until, safe) in [(at(2), at(2)), (at(2), at(3)), (None, at(1)), (at(2), None)] {
            assert_eq!(incomplete(until, safe), None);
        }
    }

    #[test]
    fn staleness_is_said_in_seconds() {
        assert!(staleness("n2", 1234).ends_with("1.234 s ago"));
        assert!(staleness("n2", u64::MAX).contains("not heard"));
    }
}
