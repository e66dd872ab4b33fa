//! One command of a script: a verb, words, and options.

use std::collections::BTreeMap;
use std::str::FromStr;

/// A command: a verb, words with spaces between them, and options `key=value`, which stand anywhere.
/// Quotes keep a space: `key="a b"`.
#[derive(Debug)]
pub struct Line {
    /// What is done.
    pub verb: String,
    /// What stands behind the verb, without options.
    pub words: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Line {
    /// Reads a command.
    ///
    /// # Panics
    /// Where an option is given twice.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (mut words, mut options) = (Vec::new(), BTreeMap::new());
        for token in tokens(text) {
            match token.split_once('=') {
                Some((key, value)) => {
                    let old = options.insert(key.to_owned(), value.to_owned());
                    assert!(old.is_none(), "option {key} twice in {text}");
                }
                None => words.push(token),
            }
        }
        let mut words = words.into_iter();
        Self { verb: words.next().unwrap_or_default(), words: words.collect(), options }
    }

    /// A word behind the verb, the first at 0.
    ///
    /// # Panics
    /// Where there are not so many.
    #[must_use]
    pub fn word(&self, at: usize) -> &str {
        self.words.get(at).unwrap_or_else(|| panic!("word {at} is missing in {self:?}"))
    }

    /// A word behind the verb as what it stands for.
    ///
    /// # Panics
    /// Where it does not stand for one.
    #[must_use]
    pub fn word_as<T: FromStr>(&self, at: usize) -> T {
        self.word(at).parse().unwrap_or_else(|_| panic!("word {at} is no good in {self:?}"))
    }

    /// Whether one of the words is this one.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|one| one == word)
    }

    /// Whether an option is given that nobody has taken yet.
    #[must_use]
    pub fn has_option(&self, key: &str) -> bool {
        self.options.contains_key(key)
    }

    /// Takes an option.
    pub fn option(&mut self, key: &str) -> Option<String> {
        self.options.remove(key)
    }

    /// Takes an option as what it stands for.
    ///
    /// # Panics
    /// Where it does not stand for one.
    pub fn option_as<T: FromStr>(&mut self, key: &str) -> Option<T> {
        let value = self.option(key)?;
        Some(value.parse().unwrap_or_else(|_| panic!("{key}={value} is no good in {self:?}")))
    }

    /// Takes an option; the empty text if it is not given.
    pub fn text(&mut self, key: &str) -> String {
        self.option(key).unwrap_or_default()
    }

    /// Takes an option that is a number; 0 if it is not given.
    ///
    /// # Panics
    /// Where it is no such number.
    pub fn number<N: FromStr + Default>(&mut self, key: &str) -> N {
        self.option_as(key).unwrap_or_default()
    }

    /// Takes all options that are left, in the order of their names.
    pub fn rest(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.options)
    }

    /// Ends the reading of a command.
    ///
    /// # Panics
    /// Where an option was given that nobody took.
    pub fn end(&self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with: quotes kept in what they quote, and options counted among the words.
    #[test]
    fn words_and_options_are_told_apart() {
        let mut line = Line::parse("put a=1  color text=\"x  y\" 7");
        assert_eq!((line.verb.as_str(), line.word(0), line.word_as::<u8>(1)), ("put", "color", 7));
        assert!(line.has("color") && !line.has("put") && line.has_option("text"));
        assert_eq!((line.number::<u64>("a"), line.number::<u64>("b")), (1, 0));
        assert_eq!((line.text("text").as_str(), line.option("text")), ("x  y", None));
        line.end();
        assert_eq!(Line::parse("").verb, "");
    }

    #[test]
    #[should_panic(expected = "unknown options")]
    fn an_option_that_nobody_takes_is_an_error() {
        Line::parse("put colour=red").end();
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn an_option_stands_once() {
        drop(Line::parse("put a=1 a=2"));
    }
}
