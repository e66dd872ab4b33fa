//! Reading and writing the small files that keys and certificates live in.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::CertError;

/// No certificate or key file is larger; a wrong path may be.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Writes a private key: mode 0600, complete or not at all, on disk when this returns. An existing
/// file is never replaced: a lost key cannot be made again.
///
/// # Errors
/// When the file exists already or cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), CertError> {
    let draft = write_draft(path, text, 0o600)?;
    // A link fails where a rename would overwrite.
    let linked = std::fs::hard_link(&draft, path);
    let removed = std::fs::remove_file(&draft);
    linked.and(removed).and_then(|()| sync_folder(path)).map_err(failed("write", path))
}

/// Writes a certificate: mode 0644, replaces an existing file at once, on disk when this returns.
///
/// # Errors
/// When the file cannot be written.
pub fn write_public(path: &Path, text: &str) -> Result<(), CertError> {
    let draft = write_draft(path, text, 0o644)?;
    std::fs::rename(&draft, path).and_then(|()| sync_folder(path)).map_err(failed("write", path))
}

/// Reads the private key of a file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertError> {
    let text = read(path, true)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| content(path, "no private key in PEM form"))
}

/// Reads the certificates of a file, at least one.
pub(crate) fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertError> {
    read_certs_text(path).map(|(certs, _)| certs)
}

/// The certificates of a text in PEM form, at least one.
pub(crate) fn certs_of(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    certs.ok().filter(|certs| !certs.is_empty())
}

/// The text of a private key's file.
pub(crate) fn read_private(path: &Path) -> Result<String, CertError> {
    String::from_utf8(read(path, true)?).map_err(|_| content(path, "no private key in PEM form"))
}

/// The same, with the text of the file.
pub(crate) fn read_certs_text(
    path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, String), CertError> {
    let none = || content(path, "no certificate in PEM form");
    let text = String::from_utf8(read(path, false)?).map_err(|_| none())?;
    let certs = certs_of(&text).ok_or_else(none)?;
    Ok((certs, text))
}

/// An error that names a file and what is wrong with it.
pub(crate) fn content(path: &Path, reason: impl std::fmt::Display) -> CertError {
    CertError::Content { path: path.to_owned(), reason: reason.to_string() }
}

fn read(path: &Path, private: bool) -> Result<Vec<u8>, CertError> {
    let failed = failed("read", path);
    let file = File::open(path).map_err(&failed)?;
    let meta = file.metadata().map_err(&failed)?;
    // The group may read: service managers and certificate groups need it. Others never.
    let mode = meta.permissions().mode() & 0o7777;
    if private && mode & 0o027 != 0 {
        return Err(CertError::Mode { path: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(&failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(content(path, "too large to be a certificate or key"));
    }
    Ok(text)
}

/// Writes the text to a new file next to `path` and syncs it.
fn write_draft(path: &Path, text: &str, mode: u32) -> Result<PathBuf, CertError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let write = || {
        // What an interrupted earlier write left behind is in the way, not of value.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        // The mode above is cut by the umask; a certificate is for everyone to read.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed("write", path))?;
    Ok(draft)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> CertError {
    move |source| CertError::File { verb, path: path.to_owned(), source }
}
