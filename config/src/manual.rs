//! What may stand in the file, key by key, for people: the reader knows what it asks for and what fits, the
//! template says what it means.
//!
//! Not here: how a manual page is set (`daemon::man`).

use std::path::Path;

use proto::Name;

use super::parse;
use super::reader::{Known, Notes, Section, table};
use super::template::NodeConfig;

/// Keys that are told of together, or what is to be said of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Dotted name of the table that they stand in; empty for the top of the file.
    pub section: String,
    /// The keys; none where the section is told of.
    pub keys: Vec<Key>,
    /// What they mean.
    pub text: String,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Type, range and default.
    pub kind: String,
}

/// A file for a node that is reached at another address than it listens on, with time servers of its own.
pub const EXAMPLE: &str = r#"node = "n1"
listen = "0.0.0.0:7101"
advertise = "10.0.0.1:7101"
data_dir = "/var/lib/logd/n1"

[tls]
ca = "pki/ca.crt"
cert = "pki/n1.crt"
key = "pki/n1.key"

[clock]
mode = "sntp"
max_error_ms = 50

[[clock.server]]
address = "ntp1.example"
private = true

[[clock.server]]
address = "ntp2.example"
private = true

[[clock.server]]
address = "ntp3.example"
private = true

[http]
metrics = "open"
"#;

/// All keys, in the order of the template; each that the reader asks for, and no other.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let shown = template();
    let mut entries = told(&shown);
    let notes = Notes::default();
    if let Ok(root) = table(&shown) {
        parse::read(&Section::top(&notes, root.get_ref()), Path::new("node.toml"), None);
    }
    for Known { section, key, kind } in notes.keys() {
        // A table is told of by what stands in it.
        let Some(kind) = kind else { continue };
        let of = entries.iter_mut().filter(|entry| entry.section == section);
        let mut places = of.flat_map(|entry| &mut entry.keys);
        match places.find(|place| place.name == key) {
            Some(place) => place.kind = kind,
            // Nobody has said what it means: a test finds it.
            None => {
                let keys = vec![Key { name: key.to_owned(), kind }];
                entries.push(Entry { section, keys, text: String::new() });
            }
        }
    }
    for entry in &mut entries {
        entry.keys.retain(|key| !key.kind.is_empty());
    }
    entries
}

/// A file that shows every key.
#[expect(clippy::expect_used, reason = "a constant that a test parses")]
fn template() -> String {
    let name: Name = "n1".parse().expect("the name follows the rule");
    let config = NodeConfig {
        name: &name,
        address: "127.0.0.1:7101",
        data_dir: None,
        advertise: None,
        time_servers: &["ntp.example:123".to_owned()],
        file: "node.toml",
        signs: true,
        cert_life: None,
    };
    config.text()
}

/// The paragraphs of the template behind its first one, with the keys at their end.
fn told(template: &str) -> Vec<Entry> {
    let mut section = String::new();
    let mut out = Vec::new();
    for paragraph in template.split("\n\n").skip(1) {
        let mut said = Vec::new();
        let mut keys = Vec::new();
        for line in paragraph.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                said.push(comment);
                continue;
            }
            let line = line.strip_prefix('#').unwrap_or(line);
            if line.starts_with('[') {
                line.trim_matches(['[', ']']).clone_into(&mut section);
            } else if let Some((key, _)) = line.split_once(" = ") {
                keys.push(Key { name: key.to_owned(), kind: String::new() });
            }
        }
        out.push(Entry { section: section.clone(), keys, text: said.join(" ") });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    /// Meant to catch: a key without a comment in the template, and one that only the reader knows.
    #[test]
    fn every_key_that_is_read_is_told_of() {
        let entries = entries();
        let dumb: Vec<_> = entries.iter().filter(|entry| entry.text.is_empty()).collect();
        assert!(dumb.is_empty(), "nothing is said of {dumb:?}");
        let keys = entries.iter().flat_map(|entry| &entry.keys);
        assert!(keys.clone().count() >= 30, "{entries:?}");
        let section =
            |name: &'static str| entries.iter().filter(move |entry| entry.section == name);
        let kind = |of: &'static str, name: &str| {
            let mut keys = section(of).flat_map(|entry| &entry.keys);
            keys.find(|key| key.name == name).map(|key| key.kind.as_str())
        };
        assert_eq!(kind("", "node"), Some("text, as \"n1\"; required"));
        assert_eq!(
            kind("clock", "max_error_ms"),
            Some("whole number of milliseconds, 1 to 10000; default 100")
        );
        assert_eq!(kind("http", "enabled"), Some("true or false; default true"));
        assert_eq!(kind("", "join"), Some("list of texts, as [\"n1.example.org:7101\"]"));
        assert_eq!(section("clock.server").flat_map(|entry| &entry.keys).count(), 4);
        assert!(section("retention").any(|entry| entry.keys.is_empty()), "{entries:?}");
    }

    #[test]
    fn the_example_is_a_configuration() {
        let config = Config::parse(EXAMPLE, Path::new("/etc/logd/node.toml")).unwrap();
        assert_eq!(config.warnings(), Vec::<String>::new());
    }
}
