//! Which lineage of a cluster a store is of. A raft id says it.
//!
//! A cluster that lost the majority of its voters can be made to go on with what one node holds. What
//! the others have acknowledged beyond that is not in it. So a new lineage begins: its raft ids lie above
//! all that were given before, and begin with its number and with bits that are drawn. Two nodes that
//! were both made to go on alone are of two lineages with the same number, and never mix.
//!
//! ```text
//! number: 8 bits ‖ drawn: 24 bits ‖ count: 20 bits      in lineage 0 nothing is drawn
//! ```
//!
//! 52 bits in all, so that programs that read numbers as floats read them right.

/// Bits of a raft id that count the stores of a lineage.
const COUNT_BITS: u32 = 20;
/// Bits that are drawn when a lineage begins.
const DRAWN_BITS: u32 = 24;

/// A lineage. The first one of a cluster is [`Lineage::FIRST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lineage {
    number: u64,
    drawn: u64,
}

/// How the lineage of another store stands to one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// It is the same.
    Same,
    /// It ended, where this one began.
    Earlier,
    /// It began later.
    Later,
    /// Neither came of the other: both began as the same number.
    Apart,
}

impl Lineage {
    /// The one that a cluster begins with.
    pub const FIRST: Self = Self { number: 0, drawn: 0 };

    /// The lineage of a store.
    #[must_use]
    pub fn of(raft_id: u64) -> Self {
        let drawn = (raft_id >> COUNT_BITS) & ((1 << DRAWN_BITS) - 1);
        Self { number: raft_id >> (COUNT_BITS + DRAWN_BITS), drawn }
    }

    /// The one after it, with what was drawn for it; `None` after the last.
    #[must_use]
    pub fn next(self, drawn: u32) -> Option<Self> {
        let number = self.number + 1;
        let drawn = u64::from(drawn) & ((1 << DRAWN_BITS) - 1);
        (number <= u64::from(u8::MAX)).then_some(Self { number, drawn })
    }

    /// Its number; 0 is the first.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number
    }

    /// The raft id of the first store in it.
    #[must_use]
    pub fn first_raft_id(self) -> u64 {
        (self.number << (COUNT_BITS + DRAWN_BITS)) | (self.drawn << COUNT_BITS) | 1
    }

    /// How another one stands to this one.
    #[must_use]
    pub fn kinship(self, other: Self) -> Kinship {
        if other == self {
            return Kinship::Same;
        }
        match other.number.cmp(&self.number) {
            std::cmp::Ordering::Less => Kinship::Earlier,
            std::cmp::Ordering::Greater => Kinship::Later,
            std::cmp::Ordering::Equal => Kinship::Apart,
        }
    }
}

impl std::fmt::Display for Lineage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.drawn {
            0 => write!(f, "{}", self.number),
            drawn => write!(f, "{}-{drawn:06x}", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two that began apart differ by their drawn bits.
    #[test]
    fn a_raft_id_says_which_lineage_it_is_of() {
        for id in [0, 1, 3, 16, 70_000] {
            assert_eq!(Lineage::of(id), Lineage::FIRST);
        }
        let one = Lineage::FIRST.next(7).unwrap();
        let other = Lineage::FIRST.next(0xff00_0008).unwrap();
        let two = one.next(7).unwrap();
        for lineage in [one, other, two] {
            let first = lineage.first_raft_id();
            assert_eq!(Lineage::of(first), lineage);
            assert_eq!(Lineage::of(first + 5000), lineage);
            assert!(first > 1 << 40 && first < 1 << 53);
        }
        assert_eq!((one.number(), two.number()), (1, 2));
        assert_eq!(one.kinship(Lineage::FIRST), Kinship::Earlier);
        assert_eq!(one.kinship(two), Kinship::Later);
        assert_eq!(one.kinship(other), Kinship::Apart);
        assert_eq!(one.kinship(one), Kinship::Same);
        assert_eq!((Lineage::FIRST.to_string(), one.to_string()), ("0".into(), "1-000007".into()));
        let last = (0..255).try_fold(Lineage::FIRST, |lineage, _| lineage.next(1)).unwrap();
        assert_eq!(last.next(1), None);
        assert!(last.first_raft_id() < 1 << 53);
    }
}
