//! How clients' keys lie in the ordered space that the map of ranges divides.
//!
//! With [`Partition::Hash`] the stored key is a 16-bit hash, big-endian, followed by the client's
//! key. So any set of keys spreads evenly over the ranges. The hash is the CRC-16/XMODEM of the key
//! or of its hash tag, as in Redis Cluster. Redis Cluster keeps the lower 14 bits of it; all 16 are
//! used here. With [`Partition::Slots`] these 14 bits stand first, so that Redis Cluster's slots
//! lie in their order, and the other two behind them. With [`Partition::Range`] the stored key is
//! the client's key.
//!
//! SCAN walks *places*, which are 64-bit numbers. A place depends on nothing but the key, so a
//! cursor means the same on every node and after every restart. In a hash layout it is the slot
//! (the 16 bits) shifted left by 32, plus a 32-bit hash of the key. In a range layout it is that
//! hash alone.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The bytes that a hash layout puts before a key.
const SLOT_BYTES: usize = 2;

/// How keys lie on the map of ranges. Chosen once, when a cluster is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// By a hash: even load, no order between keys of different slots.
    Hash,
    /// By the slots of Redis Cluster in their order.
    #[default]
    Slots,
    /// By the keys themselves.
    Range,
}

/// A word that is none of `slots`, `hash` and `range`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown partition {0:?}: expected slots, hash or range")]
pub struct UnknownPartition(String);

impl Partition {
    /// Where a client's key is stored.
    #[must_use]
    pub fn stored(self, key: &[u8]) -> Bytes {
        match self {
            Self::Hash => in_slot(slot(key), key),
            Self::Slots => in_slot(slot(key).rotate_left(2), key),
            Self::Range => Bytes::copy_from_slice(key),
        }
    }

    /// The client's key of a stored one. A stored key too short to have a slot cannot have been
    /// made by [`stored`](Self::stored); it counts as the empty key.
    #[must_use]
    pub fn client_key(self, stored: &[u8]) -> &[u8] {
        match self {
            Self::Hash | Self::Slots => stored.get(SLOT_BYTES..).unwrap_or_default(),
            Self::Range => stored,
        }
    }

    /// The slot part of a stored key; zero where keys have none.
    #[must_use]
    pub fn stored_slot(self, stored: &[u8]) -> u16 {
        match (self, stored) {
            (Self::Hash | Self::Slots, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
            (Self::Hash | Self::Slots, [high]) => u16::from_be_bytes([*high, 0]),
            (Self::Hash | Self::Slots, []) | (Self::Range, _) => 0,
        }
    }

    /// How many of the first bits of a stored key tell where a range of a new cluster may begin:
    /// all keys of a slot lie in one range.
    #[must_use]
    pub const fn edge_bits(self) -> u32 {
        match self {
            Self::Slots => CLUSTER_SLOTS.trailing_zeros(),
            Self::Hash | Self::Range => u16::BITS,
        }
    }

    /// The stretches of stored keys that Redis Cluster's slot of this number has, by the first two
    /// bytes; none where keys don't lie by slots.
    #[must_use]
    pub fn stretches_of(self, cluster_slot: u16) -> Vec<Range<u32>> {
        let slot = u32::from(cluster_slot % CLUSTER_SLOTS);
        match self {
            Self::Slots => std::iter::once(slot * 4..slot * 4 + 4).collect(),
            Self::Hash => (0..4)
                .map(|quarter| quarter * u32::from(CLUSTER_SLOTS) + slot)
                .map(|prefix| prefix..prefix + 1)
                .collect(),
            Self::Range => Vec::new(),
        }
    }
}

/// The slots of Redis Cluster.
pub const CLUSTER_SLOTS: u16 = 1 << 14;

/// The slot of a client's key in Redis Cluster.
#[must_use]
pub fn cluster_slot(key: &[u8]) -> u16 {
    slot(key) % CLUSTER_SLOTS
}

/// The stored form of `key` in `slot` of a hash layout.
#[must_use]
pub fn in_slot(slot: u16, key: &[u8]) -> Bytes {
    let mut stored = BytesMut::with_capacity(SLOT_BYTES + key.len());
    stored.put_u16(slot);
    stored.put_slice(key);
    stored.freeze()
}

/// The slot of a client's key in a hash layout.
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    crc16(tag(key))
}

/// The place of a stored key in the walk of SCAN.
#[must_use]
pub fn place(partition: Partition, stored: &[u8]) -> u64 {
    let slot = u64::from(partition.stored_slot(stored));
    (slot << 32) | u64::from(scan_hash(partition.client_key(stored)))
}

/// The part of the key that is hashed, by Redis Cluster's rule. It is the text between the first
/// `{` and the first `}` after it. If that is empty or missing, it is the whole key.
fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else {
        return key;
    };
    let inner = &key[open + 1..];
    match inner.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &inner[..close],
    }
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0, no reflection.
fn crc16(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .fold(0, |crc: u16, &byte| (crc << 8) ^ CRC16_TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16_TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// FNV-1a of 64 bits, folded to 32: short, fixed for ever, and spread well enough to cut a slot
/// into pages.
fn scan_hash(key: &[u8]) -> u32 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as u32 ^ hash as u32
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash => "hash",
            Self::Slots => "slots",
            Self::Range => "range",
        })
    }
}

impl FromStr for Partition {
    type Err = UnknownPartition;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "hash" => Ok(Self::Hash),
            "slots" => Ok(Self::Slots),
            "range" => Ok(Self::Range),
            other => Err(UnknownPartition(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_redis_clusters() {
        // The check value of the CRC catalogue, and slots that CLUSTER KEYSLOT reports.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo") & 0x3fff, 12182);
        assert_eq!(slot(b"somekey") & 0x3fff, 11058);
    }

    #[test]
    fn tags_follow_redis_clusters_rule() {
        assert_eq!(tag(b"{user1000}.following"), b"user1000");
        assert_eq!(tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(tag(b"foo{bar"), b"foo{bar");
        assert_eq!(tag(b"}foo{"), b"}foo{");
        assert_eq!(slot(b"a{t}"), slot(b"b{t}"));
    }

    #[test]
    fn stored_keys_give_the_client_key_back() {
        for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
            for key in [&b""[..], b"a", b"\x00\xff", b"{t}x"] {
                assert_eq!(partition.client_key(&partition.stored(key)), key);
            }
        }
        assert_eq!(Partition::Hash.stored(b"123456789")[..2], [0x31, 0xc3]);
        assert_eq!(Partition::Hash.client_key(b"x"), b"");
        assert_eq!(Partition::Slots.stored(b"123456789")[..2], [0xc7, 0x0c]);
    }

    #[test]
    fn slots_lie_in_their_order() {
        for key in [&b"foo"[..], b"bar", b"{t}x", b"", b"somekey"] {
            for partition in [Partition::Slots, Partition::Hash] {
                let prefix = u32::from(partition.stored_slot(&partition.stored(key)));
                let stretches = partition.stretches_of(cluster_slot(key));
                assert_eq!(stretches.iter().filter(|it| it.contains(&prefix)).count(), 1);
            }
            let stored = Partition::Slots.stored(key);
            assert_eq!(Partition::Slots.stored_slot(&stored) >> 2, cluster_slot(key));
        }
    }

    #[test]
    fn words_round_trip() {
        for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
            assert_eq!(partition.to_string().parse(), Ok(partition));
        }
        let error = "modulo".parse::<Partition>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown partition \"modulo\": expected slots, hash or range"
        );
    }
}
