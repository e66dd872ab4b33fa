//! `logctl access`: what can be typed.

use std::time::Duration;

use clap::Subcommand;
use proto::Name;

/// Access tokens: what stands for a client's certificate over HTTPS, where there can be none.
#[derive(Debug, Subcommand)]
pub(crate) enum Access {
    /// Make a token for one client and print it; what is sent with it says so
    Create {
        /// The client that it stands for
        client: Name,
        /// How long it may be used: 12h, 30d
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_life)]
        ttl: Duration,
    },
    /// List the tokens: for whom, until when
    List,
    /// Revoke a token; what is open with it ends
    Revoke {
        /// Its id, as `logctl access list` shows it, or the token itself
        id: String,
    },
}

fn parse_life(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_nanos(proto::limits::ACCESS_TTL_MAX_NS);
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_secs(1) && ttl <= longest => Ok(ttl),
        Ok(_) => Err(format!("from 1s to {} days", longest.as_secs() / 86400)),
        Err(error) => Err(format!("{error}: as 12h, 30d")),
    }
}
