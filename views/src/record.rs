//! Records, the answer to a send, and when they were stamped, in the forms that are shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clock::hlc::utc_text;
use clock::{Hlc, Stamp};
use proto::record::read_stamp;
use proto::wire::Ack;
use proto::{Header, Proof, Record};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::Unreadable;
use crate::show::{Cell, Show, Tone};

/// A way to show a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// RFC 3339 in UTC.
    Utc,
    /// The whole stamp.
    Hlc,
    /// How far true time may lie to either side.
    Eps,
}

/// A stamp with its bounds, as three fields.
#[derive(Debug, Clone, Copy)]
pub struct When(Stamp);

impl When {
    /// Reads a 20-byte stamp.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        read_stamp(bytes).map(Self).map_err(|error| Unreadable(error.to_string()))
    }

    /// The stamp alone.
    pub fn stamp(self) -> String {
        self.0.hlc.to_string()
    }

    /// Not before this, if that is known.
    pub fn earliest(self) -> Option<String> {
        self.0.earliest_ns().map(utc_text)
    }

    /// Not after this, if that is known.
    pub fn latest(self) -> Option<String> {
        self.0.latest_ns().map(utc_text)
    }

    /// See [`short_stamp`].
    pub fn short(self) -> String {
        short_stamp(self.0)
    }

    /// The same with the date in front of it, unless it is that of `now_ns`. Who does not know what
    /// time it is shows the date.
    pub fn dated(self, now_ns: Option<u64>) -> String {
        let day = |ns: u64| utc_text(ns).split_once('T').map(|(day, _)| day.to_owned());
        let own = day(self.0.hlc.ns).unwrap_or_default();
        match now_ns.and_then(day) {
            Some(today) if today == own => self.short(),
            Some(_) | None => format!("{own} {}", self.short()),
        }
    }

    fn form(self, form: Times) -> String {
        match form {
            Times::Utc => utc_text(self.0.hlc.ns),
            Times::Hlc => self.stamp(),
            Times::Eps => bounds(self.0),
        }
    }
}

/// `12:00:03.412307 -1.9/+0.8 ms`: time of day in UTC, then how far true time may lie to either
/// side, rounded up so that the claim stays true.
pub fn short_stamp(stamp: Stamp) -> String {
    let text = utc_text(stamp.hlc.ns);
    let time = text.split_once('T').map_or("", |(_, time)| time);
    let micros: String = time.chars().take("12:00:03.412307".len()).collect();
    format!("{micros} {}", bounds(stamp))
}

/// `-1.9/+0.8 ms`: how far true time may lie to either side, rounded up.
fn bounds(stamp: Stamp) -> String {
    let tenths = |us: u32| {
        let tenths = us.div_ceil(100);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match (stamp.early_us, stamp.late_us) {
        (Stamp::UNKNOWN, _) | (_, Stamp::UNKNOWN) => "±unknown".to_owned(),
        (early, late) => format!("-{}/+{} ms", tenths(early), tenths(late)),
    }
}

/// The answer to a send.
#[derive(Debug, Serialize)]
pub struct AckView {
    id: String,
    shard: u32,
    seq: u64,
    stamp: String,
    earliest: Option<String>,
    latest: Option<String>,
    primary: String,
    gateway: String,
    duplicate: bool,
    #[serde(skip)]
    short: String,
}

impl TryFrom<Ack> for AckView {
    type Error = Unreadable;

    fn try_from(ack: Ack) -> Result<Self, Unreadable> {
        let when = When::read(&ack.stamp)?;
        Ok(Self {
            id: ack.id,
            shard: ack.shard,
            seq: ack.seq,
            stamp: when.stamp(),
            earliest: when.earliest(),
            latest: when.latest(),
            primary: ack.primary,
            gateway: ack.gateway,
            duplicate: ack.duplicate,
            short: when.short(),
        })
    }
}

impl Show for AckView {
    fn headings() -> &'static [&'static str] {
        &["SEQ", "STAMP", "PRIMARY", "GATEWAY", "DUPLICATE", "ID"]
    }

    fn row(&self) -> Vec<Cell> {
        let duplicate = if self.duplicate { "yes" } else { "no" };
        vec![
            self.seq.to_string().into(),
            self.short.as_str().into(),
            self.primary.as_str().into(),
            self.gateway.as_str().into(),
            duplicate.into(),
            self.id.as_str().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.shard.to_string(),
            self.seq.to_string(),
            self.stamp.clone(),
            self.earliest.clone().unwrap_or_default(),
            self.latest.clone().unwrap_or_default(),
            self.primary.clone(),
            self.gateway.clone(),
            self.duplicate.to_string(),
        ]
    }
}

/// A record. The body is text where it is UTF-8, else base64 under another name.
#[derive(Debug, Serialize)]
pub struct RecordView {
    seq: u64,
    stamp: String,
    earliest: Option<String>,
    latest: Option<String>,
    /// In a list: whether it surely was stamped after everything before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_certain: Option<bool>,
    from: String,
    /// How the sender was proven; `None` where the record does not say.
    proof: Option<String>,
    to: String,
    id: String,
    headers: Headers,
    gateway: String,
    #[serde(flatten)]
    body: Body,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<DeletedView>,
    /// Whether the sender was proven by less than a certificate.
    #[serde(skip)]
    weaker: bool,
    /// The stamp as people want to see it, and as programs do.
    #[serde(skip)]
    short: String,
    #[serde(skip)]
    times: Vec<String>,
}

#[derive(Debug, Serialize)]
enum Body {
    #[serde(rename = "body")]
    Text(Option<String>),
    #[serde(rename = "body_b64", serialize_with = "base64_text")]
    Bytes(Vec<u8>),
}

/// What remains of a deleted record.
#[derive(Debug, Serialize)]
struct DeletedView {
    by: String,
    stamp: String,
    reason: String,
}

/// Headers as one object, in the sender's order. A key that was given several times holds all its
/// values, separated by a comma, as in HTTP.
#[derive(Debug)]
pub struct Headers(Vec<(String, String)>);

impl From<Vec<Header>> for Headers {
    fn from(headers: Vec<Header>) -> Self {
        let mut all: Vec<(String, String)> = Vec::with_capacity(headers.len());
        for Header { key, value } in headers {
            match all.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => *values = format!("{values}, {value}"),
                None => all.push((key, value)),
            }
        }
        Self(all)
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

pub(crate) fn base64_text<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

impl TryFrom<Record> for RecordView {
    type Error = Unreadable;

    fn try_from(record: Record) -> Result<Self, Unreadable> {
        let when = When::read(&record.stamp)?;
        let deleted = match record.deleted {
            Some(tombstone) => Some(DeletedView {
                by: tombstone.by,
                stamp: When::read(&tombstone.stamp)?.stamp(),
                reason: tombstone.reason,
            }),
            None => None,
        };
        let body = match String::from_utf8(record.body.to_vec()) {
            _ if deleted.is_some() => Body::Text(None),
            Ok(text) => Body::Text(Some(text)),
            Err(error) => Body::Bytes(error.into_bytes()),
        };
        let proof = Proof::read(&record.fingerprint);
        Ok(Self {
            seq: record.seq,
            stamp: when.stamp(),
            earliest: when.earliest(),
            latest: when.latest(),
            from: record.from,
            proof: proof.map(|proof| proof.to_string()),
            to: record.to,
            id: record.id,
            headers: record.headers.into(),
            gateway: record.gateway,
            body,
            deleted,
            weaker: matches!(proof, Some(Proof::Token(_))),
            short: when.dated(None),
            times: vec![when.stamp()],
            order_certain: None,
        })
    }
}

impl RecordView {
    /// A record of a list: whether its order in real time against those before it is unknown, as far
    /// as that was looked at, and the forms in which its time is shown; none are the usual ones, with
    /// the date if it is not that of `now_ns`.
    pub fn listed(
        record: Record,
        overlaps: Option<bool>,
        times: &[Times],
        now_ns: Option<u64>,
    ) -> Result<Self, Unreadable> {
        let when = When::read(&record.stamp)?;
        let mut view = Self::try_from(record)?;
        view.order_certain = overlaps.map(|overlaps| !overlaps);
        view.short = when.dated(now_ns);
        if !times.is_empty() {
            view.times = times.iter().map(|&form| when.form(form)).collect();
            view.short = view.times.join(" ");
        }
        if overlaps == Some(true) {
            view.short.insert(0, '~');
            if let Some(first) = view.times.first_mut() {
                first.insert(0, '~');
            }
        }
        Ok(view)
    }

    /// The body as it was sent; `None` once deleted.
    pub fn body(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Text(text) => text.as_deref().map(str::as_bytes),
            Body::Bytes(bytes) => Some(bytes),
        }
    }

    /// `deleted by bob at …: reason`, if it was.
    pub fn deletion(&self) -> Option<String> {
        let DeletedView { by, stamp, reason } = self.deleted.as_ref()?;
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Some(format!("deleted by {by} at {stamp}{reason}"))
    }

    fn text(&self) -> String {
        match (&self.body, self.deletion()) {
            (_, Some(deletion)) => format!("({deletion})"),
            (Body::Text(text), None) => text.clone().unwrap_or_default(),
            (Body::Bytes(bytes), None) => format!("({} bytes, not text)", bytes.len()),
        }
    }
}

impl Show for RecordView {
    fn headings() -> &'static [&'static str] {
        &["SEQ", "STAMP", "FROM", "TO", "BODY"]
    }

    fn row(&self) -> Vec<Cell> {
        let tone = if self.deleted.is_some() { Tone::Warning } else { Tone::Neutral };
        let by = if self.weaker { " (token)" } else { "" };
        vec![
            self.seq.to_string().into(),
            self.short.as_str().into(),
            format!("{}{by}", self.from).into(),
            self.to.as_str().into(),
            Cell::toned(self.text(), tone),
        ]
    }

    fn plain(&self) -> Vec<String> {
        let body = match &self.body {
            Body::Bytes(bytes) => STANDARD.encode(bytes),
            Body::Text(_) => self.text(),
        };
        let mut fields = vec![self.seq.to_string()];
        fields.extend(self.times.iter().cloned());
        fields.extend([self.from.clone(), self.to.clone(), self.id.clone(), body]);
        // Only so can it be told from a text that looks like it.
        if matches!(self.body, Body::Bytes(_)) && self.deleted.is_none() {
            fields.push("base64".to_owned());
        }
        fields
    }
}

/// Text of a 12-byte stamp; `None` if it is not one.
pub fn hlc_text(bytes: &[u8]) -> Option<String> {
    Hlc::from_slice(bytes).map(|hlc| hlc.to_string())
}

#[cfg(test)]
#[path = "record_test.rs"]
mod tests;
