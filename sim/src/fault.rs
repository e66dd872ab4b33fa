//! The faults: what each does to a machine or to the network, and whether it bit.
//!
//! What takes durable data away (a lost tail, an old copy, a wiped disk, a flipped bit) happens to a
//! minority of the machines only, and to none while another one has not recovered from it.

use std::time::Duration;

/// Kinds of faults, in the order of the torture matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process is killed and starts again.
    Kill,
    /// All processes are killed at once.
    KillAll,
    /// A process dies in a call to its disk, which is done in part.
    DieInCall,
    /// A machine loses its power.
    PowerCut,
    /// All machines lose their power at once.
    PowerCutAll,
    /// A call to a disk fails.
    DiskError,
    /// A disk takes very long.
    DiskSlow,
    /// A disk does not answer for a while.
    DiskHang,
    /// A disk is full for a while.
    DiskFull,
    /// A disk lost the end of a log that was durable, while its machine was off.
    LostTail,
    /// An old copy of a disk is put back.
    SetBack,
    /// A disk is empty.
    Wiped,
    /// A bit of a log or a watermark has turned over.
    Flipped,
    /// Two nodes do not reach each other.
    Cut,
    /// One node does not reach another, which reaches it.
    CutOneWay,
    /// A node reaches nobody.
    Isolate,
    /// Everything between two nodes takes long.
    Delay,
    /// All streams between two nodes break.
    Reset,
    /// A clock is set forward or back.
    ClockStep,
    /// A clock runs too fast or too slow.
    ClockDrift,
    /// One of the time servers lies for a while.
    TimeLie,
    /// No time server answers for a while.
    TimeAway,
    /// The counter of a machine jumps, which no honest one does.
    ClockJump,
    /// A node is stopped in order, and starts again.
    Stop,
    /// A process stands still for a while; time and all others go on.
    Pause,
    /// A new node joins.
    Join,
    /// A node is removed.
    Remove,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Kill,
        Self::KillAll,
        Self::DieInCall,
        Self::PowerCut,
        Self::PowerCutAll,
        Self::DiskError,
        Self::DiskSlow,
        Self::DiskHang,
        Self::DiskFull,
        Self::LostTail,
        Self::SetBack,
        Self::Wiped,
        Self::Flipped,
        Self::Cut,
        Self::CutOneWay,
        Self::Isolate,
        Self::Delay,
        Self::Reset,
        Self::ClockStep,
        Self::ClockDrift,
        Self::TimeLie,
        Self::TimeAway,
        Self::ClockJump,
        Self::Stop,
        Self::Pause,
        Self::Join,
        Self::Remove,
    ];

    /// Its name on the command line and in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillAll => "kill-all",
            Self::DieInCall => "die-in-call",
            Self::PowerCut => "power-cut",
            Self::PowerCutAll => "power-cut-all",
            Self::DiskError => "disk-error",
            Self::DiskSlow => "disk-slow",
            Self::DiskHang => "disk-hang",
            Self::DiskFull => "disk-full",
            Self::LostTail => "lost-tail",
            Self::SetBack => "set-back",
            Self::Wiped => "wiped",
            Self::Flipped => "flipped",
            Self::Cut => "cut",
            Self::CutOneWay => "cut-one-way",
            Self::Isolate => "isolate",
            Self::Delay => "delay",
            Self::Reset => "reset",
            Self::ClockStep => "clock-step",
            Self::ClockDrift => "clock-drift",
            Self::TimeLie => "time-lie",
            Self::TimeAway => "time-away",
            Self::ClockJump => "clock-jump",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Join => "join",
            Self::Remove => "remove",
        }
    }

    /// Whether it is for clusters that ask time servers.
    #[must_use]
    pub fn needs_time_servers(self) -> bool {
        matches!(self, Self::TimeLie | Self::TimeAway | Self::ClockJump)
    }

    /// Whether it takes away what was durable.
    #[must_use]
    pub fn damages(self) -> bool {
        match self {
            Self::LostTail | Self::SetBack | Self::Wiped | Self::Flipped => true,
            Self::Kill
            | Self::KillAll
            | Self::DieInCall
            | Self::PowerCut
            | Self::PowerCutAll
            // A sync that failed was not acknowledged.
            | Self::DiskError
            | Self::DiskSlow
            | Self::DiskHang
            | Self::DiskFull
            | Self::Cut
            | Self::CutOneWay
            | Self::Isolate
            | Self::Delay
            | Self::Reset
            | Self::ClockStep
            | Self::ClockDrift
            | Self::TimeLie
            | Self::TimeAway
            | Self::ClockJump
            | Self::Stop
            | Self::Pause
            | Self::Join
            | Self::Remove => false,
        }
    }
}

/// How far a counter jumps at least: further than clocks may differ.
pub const JUMP_MIN: Duration = Duration::from_secs(5);

/// How long a machine stays off, or a network stays broken, at most.
pub const OUTAGE_MAX: Duration = Duration::from_secs(4);
