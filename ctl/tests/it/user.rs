//! A user of the binary, with a home of its own.

use std::process::{Command, Output, Stdio};

/// A user with an empty home.
pub(crate) struct User {
    pub(crate) home: tempfile::TempDir,
}

impl User {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logctl"));
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("LOGCTL_") {
                command.env_remove(key);
            }
        }
        command.args(args).env("LOGCTL_HOME", self.home.path()).current_dir(self.home.path());
        command.env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs what must succeed and returns its data.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs what must fail: no data, the code, and a last line that says what to try.
    pub(crate) fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert_eq!(text(&output.stdout), "", "{args:?} wrote data");
        let last = errors.lines().last().unwrap_or_default();
        assert!(last.starts_with("try: ") && last.len() > 8, "{args:?}: {errors}");
        errors
    }

    /// A user whose current context is the admin's of a new cluster in `cluster/`.
    pub(crate) fn with_cluster() -> Self {
        let user = Self::new();
        user.ok(&["-q", "cluster", "create", "cluster"]);
        user
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}
