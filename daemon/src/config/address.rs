//! `host:port`, as people write it.

use std::net::{IpAddr, Ipv6Addr};

/// Checks a `host:port` that other machines shall dial, and writes it the canonical way. A port
/// that is left out becomes `default_port`, if there is one.
pub(crate) fn host_port(text: &str, default_port: Option<u16>) -> Result<String, String> {
    let (host, port) = split(text)?;
    let port = match (port, default_port) {
        (Some(port), _) => port
            .parse::<u16>()
            .ok()
            .filter(|&port| port != 0)
            .ok_or_else(|| format!("'{port}' is not a port: 1 to 65535"))?,
        (None, Some(port)) => port,
        (None, None) => return Err("the port is missing: host:port".to_owned()),
    };
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => {
            Err(format!("{ip} means every address of this machine; nobody can dial it"))
        }
        Ok(IpAddr::V6(ip)) => Ok(format!("[{ip}]:{port}")),
        Ok(IpAddr::V4(ip)) => Ok(format!("{ip}:{port}")),
        Err(_) if is_host_name(host) => Ok(format!("{host}:{port}")),
        Err(_) => Err(format!("'{host}' is neither an IP address nor a host name")),
    }
}

fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a ']' is missing")?;
        host.parse::<Ipv6Addr>().map_err(|_| format!("'{host}' is not an IPv6 address"))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("'{rest}' after the ']'; :port is wanted")),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            Err(format!("an IPv6 address stands in brackets: [{text}]:port, or [::1]:7101"))
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    // All digits and dots would be a mistyped IPv4 address.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.len() <= 253 && !numeric && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_become_canonical() {
        for (text, want) in [
            ("127.0.0.1:7101", "127.0.0.1:7101"),
            ("[::1]:7101", "[::1]:7101"),
            ("[0:0::1]:7101", "[::1]:7101"),
            ("node-1.example.org:1", "node-1.example.org:1"),
        ] {
            assert_eq!(host_port(text, None).as_deref(), Ok(want));
        }
        assert_eq!(host_port("ntp", Some(123)).as_deref(), Ok("ntp:123"));
        assert_eq!(host_port("[::1]", Some(123)).as_deref(), Ok("[::1]:123"));
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
            ("[::1]x", "after the"),
            ("10.0.0:7101", "neither"),
            ("a b:1", "neither"),
            (":1", "neither"),
            ("-a:1", "neither"),
        ] {
            let error = host_port(text, None).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
