//! A real chronyd on a high loopback port, as a time server that others wrote. It serves the
//! machine's wall clock and does not set it, so that clock is the truth of its clients.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clock::packet::{NtpTime, Packet};

use crate::patience::{until, when};
use crate::{helpers, ports};

/// In the path, and where Debian puts it, which need not be in a user's path.
const PLACES: [&str; 2] = ["chronyd", "/usr/sbin/chronyd"];
/// A stratum that is no server's.
const STRATUM_END: u8 = 16;

/// A running chronyd; killed when dropped.
#[derive(Debug)]
pub struct Chronyd {
    address: SocketAddr,
    child: Child,
}

impl Chronyd {
    /// Starts one whose files lie in `folder`, and waits until it serves. `None`, with a message,
    /// where there is none and nobody requires it.
    ///
    /// # Errors
    /// When it is missing and required, or does not serve.
    pub fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = helpers::found("chronyd", "chrony", program())? else {
            return Ok(None);
        };
        for _ in 0..10 {
            let mut chronyd = Self::spawn(&program, folder, ports::in_a_row(1)?)?;
            if chronyd.serves()? {
                return Ok(Some(chronyd));
            }
        }
        let said = fs::read_to_string(folder.join("chronyd.log")).unwrap_or_default();
        anyhow::bail!("chronyd ended ten times: {said}")
    }

    fn spawn(program: &Path, folder: &Path, port: u16) -> anyhow::Result<Self> {
        let conf = folder.join("chronyd.conf");
        let pid = folder.join("chronyd.pid");
        // `user root` keeps a chronyd that root starts from giving up the folder; one that somebody
        // else starts has nothing to give up.
        let text = format!(
            "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.0/8\ncmdport 0\nbindcmdaddress /\n\
             pidfile {}\nlocal stratum 1\nuser root\n",
            pid.display()
        );
        fs::write(&conf, text)?;
        let log = File::options().create(true).append(true).open(folder.join("chronyd.log"))?;
        let mut command = Command::new(program);
        // -x: never sets the clock; -U: need not be root; -d: stays in front and writes there.
        command.args(["-x", "-d", "-U", "-f"]).arg(&conf).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { address: (Ipv4Addr::LOCALHOST, port).into(), child })
    }

    /// Waits until it answers as a server; `false` if it ended instead.
    fn serves(&mut self) -> anyhow::Result<bool> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let request = Packet { version: 4, mode: 3, transmit: NtpTime(1), ..Packet::default() };
        until("an answer of chronyd", || {
            if self.child.try_wait().map_err(|error| error.to_string())?.is_some() {
                return Ok(false);
            }
            socket.send(&request.to_bytes()).map_err(|error| error.to_string())?;
            let mut bytes = [0; Packet::BYTES];
            socket.recv(&mut bytes).map_err(|error| error.to_string())?;
            let stratum = Packet::from_bytes(&bytes).stratum;
            when((1..STRATUM_END).contains(&stratum), format!("stratum {stratum}")).map(|()| true)
        })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        // It may have ended by itself; then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let runs = |program: &PathBuf| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let unpacked = helpers::tools().map(|tools| tools.join("usr/sbin/chronyd"));
    PLACES.iter().map(PathBuf::from).chain(unpacked).find(runs)
}
