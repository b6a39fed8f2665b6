//! A digest of a group's voters, by which replicas notice that they were started with different
//! sets.

use crate::NodeId;

/// A digest of a set of voters. Sets that differ have different digests, but for one pair in 2^32.
/// Replicas with different sets could each find a majority of their own, so it travels in every
/// message by which one asks another to vote for it or to follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VotersDigest(pub u32);

impl VotersDigest {
    /// The digest of these voters, which are sorted.
    #[must_use]
    pub fn of(voters: &[NodeId]) -> Self {
        let mut crc = crc32fast::Hasher::new();
        voters.iter().for_each(|voter| crc.update(&voter.0.to_le_bytes()));
        Self(crc.finalize())
    }
}
