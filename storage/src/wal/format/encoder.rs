//! Encodes a batch of records into the blocks that are written.

use super::bits::salted_crc;
use super::contents::ContentsEncoder;
use super::effect::{Change, Effect};
use super::header::{BATCH_ALIGN, BATCH_HEADER_BYTES, BatchHeader};
use super::record::{
    APPEND, COMPACT, FOUNDING, GRANT, HARD_STATE, HAS_LEASE, HAS_VOTE, IS_FORTIFIED, IS_LIVE,
    LEADER_WAS_ADDED, LOST, RESET, REWRITE, TOMBSTONE, VOTE_WAS_ADDED, WAS_ADDED,
};
use crate::wal::disk::{BLOCK_BYTES, aligned, unaligned_bytes};
use logboat_raft::{
    Configuration, Entry, EntryKind, Grant, GroupId, HardState, LogWrite, NodeId, Persist,
    ReplicaId, SnapshotMeta,
};
use logboat_varint::put;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec::Drain;

/// A record's place in its batch, and what it changes.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) effect: Effect,
    /// Offset from the beginning of the batch, its header included.
    pub(crate) offset: u32,
    /// Bytes of the record.
    pub(crate) bytes: u32,
}

/// Builds one batch at a time. Its buffers are kept from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// What makes the first block begin at a multiple of its size in memory, blocks.
    buffer: Vec<u8>,
    /// Where the batch begins in the buffer.
    start: usize,
    records: Vec<Placed>,
    /// The second list of the batch.
    contents: ContentsEncoder,
    salt: u64,
}

impl Encoder {
    /// Begins a batch at `offset` of a segment with this salt, in a block that holds `begun` before
    /// it.
    pub(crate) fn begin(&mut self, salt: u64, offset: u64, begun: &[u8]) {
        self.salt = salt;
        self.records.clear();
        self.contents.begin(offset);
        self.buffer.clear();
        self.buffer.resize(unaligned_bytes(&self.buffer), 0);
        self.buffer.extend_from_slice(begun);
        self.start = self.buffer.len();
        self.buffer.resize(self.start + BATCH_HEADER_BYTES, 0);
    }

    /// Adds all that a write says.
    pub(crate) fn persist(&mut self, group: GroupId, persist: &Persist) {
        if let Some(hard_state) = &persist.hard_state {
            self.hard_state(group, **hard_state);
        }
        match &persist.log {
            LogWrite::Keep => {}
            LogWrite::Append(entries) => self.entries(group, entries, false),
            LogWrite::Compact(meta) => self.compact(group, meta.clone()),
            LogWrite::Reset(meta) => self.cut(group, RESET, meta, Change::Reset(meta.clone())),
            LogWrite::Founding(founding) => self.founding(group, founding),
            LogWrite::Tombstone(floor) => self.tombstone(group, *floor, false),
        }
    }

    /// Adds a hard state.
    pub(crate) fn hard_state(&mut self, group: GroupId, state: HardState) {
        let effect = Effect::Group(group, Change::HardState(Box::new(state)));
        self.record(HARD_STATE, effect, &[], |header| {
            put(header, state.term.0);
            let added = [
                (WAS_ADDED, Some(state.replica)),
                (VOTE_WAS_ADDED, state.vote.map(|vote| vote.replica)),
                (LEADER_WAS_ADDED, state.fortified.map(|bond| bond.replica)),
            ];
            let added = added.map(|(flag, id)| (flag, id.filter(|it| *it != ReplicaId::FOUNDER)));
            let has_vote = u8::from(state.vote.is_some()) * HAS_VOTE;
            let is_fortified = u8::from(state.fortified.is_some()) * IS_FORTIFIED;
            let flags = added.map(|(flag, id)| u8::from(id.is_some()) * flag);
            header.push(flags.into_iter().fold(has_vote | is_fortified, |all, flag| all | flag));
            put(header, state.vote.map_or(0, |vote| vote.node.0));
            put(header, state.commit.0);
            if let Some(fortification) = state.fortified {
                put(header, fortification.leader.0);
                put(header, fortification.epoch.0);
                put(header, fortification.term.0);
            }
            added.into_iter().filter_map(|(_, id)| id).for_each(|id| put_replica(header, id));
        });
    }

    /// Adds a tombstone, of a replica that was removed or that is `lost`.
    pub(crate) fn tombstone(&mut self, group: GroupId, floor: ReplicaId, lost: bool) {
        let effect = Effect::Group(group, Change::Tombstone { floor, lost });
        let kind = if lost { LOST } else { TOMBSTONE };
        self.record(kind, effect, &[], |header| put_replica(header, floor));
    }

    /// Adds what the node granted a peer.
    pub(crate) fn grant(&mut self, peer: NodeId, grant: Grant) {
        self.record(GRANT, Effect::Grant(peer, grant), &[], |header| {
            put(header, grant.epoch.0);
            put(header, grant.boot.0);
            let lease_us = u64::try_from(grant.lease.as_micros()).unwrap_or(u64::MAX);
            let has_lease = u8::from(lease_us > 0) * HAS_LEASE;
            let is_live = u8::from(grant.live) * IS_LIVE;
            header.push(is_live | has_lease);
            if lease_us > 0 {
                put(header, lease_us);
            }
            put(header, grant.log_end.pack());
        });
    }

    /// Adds the configuration that a group was founded with.
    pub(crate) fn founding(&mut self, group: GroupId, founding: &Arc<Configuration>) {
        let effect = Effect::Group(group, Change::Founding(Arc::clone(founding)));
        self.record(FOUNDING, effect, &[], |header| put_configuration(header, founding));
    }

    /// Adds a compaction.
    pub(crate) fn compact(&mut self, group: GroupId, meta: SnapshotMeta) {
        self.cut(group, COMPACT, &meta.clone(), Change::Compact(meta));
    }

    /// Adds consecutive entries, one record for each stretch of a term. `rewritten` entries are
    /// copies of live ones: they truncate nothing.
    pub(crate) fn entries(&mut self, group: GroupId, entries: &[Entry], rewritten: bool) {
        for run in entries.chunk_by(|a, b| a.term == b.term) {
            let (first, count) = (run[0].index, run.len() as u32);
            let holders = run.iter().filter(|entry| entry.kind == EntryKind::Configuration);
            // Others are refused before they get here.
            let configurations =
                holders.filter_map(|entry| Configuration::decode(&entry.data).ok());
            let configurations = configurations.map(Arc::new).collect();
            let (kind, change) = if rewritten {
                (REWRITE, Change::Rewrite { first, count, configurations })
            } else {
                (APPEND, Change::Append { first, count, configurations })
            };
            self.record(kind, Effect::Group(group, change), run, |header| {
                put(header, run[0].term.0);
                put(header, first.0);
                put(header, u64::from(count));
                for entry in run {
                    put(header, entry.data.len() as u64);
                    header.push(entry.kind as u8);
                    header.extend(entry.checksum.to_le_bytes());
                }
            });
        }
    }

    /// The group whose records take the most bytes.
    pub(crate) fn largest(&self) -> Option<GroupId> {
        let mut bytes: BTreeMap<GroupId, u64> = BTreeMap::new();
        for record in &self.records {
            if let Effect::Group(group, _) = record.effect {
                *bytes.entry(group).or_default() += u64::from(record.bytes);
            }
        }
        bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(group, _)| group)
    }

    /// The length that the batch has when it is finished.
    pub(crate) fn batch_bytes(&self) -> u64 {
        let bytes = self.buffer.len() - self.start + self.contents.bytes();
        bytes.next_multiple_of(BATCH_ALIGN) as u64
    }

    /// Whether the batch has no records.
    pub(crate) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Completes the batch for this offset and returns the blocks to write, with zeros behind it,
    /// aligned in memory; and the records. `header` needs no lengths.
    pub(crate) fn finish(
        &mut self,
        mut header: BatchHeader,
        offset: u64,
    ) -> (&[u8], Drain<'_, Placed>) {
        let bytes = self.batch_bytes();
        header.body_bytes = (bytes as usize - BATCH_HEADER_BYTES) as u32;
        header.records = self.records.len() as u32;
        self.buffer.resize(self.start + bytes as usize - self.contents.bytes(), 0);
        self.contents.finish(&mut self.buffer, self.start, (self.salt, offset), header.durable);
        let header = header.encode(self.salt, offset);
        self.buffer[self.start..self.start + BATCH_HEADER_BYTES].copy_from_slice(&header);
        let block = BLOCK_BYTES as usize;
        let mut first = self.start - (offset % BLOCK_BYTES) as usize;
        let filled = (self.start - first + bytes as usize).next_multiple_of(block);
        self.buffer.resize(first + filled, 0);
        if unaligned_bytes(&self.buffer[first..]) > 0 {
            // The buffer has grown and moved. It keeps its size from now on.
            (self.buffer, first) = aligned(&self.buffer[first..], self.buffer.capacity());
        }
        (&self.buffer[first..], self.records.drain(..))
    }

    fn cut(&mut self, group: GroupId, kind: u8, meta: &SnapshotMeta, change: Change) {
        self.record(kind, Effect::Group(group, change), &[], |header| {
            put(header, meta.last.term.0);
            put(header, meta.last.index.0);
            put_configuration(header, &meta.configuration);
        });
    }

    fn record(
        &mut self,
        kind: u8,
        effect: Effect,
        entries: &[Entry],
        fields: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.buffer.len();
        self.contents.add(&effect);
        self.buffer.push(kind);
        let subject = match &effect {
            Effect::Group(group, _) => group.0,
            Effect::Grant(peer, _) => peer.0,
        };
        put(&mut self.buffer, subject);
        fields(&mut self.buffer);
        let crc = salted_crc(self.salt, &[], &self.buffer[start..]);
        self.buffer.extend(crc.to_le_bytes());
        for entry in entries {
            self.buffer.extend_from_slice(&entry.data);
        }
        self.records.push(Placed {
            effect,
            offset: (start - self.start) as u32,
            bytes: (self.buffer.len() - start) as u32,
        });
    }
}

fn put_replica(header: &mut Vec<u8>, ReplicaId(entry): ReplicaId) {
    put(header, entry.term.0);
    put(header, entry.index.0);
}

fn put_configuration(header: &mut Vec<u8>, configuration: &Configuration) {
    let encoded = configuration.encode();
    put(header, encoded.len() as u64);
    header.extend(encoded);
}

/// The entries that a write appends.
pub(crate) fn appended(write: &LogWrite) -> &[Entry] {
    match write {
        LogWrite::Append(entries) => entries,
        LogWrite::Keep
        | LogWrite::Compact(_)
        | LogWrite::Reset(_)
        | LogWrite::Founding(_)
        | LogWrite::Tombstone(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::format::contents::{ContentsPlace, Named};
    use crate::wal::format::record::Record;
    use bytes::Bytes;
    use logboat_raft::{
        BootCount, Epoch, Fortification, Index, LogId, LogPosition, ReplicaAddress, Term,
    };
    use std::time::Duration;

    /// Hard states of founders and of replicas that were added, with votes for and bonds with
    /// either, and tombstones.
    fn states_and_tombstones() -> Vec<Effect> {
        let added = ReplicaId(LogId::new(Term(u64::MAX), Index(u64::MAX - 1)));
        let ids = [ReplicaId::FOUNDER, added];
        let mut effects = Vec::new();
        for number in 0..32 {
            let id = |bit: usize| ids[number >> bit & 1];
            let is_set = |bit: usize| number >> bit & 1 == 1;
            let leader = Fortification {
                leader: NodeId(300),
                replica: id(2),
                epoch: Epoch(u64::MAX),
                term: Term(u64::MAX),
            };
            let vote = is_set(3).then_some(ReplicaAddress::new(NodeId(u64::MAX), id(1)));
            let fortified = is_set(4).then_some(leader);
            let (replica, term, commit) = (id(0), Term(7), Index(u64::MAX));
            let state = HardState { replica, term, vote, commit, fortified };
            effects.push(Effect::Group(GroupId(u64::MAX), Change::HardState(Box::new(state))));
        }
        for id in ids {
            for lost in [false, true] {
                let change = Change::Tombstone { floor: id, lost };
                effects.push(Effect::Group(GroupId(u64::MAX), change));
            }
        }
        effects
    }

    #[test]
    fn hard_states_configurations_and_grants_are_read_as_they_were_written() {
        let mut effects = states_and_tombstones();
        for (epoch, live) in [(0, false), (0, true), (u64::MAX, false), (u64::MAX, true)] {
            for lease in [0, 1, u64::MAX].map(Duration::from_micros) {
                let (boot, log_end) = (BootCount(128), LogPosition::unpack(epoch));
                let grant = Grant { epoch: Epoch(epoch), boot, live, lease, log_end };
                effects.push(Effect::Grant(NodeId(epoch), grant));
            }
        }
        for voters in [&[NodeId(1)][..], &[NodeId(1), NodeId(128), NodeId(u64::MAX)]] {
            let configuration = Arc::new(Configuration::founding(voters, None));
            let last = LogId::new(Term(300), Index(u64::MAX - 1));
            let meta = SnapshotMeta { last, configuration: Arc::clone(&configuration) };
            for change in [
                Change::Founding(configuration),
                Change::Compact(meta.clone()),
                Change::Reset(meta),
            ] {
                effects.push(Effect::Group(GroupId(9), change));
            }
        }
        let mut encoder = Encoder::default();
        encoder.begin(1, BLOCK_BYTES, &[]);
        for effect in &effects {
            match effect {
                Effect::Group(group, Change::HardState(state)) => {
                    encoder.hard_state(*group, **state);
                }
                Effect::Group(group, Change::Tombstone { floor, lost }) => {
                    encoder.tombstone(*group, *floor, *lost);
                }
                Effect::Group(group, Change::Founding(founding)) => {
                    encoder.founding(*group, founding);
                }
                Effect::Group(group, Change::Compact(meta)) => {
                    encoder.compact(*group, meta.clone());
                }
                Effect::Group(group, change @ Change::Reset(meta)) => {
                    encoder.cut(*group, RESET, meta, change.clone());
                }
                Effect::Grant(peer, grant) => encoder.grant(*peer, *grant),
                Effect::Group(..) => unreachable!("there are no others above"),
            }
        }
        let mut bytes = &encoder.buffer[encoder.start + BATCH_HEADER_BYTES..];
        for (effect, placed) in effects.iter().zip(&encoder.records) {
            let record = Record::decode(bytes, 1).unwrap();
            assert_eq!((&record.effect, record.bytes), (effect, placed.bytes as usize));
            assert_eq!(placed.effect, *effect);
            for end in 0..record.bytes {
                assert!(Record::decode(&bytes[..end], 1).is_none(), "{effect:?} cut at {end}");
            }
            bytes = &bytes[record.bytes..];
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_tombstone_takes_at_most_32_bytes_and_a_founder_s_state_no_id() {
        let mut encoder = Encoder::default();
        encoder.begin(1, BLOCK_BYTES, &[]);
        let entry = LogId::new(Term(u64::from(u32::MAX)), Index(1 << 48));
        encoder.tombstone(GroupId(1 << 48), ReplicaId(entry), false);
        assert!(encoder.records[0].bytes <= 32, "{}", encoder.records[0].bytes);
        let vote = Some(ReplicaAddress::founder(NodeId(3)));
        let leader = (NodeId(3), ReplicaId::FOUNDER);
        let (epoch, term) = (Epoch(1), Term(2));
        let fortified = Some(Fortification { leader: leader.0, replica: leader.1, epoch, term });
        let state = HardState { term, vote, commit: Index(9), fortified, ..HardState::default() };
        encoder.hard_state(GroupId(1), state);
        assert_eq!(encoder.records[1].bytes, 13);
    }

    #[test]
    fn an_entry_of_128_bytes_costs_at_most_25_more() {
        let group = GroupId(999);
        let id = LogId::new(Term(3), Index(1_000_000));
        let entry = Entry::new(group, id, EntryKind::Command, Bytes::from(vec![7; 128]));
        let mut encoder = Encoder::default();
        encoder.begin(1, BLOCK_BYTES, &[]);
        encoder.entries(group, &[entry], false);
        let record = encoder.buffer.len() - encoder.start - BATCH_HEADER_BYTES;
        assert!(record <= 128 + 25, "{record}");
    }

    #[test]
    fn the_second_list_says_whose_records_a_batch_holds() {
        let mut encoder = Encoder::default();
        let durable = LogPosition { segment: 3, offset: 8192 };
        let header =
            || BatchHeader { body_bytes: 0, durable, oldest: 1, records: 0, closed: false };
        for offset in [BLOCK_BYTES, BLOCK_BYTES + 512] {
            encoder.begin(1, offset, &vec![0; (offset % BLOCK_BYTES) as usize]);
            encoder.grant(NodeId(9), Grant::default());
            for effect in states_and_tombstones() {
                match effect {
                    Effect::Group(group, Change::HardState(state)) => {
                        encoder.hard_state(GroupId(7), *state);
                        encoder.tombstone(group, ReplicaId::FOUNDER, false);
                    }
                    _ => encoder.compact(
                        GroupId(7),
                        SnapshotMeta {
                            last: LogId::new(Term(1), Index(1)),
                            configuration: Configuration::unknown().into(),
                        },
                    ),
                }
            }
            let bytes = encoder.batch_bytes();
            let (blocks, _) = encoder.finish(header(), offset);
            let mut file = vec![0; (offset / BLOCK_BYTES * BLOCK_BYTES) as usize];
            file.extend_from_slice(blocks);
            let end = offset + bytes;
            let contents = ContentsPlace::find(&file, 1, offset, end).unwrap().read(&file).unwrap();
            assert_eq!((contents.grants, contents.groups.len()), (1, 65));
            assert_eq!(contents.durable, (offset == BLOCK_BYTES).then_some(durable));
            let added = ReplicaId(LogId::new(Term(u64::MAX), Index(u64::MAX - 1)));
            for (at, named) in contents.groups.iter().enumerate() {
                let (group, floor) = match at {
                    64 => (7, None),
                    _ if at % 2 == 1 => (u64::MAX, Some(ReplicaId::FOUNDER)),
                    _ => (7, (at / 2 % 2 == 1).then_some(added.next())),
                };
                assert_eq!(*named, Named { group: GroupId(group), floor });
            }
            for other in [end - 8, end + 8] {
                assert_eq!(ContentsPlace::find(&file, 1, offset, other), None);
            }
            assert_eq!(ContentsPlace::find(&file, 2, offset, end), None);
        }
    }

    #[test]
    fn the_second_list_takes_two_percent_of_a_batch_of_many_groups_at_most() {
        let mut encoder = Encoder::default();
        encoder.begin(1, BLOCK_BYTES + 64, &[0; 64]);
        let before = encoder.batch_bytes();
        // In an order of chance.
        for number in 0..1_000_u64 {
            let (group, id) = (GroupId(number * 617 % 1_000), LogId::new(Term(3), Index(90_000)));
            let entry = Entry::new(group, id, EntryKind::Command, Bytes::from(vec![7; 128]));
            let log = LogWrite::Append([entry].into());
            encoder.persist(group, &Persist { seq: Default::default(), hard_state: None, log });
        }
        let (all, list) = (encoder.batch_bytes() - before, encoder.contents.bytes() as u64);
        assert!(list * 100 <= all * 2, "{list} of {all} bytes");
    }
}
