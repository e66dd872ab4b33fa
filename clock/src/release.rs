//! To where the ceiling of a clock may be put down, when a person asks for it: to the highest stamp
//! that a majority of the voters holds.
//!
//! A node that once ran with its clock far ahead has a ceiling that its right clock comes up to after
//! days, and mints nothing until then. The ceiling keeps values from being issued twice. Of those
//! above the highest stamp in the logs of a majority none was ever committed: what is committed is in
//! the log of a majority, and two majorities have a node in common. So nobody has ever seen one, and
//! to issue it again does no harm. An entry that holds one and lies in the log of a node that did not
//! answer can still be committed only by a primary that this node follows; its stamps are then
//! observed here, and everything later lies above them.
//!
//! Not here: the clock that is put down (`generator`), asking the voters (`daemon`).

use crate::hlc::Hlc;

/// Why a ceiling stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only {answered} of {voters} voters say how far their logs reach, which is not a majority")]
pub struct NoMajority {
    /// How many answered.
    pub answered: usize,
    /// How many there are.
    pub voters: usize,
}

/// The highest stamp that a majority holds; everything that was ever committed lies at or below it.
/// `answers` are the highest stamps in log and state of those voters that could be asked, one each.
///
/// # Errors
/// When they are no majority of `voters`.
pub fn highest(voters: usize, answers: &[Hlc]) -> Result<Hlc, NoMajority> {
    let answered = answers.len();
    match answers.iter().max() {
        Some(highest) if answered * 2 > voters => Ok(*highest),
        _ => Err(NoMajority { answered, voters }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with: half of the voters taken for a majority, and the lowest answer taken.
    #[test]
    fn it_takes_a_majority_and_the_highest_of_it_counts() {
        let at = Hlc::from_ns;
        assert_eq!(highest(3, &[at(5), at(7)]), Ok(at(7)));
        assert_eq!(highest(1, &[at(5)]), Ok(at(5)));
        for (voters, answers) in [(3, vec![at(5)]), (4, vec![at(5), at(7)]), (1, vec![])] {
            let refused = NoMajority { answered: answers.len(), voters };
            assert_eq!(highest(voters, &answers), Err(refused));
        }
    }
}
