//! Promise 2, one order: all nodes hold the same records in the same order, every field and hash.
//!
//! Negative control: below.

use proto::Record;

/// Where a node differs from the first one.
#[must_use]
pub fn equal_everywhere(nodes: &[(String, Vec<Record>)]) -> Vec<String> {
    let Some(((first, reference), others)) = nodes.split_first() else { return Vec::new() };
    let mut wrong = Vec::new();
    for (name, records) in others {
        let differs = reference.iter().zip(records).find(|(one, other)| one != other);
        if let Some((one, other)) = differs {
            wrong.push(format!("{first} and {name} differ at {}: {one:?} / {other:?}", one.seq));
        } else if reference.len() != records.len() {
            let (one, other) = (reference.len(), records.len());
            wrong.push(format!("{first} holds {one} records, {name} {other}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::planted::records;
    use super::*;

    #[test]
    fn a_difference_is_found() {
        let nodes =
            |second: Vec<Record>| [("n1".to_owned(), records(&[1, 2])), ("n2".to_owned(), second)];
        assert!(equal_everywhere(&nodes(records(&[1, 2]))).is_empty());
        assert_eq!(equal_everywhere(&nodes(records(&[1]))).len(), 1);
        assert_eq!(equal_everywhere(&nodes(records(&[1, 2, 3]))).len(), 1);
        assert_eq!(equal_everywhere(&nodes(records(&[2, 1]))).len(), 1);
        let mut other = records(&[1, 2]);
        other[1].leaf_hash = vec![1];
        assert_eq!(equal_everywhere(&nodes(other)).len(), 1);
    }
}
