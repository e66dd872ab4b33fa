//! What a person hands over as a body: words on the command line, a file, or standard input.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

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

#[cfg(test)]
mod tests {
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
}
