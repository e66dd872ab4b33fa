//! Numbers that are the same for the same seed, in every version of every library.

use log::memory::Random;

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Draw(Random);

impl Draw {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A number from `low` to `high`, both included.
    ///
    /// # Panics
    /// When `high` is below `low`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "nothing lies between {low} and {high}");
        low + self.0.draw() % (high - low + 1)
    }

    /// Takes one out of a list; `None` if it is empty.
    pub(crate) fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        let last = from.len().checked_sub(1)?;
        let at = usize::try_from(self.between(0, last as u64)).ok()?;
        Some(from.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers_within_the_limits() {
        let drawn = |seed| {
            let mut draw = Draw::new(seed);
            (0..100).map(|_| draw.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let all = drawn(1);
        assert!((3..=9).all(|number| all.contains(&number)), "{all:?}");
        assert!(all.iter().all(|number| (3..=9).contains(number)), "{all:?}");
        let mut rest = vec![1, 2, 3];
        let mut draw = Draw::new(5);
        let mut taken: Vec<_> = std::iter::from_fn(|| draw.take(&mut rest)).collect();
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3]);
    }
}
