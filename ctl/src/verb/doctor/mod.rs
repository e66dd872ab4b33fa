//! `logctl doctor`: looks at what usually goes wrong, here and in the cluster, and says what to do about
//! each. It changes nothing.

mod cluster;
mod machine;

use std::path::PathBuf;

use proto::ExitCode;
use serde::Serialize;

use crate::cli::{Doctor, Globals};
use crate::error::CtlError;
use crate::home::Home;
use crate::out::{Cell, Out, Show, Tone};
use crate::{context, dev};

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, and somebody should look.
    Warning,
    /// It does not work.
    Bad,
}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    subject: String,
    state: State,
    found: String,
    #[serde(rename = "try")]
    hint: Option<String>,
    #[serde(skip)]
    code: ExitCode,
}

impl Finding {
    /// Something is as it should be.
    pub(super) fn ok(
        check: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (subject, found) = (subject.into(), found.into());
        Self { check, subject, state: State::Ok, found, hint: None, code: ExitCode::Other }
    }

    /// Somebody should look.
    pub(super) fn warning(
        check: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let hint = Some(hint.into());
        let ok = Self::ok(check, subject, found);
        Self { state: State::Warning, hint, code: ExitCode::Degraded, ..ok }
    }

    /// Something does not work.
    pub(super) fn bad(
        check: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        (code, hint): (ExitCode, impl Into<String>),
    ) -> Self {
        let hint = Some(hint.into());
        Self { state: State::Bad, hint, code, ..Self::ok(check, subject, found) }
    }

    /// The same, where a command of this machine starts what nobody reaches.
    fn or_start(self, start: Option<&str>) -> Self {
        match start {
            Some(start) if self.code == ExitCode::Unreachable => {
                Self { hint: Some(start.to_owned()), ..self }
            }
            Some(_) | None => self,
        }
    }

    /// The same, of an error that was met.
    pub(super) fn error(check: &'static str, subject: impl Into<String>, error: &CtlError) -> Self {
        Self::bad(check, subject, error.line(), (error.exit_code(), error.hint()))
    }
}

pub(crate) async fn run(args: Doctor, globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let findings = look(&args.configs, globals, out).await?;
    out.list(&findings)?;
    out.hand_over();
    for finding in findings.iter().filter(|finding| finding.state != State::Ok) {
        let hint = finding.hint.as_deref().unwrap_or_default();
        out.note(&format!("{} {}: try: {hint}", finding.check, finding.subject));
    }
    verdict(&findings)
}

/// Everything that is looked at. `configs` are of nodes of this machine; without any, those are taken that
/// run here for the cluster of the context.
///
/// # Errors
/// When not even the folder of this user can be found.
pub(super) async fn look(
    configs: &[PathBuf],
    globals: &Globals,
    out: &Out,
) -> Result<Vec<Finding>, CtlError> {
    let home = Home::from_env()?;
    let mut findings = Vec::new();
    let chosen = context::choose(&home, globals.context.as_ref());
    let mut configs = configs.to_vec();
    let mut start = None;
    if let Ok((_, context)) = &chosen {
        let dev = dev::home_of(&home, context).filter(|dir| dir.join(dev::MARK).is_file());
        start = dev.as_ref().map(|dir| dev::start_hint(dir, &home));
        // Nodes of another folder may be meant for other machines, unless they run here.
        if configs.is_empty()
            && let Some(dir) = dev.or_else(|| dev::folder(&home, context))
        {
            configs.extend(dev::nodes(&dir)?.into_iter().map(|node| node.config));
        }
    }
    for config in &configs {
        out.progress(&format!("looking at {}", config.display()));
        findings.extend(machine::look(config, &home).await);
    }
    match chosen {
        // Who looks at the files of a node need not be anybody's client.
        Err(_) if !configs.is_empty() && globals.context.is_none() => {}
        Err(error) => findings.push(Finding::error("context", "-", &error)),
        Ok((name, context)) => {
            out.progress("asking the nodes");
            let found = cluster::look(&home, &name, context, globals).await;
            findings.extend(found.into_iter().map(|finding| finding.or_start(start.as_deref())));
        }
    }
    out.progress("");
    Ok(findings)
}

/// What does not work comes before what somebody should look at.
fn verdict(findings: &[Finding]) -> Result<(), CtlError> {
    let of = |state: State| findings.iter().filter(move |finding| finding.state == state);
    let (bad, warnings) = (of(State::Bad).count(), of(State::Warning).count());
    let Some(first) = of(State::Bad).chain(of(State::Warning)).next() else { return Ok(()) };
    let what = match (bad, warnings) {
        (0, n) => format!("{n} to look at; the first: {} {}", first.check, first.subject),
        (n, _) => format!("{n} do not work; the first: {} {}", first.check, first.subject),
    };
    let what = format!("{what}: {}", first.found);
    // What the cluster says of itself is what `status` ends with; who hears from one node has reached it.
    let told = findings.iter().find(|it| it.check == cluster::STATUS && it.state != State::Ok);
    let reached = of(State::Ok).any(|it| it.check == cluster::NODE);
    let far = first.check == cluster::NODE || first.check == cluster::STATUS;
    let code = match (told.filter(|_| far), first.code) {
        (Some(told), _) => told.code,
        (None, ExitCode::Unreachable) if reached => ExitCode::Degraded,
        (None, code) => code,
    };
    Err(CtlError::refused(code, what, first.hint.clone().unwrap_or_default()))
}

impl Show for Finding {
    fn headings() -> &'static [&'static str] {
        &["CHECK", "OF", "STATE", "FOUND"]
    }

    fn row(&self) -> Vec<Cell> {
        let (state, tone) = match self.state {
            State::Ok => ("ok", Tone::Good),
            State::Warning => ("warning", Tone::Warning),
            State::Bad => ("bad", Tone::Bad),
        };
        vec![
            self.check.into(),
            self.subject.as_str().into(),
            Cell::toned(state, tone),
            self.found.as_str().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Bad => "bad",
        };
        vec![
            self.check.to_owned(),
            self.subject.clone(),
            state.to_owned(),
            self.found.clone(),
            self.hint.clone().unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: the order of the list taken: a warning hid what did not work.
    #[test]
    fn what_does_not_work_decides() {
        let ok = || Finding::ok("disk", "n1", "12 GiB free");
        let warning = || Finding::warning("clock", "here", "3 s ahead", "set it");
        let bad = || Finding::bad("node", "n2", "silent", (ExitCode::Unreachable, "start it"));
        assert!(verdict(&[ok()]).is_ok());
        assert_eq!(verdict(&[ok(), warning()]).unwrap_err().exit_code(), ExitCode::Degraded);
        let error = verdict(&[warning(), ok(), bad()]).unwrap_err();
        assert_eq!((error.exit_code(), error.hint().as_str()), (ExitCode::Unreachable, "start it"));
        let node = Finding::ok(cluster::NODE, "n1", "primary");
        let error = verdict(&[node, bad()]).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Degraded, "who hears from one has reached it");
        let told =
            Finding::bad(cluster::STATUS, "status", "no quorum", (ExitCode::NoQuorum, "wait"));
        let error = verdict(&[warning(), bad(), told]).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::NoQuorum, "as status ends");
        assert!(
            error.line().contains("2 do not work; the first: node n2: silent"),
            "{}",
            error.line()
        );
    }
}
