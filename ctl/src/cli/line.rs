//! A command line inside the shell: words, and the options that it takes over from the shell.

use std::ffi::OsString;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::{Cli, Globals, NotParsed};

/// Splits a line as a shell does: at spaces, with '…' and "…" around what holds some, and with \
/// before what means itself. A # that begins a word ends the line. There are no variables, and a *
/// is a *.
///
/// # Errors
/// With what is missing.
pub(crate) fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' if word.is_none() => break,
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                quoted(&mut chars, '\'', word)?;
            }
            '"' => {
                let word = word.get_or_insert_default();
                quoted(&mut chars, '"', word)?;
            }
            '\\' => {
                let next = chars.next().ok_or("a character after the last \\")?;
                word.get_or_insert_default().push(next);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(
    chars: &mut std::str::Chars<'_>,
    end: char,
    word: &mut String,
) -> Result<(), &'static str> {
    while let Some(c) = chars.next() {
        match c {
            c if c == end => return Ok(()),
            // Inside '…' a backslash is one.
            '\\' if end == '"' => match chars.next() {
                Some(next @ ('"' | '\\')) => word.push(next),
                Some(next) => word.extend(['\\', next]),
                None => break,
            },
            c => word.push(c),
        }
    }
    Err(if end == '"' { "the closing \"" } else { "the closing '" })
}

/// Reads a command line; options that it does not have are those of the shell.
///
/// # Errors
/// When it is not one, or asks for help or the version.
pub(crate) fn parse_line(words: &[String], shell: &Globals) -> Result<Cli, NotParsed> {
    let args: Vec<OsString> =
        std::iter::once("logctl").chain(words.iter().map(String::as_str)).map(Into::into).collect();
    let (mut cli, matches) = super::matched(&args)?;
    cli.globals = take_over(cli.globals, shell, &matches);
    Ok(cli)
}

/// The line's own options where they are typed, the shell's otherwise. All are named, so that a new
/// one is not forgotten.
fn take_over(line: Globals, shell: &Globals, matches: &ArgMatches) -> Globals {
    fn pick<T: Clone>(matches: &ArgMatches, id: &str, line: T, shell: &T) -> T {
        let typed = matches.value_source(id) == Some(ValueSource::CommandLine);
        if typed { line } else { shell.clone() }
    }
    let Globals { output, json, context, via, spread, timeout, no_color, quiet, verbose, yes } =
        line;
    Globals {
        output: pick(matches, "output", output, &shell.output),
        json: pick(matches, "json", json, &shell.json),
        context: pick(matches, "context", context, &shell.context),
        via: pick(matches, "via", via, &shell.via),
        spread: pick(matches, "spread", spread, &shell.spread),
        timeout: pick(matches, "timeout", timeout, &shell.timeout),
        no_color: pick(matches, "no_color", no_color, &shell.no_color),
        quiet: pick(matches, "quiet", quiet, &shell.quiet),
        verbose: pick(matches, "verbose", verbose, &shell.verbose),
        yes: pick(matches, "yes", yes, &shell.yes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let split = |line| words(line).unwrap();
        assert_eq!(split("send --to bob 'a b'  c"), ["send", "--to", "bob", "a b", "c"]);
        assert_eq!(split(r#"a"b c"d 'e'f "" g\ h"#), ["ab cd", "ef", "", "g h"]);
        assert_eq!(split(r#""a \"b\" \n" '\n'"#), [r#"a "b" \n"#, r"\n"]);
        assert_eq!(split("read # all of it"), ["read"]);
        assert_eq!(split("get a#b"), ["get", "a#b"]);
        assert_eq!(split(" \t "), Vec::<String>::new());
        for bad in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }

    /// Seen to fail with the shell's options taken even where the line has its own.
    #[test]
    fn what_is_not_typed_comes_from_the_shell() {
        let words = |line: &str| words(line).unwrap();
        let shell = super::super::parse(
            ["logctl", "--as", "alice", "--via", "n1", "--timeout", "3s", "shell"].map(Into::into),
        );
        let shell = shell.unwrap().globals;
        let cli = parse_line(&words("read --via n2 -o json"), &shell).unwrap();
        assert_eq!(cli.globals.context.unwrap().as_str(), "alice");
        assert_eq!(cli.globals.via.unwrap().as_str(), "n2");
        assert_eq!(cli.globals.timeout.as_secs(), 3);
        assert_eq!(cli.globals.output, super::super::Form::Json);
        assert!(!parse_line(&words("help send"), &shell).unwrap_err().is_error());
        let error = parse_line(&words("send --to"), &shell).unwrap_err();
        assert!(error.is_error() && error.hint() == "logctl send --help");
        let error = parse_line(&words("cluster token create --rule"), &shell).unwrap_err();
        assert_eq!(error.hint(), "logctl cluster token create --help");
    }
}
