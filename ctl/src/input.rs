//! What a person hands over as a body: words on the command line, a file, or standard input.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal as _, Read};
use std::path::Path;

use proto::limits::BODY_BYTES_MAX;
use tokio::sync::mpsc;
use views::range::{self, When};

use crate::error::CtlError;

/// Where a body may come from, and what to say where it does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    /// `--file`; before the words, with which it is never given together.
    pub file: Option<&'a Path>,
    /// The words, or `-` for standard input.
    pub words: Option<&'a str>,
    /// Most bytes that are taken.
    pub bytes_max: usize,
    /// Nothing was given and nothing is piped in: what is missing, and what to type.
    pub missing: (&'a str, &'a str),
    /// There is more than that: what is too large, what was not done, and what to do instead.
    pub too_large: (&'a str, &'a str, &'a str),
}

impl Input<'_> {
    /// Reads it whole.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it is too large.
    pub(crate) fn read(self) -> Result<Vec<u8>, CtlError> {
        let stdin = Path::new("standard input");
        let bytes = match (self.file, self.words) {
            (Some(path), _) => File::open(path)
                .and_then(|file| self.bounded(file))
                .map_err(CtlError::file("read", path))?,
            (None, Some(words)) if words != "-" => words.as_bytes().to_vec(),
            (None, None) if io::stdin().is_terminal() => {
                return Err(CtlError::usage(self.missing.0, self.missing.1));
            }
            (None, _) => self.bounded(io::stdin()).map_err(CtlError::file("read", stdin))?,
        };
        if bytes.len() > self.bytes_max {
            let (what, done, hint) = self.too_large;
            let text =
                format!("{what} is larger than {} bytes; nothing was {done}", self.bytes_max);
            return Err(CtlError::usage(text, hint));
        }
        Ok(bytes)
    }

    /// Reads to the limit and one byte beyond, which is enough to refuse it.
    fn bounded(self, from: impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        from.take(self.bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Refuses a range that ends before it begins, as far as that can be known before a node is asked.
///
/// # Errors
/// Exit code 2.
pub(crate) fn check_order(since: Option<When>, until: Option<When>) -> Result<(), CtlError> {
    let reversed = |_| CtlError::usage("--until lies before --since", "swap the two");
    range::check_order(since, until).map_err(reversed)
}

/// A line of standard input.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its number, from 1; empty ones count.
    pub number: u64,
    /// It, without its end.
    pub bytes: Vec<u8>,
}

/// The lines of standard input, without empty ones; the channel ends where the input does. A thread of
/// its own reads them: a blocked read of a terminal must not keep the command from ending.
pub(crate) fn lines() -> mpsc::Receiver<Result<Line, CtlError>> {
    let (tx, rx) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        for number in 1.. {
            let line = match read_line(&mut stdin) {
                Ok(Some(bytes)) if bytes.is_empty() => continue,
                Ok(Some(bytes)) => Ok(Line { number, bytes }),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let failed = line.is_err();
            if tx.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    rx
}

/// The next line without its end; `None` at the end of the input.
fn read_line(from: &mut impl BufRead) -> Result<Option<Vec<u8>>, CtlError> {
    let mut line = Vec::new();
    let most = BODY_BYTES_MAX as u64 + 2;
    let stdin = Path::new("standard input");
    let read = from.take(most).read_until(b'\n', &mut line);
    if read.map_err(CtlError::file("read", stdin))? == 0 {
        return Ok(None);
    }
    for end in *b"\n\r" {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    if line.len() > BODY_BYTES_MAX {
        return Err(CtlError::usage(
            format!("a line of more than {BODY_BYTES_MAX} bytes; it was not sent"),
            "send it in several parts with logctl send --file",
        ));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use proto::ExitCode;

    use super::*;

    fn input<'a>(words: Option<&'a str>, file: Option<&'a Path>) -> Input<'a> {
        Input {
            file,
            words,
            bytes_max: 4,
            missing: ("none", "some"),
            too_large: ("it", "done", "less"),
        }
    }

    /// Seen to fail without the bound: an endless source was read without end.
    #[test]
    fn no_more_is_read_than_one_byte_beyond_the_limit() {
        let bytes = input(None, None).bounded(io::repeat(b'x').take(1 << 20)).unwrap();
        assert_eq!(bytes.len(), 5);
        assert_eq!(input(Some("four"), None).read().unwrap(), b"four");
        let error = input(Some("fives"), None).read().unwrap_err();
        assert_eq!((error.number(), error.line().contains("4 bytes")), (2, true), "{error:?}");
        let gone = Path::new("/nowhere/at/all");
        assert!(input(Some("words"), Some(gone)).read().is_err(), "a file goes before words");
    }

    #[test]
    fn lines_end_where_they_end() {
        let mut input = &b"one\r\n\ntwo\nthree"[..];
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, [&b"one"[..], b"", b"two", b"three"]);
        let long = vec![b'x'; BODY_BYTES_MAX + 1];
        assert_eq!(read_line(&mut &long[..]).unwrap_err().exit_code(), ExitCode::Usage);
        assert_eq!(read_line(&mut &long[1..]).unwrap().unwrap().len(), BODY_BYTES_MAX);
    }
}
