//! A node's files, port and disk, looked at on its machine.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::Credentials;
use config::{ClockMode, Config};
use proto::ExitCode;
use proto::life::{Validity, left_text};
use rustix::fs::statvfs;
use tokio::time::Instant;

use crate::dev;
use crate::home::Home;
use crate::renewal::now_s;

use super::Finding;

/// Room below which a node should get more, and below which it takes no more messages.
const ROOM_WARNING: u64 = 2 << 30;
const ROOM_BAD: u64 = 256 << 20;
/// How often a write is synced, and how long the middle one may take.
const SYNCS: usize = 15;
const SYNC_WARNING: Duration = Duration::from_millis(20);

/// Looks at the node of a configuration.
pub(super) async fn look(file: &Path, home: &Home) -> Vec<Finding> {
    let shown = file.display().to_string();
    let config = match Config::load(file, None) {
        Ok(config) => config,
        Err(error) => {
            let hint = format!("logd --config {shown} --check-config");
            let found = error.to_string();
            return vec![Finding::bad("configuration", shown, found, (ExitCode::Usage, hint))];
        }
    };
    let node = config.node.to_string();
    let mut findings = Vec::new();
    let dev = dev::made_for(file);
    match &config.warnings()[..] {
        _ if dev.is_some() && config.clock.mode == ClockMode::Local => {
            let found =
                format!("{shown}; its clock is this machine's own, as in all of 'logctl dev'");
            findings.push(Finding::ok("configuration", &node, found));
        }
        [] => findings.push(Finding::ok("configuration", &node, &shown)),
        warnings => {
            let hint = format!("edit {shown}");
            findings.push(Finding::warning("configuration", &node, warnings.join("; "), hint));
        }
    }
    findings.push(certificate(&node, &config));
    let start =
        dev.map_or_else(|| format!("logd --config {shown}"), |dir| dev::start_hint(dir, home));
    findings.push(port(&node, &config, start));
    let folder = existing(&config.data_dir);
    findings.push(room(&node, &folder));
    findings.push(syncs(&node, &folder).await);
    findings
}

fn certificate(node: &str, config: &Config) -> Finding {
    let check = "certificate";
    let tls = &config.tls;
    let own = match Credentials::load_any_age(&tls.ca, &tls.cert, &tls.key) {
        Ok(own) => own,
        Err(_) if !tls.cert.exists() && config.token_file.is_some() => {
            return Finding::ok(check, node, "none yet: it is to join with a token");
        }
        Err(error) => {
            let hint = error.hint().to_owned();
            return Finding::bad(check, node, error.to_string(), (ExitCode::Denied, hint));
        }
    };
    let named = own.identity();
    if named.name != config.node {
        let found = format!("{} is of {}", tls.cert.display(), named.name);
        let hint = "set node, or tls.cert and tls.key, in the configuration";
        return Finding::bad(check, node, found, (ExitCode::Denied, hint));
    }
    let left = left_text(own.life().until_unix_s.saturating_sub(now_s()));
    let renew = "start the node while another one signs: it renews by itself; logctl certs show";
    match own.life().standing(now_s()) {
        Validity::Fine => Finding::ok(check, node, format!("valid for {left} more")),
        Validity::Late => Finding::warning(check, node, format!("valid for {left} more"), renew),
        Validity::Expired => Finding::bad(check, node, "it has expired", (ExitCode::Denied, renew)),
    }
}

/// Whether something serves its address; `start` is what makes it do so.
fn port(node: &str, config: &Config, start: String) -> Finding {
    let check = "port";
    match UdpSocket::bind(config.listen) {
        Ok(_) => Finding::warning(
            check,
            node,
            format!("nothing listens on UDP {}", config.listen),
            start,
        ),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Finding::ok(check, node, format!("UDP {} is in use", config.listen))
        }
        Err(error) => Finding::bad(
            check,
            node,
            format!("UDP {}: {error}", config.listen),
            (ExitCode::Unreachable, "set listen to an address of this machine: ip address"),
        ),
    }
}

/// The folder, or the nearest above it that is there.
fn existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or_else(|| Path::new("/")).to_owned()
}

fn room(node: &str, folder: &Path) -> Finding {
    let check = "room";
    let there = match statvfs(folder) {
        Ok(there) => there,
        Err(error) => {
            let error = crate::error::CtlError::file("look at", folder)(error.into());
            return Finding::error(check, node, &error);
        }
    };
    let free = there.f_bavail.saturating_mul(there.f_frsize);
    let found = format!("{} MiB free for {}", free >> 20, folder.display());
    let hint = "free space, or lower the retention: logctl cluster set retain-bytes=10GiB";
    match free {
        ..ROOM_BAD => Finding::bad(check, node, found, (ExitCode::Degraded, hint)),
        ROOM_BAD..ROOM_WARNING => Finding::warning(check, node, found, hint),
        ROOM_WARNING.. => Finding::ok(check, node, found),
    }
}

/// How long the disk takes until a small write is safe, which every message waits for.
async fn syncs(node: &str, folder: &Path) -> Finding {
    let check = "disk";
    let at = folder.to_owned();
    let measured = tokio::task::spawn_blocking(move || measure(&at)).await;
    let error = match measured {
        Ok(Ok(middle)) => {
            let ms = middle.as_secs_f64() * 1000.0;
            let found = format!("a sync takes {ms:.2} ms, the middle one of {SYNCS}");
            return if middle > SYNC_WARNING {
                let hint = "a faster disk; logctl node stats shows what it costs";
                Finding::warning(check, node, found, hint)
            } else {
                Finding::ok(check, node, found)
            };
        }
        Ok(Err(error)) => error,
        Err(ended) => io::Error::other(ended),
    };
    let hint = "run this as the user that logd runs as: ls -ld shows whose the folder is";
    let found = format!("{}: {error}", folder.display());
    Finding::warning(check, node, found, hint)
}

fn measure(folder: &Path) -> io::Result<Duration> {
    let path = folder.join(format!(".logctl-doctor-{}", std::process::id()));
    let mut file = File::options().create_new(true).write(true).open(&path)?;
    let mut took = Vec::new();
    let mut done = Ok(());
    for _ in 0..SYNCS {
        let began = Instant::now();
        done = file.write_all(&[0; 4096]).and_then(|()| file.sync_data());
        took.push(began.elapsed());
        if done.is_err() {
            break;
        }
    }
    drop(file);
    std::fs::remove_file(&path)?;
    done?;
    took.sort_unstable();
    took.get(SYNCS / 2).copied().ok_or_else(|| io::Error::other("nothing was measured"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: the file left behind.
    #[test]
    fn a_measurement_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(measure(folder.path()).unwrap() > Duration::ZERO);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(existing(&folder.path().join("a/b")), folder.path());
        assert!(measure(Path::new("/nowhere/at/all")).is_err());
    }
}
