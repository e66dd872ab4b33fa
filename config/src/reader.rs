//! Reading TOML strictly: typed access that notes everything wrong instead of stopping at the first.
//!
//! A [`Section`] is asked for its keys one by one; what nobody asked for is unknown. So the reading
//! code is the only list of keys there is, and the suggestions come from the same place.
//!
//! Not here: what the keys mean (`parse`, `seed`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggest::nearest;

/// One problem at a byte offset of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// Byte offset.
    pub(crate) at: usize,
    /// What is wrong.
    pub(crate) text: String,
}

/// Where the values of a file stand, by dotted key; for problems found after reading.
pub(crate) type Marks = BTreeMap<String, usize>;

/// What was found while reading one file.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    wrong: RefCell<Vec<Note>>,
    marks: RefCell<Marks>,
    /// Everything that was asked for.
    known: RefCell<Vec<Known>>,
    /// Section, key and offset of what was there and was not asked for.
    unknown: RefCell<Vec<(String, String, usize)>>,
}

/// A key that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Dotted name of its table; empty for the top of the file.
    pub(crate) section: String,
    /// The key.
    pub(crate) key: &'static str,
    /// What may stand there, for people; `None` for tables.
    pub(crate) kind: Option<String>,
}

impl Notes {
    /// Notes a problem.
    pub(crate) fn add(&self, at: usize, text: impl Into<String>) {
        self.wrong.borrow_mut().push(Note { at, text: text.into() });
    }

    /// Dotted names of all keys that were asked for.
    #[cfg(test)]
    pub(crate) fn known(&self) -> Vec<String> {
        let dotted = |known: &Known| match known.section.as_str() {
            "" => known.key.to_owned(),
            section => format!("{section}.{}", known.key),
        };
        self.known.borrow().iter().map(dotted).collect()
    }

    /// All keys that were asked for.
    pub(crate) fn keys(self) -> Vec<Known> {
        self.known.into_inner()
    }

    /// Everything that is wrong, and where the values stand.
    pub(crate) fn finish(self) -> (Vec<Note>, Marks) {
        let mut wrong = self.wrong.into_inner();
        let known = self.known.into_inner();
        for (section, key, at) in self.unknown.into_inner() {
            wrong.push(Note { at, text: unknown_key(&known, &section, &key) });
        }
        (wrong, self.marks.into_inner())
    }
}

/// One table of the file.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    notes: &'a Notes,
    /// Dotted name; empty for the top of the file.
    name: String,
    /// Where it begins.
    at: usize,
    /// What nobody asked for yet.
    left: RefCell<BTreeMap<&'a str, Entry<'a>>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    key_at: usize,
    at: usize,
    value: &'a DeValue<'a>,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot<T> {
    /// Byte offset.
    pub(crate) at: usize,
    /// The value.
    pub(crate) value: T,
}

impl<'a> Section<'a> {
    /// The top of a file.
    pub(crate) fn top(notes: &'a Notes, table: &'a DeTable<'a>) -> Self {
        Self::new(notes, String::new(), 0, table)
    }

    fn new(notes: &'a Notes, name: String, at: usize, table: &'a DeTable<'a>) -> Self {
        let left = table
            .iter()
            .map(|(key, value)| {
                let entry = Entry {
                    key_at: key.span().start,
                    at: value.span().start,
                    value: value.get_ref(),
                };
                (key.get_ref().as_ref(), entry)
            })
            .collect();
        Self { notes, name, at, left: RefCell::new(left) }
    }

    /// Where the section begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// A table below this one; an empty one if it is not there.
    pub(crate) fn table(&self, key: &'static str) -> Self {
        let name = self.dotted(key);
        match self.take(key, None) {
            Some(Entry { value: DeValue::Table(table), key_at, .. }) => {
                Self::new(self.notes, name, key_at, table)
            }
            other => {
                if let Some(entry) = other {
                    self.wrong_type(
                        key,
                        entry,
                        "a table",
                        &format!("[{name}] on a line of its own"),
                    );
                }
                Self { notes: self.notes, name, at: self.at, left: RefCell::default() }
            }
        }
    }

    /// The tables of an array of tables.
    pub(crate) fn tables(&self, key: &'static str) -> Vec<Self> {
        let name = self.dotted(key);
        let wanted = "an array of tables";
        let example = format!("[[{name}]] on a line of its own");
        match self.take(key, None) {
            None => Vec::new(),
            Some(Entry { value: DeValue::Array(array), .. }) => array
                .iter()
                .filter_map(|item| {
                    let at = item.span().start;
                    if let DeValue::Table(table) = item.get_ref() {
                        return Some(Self::new(self.notes, name.clone(), at, table));
                    }
                    let entry = Entry { key_at: at, at, value: item.get_ref() };
                    self.wrong_type(key, entry, wanted, &example);
                    None
                })
                .collect(),
            Some(entry) => {
                self.wrong_type(key, entry, wanted, &example);
                Vec::new()
            }
        }
    }

    /// A list of texts that may be left out and that `read` can make sense of, each.
    pub(crate) fn texts<T, E: ToString>(
        &self,
        key: &'static str,
        example: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let shown = format!("{key} = [\"{example}\"]");
        let kind = format!("list of texts, as [\"{example}\"]");
        let Some(entry) = self.take(key, Some(kind)) else { return Vec::new() };
        let DeValue::Array(array) = entry.value else {
            self.wrong_type(key, entry, "a list of texts", &shown);
            return Vec::new();
        };
        let one = |item: &'a Spanned<DeValue<'a>>| {
            let at = item.span().start;
            if let DeValue::String(text) = item.get_ref() {
                let spot = Spot { at, value: text.as_ref() };
                return self.understood(key, spot, &read).map(|spot| spot.value);
            }
            let entry = Entry { key_at: at, at, value: item.get_ref() };
            self.wrong_type(key, entry, "a text", &shown);
            None
        };
        array.iter().filter_map(one).collect()
    }

    /// A text that may be left out. `example` is how the value could look.
    pub(crate) fn text(&self, key: &'static str, example: &str) -> Option<Spot<&'a str>> {
        self.text_of(key, example, "")
    }

    /// `need` is what people are told besides the example.
    fn text_of(&self, key: &'static str, example: &str, need: &str) -> Option<Spot<&'a str>> {
        let entry = self.take(key, Some(format!("text, as \"{example}\"{need}")))?;
        if let DeValue::String(text) = entry.value {
            return Some(Spot { at: entry.at, value: text.as_ref() });
        }
        self.wrong_type(key, entry, "text", &format!("{key} = \"{example}\""));
        None
    }

    /// A text that must be there.
    pub(crate) fn need(&self, key: &'static str, example: &str) -> Option<Spot<&'a str>> {
        if !self.left.borrow().contains_key(key) {
            self.know(key, None);
            let place =
                if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
            self.notes.add(self.at, format!("'{key}' is missing{place}: {key} = \"{example}\""));
            return None;
        }
        self.text_of(key, example, "; required")
    }

    /// A text that must be there and that `read` can make sense of.
    pub(crate) fn need_as<T, E: ToString>(
        &self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Spot<T>> {
        let spot = self.need(key, example)?;
        self.understood(key, spot, read)
    }

    /// A text that may be left out and that `read` can make sense of.
    pub(crate) fn text_as<T, E: ToString>(
        &self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Spot<T>> {
        let spot = self.text(key, example)?;
        self.understood(key, spot, read)
    }

    /// A whole number of `unit` in a range; `default` if it is left out.
    pub(crate) fn number(
        &self,
        key: &'static str,
        unit: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Spot<u64> {
        debug_assert!(range.contains(&default), "the default of {key} is out of range");
        let fallback = Spot { at: self.at, value: default };
        let (low, high) = (range.start(), range.end());
        let bounds =
            if *high == u64::MAX { format!("at least {low}") } else { format!("{low} to {high}") };
        let kind = format!("whole number of {unit}, {bounds}; default {default}");
        let Some(entry) = self.take(key, Some(kind)) else { return fallback };
        let DeValue::Integer(number) = entry.value else {
            let wanted = format!("a whole number of {unit}");
            self.wrong_type(key, entry, &wanted, &format!("{key} = {default}"));
            return fallback;
        };
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        if let Some(value) = value.filter(|value| range.contains(value)) {
            return Spot { at: entry.at, value };
        }
        let name = self.dotted(key);
        self.notes.add(entry.at, format!("'{name}' is {number}; {bounds} {unit} are allowed"));
        fallback
    }

    /// Like [`Section::number`], for numbers whose range ends at `u32::MAX` or below.
    pub(crate) fn number32(
        &self,
        key: &'static str,
        unit: &str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> Spot<u32> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        let spot = self.number(key, unit, range, default.into());
        Spot { at: spot.at, value: u32::try_from(spot.value).unwrap_or(default) }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &'static str, default: bool) -> bool {
        let kind = format!("true or false; default {default}");
        let Some(entry) = self.take(key, Some(kind)) else { return default };
        if let DeValue::Boolean(value) = entry.value {
            return *value;
        }
        self.wrong_type(key, entry, "true or false", &format!("{key} = {default}"));
        default
    }

    /// `true` or `false`, if it is there.
    pub(crate) fn optional_flag(&self, key: &'static str) -> Option<bool> {
        let entry = self.take(key, Some("true or false".to_owned()))?;
        if let DeValue::Boolean(value) = entry.value {
            return Some(*value);
        }
        self.wrong_type(key, entry, "true or false", &format!("{key} = true"));
        None
    }

    /// Notes a problem with the value of a key.
    pub(crate) fn wrong(&self, at: usize, key: &'static str, text: impl AsRef<str>) {
        self.notes.add(at, format!("'{}': {}", self.dotted(key), text.as_ref()));
    }

    fn understood<T, E: ToString>(
        &self,
        key: &'static str,
        spot: Spot<&str>,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Spot<T>> {
        match read(spot.value) {
            Ok(value) => Some(Spot { at: spot.at, value }),
            Err(error) => {
                self.wrong(spot.at, key, error.to_string());
                None
            }
        }
    }

    fn wrong_type(&self, key: &str, entry: Entry<'_>, wanted: &str, example: &str) {
        let (name, found) = (self.dotted(key), type_of(entry.value));
        self.notes.add(entry.at, format!("'{name}' is {found}; {wanted} is wanted: {example}"));
    }

    fn take(&self, key: &'static str, kind: Option<String>) -> Option<Entry<'a>> {
        self.know(key, kind);
        let entry = self.left.borrow_mut().remove(key)?;
        self.notes.marks.borrow_mut().insert(self.dotted(key), entry.at);
        Some(entry)
    }

    fn know(&self, key: &'static str, kind: Option<String>) {
        let known = Known { section: self.name.clone(), key, kind };
        self.notes.known.borrow_mut().push(known);
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// Whatever is left when the reading code is done with a section is unknown.
impl Drop for Section<'_> {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.left.borrow_mut());
        let mut unknown = self.notes.unknown.borrow_mut();
        unknown.extend(left.into_iter().map(|(key, e)| (self.name.clone(), key.into(), e.key_at)));
    }
}

/// Parses the text into a table; a syntax error becomes the one note there is.
pub(crate) fn table(text: &str) -> Result<Spanned<DeTable<'_>>, Note> {
    DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Note { at, text: format!("this is not TOML: {}", error.message()) }
    })
}

fn unknown_key(known: &[Known], section: &str, key: &str) -> String {
    let here = known.iter().filter(|known| known.section == section).map(|known| known.key);
    if let Some(near) = nearest(key, here.clone()) {
        return format!("unknown key '{key}'; did you mean '{near}'?");
    }
    let elsewhere = known.iter().find(|known| known.section != section && known.key == key);
    if let Some(Known { section: of, .. }) = elsewhere {
        let place =
            if of.is_empty() { "at the top of the file".into() } else { format!("in [{of}]") };
        return format!("unknown key '{key}'; it belongs {place}");
    }
    let mut names: Vec<&str> = here.collect();
    names.sort_unstable();
    names.dedup();
    format!("unknown key '{key}'; known here: {}", names.join(", "))
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
