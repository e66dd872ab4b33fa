//! A place in the log as one word, `1-42`: shard and seq.

use proto::wire::Position;

/// The word for a place.
#[must_use]
pub fn text(position: &Position) -> String {
    format!("{}-{}", position.shard, position.seq)
}

/// Reads one; `None` if it is none.
#[must_use]
pub fn read(text: &str) -> Option<Position> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (shard, seq) = text.split_once('-').filter(|(shard, seq)| number(shard) && number(seq))?;
    Some(Position { shard: shard.parse().ok()?, seq: seq.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Position { shard: 1, seq: u64::MAX };
        assert_eq!(read(&text(&place)), Some(place));
        for bad in ["", "1", "1-", "-1", "1-2-3", "+1-2", "a-1", "1-18446744073709551616"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
