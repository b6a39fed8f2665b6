//! The decoder of the map of ranges.

use bytes::Bytes;
use logboat_router::RangeMap;

/// Decodes bytes as a map. A map that is accepted has one form, and every key lies in a range of
/// it.
pub fn range_map(data: &[u8]) {
    let Ok(map) = RangeMap::decode(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert_eq!(map.encode(), data);
    for key in [&[], data, &data[data.len() / 2..], &[0xff; 8]] {
        let at = map.locate(key);
        assert!(map.ranges()[at].start <= key);
        assert!(map.ranges().get(at + 1).is_none_or(|next| next.start > key));
    }
}
