//! Retention: how old, how many and how large the kept records may be. The rule looks at stamps
//! inside the log, never at a clock, and removes from the oldest end alone, so what is kept is
//! always one unbroken run of seqs.
//!
//! The measures are settings of the cluster: no expiry goes beyond what is set where it is applied,
//! whatever its primary knew.
//!
//! The dedup window is apart from this: a (sender, id) is remembered even if its record is gone.

use clock::Hlc;
use proto::limits::EXPIRE_RECORDS_MAX;
use proto::wire::Settings;
use proto::{Record, Stream};

use crate::rows::error::{QueryError, StateError};
use crate::rows::find::{seq_of, sized_record};
use crate::rows::keys;
use crate::rows::slots::{sender_key, stream_key};
use crate::rows::view::{Table, View};
use crate::rules::floors::{Floor, Raised};
use crate::rules::machine::{Machine, Outcome, Place};
use crate::rules::settings::settings;

/// The measures of an expiry command; 0 = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Largest age in nanoseconds of log time.
    pub max_age_ns: u64,
    /// Most records.
    pub max_records: u64,
    /// Most bytes.
    pub max_bytes: u64,
}

impl Policy {
    /// What the settings say; `None` until a primary has set it.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<Self> {
        Some(Self {
            max_age_ns: settings.retain_age_ms?.saturating_mul(1_000_000),
            max_records: settings.retain_count?,
            max_bytes: settings.retain_bytes?,
        })
    }
}

/// What is kept at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Clock value of the oldest.
    pub oldest: Hlc,
}

/// Whether the oldest record must go at log time `now`.
#[must_use]
pub fn expired(policy: Policy, kept: Kept, now: Hlc) -> bool {
    let over = |limit: u64, value: u64| limit != 0 && value > limit;
    let aged = policy.max_age_ns != 0 && kept.oldest.ns.saturating_add(policy.max_age_ns) <= now.ns;
    aged || over(policy.max_records, kept.records) || over(policy.max_bytes, kept.bytes)
}

/// How long records stay; `None` until a primary has set it.
fn policy(view: &dyn View) -> Result<Option<Policy>, StateError> {
    Ok(settings(view)?.and_then(|settings| Policy::of(&settings)))
}

impl Machine<'_> {
    /// Removes expired records, at most [`EXPIRE_RECORDS_MAX`].
    pub(crate) fn expire(
        &mut self,
        place: &Place<'_>,
        max_age_ns: u64,
        max_records: u64,
        max_bytes: u64,
    ) -> Result<Outcome, QueryError> {
        // An entry of an earlier release brings the measures of its primary's own file.
        let proposed = Policy { max_age_ns, max_records, max_bytes };
        let policy = policy(&self.rows)?.unwrap_or(proposed);
        let (mut records, mut bytes) = (0, 0);
        let (mut raised, mut first) = (Raised::default(), None);
        let more = loop {
            if self.state.records() == 0 {
                break false;
            }
            let (record, len) = sized_record(&self.rows, self.state.first_seq)?;
            let oldest = record
                .hlc()
                .map_err(|_| StateError::corrupt(Table::Records, "a record has no stamp"))?;
            let kept = Kept { records: self.state.records(), bytes: self.state.bytes, oldest };
            if !expired(policy, kept, place.stamp.hlc) {
                break false;
            }
            if records == EXPIRE_RECORDS_MAX as u64 {
                break true;
            }
            first.get_or_insert(Floor { seq: record.seq, stamp: oldest });
            raised.note(&self.drop_oldest(&record, len)?, &record, oldest);
            records += 1;
            bytes += len;
        };
        if let Some(first) = first {
            raised.write(self, first)?;
        }
        assert!(records <= EXPIRE_RECORDS_MAX as u64, "one command removes no more than it may");
        Ok(Outcome::Expired { records, bytes, more })
    }

    /// Removes the oldest record and every row that leads to it. Returns what it was addressed to.
    fn drop_oldest(&mut self, record: &Record, len: u64) -> Result<Stream, StateError> {
        let stream = record
            .stream()
            .map_err(|_| StateError::corrupt(Table::Records, "a record has no recipient"))?;
        let seq = record.seq;
        assert_eq!(seq, self.state.first_seq, "the oldest record goes first");
        self.remove(Table::Records, keys::seq(seq));
        self.remove(Table::Streams, keys::indexed(&stream_key(&stream), seq));
        let sender = sender_key(&stream, &record.from);
        self.remove(Table::Senders, keys::indexed(&sender, seq));
        // After the dedup window the sender may have used the id again: that row stays.
        if seq_of(&self.rows, &record.id, &sender)? == Some(seq) {
            self.remove(Table::Ids, keys::pair(&record.id, &sender));
        }
        self.drop_blocks(seq)?;
        self.state.gateways.release(record)?;
        if let Stream::Group(name) = &stream {
            self.drop_group(name.as_str(), seq)?;
        }
        self.state.first_seq = seq + 1;
        assert!(self.state.first_seq <= self.state.last_seq + 1, "only what was there goes");
        self.release(len)?;
        Ok(stream)
    }
}
