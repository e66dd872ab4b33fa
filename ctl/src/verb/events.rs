//! `logctl events`: what happened to the cluster itself, from the log's own stream `$events`.

use clock::overlap::Overlap;
use proto::wire::{self, Gap, Op, Reply};
use proto::{Record, Stream};
use views::event::EventView;
use views::table::Columns;

use crate::cli::{Events, Globals};
use crate::error::CtlError;
use crate::filter::Filter;
use crate::gap::Gaps;
use crate::home::Home;
use crate::out::{Out, Shape, reader_gone};
use crate::session::Session;
use crate::tail::Backwards;
use crate::verb::read::LAST_SHOWN;

pub(crate) async fn run(args: Events, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    if args.follow {
        out.endless();
    }
    let session = Session::open(globals, &Home::from_env()?)?;
    let done = show(&args, &session, out).await;
    session.close().await;
    done
}

async fn show(args: &Events, session: &Session, out: &mut Out) -> Result<(), CtlError> {
    let now_ns = match args.since {
        Some(since) if since.needs_now() => session.node_now().await?,
        _ => 0,
    };
    let today = match out.shape() {
        Shape::Table => session.today().await?,
        Shape::Plain | Shape::Json | Shape::Ndjson | Shape::Raw => None,
    };
    let filter = Filter { types: args.types.clone(), ..Filter::default() };
    let read = wire::Read {
        since: args.since.map(|since| since.resolve(now_ns)),
        to: Stream::Events.to_string(),
        follow: args.follow,
        ..wire::Read::default()
    };
    let columns = out.columns();
    let gaps = Gaps::new(args.allow_gap);
    let mut shown =
        Shown { filter: &filter, out, overlap: Overlap::default(), columns, today, gaps };
    let unsaid = (args.follow && args.since.is_none()).then_some(LAST_SHOWN);
    match args.last.or(unsaid) {
        Some(count) => {
            let mut back = Backwards::begin(session, read, &filter, count).await?;
            let events = back.last(count).await?;
            let events = shown.pick(events)?;
            if args.follow {
                shown.next(&events)?;
                follow(back.onwards(), session, &mut shown).await?;
            } else {
                shown.out.list(&events)?;
            }
        }
        None if args.follow => follow(read, session, &mut shown).await?,
        None => all(read, session, &mut shown).await?,
    }
    shown.gaps.verdict()
}

/// Everything up to now. One document cannot be begun before all of it is there.
async fn all(
    mut read: wire::Read,
    session: &Session,
    shown: &mut Shown<'_>,
) -> Result<(), CtlError> {
    let mut events = Vec::new();
    loop {
        let Reply::Page(page) = session.call(Op::Read(read.clone())).await?.1 else {
            return Err(CtlError::unexpected("no page"));
        };
        let (end, nowhere) = (page.end, page.records.is_empty() && page.next == read.after);
        read.go_on(&page);
        if let Some(gap) = page.gap {
            shown.gaps.meet(gap, shown.out);
        }
        events.extend(shown.pick(page.records)?);
        if end {
            break;
        }
        if nowhere {
            return Err(CtlError::unexpected("a page that leads nowhere"));
        }
    }
    shown.out.list(&events)
}

/// Everything up to now, and what comes, until Ctrl-C.
async fn follow(
    read: wire::Read,
    session: &Session,
    shown: &mut Shown<'_>,
) -> Result<(), CtlError> {
    let mut follow = session.follow(read).await?;
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut unread = std::pin::pin!(reader_gone());
    loop {
        let page = tokio::select! {
            biased;
            _ = &mut stop => return Ok(()),
            page = follow.next() => page?,
            // Nobody would see the next one, which may be long in coming.
            () = &mut unread => return Ok(()),
        };
        let Some(page) = page else { return Ok(()) };
        shown.miss(page.gap)?;
        let events = shown.pick(page.records)?;
        shown.next(&events)?;
    }
}

/// What is shown, and how far.
struct Shown<'a> {
    filter: &'a Filter,
    out: &'a mut Out,
    overlap: Overlap,
    columns: Columns,
    /// What day it is, for people.
    today: Option<u64>,
    gaps: Gaps,
}

impl Shown<'_> {
    /// Says what is missing, in its place.
    fn miss(&mut self, gap: Option<Gap>) -> Result<(), CtlError> {
        let Some(gap) = gap else { return Ok(()) };
        let gap = self.gaps.meet(gap, self.out);
        self.out.gap_line(&gap)
    }

    /// More of what does not end.
    fn next(&mut self, events: &[EventView]) -> Result<(), CtlError> {
        match self.out.shape() {
            Shape::Table => self.out.table(events, &mut self.columns)?,
            Shape::Json | Shape::Ndjson | Shape::Plain | Shape::Raw => self.out.list(events)?,
        }
        self.out.flush()
    }

    /// The events that are wanted.
    fn pick(&mut self, records: Vec<Record>) -> Result<Vec<EventView>, CtlError> {
        let mut picked = Vec::new();
        for record in records {
            if self.filter.takes(&record) {
                let stamp = record.full_stamp();
                let stamp = stamp.map_err(|error| CtlError::unexpected(&error.to_string()))?;
                picked.push(EventView::of(record, self.overlap.next(&stamp), self.today)?);
            }
        }
        Ok(picked)
    }
}
