//! Which of the records that were read are shown: those whose body and headers are as wanted. The rest is
//! looked at here and not by the node, so it is read over the network all the same.

use std::str::FromStr;

use proto::Record;
use regex::bytes::Regex;

/// A pattern that a body must contain.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Self).map_err(|error| error.to_string())
    }
}

/// A header that must be there, with a value or with any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedHeader {
    key: String,
    value: Option<String>,
}

impl FromStr for WantedHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            return Err("expected KEY=VALUE, or KEY for any value".to_owned());
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

/// Everything that a record must fulfil.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// In the body.
    pub(crate) pattern: Option<Pattern>,
    /// Among the headers, each.
    pub(crate) headers: Vec<WantedHeader>,
    /// The type of an event, one of these; none is all.
    pub(crate) types: Vec<&'static str>,
}

impl Filter {
    /// Whether it takes every record.
    pub(crate) fn is_empty(&self) -> bool {
        self.pattern.is_none() && self.headers.is_empty() && self.types.is_empty()
    }

    /// Whether a record is to be shown. A deleted one has no body to be found in.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        let has = |wanted: &WantedHeader| {
            record.headers.iter().any(|header| {
                header.key == wanted.key
                    && wanted.value.as_ref().is_none_or(|value| *value == header.value)
            })
        };
        let kind = || views::event::kind_of(record);
        self.pattern.as_ref().is_none_or(|Pattern(regex)| regex.is_match(&record.body))
            && self.headers.iter().all(has)
            && (self.types.is_empty() || self.types.contains(&kind()))
    }
}

#[cfg(test)]
mod tests {
    use proto::Header;

    use super::*;

    fn record(body: &[u8], headers: &[(&str, &str)]) -> Record {
        let header = |&(key, value): &(&str, &str)| Header { key: key.into(), value: value.into() };
        Record {
            body: body.to_vec().into(),
            headers: headers.iter().map(header).collect(),
            ..Record::default()
        }
    }

    /// Meant to catch: `any` in the place of `all` for the headers.
    #[test]
    fn body_and_every_header_must_fit() {
        let filter = |pattern: &str, headers: &[&str]| Filter {
            pattern: (!pattern.is_empty()).then(|| pattern.parse().unwrap()),
            headers: headers.iter().map(|text| text.parse().unwrap()).collect(),
            types: Vec::new(),
        };
        let order = record(b"order 17\xff", &[("kind", "order"), ("city", "Ulm")]);
        assert!(filter("", &[]).is_empty() && filter("", &[]).takes(&order));
        for (pattern, headers, fits) in [
            ("order \\d+", &[][..], true),
            ("^17", &[], false),
            ("(?i)ORDER", &["kind=order", "city"], true),
            ("", &["kind=order", "city=Bonn"], false),
            ("", &["kind=ord"], false),
            ("", &["colour"], false),
        ] {
            assert_eq!(filter(pattern, headers).takes(&order), fits, "{pattern} {headers:?}");
        }
        assert!("(".parse::<Pattern>().is_err());
        assert!("=x".parse::<WantedHeader>().is_err());
    }
}
