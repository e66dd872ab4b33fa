//! Golden scripts for the configuration: what a person writes and what is answered.
//!
//! `REGENERATE=1` records the answers again; the difference is reviewed like code.

use std::fs;
use std::path::Path;

use super::*;

const FILE: &str = "cluster/node.toml";

/// A script is prose with examples between `<<<` and `>>>`; what follows up to the next empty line
/// is the answer.
fn replay(script: &str) -> String {
    let mut out = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        out += &format!("{line}\n");
        if line != "<<<" {
            continue;
        }
        let input: Vec<&str> = lines.by_ref().take_while(|line| *line != ">>>").collect();
        let input = input.join("\n") + "\n";
        let answer = match Config::parse(&input, Path::new(FILE)) {
            Ok(config) => format!("{config:#?}"),
            Err(error) => error.to_string(),
        };
        out += &format!("{input}>>>\n{answer}\n\n");
        while lines.next().is_some_and(|line| !line.is_empty()) {}
    }
    out
}

#[test]
fn configurations_are_answered_as_the_scripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts/config");
    golden::replay(&folder, 2, |_, script| replay(script));
}

fn good(folder: &Path) -> String {
    fs::create_dir(folder.join("pki")).unwrap();
    for file in ["ca.crt", "n1.crt", "n1.key"] {
        fs::write(folder.join("pki").join(file), "").unwrap();
    }
    "node = \"n1\"\nlisten = \"127.0.0.1:7101\"\ndata_dir = \"data/n1\"\n\
     [tls]\nca = \"pki/ca.crt\"\ncert = \"pki/n1.crt\"\nkey = \"pki/n1.key\"\n\
     [clock]\nmode = \"local\"\n"
        .to_owned()
}

#[test]
fn paths_are_relative_to_the_file_and_missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node1.toml");
    fs::write(&file, good(folder.path())).unwrap();
    let config = Config::load(&file, None).unwrap();
    assert_eq!(config.tls.key, folder.path().join("pki/n1.key"));
    assert_eq!(config.data_dir, folder.path().join("data/n1"));
    fs::remove_file(folder.path().join("pki/n1.key")).unwrap();
    fs::write(folder.path().join("data"), "").unwrap();
    let error = Config::load(&file, None).unwrap_err().to_string();
    assert!(error.contains("node1.toml:7:7: 'tls.key': "), "{error}");
    assert!(error.contains("no such file"), "{error}");
}

#[test]
fn the_command_lines_address_wins_and_is_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node1.toml");
    let text = good(folder.path());
    fs::write(&file, &text).unwrap();
    let config = Config::load(&file, Some("127.0.0.2:9".parse().unwrap())).unwrap();
    assert_eq!(
        (config.listen.to_string(), config.advertise.as_str()),
        ("127.0.0.2:9".into(), "127.0.0.2:9")
    );
    assert!(Config::load(&file, Some("127.0.0.2:0".parse().unwrap())).is_err());
    fs::write(&file, text.replace("listen", "#")).unwrap();
    assert!(Config::load(&file, None).is_err());
    assert!(Config::load(&file, Some("127.0.0.2:9".parse().unwrap())).is_ok());
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Config::load(&folder.path().join("none.toml"), None).unwrap_err();
    assert!(matches!(missing, ConfigError::Read { .. }), "{missing}");
    let long = folder.path().join("long.toml");
    fs::write(&long, "#".repeat((1 << 20) + 1)).unwrap();
    let error = Config::load(&long, None).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("longer than 1 MiB"), "{cause}");
    let binary = folder.path().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    assert!(Config::load(&binary, None).is_err());
}

#[test]
fn a_local_clock_and_too_few_servers_are_warned_of() {
    let text = |clock: &str| {
        let folder = tempfile::tempdir().unwrap();
        good(folder.path()).replace("mode = \"local\"\n", clock)
    };
    let warnings = |clock: &str| Config::parse(&text(clock), Path::new(FILE)).unwrap().warnings();
    let servers = |names: &[&str]| -> String {
        names.iter().map(|name| format!("[[clock.server]]\naddress = \"{name}\"\n")).collect()
    };
    assert_eq!(warnings("mode = \"local\"\n").len(), 1);
    assert_eq!(warnings(&servers(&["a"])).len(), 1);
    assert_eq!(
        warnings(&servers(&["a", "b"])),
        ["2 time servers: no liar is tolerated, 3 or more are recommended"]
    );
    assert_eq!(warnings(&servers(&["a", "b", "c"])), Vec::<String>::new());
}

/// The shipped file shows every default behind a '#'. Seen to fail with history_s = 30 there.
#[test]
fn the_defaults_that_are_shown_are_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/node1.toml");
    let shipped = fs::read_to_string(file).unwrap();
    // A time server, an age and a token have no default: what is shown is an example.
    let example = [
        "#[[",
        "#address",
        "#poll_s",
        "#private",
        "#timeout_ms",
        "#max_age",
        "#token_file",
        "#cert =",
        "#key =",
    ];
    let shown = |line: &&str| {
        let key = line.strip_prefix('#').unwrap_or_default();
        key.starts_with(|c: char| c.is_ascii_lowercase())
            && !example.iter().any(|start| line.starts_with(start))
    };
    let defaults = shipped.lines().filter(shown).count();
    assert!(defaults >= 14, "{defaults}");
    let all: String = shipped
        .lines()
        .map(|line| if shown(&line) { &line[1..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    let (said, left_out) =
        (Config::parse(&all, Path::new(FILE)), Config::parse(&shipped, Path::new(FILE)));
    let mut said = said.unwrap();
    assert_eq!(said.clock.settings.max_error_ms, Some(100));
    assert_eq!(said.clock.settings.max_records, Some(0));
    said.clock.settings = FileSettings::default();
    assert_eq!(said, left_out.unwrap());
}

/// As `logctl cluster create` writes them.
#[test]
fn three_time_servers_are_taken_without_a_word() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/node1.toml");
    let shipped = fs::read_to_string(file).unwrap();
    let server = |name: &str| {
        format!(
            "\n[[clock.server]]\naddress = \"{name}:123\"\n#poll_s = 64\n#private = false\n\
             #timeout_ms = 1000\n"
        )
    };
    let servers: String = ["a.example", "192.0.2.1", "[2001:db8::1]"].map(server).concat();
    let text = shipped.replace("mode = \"local\"", "mode = \"sntp\"") + &servers;
    let config = Config::parse(&text, Path::new(FILE)).unwrap();
    assert_eq!(config.clock.servers.len(), 3);
    assert_eq!(config.warnings(), [""; 0]);
}
