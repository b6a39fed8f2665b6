//! What the stores of a node hold together, and what writes under way may add.

use super::message::{Answer, Failure, Proposal};
use bytes::Bytes;
use logboat::CommandAdmission;
use std::sync::atomic::{AtomicU64, Ordering};

/// The memory of all stores of a node.
///
/// Every node counts for itself, so what is counted decides nothing in a state machine. The leader
/// of a group decides before a command is proposed. A node also grows by what other nodes let in,
/// so each lets in a part of what is left.
#[derive(Debug)]
pub struct DataMemory {
    held_bytes: AtomicU64,
    /// What commands that were let in here and have no outcome yet may add.
    growing_bytes: AtomicU64,
    /// The keys that have expired and were removed, since the start.
    expired_keys: AtomicU64,
    /// What may be held; 0 is no limit.
    max_bytes: u64,
    /// How many nodes let commands in.
    nodes: u64,
}

impl DataMemory {
    /// Memory of which nothing is held, on one of so many nodes; 0 bytes are no limit.
    #[must_use]
    pub fn new(max_bytes: u64, nodes: u64) -> Self {
        let zero = || AtomicU64::new(0);
        let (held_bytes, growing_bytes, expired_keys) = (zero(), zero(), zero());
        Self { held_bytes, growing_bytes, expired_keys, max_bytes, nodes }
    }

    /// What keys and values take, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether so much more may be held.
    #[must_use]
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.max_bytes == 0 || self.held_bytes().saturating_add(bytes) <= self.max_bytes
    }

    /// Whether writes will soon be refused: less than an eighth of what may be held is left.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        !self.has_room_for(self.max_bytes / 8)
    }

    /// How many replicas of keys have expired and were removed since the start.
    #[must_use]
    pub fn expired_keys(&self) -> u64 {
        self.expired_keys.load(Ordering::Relaxed)
    }

    pub(super) fn note_expired(&self, keys: u64) {
        self.expired_keys.fetch_add(keys, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for DataMemory {
    /// Memory without a limit.
    fn default() -> Self {
        Self::new(0, 1)
    }
}

impl CommandAdmission for DataMemory {
    fn admit(&self, command: &Bytes) -> Result<u64, Bytes> {
        // What is no command changes nothing, and is answered by the state machine.
        let decoded = Proposal::decode_shared(command).ok();
        let growth = decoded.and_then(|decoded| decoded.command.growth_bytes());
        let Some(bytes) = growth.filter(|_| self.max_bytes > 0) else { return Ok(0) };
        let growing = self.growing_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let room = self.max_bytes.saturating_sub(self.held_bytes());
        if growing.saturating_mul(self.nodes) <= room {
            return Ok(bytes);
        }
        self.release(bytes);
        Err(Answer::Failed(Failure::OutOfMemory).encode())
    }

    fn frees(&self, command: &Bytes) -> bool {
        Proposal::decode_shared(command).is_ok_and(|decoded| decoded.command.frees())
    }

    fn release(&self, bytes: u64) {
        self.growing_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Command;
    use crate::kv::footprint::entry_bytes;
    use crate::kv::message::{Deadline, ExpireIf, Lifetime, Query};

    /// A command that may add so much.
    fn append(bytes: u64) -> Bytes {
        let value = Bytes::from(vec![b'v'; (bytes - entry_bytes(0, 0)) as usize]);
        Command::Append { key: Bytes::new(), value, limit_bytes: u64::MAX }.encode()
    }

    #[test]
    fn commands_under_way_count_until_they_end() {
        let memory = DataMemory::new(1_000, 1);
        memory.add(500);
        let refused = Answer::Failed(Failure::OutOfMemory).encode();
        assert_eq!(memory.admit(&append(300)), Ok(300));
        assert_eq!(memory.admit(&append(300)), Err(refused.clone()));
        memory.release(300);
        assert_eq!(memory.admit(&append(500)), Ok(500));
        let nothing = Command::SetRange {
            key: Bytes::new(),
            offset: u64::MAX,
            value: Bytes::from_static(b"x"),
            limit_bytes: u64::MAX,
        };
        assert_eq!(memory.admit(&nothing.encode()), Err(refused));
        assert_eq!(memory.growing_bytes.load(Ordering::Relaxed), 500);
    }

    #[test]
    fn copies_under_way_count_with_their_values() {
        let memory = DataMemory::new(1_000, 1);
        let key = || Bytes::from_static(b"k");
        let copy = |limit_bytes| {
            let (from, to, to_database, replace) = (key(), key(), 1, false);
            Command::Copy { from, to, to_database, replace, limit_bytes }.encode()
        };
        assert_eq!(memory.admit(&copy(500)), Ok(entry_bytes(1, 500)));
        assert!(memory.admit(&copy(500)).is_err());
        // Without a limit, as the first version had it, a value of any length may come.
        let first_version = Bytes::from_static(&[1, 10, 1, b'k', 1, b'k', 1, 0]);
        assert!(memory.admit(&first_version).is_err());
    }

    #[test]
    fn what_only_removes_and_what_makes_no_sense_is_let_in() {
        let memory = DataMemory::new(1, 1);
        memory.add(500);
        let delete = Command::Delete { keys: vec![Bytes::from_static(b"k")] };
        for command in [delete.encode(), Command::Clear.encode(), Bytes::from_static(b"garbage")] {
            assert_eq!(memory.admit(&command), Ok(0));
        }
        assert!(memory.frees(&delete.encode()) && memory.frees(&Command::Clear.encode()));
        assert!(!memory.frees(&append(300)) && !memory.frees(&Bytes::from_static(b"garbage")));
    }

    #[test]
    fn a_longer_name_is_growth_and_neither_it_nor_a_deadline_frees_anything() {
        let memory = DataMemory::new(1_000, 1);
        memory.add(900);
        let rename = |from: usize, to: usize| {
            let name = |bytes| Bytes::from(vec![b'k'; bytes]);
            let (from, to) = (name(from), name(to));
            Command::Rename { from, to, only_if_missing: false }.encode()
        };
        assert_eq!(memory.admit(&rename(5, 105)), Ok(100));
        memory.release(100);
        assert!(memory.admit(&rename(5, 106)).is_err());
        assert_eq!(memory.admit(&rename(500, 500)), Ok(0));
        let key = || Bytes::from_static(b"k");
        let (lifetime, condition) = (Lifetime::Endless, ExpireIf::default());
        let others = [
            Command::Expire { key: key(), deadline: Deadline::In(1), condition },
            Command::Persist { key: key() },
            Command::GetExpire { key: key(), lifetime, limit_bytes: 9 },
        ];
        for command in others.map(|it| it.encode()).into_iter().chain([rename(9, 1)]) {
            assert!(!memory.frees(&command));
        }
        let query = Query::Count.encode();
        let take = Command::Take { key: key(), limit_bytes: 9 };
        for command in [take, Command::Ask { query }, Command::Tick] {
            assert!(memory.frees(&command.encode()));
        }
    }

    #[test]
    fn nodes_together_let_in_no_more_than_one_holds() {
        let memory = DataMemory::new(1_000, 3);
        assert_eq!(memory.admit(&append(300)), Ok(300));
        assert!(memory.admit(&append(200)).is_err());
        assert!(DataMemory::default().admit(&append(1_000_000)).is_ok());
    }
}
