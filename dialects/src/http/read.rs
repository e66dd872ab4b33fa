//! Reading messages and events: `since`, `until`, `mode`, `from`, `to`, `with`, `after`, `cursor`, `limit`,
//! `follow`, `stale`.

use proto::event::TYPES;
use proto::wire::{Read, TimeMode};
use proto::{Failure, Name, Stream};
use views::place;
use views::range::{When, check_order};

use super::{Query, invalid};

/// A read that may depend on what day it is for the node.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    read: Read,
    since: Option<When>,
    until: Option<When>,
    /// Of events: which kinds; empty = all.
    pub kinds: Vec<String>,
}

impl Reading {
    /// The request, by a node's clock that reads `now_ns`.
    #[must_use]
    pub fn at(self, now_ns: u64) -> Read {
        let point = |when: Option<When>| when.map(|when| when.resolve(now_ns));
        Read { since: point(self.since), until: point(self.until), ..self.read }
    }

    /// Whether it stays for what comes.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.read.follow
    }
}

/// Reads which messages are asked for. `last_event_id` is what a followed read was at when it ended, and
/// stands for `after`.
///
/// # Errors
/// When something is not understood, or does not go together.
pub fn messages(query: Query, last_event_id: Option<&str>) -> Result<Reading, Failure> {
    let mut query = query;
    let name = |query: &mut Query, key: &str| {
        query.parsed::<Name>(key).map(|name| name.map(|name| name.to_string()).unwrap_or_default())
    };
    let read = Read {
        from: name(&mut query, "from")?,
        with: name(&mut query, "with")?,
        cursor: name(&mut query, "cursor")?,
        to: query.parsed::<Stream>("to")?.map(|to| to.to_string()).unwrap_or_default(),
        ..Read::default()
    };
    ranged(query, read, last_event_id)
}

/// The same for the events of the cluster itself; `types` says which, separated by commas.
///
/// # Errors
/// As [`messages`].
pub fn events(query: Query, last_event_id: Option<&str>) -> Result<Reading, Failure> {
    let mut query = query;
    let kinds = query.one("types")?.unwrap_or_default();
    let kinds: Vec<_> =
        kinds.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
    if let Some(unknown) = kinds.iter().find(|kind| !TYPES.contains(&kind.as_str())) {
        let known = TYPES.join(", ");
        return Err(invalid(format!("there are no events '{unknown}'; the types are {known}")));
    }
    let read = Read { to: Stream::Events.to_string(), ..Read::default() };
    Ok(Reading { kinds, ..ranged(query, read, last_event_id)? })
}

/// Which report on the clocks is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// From when on.
    pub since: Option<When>,
    /// Up to when.
    pub until: Option<When>,
    /// What an error may be, in microseconds.
    pub tolerance_us: u64,
    /// Of which node alone.
    pub node: Option<String>,
}

/// Reads it: `since`, `until`, `node`, and `tolerance`, which has to be said: `50ms`.
///
/// # Errors
/// When something is not understood.
pub fn report(mut query: Query) -> Result<Report, Failure> {
    let (since, until) = (query.parsed("since")?, query.parsed("until")?);
    check_order(since, until).map_err(invalid)?;
    let node = query.parsed::<Name>("node")?.map(|name| name.to_string());
    let tolerance = query.one("tolerance")?;
    query.end()?;
    let tolerance = tolerance.ok_or_else(|| invalid("what may an error be? tolerance=50ms"))?;
    // A length of time before now is written as any other length of time is.
    let Ok(When::Ago(tolerance_ns)) = tolerance.parse() else {
        return Err(invalid(format!("tolerance={tolerance}: a length of time is wanted, as 50ms")));
    };
    Ok(Report { since, until, tolerance_us: tolerance_ns / 1000, node })
}

fn position(text: &str) -> Result<proto::wire::Position, Failure> {
    place::read(text).ok_or_else(|| {
        let shown: String = text.chars().take(80).collect();
        invalid(format!("'{shown}' is no place in the log, as 1-42: shard and seq"))
    })
}

fn ranged(mut query: Query, read: Read, last_event_id: Option<&str>) -> Result<Reading, Failure> {
    let (since, until) = (query.parsed("since")?, query.parsed("until")?);
    check_order(since, until).map_err(invalid)?;
    let mode = query.one("mode")?;
    if mode.is_some() && since.is_none() && until.is_none() {
        return Err(invalid("'mode' says what belongs to a range of time, and there is none"));
    }
    let mode = match mode.as_deref() {
        None | Some("nominal") => TimeMode::Nominal,
        Some("possible") => TimeMode::Possible,
        Some("definite") => TimeMode::Definite,
        Some(other) => {
            return Err(invalid(format!("mode={other}: nominal, possible or definite is wanted")));
        }
    };
    // Where a followed read was is later than where it was told to begin.
    let after = query.one("after")?;
    let after = last_event_id.or(after.as_deref()).map(position).transpose()?;
    let limit = query.parsed::<u64>("limit")?;
    if limit == Some(0) {
        return Err(invalid("limit=0 asks for nothing"));
    }
    let read = Read {
        limit: limit.unwrap_or(0),
        // 0 is no place: whatever is kept.
        after: after.filter(|place| place.seq > 0).into_iter().collect(),
        follow: query.flag("follow")?,
        stale: query.flag("stale")?,
        mode: mode.into(),
        ..read
    };
    query.end()?;
    Ok(Reading { read, since, until, kinds: Vec::new() })
}

#[cfg(test)]
mod tests {
    use clock::Hlc;
    use proto::wire::{Instant, Position, TimePoint};

    use super::*;

    fn read(text: &str) -> Result<Reading, Failure> {
        messages(Query::read(Some(text)).unwrap(), None)
    }

    #[test]
    fn a_read_is_what_was_asked_for() {
        let text = "since=10m&until=now&mode=possible&from=alice&to=@ops&limit=5&stale&after=1-7";
        let got = read(text).unwrap().at(0);
        let ago = |ns| Some(TimePoint { at: Some(Instant::AgoNs(ns)) });
        let want = Read {
            since: ago(600_000_000_000),
            until: ago(0),
            mode: TimeMode::Possible.into(),
            from: "alice".to_owned(),
            to: "@ops".to_owned(),
            limit: 5,
            stale: true,
            after: vec![Position { shard: 1, seq: 7 }],
            ..Read::default()
        };
        assert_eq!(got, want);
        let day = 24 * 3600 * 1_000_000_000;
        let got = read("since=yesterday&follow&with=bob&cursor=c").unwrap();
        assert!(got.follows());
        let got = got.at(5 * day + 1);
        let at = Hlc::from_ns(4 * day).to_bytes().to_vec();
        assert_eq!(got.since, Some(TimePoint { at: Some(Instant::Hlc(at)) }));
        assert_eq!((got.with.as_str(), got.cursor.as_str(), got.follow), ("bob", "c", true));
        assert_eq!(read("after=1-0").unwrap().at(0).after, []);
    }

    #[test]
    fn a_followed_read_goes_on_where_it_was() {
        let query = Query::read(Some("after=1-7&follow")).unwrap();
        let got = messages(query, Some("1-9")).unwrap().at(0);
        assert_eq!(got.after, [Position { shard: 1, seq: 9 }]);
        let query = Query::read(Some("types=join,leave&since=1h")).unwrap();
        let got = events(query, None).unwrap();
        assert_eq!(got.kinds, ["join", "leave"]);
        assert_eq!(got.at(0).to, "$events");
        let misspelt = events(Query::read(Some("types=join,leaf")).unwrap(), None).unwrap_err();
        assert!(misspelt.message.contains("'leaf'"), "{misspelt}");
    }

    #[test]
    fn a_report_says_what_an_error_may_be() {
        let report = |text| report(Query::read(Some(text)).unwrap());
        let got = report("since=1h&tolerance=50ms&node=n1").unwrap();
        assert_eq!((got.tolerance_us, got.node.as_deref()), (50_000, Some("n1")));
        for bad in ["since=1h", "tolerance=2026-11-21", "tolerance=50", "tolerance=1s&form=csv"] {
            assert!(report(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "form=alice",
            "from=Alice!",
            "to=",
            "limit=0",
            "limit=-1",
            "limit=x",
            "mode=possible",
            "since=1h&mode=sure",
            "since=soon",
            "since=now&until=1h",
            "after=7",
            "stale=perhaps",
            "follow&follow",
            "cursor=a%20b",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(messages(Query::default(), Some("nowhere")).is_err());
        assert!(events(Query::read(Some("to=bob")).unwrap(), None).is_err());
    }
}
