//! The map from key ranges to groups.

use crate::error::MapError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use logboat::{GroupId, NodeId};

/// The group that holds the table of the cluster, and no range.
pub const META_GROUP: GroupId = GroupId(0);

/// One range of keys and the group that holds it. It ends where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first key. The first range begins with the empty key.
    pub start: Bytes,
    /// The group that holds the range.
    pub group: GroupId,
    /// The nodes that hold its replicas. The first one leads to begin with.
    pub replicas: Vec<NodeId>,
}

/// A cut of the whole key space into ranges, in the order of their keys.
///
/// ```
/// use bytes::Bytes;
/// use logboat::{GroupId, NodeId};
/// use logboat_router::{Range, RangeMap};
///
/// let range = |start: &'static str, group| Range {
///     start: Bytes::from(start),
///     group: GroupId(group),
///     replicas: vec![NodeId(1), NodeId(2), NodeId(3)],
/// };
/// let map = RangeMap::new(1, "plain".to_owned(), vec![range("", 1), range("m", 2)])?;
/// assert_eq!(map.ranges()[map.locate(b"apple")].group, GroupId(1));
/// assert_eq!(map.ranges()[map.locate(b"melon")].group, GroupId(2));
/// assert_eq!(RangeMap::decode(map.encode())?, map);
/// # Ok::<(), logboat_router::MapError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeMap {
    epoch: u64,
    layout: String,
    ranges: Vec<Range>,
    /// The prefixes of the ranges' starts. They lie side by side, so that a search touches little
    /// memory.
    prefixes: Vec<u64>,
}

/// What the encoding begins with.
const VERSION: u8 = 1;

impl RangeMap {
    /// A map of ranges. Its epoch grows with every change. The name of the layout of keys never
    /// changes.
    ///
    /// # Errors
    /// When the ranges are not in order, don't begin with the empty key, lack replicas, share a
    /// group, or name the meta group.
    pub fn new(epoch: u64, layout: String, ranges: Vec<Range>) -> Result<Self, MapError> {
        let wrong = |number, reason| Err(MapError::Range { number, reason });
        if ranges.first().is_none_or(|first| !first.start.is_empty()) {
            return wrong(0, "the first range must begin with the empty key");
        }
        if let Some(at) = ranges.windows(2).position(|pair| pair[0].start >= pair[1].start) {
            return wrong(at + 1, "it does not begin after the one before it");
        }
        if let Some(at) = ranges.iter().position(|range| range.replicas.is_empty()) {
            return wrong(at, "it has no replicas");
        }
        if let Some(at) = ranges.iter().position(|range| range.group == META_GROUP) {
            return wrong(at, "its group is the one that holds the map");
        }
        let mut groups: Vec<_> = ranges.iter().map(|range| range.group).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.len() != ranges.len() {
            return wrong(ranges.len() - 1, "two ranges are held by one group");
        }
        let prefixes = ranges.iter().map(|range| prefix(&range.start)).collect();
        Ok(Self { epoch, layout, ranges, prefixes })
    }

    /// The map of a cluster of which nothing is known yet. It has no ranges, and no key lies in it.
    pub(crate) fn none() -> Self {
        Self { epoch: 0, layout: String::new(), ranges: Vec::new(), prefixes: Vec::new() }
    }

    /// The version of the map.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The name of the layout of keys.
    #[must_use]
    pub fn layout(&self) -> &str {
        &self.layout
    }

    /// All ranges in the order of their keys.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The place of the range that holds `key`, found in O(log n).
    #[must_use]
    pub fn locate(&self, key: &[u8]) -> usize {
        let wanted = prefix(key);
        let before = self.prefixes.partition_point(|prefix| *prefix < wanted);
        let alike = self.prefixes[before..].partition_point(|prefix| *prefix == wanted);
        // Of those with the same prefix, the whole start decides.
        let of_alike = self.ranges[before..before + alike].partition_point(|it| it.start <= key);
        before + of_alike - 1
    }

    /// The encoding of the map: its fields in order, numbers little-endian, lengths before what
    /// they measure.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(VERSION);
        bytes.put_u64_le(self.epoch);
        put_slice(&mut bytes, self.layout.as_bytes());
        put_len(&mut bytes, self.ranges.len());
        for range in &self.ranges {
            put_slice(&mut bytes, &range.start);
            bytes.put_u64_le(range.group.0);
            put_len(&mut bytes, range.replicas.len());
            range.replicas.iter().for_each(|node| bytes.put_u64_le(node.0));
        }
        bytes.freeze()
    }

    /// The map that `bytes` encode.
    ///
    /// # Errors
    /// When they encode none.
    pub fn decode(bytes: Bytes) -> Result<Self, MapError> {
        let (epoch, layout, ranges) = decode_fields(bytes).ok_or(MapError::Encoding)?;
        Self::new(epoch, layout, ranges)
    }
}

/// The first eight bytes of a key, filled up with zeros. Of two keys with different prefixes, the
/// one with the smaller prefix is smaller.
fn prefix(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let bytes = key.len().min(first.len());
    first[..bytes].copy_from_slice(&key[..bytes]);
    u64::from_be_bytes(first)
}

fn decode_fields(mut bytes: Bytes) -> Option<(u64, String, Vec<Range>)> {
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let epoch = bytes.try_get_u64_le().ok()?;
    let layout = String::from_utf8(take_slice(&mut bytes)?.to_vec()).ok()?;
    let count = bytes.try_get_u32_le().ok()?;
    // The count allocates nothing: each range is read from bytes that must be there.
    let mut ranges = Vec::new();
    for _ in 0..count {
        let start = take_slice(&mut bytes)?;
        let group = GroupId(bytes.try_get_u64_le().ok()?);
        let replicas = bytes.try_get_u32_le().ok()?;
        let replicas = (0..replicas).map(|_| bytes.try_get_u64_le().ok().map(NodeId));
        ranges.push(Range { start, group, replicas: replicas.collect::<Option<_>>()? });
    }
    bytes.is_empty().then_some((epoch, layout, ranges))
}

fn put_len(bytes: &mut BytesMut, len: usize) {
    bytes.put_u32_le(u32::try_from(len).expect("a map's parts are far smaller than 4 GiB"));
}

fn put_slice(bytes: &mut BytesMut, slice: &[u8]) {
    put_len(bytes, slice.len());
    bytes.put_slice(slice);
}

fn take_slice(bytes: &mut Bytes) -> Option<Bytes> {
    let len = bytes.try_get_u32_le().ok()? as usize;
    (len <= bytes.len()).then(|| bytes.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: &str, group: u64) -> Range {
        let replicas = vec![NodeId(1), NodeId(2)];
        Range { start: Bytes::copy_from_slice(start.as_bytes()), group: GroupId(group), replicas }
    }

    fn map(starts: &[&str]) -> Result<RangeMap, MapError> {
        let ranges = starts.iter().zip(1..).map(|(start, group)| range(start, group)).collect();
        RangeMap::new(1, "range".to_owned(), ranges)
    }

    #[test]
    fn a_key_lies_in_the_last_range_that_does_not_begin_after_it() {
        let map = map(&["", "b", "d"]).unwrap();
        for (key, number) in [("", 0), ("a", 0), ("az", 0), ("b", 1), ("c", 1), ("d", 2), ("z", 2)]
        {
            assert_eq!(map.locate(key.as_bytes()), number, "{key}");
        }
    }

    #[test]
    fn a_map_that_leaves_keys_out_or_holds_them_twice_is_refused() {
        assert!(map(&[]).is_err());
        assert!(map(&["a"]).is_err());
        assert!(map(&["", "b", "b"]).is_err());
        assert!(map(&["", "c", "b"]).is_err());
        let shared = vec![range("", 1), range("b", 1)];
        assert!(RangeMap::new(1, String::new(), shared).is_err());
        assert!(RangeMap::new(1, String::new(), vec![range("", 0)]).is_err());
        let bare = vec![Range { replicas: vec![], ..range("", 1) }];
        assert!(RangeMap::new(1, String::new(), bare).is_err());
    }

    proptest! {
        #[test]
        fn a_map_survives_its_encoding(
            epoch: u64,
            layout in "[a-z]{0,8}",
            starts in proptest::collection::btree_set(".{1,6}", 0..20),
        ) {
            let starts = std::iter::once(String::new()).chain(starts);
            let ranges = starts.zip(1..).map(|(start, group)| range(&start, group)).collect();
            let map = RangeMap::new(epoch, layout, ranges).unwrap();
            prop_assert_eq!(RangeMap::decode(map.encode()), Ok(map.clone()));
            let bytes = map.encode();
            for cut in 0..bytes.len() {
                prop_assert!(RangeMap::decode(bytes.slice(..cut)).is_err());
            }
        }

        #[test]
        fn keys_are_found_that_differ_late_or_only_in_length(
            starts in proptest::collection::btree_set("[\\x00a]{0,10}b?", 0..20),
            key in "[\\x00a]{0,10}b?",
        ) {
            let starts = std::iter::once(String::new()).chain(starts);
            let starts: std::collections::BTreeSet<_> = starts.collect();
            let starts: Vec<_> = starts.iter().map(String::as_str).collect();
            let at_or_before = starts.iter().filter(|start| **start <= &*key).count();
            prop_assert_eq!(map(&starts).unwrap().locate(key.as_bytes()), at_or_before - 1);
        }

        #[test]
        fn arbitrary_bytes_are_no_map(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = RangeMap::decode(Bytes::from(bytes));
        }
    }
}
