//! A user of the binary, with a home of its own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Output, Stdio};

/// A user with an empty home.
pub(crate) struct User {
    pub(crate) home: tempfile::TempDir,
    /// Held so that nobody else takes these ports, and never read: no node answers there.
    _silent: Vec<UdpSocket>,
}

impl User {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), _silent: Vec::new() }
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

    /// A user whose current context is the admin's of a new cluster in `cluster/`. No node of it
    /// runs, whatever else runs on this machine.
    pub(crate) fn with_cluster() -> Self {
        let mut user = Self::new();
        user.ok(&["-q", "cluster", "create", "cluster"]);
        let silent = ["n1", "n2", "n3"]
            .map(|name| (name, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()));
        let address =
            |(name, socket): &(&'static str, UdpSocket)| (*name, socket.local_addr().unwrap());
        user.point_to(&silent.iter().map(address).collect::<Vec<_>>());
        user._silent = silent.map(|(_, socket)| socket).into();
        user
    }

    /// Makes the admin's context name these nodes and no others.
    pub(crate) fn point_to(&self, nodes: &[(&str, SocketAddr)]) {
        let context = self.home.path().join("contexts/admin.toml");
        let text = std::fs::read_to_string(&context).unwrap();
        let head = text.split("[[node]]").next().unwrap();
        let entry = |(name, address): &(&str, SocketAddr)| {
            format!("[[node]]\nname = \"{name}\"\naddress = \"{address}\"\n")
        };
        let text = format!("{head}{}", nodes.iter().map(entry).collect::<String>());
        std::fs::write(&context, text).unwrap();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}
