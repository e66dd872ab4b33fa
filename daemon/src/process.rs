//! The process around a node: from the command line to an exit code.
//!
//! In order: configuration, log, runtime, signals, then the node. What goes wrong before the log
//! runs, and the reason why the process ends, are plain text on stderr: they must be seen even
//! where nothing is logged.
//!
//! Not here: what a node does (`node`).

use std::future::Future;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use certs::CertError;
use config::Config;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::check_store;
use crate::cli::Cli;
use crate::exit::{Exit, Failed};
use crate::join;
use crate::late;
use crate::logging::Logging;
use crate::node_identity::{NodeIdentity, ProofError};
use crate::notify::Notifier;
use crate::signals::Signals;

/// Threads for reads, joins, snapshots and all else that may take long.
const ASIDE_THREADS: usize = 2;

/// Between two looks at the files that others may rotate.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long a process that cannot start stays, where a service manager would start it anew at once:
/// what stands in the way, such as a second process or a full disk, is not gone in a second.
const START_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What a node gets from the process around it.
#[derive(Debug)]
pub struct Process {
    /// The service manager.
    pub notifier: Notifier,
    /// Cancelled when the node shall hand over, drain and stop.
    pub stop: CancellationToken,
    /// Reloads that were asked for.
    pub reloads: Reloads,
    /// The runtime of what may take long or wait for a disk.
    pub aside: Handle,
}

/// Starts the process as the command line says, and returns when it may end.
///
/// # Errors
/// When it did not end because it was asked to; the error carries the exit code.
pub fn start<Run, Running>(cli: &Cli, run: Run) -> Result<(), Failed>
where
    Run: FnOnce(Config, NodeIdentity, Process) -> Running,
    Running: Future<Output = Result<(), Failed>>,
{
    if !cli.check_config && !cli.check_store {
        join::if_wanted(cli)?;
    }
    let config = Config::load(&cli.config, cli.listen)?;
    if cli.check_config {
        NodeIdentity::load(&config)?;
        return say_right(&config).map_err(Failed::other("write to stdout"));
    }
    if cli.check_store {
        return check_store::run(&config);
    }
    let logging = Logging::start(&config.log.filter)?;
    let node_identity = prove(&config).inspect_err(|failed| {
        // No signal is listened to yet: a stop ends it at once.
        if is_held_up(&Notifier::new(), failed) {
            std::thread::sleep(START_AGAIN_AFTER);
        }
    })?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let (core, aside) = (runtime("logd-core", 1)?, runtime("logd-aside", ASIDE_THREADS)?);
    let beside = aside.handle().clone();
    core.block_on(supervise(config, node_identity, logging, beside, run))
}

/// A runtime. The way of a message has one thread, for to wake another one costs more than most of its
/// steps; what would hold it up is done aside, or gives the thread's other tasks to another one.
fn runtime(name: &str, threads: usize) -> Result<ManuallyDrop<Runtime>, Failed> {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(threads).thread_name(name).enable_all().build();
    let runtime = runtime.map_err(Failed::other("start the runtime"))?;
    // The process ends next, in whatever state its tasks are. To drop them one by one makes some panic
    // that wait for others; and nothing durable depends on their end.
    Ok(ManuallyDrop::new(runtime))
}

/// Certificates that fit; those that are over are renewed first.
fn prove(config: &Config) -> Result<NodeIdentity, Failed> {
    match NodeIdentity::load(config) {
        Err(ProofError::Cert(CertError::Expired { .. })) => {
            late::renew(config)?;
            Ok(NodeIdentity::load(config)?)
        }
        loaded => Ok(loaded?),
    }
}

/// Whether a process that cannot start is to stay for a while; says why it cannot.
fn is_held_up(notifier: &Notifier, failed: &Failed) -> bool {
    let held = !failed.restarts() && failed.exit().may_heal() && notifier.is_waited_for();
    if held {
        tracing::error!(wait_s = START_AGAIN_AFTER.as_secs(), "cannot start: {failed:#}");
        notifier.status(&format!("cannot start: {failed:#}"));
    }
    held
}

async fn supervise<Run, Running>(
    config: Config,
    node_identity: NodeIdentity,
    logging: Logging,
    aside: Handle,
    run: Run,
) -> Result<(), Failed>
where
    Run: FnOnce(Config, NodeIdentity, Process) -> Running,
    Running: Future<Output = Result<(), Failed>>,
{
    let signals = Signals::listen().map_err(Failed::other("listen to signals"))?;
    let notifier = Notifier::new();
    let (told, telling) = (CancellationToken::new(), logging.clone());
    let telling = tokio::spawn({
        let told = told.clone();
        async move { telling.tell(told).await }
    });
    let reloads = Reloads {
        asked: signals.reload,
        renewed: Arc::default(),
        config: config.clone(),
        logging,
        notifier: notifier.clone(),
    };
    let stop = signals.stop.clone();
    let process = Process { notifier: notifier.clone(), stop, reloads, aside };
    let stopping = async {
        signals.stop.cancelled().await;
        notifier.stopping();
        signals.abort.cancelled().await;
        let why = anyhow::anyhow!("a second signal: ended before the node had stopped");
        // From here, so that the node is not dropped half stopped: its tasks would panic.
        Failed::new(Exit::Other, why, "start it again; nothing that was acknowledged is lost").end()
    };
    let ended = tokio::select! {
        ended = run(config, node_identity, process) => ended,
        never = stopping => never,
    };
    if let Err(failed) = &ended
        && is_held_up(&notifier, failed)
    {
        drop(tokio::time::timeout(START_AGAIN_AFTER, signals.stop.cancelled()).await);
    }
    told.cancel();
    // It cannot fail, and a process that ends has no use for knowing.
    drop(telling.await);
    ended
}

/// Reads certificates and log filter again, whenever the process is told to.
#[derive(Debug)]
pub struct Reloads {
    asked: mpsc::Receiver<()>,
    renewed: Arc<Notify>,
    config: Config,
    logging: Logging,
    notifier: Notifier,
}

impl Reloads {
    /// Tell this when there are new files.
    #[must_use]
    pub fn trigger(&self) -> Arc<Notify> {
        Arc::clone(&self.renewed)
    }

    /// Waits for reloads until `stop`, and hands each new proof to `apply`. They are asked for, or the
    /// files have changed: others may rotate them, too. A reload that fails
    /// changes nothing, or at most the log filter; it is logged, and the node serves on as before.
    pub async fn serve<E: std::fmt::Display>(
        mut self,
        stop: CancellationToken,
        mut apply: impl FnMut(NodeIdentity) -> Result<(), E>,
    ) {
        let mut files = TlsFiles::look(&self.config);
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = self.asked.recv() => asked,
                () = self.renewed.notified() => Some(()),
                () = files.changed(&self.config) => Some(()),
            };
            if asked.is_none() {
                return;
            }
            // Looked at before they are read: what comes later is a change.
            files = TlsFiles::look(&self.config);
            self.notifier.reloading();
            match self.reload(&mut apply) {
                Ok(()) => tracing::info!(
                    "reloaded certificates and log filter; time servers that refused are asked \
                     again"
                ),
                Err(error) => tracing::error!("reload refused, nothing was changed: {error:#}"),
            }
            self.notifier.reloaded();
        }
    }

    fn reload<E: std::fmt::Display>(
        &self,
        apply: &mut impl FnMut(NodeIdentity) -> Result<(), E>,
    ) -> anyhow::Result<()> {
        let fresh = Config::load(&self.config.file, Some(self.config.listen))?;
        let node_identity = NodeIdentity::load(&fresh)?;
        apply(node_identity).map_err(|error| anyhow::anyhow!("{error}"))?;
        self.logging.set_filter(&fresh.log.filter)?;
        if self.config.clock.servers != fresh.clock.servers {
            tracing::warn!("the list of time servers has changed: restart the node to use it");
        }
        if !same_but_reloadable(&self.config, &fresh) {
            tracing::warn!("only certificates and log filter are reloaded; restart for the rest");
        }
        Ok(())
    }
}

/// How the files of certificates and keys look from outside.
#[derive(Debug, PartialEq, Eq)]
struct TlsFiles(Vec<Option<(u64, i64, i64, u64)>>);

impl TlsFiles {
    fn look(config: &Config) -> Self {
        let Config { tls, http, .. } = config;
        let handed = tls.handed_key();
        let files = [&tls.ca, &tls.cert, &tls.key, tls.ca_key.as_ref().unwrap_or(&handed)];
        let web = http.pair.iter().flat_map(|(cert, key)| [cert, key]);
        let seen = files.into_iter().chain(web).map(|file| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
        });
        Self(seen.collect())
    }

    /// Completes when they look otherwise.
    async fn changed(&self, config: &Config) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if Self::look(config) != *self {
                return;
            }
        }
    }
}

/// Whether a reload can bring about everything in which two configurations differ. Time servers are
/// spoken of on their own.
fn same_but_reloadable(old: &Config, fresh: &Config) -> bool {
    let mut rest = Config { tls: old.tls.clone(), log: old.log.clone(), ..fresh.clone() };
    rest.clock.servers.clone_from(&old.clock.servers);
    rest.http.pair.clone_from(&old.http.pair);
    *old == rest
}

fn say_right(config: &Config) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for warning in config.warnings() {
        writeln!(io::stderr(), "warning: {warning}")?;
    }
    writeln!(out, "{}: right, for node {} on {}", config.file.display(), config.node, config.listen)
}
