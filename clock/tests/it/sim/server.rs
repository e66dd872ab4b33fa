//! Time servers and the ways to them.

use clock::packet::{NtpShort, NtpTime, Packet};
use clock::{Answer, Failure, RawExchange};

use super::machine::Machine;
use super::{MICRO, MILLI, Random};

/// What a server does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Off by no more than it admits.
    Honest,
    /// Off by a constant, and sure of itself. Several with the same constant collude.
    Off { by_ns: i64 },
    /// Right at the start, and going wrong at a rate, parts per billion.
    Creeps { ppb: i64 },
    /// Says what makes the counter look perfect: its offset never moves.
    HidesDrift,
    /// Off by something else each time.
    Jumps { by_up_to_ns: i64 },
    /// Honest until the given query, then off.
    Turns { at_query: u64, by_ns: i64 },
    /// Never answers.
    Silent,
    /// Says that it is not synchronised.
    Unsynced,
    /// Honest, and now and then says that it is asked too often.
    Rate,
    /// Honest, and at its tenth query refuses for good.
    Deny,
    /// Right, whatever it admits, and announces a leap second.
    Announces { indicator: u8 },
    /// As before, but does not step when true time does.
    Ignores { indicator: u8 },
}

/// The way to a server and back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) there_ns: u64,
    pub(crate) back_ns: u64,
    /// Added to either way, at random up to this.
    pub(crate) jitter_ns: u64,
    pub(crate) loss_percent: u64,
    /// What an honest server admits to be off by.
    pub(crate) admits_ns: u64,
}

impl Way {
    pub(crate) fn lan(random: &mut Random) -> Self {
        Self {
            there_ns: 20 * MICRO + random.upto(60 * MICRO),
            back_ns: 20 * MICRO + random.upto(60 * MICRO),
            jitter_ns: 100 * MICRO,
            loss_percent: 0,
            admits_ns: 40 * MICRO + random.upto(80 * MICRO),
        }
    }

    /// 12 ms one way, up to 30 % more on one and less on the other.
    pub(crate) fn wan(random: &mut Random) -> Self {
        let skew_ns = random.within(-3_600_000, 3_600_000);
        Self {
            there_ns: (12 * MILLI).checked_add_signed(skew_ns).unwrap(),
            back_ns: (12 * MILLI).checked_add_signed(-skew_ns).unwrap(),
            jitter_ns: 2 * MILLI,
            loss_percent: 2,
            admits_ns: 3 * MILLI + random.upto(3 * MILLI),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) nature: Nature,
    pub(crate) way: Way,
    queries: u64,
    stepped: bool,
    start_utc_ns: u64,
    start_raw_ns: u64,
    random: Random,
}

impl Server {
    pub(crate) fn new(nature: Nature, way: Way, machine: &Machine, random: Random) -> Self {
        let (start_utc_ns, start_raw_ns) = (machine.utc_ns, machine.raw_ns);
        Self { nature, way, queries: 0, stepped: false, start_utc_ns, start_raw_ns, random }
    }

    pub(crate) fn queries(&self) -> u64 {
        self.queries
    }

    /// Whether it says something that an honest server would not.
    pub(crate) fn lies(&self) -> bool {
        match self.nature {
            Nature::Off { .. }
            | Nature::Creeps { .. }
            | Nature::HidesDrift
            | Nature::Jumps { .. } => true,
            Nature::Turns { at_query, .. } => self.queries >= at_query,
            Nature::Ignores { .. } => self.stepped,
            Nature::Honest
            | Nature::Silent
            | Nature::Unsynced
            | Nature::Rate
            | Nature::Deny
            | Nature::Announces { .. } => false,
        }
    }

    /// Asks it; the machine's time passes.
    pub(crate) fn asked(&mut self, machine: &mut Machine) -> Answer {
        self.queries += 1;
        let t1_raw_ns = machine.raw_ns;
        let there_ns = self.way.there_ns + self.random.upto(self.way.jitter_ns);
        let back_ns = self.way.back_ns + self.random.upto(self.way.jitter_ns);
        machine.pass(there_ns);
        let lost = self.random.percent(self.way.loss_percent);
        let kiss = match self.nature {
            Nature::Rate if self.random.percent(4) => Some(*b"RATE"),
            Nature::Deny if self.queries >= 10 => Some(*b"DENY"),
            _ => None,
        };
        self.stepped = machine.stepped_ns != 0;
        let packet = self.packet(machine);
        let held_ns = self.random.upto(20 * MICRO);
        machine.pass(held_ns);
        let transmit = NtpTime(packet.receive.0 + (held_ns << 32) / 1_000_000_000);
        let packet = Packet { transmit, ..packet };
        machine.pass(back_ns);
        match kiss {
            _ if lost || self.nature == Nature::Silent => {
                machine.pass(1000 * MILLI - back_ns);
                Answer::Failed(Failure::Timeout)
            }
            Some(code) => Answer::Kiss(code),
            None => Answer::Exchange(RawExchange {
                t1_raw_ns,
                t4_raw_ns: machine.raw_ns,
                packet: packet.to_bytes(),
            }),
        }
    }

    fn packet(&mut self, machine: &Machine) -> Packet {
        let (off_ns, admits_ns) = self.off(machine);
        let says_ns = machine.utc_ns.checked_add_signed(off_ns).unwrap();
        let short = |ns: u64| {
            let units = (u128::from(ns) << 16).div_ceil(1_000_000_000);
            NtpShort(u32::try_from(units).unwrap())
        };
        let leap = match self.nature {
            Nature::Unsynced => 3,
            Nature::Announces { indicator } | Nature::Ignores { indicator } => indicator,
            _ => 0,
        };
        Packet {
            leap,
            version: 4,
            mode: 4,
            stratum: 2,
            precision: -23,
            // Half of the one and all of the other count: either way it is what it admits.
            root_delay: short(admits_ns),
            root_dispersion: short(admits_ns.div_ceil(2)),
            receive: NtpTime::from_unix_ns(says_ns),
            ..Packet::default()
        }
    }

    /// How far its time is off, and what it admits.
    fn off(&mut self, machine: &Machine) -> (i64, u64) {
        let admits = self.way.admits_ns.cast_signed();
        let honest_ns = match self.random.upto(3) {
            0 => admits,
            1 => -admits,
            _ => self.random.within(-admits, admits),
        };
        let elapsed_ns = i128::from(machine.utc_ns) - i128::from(self.start_utc_ns);
        match self.nature {
            Nature::Off { by_ns } => (by_ns, 0),
            Nature::Creeps { ppb } => {
                (i64::try_from(elapsed_ns * i128::from(ppb) / 1_000_000_000).unwrap(), 0)
            }
            Nature::HidesDrift => {
                let counted_ns = i128::from(machine.raw_ns) - i128::from(self.start_raw_ns);
                (i64::try_from(counted_ns - elapsed_ns).unwrap(), 0)
            }
            Nature::Jumps { by_up_to_ns } => (self.random.within(-by_up_to_ns, by_up_to_ns), 0),
            Nature::Turns { at_query, by_ns } if self.queries >= at_query => (by_ns, 0),
            Nature::Ignores { .. } => (honest_ns - machine.stepped_ns, self.way.admits_ns),
            Nature::Honest
            | Nature::Turns { .. }
            | Nature::Silent
            | Nature::Unsynced
            | Nature::Rate
            | Nature::Deny => (honest_ns, self.way.admits_ns),
            Nature::Announces { .. } => (0, self.way.admits_ns),
        }
    }
}
