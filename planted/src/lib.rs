//! Bugs on purpose. The simulator plants one, and must find it: a search that has never found anything
//! proves nothing.
//!
//! Where a bug can be, the code asks [`is`]. Only with the feature `compiled`, which the daemon that
//! people run never has, can the answer be anything but no.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The bug that is planted, as its place in [`Bug::ALL`] from 1; 0 for none.
static PLANTED: AtomicUsize = AtomicUsize::new(0);
/// See [`let_histories_meet`].
static MEET: AtomicBool = AtomicBool::new(false);

/// The bugs: each with its name, its class, and what is wrong.
macro_rules! bugs {
    ($($bug:ident $name:literal $class:literal $wrong:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $(#[doc = $wrong] $bug,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)+];

            /// Its name, its class, and what is wrong.
            #[must_use]
            pub fn about(self) -> (&'static str, &'static str, &'static str) {
                match self {
                    $(Self::$bug => ($name, $class, $wrong),)+
                }
            }
        }
    };
}

bugs! {
    AckBeforeSync "ack-before-sync" "durability" "an append is answered before its sync";
    VoteNotSaved "vote-not-saved" "durability" "a vote is answered and never written";
    VoteBeforeSync "vote-before-sync" "durability" "a vote is answered before its sync";
    SyncErrorIgnored "sync-error-ignored" "durability" "a sync that failed counts as one that succeeded";
    WatermarkAhead "watermark-ahead" "durability" "the watermark claims a group that was never written";
    PurgeBeforeFlush "purge-before-flush" "durability" "the log is purged before the state that covers it is flushed";
    StateInTwoBatches "state-in-two-batches" "durability" "rows and place of an apply are written in two batches";
    OpenDoesNotSync "open-does-not-sync" "durability" "a start takes what the system keeps in memory for durable";
    SegmentNotSynced "segment-not-synced" "durability" "a new segment is put to use before it is on the disk";
    SegmentNameNotSynced "segment-name-not-synced" "durability" "the name of a new segment is not made durable";
    WatermarkOneSlot "watermark-one-slot" "durability" "every watermark is written over the one before";
    RefusedVoteCounts "refused-vote-counts" "counting" "a ballot that was refused counts as a vote";
    BallotOverstated "ballot-overstated" "counting" "a candidate says that its log goes further than it does";
    AckOverstated "ack-overstated" "counting" "a heartbeat is answered with the end of the log, durable or not";
    CommitTold "commit-told-too-early" "counting" "a primary tells its backups that all it sends is committed";
    JointSkipped "joint-skipped" "membership" "voters change without the step that old and new ones both decide";
    VoterStays "voter-stays" "membership" "the vote of a removed member counts on";
    TokenUsesUncounted "token-uses-uncounted" "membership" "a join token lets in as many as bring it";
    RepairKeepsId "repair-keeps-id" "repair" "a new store gets the raft id of the one that it replaces";
    RepairsAtOnce "repairs-at-once" "repair" "a node is repaired while another one is";
    AttestationSkipped "attestation-skipped" "evidence" "nobody compares a store with what it has shown before";
    VotesBeforeMeeting "votes-before-meeting" "evidence" "a node votes before it has met those who could know better";
    BestLogIgnored "best-log-ignored" "evidence" "a node that has just started votes for a lesser log than one that it met";
    MemoryNotSaved "memory-not-saved" "evidence" "what others have shown is forgotten at the end of a process";
    LostTailUnseen "lost-tail-unseen" "evidence" "a log that ends before the watermark's mark is taken";
    BrokenMiddleUnseen "broken-middle-unseen" "evidence" "valid records behind a broken one are no damage";
    CutBelowCommitted "cut-below-committed" "log" "a primary may cut off what is committed here";
    CutNotSaved "cut-not-saved" "log" "what is cut off the log comes back at the next start";
    FormerLifeTaken "former-life-taken" "log" "records of a segment's former life count";
    ChecksumIgnored "checksum-ignored" "log" "a record counts whatever its checksum";
    SectorSharedByGroups "sector-shared-by-groups" "log" "a group begins in the sector where the one before it ended";
    CommittedOverstated "committed-overstated" "log" "a start takes all of its log for committed";
    RowLost "row-lost" "log" "one node loses a row of an apply now and then";
    ApplyByNode "apply-by-node" "log" "what an entry does depends on the node";
    SnapshotWithoutDedup "snapshot-without-dedup" "snapshot" "a snapshot leaves out what was sent before";
    SnapshotFlipNotFlushed "snapshot-flip-not-flushed" "snapshot" "an installed snapshot is not made durable before the log goes";
    SnapshotOverHistory "snapshot-over-history" "snapshot" "a snapshot replaces what is committed, whatever it came of";
    MembershipNotInState "membership-not-in-state" "snapshot" "the state does not say who the members are";
    DedupOff "dedup-off" "once" "a message that is sent again is stored again";
    DedupForgetsSender "dedup-forgets-sender" "once" "two senders that use one id get one answer";
    AckOfAnother "ack-of-another" "once" "a retry is answered with the place of another message";
    DedupForgotten "dedup-forgotten" "once" "a start forgets what was sent before";
    FloorNotRaised "floor-not-raised" "time" "entries that are taken do not raise the clock's floor";
    FloorWithoutLogical "floor-without-logical" "time" "of a stamp that is taken only the nanoseconds raise the floor";
    GuardOpen "guard-open" "time" "a backup takes entries from the future";
    LiarBelieved "liar-believed" "time" "the bounds are those of the server that answers best";
    CeilingNotSaved "ceiling-not-saved" "time" "the ceiling of stamps is kept in memory only";
    CeilingTooLow "ceiling-too-low" "time" "the ceiling on the disk lies below the one that is stamped up to";
    ReadAsksNobody "read-asks-nobody" "reads" "a primary does not ask a majority before a fresh read";
    LeaseRead "lease-read" "reads" "a primary does not ask a majority that it heard a moment before it was last looked";
    ReadDoesNotWait "read-does-not-wait" "reads" "a node answers a fresh read from what it has applied so far";
    ReadOneBehind "read-one-behind" "reads" "a fresh read waits for the entry before the last one";
    PageSkipsOne "page-skips-one" "reads" "a read goes on one record too late behind a page";
    EarlyAck "early-ack" "answers" "a message on a shared stream is acknowledged before a majority has it";
    UnknownCalledNotDone "unknown-called-not-done" "answers" "a proposal of unknown outcome is called not done";
    LateCalledNotDone "late-called-not-done" "answers" "a message that waits too long on a shared stream is called not done";
    AnswersMixedUp "answers-mixed-up" "answers" "messages of one entry get each other's answers";
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.about().0 == name)
    }
}

/// Whether bugs can be planted in this build.
#[must_use]
pub const fn compiled() -> bool {
    cfg!(feature = "compiled")
}

/// Plants a bug in this process, in place of any other.
pub fn plant(bug: Bug) {
    let place = Bug::ALL.iter().position(|known| *known == bug);
    PLANTED.store(place.map_or(0, |place| place + 1), Ordering::Relaxed);
}

/// In this run two histories may meet: a bug behind the comparison of stores is to be seen.
pub fn let_histories_meet() {
    MEET.store(true, Ordering::Relaxed);
}

/// Whether nobody compares stores: that is the bug, or would keep the one from being seen that is planted
/// behind it.
#[must_use]
pub fn hides_from_attestation() -> bool {
    let behind = compiled() && MEET.load(Ordering::Relaxed);
    let is_behind = || is(Bug::CutBelowCommitted) || is(Bug::SnapshotOverHistory);
    is(Bug::AttestationSkipped) || behind && is_behind()
}

/// Whether this bug is planted.
#[must_use]
pub fn is(bug: Bug) -> bool {
    compiled() && {
        let planted = PLANTED.load(Ordering::Relaxed);
        planted.checked_sub(1).and_then(|place| Bug::ALL.get(place)) == Some(&bug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        for bug in Bug::ALL {
            assert_eq!(Bug::named(bug.about().0), Some(*bug));
        }
    }

    #[test]
    fn a_bug_is_there_only_where_bugs_are_compiled_in() {
        assert!(!is(Bug::DedupOff));
        plant(Bug::DedupOff);
        assert_eq!(is(Bug::DedupOff), compiled());
        assert!(!is(Bug::AckBeforeSync));
    }
}
