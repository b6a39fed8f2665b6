//! The consensus core, fed with anything that peers may say, in any order.
//!
//! Its own node keeps to its part. Time does not go back. Only writes that were handed out become
//! durable. [`Input::LogRead`] brings what the log holds, and [`Input::Compact`] names an entry
//! that was applied. Peers may send anything but an append that would replace an entry known to be
//! committed.

use crate::messages;
use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use logboat_raft::{
    Config, Configuration, Confirmation, Entry, EntryKind, Epoch, GroupId, HardState, Index, Input,
    Lease, LogId, LogReadTarget, LogWrite, Message, NodeId, Output, Payload, Persist, Raft,
    ReadFrom, ReadMode, ReadToken, ReplicaId, Restored, Round, SnapshotMeta, Support, TermRun,
    Time, Tuning, WriteSeq,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const GROUP: GroupId = GroupId(1);
const NODE: NodeId = NodeId(1);

/// Drives one replica through arbitrary inputs.
pub fn replica(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let voters = 1 + u64::from(input.arbitrary::<u8>().unwrap_or(0) % 5);
    let mut host = Host::new(voters);
    while !input.is_empty() {
        // Inputs end where the data do.
        if host.act(&mut input).is_err() {
            return;
        }
    }
}

/// A log as it was written, whether it is durable or not.
#[derive(Clone, Default)]
struct Disk {
    hard_state: HardState,
    snapshot: LogId,
    /// The configuration in force there, if there is a snapshot.
    base: Option<Arc<Configuration>>,
    entries: BTreeMap<Index, Entry>,
}

/// A replica, its disk, and what the replica waits for.
struct Host {
    config: Config,
    raft: Raft,
    now: Time,
    support: Support,
    written: Disk,
    durable: Disk,
    unsynced: VecDeque<Persist>,
    newest: WriteSeq,
    loads: VecDeque<(LogReadTarget, Index, Index, usize)>,
    applied: LogId,
}

impl Disk {
    fn write(&mut self, persist: Persist) {
        self.hard_state = persist.hard_state.map_or(self.hard_state, |written| *written);
        match persist.log {
            LogWrite::Keep | LogWrite::Founding(_) | LogWrite::Tombstone(_) => {}
            LogWrite::Append(entries) => {
                if let Some(first) = entries.first() {
                    self.entries.split_off(&first.index);
                }
                self.entries.extend(entries.into_iter().map(|entry| (entry.index, entry)));
            }
            LogWrite::Compact(meta) => {
                self.entries = self.entries.split_off(&meta.last.index.next());
                (self.snapshot, self.base) = (meta.last, Some(meta.configuration));
            }
            LogWrite::Reset(meta) => {
                self.entries.clear();
                (self.snapshot, self.base) = (meta.last, Some(meta.configuration));
            }
        }
    }

    fn restored(&self) -> Restored {
        let mut runs: Vec<TermRun> = Vec::new();
        for (first, entry) in &self.entries {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(TermRun { term: entry.term, first: *first });
            }
        }
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot,
            last: self.last(),
            runs,
            configurations: self.configurations(self.last()).collect(),
        }
    }

    /// The configurations that the log knows of up to an index, oldest first.
    fn configurations(&self, through: Index) -> impl Iterator<Item = Arc<Configuration>> {
        let entries = self.entries.range(..=through).map(|(_, entry)| entry);
        let holders = entries.filter(|entry| entry.kind == EntryKind::Configuration);
        let held = holders.map(|entry| {
            Configuration::decode(&entry.data).expect("only such are appended").into()
        });
        self.base.iter().cloned().chain(held)
    }

    fn last(&self) -> Index {
        self.entries.keys().next_back().map_or(self.snapshot.index, |index| *index)
    }

    fn read(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let mut entries = Vec::new();
        // The range is empty, and not wrong, when a snapshot moved the log on.
        for (index, entry) in self.entries.range(first..).take_while(|(index, _)| **index <= last) {
            bytes += entry.data.len();
            if index.0 != first.0 + entries.len() as u64
                || (bytes > max_bytes && !entries.is_empty())
            {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }
}

impl Host {
    fn new(voters: u64) -> Self {
        let tuning = Tuning {
            election_timeout: Duration::from_millis(100),
            campaign_stagger: Duration::from_millis(20),
            commit_delay: Duration::from_millis(10),
            retransmit_timeout: Duration::from_millis(50),
            max_append_bytes: 64,
            max_inflight_messages: 4,
            max_inflight_bytes: 128,
            max_uncommitted_bytes: 512,
            max_unapplied_entries: 64,
            max_unwritten_commits: 2,
        };
        let founders: Vec<_> = (1..=voters).map(NodeId).collect();
        let founding = Configuration::founding(&founders, Some(NODE)).into();
        let (replica, tuning) = (ReplicaId::FOUNDER, Arc::new(tuning));
        let config = Config { group: GROUP, node: NODE, replica, founding, seed: 7, tuning };
        let raft = Raft::new(config.clone(), Restored::default(), Time(0));
        let mut support = Support::default();
        for voter in (1..=voters).map(NodeId).filter(|voter| *voter != NODE) {
            support.of_mut(voter).support_from = Some(Epoch(1));
        }
        Self {
            config,
            raft,
            now: Time(0),
            support,
            written: Disk::default(),
            durable: Disk::default(),
            unsynced: VecDeque::new(),
            newest: WriteSeq(0),
            loads: VecDeque::new(),
            applied: LogId::default(),
        }
    }

    fn act(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let event = match input.int_in_range(0..=15)? {
            0 | 1 => {
                self.now = self.now + Duration::from_millis(input.arbitrary::<u8>()?.into());
                Input::Tick
            }
            2 => Input::Propose { commands: self.commands(input)?.into() },
            3 => {
                let [token, mode] = input.arbitrary::<[u8; 2]>()?;
                let from = if mode & 1 == 0 { ReadFrom::Leader } else { ReadFrom::Any };
                let mode = ReadMode { from, lease: mode & 2 != 0 };
                Input::Read { token: ReadToken(token.into()), mode }
            }
            4 | 5 => return self.sync(input),
            6 => return self.load(),
            7 => Input::Compact { meta: self.snapshot() },
            8 => Input::SnapshotFailed { to: node(input)? },
            9 => Input::Unreachable { node: node(input)? },
            10 => Input::Transfer { to: node(input)? },
            11 => match input.arbitrary::<u8>()? {
                0..0x40 => return self.restart(),
                0x40..0x80 => {
                    self.change_support(input)?;
                    Input::SupportChanged
                }
                0x80..0xa0 => {
                    self.support.of_mut(node(input)?).confirmed = Confirmation {
                        round: Round(input.arbitrary::<u8>()?.into()),
                        epoch: messages::epoch(input)?,
                    };
                    Input::Confirmed
                }
                0xa0..0xe0 => Input::Campaign,
                value => Input::MayLead(value % 2 == 0),
            },
            _ => {
                let from = node(input)?;
                let message = self.message(input)?;
                Input::Receive { from, message }
            }
        };
        self.step(event);
        Ok(())
    }

    /// Whatever the nodes promise each other.
    fn change_support(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        self.support.next_round = self.support.next_round.next();
        let peer = self.support.of_mut(node(input)?);
        peer.support_for = messages::epoch(input)?;
        peer.support_from = messages::epoch(input)?;
        let until = Time(input.arbitrary::<u32>()?.into());
        peer.lease = Lease { epoch: peer.support_from.unwrap_or_default(), until };
        Ok(())
    }

    /// A message that has a chance: often of the current term, and often about the log's end.
    fn message(&self, input: &mut Unstructured<'_>) -> Result<Message> {
        let mut message = messages::message(input, GROUP)?;
        let hints: u8 = input.arbitrary()?;
        if hints & 1 != 0 {
            message.term = self.raft.term();
        }
        if hints & 2 != 0
            && let Payload::AppendEntries { prev, entries, .. } = &mut message.payload
        {
            *prev = self.raft.last();
            for (entry, offset) in entries.iter_mut().zip(1..) {
                let term = if hints & 4 != 0 { message.term } else { entry.term };
                let id = LogId::new(term, prev.index.plus(offset));
                *entry = Entry::new(GROUP, id, entry.kind, entry.data.clone());
            }
        }
        if hints & 8 != 0 {
            match &mut message.payload {
                Payload::Appended { through, .. } => *through = self.raft.last().index,
                Payload::PreVoteReply { granted: true } => {
                    message.term = self.raft.term().next();
                }
                _ => {}
            }
        }
        Ok(message)
    }

    fn commands(&self, input: &mut Unstructured<'_>) -> Result<Vec<Bytes>> {
        let count = input.int_in_range(0..=3)?;
        (0..count).map(|_| Ok(Bytes::from(vec![1; input.int_in_range(0..=90)?]))).collect()
    }

    /// Makes some of the writes durable.
    fn sync(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let count = input.int_in_range(0..=self.unsynced.len().min(8))?;
        for persist in self.unsynced.drain(..count) {
            self.durable.write(persist);
        }
        let seq = WriteSeq(self.newest.0 - self.unsynced.len() as u64);
        self.step(Input::Persisted { seq });
        Ok(())
    }

    /// Answers the oldest request for entries.
    fn load(&mut self) -> Result<()> {
        if let Some((target, first, last, max_bytes)) = self.loads.pop_front() {
            let entries = self.written.read(first, last, max_bytes);
            self.step(Input::LogRead { target, entries: entries.into() });
        }
        Ok(())
    }

    /// Loses what was not durable, and the state machine but for its snapshot.
    fn restart(&mut self) -> Result<()> {
        self.written = self.durable.clone();
        self.unsynced.clear();
        self.newest = WriteSeq(0);
        self.loads.clear();
        self.applied = self.durable.snapshot;
        self.raft = Raft::new(self.config.clone(), self.durable.restored(), self.now);
        self.raft.invariants();
        Ok(())
    }

    /// A snapshot of what was applied.
    fn snapshot(&self) -> SnapshotMeta {
        let last = self.applied;
        let configuration = self.written.configurations(last.index).last();
        let configuration = configuration.unwrap_or_else(|| Arc::clone(&self.config.founding));
        SnapshotMeta { last, configuration }
    }

    fn step(&mut self, input: Input) {
        let committed = self.raft.commit();
        let mut out = Vec::new();
        self.raft.step(self.now, &self.support, input, &mut out);
        self.raft.invariants();
        for output in out {
            self.obey(output, committed);
        }
    }

    /// Carries out an output of a step before which the entries up to `committed` were known to be
    /// committed.
    fn obey(&mut self, output: Output, committed: Index) {
        match output {
            Output::Persist(persist) => {
                assert_eq!(persist.seq, self.newest.next(), "seqs have no gaps");
                if let LogWrite::Append(entries) = &persist.log {
                    let first = entries.first().expect("something is appended");
                    assert!(first.index > committed, "what is committed stays");
                }
                self.newest = persist.seq;
                self.written.write(persist.clone());
                self.unsynced.push_back(persist);
            }
            Output::SendAfter { after, .. } => assert!(after <= self.newest),
            Output::Gone { floor } => assert!(floor > self.raft.id(), "it goes forward"),
            Output::Apply { entries } => {
                assert!(!entries.is_empty(), "something is applied");
                for entry in entries {
                    assert_eq!(entry.index, self.applied.index.next(), "in order, each once");
                    entry.verify(GROUP).expect("what is applied is what was made");
                    let durable = self.durable.entries.get(&entry.index);
                    assert_eq!(durable, Some(&entry), "what is applied is durable");
                    self.applied = entry.id();
                }
            }
            Output::RestoreSnapshot { meta } => {
                let last = meta.last;
                assert!(last.index > self.applied.index, "a snapshot brings the state forward");
                self.applied = last;
            }
            Output::ReadLog { target, first, last, max_bytes } => {
                assert!(first <= last);
                self.loads.push_back((target, first, last, max_bytes));
            }
            Output::Send { .. }
            | Output::Violated { .. }
            | Output::OtherVoters { .. }
            | Output::Proposed { .. }
            | Output::Refused { .. }
            | Output::ChangeProposed { .. }
            | Output::ChangeRefused { .. }
            | Output::Configured { .. }
            | Output::ReadReady { .. }
            | Output::ReadRefused { .. }
            | Output::SendSnapshot { .. }
            | Output::RoleChanged { .. } => {}
        }
    }
}

fn node(input: &mut Unstructured<'_>) -> Result<NodeId> {
    Ok(NodeId(input.int_in_range(0..=6)?))
}
