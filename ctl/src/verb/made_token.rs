//! What join tokens and access tokens have in common: how one that was just made is shown, how one is named,
//! and how those of a list look.

use proto::token::{self, ID_BYTES};
use serde::Serialize;

use crate::error::CtlError;
use crate::out::{Cell, Show, Tone};

/// A token that was just made: for people and pipes its text alone, in JSON what it is for, too.
#[derive(Debug, Serialize)]
pub(super) struct Made<T> {
    /// What is handed over.
    pub(super) token: String,
    /// Its id.
    pub(super) id: String,
    /// Until when.
    pub(super) expires: String,
    /// What it lets in.
    #[serde(flatten)]
    pub(super) lets: T,
}

impl<T: Serialize> Show for Made<T> {
    fn headings() -> &'static [&'static str] {
        &["TOKEN"]
    }

    fn row(&self) -> Vec<Cell> {
        vec![Cell::from(self.token.clone())]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.token.clone()]
    }
}

/// The id that a text is, or that is in the token that it is: whoever wants to end one often holds nothing
/// but the token. `kind` and `list` are for the error.
///
/// # Errors
/// Exit code 2 if it is neither.
pub(super) fn id_of(
    text: &str,
    decode: impl FnOnce(&str) -> Option<[u8; ID_BYTES]>,
    (kind, list): (&str, &str),
) -> Result<[u8; ID_BYTES], CtlError> {
    decode(text).or_else(|| token::parse_id(text)).ok_or_else(|| {
        CtlError::usage(format!("'{text}' is neither {kind} nor the id of one"), list)
    })
}

/// The cells of a token in a list, whose third column is its state.
pub(super) fn cells(fields: Vec<String>) -> Vec<Cell> {
    let cell = |(at, text): (usize, String)| match (at, text.as_str()) {
        (2, "live") => Cell::toned(text, Tone::Good),
        _ => text.into(),
    };
    fields.into_iter().enumerate().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use proto::ExitCode;

    use super::*;

    /// Meant to catch: the id alone understood, which nobody has who was handed the token.
    #[test]
    fn a_token_is_named_by_itself_or_by_its_id() {
        let id = [7; ID_BYTES];
        let decode = |text: &str| (text == "whole").then_some(id);
        let named = |text: &str| id_of(text, decode, ("a token", "logctl cluster token list"));
        assert_eq!(named("whole").unwrap(), id);
        assert_eq!(named(&token::id_text(&id)).unwrap(), id);
        let error = named("half").unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage);
        assert_eq!(error.line(), "'half' is neither a token nor the id of one");
    }
}
