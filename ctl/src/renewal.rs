//! Having the own certificate renewed: in passing when a third of its life is left, and when it is
//! over, which must lock nobody out who holds the key.
//!
//! Not here: who signs (`logd`), by hand with the authority's key (`verb/certs`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::pin::now_unix_s;
use certs::{Authority, CertError, Credentials, Date};
use net::Client;
use proto::life::{Validity, left_text};
use proto::wire::{Op, Renew, Reply};
use proto::{ExitCode, Name};

use crate::context::Context;
use crate::error::CtlError;
use crate::home::Home;

/// The file that keeps the live list from one command to the next, by context and cluster.
pub(crate) const NODES: &str = "nodes.json";
/// Time for a renewal in passing: nobody asked for it.
const PASSING: Duration = Duration::from_secs(2);
/// Longest pause between two looks of a conversation that lasts.
const LOOK_MAX_S: u64 = 60;
/// What leads out where no node signs.
pub(crate) const HINT: &str = "start a node that holds the authority's key, then logctl certs \
                               renew; or, where that key lies: logctl certs renew --ca-key FILE \
                               --cert FILE";

/// The three files of an identity, and where else to ask than at the nodes of its context.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// Certificate of the authority.
    pub(crate) ca: PathBuf,
    /// Certificate.
    pub(crate) cert: PathBuf,
    /// Private key.
    pub(crate) key: PathBuf,
    /// The live list that earlier commands have kept.
    nodes: PathBuf,
}

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    i64::try_from(now_unix_s()).unwrap_or(i64::MAX)
}

/// Reads the authority's certificate and key, for a command that signs here.
///
/// # Errors
/// When a file cannot be read (1) or is not what it should be (4).
pub(crate) fn authority(ca: &Path, ca_key: &Path) -> Result<Authority, CtlError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(CtlError::file("read", path));
    Authority::load(&read(ca)?, &read(ca_key)?).map_err(|error| {
        let what = format!("{} with {}: {error}", ca_key.display(), ca.display());
        CtlError::refused(
            ExitCode::Denied,
            what,
            "give --ca-key the authority's private key, and --ca its certificate",
        )
    })
}

impl Files {
    /// Those of a context.
    pub(crate) fn of(home: &Home, name: &Name, context: &Context) -> Self {
        let file = |path: &PathBuf| home.folder().join(path);
        Self {
            ca: file(&context.ca),
            cert: file(&context.cert),
            key: file(&context.key),
            nodes: home.state_path(name, context, NODES),
        }
    }

    /// Loads them; a certificate that is over is first renewed by any node that is known.
    ///
    /// # Errors
    /// When they are no good, or nobody renews what is over.
    pub(crate) fn load(&self, context: &Context, time: Duration) -> Result<Credentials, CtlError> {
        match Credentials::load(&self.ca, &self.cert, &self.key) {
            Err(CertError::Expired { .. }) => {
                let own = self.load_any_age()?;
                // A command is in the middle of its own runtime, and need not go on without this.
                let (asked, files) = (own.clone(), self.clone());
                let told = context.nodes.iter().map(|node| node.address.clone());
                let mut addresses: Vec<String> = told.collect();
                // Those of the context may be gone by now.
                for kept in net::kept_addresses(&self.nodes, &context.cluster) {
                    if !addresses.contains(&kept) {
                        addresses.push(kept);
                    }
                }
                let task = move || files.renew_over(&asked, addresses, time);
                let renewed = std::thread::spawn(task).join();
                renewed.map_err(|_| CtlError::unexpected("no end"))??;
                Ok(Credentials::load(&self.ca, &self.cert, &self.key)?)
            }
            loaded => Ok(loaded?),
        }
    }

    /// Loads them, whatever their age.
    pub(crate) fn load_any_age(&self) -> Result<Credentials, CertError> {
        Credentials::load_any_age(&self.ca, &self.cert, &self.key)
    }

    /// Has a certificate that is over renewed, on a connection that shows none.
    fn renew_over(
        &self,
        own: &Credentials,
        addresses: Vec<String>,
        time: Duration,
    ) -> Result<(), CtlError> {
        let refused = |why: &dyn std::fmt::Display| {
            let at = Date(own.not_after_unix());
            let cert = self.cert.display();
            let what =
                format!("the certificate in {cert} expired on {at}, and nobody renews it: {why}");
            CtlError::refused(ExitCode::Denied, what, HINT)
        };
        if addresses.is_empty() {
            return Err(refused(&"the context names no node"));
        }
        let csr = certs::request_for_key_file(&self.key)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| CtlError::File { what: "cannot start".to_owned(), source })?;
        let answer = runtime.block_on(net::join::renew(own, csr, addresses, time));
        self.take(own, &answer.map_err(|error| refused(&error))?)
    }

    /// Has the certificate renewed over a connection that stands.
    ///
    /// # Errors
    /// When nobody signs, or what is answered does not fit.
    pub(crate) async fn renew(&self, client: &Client, own: &Credentials) -> Result<(), CtlError> {
        let csr = certs::request_for_key_file(&self.key)?;
        let renew = Renew { certificate: own.cert_der(), csr };
        match client.call(Op::Renew(renew)).await?.reply {
            Some(Reply::Registered(registered)) => self.take(own, &registered.certificate),
            _ => Err(CtlError::unexpected("no certificate")),
        }
    }

    /// The same if it is due. Returns what is to be said about it, if anything.
    pub(crate) async fn renew_in_passing(
        &self,
        client: &Client,
        own: &Credentials,
    ) -> Option<String> {
        let life = own.life();
        if now_s() < life.due_unix_s(0) {
            return None;
        }
        let renewed = tokio::time::timeout(PASSING, self.renew(client, own)).await;
        let why = match renewed {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.line(),
            Err(_) => "no answer in time".to_owned(),
        };
        if life.standing(now_s()) == Validity::Fine {
            tracing::info!(why, "the certificate is due and not renewed");
            return None;
        }
        let left = left_text(life.until_unix_s - now_s());
        Some(format!("{}: valid for {left} more, and not renewed: {why}", self.cert.display()))
    }

    /// Keeps the certificate of a conversation that lasts from running out: whoever follows for
    /// months reconnects with one that is valid. Ends with the conversation.
    pub(crate) async fn keep_renewed(self, client: Client, mut own: Credentials) {
        loop {
            let life = own.life();
            let left_s = life.due_unix_s(0).saturating_sub(now_s());
            // The clock may be set meanwhile, and the machine suspended.
            let pause = u64::try_from(left_s).unwrap_or(0).clamp(1, LOOK_MAX_S);
            tokio::time::sleep(Duration::from_secs(pause)).await;
            if now_s() < life.due_unix_s(0) {
                continue;
            }
            if let Err(error) = self.renew(&client, &own).await {
                tracing::warn!(%error, "the certificate is due and not renewed");
                tokio::time::sleep(Duration::from_secs(life.retry_s())).await;
                continue;
            }
            match self.load_any_age() {
                Ok(fresh) => own = fresh,
                Err(error) => tracing::warn!(%error, "the new certificate cannot be read"),
            }
            if let Err(error) = client.set_credentials(&own) {
                tracing::warn!(%error, "the new certificate cannot be used");
            }
        }
    }

    /// Checks a new certificate and puts it in the place of the old one.
    fn take(&self, own: &Credentials, pem: &str) -> Result<(), CtlError> {
        own.check_renewed(pem)?;
        Ok(certs::write_public(&self.cert, pem)?)
    }
}
