//! What may be written as `log.filter`: the syntax of `tracing`, without what would log nothing by mistake.

use tracing_subscriber::EnvFilter;

/// Whether a filter makes sense.
///
/// # Errors
/// Why not, and what to write instead.
pub fn check(filter: &str) -> Result<(), String> {
    if filter.trim().is_empty() {
        return Err("empty; \"info\" is the usual filter, \"off\" logs nothing".to_owned());
    }
    // A directive that is a single unknown word would silently be taken for a module's name.
    for directive in filter.split(',').map(str::trim) {
        let word = directive.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if word && !is_level(directive) {
            return Err(format!(
                "'{directive}' is not a level: error, warn, info, debug, trace, off; \
                 or a part and a level, as in info,net=debug"
            ));
        }
    }
    EnvFilter::try_new(filter).map(|_| ()).map_err(|error| format!("'{filter}': {error}"))
}

/// Whether a word is one of the levels, in any case.
#[must_use]
pub fn is_level(word: &str) -> bool {
    ["error", "warn", "info", "debug", "trace", "off"].iter().any(|l| l.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_would_log_nothing_by_mistake_are_refused() {
        for good in ["info", "off", "INFO", "warn,net=debug", "net::client=trace,info"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", " ", "inof", "info,dbug", "net=loud", "info,"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
