//! Hostile bytes: decoding never panics; whatever decodes was read to the last byte, survives a
//! round trip and has the stamps that the cheap look at the head says.
//!
//! Seen to fail without the check for surplus bytes (an unknown field was let through) and without
//! the count check.

use bytes::Bytes;
use model::{Batch, DecodeError, stamps_of};
use proptest::prelude::*;

use crate::arbitrary::history;

fn exact_or_refused(bytes: &[u8]) -> Result<(), TestCaseError> {
    let head = stamps_of(bytes);
    if let Ok(batch) = Batch::decode(bytes) {
        let again = batch.encode();
        prop_assert_eq!(again.len(), bytes.len());
        prop_assert_eq!(Batch::decode(&again), Ok(batch.clone()));
        prop_assert_eq!(head, Ok((batch.base, u32::try_from(batch.commands.len()).unwrap())));
        prop_assert_eq!(Batch::decode_shared(Bytes::copy_from_slice(bytes)), Ok(batch));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        exact_or_refused(&bytes)?;
        let headed = [&[1][..], &[0; 20], &[0, 0, 0, 1], &bytes].concat();
        exact_or_refused(&headed)?;
    }

    #[test]
    fn damaged_batches(
        history in history(),
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        for batch in history.iter().flatten() {
            let bytes = batch.encode();
            prop_assert_eq!(Batch::decode(&bytes), Ok(batch.clone()));
            let behind = batch.clone().into_encoded(&[7]);
            prop_assert_eq!(&behind[..1], &[7]);
            prop_assert_eq!(&behind[1..], &bytes[..]);
            let sizes: usize = batch.commands.iter().map(model::Command::size).sum();
            prop_assert!(bytes.len() <= 64 + sizes);
            exact_or_refused(&bytes[..cut.index(bytes.len())])?;
            let mut damaged = bytes.to_vec();
            for (at, value) in &flips {
                let at = at.index(damaged.len());
                damaged[at] = *value;
            }
            damaged.extend_from_slice(&tail);
            exact_or_refused(&damaged)?;
        }
    }
}

#[test]
fn the_head_is_strict() {
    let head = |format: u8, count: u32| [&[format][..], &[0; 20], &count.to_be_bytes()].concat();
    assert_eq!(stamps_of(&[]), Err(DecodeError::Short(0)));
    assert_eq!(stamps_of(&head(1, 1)[..24]), Err(DecodeError::Short(24)));
    assert_eq!(stamps_of(&head(2, 1)), Err(DecodeError::Format(2)));
    assert_eq!(stamps_of(&head(1, 0)), Err(DecodeError::Count(0)));
    assert_eq!(stamps_of(&head(1, 4097)), Err(DecodeError::Count(4097)));
    assert!(stamps_of(&head(1, 4096)).is_ok());
    let miscounted = DecodeError::Miscounted { said: 1, found: 0 };
    assert_eq!(Batch::decode(&head(1, 1)), Err(miscounted));
    let unknown_field = [&head(1, 1)[..], &[0x12, 0x00, 0x78, 0x01]].concat();
    assert_eq!(Batch::decode(&unknown_field), Err(DecodeError::Surplus));
}
