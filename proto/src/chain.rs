//! The hash chain of a log: equal hashes at an index mean equal histories up to it.

/// A 256-bit chain hash.
pub type ChainHash = [u8; 32];

/// The hash before the first entry.
pub const CHAIN_START: ChainHash = [0; 32];

/// The hash at an entry: BLAKE3 over the hash at the entry before it, index, term and payload.
#[must_use]
pub fn chain(previous: &ChainHash, index: u64, term: u64, payload: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&index.to_be_bytes());
    hasher.update(&term.to_be_bytes());
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash is on disks and between nodes: it never changes.
    #[test]
    fn the_hash_is_the_format() {
        let hash = chain(&CHAIN_START, 1, 2, b"payload");
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bab12bd344ef3442ce2d21e06e49bdf6429bcf5a49b85733ed92791227760b0");
        assert_ne!(chain(&hash, 1, 2, b"payload"), hash);
    }
}
