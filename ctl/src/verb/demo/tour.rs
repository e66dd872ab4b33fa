//! What every chapter of the tour needs: telling, checking, running logctl, waiting.

use std::time::Duration;

use proto::wire::{self, Empty, Op, Reply};
use proto::{ExitCode, Name, Record};
use tokio::time::{Instant, sleep, timeout};
use views::health::StatusView;

use super::servers::Servers;
use crate::cli::Globals;
use crate::context;
use crate::error::CtlError;
use crate::home::Home;
use crate::local::LocalCluster;
use crate::out::{Out, Shape};
use crate::renewal::now_s;
use crate::session::Session;

/// Longest time for the cluster to become what the tour waits for.
const WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(50);

/// The cluster, the two clients, and where the tour is told.
pub(super) struct Tour<'a> {
    pub(super) cluster: LocalCluster,
    pub(super) home: Home,
    /// The nodes' time servers; none where the nodes take the machine's clock as it is.
    pub(super) servers: Option<Servers>,
    pub(super) began: Instant,
    globals: Globals,
    out: &'a mut Out,
}

impl<'a> Tour<'a> {
    pub(super) fn new(
        cluster: LocalCluster,
        servers: Option<Servers>,
        globals: &Globals,
        out: &'a mut Out,
    ) -> Self {
        let home = Home::at(&cluster.dir().join("home"));
        // The tour's own identities; the user's choice of context and node is for other clusters.
        let globals = Globals { context: None, via: None, timeout: WITHIN, ..globals.clone() };
        Self { cluster, home, servers, began: Instant::now(), globals, out }
    }

    pub(super) fn title(&mut self, text: &str) -> Result<(), CtlError> {
        self.say("")?;
        self.say(&format!("== {text}"))
    }

    /// A line of the tour: data where a person reads it, a note where a program does.
    pub(super) fn say(&mut self, text: &str) -> Result<(), CtlError> {
        match self.out.shape() {
            Shape::Json | Shape::Ndjson => {
                self.out.note(text);
                Ok(())
            }
            Shape::Table | Shape::Plain | Shape::Raw => {
                self.out.line(text)?;
                if self.out.flush().is_ok() {
                    return Ok(());
                }
                let what = "the demo was not shown to its end";
                Err(self
                    .out
                    .cut_short(what, "run logctl demo with its output to a terminal or a file"))
            }
        }
    }

    pub(super) fn claim(&self, holds: bool, what: &str) -> Result<(), CtlError> {
        if holds {
            return Ok(());
        }
        Err(CtlError::refused(
            ExitCode::Integrity,
            format!("the demo's claim does not hold: {what}"),
            "report it with the output above",
        ))
    }

    pub(super) async fn logctl(&mut self, args: &[&str]) -> Result<(), CtlError> {
        self.logctl_expecting(args, &[0]).await
    }

    /// Runs this binary as a user would, shows command and output, and checks the exit code.
    pub(super) async fn logctl_expecting(
        &mut self,
        args: &[&str],
        codes: &[i32],
    ) -> Result<(), CtlError> {
        let quoted = |arg: &&str| {
            if arg.contains(' ') { format!("'{arg}'") } else { (*arg).to_owned() }
        };
        let typed: Vec<String> = args.iter().map(quoted).collect();
        self.say(&format!("$ logctl {}", typed.join(" ")))?;
        let output = self.run(args, "table").await?;
        // The advice after a success is for people who type; here the next step follows anyway.
        let advice = if output.status.success() { &[][..] } else { &output.stderr };
        for text in [&output.stdout, advice] {
            for line in String::from_utf8_lossy(text).lines() {
                self.say(format!("  {line}").trim_end())?;
            }
        }
        let code = output.status.code();
        let fits = code.is_some_and(|code| codes.contains(&code));
        let what =
            format!("logctl {} ends with exit code {codes:?}, not {code:?}", typed.join(" "));
        self.claim(fits, &what)
    }

    /// Runs this binary without showing anything, and returns its data; it must succeed.
    pub(super) async fn quietly(&self, args: &[&str], form: &str) -> Result<String, CtlError> {
        let output = self.run(args, form).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let verb = args.iter().take(3).copied().collect::<Vec<_>>().join(" ");
        let what = format!("logctl {verb} succeeds: {}", errors.trim().replace('\n', "; "));
        self.claim(output.status.success(), &what)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs this binary with the tour's home and none of the user's choices.
    async fn run(&self, args: &[&str], form: &str) -> Result<std::process::Output, CtlError> {
        let failed = |source| CtlError::File { what: "cannot run logctl".to_owned(), source };
        let mut command = tokio::process::Command::new(std::env::current_exe().map_err(failed)?);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("LOGCTL_") {
                command.env_remove(key);
            }
        }
        let output = command
            .args(args)
            .env("LOGCTL_HOME", self.home.folder())
            .env("LOGCTL_OUTPUT", form)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        timeout(WITHIN, output)
            .await
            .map_err(|_| {
                CtlError::refused(ExitCode::Unknown, "logctl does not come back", "logctl demo -v")
            })?
            .map_err(failed)
    }

    pub(super) fn session(&self, who: &str, via: Option<&str>) -> Result<Session, CtlError> {
        let who = name(who)?;
        let via = via.map(name).transpose()?;
        let (who, context) = context::choose(&self.home, Some(&who))?;
        Session::with(&self.globals, &self.home, &who, context, via.as_ref())
    }

    pub(super) async fn read_all(
        &self,
        who: &str,
        via: Option<&str>,
    ) -> Result<Vec<Record>, CtlError> {
        let session = self.session(who, via)?;
        let mut records = Vec::new();
        let mut read = wire::Read::default();
        loop {
            let (_, reply) = session.call(Op::Read(read.clone())).await?;
            let Reply::Page(page) = reply else { return Err(CtlError::unexpected("no page")) };
            records.extend(page.records);
            if page.end || page.next == read.after {
                break;
            }
            read.after = page.next;
        }
        session.close().await;
        Ok(records)
    }

    pub(super) async fn status(&self) -> Result<StatusView, CtlError> {
        let session = self.session("admin", None)?;
        let answer = session.call(Op::Status(Empty {})).await;
        session.close().await;
        match answer? {
            (_, Reply::Status(status)) => Ok(StatusView::new(status, now_s())),
            _ => Err(CtlError::unexpected("no status")),
        }
    }

    /// Asks until the cluster is as wanted; a node that ended is an error at once.
    pub(super) async fn wait_for(
        &mut self,
        what: &str,
        wanted: impl Fn(&StatusView) -> bool,
    ) -> Result<StatusView, CtlError> {
        let give_up = Instant::now() + WITHIN;
        loop {
            self.cluster.check_alive()?;
            let last = match timeout(Duration::from_secs(2), self.status()).await {
                Ok(Ok(status)) if wanted(&status) => return Ok(status),
                Ok(Ok(status)) => status.problems().join("; "),
                Ok(Err(error)) => error.line(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > give_up {
                return Err(CtlError::refused(
                    ExitCode::Unknown,
                    format!("waited {} s for {what}: {last}", WITHIN.as_secs()),
                    "logctl demo -v",
                ));
            }
            sleep(POLL_EVERY).await;
        }
    }
}

pub(super) fn name(text: &str) -> Result<Name, CtlError> {
    text.parse().map_err(|_| CtlError::unexpected(&format!("the name '{text}'")))
}
