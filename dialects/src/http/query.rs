//! Parameters, taken one by one; what nobody has taken is refused.

use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proto::Failure;

use super::invalid;

/// What has a meaning in a part of a path, or may have one (RFC 3986, 2.3).
const OUTSIDE_SEGMENTS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
/// More parameters than any question has.
const PARAMETERS_MAX: usize = 128;

/// The parameters of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands behind the question mark.
    ///
    /// # Errors
    /// When it is no text once it is decoded, or there is far too much of it.
    pub fn read(text: Option<&str>) -> Result<Self, Failure> {
        let parts = text.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let mut pairs = Vec::new();
        for part in parts {
            if pairs.len() == PARAMETERS_MAX {
                return Err(invalid(format!("more than {PARAMETERS_MAX} parameters")));
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decoded(key)?, decoded(value)?));
        }
        Ok(Self(pairs))
    }

    /// All values of a parameter.
    pub fn all(&mut self, key: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(k, _)| k == key);
        self.0 = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may be given once.
    ///
    /// # Errors
    /// When it is given twice.
    pub fn one(&mut self, key: &str) -> Result<Option<String>, Failure> {
        let mut values = self.all(key).into_iter();
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(invalid(format!("'{key}' is given twice"))),
        }
    }

    /// The same as something that is written so.
    ///
    /// # Errors
    /// When it is given twice, or is no such thing.
    pub fn parsed<T>(&mut self, key: &str) -> Result<Option<T>, Failure>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = self.one(key)? else { return Ok(None) };
        let read = text.parse().map_err(|error| invalid(format!("{key}={text}: {error}")));
        read.map(Some)
    }

    /// A parameter that is there or not: `stale`, `stale=true`, `stale=false`.
    ///
    /// # Errors
    /// When it is given twice, or as something else.
    pub fn flag(&mut self, key: &str) -> Result<bool, Failure> {
        match self.one(key)?.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(invalid(format!("{key}={other}: true or false is wanted"))),
        }
    }

    /// To be called once all are taken that are known.
    ///
    /// # Errors
    /// When there is one more.
    pub fn end(self) -> Result<(), Failure> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(invalid(format!("'{key}' is no parameter of this path"))),
        }
    }
}

/// A text as one part of a path: what has a meaning there is encoded.
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, OUTSIDE_SEGMENTS).to_string()
}

/// Text with `%41` for `A` and `+` for a space. The crate takes a `%` that begins nothing for itself: here it
/// is refused, as all that is not understood.
fn decoded(text: &str) -> Result<String, Failure> {
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        invalid(format!("'{shown}' is no text in percent encoding, UTF-8"))
    };
    let is_code = |rest: &str| {
        let code = rest.as_bytes().get(..2);
        code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_code) {
        return Err(wrong());
    }
    let spaced = text.replace('+', " ");
    let bytes = percent_decode_str(&spaced).decode_utf8();
    bytes.map(std::borrow::Cow::into_owned).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_part_of_a_path_is_read_as_it_was(text: String) {
            let encoded = segment(&text);
            prop_assert!(!encoded.contains(['/', '?', '#', '+']));
            prop_assert_eq!(decoded(&encoded).unwrap(), text);
        }
    }

    #[test]
    fn parameters_are_taken_once_and_none_is_left() {
        let mut query = Query::read(Some("a=1&b=x%20y+z&c&header=k=v&header=l&d=%C3%A9")).unwrap();
        assert_eq!(query.parsed::<u64>("a").unwrap(), Some(1));
        assert_eq!(query.one("b").unwrap().as_deref(), Some("x y z"));
        assert!(query.flag("c").unwrap() && !query.flag("nothing").unwrap());
        assert_eq!(query.all("header"), ["k=v", "l"]);
        assert!(query.clone().end().unwrap_err().message.contains("'d'"));
        assert_eq!(query.one("d").unwrap().as_deref(), Some("é"));
        query.end().unwrap();
        assert_eq!(Query::read(None).unwrap(), Query::default());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=%+1"] {
            assert!(Query::read(Some(bad)).is_err(), "{bad}");
        }
        let many = "a&".repeat(PARAMETERS_MAX + 1);
        assert!(Query::read(Some(&many)).is_err());
        let read = |text| Query::read(Some(text)).unwrap();
        assert!(read("a=1&a=2").one("a").is_err());
        assert!(read("a=x").parsed::<u64>("a").is_err());
        assert!(read("a=maybe").flag("a").is_err());
        assert!(read("a").end().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            drop(Query::read(Some(&text)));
        }
    }
}
