//! The documents: commands that exist, and files that are there.

use std::path::{Component, Path, PathBuf};
use std::process::Command;

use proto::{ErrorCode, ProblemCode};

use super::tree::{TextFile, files, root};
use super::{none, one};

const ARCHITECTURE_LINES_MAX: usize = 200;
/// What a newcomer reads at once.
const README_BYTES_MAX: usize = 8 * 1024;

/// What people read, and type from.
fn is_document(file: &TextFile) -> bool {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
    top.contains(&file.path.as_str()) || is_guide(file)
}

/// A page of `docs/`.
fn is_guide(file: &TextFile) -> bool {
    file.path.starts_with("docs/") && file.path.ends_with(".md")
}

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

/// Where a link leads, from the root; `None` for one that leads elsewhere.
fn destination(file: &TextFile, target: &str) -> Option<PathBuf> {
    if target.contains("://") {
        return None;
    }
    if target.is_empty() {
        return Some(PathBuf::from(&file.path));
    }
    let mut path = Path::new(&file.path).parent()?.to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

/// The name that a heading is linked by.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Links to files of the repository that are not there, or to headings that the file does not have.
fn dead_links(file: &TextFile, files: &[TextFile]) -> Vec<String> {
    let targets = file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let mut out = Vec::new();
    for target in targets {
        let (to, heading) = target.split_once('#').unwrap_or((target, ""));
        let Some(path) = destination(file, to) else { continue };
        // Pictures are no text.
        if !root().join(&path).exists() && Path::new(&file.path) != path {
            out.push(format!("{}: there is no {}", file.path, path.display()));
            continue;
        }
        let own = (Path::new(&file.path) == path).then_some(file);
        let there = own.or_else(|| files.iter().find(|file| Path::new(&file.path) == path));
        let mut headings =
            there.into_iter().flat_map(|there| there.text.lines().filter(|l| l.starts_with('#')));
        if !heading.is_empty()
            && !headings.any(|line| anchor(line.trim_start_matches('#')) == heading)
        {
            out.push(format!("{}: {} has no heading {heading}", file.path, path.display()));
        }
    }
    out
}

/// Pages that nobody finds from the README.
fn unlinked(readme: &TextFile, files: &[TextFile]) -> Vec<String> {
    let guides = files.iter().filter(|file| is_guide(file));
    let lost = guides.filter(|file| !readme.text.contains(&format!("]({})", file.path)));
    lost.map(|file| format!("README.md: no link to {}", file.path)).collect()
}

fn too_long(readme: &TextFile) -> Vec<String> {
    let bytes = readme.text.len();
    let text = format!("{}: {bytes} bytes of {README_BYTES_MAX}", readme.path);
    (bytes > README_BYTES_MAX).then_some(text).into_iter().collect()
}

/// Errors, problems and exit codes that the page about trouble says nothing of.
fn unexplained(page: &TextFile) -> Vec<String> {
    let rows: Vec<&str> = page.text.lines().filter(|line| line.starts_with('|')).collect();
    let mut out = Vec::new();
    let mut need = |there: bool, what: String| {
        if !there {
            out.push(format!("{}: nothing about {what}", page.path));
        }
    };
    for code in (0..64).filter_map(|number| ErrorCode::try_from(number).ok()) {
        let row = |row: &&str| {
            row.starts_with(&format!("| `{}` | {} |", code.word(), code.exit_code()))
                && row.contains(code.hint())
        };
        need(rows.iter().any(row), format!("the error {} and what to try", code.word()));
    }
    for code in ProblemCode::all() {
        let begins = format!("| `{}` |", code.word());
        need(rows.iter().any(|row| row.starts_with(&begins)), format!("problem {}", code.word()));
    }
    let column = |row: &str, at: usize| row.split('|').nth(at).unwrap_or("").trim().to_owned();
    for (program, source, at) in
        [("logctl", "proto/src/exit_code.rs", 1), ("logd", "daemon/src/exit.rs", 3)]
    {
        let text = std::fs::read_to_string(root().join(source)).unwrap();
        for number in numbers(&text) {
            let there = rows.iter().any(|row| column(row, at) == number);
            need(there, format!("exit code {number} of {program}"));
        }
    }
    out
}

/// The numbers of an enumeration: `Usage = 2,`.
fn numbers(source: &str) -> Vec<String> {
    let ends = source.lines().filter_map(|line| line.trim().strip_suffix(','));
    let pairs = ends.filter_map(|line| line.split_once(" = "));
    let found = pairs.filter(|(name, number)| {
        name.chars().all(char::is_alphanumeric) && number.chars().all(|c| c.is_ascii_digit())
    });
    let found: Vec<_> = found.map(|(_, number)| number.to_owned()).collect();
    assert!(found.len() >= 10, "{found:?}");
    found
}

#[test]
fn commands_in_the_documents_exist() {
    let planted = |line: &str| TextFile::planted("a.md", &format!("```\n{line}\n```\n"));
    one(&wrong_commands(&planted("make coffee")), "no target coffee");
    one(&wrong_commands(&planted("logctl brew --to bob")), "no command brew");
    one(&wrong_commands(&planted("logctl send --too bob \"hi\"")), "no option --too");
    one(&wrong_commands(&planted("logd --confg a.toml")), "no option --confg");
    let files = files();
    let documents: Vec<_> = files.iter().filter(|file| is_document(file)).collect();
    assert!(documents.len() >= 14, "{} documents", documents.len());
    for file in documents {
        none(wrong_commands(file));
    }
}

#[test]
fn documents_are_there_short_and_linked() {
    let files = files();
    let planted = |text: &str| TextFile::planted("docs/a.md", text);
    one(&dead_links(&planted("[x](nowhere.md)"), &files), "no docs/nowhere.md");
    one(&dead_links(&planted("[x](../README.md#coffee)"), &files), "no heading coffee");
    one(&dead_links(&planted("# A cup\n[x](#a-cup) [y](#a-pot)"), &files), "no heading a-pot");
    let readme = files.iter().find(|file| file.path == "README.md").unwrap();
    let lost = [planted("nobody links here")];
    one(&unlinked(readme, &lost), "no link to docs/a.md");
    one(&too_long(&planted(&"x".repeat(README_BYTES_MAX + 1))), "8193 bytes");

    none(too_long(readme));
    none(unlinked(readme, &files));
    for name in ["CHANGELOG.md", "LICENSE", "deny.toml", "CONTRIBUTING.md", "SECURITY.md"] {
        assert!(files.iter().any(|file| file.path == name), "{name} is missing");
    }
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        none(dead_links(file, &files));
    }
    let architecture = files.iter().find(|file| file.path == "ARCHITECTURE.md").unwrap();
    let lines = architecture.text.lines().count();
    assert!(lines <= ARCHITECTURE_LINES_MAX, "ARCHITECTURE.md: {lines} lines");
    assert!(architecture.text.matches("Invariant:").count() >= 8);
}

#[test]
fn every_error_problem_and_exit_code_is_explained() {
    let files = files();
    let page = files.iter().find(|file| file.path == "docs/troubleshooting.md").unwrap();
    let without = |row: &str| {
        assert!(page.text.contains(row), "{row}");
        TextFile::planted(&page.path, &page.text.replace(row, "| x"))
    };
    one(&unexplained(&without("| `deadline` | 7")), "the error deadline");
    one(&unexplained(&without("| `two_lives`")), "problem two_lives");
    one(&unexplained(&without("| 141")), "exit code 141 of logctl");
    none(unexplained(page));
}
