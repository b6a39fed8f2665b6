//! The consensus core of TiKV, raft-rs, in the contests.
//!
//! A replica is driven as the crate's documentation says (`Ready`, then `LightReady`), on the
//! crate's own storage in memory. Settings are TiKV's: pre-vote and check-quorum on, appends up to
//! 1 MiB, and no message whose only news is a higher commit index (`skip_bcast_commit`). Logging is
//! thrown away. Commands go in by one proposal of many entries, which costs less than many
//! proposals and lets them travel together; `batch_append` is on besides.

use bytes::Bytes;
use logboat_bench::Failure;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode};
use slog::{Discard, Logger, o};
use std::collections::VecDeque;
use std::hint::black_box;

/// The settings of a replica of three.
pub(crate) fn config(node: u64) -> Config {
    Config {
        id: node,
        election_tick: 10,
        heartbeat_tick: 2,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        skip_bcast_commit: true,
        batch_append: true,
        ..Config::default()
    }
}

pub(crate) fn logger() -> Logger {
    Logger::root(Discard, o!())
}

/// One proposal for many commands.
pub(crate) fn proposal(node: u64, commands: impl Iterator<Item = Bytes>) -> Message {
    let mut message = Message { from: node, ..Message::default() };
    message.set_msg_type(MessageType::MsgPropose);
    let entry = |data| Entry { data, ..Entry::default() };
    message.set_entries(commands.map(entry).collect::<Vec<_>>().into());
    message
}

/// The three replicas of a group, and the messages between them.
pub(crate) struct ThreeNodes {
    replicas: Vec<RawNode<MemStorage>>,
    messages: VecDeque<Message>,
    committed: u64,
}

/// The storage drops what is applied when it holds more entries than this.
const KEPT_ENTRIES: u64 = 128;

impl ThreeNodes {
    pub(crate) fn new(logger: &Logger) -> Result<Self, Failure> {
        let replica = |node| {
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            RawNode::new(&config(node), storage, logger)
        };
        let replicas = (1..=3).map(replica).collect::<Result<_, _>>()?;
        let mut nodes = Self { replicas, messages: VecDeque::new(), committed: 0 };
        nodes.replicas[0].campaign()?;
        nodes.settle(0)?;
        nodes.deliver()?;
        Ok(nodes)
    }

    /// How many entries the leader has handed out to be applied.
    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// Proposes on the leader and delivers messages until there are none.
    pub(crate) fn propose(&mut self, commands: impl Iterator<Item = Bytes>) -> Result<(), Failure> {
        self.replicas[0].raft.step(proposal(1, commands))?;
        self.settle(0)?;
        self.deliver()
    }

    fn deliver(&mut self) -> Result<(), Failure> {
        while let Some(message) = self.messages.pop_front() {
            let at = usize::try_from(message.to - 1)?;
            self.replicas[at].step(message)?;
            self.settle(at)?;
        }
        Ok(())
    }

    /// Does what a replica wants done.
    fn settle(&mut self, at: usize) -> Result<(), Failure> {
        let replica = &mut self.replicas[at];
        while replica.has_ready() {
            let mut ready = replica.ready();
            self.messages.extend(ready.take_messages());
            let mut committed = ready.take_committed_entries();
            if !ready.entries().is_empty() {
                replica.mut_store().wl().append(ready.entries())?;
            }
            if let Some(state) = ready.hs() {
                replica.mut_store().wl().set_hardstate(state.clone());
            }
            self.messages.extend(ready.take_persisted_messages());
            let mut light = replica.advance(ready);
            if let Some(commit) = light.commit_index() {
                replica.mut_store().wl().mut_hard_state().commit = commit;
            }
            self.messages.extend(light.take_messages());
            committed.append(&mut light.take_committed_entries());
            replica.advance_apply();
            self.committed += if at == 0 { committed.len() as u64 } else { 0 };
            black_box(committed);
        }
        let log = &replica.raft.raft_log;
        let applied = log.applied;
        if log.last_index() - log.first_index() > KEPT_ENTRIES {
            replica.mut_store().wl().compact(applied)?;
        }
        Ok(())
    }
}
