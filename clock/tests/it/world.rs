//! What the commands of a script act on.

use std::collections::BTreeMap;

use clock::discipline::{Discipline, Round};
use clock::drift::{Drift, allowance_ppb, measured_ppb};
use clock::packet::{NtpShort, NtpTime, Packet};
use clock::sample::{Limits, RELEASE_NS};
use clock::select::{Selection, is_falseticker, select};
use clock::{Hlc, HlcClock, Interval, RawExchange, Reading, Sample, Scale, TickError};
use golden::Line;

use crate::script::{
    START_NS, hlc, interval, place_ns, show_hlc, show_interval, show_place, show_span, show_stamp,
    span, span_ns,
};

const PHI_PPB: u64 = 50_000;
const MAX_ERROR_NS: u64 = 100_000_000;
const SCALE: Scale = Scale { base_ns: START_NS, raw0_ns: 0 };

pub(crate) struct World {
    reading: Reading,
    hlc: HlcClock,
    discipline: Discipline,
    drifts: BTreeMap<String, Drift>,
    now_ns: u64,
}

/// What a script may say.
enum Command {
    /// An exchange with a server; prints the sample or why it was rejected.
    Exchange(Line),
    /// The hull of some servers' intervals.
    Select(Line),
    /// A sample of a server, for the drift guard; prints what the server's samples say.
    Heard(Line),
    /// The drift allowance that follows from some servers' samples.
    Allowance(Line),
    /// What the disciplined clock makes of a selection.
    Round(Line),
    /// The disciplined reading at a moment.
    Read(u64),
    /// The bound may be wrong.
    Suspect(u64),
    /// The reading for the ticks that follow.
    Now(Line),
    /// Mints stamps.
    Tick(u32),
    /// A stamp in the log.
    Observe(String),
    /// A client's token.
    Admit(String),
    /// The ceiling that is wanted.
    Wanted,
    /// A ceiling is on disk.
    Persisted(String),
    /// The ceiling is put down to a value; `majority` answers of so many voters say that.
    Release(Line),
    /// The process dies and starts again with the ceiling on disk.
    Restart,
    /// A clean stop and a start with the ceiling it left.
    Stop,
}

impl Default for World {
    fn default() -> Self {
        Self {
            reading: Reading::unbounded(START_NS),
            hlc: HlcClock::new(0),
            discipline: Discipline::new(SCALE, PHI_PPB, MAX_ERROR_NS),
            drifts: BTreeMap::new(),
            now_ns: 0,
        }
    }
}

impl Command {
    fn parse(text: &str) -> Self {
        let line = Line::parse(text);
        let moment = |line: &Line| span_ns(line.word(0)).unsigned_abs();
        match line.verb.as_str() {
            "exchange" => Self::Exchange(line),
            "select" => Self::Select(line),
            "heard" => Self::Heard(line),
            "allowance" => Self::Allowance(line),
            "round" => Self::Round(line),
            "read" => Self::Read(moment(&line)),
            "suspect" => Self::Suspect(moment(&line)),
            "now" => Self::Now(line),
            "tick" => Self::Tick(line.words.first().map_or(1, |count| count.parse().unwrap())),
            "observe" => Self::Observe(line.word(0).to_owned()),
            "admit" => Self::Admit(line.word(0).to_owned()),
            "wanted" => Self::Wanted,
            "persisted" => Self::Persisted(line.word(0).to_owned()),
            "release" => Self::Release(line),
            "restart" => Self::Restart,
            "stop" => Self::Stop,
            other => panic!("unknown command {other}"),
        }
    }
}

impl World {
    /// Runs a command; returns what it prints, if anything.
    pub(crate) fn run(&mut self, text: &str) -> Option<String> {
        match Command::parse(text) {
            Command::Exchange(line) => Some(exchange(line)),
            Command::Select(line) => Some(show_selection(line)),
            Command::Heard(line) => Some(self.heard(line)),
            Command::Allowance(line) => Some(self.allowance(line)),
            Command::Round(line) => Some(self.round(line)),
            Command::Read(at_ns) => Some(self.read(at_ns)),
            Command::Suspect(at_ns) => {
                self.discipline.suspect(at_ns);
                Some(self.read(at_ns))
            }
            Command::Now(line) => {
                self.set_reading(&line);
                None
            }
            Command::Tick(count) => Some(self.tick(count)),
            Command::Observe(text) => {
                self.hlc.observe(hlc(&text));
                None
            }
            Command::Admit(text) => {
                let cap_ns = HlcClock::cap_ns(&self.reading, MAX_ERROR_NS);
                let done = self.hlc.admit(hlc(&text), cap_ns);
                Some(done.map_or_else(show_refusal, |()| "admitted".to_owned()))
            }
            Command::Wanted => {
                let wanted = self.hlc.ceiling_needed(0);
                Some(wanted.map_or_else(
                    || "no".to_owned(),
                    |at| match at.logical {
                        u32::MAX => format!("ceiling {}", show_place(at.ns)),
                        _ => format!("ceiling {}", show_hlc(at)),
                    },
                ))
            }
            Command::Persisted(text) => {
                let ceiling = match text.contains('~') {
                    true => hlc(&text),
                    false => Hlc { ns: place_ns(&text), logical: u32::MAX },
                };
                self.hlc.ceiling_persisted(ceiling);
                None
            }
            Command::Release(line) => {
                let voters = line.word(0).parse().unwrap();
                let answers: Vec<Hlc> = line.words.iter().skip(1).map(|word| hlc(word)).collect();
                Some(match clock::release::highest(voters, &answers) {
                    Ok(highest) => {
                        self.hlc = HlcClock::above(self.hlc.release(highest));
                        self.hlc.observe(highest);
                        format!("floor {}", show_hlc(self.hlc.floor()))
                    }
                    Err(error) => error.to_string(),
                })
            }
            Command::Restart => {
                self.hlc = HlcClock::above(self.hlc.ceiling());
                Some(format!("floor {}", show_hlc(self.hlc.floor())))
            }
            Command::Stop => {
                let ceiling = self.hlc.seal();
                let refused = self.tick(1);
                self.hlc = HlcClock::above(ceiling);
                Some(format!("{refused}; floor {}", show_hlc(self.hlc.floor())))
            }
        }
    }

    fn tick(&self, count: u32) -> String {
        let cap_ns = HlcClock::cap_ns(&self.reading, MAX_ERROR_NS);
        let stamp = self.hlc.tick_batch(&self.reading, cap_ns, count);
        stamp.map_or_else(show_refusal, show_stamp)
    }

    fn set_reading(&mut self, line: &Line) {
        let now_ns = place_ns(line.word(0));
        self.reading = match line.words.get(1) {
            None => Reading::unbounded(now_ns),
            Some(bounds) => {
                let bounds = interval(bounds);
                Reading {
                    now_ns,
                    earliest_ns: now_ns.checked_add_signed(bounds.lo_ns()),
                    latest_ns: now_ns.checked_add_signed(bounds.hi_ns()),
                }
            }
        };
    }

    fn heard(&mut self, mut line: Line) -> String {
        let sample = Sample {
            raw_ns: span_ns(line.word(1)).unsigned_abs(),
            theta_ns: span(&mut line, "theta").unwrap(),
            delta_ns: 0,
            lambda_ns: span(&mut line, "lambda").unwrap().unsigned_abs(),
            stratum: 1,
            leap: 0,
            refid: [0; 4],
            stale_reference: false,
        };
        let name = line.word(0).to_owned();
        line.end();
        let drift = self.drifts.entry(name.clone()).or_default();
        drift.add(sample);
        let bound_ppb = drift.measure().map(|measure| measure.bound_ppb);
        format!("{name}: {}", show_ppm(bound_ppb))
    }

    /// From the servers that are named, or from all.
    fn allowance(&self, mut line: Line) -> String {
        let configured: usize = line.option("of").unwrap().parse().unwrap();
        let named = |name: &String| line.words.is_empty() || line.words.contains(name);
        let drifts = self.drifts.iter().filter(|(name, _)| named(name));
        let bounds: Vec<u64> =
            drifts.filter_map(|(_, drift)| Some(drift.measure()?.bound_ppb)).collect();
        let measured = measured_ppb(&bounds, configured);
        let allowance = allowance_ppb(measured);
        format!("measured {}, allowed {}", show_ppm(measured), show_ppm(Some(allowance)))
    }

    fn round(&mut self, mut line: Line) -> String {
        let at_ns = span_ns(line.word(0)).unsigned_abs();
        let new_sample = line.option("new").is_none_or(|text| text != "no");
        let settled = line.option("settled").is_none_or(|text| text != "no");
        let majority = line.option("majority");
        let selection = match line.word(1) {
            "silence" => Selection::NotEnough,
            "disagree" => Selection::Disagree,
            hull => {
                let hull = interval(hull);
                let majority = match majority.as_deref() {
                    None => Some(hull.into()),
                    Some("none") => None,
                    Some(text) => Some(interval(text).into()),
                };
                Selection::Hull { hull, majority }
            }
        };
        line.end();
        let fresh_until_ns = at_ns + 1024 * 1_000_000_000;
        let round = Round { selection, phi_ppb: PHI_PPB, fresh_until_ns, new_sample, settled };
        let outcome = self.discipline.round(at_ns, &round);
        format!("{outcome:?}: {}", self.read(at_ns))
    }

    fn read(&mut self, at_ns: u64) -> String {
        assert!(at_ns >= self.now_ns, "a script's time runs on");
        self.now_ns = at_ns;
        let view = self.discipline.view();
        let reading = view.now(at_ns);
        // Offsets from the raw counter read better than times of day.
        let offset = |ns: u64| show_span(ns.cast_signed() - (START_NS + at_ns).cast_signed());
        let bounds = match (reading.earliest_ns, reading.latest_ns) {
            (Some(lo), Some(hi)) => format!("{}..{}", offset(lo), offset(hi)),
            _ => "unknown".to_owned(),
        };
        format!("{} D {} in {bounds}", view.state_at(at_ns), offset(reading.now_ns))
    }
}

fn show_ppm(ppb: Option<u64>) -> String {
    ppb.map_or_else(|| "unknown".to_owned(), |ppb| format!("{}.{:03} ppm", ppb / 1000, ppb % 1000))
}

fn show_refusal(error: TickError) -> String {
    match error {
        TickError::Ceiling { needed_ns } => format!("needs ceiling {}", show_place(needed_ns)),
        TickError::Ahead { by_ns } => format!("ahead by {}", show_span(by_ns.cast_signed())),
        TickError::Behind { by_ns, .. } => format!("behind by {}", show_span(by_ns.cast_signed())),
        TickError::Unsynced => "unsynced".to_owned(),
        TickError::Sealed => "sealed".to_owned(),
    }
}

/// An honest server's answer unless an option says otherwise: its clock is `offset` ahead of ours,
/// the request takes `there`, the answer `back`, and it holds the request for `held`.
fn exchange(mut line: Line) -> String {
    let offset_ns = span(&mut line, "offset").unwrap_or(0);
    let there_ns = span(&mut line, "there").unwrap_or(0);
    let back_ns = span(&mut line, "back").unwrap_or(0);
    let held_ns = span(&mut line, "held").unwrap_or(0);
    let elapsed_ns =
        span(&mut line, "elapsed").unwrap_or_else(|| there_ns + held_ns.max(0) + back_ns);
    let t1_raw_ns = 10_000_000_000_u64;
    let sent_ns = SCALE.local_ns(t1_raw_ns);
    let receive_ns = sent_ns.checked_add_signed(offset_ns + there_ns).unwrap();
    let short = |span: Option<i64>| {
        let units = (i128::from(span.unwrap_or(0)) << 16).unsigned_abs().div_ceil(1_000_000_000);
        NtpShort(u32::try_from(units).unwrap())
    };
    let mut packet = Packet {
        leap: u8::try_from(line.option_as("leap").unwrap_or(0)).unwrap(),
        version: 4,
        mode: 4,
        stratum: u8::try_from(line.option_as("stratum").unwrap_or(2)).unwrap(),
        precision: i8::try_from(line.option_as("precision").unwrap_or(-20)).unwrap(),
        root_delay: short(span(&mut line, "rootdelay")),
        root_dispersion: short(span(&mut line, "rootdisp")),
        reference: NtpTime::from_unix_ns(sent_ns),
        receive: NtpTime::from_unix_ns(receive_ns),
        transmit: NtpTime::from_unix_ns(receive_ns.checked_add_signed(held_ns).unwrap()),
        ..Packet::default()
    };
    if let Some(age_ns) = span(&mut line, "reference") {
        packet.reference = NtpTime::from_unix_ns(sent_ns.checked_add_signed(-age_ns).unwrap());
    }
    if line.option("t2").is_some_and(|text| text == "0") {
        packet.receive = NtpTime(0);
    }
    if line.option("era").is_some_and(|text| text == "release") {
        packet.receive = NtpTime::from_unix_ns(RELEASE_NS - 2 * 86_400_000_000_000);
        packet.transmit = packet.receive;
    }
    let mut limits = Limits::new(PHI_PPB);
    limits.own_refid = line.option("self").map(|_| packet.refid);
    line.end();
    let t4_raw_ns = t1_raw_ns.checked_add_signed(elapsed_ns).unwrap();
    let exchange = RawExchange { t1_raw_ns, t4_raw_ns, packet: packet.to_bytes() };
    match exchange.judge(&SCALE, &limits) {
        Err(why) => format!("rejected: {why}"),
        Ok(sample) => {
            let [delta, lambda] =
                [sample.delta_ns, sample.lambda_ns].map(|ns| show_span(ns.cast_signed()));
            let warn = if sample.stale_reference { " (old reference)" } else { "" };
            format!("theta {} delta {delta} lambda {lambda}{warn}", show_span(sample.theta_ns))
        }
    }
}

fn show_selection(mut line: Line) -> String {
    let configured: usize = line.option("of").unwrap().parse().unwrap();
    let servers: Vec<(String, Interval)> =
        line.rest().into_iter().map(|(name, text)| (name, interval(&text))).collect();
    let fresh: Vec<Interval> = servers.iter().map(|(_, interval)| *interval).collect();
    match select(&fresh, configured) {
        Selection::NotEnough => "not enough".to_owned(),
        Selection::Disagree => "disagree".to_owned(),
        Selection::Hull { hull, majority: None } => {
            format!("hull {}, no majority", show_interval(hull))
        }
        Selection::Hull { hull, majority: Some(majority) } => {
            let liars = servers.iter().filter(|(_, j)| is_falseticker(*j, majority));
            let liars: Vec<&str> = liars.map(|(name, _)| name.as_str()).collect();
            format!(
                "hull {}, majority {}, falsetickers [{}]",
                show_interval(hull),
                show_interval(majority.first),
                liars.join(" ")
            )
        }
    }
}
