//! Licences, sources and bans of everything that is linked, from cargo's own metadata and
//! `deny.toml`. Advisories need the network and cargo-deny: `make deny`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use super::tree::root;
use super::{none, one};

/// Crates of which there must be one version, because two would not understand each other or
/// because they are pinned together.
const SINGLE: &[&str] =
    &["bytes", "openraft", "prost", "quinn", "quinn-proto", "ring", "rocksdb", "rustls", "tokio"];
/// The engine's crates move together.
const SIBLINGS: &[&str] = &["openraft", "openraft-macros", "openraft-rt", "openraft-rt-tokio"];

/// What cargo knows about the packages of this platform.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    packages: Vec<Package>,
    members: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Package {
    id: String,
    name: String,
    version: String,
    licence: String,
    source: String,
    /// Ids of what it links, without dev-dependencies.
    links: Vec<String>,
    /// Names of what its manifest lists, dev-dependencies included.
    lists: Vec<String>,
}

impl Metadata {
    /// Asks cargo, without the network.
    pub(super) fn read() -> Self {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(cargo)
            .args(["metadata", "--format-version=1", "--locked", "--offline"])
            .args(["--filter-platform", &platform])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let about: BTreeMap<&str, &Value> =
            array(&json["packages"]).iter().map(|p| (text(&p["id"]), p)).collect();
        let packages = array(&json["resolve"]["nodes"]);
        let packages =
            packages.iter().map(|node| Package::from_json(node, about[text(&node["id"])]));
        let members: BTreeSet<&str> = array(&json["workspace_members"]).iter().map(text).collect();
        let members = members.iter().map(|id| text(&about[id]["name"]).to_owned()).collect();
        Self { packages: packages.collect(), members }
    }

    /// Packages that exist only in a test, all of them members, and what they link.
    pub(super) fn planted(packages: &[(&str, &[&str])]) -> Self {
        let package = |name: &str, links: &[&str]| Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: "MIT".to_owned(),
            links: links.iter().map(|&name| name.to_owned()).collect(),
            lists: links.iter().map(|&name| name.to_owned()).collect(),
            ..Package::default()
        };
        let known: BTreeSet<&str> = packages.iter().map(|(name, _)| *name).collect();
        let leaves = packages.iter().flat_map(|(_, links)| *links);
        let leaves: BTreeSet<&str> = leaves.copied().filter(|name| !known.contains(name)).collect();
        let members = known.iter().map(|&name| name.to_owned()).collect();
        let packages = packages.iter().map(|(name, links)| package(name, links));
        Self {
            packages: packages.chain(leaves.iter().map(|name| package(name, &[]))).collect(),
            members,
        }
    }

    /// Names of the workspace's packages.
    pub(super) fn members(&self) -> Vec<String> {
        self.members.clone()
    }

    /// Names that a member's manifest lists.
    pub(super) fn direct(&self, member: &str) -> Vec<String> {
        self.packages.iter().filter(|p| p.name == member).flat_map(|p| p.lists.clone()).collect()
    }

    /// Names of everything that a member links, through others too.
    pub(super) fn linked(&self, member: &str) -> BTreeSet<String> {
        let by_id: BTreeMap<&str, &Package> =
            self.packages.iter().map(|p| (p.id.as_str(), p)).collect();
        let mut seen = BTreeSet::new();
        let mut left: Vec<&Package> = self.packages.iter().filter(|p| p.name == member).collect();
        while let Some(package) = left.pop() {
            let links = package.links.iter().filter(|id| seen.insert((*id).clone()));
            left.extend(links.filter_map(|id| by_id.get(id.as_str())));
        }
        seen.iter().filter_map(|id| by_id.get(id.as_str())).map(|p| p.name.clone()).collect()
    }
}

impl Package {
    fn from_json(node: &Value, about: &Value) -> Self {
        let links = array(&node["deps"]).iter().filter(|dep| {
            array(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].as_str() != Some("dev"))
        });
        Self {
            id: text(&node["id"]).to_owned(),
            name: text(&about["name"]).to_owned(),
            version: text(&about["version"]).to_owned(),
            licence: about["license"].as_str().unwrap_or("none").to_owned(),
            source: about["source"].as_str().unwrap_or_default().to_owned(),
            links: links.map(|dep| text(&dep["pkg"]).to_owned()).collect(),
            lists: array(&about["dependencies"]).iter().map(|d| text(&d["name"]).into()).collect(),
        }
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What `deny.toml` allows and bans.
struct Policy {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
}

impl Policy {
    fn read() -> Self {
        let file = std::fs::read_to_string(root().join("deny.toml")).unwrap();
        let table: toml::Table = file.parse().unwrap();
        let names = |value: &toml::Value, key: Option<&str>| -> BTreeSet<String> {
            let name = |v: &toml::Value| key.map_or(v, |key| &v[key]).as_str().unwrap().to_owned();
            value.as_array().unwrap().iter().map(name).collect()
        };
        let licences = names(&table["licenses"]["allow"], None);
        let banned = names(&table["bans"]["deny"], Some("name"));
        assert!(licences.contains("Apache-2.0") && banned.contains("aws-lc-sys"));
        Self { licences, banned }
    }

    /// Packages that the policy does not let in.
    fn complaints(&self, metadata: &Metadata) -> Vec<String> {
        let mut out = Vec::new();
        for Package { name, version, licence, source, .. } in &metadata.packages {
            if self.banned.contains(name) {
                out.push(format!("{name} {version} is banned in deny.toml"));
            }
            if !Licence::new(licence).allowed_by(&self.licences) {
                out.push(format!("{name} {version}: licence '{licence}' is not in deny.toml"));
            }
            if !source.is_empty() && !source.contains("github.com/rust-lang/crates.io-index") {
                out.push(format!("{name} {version} does not come from crates.io: {source}"));
            }
        }
        out
    }
}

/// A licence expression, read from the left: names, AND, OR, brackets; `/` is an old OR.
struct Licence {
    words: Vec<String>,
}

impl Licence {
    fn new(text: &str) -> Self {
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let spaced = spaced.replace(" WITH ", "+WITH+");
        let words = spaced.split_whitespace().rev().map(|word| word.replace("+WITH+", " WITH "));
        Self { words: words.collect() }
    }

    fn allowed_by(mut self, names: &BTreeSet<String>) -> bool {
        self.any(names) && self.words.is_empty()
    }

    fn any(&mut self, names: &BTreeSet<String>) -> bool {
        let mut allowed = self.all(names);
        while self.words.pop_if(|word| word == "OR").is_some() {
            allowed |= self.all(names);
        }
        allowed
    }

    fn all(&mut self, names: &BTreeSet<String>) -> bool {
        let mut allowed = self.name(names);
        while self.words.pop_if(|word| word == "AND").is_some() {
            allowed &= self.name(names);
        }
        allowed
    }

    fn name(&mut self, names: &BTreeSet<String>) -> bool {
        match self.words.pop() {
            Some(word) if word == "(" => {
                let allowed = self.any(names);
                self.words.pop_if(|word| word == ")").is_some() && allowed
            }
            word => word.is_some_and(|word| names.contains(&word)),
        }
    }
}

/// Crates with several versions that must have one, and siblings of different age.
fn split(metadata: &Metadata) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &metadata.packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let several = |name: &&&str| versions.get(**name).is_some_and(|found| found.len() > 1);
    let mut out: Vec<String> = SINGLE
        .iter()
        .filter(several)
        .map(|name| format!("{name} in several versions: {:?}", versions[name]))
        .collect();
    let siblings = SIBLINGS.iter().filter_map(|name| versions.get(name));
    let ages: BTreeSet<&str> = siblings.flatten().copied().collect();
    if ages.len() > 1 {
        out.push(format!("the engine's crates differ in age: {ages:?}"));
    }
    out
}

#[test]
fn licences_sources_and_bans_are_kept() {
    let policy = Policy::read();
    one(&policy.complaints(&Metadata::planted(&[("aws-lc-sys", &[])])), "banned");
    let mut planted = Metadata::planted(&[("a", &[])]);
    planted.packages[0].licence = "MIT AND GPL-3.0-only".to_owned();
    one(&policy.complaints(&planted), "GPL-3.0-only");
    let mut planted = Metadata::planted(&[("a", &[])]);
    planted.packages[0].source = "git+https://example.org/a".to_owned();
    one(&policy.complaints(&planted), "crates.io");
    none(policy.complaints(&Metadata::read()));
}

#[test]
fn licence_expressions_are_understood() {
    let names = ["MIT", "A WITH X"].into_iter().map(str::to_owned).collect();
    for (text, allowed) in [
        ("MIT", true),
        ("GPL", false),
        ("GPL OR MIT", true),
        ("GPL/MIT", true),
        ("GPL AND MIT", false),
        ("(GPL OR MIT) AND A WITH X", true),
        ("GPL OR MIT AND GPL", false),
        ("A", false),
        ("none", false),
        ("MIT MIT", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(Licence::new(text).allowed_by(&names), allowed, "{text}");
    }
}

#[test]
fn pinned_crates_have_one_version() {
    let mut planted = Metadata::planted(&[("rustls", &["ring"])]);
    planted.packages.push(Package { version: "2.0.0".into(), ..planted.packages[0].clone() });
    one(&split(&planted), "rustls in several versions");
    let mut planted = Metadata::planted(&[("openraft", &["openraft-rt"])]);
    planted.packages[0].version = "1.0.1".to_owned();
    one(&split(&planted), "differ in age");
    none(split(&Metadata::read()));
}
