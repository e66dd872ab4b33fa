//! A node whose certificate is over when it starts: it was off for long, or nobody could sign.
//!
//! Where the authority's key is at hand the node signs for itself. Else it asks the nodes that it
//! knew at its bootstrap, on a connection that shows no certificate: its key and its name are in the
//! cluster's table, and that is what counts (`node::renew`).
//!
//! Not here: renewing while the node runs (`node::renew`).

use std::time::Duration;

use certs::{CertError, Credentials, Date};
use config::Config;
use config::seed::Seed;
use net::join::JoinError;
use proto::{ErrorCode, Role};
use tokio::time::Instant;

use crate::exit::{Exit, Failed};
use crate::node_identity::Signer;

/// How long others are asked. Nodes that were all off are not up in one moment.
const RENEW_WITHIN: Duration = Duration::from_secs(60);
/// For one round of all that are known.
const ROUND: Duration = Duration::from_secs(10);
/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// What leads out where nobody signs.
const HINT: &str = "start a node that holds the authority's key; or, on a machine that has that \
                    key and a copy of this node's certificate and key: logctl certs renew \
                    --ca-key FILE --cert FILE";

/// Makes a certificate anew that is over.
///
/// # Errors
/// When nobody signs, or what is written is refused.
pub fn renew(config: &Config) -> Result<(), Failed> {
    let tls = &config.tls;
    let failed = |error: CertError| {
        let hint = error.hint();
        Failed::new(Exit::Certificates, error, hint)
    };
    let own = Credentials::load_any_age(&tls.ca, &tls.cert, &tls.key).map_err(failed)?;
    let identity = own.identity();
    if identity.role != Role::Node || identity.name != config.node {
        // Whose it is instead is told by whoever loads it.
        return Ok(());
    }
    let ended = Date(own.not_after_unix());
    let csr = certs::request_for_key_file(&tls.key).map_err(failed)?;
    let pem = match Signer::load(tls, &identity.cluster)? {
        // What the cluster has set lies in a store that is not open yet; the old one was made by it.
        Some(signer) => {
            let before = u64::try_from(own.life().length_s()).ok().map(Duration::from_secs);
            let life = before.map(|before| before.min(tls.cert_life));
            let reached = [config.advertise.clone(), config.listen.to_string()];
            signer.sign(&csr, identity, life, &reached).map_err(failed)?
        }
        None => ask(config, &own, &csr)?,
    };
    own.check_renewed(&pem).map_err(failed)?;
    certs::write_public(&tls.cert, &pem).map_err(failed)?;
    tracing::warn!(%ended, "this node's certificate had expired; it has a new one");
    Ok(())
}

/// Asks the nodes that are known, until one signs.
fn ask(config: &Config, own: &Credentials, csr: &[u8]) -> Result<String, Failed> {
    let used = || Seed::read_used(&config.data_dir).ok().flatten();
    let seed = Seed::read(&config.data_dir).ok().flatten().or_else(used);
    let members = seed.map(|seed| seed.members).unwrap_or_default();
    let members = members.into_iter().filter(|member| member.name != config.node);
    let mut addresses = config.join.clone();
    addresses.extend(members.map(|member| member.address));
    let over = format!(
        "the certificate in {} expired on {}",
        config.tls.cert.display(),
        Date(own.not_after_unix())
    );
    let refused = |why: &dyn std::fmt::Display| {
        Failed::new(
            Exit::Certificates,
            anyhow::anyhow!("{over}, and nobody renews it: {why}"),
            HINT,
        )
    };
    if addresses.is_empty() {
        return Err(refused(&"no other node is known"));
    }
    tracing::warn!("{over}: asking {} for another one", addresses.join(", "));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failed::other("start the runtime"))?;
    runtime.block_on(async {
        let give_up = Instant::now() + RENEW_WITHIN;
        loop {
            let asked = net::join::renew(own, csr.to_vec(), addresses.clone(), ROUND);
            match asked.await {
                Ok(pem) => return Ok(pem),
                // Who knows this node and refuses it will do so in a minute, too.
                Err(JoinError::Refused(failure)) if failure.error_code() == ErrorCode::Denied => {
                    return Err(refused(&failure));
                }
                Err(error) if Instant::now() + PAUSE >= give_up => return Err(refused(&error)),
                Err(error) => tracing::info!(%error, "not renewed yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}
