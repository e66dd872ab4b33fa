//! `host:port`, as people write it: one parser for every place where an address is given, so that
//! none takes what another refuses.
//!
//! A name may end in a dot, as an absolute one does. An IPv6 address stands in brackets and may have a
//! zone, `[fe80::1%eth0]:123`; a zone means something on one machine only, so where others shall dial,
//! [`advertised`] takes none.
//!
//! Not here: what a name resolves to (`net`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::limits::TIME_SERVERS_MAX;

/// The port of time servers that are written without one.
pub const NTP_PORT: u16 = 123;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no port, and it must be said.
    #[error("the port is missing: host:port")]
    NoPort,
    /// What stands where the port should.
    #[error("'{0}' is not a port: 1 to 65535")]
    Port(String),
    /// The address of nobody.
    #[error("{0} means every address of this machine; nobody can dial it")]
    Everywhere(IpAddr),
    /// A bracket is open.
    #[error("a ']' is missing")]
    Bracket,
    /// What stands in brackets.
    #[error("'{0}' is not an IPv6 address")]
    V6(String),
    /// What stands behind the brackets.
    #[error("'{0}' follows the ']', where :port belongs")]
    Behind(String),
    /// An IPv6 address without brackets.
    #[error("an IPv6 address is written in brackets: [{0}]:port, or [::1]:7101")]
    Bare(String),
    /// What stands where the host should.
    #[error("'{0}' is neither an IP address nor a host name")]
    Host(String),
    /// A zone that others cannot know.
    #[error("'{0}' has a zone, which means something on this machine only; others cannot dial it")]
    Zone(String),
}

/// Why a list of time servers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeServersError {
    /// Not an address.
    #[error("'{0}' is not a time server: {1}")]
    Address(String, AddressError),
    /// The same one again.
    #[error("'{0}' is listed twice; a server has one vote")]
    Twice(String),
    /// More than make sense.
    #[error("more than {TIME_SERVERS_MAX} time servers: from five on, more gain nothing")]
    TooMany,
    /// A node's own address.
    #[error("'{0}' is the address of a node, not of a time server")]
    Own(String),
}

/// Checks a `host:port` and writes it the canonical way. A port that is left out becomes
/// `default_port`, if there is one.
///
/// # Errors
/// With what is wrong.
pub fn host_port(text: &str, default_port: Option<u16>) -> Result<String, AddressError> {
    let (host, port) = match default_port {
        // Where no port has to follow, the brackets say nothing.
        Some(_) if is_v6(text) => (text, None),
        _ => split(text)?,
    };
    let port = match (port, default_port) {
        (Some(port), _) => port
            .parse::<u16>()
            .ok()
            .filter(|&port| port != 0)
            .ok_or_else(|| AddressError::Port(port.to_owned()))?,
        (None, Some(port)) => port,
        (None, None) => return Err(AddressError::NoPort),
    };
    if let Some((ip, zone)) = host.split_once('%') {
        let ip: Ipv6Addr = ip.parse().map_err(|_| AddressError::Host(host.to_owned()))?;
        return Ok(format!("[{ip}%{zone}]:{port}"));
    }
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Err(AddressError::Everywhere(ip)),
        Ok(IpAddr::V6(ip)) => Ok(format!("[{ip}]:{port}")),
        Ok(IpAddr::V4(ip)) => Ok(format!("{ip}:{port}")),
        Err(_) if is_host_name(host) => Ok(format!("{host}:{port}")),
        Err(_) => Err(AddressError::Host(host.to_owned())),
    }
}

/// As [`host_port`], for an address that other machines shall dial.
///
/// # Errors
/// With what is wrong.
pub fn advertised(text: &str) -> Result<String, AddressError> {
    let address = host_port(text, None)?;
    if address.contains('%') { Err(AddressError::Zone(address)) } else { Ok(address) }
}

/// The host in a canonical address, an IPv6 address without its brackets.
#[must_use]
pub fn host(address: &str) -> Option<&str> {
    let (host, _) = split(address).ok()?;
    (!host.is_empty()).then_some(host)
}

/// Whether two canonical addresses are the same one, as far as the text tells.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    let parts = |text: &str| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        (host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(), port.to_owned())
    };
    parts(one) == parts(other)
}

/// Whether an address is where a node serves, as far as the text tells.
#[must_use]
pub fn is_own(address: &str, listen: Option<SocketAddr>, advertise: Option<&str>) -> bool {
    let listens = listen.zip(address.parse::<SocketAddr>().ok()).is_some_and(|(listen, at)| {
        let same =
            listen.ip() == at.ip() || (listen.ip().is_unspecified() && at.ip().is_loopback());
        same && listen.port() == at.port()
    });
    listens || advertise.is_some_and(|own| same(own, address))
}

/// Checks time servers as a node's configuration does, and writes them the canonical way. That none is
/// a node itself is asked of [`is_own`], where the nodes are known.
///
/// # Errors
/// With the first that is wrong.
pub fn time_servers(texts: &[String]) -> Result<Vec<String>, TimeServersError> {
    let mut servers: Vec<String> = Vec::with_capacity(texts.len());
    for text in texts {
        let address = host_port(text, Some(NTP_PORT));
        let address = address.map_err(|why| TimeServersError::Address(text.clone(), why))?;
        if servers.iter().any(|before| same(before, &address)) {
            return Err(TimeServersError::Twice(address));
        }
        servers.push(address);
    }
    if servers.len() > TIME_SERVERS_MAX { Err(TimeServersError::TooMany) } else { Ok(servers) }
}

fn split(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressError::Bracket)?;
        if !is_v6(host) {
            return Err(AddressError::V6(host.to_owned()));
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(AddressError::Behind(rest.to_owned())),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Err(AddressError::Bare(text.to_owned())),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// An IPv6 address, with or without a zone.
fn is_v6(text: &str) -> bool {
    let (ip, zone) = text.split_once('%').map_or((text, None), |(ip, zone)| (ip, Some(zone)));
    ip.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

/// Name or number of an interface.
fn is_zone(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=15).contains(&text.len()) && text.bytes().all(fits)
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    // The root, which a final dot names, has no label.
    let text = text.strip_suffix('.').unwrap_or(text);
    // All digits and dots would be a mistyped IPv4 address.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.len() <= 253 && !numeric && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with: a final dot refused, and each zone.
    #[test]
    fn good_addresses_become_canonical() {
        for (text, want) in [
            ("127.0.0.1:7101", "127.0.0.1:7101"),
            ("[::1]:7101", "[::1]:7101"),
            ("[0:0::1]:7101", "[::1]:7101"),
            ("node-1.example.org:1", "node-1.example.org:1"),
            ("node-1.example.org.:1", "node-1.example.org.:1"),
            ("[fe80:0::1%lo]:123", "[fe80::1%lo]:123"),
            ("[fe80::1%2]:123", "[fe80::1%2]:123"),
        ] {
            assert_eq!(host_port(text, None).as_deref(), Ok(want));
        }
        assert_eq!(host_port("ntp", Some(123)).as_deref(), Ok("ntp:123"));
        assert_eq!(host_port("ntp.example.", Some(123)).as_deref(), Ok("ntp.example.:123"));
        for one in ["[::1]", "::1", "0::1"] {
            assert_eq!(host_port(one, Some(123)).as_deref(), Ok("[::1]:123"), "{one}");
        }
        assert_eq!(host_port("[fe80::1%eth0.7]", Some(123)).as_deref(), Ok("[fe80::1%eth0.7]:123"));
    }

    #[test]
    fn bad_addresses_say_why() {
        for (text, part) in [
            ("127.0.0.1", "port is missing"),
            ("127.0.0.1:0", "not a port"),
            ("127.0.0.1:65536", "not a port"),
            ("127.0.0.1:http", "not a port"),
            ("0.0.0.0:7101", "every address"),
            ("[::]:7101", "every address"),
            ("::1:7101", "brackets"),
            ("[::1:7101", "']' is missing"),
            ("[x]:1", "IPv6"),
            ("[::1]x", "follows the"),
            ("10.0.0:7101", "neither"),
            ("10.0.0.1.:7101", "neither"),
            ("a b:1", "neither"),
            (":1", "neither"),
            (".:1", "neither"),
            ("a..:1", "neither"),
            ("-a:1", "neither"),
            ("a%lo:1", "neither"),
            ("1.2.3.4%lo:1", "neither"),
            ("a\"b:1", "neither"),
            ("[fe80::1%]:1", "IPv6"),
            ("[fe80::1%a b]:1", "IPv6"),
            ("[fe80::1%\"]:1", "IPv6"),
            ("[1.2.3.4%lo]:1", "IPv6"),
        ] {
            let error = host_port(text, None).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(matches!(advertised("[fe80::1%lo]:1"), Err(AddressError::Zone(_))));
        assert_eq!(advertised("[fe80::1]:1").as_deref(), Ok("[fe80::1]:1"));
    }

    #[test]
    fn a_list_of_servers_names_each_once() {
        let servers = |texts: &[&str]| {
            time_servers(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(servers(&["b", "[::1]:7"]).unwrap(), ["b:123", "[::1]:7"]);
        for twice in [["a.", "A:123"], ["127.0.0.1", "127.0.0.1:123"], ["[::1]", "[0::1]:123"]] {
            assert!(matches!(servers(&twice), Err(TimeServersError::Twice(_))), "{twice:?}");
        }
        let many: Vec<String> = (0..=TIME_SERVERS_MAX).map(|n| format!("t{n}")).collect();
        assert_eq!(time_servers(&many), Err(TimeServersError::TooMany));
        assert!(matches!(servers(&["ntp:"]), Err(TimeServersError::Address(..))));
    }

    #[test]
    fn a_node_knows_its_own_address() {
        let listen = |text: &str| Some(text.parse().unwrap());
        assert!(is_own("127.0.0.1:7101", listen("0.0.0.0:7101"), None));
        assert!(is_own("10.0.0.1:7101", listen("10.0.0.1:7101"), None));
        assert!(is_own("N1.example.:7101", None, Some("n1.example:7101")));
        assert!(!is_own("127.0.0.1:123", listen("127.0.0.1:7101"), Some("n1:7101")));
    }
}
