//! The keys of the file: their types, ranges and defaults, and how they depend on each other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clock::LeapPolicy;
use clock::lead::{OnLoss, UnsyncedStart};
use proto::Name;
use proto::address::{NTP_PORT, advertised, host_port, is_own, same as same_address};
use proto::life::{LIFE_DEFAULT_S, LIFE_MAX_S, LIFE_MIN_S};
use proto::limits::{CLIENT_CONNECTIONS_MAX, DISK_RESERVE_BYTES, TIME_SERVERS_MAX};

use super::filter;
use super::reader::{Marks, Notes, Section, Spot, table};
use super::{
    Clock, ClockMode, ClockServer, Config, ConfigError, FileSettings, Http, Limits, Log, Raft,
    Retention, Tls,
};

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// What is logged unless the file says otherwise.
const FILTER: &str = "info";

/// Reads a text; `listen` replaces the address in it.
pub(super) fn parse(
    text: &str,
    file: &Path,
    listen: Option<SocketAddr>,
) -> Result<(Config, Marks), ConfigError> {
    let root = table(text).map_err(|note| ConfigError::invalid(file, text, vec![note]))?;
    let notes = Notes::default();
    let config = read(&Section::top(&notes, root.get_ref()), file, listen);
    let (wrong, marks) = notes.finish();
    match config {
        Some(mut config) if wrong.is_empty() => {
            let said = |key: &str| marks.contains_key(key);
            config.clock.settings = FileSettings {
                max_error_ms: said("clock.max_error_ms").then_some(config.clock.max_error_ms),
                on_loss: said("clock.on_loss").then_some(config.clock.on_loss),
                max_age_ms: config.retention.max_age.map(|_| config.retention.max_age_ms()),
                max_records: said("retention.max_records").then_some(config.retention.max_records),
                max_bytes: said("retention.max_bytes").then_some(config.retention.max_bytes),
                cert_life_s: said("tls.cert_life").then_some(config.tls.cert_life.as_secs()),
            };
            Ok((config, marks))
        }
        _ => Err(ConfigError::invalid(file, text, wrong)),
    }
}

/// `None` if something is missing or makes no sense; what, was noted.
pub(super) fn read(top: &Section<'_>, file: &Path, listen: Option<SocketAddr>) -> Option<Config> {
    let node = top.need_as("node", "n1", str::parse::<Name>);
    let (listen, advertise) = addresses(top, listen);
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let data_dir = top.need_as("data_dir", "data/n1", |text| path(folder, text));
    let rejoin = top.optional_flag("rejoin");
    let join = top.texts("join", "n1.example.org:7101", |text| host_port(text, None));
    let token_file = top.text_as("token_file", "join.token", |text| path(folder, text));
    let tls = tls(&top.table("tls"), folder);
    let clock = clock(&top.table("clock"), listen, advertise.as_deref());
    let raft = raft(&top.table("raft"));
    let retention = retention(&top.table("retention"));
    let log = log(&top.table("log"));
    let http = http(&top.table("http"), folder, listen);
    let limits = limits(&top.table("limits"));
    Some(Config {
        file: file.to_owned(),
        node: node?.value,
        listen: listen?,
        advertise: advertise?,
        data_dir: data_dir?.value,
        rejoin,
        join,
        token_file: token_file.map(|spot| spot.value),
        tls: tls?,
        clock: clock?,
        raft,
        retention,
        log,
        http: http?,
        limits,
    })
}

/// Where to serve and what to tell the others. A command line's address wins over the file's.
fn addresses(top: &Section<'_>, given: Option<SocketAddr>) -> (Option<SocketAddr>, Option<String>) {
    let example = "127.0.0.1:7101";
    let socket = |text: &str| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("'{text}' is not an IP address and a port: {example}, [::1]:7101"))
    };
    let in_file = match given {
        None => top.need_as("listen", example, socket),
        Some(_) => top.text_as("listen", example, socket),
    };
    let listen = given.or_else(|| in_file.as_ref().map(|spot| spot.value));
    let at = in_file.map_or_else(|| top.at(), |spot| spot.at);
    if listen.is_some_and(|address| address.port() == 0) {
        top.wrong(
            at,
            "listen",
            "port 0 means another port at every start; the others could not find it",
        );
    }
    let example = "node1.example.org:7101";
    let in_file = top.text("advertise", example);
    let told = in_file.is_some();
    let at = in_file.as_ref().map_or(at, |spot| spot.at);
    let advertise = in_file.map(|spot| spot.value.to_owned()).or_else(|| {
        listen.filter(|address| address.port() != 0).map(|address| address.to_string())
    });
    let advertise = advertise.and_then(|text| match advertised(&text) {
        Ok(address) => Some(address),
        Err(error) if told => {
            top.wrong(at, "advertise", error.to_string());
            None
        }
        Err(error) => {
            top.wrong(at, "listen", format!("{error}; add advertise = \"{example}\""));
            None
        }
    });
    (listen, advertise)
}

fn tls(section: &Section<'_>, folder: &Path) -> Option<Tls> {
    let ca = section.need_as("ca", "pki/ca.crt", |text| path(folder, text));
    let cert = section.need_as("cert", "pki/n1.crt", |text| path(folder, text));
    let key = section.need_as("key", "pki/n1.key", |text| path(folder, text));
    let ca_key = section.text_as("ca_key", "pki/ca.key", |text| path(folder, text));
    let cert_life = section.text_as("cert_life", "90d", cert_life);
    Some(Tls {
        ca: ca?.value,
        cert: cert?.value,
        key: key?.value,
        ca_key: ca_key.map(|spot| spot.value),
        cert_life: cert_life.map_or(Duration::from_secs(LIFE_DEFAULT_S), |spot| spot.value),
    })
}

/// How long a certificate lives.
fn cert_life(text: &str) -> Result<Duration, String> {
    let life = age(text)?;
    if (LIFE_MIN_S..=LIFE_MAX_S).contains(&life.as_secs()) {
        return Ok(life);
    }
    Err(format!("'{text}' is not between {LIFE_MIN_S}s and {}d", LIFE_MAX_S / (24 * 3600)))
}

/// `listen` and `advertise` are the node's own addresses, as far as they are known.
fn clock(
    section: &Section<'_>,
    listen: Option<SocketAddr>,
    advertise: Option<&str>,
) -> Option<Clock> {
    let max_error_ms = section.number32("max_error_ms", "milliseconds", 1..=10_000, 100).value;
    let on_loss = section.text_as("on_loss", "degrade", str::parse::<OnLoss>);
    let unsynced_start = section.text_as("unsynced_start", "wait", unsynced_start);
    let leap = section.text_as("leap", "smear", str::parse::<LeapPolicy>);
    let history_s = section.number32("history_s", "seconds", 1..=3600, 60).value;
    let tables = section.tables("server");
    let servers: Vec<_> = tables.iter().map(clock_server).collect();
    check_servers(&tables, &servers, listen, advertise);
    let mode = section.text_as("mode", "sntp", |text| match text {
        "sntp" => Ok(ClockMode::Sntp),
        "local" => Ok(ClockMode::Local),
        _ => Err(format!("'{text}' is neither \"sntp\" nor \"local\"")),
    });
    let at = mode.as_ref().map_or_else(|| section.at(), |spot| spot.at);
    let mode = mode.map(|spot| spot.value);
    // Without servers the bounds are unknown; that is never a default, it has to be said.
    if mode != Some(ClockMode::Local) && tables.is_empty() {
        let text = "no time server: add [[clock.server]] with an address, or say mode = \"local\"";
        section.wrong(at, "mode", text);
    }
    if let (Some(ClockMode::Local), Some(server)) = (mode, tables.first()) {
        let text = "mode is \"local\", so nobody would ask it: take it out, or say mode = \"sntp\"";
        section.wrong(server.at(), "server", text);
    }
    let servers: Option<Vec<_>> = servers.into_iter().map(|server| Some(server?.value)).collect();
    let own = listen.map(|listen| listen.to_string()).into_iter();
    let own = own.chain(advertise.map(str::to_owned));
    Some(Clock {
        mode: mode.unwrap_or(ClockMode::Sntp),
        max_error_ms,
        on_loss: on_loss.map_or_else(OnLoss::default, |spot| spot.value),
        unsynced_start: unsynced_start.map_or_else(UnsyncedStart::default, |spot| spot.value),
        leap: leap.map_or_else(LeapPolicy::default, |spot| spot.value),
        history_s,
        servers: servers?,
        own: own.collect(),
        settings: FileSettings::default(),
    })
}

/// Notes servers that say nothing new: one that is listed twice, and the node itself. Names are
/// compared by what they resolve to, but that is not known yet (`time::servers`).
fn check_servers(
    tables: &[Section<'_>],
    servers: &[Option<Spot<ClockServer>>],
    listen: Option<SocketAddr>,
    advertise: Option<&str>,
) {
    if let Some(table) = tables.get(TIME_SERVERS_MAX) {
        let text =
            format!("more than {TIME_SERVERS_MAX} time servers: from five on, more gain nothing");
        table.wrong(table.at(), "address", text);
    }
    for (index, (table, server)) in tables.iter().zip(servers).enumerate() {
        let Some(Spot { at, value: ClockServer { address, .. } }) = server else { continue };
        let same = |other: &Option<Spot<ClockServer>>| {
            other.as_ref().is_some_and(|other| same_address(&other.value.address, address))
        };
        if servers.iter().take(index).any(same) {
            let text = format!("'{address}' is listed twice; a server has one vote");
            table.wrong(*at, "address", text);
        }
        if is_own(address, listen, advertise) {
            let text = format!("'{address}' is this node itself, which is no time server");
            table.wrong(*at, "address", text);
        }
    }
}

/// How an unsynchronised start is treated; nobody means to wait longer than a day.
fn unsynced_start(text: &str) -> Result<UnsyncedStart, String> {
    let choice = text.parse::<UnsyncedStart>().map_err(|error| error.to_string())?;
    match choice {
        UnsyncedStart::AllowAfterMs(ms) if ms > DAY_MS => {
            Err(format!("'{text}' is more than a day; \"wait\" waits for ever"))
        }
        UnsyncedStart::AllowAfterMs(_) | UnsyncedStart::Wait => Ok(choice),
    }
}

fn clock_server(section: &Section<'_>) -> Option<Spot<ClockServer>> {
    let address =
        section.need_as("address", "time.example.org:123", |text| host_port(text, Some(NTP_PORT)));
    let private = section.flag("private", false);
    let poll_s = section.number32("poll_s", "seconds", 4..=1024, if private { 16 } else { 64 });
    let timeout_ms = section.number32("timeout_ms", "milliseconds", 50..=10_000, 1000);
    let Spot { at, value: address } = address?;
    let (poll_s, timeout_ms) = (poll_s.value, timeout_ms.value);
    Some(Spot { at, value: ClockServer { address, poll_s, private, timeout_ms } })
}

fn raft(section: &Section<'_>) -> Raft {
    let heartbeat = section.number32("heartbeat_ms", "milliseconds", 10..=5000, 100);
    let min = section.number32("election_min_ms", "milliseconds", 30..=30_000, 200);
    let max = section.number32("election_max_ms", "milliseconds", 60..=60_000, 400);
    // A backup waits for so long at least, and for the random time behind that.
    if max.value < 3 * heartbeat.value {
        let text = format!(
            "{} is less than three heartbeats of {} ms: lost packets would start an election",
            max.value, heartbeat.value
        );
        section.wrong(max.at.max(heartbeat.at), "election_max_ms", text);
    } else if min.value <= heartbeat.value {
        let text = format!(
            "{} is no more than the {} ms between heartbeats, which a vote may take as well",
            min.value, heartbeat.value
        );
        section.wrong(min.at.max(heartbeat.at), "election_min_ms", text);
    }
    if max.value < min.value.saturating_add(min.value / 2) {
        let text = format!(
            "{} is less than one and a half times election_min_ms = {}: candidates would collide",
            max.value, min.value
        );
        section.wrong(max.at.max(min.at), "election_max_ms", text);
    }
    Raft { heartbeat_ms: heartbeat.value, election_min_ms: min.value, election_max_ms: max.value }
}

fn retention(section: &Section<'_>) -> Retention {
    Retention {
        max_age: section.text_as("max_age", "30d", age).map(|spot| spot.value),
        max_records: section.number("max_records", "records", 0..=u64::MAX, 0).value,
        max_bytes: section.number("max_bytes", "bytes", 0..=u64::MAX, 0).value,
    }
}

fn log(section: &Section<'_>) -> Log {
    let filter =
        section.text_as("filter", FILTER, |text| filter::check(text).map(|()| text.to_owned()));
    Log { filter: filter.map_or_else(|| FILTER.to_owned(), |spot| spot.value) }
}

fn http(section: &Section<'_>, folder: &Path, listen: Option<SocketAddr>) -> Option<Http> {
    let enabled = section.flag("enabled", true);
    let example = "0.0.0.0:7101";
    let own = section.text_as("listen", example, |text| {
        let wrong = || format!("'{text}' is not an IP address and a port: {example}, [::]:7101");
        text.parse::<SocketAddr>().map_err(|_| wrong()).and_then(|address| match address.port() {
            0 => Err("port 0 means another port at every start; nobody could find it".to_owned()),
            _ => Ok(address),
        })
    });
    let cert = section.text_as("cert", "pki/web.crt", |text| path(folder, text));
    let key = section.text_as("key", "pki/web.key", |text| path(folder, text));
    let pair = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert.value, key.value)),
        (None, None) => None,
        (Some(Spot { at, .. }), None) => {
            section.wrong(at, "cert", "a certificate without its key: add key");
            None
        }
        (None, Some(Spot { at, .. })) => {
            section.wrong(at, "key", "a key without its certificate: add cert");
            None
        }
    };
    let open_metrics = section.text_as("metrics", "identified", |text| match text {
        "identified" => Ok(false),
        "open" => Ok(true),
        _ => Err(format!("'{text}' is neither identified nor open")),
    });
    let open_metrics = open_metrics.is_some_and(|spot| spot.value);
    Some(Http { enabled, listen: own.map(|spot| spot.value).or(listen)?, pair, open_metrics })
}

fn limits(section: &Section<'_>) -> Limits {
    let most = u32::try_from(CLIENT_CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let connections = section.number32("client_connections", "connections", 1..=most, most).value;
    let reserve = section.number("disk_reserve_mib", "MiB", 0..=1 << 20, DISK_RESERVE_BYTES >> 20);
    let scrub = section.number("scrub_kib_per_s", "KiB a second", 0..=1 << 30, 0);
    Limits {
        scrub_bytes_per_s: scrub.value << 10,
        client_connections: usize::try_from(connections).unwrap_or(CLIENT_CONNECTIONS_MAX),
        disk_reserve_bytes: reserve.value << 20,
    }
}

/// Relative paths are relative to the folder of the file that names them.
fn path(folder: &Path, text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("a path is wanted; this is empty") } else { Ok(folder.join(text)) }
}

/// An age: a whole number and one of s, m, h, d, w.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not an age: a whole number and s, m, h, d or w, as in 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        'w' => 7 * 24 * 3600,
        _ => return Err(wrong()),
    };
    let count: u64 = text.strip_suffix(unit).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    // Stamps count nanoseconds in 64 bits; an age beyond that would never end anyway.
    match count.checked_mul(seconds).filter(|s| (1..=100 * 366 * 24 * 3600).contains(s)) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(format!("'{text}' is not between 1s and 100 years; leave it out to keep all")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::template::NodeConfig;

    /// Seen to fail without `history_s` in the template.
    #[test]
    fn every_key_that_is_read_is_shown_in_the_template() {
        let shown = NodeConfig {
            name: &"n1".parse().unwrap(),
            address: "127.0.0.1:7101",
            data_dir: None,
            advertise: None,
            time_servers: &["a.example:123".to_owned()],
            file: "node1.toml",
            signs: true,
            cert_life: None,
        };
        let shown = shown.text();
        let notes = Notes::default();
        let root = table(&shown).unwrap();
        assert!(
            read(&Section::top(&notes, root.get_ref()), Path::new("node1.toml"), None).is_some()
        );
        let mut section = String::new();
        let mut keys = BTreeSet::new();
        for line in shown.lines() {
            let line = line.strip_prefix('#').unwrap_or(line);
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']).to_owned();
                keys.insert(section.clone());
            } else if let Some((key, _)) = line.split_once(" = ") {
                let dot = if section.is_empty() { "" } else { "." };
                keys.insert(format!("{section}{dot}{key}"));
            }
        }
        let known = notes.known();
        assert!(known.len() >= 25, "{known:?}");
        let hidden: Vec<_> = known.iter().filter(|key| !keys.contains(*key)).collect();
        assert!(hidden.is_empty(), "{hidden:?}");
        assert_eq!(notes.finish().0, []);
    }

    #[test]
    fn ages_are_a_number_and_a_unit() {
        for (text, seconds) in [("1s", 1), ("5m", 300), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "d", "30", "30 d", "-1d", "1.5h", "1y", "0s", "99999999999w", "1d12h"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
