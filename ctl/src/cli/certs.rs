//! `logctl certs`: what can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use proto::life::{LIFE_MAX_S, LIFE_MIN_S};

/// Certificates: until when they are valid, and new ones for the same names and keys.
///
/// Nodes renew theirs at two thirds of its life, and logctl its own when it runs: as long as a node
/// that holds the authority's key is up, nobody has to do anything.
#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Show until when your own certificate, the authority's and those of the nodes are valid
    ///
    /// Ends with exit code 10 if one has expired or should have been renewed by now.
    Show,
    /// Renew certificates, for the same names and keys
    ///
    /// Without an option any node renews that of the context in use, even if it has expired. Where no
    /// node answers, sign with the authority's own key: --ca-key.
    Renew(CertsRenew),
}

/// Which certificates to renew, and who signs.
#[derive(Debug, Args)]
pub(crate) struct CertsRenew {
    /// Sign here, with the authority's private key (PEM); its certificate lies beside it as ca.crt.
    /// Without --cert every certificate beside it whose key is there
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_key: Option<PathBuf>,
    /// Certificate of the authority (PEM), if it lies elsewhere
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    pub(crate) ca: Option<PathBuf>,
    /// Certificate to renew (PEM), its key beside it with the ending .key; give it several times
    #[arg(long = "cert", value_name = "FILE", requires = "ca_key")]
    pub(crate) certs: Vec<PathBuf>,
    /// How long it shall live: 90d, 12h
    #[arg(long, value_name = "TIME", requires = "ca_key", value_parser = parse_life)]
    pub(crate) life: Option<Duration>,
}

/// Life of a certificate.
pub(crate) fn parse_life(text: &str) -> Result<Duration, String> {
    let days = LIFE_MAX_S / (24 * 3600);
    match humantime::parse_duration(text) {
        Ok(life) if (LIFE_MIN_S..=LIFE_MAX_S).contains(&life.as_secs()) => Ok(life),
        Ok(_) => Err(format!("from {LIFE_MIN_S}s to {days}d")),
        Err(_) => Err("expected a time such as 90d or 12h".to_owned()),
    }
}
