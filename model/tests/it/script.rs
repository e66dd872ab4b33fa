//! The text of a golden script: blocks apart by blank lines. A block is prose (lines with `#`),
//! commands, `---`, and what they print. `+ ` before a command puts it into the entry of the
//! command before. Words are apart by spaces; `key=value` is an option, `key="a b"` quotes.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) prose: Vec<String>,
    pub(crate) commands: Vec<String>,
}

/// One line of a script.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) joins: bool,
    pub(crate) words: Vec<String>,
    pub(crate) options: BTreeMap<String, String>,
}

pub(crate) fn parse(text: &str) -> Vec<Block> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks
        .map(|block| {
            let lines = block.lines().filter(|line| !line.trim().is_empty());
            let input = lines.take_while(|line| *line != "---").map(str::to_owned);
            let (prose, commands) = input.partition(|line| line.starts_with('#'));
            Block { prose, commands }
        })
        .collect()
}

impl Line {
    pub(crate) fn parse(text: &str) -> Self {
        let joined = text.strip_prefix("+ ");
        let mut line =
            Self { joins: joined.is_some(), words: Vec::new(), options: BTreeMap::new() };
        for token in tokens(joined.unwrap_or(text)) {
            match token.split_once('=') {
                Some((key, value)) => {
                    let old = line.options.insert(key.to_owned(), value.to_owned());
                    assert!(old.is_none(), "option {key} twice in {text}");
                }
                None => line.words.push(token),
            }
        }
        line
    }

    pub(crate) fn word(&self, at: usize) -> &str {
        self.words.get(at).unwrap_or_else(|| panic!("word {at} is missing in {self:?}"))
    }

    /// Takes an option; the empty text if it is not given.
    pub(crate) fn text(&mut self, key: &str) -> String {
        self.options.remove(key).unwrap_or_default()
    }

    pub(crate) fn number<N: std::str::FromStr + Default>(&mut self, key: &str) -> N {
        let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{key}={text}"));
        self.options.remove(key).map(number).unwrap_or_default()
    }

    /// Fails where an option was given that nobody took.
    pub(crate) fn end(&self) {
        assert!(self.options.is_empty(), "unknown options in {self:?}");
    }
}

fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut token, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => tokens.push(std::mem::take(&mut token)),
            c => token.push(c),
        }
    }
    tokens.push(token);
    tokens.retain(|token| !token.is_empty());
    tokens
}
