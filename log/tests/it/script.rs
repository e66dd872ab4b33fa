//! The text of a golden script: blocks apart by blank lines. A block is prose (lines with `#`),
//! commands, `---`, and what they print. Words are apart by spaces; `key=value` is an option.

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) prose: Vec<String>,
    pub(crate) commands: Vec<String>,
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

/// A command with its options.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        Self { words: text.split_whitespace().collect() }
    }

    pub(crate) fn word(&self, at: usize) -> &'a str {
        self.words.get(at).unwrap_or_else(|| panic!("word {at} is missing in {self:?}"))
    }

    /// A number among the words.
    pub(crate) fn number(&self, at: usize) -> u64 {
        self.word(at).parse().unwrap_or_else(|_| panic!("word {at} is no number in {self:?}"))
    }

    /// The value of an option.
    pub(crate) fn option(&self, key: &str) -> Option<u64> {
        let value = self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        value.map(|value| value.parse().unwrap_or_else(|_| panic!("{key}={value}")))
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }
}
