//! Logs: text for a person at a terminal, journald fields under systemd, JSON lines otherwise.
//!
//! All three go to stderr or the journal, never to stdout. The filter can be replaced while the
//! process runs (SIGHUP). The environment variable `LOGD_LOG` wins over the configuration, at the
//! start and at every reload, so that one start can be watched closely without editing a file. What
//! comes again and again is counted (`throttle`).
//!
//! Not here: what is worth logging; and never a message's body or a key.

use std::io::{self, IsTerminal};
use std::panic;
use std::time::Duration;

use config::filter;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::throttle::Throttle;

/// How often repeated lines are summed up.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The environment variable that wins over `log.filter`.
pub const FILTER_VARIABLE: &str = "LOGD_LOG";

/// Target of the replication engine's own words.
const ENGINE: &str = "openraft";

/// Why logging could not start or change.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter makes no sense.
    #[error("{FILTER_VARIABLE} or log.filter: {0}")]
    Filter(String),
    /// Somebody started logging before.
    #[error("logging was started twice")]
    Started,
    /// Logging is gone; only at the very end of the process.
    #[error("logging has ended")]
    Ended,
}

/// Handle to change what is logged.
#[derive(Debug, Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    throttle: Throttle,
}

/// Where and how lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Coloured or plain text.
    Text { colour: bool },
    /// One JSON object a line.
    Json,
    /// Fields in the journal.
    Journal,
}

impl Logging {
    /// Starts logging for the whole process, and logs every panic. Call once.
    ///
    /// # Errors
    /// When the filter makes no sense, or logging runs already.
    pub fn start(filter: &str) -> Result<Self, LoggingError> {
        let (layer, handle) = reload::Layer::new(chosen_filter(filter)?);
        let throttle = Throttle::default();
        let output = output(Format::detect()).with_filter(throttle.clone());
        let started = tracing_subscriber::registry().with(layer).with(output);
        started.try_init().map_err(|_| LoggingError::Started)?;
        panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let what = panic.payload_as_str().unwrap_or("(no text)");
            tracing::error!(place, "panic: {what}");
        }));
        Ok(Self { filter: handle, throttle })
    }

    /// Tells once a minute what came again in it, until `stop` and then for the last time.
    pub async fn tell(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(TELL_EVERY)).await.is_some() {
            self.throttle.tell();
        }
        self.throttle.tell();
    }

    /// Replaces the filter, from now on.
    ///
    /// # Errors
    /// When it makes no sense; the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LoggingError> {
        let filter = chosen_filter(filter)?;
        self.filter.reload(filter).map_err(|_| LoggingError::Ended)
    }
}

fn chosen_filter(configured: &str) -> Result<EnvFilter, LoggingError> {
    let text = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let text = text.unwrap_or_else(|| configured.to_owned());
    filter::check(&text).map_err(LoggingError::Filter)?;
    let text = quieted(&text);
    EnvFilter::try_new(&text).map_err(|error| LoggingError::Filter(error.to_string()))
}

/// The engine tells its whole life at info. It is heard from warnings on, unless it is named.
fn quieted(filter: &str) -> String {
    let general = filter.split(',').map(str::trim).rfind(|directive| filter::is_level(directive));
    let loud =
        |level: &str| ["info", "debug", "trace"].iter().any(|l| l.eq_ignore_ascii_case(level));
    if general.is_some_and(loud) && !filter.contains(ENGINE) {
        format!("{filter},{ENGINE}=warn")
    } else {
        filter.to_owned()
    }
}

impl Format {
    fn detect() -> Self {
        let journal = std::env::var("JOURNAL_STREAM").ok();
        let stderr = rustix::fs::fstat(io::stderr()).ok().map(|s| (s.st_dev, s.st_ino));
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::choose(journal.as_deref(), stderr, io::stderr().is_terminal(), no_colour)
    }

    /// `JOURNAL_STREAM` is inherited; it counts only if it still names this process's stderr.
    fn choose(
        journal: Option<&str>,
        stderr: Option<(u64, u64)>,
        terminal: bool,
        no_colour: bool,
    ) -> Self {
        let named = journal
            .and_then(|text| text.split_once(':'))
            .and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
        match (named, stderr) {
            (Some(named), Some(stderr)) if named == stderr => Self::Journal,
            _ if terminal => Self::Text { colour: !no_colour },
            _ => Self::Json,
        }
    }
}

type Output<S> = Box<dyn Layer<S> + Send + Sync>;

fn output<S>(format: Format) -> Output<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
{
    match format {
        Format::Text { colour } => {
            fmt::layer().with_writer(io::stderr).with_ansi(colour).with_target(true).boxed()
        }
        Format::Json => json(),
        // A journal that cannot be reached must not keep the daemon from starting.
        Format::Journal => match tracing_journald::layer() {
            Ok(layer) => layer
                .with_field_prefix(Some("LOGD".to_owned()))
                .with_syslog_identifier("logd".to_owned())
                .boxed(),
            Err(_) => json(),
        },
    }
}

fn json<S>() -> Output<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
{
    fmt::layer().with_writer(io::stderr).json().flatten_event(true).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_used_only_when_it_is_our_stderr() {
        let choose = |journal, terminal| Format::choose(journal, Some((8, 42)), terminal, false);
        assert_eq!(choose(Some("8:42"), false), Format::Journal);
        assert_eq!(choose(Some("8:43"), false), Format::Json);
        assert_eq!(choose(Some("8:43"), true), Format::Text { colour: true });
        assert_eq!(choose(Some("garbage"), false), Format::Json);
        assert_eq!(choose(None, false), Format::Json);
        assert_eq!(Format::choose(None, None, true, true), Format::Text { colour: false });
    }

    #[test]
    fn the_engine_is_quiet_unless_it_is_named() {
        assert_eq!(quieted("info"), "info,openraft=warn");
        assert_eq!(quieted("net=debug,DEBUG"), "net=debug,DEBUG,openraft=warn");
        for as_is in ["off", "error", "warn", "info,openraft=info", "net=debug"] {
            assert_eq!(quieted(as_is), as_is);
        }
    }
}
