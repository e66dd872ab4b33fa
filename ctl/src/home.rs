//! Where logctl keeps its things: contexts and keys under `$LOGCTL_HOME`, state beside or below it.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto::{ExitCode, Name};

use crate::context::Context;
use crate::error::CtlError;

const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";

/// The folders of one user.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    config: PathBuf,
    state: PathBuf,
}

impl Home {
    /// From the environment: `$LOGCTL_HOME`, else the XDG folders.
    ///
    /// # Errors
    /// When the environment names no home at all.
    pub(crate) fn from_env() -> Result<Self, CtlError> {
        let var = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        if let Some(own) = std::env::var_os("LOGCTL_HOME").filter(|own| !own.is_empty()) {
            let own = std::path::absolute(PathBuf::from(own));
            return Ok(Self::at(&own.map_err(CtlError::file("find", Path::new("LOGCTL_HOME")))?));
        }
        let under = |xdg: &str, rest: &str| var(xdg).or_else(|| Some(var("HOME")?.join(rest)));
        match (under("XDG_CONFIG_HOME", ".config"), under("XDG_STATE_HOME", ".local/state")) {
            (Some(config), Some(state)) => {
                Ok(Self { config: config.join("logctl"), state: state.join("logctl") })
            }
            _ => Err(CtlError::usage(
                "no place for contexts: neither LOGCTL_HOME nor HOME is set",
                "export LOGCTL_HOME=/some/folder",
            )),
        }
    }

    /// Everything below one folder.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { config: folder.to_owned(), state: folder.join("state") }
    }

    /// The folder that relative paths in a context are relative to.
    pub(crate) fn folder(&self) -> &Path {
        &self.config
    }

    /// The folder of everything that can be made again.
    pub(crate) fn state_folder(&self) -> &Path {
        &self.state
    }

    /// Where key and certificates of a client that registers here are kept; `end` is `key`, `crt`
    /// or `ca.crt`.
    pub(crate) fn key_file(&self, context: &Name, end: &str) -> PathBuf {
        self.config.join("keys").join(format!("{context}.{end}"))
    }

    /// A file of state that belongs to one context of one cluster.
    pub(crate) fn state_path(&self, name: &Name, context: &Context, kind: &str) -> PathBuf {
        let cluster: String = context.cluster.as_str().chars().take(12).collect();
        self.state.join(format!("{name}.{cluster}.{kind}"))
    }

    /// Names of all contexts, in order.
    pub(crate) fn contexts(&self) -> Result<Vec<Name>, CtlError> {
        let folder = self.config.join("contexts");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(CtlError::file("list", &folder)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(CtlError::file("list", &folder))?.file_name();
            let name = file.to_str().and_then(|name| name.strip_suffix(".toml"));
            names.extend(name.and_then(|name| name.parse::<Name>().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Reads a context; `None` if there is none of that name.
    pub(crate) fn load(&self, name: &Name) -> Result<Option<Context>, CtlError> {
        let path = self.context_path(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Context::from_toml(&text, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CtlError::file("read", &path)(error)),
        }
    }

    /// Writes a context.
    pub(crate) fn store(&self, name: &Name, context: &Context) -> Result<(), CtlError> {
        write_atomic(&self.context_path(name), context.to_toml().as_bytes())
    }

    /// Forgets a context.
    pub(crate) fn remove(&self, name: &Name) -> Result<(), CtlError> {
        let path = self.context_path(name);
        std::fs::remove_file(&path).map_err(CtlError::file("remove", &path))?;
        for mark in [CURRENT, PREVIOUS] {
            if self.mark(mark)?.as_ref() == Some(name) {
                let path = self.config.join(mark);
                std::fs::remove_file(&path).map_err(CtlError::file("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Name of the current context.
    pub(crate) fn current(&self) -> Result<Option<Name>, CtlError> {
        self.mark(CURRENT)
    }

    /// Name of the context that was current before.
    pub(crate) fn previous(&self) -> Result<Option<Name>, CtlError> {
        self.mark(PREVIOUS)
    }

    /// Makes a context the current one and remembers the one before.
    pub(crate) fn set_current(&self, name: &Name) -> Result<(), CtlError> {
        match self.current()? {
            Some(before) if &before == name => return Ok(()),
            Some(before) => {
                write_atomic(&self.config.join(PREVIOUS), format!("{before}\n").as_bytes())?;
            }
            None => {}
        }
        write_atomic(&self.config.join(CURRENT), format!("{name}\n").as_bytes())
    }

    fn context_path(&self, name: &Name) -> PathBuf {
        self.config.join("contexts").join(format!("{name}.toml"))
    }

    fn mark(&self, mark: &str) -> Result<Option<Name>, CtlError> {
        let path = self.config.join(mark);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CtlError::file("read", &path)(error)),
        };
        text.trim().parse().map(Some).map_err(|_| {
            CtlError::usage(
                format!("{} holds no name of a context", path.display()),
                "logctl context use NAME",
            )
        })
    }
}

/// Makes a folder and those above it; those it makes are for their owner alone.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), CtlError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(CtlError::file("make the folder", path))
}

/// Refuses a folder that others than oneself, root and perhaps the service's user may write: whoever can
/// replace a key or a certificate in it is as good as its owner. One that is not there is none.
///
/// # Errors
/// Exit code 4.
pub(crate) fn refuse_shared(path: &Path, service: Option<u32>) -> Result<(), CtlError> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CtlError::file("look at", path)(error)),
    };
    let (shown, mode, owner) = (path.display(), meta.mode() & 0o7777, meta.uid());
    let own = rustix::process::geteuid().as_raw();
    let what = match (mode & 0o022, owner) {
        (0, 0) => return Ok(()),
        (0, owner) if owner == own || Some(owner) == service => return Ok(()),
        (0, owner) => format!("{shown} belongs to another user, {owner}, who may write it"),
        _ => format!("others may write {shown}, its mode is {mode:04o}"),
    };
    Err(CtlError::refused(
        ExitCode::Denied,
        format!("{what}: keys in it would not be safe"),
        format!("check that all in it is yours, then chmod go-w {shown}; or use another folder"),
    ))
}

/// What becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and that is an error.
    Keep,
    /// The new one takes its place.
    Replace,
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where the one that is there is to be kept.
pub(crate) fn write_private(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    if existing == Existing::Keep {
        return create_private(path, bytes);
    }
    let draft = draft_of(path);
    let written = create_private(&draft, bytes).and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written
}

fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Where a file is written before it takes the place of another.
fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    PathBuf::from(draft)
}

/// Replaces a file as a whole; a reader sees the old text or the new, never a part.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), CtlError> {
    if let Some(folder) = path.parent() {
        make_private_dir(folder)?;
    }
    let draft = draft_of(path);
    let written = std::fs::File::create_new(&draft)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written.map_err(CtlError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::sample;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn contexts_are_kept_listed_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        assert_eq!(home.contexts().unwrap(), []);
        assert_eq!(home.load(&name("alice")).unwrap(), None);
        let context = sample("alice");
        home.store(&name("bob"), &sample("bob")).unwrap();
        home.store(&name("alice"), &context).unwrap();
        assert_eq!(home.load(&name("alice")).unwrap(), Some(context));
        assert_eq!(home.contexts().unwrap(), [name("alice"), name("bob")]);
        home.set_current(&name("alice")).unwrap();
        home.remove(&name("alice")).unwrap();
        assert_eq!(home.contexts().unwrap(), [name("bob")]);
        assert_eq!(home.current().unwrap(), None);
    }

    #[test]
    fn the_previous_context_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        for next in ["alice", "bob", "bob"] {
            home.set_current(&name(next)).unwrap();
        }
        assert_eq!(home.current().unwrap(), Some(name("bob")));
        assert_eq!(home.previous().unwrap(), Some(name("alice")));
    }

    #[test]
    fn a_damaged_mark_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("current"), "../../etc/passwd").unwrap();
        let error = Home::at(dir.path()).current().unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage);
        assert!(error.line().contains("current"), "{}", error.line());
    }
}
