//! Starting and stopping `logd` alone: what it refuses and with which exit code, and what it tells
//! the service manager. Real processes, one node, no client.

use std::fs;
use std::io::Read;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use certs::{Authority, IssueOptions, write_private, write_public};
use config::seed::{Member, Seed};
use proto::{ClusterId, Identity, Role};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

/// Longest wait for a process that does nothing but start or stop.
const WITHIN: Duration = Duration::from_secs(60);

/// The folder of a cluster of one node.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Folder {
    /// With everything that `n1` needs, on a port that was free a moment ago.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(&ClusterId::from_bytes(*Uuid::new_v4().as_bytes()));
        let this = Self { folder, authority: authority.unwrap() };
        write_public(&this.path("ca.crt"), this.authority.cert_pem()).unwrap();
        write_private(&this.path("ca.key"), &this.authority.key_pem()).unwrap();
        this.issue(Role::Node, "n1", "n1", &IssueOptions::default());
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        this.configure(port, "");
        fs::create_dir(this.path("data")).unwrap();
        this.seed("n1", port).write(&this.path("data")).unwrap();
        this
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn seed(&self, node: &str, port: u16) -> Seed {
        let member = Member {
            name: node.parse().unwrap(),
            raft_id: 1,
            incarnation: Uuid::new_v4(),
            address: format!("127.0.0.1:{port}"),
            key: None,
        };
        let cluster = self.authority.cluster().clone();
        let (node, members) = (node.parse().unwrap(), vec![member]);
        Seed { cluster, node, joined: false, members, admins: Vec::new(), starts: 0 }
    }

    /// Writes the certificate and key of an identity to `file.crt` and `file.key`.
    fn issue(&self, role: Role, name: &str, file: &str, options: &IssueOptions) {
        let cluster = self.authority.cluster().clone();
        let identity = Identity { cluster, role, name: name.parse().unwrap() };
        let issued = self.authority.issue(&identity, options).unwrap();
        write_public(&self.path(&format!("{file}.crt")), &issued.cert_pem).unwrap();
        let key = self.path(&format!("{file}.key"));
        // A key is never overwritten in earnest.
        let _ = fs::remove_file(&key);
        write_private(&key, &issued.key_pem).unwrap();
    }

    pub(crate) fn configure(&self, port: u16, more: &str) {
        let text = format!(
            "node = \"n1\"\nlisten = \"127.0.0.1:{port}\"\ndata_dir = \"data\"\n\
             clock.mode = \"local\"\n{more}[tls]\nca = \"ca.crt\"\ncert = \"n1.crt\"\n\
             key = \"n1.key\"\nca_key = \"ca.key\"\n"
        );
        fs::write(self.path("node1.toml"), text).unwrap();
    }

    /// Replaces text in the configuration.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("node1.toml")).unwrap();
        assert!(text.contains(from), "nothing to replace: {from}");
        fs::write(self.path("node1.toml"), text.replace(from, to)).unwrap();
    }

    pub(crate) fn logd(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.path("node1.toml")).stdin(Stdio::null());
        for inherited in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM", "LOGD_LOG"] {
            command.env_remove(inherited);
        }
        command
    }

    /// Runs `logd`, which has to refuse, and checks exit code and words.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, part: &str) {
        Self::was_refused(&self.ends(&[]), code, part);
    }

    /// Checks the exit code and the words of a `logd` that had to refuse.
    #[track_caller]
    pub(crate) fn was_refused(output: &Output, code: i32, part: &str) {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "'{part}' was not said: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("try: ") && last.len() > 8, "no line says what to try: {said}");
        assert!(output.stdout.is_empty());
    }

    /// Runs `logd` to its end, which has to come by itself.
    #[track_caller]
    pub(crate) fn ends(&self, arguments: &[&str]) -> Output {
        let mut command = self.logd();
        command.args(arguments);
        Self::run_to_end(&mut command)
    }

    /// Runs a `logd` to its end, which has to come by itself.
    #[track_caller]
    pub(crate) fn run_to_end(command: &mut Command) -> Output {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(child.spawn().unwrap()).output()
    }

    /// Runs `logd` until it can serve, which it tells the manager at the other end.
    pub(crate) fn serve(&self) -> (Running, Manager) {
        let (running, manager) = self.managed();
        manager.hears("READY=1");
        (running, manager)
    }

    /// Runs `logd` with a manager at the other end.
    pub(crate) fn managed(&self) -> (Running, Manager) {
        let path = self.path("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(WITHIN)).unwrap();
        let mut command = self.logd();
        command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).stderr(Stdio::piped());
        let running = Running(command.spawn().unwrap());
        (running, Manager(socket))
    }
}

/// A process that ends with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for its end; a process that hangs is killed, and the test fails.
    #[track_caller]
    pub(crate) fn output(mut self) -> Output {
        let pid = Pid::from_child(&self.0);
        let (ended, waiting) = std::sync::mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let late =
                waiting.recv_timeout(WITHIN) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if late {
                let _ = kill_process(pid, Signal::KILL);
            }
            late
        });
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        if let Some(mut out) = self.0.stdout.take() {
            out.read_to_end(&mut stdout).unwrap();
        }
        let status = self.0.wait().unwrap();
        drop(ended);
        let said = String::from_utf8_lossy(&stderr);
        assert!(!watchdog.join().unwrap(), "logd did not end by itself: {said}");
        Output { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The other end of `NOTIFY_SOCKET`.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    /// Waits for a datagram that begins so, and returns it.
    #[track_caller]
    pub(crate) fn hears(&self, start: &str) -> String {
        let mut buffer = [0; 1024];
        loop {
            let len = self.0.recv(&mut buffer).unwrap_or_else(|e| panic!("no {start}: {e}"));
            let text = String::from_utf8_lossy(&buffer[..len]);
            if text.starts_with(start) {
                return text.into_owned();
            }
        }
    }
}

/// The daemon that was built beside this test.
pub(crate) fn binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let binary = exe.ancestors().nth(2).unwrap().join("logd");
    assert!(binary.exists(), "{} is missing: make build, or make test", binary.display());
    binary
}

#[test]
fn a_wrong_configuration_is_2_and_names_the_line() {
    let cluster = Folder::new();
    cluster.edit("data_dir", "data_dri");
    cluster.refused(2, "node1.toml:3:1: unknown key 'data_dri'; did you mean 'data_dir'?");
    let cluster = Folder::new();
    cluster.edit("n1.key", "n9.key");
    cluster.refused(2, "node1.toml:8:7: 'tls.key'");
    let cluster = Folder::new();
    fs::remove_file(cluster.path("node1.toml")).unwrap();
    cluster.refused(2, "cannot read the configuration");
    let cluster = Folder::new();
    let output = cluster.ends(&["--frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn certificates_that_do_not_fit_are_4() {
    let cluster = Folder::new();
    cluster.issue(Role::Node, "n2", "n2", &IssueOptions::default());
    cluster.edit("n1.key", "n2.key");
    cluster.refused(4, "does not belong to the certificate");
    cluster.edit("n1.crt", "n2.crt");
    cluster.refused(4, "that of node n2, but the configuration is for node n1");

    let cluster = Folder::new();
    cluster.issue(Role::Client, "n1", "n1", &IssueOptions::default());
    cluster.refused(4, "that of client n1");

    let (mine, other) = (Folder::new(), Folder::new());
    fs::copy(other.path("ca.crt"), mine.path("ca.crt")).unwrap();
    mine.refused(4, "was not signed by the authority");
}

#[test]
fn an_address_in_use_is_3() {
    let cluster = Folder::new();
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    cluster.configure(held.local_addr().unwrap().port(), "");
    cluster.refused(3, &held.local_addr().unwrap().to_string());
}

#[test]
fn a_store_that_is_missing_or_another_nodes_is_13() {
    let cluster = Folder::new();
    fs::remove_file(cluster.path("data/init.toml")).unwrap();
    cluster.refused(13, "data");
    assert_eq!(fs::read_dir(cluster.path("data")).unwrap().count(), 0, "a store was made");

    let cluster = Folder::new();
    fs::remove_file(cluster.path("data/init.toml")).unwrap();
    cluster.seed("n2", 1).write(&cluster.path("data")).unwrap();
    cluster.refused(13, "n2");

    let (mine, other) = (Folder::new(), Folder::new());
    let (running, _manager) = other.serve();
    running.signal(Signal::TERM);
    assert_eq!(running.output().status.code(), Some(0));
    fs::remove_dir_all(mine.path("data")).unwrap();
    fs::rename(other.path("data"), mine.path("data")).unwrap();
    mine.refused(13, other.authority.cluster().as_str());
}

#[test]
fn check_config_says_right_or_wrong_and_touches_nothing() {
    let cluster = Folder::new();
    let output = cluster.ends(&["--check-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("right, for node n1"));
    cluster.edit("n1.crt", "ca.crt");
    assert_eq!(cluster.ends(&["--check-config"]).status.code(), Some(4));
    assert!(cluster.path("data/init.toml").exists());
    assert!(!cluster.path("data/store").exists());
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop() {
    let cluster = Folder::new();
    let (running, manager) = cluster.serve();
    assert!(!cluster.path("data/init.toml").exists(), "the seed was not put away");

    running.signal(Signal::HUP);
    assert!(manager.hears("RELOADING=1\n").contains("MONOTONIC_USEC="));
    manager.hears("READY=1");

    // A reload that is refused is over too, and the node goes on.
    cluster.edit("n1.key", "ca.key");
    running.signal(Signal::HUP);
    manager.hears("RELOADING=1\n");
    manager.hears("READY=1");

    running.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    let output = running.output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("reload refused"), "{said}");
    assert!(said.lines().all(|line| line.starts_with('{')), "not JSON lines: {said}");

    // What was stopped starts again without a seed.
    cluster.edit("ca.key\"\nca_key", "n1.key\"\nca_key");
    let (running, _manager) = cluster.serve();
    running.signal(Signal::INT);
    assert_eq!(running.output().status.code(), Some(0));
    assert!(Path::new(&cluster.path("data/store")).exists());
}
