//! The files that a configuration is in and that it names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Config;
use super::reader::{Marks, Note};

/// No configuration is longer; whoever names a disk image by mistake is told so at once.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a text file of bounded length.
///
/// # Errors
/// When it cannot be read, is longer than 1 MiB or no UTF-8.
pub fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 1 MiB"));
    }
    Ok(text)
}

/// Notes every file that the configuration names and that cannot be used.
pub(super) fn check(config: &Config, marks: &Marks) -> Vec<Note> {
    let tls = &config.tls;
    let files = [
        ("tls.ca", Some(&tls.ca)),
        ("tls.cert", Some(&tls.cert)),
        ("tls.key", Some(&tls.key)),
        ("tls.ca_key", tls.ca_key.as_ref()),
        ("http.cert", config.http.pair.as_ref().map(|(cert, _)| cert)),
        ("http.key", config.http.pair.as_ref().map(|(_, key)| key)),
    ];
    let mut notes: Vec<Note> = files
        .into_iter()
        .filter_map(|(key, file)| Some((key, file?)))
        .filter_map(|(key, file)| unreadable(file).map(|why| note(marks, key, file, &why)))
        .collect();
    if config.data_dir.exists() && !config.data_dir.is_dir() {
        notes.push(note(marks, "data_dir", &config.data_dir, "this is no folder"));
    }
    notes
}

fn unreadable(file: &Path) -> Option<String> {
    match File::open(file).and_then(|open| open.metadata()) {
        Ok(metadata) if metadata.is_file() => None,
        Ok(_) => Some("this is no file".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("there is no such file; paths are relative to the configuration's folder".into())
        }
        Err(error) => Some(error.to_string()),
    }
}

fn note(marks: &Marks, key: &str, file: &Path, why: &str) -> Note {
    let at = marks.get(key).copied().unwrap_or(0);
    Note { at, text: format!("'{key}': {}: {why}", file.display()) }
}
