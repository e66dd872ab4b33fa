//! Promise 2, one order: no two nodes are primary in one term.
//!
//! Negative control: below.

use crate::watch::Led;

/// Terms that several nodes led.
#[must_use]
pub fn one_primary_per_term(led: &[Led]) -> Vec<String> {
    let mut led = led.to_vec();
    led.sort();
    let same_term = |pair: &&[Led]| match pair {
        [one, other] => one.term == other.term && one.node != other.node,
        _ => false,
    };
    led.windows(2)
        .filter(same_term)
        .map(|pair| format!("two primaries in a term: {pair:?}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_primaries_are_found() {
        let led = |term, node: &str| Led { term, node: node.to_owned() };
        assert!(one_primary_per_term(&[led(1, "n1"), led(2, "n2"), led(1, "n1")]).is_empty());
        let two = [led(1, "n1"), led(2, "n2"), led(1, "n3")];
        assert_eq!(one_primary_per_term(&two).len(), 1);
    }
}
