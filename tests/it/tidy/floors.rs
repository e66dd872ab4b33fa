//! The floors of a crate: which of its folders may name which, and that no two of its files need each
//! other. In the daemon no two of its modules do, whatever files they consist of: what a module is put
//! together from does not know it. What only tests name does not count.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{TextFile, code, files};
use super::{none, one};

/// Crates in floors: where their source lies, and the folders in it, from the lowest.
const FLOORS: &[(&str, &[&str])] = &[("model/src/", &["rows", "rules", "query"])];

/// Which modules of its own crate each file names, both as paths from the crate's root.
fn imports(files: &[TextFile], source: &str) -> BTreeMap<String, BTreeSet<String>> {
    let ours = files.iter().filter(|file| file.is_rust() && file.path.starts_with(source));
    let texts: BTreeMap<String, String> = ours
        .map(|file| (module(&file.path[source.len()..]), code(&file.text)))
        .filter(|(module, _)| module != "lib")
        .collect();
    let of = |(name, text): (&String, &String)| {
        let shipped = shipped(text);
        let named = shipped.split("crate::").skip(1).flat_map(paths);
        let known = named.filter_map(|path| longest(&texts, &path)).filter(|module| module != name);
        (name.clone(), known.collect())
    };
    texts.iter().map(of).collect()
}

/// Code without what is compiled for tests alone.
pub(super) fn shipped(code: &str) -> String {
    let mut parts = code.split("#[cfg(test)]");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(after_item).collect::<String>()
}

/// What comes after the item that a text begins with.
fn after_item(code: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 1 => depth -= 1,
            '}' => return &code[at + 1..],
            ';' if depth == 0 => return &code[at + 1..],
            _ => {}
        }
    }
    ""
}

/// The same for whole modules: the folders and files at the root of a crate. Files for tests are left
/// out.
fn modules(imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let top = |module: &String| module.split('/').next().unwrap_or_default().to_owned();
    let tests = |module: &&String| module.ends_with("_test") || module.contains("/test_");
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, named) in imports.iter().filter(|(name, _)| !tests(name)) {
        let own = top(name);
        let named = named.iter().filter(|name| !tests(name)).map(top).filter(|name| *name != own);
        out.entry(own.clone()).or_default().extend(named);
    }
    out
}

fn module(path: &str) -> String {
    path.trim_end_matches(".rs").trim_end_matches("/mod").to_owned()
}

/// The paths that begin where `crate::` has been read: one, or those of a list at its end.
fn paths(rest: &str) -> Vec<String> {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let (head, tail) = rest.split_at(end.unwrap_or(rest.len()));
    let head = head.trim_end_matches(':').replace("::", "/");
    let Some(list) = tail.strip_prefix('{') else { return vec![head] };
    let list = list.split(['}', '{']).next().unwrap_or_default();
    list.split(',').map(|item| format!("{head}/{}", item.trim().replace("::", "/"))).collect()
}

/// The file that a path leads into.
fn longest(texts: &BTreeMap<String, String>, path: &str) -> Option<String> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let known = |end: &usize| texts.contains_key(&path[..*end]);
    ends.rev().find(known).map(|end| path[..end].to_owned())
}

/// Files that name a higher floor, and files that stand on none.
fn upwards(imports: &BTreeMap<String, BTreeSet<String>>, floors: &[&str]) -> Vec<String> {
    let floor = |module: &str| {
        let folder = module.split('/').next().unwrap_or_default();
        floors.iter().position(|name| *name == folder)
    };
    let mut out = Vec::new();
    for (name, named) in imports {
        let Some(own) = floor(name) else {
            out.push(format!("{name} stands on no floor of {floors:?}"));
            continue;
        };
        let higher = named.iter().filter(|module| floor(module).is_some_and(|other| other > own));
        out.extend(higher.map(|module| format!("{name} must not know {module}")));
    }
    out
}

/// The files that are left when those which need no other are taken away, again and again: those of a
/// circle, and those that stand on one.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut left = imports.clone();
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|_, named| named.iter().any(|name| names.contains(name)));
        if left.len() == names.len() {
            let told = |name| format!("{name} is in a circle, or needs one");
            return names.into_iter().map(told).collect();
        }
    }
}

#[test]
fn files_stand_on_floors_and_in_no_circle() {
    let planted = [
        TextFile::planted("model/src/rows/a.rs", "use crate::rules::{b::f, c};"),
        TextFile::planted("model/src/rules/b.rs", "use crate::rules::c::g;"),
        TextFile::planted("model/src/rules/c.rs", "#[cfg(test)]\nuse crate::rows::a;"),
        TextFile::planted("model/src/query/mod.rs", "use crate::rules::b::f; mod d;"),
        TextFile::planted("model/src/query/d.rs", "fn f() -> crate::query::Page {}"),
        TextFile::planted("model/src/e.rs", "// crate::rows::a"),
    ];
    let found = imports(&planted, "model/src/");
    let up = upwards(&found, FLOORS[0].1);
    let wanted = [
        "e stands on no floor of [\"rows\", \"rules\", \"query\"]",
        "rows/a must not know rules/b",
        "rows/a must not know rules/c",
    ];
    assert_eq!(up, wanted);
    none(circle(&found));
    let mut around = found;
    around.entry("rules/c".to_owned()).or_default().insert("rules/b".to_owned());
    let around = circle(&around);
    assert!(around.iter().any(|text| text.starts_with("rules/b ")), "{around:?}");
    one(&upwards(&BTreeMap::from([("lib2".to_owned(), BTreeSet::new())]), &["a"]), "no floor");
    let all = files();
    for (source, floors) in FLOORS {
        let found = imports(&all, source);
        assert!(found.len() > floors.len(), "{source} was read");
        none(upwards(&found, floors));
        none(circle(&found));
    }
}

#[test]
fn no_module_of_the_daemon_is_known_by_what_it_needs() {
    const DAEMON: &str = "daemon/src/";
    let planted = [
        TextFile::planted("daemon/src/node/mod.rs", "mod own; use crate::events::Sink;"),
        TextFile::planted("daemon/src/node/own.rs", "#[cfg(test)] mod tests;\nuse crate::raft::H;"),
        TextFile::planted(
            "daemon/src/raft.rs",
            "pub struct H; #[cfg(test)] fn f() { if true { crate::node::f() } } use crate::store::S;",
        ),
        TextFile::planted("daemon/src/store.rs", "#[cfg(test)]\nmod tests { use crate::node; }"),
        TextFile::planted("daemon/src/events.rs", "// crate::node"),
        TextFile::planted("daemon/src/events_test.rs", "use crate::node::N;"),
    ];
    let found = modules(&imports(&planted, DAEMON));
    assert_eq!(Vec::from_iter(&found["node"]), ["events", "raft"]);
    assert_eq!(Vec::from_iter(&found["raft"]), ["store"]);
    none(circle(&found));
    let mut around = planted.to_vec();
    around[4].text = "use crate::node::own;".to_owned();
    let around = circle(&modules(&imports(&around, DAEMON)));
    assert_eq!(
        around,
        ["events", "node"].map(|name| format!("{name} is in a circle, or needs one"))
    );
    let found = modules(&imports(&files(), DAEMON));
    assert!(found.len() > 20 && found["start"].contains("node"), "{DAEMON} was read");
    none(circle(&found));
    let knows_start = found.iter().filter(|(_, named)| named.contains("start"));
    none(knows_start.map(|(name, _)| format!("{name} must not know start")).collect());
}
