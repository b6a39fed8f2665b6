//! The keys of a map.

use bytes::Bytes;
use smallvec::SmallVec;
use std::borrow::Borrow;
use std::ops::Deref;

/// Keys up to this length need no allocation: a slot and 22 bytes of a client's key.
const INLINE_BYTES: usize = 24;

/// A key as it is stored. Most keys are short. They stand in the nodes of the map themselves, so
/// that a comparison does not have to fetch memory from elsewhere, which takes longer than all else
/// that a write does to the map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(SmallVec<[u8; INLINE_BYTES]>);

const _: () = assert!(size_of::<Key>() <= size_of::<Bytes>(), "a node of the map has eleven");

impl Key {
    /// The key, for an answer.
    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        Self(SmallVec::from_slice(key))
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_bytes(
            one in vec(0..3u8, 0..2 * INLINE_BYTES),
            other in vec(0..3u8, 0..2 * INLINE_BYTES),
        ) {
            let keys = [&one, &other].map(|bytes| Key::from(&bytes[..]));
            prop_assert_eq!(keys[0].cmp(&keys[1]), one.cmp(&other));
            prop_assert_eq!(&keys[0].to_bytes(), &one);
        }
    }
}
