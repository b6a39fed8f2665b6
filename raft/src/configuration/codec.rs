//! The encoding of a configuration, as entries, snapshots and the log hold it.
//!
//! ```text
//! configuration = version, term, index, digest of the founders, flags (1: somebody is preferred),
//!                 the preferred node if so, count, members
//! member        = node, role, term and index of its replica id
//! ```
//! Version, flags and role are a byte, the digest four bytes (little-endian), all else LEB128
//! varints. Members are sorted by node. No length is believed before it is checked.

use super::{Configuration, MAX_MEMBERS, Member, MemberRole};
use crate::{Index, LogId, NodeId, ReplicaId, Term, VotersDigest};
use alloc::vec::Vec;
use bytes::Bytes;

const VERSION: u8 = 1;

/// The flag that says that a voter is preferred.
const HAS_PREFERRED: u8 = 1;

/// Why bytes hold no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfiguration {
    /// A version that this build does not know.
    #[error("version {0} of a configuration, instead of {VERSION}")]
    Version(u8),
    /// The bytes end early, go on after the end, or hold what is no field.
    #[error("a configuration's fields can't be read")]
    Malformed,
    /// The members are not sorted by node, or too many.
    #[error("the members are not sorted, without doubles, and at most {MAX_MEMBERS}")]
    Members,
    /// Nobody votes in one of the halves.
    #[error("a half has no voter")]
    NoVoter,
    /// The preferred replica is no voter, or outgoing.
    #[error("the preferred replica does not vote")]
    Preferred,
    /// A replica is younger than the configuration that it is in.
    #[error("a replica is younger than its configuration")]
    Replica,
}

impl Configuration {
    /// The encoding.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(16 + 8 * self.members.len());
        bytes.push(VERSION);
        put_log_id(&mut bytes, self.id);
        bytes.extend(self.founders.0.to_le_bytes());
        bytes.push(if self.preferred.is_some() { HAS_PREFERRED } else { 0 });
        if let Some(preferred) = self.preferred {
            logboat_varint::put(&mut bytes, preferred.0);
        }
        logboat_varint::put(&mut bytes, self.members.len() as u64);
        for member in &self.members {
            logboat_varint::put(&mut bytes, member.node.0);
            bytes.push(member.role as u8);
            put_log_id(&mut bytes, member.replica.0);
        }
        bytes.into()
    }

    /// The configuration that these bytes hold, and nothing else.
    ///
    /// # Errors
    /// [`InvalidConfiguration`] when they hold none, or one that breaks the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidConfiguration> {
        if let Some(&version) = bytes.first().filter(|&&version| version != VERSION) {
            return Err(InvalidConfiguration::Version(version));
        }
        let mut reader = Reader(bytes);
        let configuration = reader.configuration().ok_or(InvalidConfiguration::Malformed)?;
        if !reader.0.is_empty() {
            return Err(InvalidConfiguration::Malformed);
        }
        configuration.validate()?;
        Ok(configuration)
    }

    /// Checks what every configuration keeps to.
    pub(super) fn validate(&self) -> Result<(), InvalidConfiguration> {
        let members = &self.members;
        if members.len() > MAX_MEMBERS || !members.is_sorted_by(|a, b| a.node < b.node) {
            return Err(InvalidConfiguration::Members);
        }
        if !self.is_quorum(|_| true) {
            return Err(InvalidConfiguration::NoVoter);
        }
        if self.preferred.is_some_and(|node| !self.is_incoming(node)) {
            return Err(InvalidConfiguration::Preferred);
        }
        let is_older = |member: &Member| {
            member.replica == ReplicaId::FOUNDER || member.replica <= ReplicaId(self.id)
        };
        if !members.iter().all(is_older) {
            return Err(InvalidConfiguration::Replica);
        }
        Ok(())
    }
}

fn put_log_id(bytes: &mut Vec<u8>, id: LogId) {
    logboat_varint::put(bytes, id.term.0);
    logboat_varint::put(bytes, id.index.0);
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn configuration(&mut self) -> Option<Configuration> {
        self.byte()?;
        let id = self.log_id()?;
        let (digest, rest) = self.0.split_first_chunk()?;
        let founders = VotersDigest(u32::from_le_bytes(*digest));
        self.0 = rest;
        let preferred = match self.byte()? {
            0 => None,
            HAS_PREFERRED => Some(NodeId(self.varint()?)),
            _ => return None,
        };
        let count = self.varint()?;
        if count > self.0.len() as u64 {
            return None;
        }
        let members = (0..count).map(|_| self.member()).collect::<Option<_>>()?;
        Some(Configuration::assemble(id, founders, preferred, members))
    }

    fn member(&mut self) -> Option<Member> {
        let node = NodeId(self.varint()?);
        let role = match self.byte()? {
            0 => MemberRole::Voter,
            1 => MemberRole::Learner,
            2 => MemberRole::Incoming,
            3 => MemberRole::Outgoing,
            _ => return None,
        };
        Some(Member { node, role, replica: ReplicaId(self.log_id()?) })
    }

    fn log_id(&mut self) -> Option<LogId> {
        Some(LogId::new(Term(self.varint()?), Index(self.varint()?)))
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let (number, bytes) = logboat_varint::decode(self.0).ok()?;
        self.0 = &self.0[bytes..];
        Some(number)
    }
}
