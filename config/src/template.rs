//! The text of a node's configuration file: every key, what it means, its unit and its default.

use std::fmt::Write;
use std::time::Duration;

use proto::Name;

/// What a node's configuration depends on. Everything else is fixed text.
#[derive(Debug, Clone, Copy)]
pub struct NodeConfig<'a> {
    /// Name of the node.
    pub name: &'a Name,
    /// `ip:port` to listen on.
    pub address: &'a str,
    /// Folder of the node's data, if not `data/NAME` beside the file.
    pub data_dir: Option<&'a str>,
    /// `host:port` that the others dial, if it is another.
    pub advertise: Option<&'a str>,
    /// Time servers, `host:port`; none means that the machine's own clock is trusted.
    pub time_servers: &'a [String],
    /// Name of the file, for the command line in its first comment.
    pub file: &'a str,
    /// Whether the authority's key lies beside its certificate.
    pub signs: bool,
    /// How long the certificates live that it signs, if not for the default.
    pub cert_life: Option<Duration>,
}

impl NodeConfig<'_> {
    /// The text of the file.
    #[must_use]
    pub fn text(self) -> String {
        let Self { name, address, file, .. } = self;
        let advertise = match self.advertise {
            Some(other) => format!("advertise = \"{other}\""),
            None => format!("#advertise = \"{address}\""),
        };
        let data_dir = self.data_dir.map_or_else(|| format!("data/{name}"), str::to_owned);
        let mark = if self.signs { "" } else { "#" };
        let cert_life = match self.cert_life {
            Some(life) => format!("cert_life = \"{}s\"", life.as_secs()),
            None => "#cert_life = \"90d\"".to_owned(),
        };
        let mut text = format!(
            r#"# Configuration of the logd node {name}. Start it with: logd --config {file}
# Check it with:    logd --config {file} --check-config
#
# Relative paths are relative to the folder of this file. An unknown key is an error. A key that
# is commented out shows its default.

# Name of this node; its certificate carries the same. Required.
node = "{name}"

# Address and UDP port to listen on, "ip:port". Required.
listen = "{address}"

# Address that clients and other nodes dial, "host:port". Default: the same as listen.
{advertise}

# Folder of this node's data: one node, one folder, never a copy of another's. Required.
data_dir = "{data_dir}"

# Whether this node may ask the cluster to take it back with a new store, under its own name and key.
# true: when its store is damaged, set back, or gone. false: only after 'logctl node recover {name}'.
# Default: none of both; it may while a damaged store is there, and not where there is none, which may
# be a wrong mount.
rejoin = true

# A node without a store can join a cluster by itself at its start: token_file names a file with
# what 'logctl cluster token create' printed, join nodes to ask before those in the token. A node
# that has its store looks at neither. Defaults: none.
#join = []
#token_file = "join.token"

[tls]
# Certificate of the cluster's authority (PEM). Required.
ca = "pki/ca.crt"

# This node's certificate and private key (PEM; the key's mode is 0600). Required. The node has its
# certificate renewed in good time and must be able to write it. All files of this section are read
# again on SIGHUP, and within seconds when they have changed.
cert = "pki/{name}.crt"
key = "pki/{name}.key"

# Private key of the authority (PEM): lets this node sign the certificates of those who register,
# join or renew. Default: none; this node then passes requests on to one that has the key, until
# 'logctl node set {name} --signer' hands the key over, to a file beside this node's key.
{mark}ca_key = "pki/ca.key"

# How long certificates live: a whole number and s, m, h, d or w. They are renewed at two thirds of it.
# It holds for the whole cluster: the first primary sets it from here, then 'logctl cluster set
# cert-life=30d' changes it. Default: "90d".
{cert_life}

[clock]
"#
        );
        self.clock(&mut text);
        text.push_str(&TAIL.replace("LISTEN", address));
        text
    }

    fn clock(self, text: &mut String) {
        text.push_str(
            r#"# "sntp": the time servers below are measured, and every stamp carries its error bounds.
# "local": this machine's own clock, unchecked; bounds are unknown and every status says so.
# Default: "sntp".
"#,
        );
        let mode = if self.time_servers.is_empty() { "local" } else { "sntp" };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "mode = \"{mode}\"");
        text.push_str(
            r#"
# Largest error bound of the clock with which a node may be primary, in milliseconds: 1 to 10000.
# A setting of the whole cluster: the first primary takes it from its file; later it is changed
# with: logctl cluster set max-clock-error=100ms. Default: 100.
#max_error_ms = 100

# What a primary does when no node's clock is good enough. "degrade": it goes on writing; the order
# stays exact, the bounds are wide or unknown, and every status says so. "refuse": it refuses
# writes until a clock is good again. Also a setting of the whole cluster, on-loss=refuse.
# Default: "degrade".
#on_loss = "degrade"

# What a node does whose clock was never synchronised since its start. "wait": it serves reads and
# does not lead. "allow-after:30s": after that time it may lead, with unknown bounds, if nobody
# better is there; ms, s or m. Default: "wait".
#unsynced_start = "wait"

# How the time servers treat leap seconds; all of them the same. "smear": they spread the second
# over hours. "step": they repeat it, and the bounds are wider by a second around midnight.
# Default: "smear".
#leap = "smear"

# Seconds between two entries of this clock's history in the stream $events, besides one for each
# change: 1 to 3600. Default: 60.
#history_s = 60

# A time server, for mode "sntp"; one such table each, at most 16. With three, one may lie or be
# wrong without harm; with five, two. With one or two, none.
# address: "host" or "host:port", required, default port 123; no two the same. private: the server
# is ours and may be asked more often, default false. poll_s: seconds between two polls, 4 to 1024,
# default 64, or 16 if it is private. timeout_ms: milliseconds to wait for an answer, 50 to 10000,
# default 1000. A server that refuses this node is asked again after a SIGHUP.
"#,
        );
        if self.time_servers.is_empty() {
            text.push_str(
                "#[[clock.server]]\n#address = \"ntp.example:123\"\n#poll_s = 64\n#private = \
                 false\n#timeout_ms = 1000\n",
            );
        }
        for (at, server) in self.time_servers.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n" };
            let _ = writeln!(
                text,
                "{gap}[[clock.server]]\naddress = \"{server}\"\n#poll_s = 64\n#private = false\n\
                 #timeout_ms = 1000"
            );
        }
    }
}

const TAIL: &str = r#"
[raft]
# Milliseconds between two heartbeats of the primary. Default: 100.
#heartbeat_ms = 100

# A backup that hears nothing for a random time between these two, in milliseconds, asks for an
# election. Slow or distant links need more: 500 and 1000. Defaults: 200 and 400.
#election_min_ms = 200
#election_max_ms = 400

[retention]
# How long messages stay: settings of the whole cluster. The first primary takes them from its file;
# later they are changed with: logctl cluster set retain-age=30d retain-count=none retain-bytes=none.

# Messages older than this are removed: a whole number and s, m, h, d or w. Default: none, they
# stay.
#max_age = "30d"

# At most so many messages are kept; the cluster's own events count, too. Default: 0, no limit.
#max_records = 0

# At most so many bytes of both are kept. Default: 0, no limit.
#max_bytes = 0

[log]
# What is logged: error, warn, info, debug or trace, or a filter such as "info,net=debug". It is
# read again on SIGHUP. Default: "info".
#filter = "info"

[http]
# HTTPS, for curl, browsers, probes and monitoring: the messages and their order, this node's health
# and the cluster's, see docs/http.md. Who asks is proven by a client's certificate; without one only
# the health is answered. Default: true.
#enabled = true

# Address and TCP port of it, "ip:port". Default: the same as listen above.
#listen = "LISTEN"

# A certificate and its private key (PEM) to show instead of this node's own, from an authority that
# browsers trust. They are read again like those of [tls]. Defaults: none.
#cert = "pki/web.crt"
#key = "pki/web.key"

# Who is told /metrics: "identified", whoever shows a certificate of the cluster, or "open", everybody who
# reaches the port. Default: identified.
#metrics = "identified"

[limits]
# Connections that this node serves to clients at a time. Default: 1024, which is also the most.
#client_connections = 1024

# Free space on the data disk, in MiB, below which new messages are refused, so that the node can
# still free what it holds. Default: 128.
#disk_reserve_mib = 128

# How fast this node reads its whole disk again, in search of damage, in KiB a second: one round
# follows the other. Default: 0, a round a day, at 256 or as fast as that takes.
#scrub_kib_per_s = 0
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(servers: &[&str]) -> String {
        let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
        let config = NodeConfig {
            name: &"n1".parse().unwrap(),
            address: "127.0.0.1:7101",
            data_dir: None,
            advertise: None,
            time_servers: &servers,
            file: "node1.toml",
            signs: true,
            cert_life: None,
        };
        config.text()
    }

    #[test]
    fn it_is_toml_with_and_without_time_servers() {
        let table: toml::Table = text(&[]).parse().unwrap();
        assert_eq!(table["clock"]["mode"].as_str(), Some("local"));
        let table: toml::Table = text(&["a:123", "b:123"]).parse().unwrap();
        assert_eq!(table["clock"]["mode"].as_str(), Some("sntp"));
        assert_eq!(table["clock"]["server"].as_array().unwrap().len(), 2);
        assert_eq!(table["tls"]["key"].as_str(), Some("pki/n1.key"));
    }

    #[test]
    fn every_key_also_uncommented_is_toml() {
        let bare = text(&[]);
        let is_key = |line: &str| {
            let key = line.strip_prefix('#').unwrap_or(line);
            key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')
        };
        let all: String = bare
            .lines()
            .filter(|line| is_key(line))
            .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
            .collect();
        let table: toml::Table = all.parse().unwrap();
        for key in ["node", "listen", "advertise", "data_dir", "tls", "clock", "raft"] {
            assert!(table.contains_key(key), "{key}");
        }
        assert_eq!(table["raft"]["election_max_ms"].as_integer(), Some(400));
    }
}
