//! A walk over keys in the tables, and over what is to be written there.

use super::layout::{data_range, decode_entry, key_of};
use crate::kv::key::Key;
use crate::kv::keys::{Entry, KeyRange};
use logboat::state::{Namespace, StateError, StateScan, StateView};
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

/// A change of a key that is not in the tables yet.
#[derive(Clone, Debug)]
pub(in crate::kv) struct Change {
    /// The deadline of the key in the tables, if it is there.
    pub(super) stored_deadline_ms: Option<u64>,
    /// What becomes of the key.
    pub(super) entry: Option<Entry>,
}

/// The keys of a stretch in a view of the tables.
pub(super) fn scan(
    view: &dyn StateView,
    namespace: Option<Namespace>,
    range: KeyRange<'_>,
) -> Result<StateScan, StateError> {
    let Some(namespace) = namespace else { return Ok(Box::new(std::iter::empty())) };
    let (start, end) = data_range(range);
    view.scan(namespace, (as_slice(&start), as_slice(&end)))
}

/// A bound of a scan.
pub(super) fn as_slice(bound: &Bound<bytes::Bytes>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &key[..])
}

/// Keys in their order, with their entries.
pub(in crate::kv) struct DiskWalk<'a> {
    stored: Peekable<StoredWalk>,
    changes: Option<Peekable<btree_map::Range<'a, Key, Change>>>,
}

/// Those in the tables.
struct StoredWalk(StateScan);

impl Iterator for StoredWalk {
    type Item = Result<(Key, Entry), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.0.next()?;
        Some(pair.and_then(|(key, value)| Ok((key_of(&key), decode_entry(value)?))))
    }
}

impl<'a> DiskWalk<'a> {
    /// A walk over what is in the tables.
    pub(super) fn stored(scan: StateScan) -> Self {
        Self { stored: StoredWalk(scan).peekable(), changes: None }
    }

    /// The same with changes that are not there yet.
    pub(super) fn changed(
        scan: StateScan,
        changes: &'a BTreeMap<Key, Change>,
        range: KeyRange<'_>,
    ) -> Self {
        let changes = (!changes.is_empty()).then(|| changes.range::<[u8], _>(range).peekable());
        Self { changes, ..Self::stored(scan) }
    }
}

impl Iterator for DiskWalk<'_> {
    type Item = Result<(Key, Entry), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(changes) = &mut self.changes else { return self.stored.next() };
        loop {
            let Some((changed, _)) = changes.peek() else { return self.stored.next() };
            match self.stored.peek() {
                Some(Err(_)) => return self.stored.next(),
                Some(Ok((key, _))) if key < changed => return self.stored.next(),
                Some(Ok((key, _))) if key == *changed => drop(self.stored.next()),
                _ => {}
            }
            if let Some((key, Change { entry: Some(entry), .. })) = changes.next() {
                return Some(Ok((key.clone(), entry.clone())));
            }
        }
    }
}
