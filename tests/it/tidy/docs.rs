//! The documents: commands that exist, and files that are there.

use std::path::PathBuf;
use std::process::Command;

use super::tree::{TextFile, files, root};
use super::{none, one};

const DOCUMENTS: &[&str] = &["README.md", "ARCHITECTURE.md", "docs/http.md"];
const ARCHITECTURE_LINES_MAX: usize = 200;

/// The commands that a document shows: lines of its code blocks, joined where they go on.
fn commands(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut inside = false;
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            let line = line.trim().trim_start_matches("$ ");
            let line = line.split(" #").next().unwrap_or(line);
            out.extend(line.split(['|', ';', '&']).map(|part| part.trim().to_owned()));
        }
    }
    out
}

/// The binary that was built beside this test.
fn binary(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let folder = exe.ancestors().nth(2).unwrap();
    let binary = folder.join(name);
    assert!(binary.exists(), "{} is missing: make build, or make test", binary.display());
    binary
}

/// What is wrong with a command; `None` if it exists with all its options.
fn wrong(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, arguments) = words.split_first()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    match program {
        "make" => {
            let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
            let has = |target: &str| makefile.lines().any(|l| l.starts_with(&format!("{target}:")));
            let targets = arguments.iter().filter(|word| !word.contains('='));
            targets.clone().find(|target| !has(target)).map(|t| format!("make has no target {t}"))
        }
        "logd" | "logctl" => wrong_options(program, arguments),
        _ => None,
    }
}

fn wrong_options(program: &str, arguments: &[&str]) -> Option<String> {
    let is_verb = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let plain = arguments.iter().take_while(|word| !word.starts_with("--")).filter(is_verb);
    // A verb has at most two verbs below it; what comes after is an argument.
    let verbs: Vec<&str> = plain.take(3).copied().collect();
    let help = |verbs: &[&str]| {
        let output = Command::new(binary(program)).args(verbs).arg("--help").output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // Those of every verb stand in a place of their own.
    let every = if program == "logctl" { help(&["help", "options"]) } else { None };
    let deepest = (0..=verbs.len()).rev().find_map(|depth| help(&verbs[..depth]));
    let text = deepest? + &every.unwrap_or_default();
    if program == "logctl" && !arguments.is_empty() && help(&verbs[..verbs.len().min(1)]).is_none()
    {
        return Some(format!("{program} has no command {}", arguments.join(" ")));
    }
    let options = arguments.iter().filter(|word| word.starts_with("--"));
    let names = options.map(|word| word.split('=').next().unwrap_or(word));
    let known = |name: &str| text.split([' ', ',', '\n', '=', '[']).any(|word| word == name);
    names
        .into_iter()
        .find(|name| !known(name))
        .map(|name| format!("{program} {}: no option {name}", verbs.join(" ")))
}

fn wrong_commands(file: &TextFile) -> Vec<String> {
    let wrong = commands(&file.text).into_iter().filter_map(|command| wrong(&command));
    wrong.map(|text| format!("{}: {text}", file.path)).collect()
}

/// Links to files of the repository that are not there.
fn dead_links(file: &TextFile, files: &[TextFile]) -> Vec<String> {
    let targets = file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .filter(|target| {
            !files.iter().any(|f| f.path == *target || f.path.starts_with(&format!("{target}/")))
        })
        .map(|target| format!("{}: there is no {target}", file.path))
        .collect()
}

#[test]
fn commands_in_the_documents_exist() {
    let planted = |line: &str| TextFile::planted("a.md", &format!("```\n{line}\n```\n"));
    one(&wrong_commands(&planted("make coffee")), "no target coffee");
    one(&wrong_commands(&planted("logctl brew --to bob")), "no command brew");
    one(&wrong_commands(&planted("logctl send --too bob \"hi\"")), "no option --too");
    one(&wrong_commands(&planted("logd --confg a.toml")), "no option --confg");
    for file in files().iter().filter(|file| DOCUMENTS.contains(&file.path.as_str())) {
        none(wrong_commands(file));
    }
}

#[test]
fn documents_are_there_short_and_linked() {
    let files = files();
    one(&dead_links(&TextFile::planted("a.md", "[x](nowhere.md)"), &files), "no nowhere.md");
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "deny.toml"] {
        let file = files.iter().find(|file| file.path == name);
        let file = file.unwrap_or_else(|| panic!("{name} is missing"));
        none(dead_links(file, &files));
    }
    let architecture = files.iter().find(|file| file.path == "ARCHITECTURE.md").unwrap();
    let lines = architecture.text.lines().count();
    assert!(lines <= ARCHITECTURE_LINES_MAX, "ARCHITECTURE.md: {lines} lines");
    assert!(architecture.text.matches("Invariant:").count() >= 8);
}
