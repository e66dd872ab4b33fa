//! A real curl, as a stranger uses it: with the authority's certificate, and a client's if it has one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::patience::{until, when};
use crate::user::{User, finish};
use crate::{Cluster, helpers};

/// Seconds after which a request is given up.
const SECONDS_MAX: &str = "50";

/// One that is installed, and what it shows.
#[derive(Debug, Clone)]
pub struct Curl {
    ca: PathBuf,
    pair: Option<[PathBuf; 2]>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Curl {
    /// One without a certificate; `None` where there is no curl.
    ///
    /// # Errors
    /// When there is none, and there must be.
    pub fn stranger(cluster: &Cluster) -> anyhow::Result<Option<Self>> {
        let is_there = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
        let found = helpers::found("curl", "curl", is_there.then_some(()))?;
        Ok(found.map(|()| Self { ca: cluster.dir().join("pki/ca.crt"), pair: None }))
    }

    /// The same with the certificate of a context.
    ///
    /// # Errors
    /// When there is no such context.
    pub fn of(&self, user: &User, context: &str) -> anyhow::Result<Self> {
        let [_, cert, key] = user.identity_files(context)?;
        Ok(self.showing(cert, key))
    }

    /// The same with a certificate from files.
    #[must_use]
    pub fn showing(&self, cert: PathBuf, key: PathBuf) -> Self {
        Self { pair: Some([cert, key]), ..self.clone() }
    }

    /// The same that trusts another authority.
    #[must_use]
    pub fn trusting(&self, ca: &Path) -> Self {
        Self { ca: ca.to_owned(), ..self.clone() }
    }

    /// The command, not yet run.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("curl");
        for (name, _) in std::env::vars_os() {
            // Neither proxies nor a file of the machine's user have a say.
            if name.to_string_lossy().to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.args(["-q", "-sS", "--max-time", SECONDS_MAX]).arg("--cacert").arg(&self.ca);
        if let Some([cert, key]) = &self.pair {
            command.arg("--cert").arg(cert).arg("--key").arg(key);
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs it, with the URL among the arguments.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn ask(&self, args: &[&str]) -> anyhow::Result<Answer> {
        self.ask_with(args, b"")
    }

    /// The same with something on its standard input.
    ///
    /// # Errors
    /// As [`Curl::ask`].
    pub fn ask_with(&self, args: &[&str], stdin: &[u8]) -> anyhow::Result<Answer> {
        let mut command = self.command(&[&["-D", "/dev/stderr"], args].concat());
        command.stdin(Stdio::piped());
        let run = finish(command, args, stdin)?;
        anyhow::ensure!(run.code == 0, "curl {args:?} ended with {}: {}", run.code, run.stderr);
        Answer::read(&run.stderr, run.text()).with_context(|| format!("{args:?}: {}", run.stderr))
    }

    /// The same again until the answer is one that was not for want of a primary, of room or of time: elections
    /// happen.
    ///
    /// # Errors
    /// When none came.
    pub fn ask_until_served(&self, args: &[&str], stdin: &[u8]) -> anyhow::Result<Answer> {
        until("an answer", || {
            let answer = self.ask_with(args, stdin).map_err(|error| error.to_string())?;
            when(!matches!(answer.status, 429 | 503 | 504), format!("{answer:?}")).map(|()| answer)
        })
    }
}

impl Answer {
    /// From what curl wrote of the headers; of several answers the last one counts.
    fn read(head: &str, body: String) -> anyhow::Result<Self> {
        let mut answer = Self { status: 0, headers: BTreeMap::new(), body };
        for line in head.lines() {
            if line.starts_with("HTTP/") {
                let status = line.split_whitespace().nth(1).context("no status")?;
                answer.status = status.parse()?;
                answer.headers.clear();
            } else if let Some((name, value)) = line.split_once(": ") {
                answer.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        anyhow::ensure!(answer.status > 0, "no status line");
        Ok(answer)
    }

    /// A header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("{self:?}"))
    }

    /// Checks a refusal: its status, a problem document with this code, and that it says what to try.
    /// Returns the document.
    ///
    /// # Errors
    /// When it is none.
    pub fn refused(&self, status: u16, code: &str) -> anyhow::Result<Value> {
        let kind = self.header("content-type");
        let right = self.status == status && kind == "application/problem+json";
        anyhow::ensure!(right, "wanted {status} and a problem: {self:?}");
        let problem = self.json()?;
        let said = |key: &str| problem.get(key).cloned().unwrap_or_default();
        let is_whole = said("code") == code
            && said("status") == status
            && said("try").as_str().is_some_and(|hint| hint.len() > 3)
            && said("executed") == if status == 504 { "unknown" } else { "no" };
        anyhow::ensure!(is_whole, "wanted {code}: {problem}");
        Ok(problem)
    }
}
