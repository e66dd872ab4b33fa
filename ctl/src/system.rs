//! The node of a machine that systemd runs, as the packaged unit wants it: where its files lie, whose they are,
//! and how it is started.
//!
//! The daemon reads `/etc/logd`, and may write `/etc/logd/pki`, where it renews its certificate, and
//! `/var/lib/logd`. The administrator's key lies in `/etc/logd/admin`, where the daemon cannot read it.
//!
//! Not here: what is in the files (`layout`, `join_folder`).

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use proto::{ExitCode, Name};

use crate::error::CtlError;

/// The unit of the package.
const UNIT: &str = "logd.service";
/// The user that it runs as, made by the package.
const USER: &str = "logd";
const CONF: &str = "etc/logd";
const DATA: &str = "var/lib/logd";
/// The configuration, as the unit names it.
pub(crate) const CONFIG: &str = "node.toml";
/// What makes the node run from now on, after each start of the machine too.
pub(crate) const ENABLE: &str = "systemctl enable --now logd";
/// What to do about files that are in the way.
pub(crate) const IN_THE_WAY: &str = "look whose they are; a machine has one node of its own, others live in folders (without --system)";
/// What a file system of its own has in its root: in nobody's way.
const FILE_SYSTEMS_OWN: &str = "lost+found";

/// How a node of this machine is started.
#[derive(Debug)]
pub(crate) enum Starter {
    /// As a process, by this daemon.
    Process(PathBuf),
    /// By systemd.
    Service,
}

/// Where the node of a machine has its files, and whom they belong to.
#[derive(Debug, Clone)]
pub(crate) struct System {
    root: PathBuf,
    uid: u32,
    gid: u32,
}

impl System {
    /// The machine, or what lies below another folder than `/`.
    ///
    /// # Errors
    /// Exit code 4 for who is not root, 5 where the package's user is not there.
    pub(crate) fn find(root: Option<&Path>) -> Result<Self, CtlError> {
        if root.is_none() && !rustix::process::geteuid().is_root() {
            let what = format!("--system writes /{CONF} and /{DATA}, which only root may");
            return Err(CtlError::refused(ExitCode::Denied, what, "the same with sudo"));
        }
        let root = root.unwrap_or_else(|| Path::new("/")).to_owned();
        let passwd = root.join("etc/passwd");
        let text = match std::fs::read_to_string(&passwd) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(CtlError::file("read", &passwd)(error)),
        };
        let (uid, gid) = ids(&text).ok_or_else(|| {
            let what =
                format!("{} knows no user '{USER}', as whom the service runs", passwd.display());
            CtlError::not_found(what, "install the package logd (make deb), which makes it")
        })?;
        Ok(Self { root, uid, gid })
    }

    /// Makes what the machine has above the folders of the service, where it does not: everybody may
    /// go through them.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub(crate) fn make_parents(&self) -> Result<(), CtlError> {
        let parents = [self.conf(), self.data()];
        for parent in parents.iter().filter_map(|folder| folder.parent()) {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
            made.map_err(CtlError::file("make the folder", parent))?;
        }
        Ok(())
    }

    /// The folder of configuration and keys.
    pub(crate) fn conf(&self) -> PathBuf {
        self.root.join(CONF)
    }

    /// The folder of stores.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    /// The folder of the administrator's key.
    pub(crate) fn admin(&self) -> PathBuf {
        self.conf().join("admin")
    }

    /// The store of a node, as its configuration says it.
    pub(crate) fn data_dir(node: &Name) -> String {
        format!("/{DATA}/{node}")
    }

    /// Whether a file of a folder is no sign of a node.
    pub(crate) fn is_no_sign(name: &str) -> bool {
        name == FILE_SYSTEMS_OWN
    }

    /// The user who may own folders of keys besides root.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Gives the daemon what is the daemon's. Harmless if it has it already.
    ///
    /// # Errors
    /// When something cannot be given away.
    pub(crate) fn hand_over(&self, node: &Name) -> Result<(), CtlError> {
        let (conf, data) = (self.conf(), self.data());
        // What it only reads stays root's, and others do not read it.
        for (path, mode) in [(conf.clone(), 0o750), (conf.join(CONFIG), 0o640)] {
            lchown(&path, None, Some(self.gid)).map_err(CtlError::file("give away", &path))?;
            set_mode(&path, mode)?;
        }
        let (pki, store) = (conf.join("pki"), data.join(node.as_str()));
        // The folders last: until then nobody else can put something into the place of a file.
        let mut own = entries(&pki)?;
        own.extend(entries(&store)?.into_iter().filter(|path| path.is_file()));
        let (uid, gid) = (Some(self.uid), Some(self.gid));
        for path in own.into_iter().chain([pki, store]) {
            lchown(&path, uid, gid).map_err(CtlError::file("give away", &path))?;
        }
        // This one may be a link to a larger disk, which only root can have made.
        set_mode(&data, 0o700)?;
        chown(&data, uid, gid).map_err(CtlError::file("give away", &data))
    }
}

/// Checks that systemd runs this machine and knows the unit: better known before a token is used up.
///
/// # Errors
/// Exit code 5.
pub(crate) async fn check_unit() -> Result<(), CtlError> {
    if !Path::new("/run/systemd/system").is_dir() {
        let what = "systemd does not run this machine, so it cannot start the service";
        let hint =
            "leave out --start, and start logd --config /etc/logd/node.toml as the user logd";
        return Err(CtlError::not_found(what, hint));
    }
    systemctl(&["cat", UNIT]).await.map_err(|why| {
        let what = format!("systemd has no {UNIT}: {why}");
        CtlError::not_found(what, "install the package logd (make deb), or leave out --start")
    })
}

/// Starts the service, now and after each start of the machine, and waits until it is ready.
///
/// # Errors
/// Exit code 1 when it does not come up.
pub(crate) async fn start() -> Result<(), CtlError> {
    systemctl(&["enable", "--now", UNIT]).await.map_err(|why| {
        let what = format!("systemd could not start {UNIT}: {why}");
        CtlError::refused(ExitCode::Other, what, "systemctl status logd; journalctl -u logd")
    })
}

/// Runs `systemctl`; what it says if it does not end well.
async fn systemctl(args: &[&str]) -> Result<(), String> {
    let mut command = tokio::process::Command::new("systemctl");
    let output = command.args(args).output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(if said.is_empty() { output.status.to_string() } else { said.join("; ") })
}

fn set_mode(path: &Path, mode: u32) -> Result<(), CtlError> {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).map_err(CtlError::file("set the mode of", path))
}

/// What lies in a folder; nothing in one that is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, CtlError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CtlError::file("list", folder)(error)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(CtlError::file("list", folder)))
        .collect()
}

/// User and group of the service in the text of a passwd file.
fn ids(passwd: &str) -> Option<(u32, u32)> {
    let mut fields = passwd.lines().map(|line| line.split(':'));
    let mut own = fields.find_map(|mut fields| (fields.next()? == USER).then_some(fields))?;
    // The second field is the password's.
    Some((own.nth(1)?.parse().ok()?, own.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_found_among_others() {
        let text =
            "root:x:0:0:root:/root:/bin/bash\nlogdx:x:1:2::/:\nlogd:x:998:997:d:/:/sbin/nologin\n";
        assert_eq!(ids(text), Some((998, 997)));
        assert_eq!(ids("root:x:0:0::/:\nlogd\n"), None);
        assert_eq!(ids(""), None);
    }
}
