//! Length of files and functions, and words that have no place in the tree.

use super::floors::shipped;
use super::tree::{TextFile, code, files, has_word};
use super::{none, one};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Where what must stay true is asserted, and how often at least in a thousand lines.
const ASSERTING: &[&str] = &["log/src/", "daemon/src/raft/", "clock/src/", "model/src/"];
const ASSERTIONS_MIN: usize = 10;

/// Files over the ceiling.
fn long_files(files: &[TextFile]) -> Vec<String> {
    let lines = |file: &TextFile| file.text.lines().count();
    files
        .iter()
        .filter(|file| file.is_rust() && lines(file) > FILE_LINES_MAX)
        .map(|file| format!("{}: {} lines, {FILE_LINES_MAX} at most", file.path, lines(file)))
        .collect()
}

/// Functions over the ceiling: lines of code between the braces, as clippy counts them, but inside
/// macros and in tests as well.
fn long_functions(files: &[TextFile]) -> Vec<String> {
    let mut out = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = code(&file.text);
        for (at, _) in code.match_indices("fn ") {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let Some(body) = body(&code[at..]) else { continue };
            let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
            if lines > FUNCTION_LINES_MAX {
                let line = code[..at].matches('\n').count() + 1;
                out.push(format!(
                    "{}:{line}: a function of {lines} lines, {FUNCTION_LINES_MAX} at most",
                    file.path
                ));
            }
        }
    }
    out
}

/// What stands between the braces of the function that begins here; `None` if it has no body.
fn body(code: &str) -> Option<&str> {
    let mut round = 0_i32;
    let open = code.char_indices().find(|&(_, c)| {
        round += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        round == 0 && matches!(c, '{' | ';')
    });
    let (open, _) = open.filter(|&(_, c)| c == '{')?;
    let mut depth = 0_i32;
    let close = code[open..].char_indices().find(|&(_, c)| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    Some(&code[open + 1..open + close?.0])
}

/// Crates that assert too little of what must stay true; tests do not count.
fn few_assertions(files: &[TextFile]) -> Vec<String> {
    let mut out = Vec::new();
    for place in ASSERTING {
        let (mut lines, mut found) = (0, 0);
        let of = |file: &&TextFile| file.path.starts_with(place) && file.is_rust();
        let is_test =
            |file: &&TextFile| file.path.ends_with("_test.rs") || file.path.contains("/test_");
        for file in files.iter().filter(of).filter(|file| !is_test(file)) {
            let code = shipped(&code(&file.text));
            lines += code.lines().count();
            let names = ["assert!(", "assert_eq!(", "assert_ne!("];
            found += names.iter().map(|name| code.matches(name).count()).sum::<usize>();
        }
        if found * 1000 < lines * ASSERTIONS_MIN {
            out.push(format!(
                "{place}: {found} assertions in {lines} lines, {ASSERTIONS_MIN} in 1000 at least"
            ));
        }
    }
    out
}

/// Words that say that something is not finished, or that silence a lint without a reason.
fn unfinished(files: &[TextFile]) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let in_code = [concat!("to", "do!"), concat!("unimplemented", "!"), concat!("#[igno", "re")];
    let allow = [concat!("#[all", "ow("), concat!("#![all", "ow(")];
    let mut out = Vec::new();
    for file in files.iter().filter(|file| file.path != "Cargo.lock") {
        for (line, text) in (1..).zip(file.text.lines()) {
            let found = words.iter().find(|word| has_word(text, word));
            let silenced = || in_code.iter().chain(&allow).find(|word| text.contains(**word));
            if let Some(word) = found.or_else(|| silenced().filter(|_| file.is_rust())) {
                out.push(format!("{}:{line}: {word}", file.path));
            }
        }
    }
    out
}

/// Folders of one machine, and what a person would not write into a product.
fn machine_paths(files: &[TextFile]) -> Vec<String> {
    let paths = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut out = Vec::new();
    for file in files {
        for (line, text) in (1..).zip(file.text.lines()) {
            if let Some(path) = paths.iter().find(|path| text.contains(**path)) {
                out.push(format!("{}:{line}: a path of one machine: {path}", file.path));
            }
        }
    }
    out
}

/// What reads as translated in a text that a user sees: in a literal, in the help of `logctl`, or in a
/// document. Each has a plain word: again, no longer, failed.
fn stilted(files: &[TextFile]) -> Vec<String> {
    let phrases = [concat!("an", "ew"), concat!("in ", "vain"), concat!("came ", "to nothing")];
    let is_seen = |file: &TextFile, line: &str| match file.is_rust() {
        true => !line.starts_with("//") || file.path.starts_with("ctl/src/cli"),
        false => file.path.ends_with(".md") && file.path != "ARCHITECTURE.md",
    };
    let mut out = Vec::new();
    for file in files {
        for (line, text) in (1..).zip(file.text.lines()) {
            let found = phrases.iter().find(|phrase| has_word(text, phrase));
            if let Some(phrase) = found.filter(|_| is_seen(file, text.trim_start())) {
                out.push(format!("{}:{line}: say it more plainly: {phrase}", file.path));
            }
        }
    }
    out
}

#[test]
fn files_and_functions_are_short() {
    let planted = [TextFile::planted("a.rs", &"\n".repeat(601))];
    one(&long_files(&planted), "601 lines");
    let body = "let a = \"}\"; // }\n".repeat(71);
    let long = TextFile::planted("a.rs", &format!("fn f<T>(x: [u8; 4]) -> T {{\n{body}}}\n"));
    let macro_too = TextFile::planted("b.rs", &format!("m! {{ pub async fn g() {{\n{body}}} }}"));
    one(&long_functions(&[long]), "a.rs:1: a function of 71 lines");
    one(&long_functions(&[macro_too]), "b.rs:1: a function of 71 lines");
    let short = format!("trait T {{ fn f(&self, x: [u8; 4]); }}\n{body}\nfn g() {{}}");
    none(long_functions(&[TextFile::planted("c.rs", &short)]));

    let files = files();
    none(long_files(&files));
    none(long_functions(&files));
}

#[test]
fn what_must_stay_true_is_asserted() {
    let tests = "#[cfg(test)]\nmod tests {\nassert!(c);\n}";
    let text = format!("{}assert!(a);\n// assert!(b);\n{tests}", "\n".repeat(200));
    one(&few_assertions(&[TextFile::planted("log/src/a.rs", &text)]), "1 assertions in 202 lines");
    let before = format!("{tests}\n{}assert!(a);\nassert!(b);\n", "\n".repeat(99));
    none(few_assertions(&[TextFile::planted("log/src/a.rs", &before)]));
    let text = format!("{}assert_eq!(a, b);\ndebug_assert!(a);\n", "\n".repeat(100));
    none(few_assertions(&[TextFile::planted("log/src/a.rs", &text)]));
    none(few_assertions(&files()));
}

#[test]
fn nothing_is_left_unfinished_or_silenced() {
    let note = concat!("// TO", "DO: later");
    one(&unfinished(&[TextFile::planted("a.md", note)]), "a.md:1");
    let silenced = concat!("\n#[all", "ow(dead_code)]");
    one(&unfinished(&[TextFile::planted("a.rs", silenced)]), "a.rs:2");
    none(unfinished(&files()));
}

#[test]
fn what_a_user_reads_is_plain_english() {
    let line = concat!("    f(\"made an", "ew\");");
    one(&stilted(&[TextFile::planted("net/src/a.rs", line)]), "net/src/a.rs:1");
    let comment = concat!("/// Begins an", "ew.");
    none(stilted(&[TextFile::planted("net/src/a.rs", comment)]));
    one(&stilted(&[TextFile::planted("ctl/src/cli/a.rs", comment)]), "ctl/src/cli/a.rs:1");
    one(&stilted(&[TextFile::planted("README.md", comment)]), "README.md:1");
    none(stilted(&files()));
}

#[test]
fn no_file_knows_a_machine() {
    let path = concat!("see /wo", "rk/notes.md");
    one(&machine_paths(&[TextFile::planted("a.md", path)]), "a.md:1");
    none(machine_paths(&files()));
}
