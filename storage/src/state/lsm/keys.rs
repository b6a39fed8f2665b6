//! How keys and numbers are written into the tree.

use crate::state::batch::Namespace;
use logboat_raft::{Index, LogId, Term};
use smallvec::SmallVec;
use std::ops::Bound;

/// The engine's own namespace.
pub(super) const OWN: Namespace = Namespace(0);

/// The number of the last batch before a rotation.
pub(super) const NUMBER: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, b'n'];

/// The namespace that is made next.
pub(super) const NEXT_NAMESPACE: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, b's'];

/// What begins the marks of deleted namespaces.
pub(super) const DELETED: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, b'x'];

/// The byte behind the namespace, for its applied entry.
const APPLIED: u8 = 0;

/// The byte behind the namespace, for a user's key.
const DATA: u8 = 1;

/// How many bytes stand before a user's key.
pub(super) const PREFIX_BYTES: usize = 9;

/// A key of the tree. Mostly it is short.
pub(super) type Key = SmallVec<[u8; 64]>;

fn prefix(namespace: Namespace, kind: u8) -> [u8; PREFIX_BYTES] {
    let mut prefix = [kind; PREFIX_BYTES];
    prefix[..PREFIX_BYTES - 1].copy_from_slice(&namespace.0.to_be_bytes());
    prefix
}

/// Where the applied entry of a namespace stands.
pub(super) fn applied(namespace: Namespace) -> [u8; PREFIX_BYTES] {
    prefix(namespace, APPLIED)
}

/// Where a user's key stands.
pub(super) fn data(namespace: Namespace, key: &[u8]) -> Key {
    let mut whole = Key::from_slice(&prefix(namespace, DATA));
    whole.extend_from_slice(key);
    whole
}

/// Where a namespace is marked as deleted.
pub(super) fn deleted(namespace: Namespace) -> Key {
    let mut mark = Key::from_slice(&DELETED);
    mark.extend_from_slice(&namespace.0.to_be_bytes());
    mark
}

/// The keys of the tree that belong to a range of a namespace's keys.
pub(super) fn range(
    namespace: Namespace,
    (start, end): (Bound<&[u8]>, Bound<&[u8]>),
) -> (Bound<Key>, Bound<Key>) {
    let whole = |key: &[u8]| data(namespace, key);
    let start = match start {
        Bound::Unbounded => Bound::Included(whole(&[])),
        start => start.map(whole),
    };
    let end = match end {
        Bound::Unbounded => Bound::Excluded(Key::from_slice(&prefix(namespace, DATA + 1))),
        end => end.map(whole),
    };
    (start, end)
}

/// All that the tree holds of a namespace.
pub(super) fn whole(namespace: Namespace) -> (Bound<Key>, Bound<Key>) {
    let bound = |kind| Key::from_slice(&prefix(namespace, kind));
    (Bound::Included(bound(APPLIED)), Bound::Excluded(bound(DATA + 1)))
}

/// The namespace of a key of the tree.
pub(super) fn namespace(key: &[u8]) -> Option<Namespace> {
    key.first_chunk().map(|number| Namespace(u64::from_be_bytes(*number)))
}

pub(super) fn encode_id(id: LogId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.term.0.to_be_bytes());
    bytes[8..].copy_from_slice(&id.index.0.to_be_bytes());
    bytes
}

pub(super) fn decode_id(bytes: &[u8]) -> Option<LogId> {
    let term = decode_number(bytes.get(..8)?)?;
    let index = decode_number(bytes.get(8..)?)?;
    Some(LogId::new(Term(term), Index(index)))
}

pub(super) fn decode_number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
