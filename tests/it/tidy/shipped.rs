//! What is shipped beside the source: configurations, the unit, limits, golden scripts.

use std::path::Path;
use std::process::Command;

use config::Config;

use super::tree::{TextFile, code, files, has_word, root};
use super::{none, one};

/// Shipped configurations that the daemon refuses, or that do not make three nodes.
fn refused(files: &[TextFile]) -> Vec<String> {
    let shipped = files.iter().filter(|f| {
        f.path.starts_with("config/") && f.path.ends_with(".toml") && f.path != "config/Cargo.toml"
    });
    let read: Vec<_> = shipped.map(|f| Config::parse(&f.text, Path::new(&f.path))).collect();
    let nodes: Vec<_> = read.iter().flatten().map(|c| (c.node.to_string(), c.listen)).collect();
    let mut out: Vec<String> =
        read.iter().filter_map(|read| read.as_ref().err()).map(ToString::to_string).collect();
    let names = |n: usize| nodes.iter().filter(|(name, _)| *name == format!("n{n}")).count();
    let ports: std::collections::BTreeSet<_> = nodes.iter().map(|(_, address)| address).collect();
    if out.is_empty() && ((1..=3).any(|n| names(n) != 1) || ports.len() != nodes.len()) {
        out.push(format!("config/ holds {nodes:?} instead of n1, n2, n3 on ports of their own"));
    }
    out
}

/// Limits that nothing in the product uses.
fn idle_limits(files: &[TextFile]) -> Vec<String> {
    let limits = "proto/src/limits.rs";
    let Some(file) = files.iter().find(|file| file.path == limits) else {
        return vec![format!("{limits} is missing")];
    };
    let elsewhere: Vec<String> = files
        .iter()
        .filter(|file| file.is_rust() && file.path != limits)
        .filter(|file| !file.path.starts_with("tests/") && !file.path.starts_with("benches/"))
        .map(|file| code(&file.text))
        .collect();
    let names = file.text.lines().filter_map(|line| line.strip_prefix("pub const "));
    names
        .filter_map(|rest| rest.split(':').next())
        .filter(|name| !elsewhere.iter().any(|code| has_word(code, name)))
        .map(|name| format!("{limits}: nothing enforces {name}"))
        .collect()
}

/// Folders of golden scripts that no test of the same crate names.
fn silent_scripts(files: &[TextFile]) -> Vec<String> {
    let mut out = Vec::new();
    for file in files {
        let Some((owner, rest)) = file
            .path
            .split_once("/testscripts/")
            .or_else(|| file.path.strip_prefix("tests/scripts/").map(|rest| ("tests", rest)))
        else {
            continue;
        };
        let topic = rest.split('/').next().unwrap_or(rest);
        let topic = topic.split('.').next().unwrap_or(topic);
        let runs =
            |f: &&TextFile| f.is_rust() && f.path.starts_with(owner) && has_word(&f.text, topic);
        if !files.iter().any(|f| runs(&f)) {
            out.push(format!("{}: no test of {owner} runs it", file.path));
        }
    }
    out
}

/// Runs `systemd-analyze` on the unit; `None` where the tool is not installed.
fn analyze(unit: &Path, arguments: &[&str]) -> Option<Vec<String>> {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output().ok()?;
    // `verify` warns on stderr and still says 0.
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let fine = output.status.success() && (stderr.is_empty() || arguments[0] != "verify");
    let said = format!("{}{stderr}", String::from_utf8_lossy(&output.stdout));
    Some(if fine { Vec::new() } else { vec![format!("{arguments:?}: {said}")] })
}

/// The unit under a name and with a program that exist here; a template as one of its instances.
fn check_unit(name: &str, text: &str) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join(name.replace('@', "@n1"));
    std::fs::write(&unit, text.replace("/usr/bin/logd", "/bin/true")).unwrap();
    let mut out = analyze(&unit, &["security", "--offline=true", "--threshold=15", "--no-pager"])?;
    out.extend(analyze(&unit, &["verify", "--man=no"])?);
    Some(out)
}

#[test]
fn shipped_configurations_are_right() {
    let bad = [TextFile::planted("config/a.toml", "nod = \"n1\"")];
    let found = refused(&bad);
    assert!(found.iter().any(|text| text.contains("did you mean 'node'")), "{found:?}");
    one(&refused(&[]), "instead of n1, n2, n3");
    none(refused(&files()));
}

#[test]
fn every_limit_is_enforced() {
    let limits = TextFile::planted("proto/src/limits.rs", "pub const A_MAX: usize = 1;\n");
    let comment = TextFile::planted("net/src/a.rs", "// A_MAX\nlet b = A_MAX_B;");
    let used = TextFile::planted("net/src/b.rs", "assert!(len <= A_MAX);");
    one(&idle_limits(&[limits.clone(), comment.clone()]), "nothing enforces A_MAX");
    none(idle_limits(&[limits, comment, used]));
    none(idle_limits(&files()));
}

#[test]
fn every_golden_script_is_run() {
    let script = TextFile::planted("clock/testscripts/hlc/a.txt", "");
    one(&silent_scripts(std::slice::from_ref(&script)), "no test of clock");
    let runner = TextFile::planted("clock/src/hlc_test.rs", "replay(\"testscripts/hlc\")");
    none(silent_scripts(&[script, runner]));
    none(silent_scripts(&files()));
}

#[test]
fn the_units_are_hardened_and_understood() {
    for name in ["logd.service", "logd@.service"] {
        let text = std::fs::read_to_string(root().join("config").join(name)).unwrap();
        let Some(complaints) = check_unit(name, &text) else {
            println!("systemd-analyze is not installed: {name} is not checked");
            return;
        };
        none(complaints);
        let naked = text.replace("SystemCallFilter=", "#").replace("Protect", "#");
        one(&check_unit(name, &naked).unwrap(), "security");
        let mistyped = text.replace("RestartSec=", "RestartSecs=");
        one(&check_unit(name, &mistyped).unwrap(), "RestartSecs");
    }
}

/// The two units are one, but for the name of the node.
///
/// Seen to fail with a line taken out of the template.
#[test]
fn the_template_is_the_unit() {
    let read = |name: &str| {
        let text = std::fs::read_to_string(root().join("config").join(name)).unwrap();
        let text = text[text.find("[Unit]").unwrap()..].to_owned();
        text.replace(" node %i", "").replace("%i.toml", "node.toml").replace(" logd/%i", "")
    };
    assert_eq!(read("logd@.service"), read("logd.service"));
}
