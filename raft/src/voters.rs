//! A digest of the voters that a group was founded with. By it replicas notice that they belong to
//! different groups of the same id.

use crate::NodeId;

/// A digest of a set of voters. Sets that differ have different digests, but for one pair in 2^32.
/// Groups that were founded with different sets are different groups. So the digest travels in
/// every message by which a replica asks another to vote for it or to follow it.
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
