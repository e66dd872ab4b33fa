//! The files of the repository, and Rust source without its texts and comments.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file.
#[derive(Debug, Clone)]
pub(super) struct TextFile {
    /// Path below the root, with forward slashes.
    pub(super) path: String,
    /// What is in it.
    pub(super) text: String,
}

impl TextFile {
    /// A file that exists only in a test.
    pub(super) fn planted(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether it is Rust source.
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The root of the repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the root").to_owned()
}

/// All text files, in order of their paths; without what git ignores.
pub(super) fn files() -> Vec<TextFile> {
    let mut out = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if [".git", "target", "pki", "data", "proptest-regressions"].contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                out.push(TextFile { path, text });
            }
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(out.len() > 50, "this is not the repository");
    out
}

/// Rust source with comments and the insides of texts and characters blanked, line by line the
/// same, so that words and braces can be counted.
pub(super) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Where the comment, text or character that begins at `at` ends; `at` if none begins there.
fn skipped(chars: &[char], at: usize) -> usize {
    let next = |ahead: usize| chars.get(at + ahead).copied().unwrap_or('\0');
    match (chars[at], next(1)) {
        ('/', '/') => (at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment(chars, at),
        ('"', _) => quoted(chars, at, '"'),
        ('r', '"' | '#') if !follows_word(chars, at) => raw(chars, at),
        ('\'', '\\') => quoted(chars, at, '\''),
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn follows_word(chars: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|i| chars[i]);
    // `br"…"` is raw too.
    before.is_some_and(|c| (c.is_alphanumeric() && c != 'b') || c == '_')
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_usize, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    chars.len()
}

fn quoted(chars: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let closing: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
    let body = at + 2 + hashes;
    let end = chars[body..].windows(closing.len()).position(|window| *window == closing[..]);
    end.map_or(chars.len(), |end| body + end + closing.len())
}

/// Whether `word` stands in `line` with nothing of a name before or after it.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_name) && !line[at + word.len()..].starts_with(part_of_name)
    })
}

#[test]
fn texts_and_comments_are_blanked_and_lines_kept() {
    let text = "a { // {\n\"}\\\"}\" /* { /* */ \n} */ r#\"{\"}\"# '{' '\\'' 'life: br\"}\" }";
    let code = code(text);
    assert_eq!(code.matches('{').count(), 1);
    assert_eq!(code.matches('}').count(), 1);
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(has_word(&code, "life") && !has_word(&code, "lif"));
}
