//! A thread that drives the replicas of its groups, as a poller of TiKV's raftstore does. It takes
//! what has arrived and steps every replica concerned. It collects the writes of all of them into
//! one batch, and syncs once.

use super::event::{Event, Proposal};
use super::storage::GroupLog;
use super::wire::Link;
use crate::sides::raft_rs::proposal;
use bytes::Bytes;
use logboat_bench::Failure;
use raft::eraftpb::{Entry, Message};
use raft::{RawNode, Ready, StateRole};
use raft_engine::{Engine, LogBatch};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// TiKV's: heartbeats at every second tick, elections after ten.
const TICK: Duration = Duration::from_secs(1);

/// A replica and its state machine, which keeps the last command.
pub(crate) struct Replica {
    pub(crate) raft: RawNode<GroupLog>,
    /// Proposed since the last turn.
    proposals: Vec<Proposal>,
    /// In the log, by index.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
    last: Bytes,
    /// Whether it is among those that the next turn looks at.
    woken: bool,
}

impl Replica {
    pub(crate) fn new(raft: RawNode<GroupLog>) -> Self {
        let (proposals, waiting) = (Vec::new(), VecDeque::new());
        Self { raft, proposals, waiting, last: Bytes::new(), woken: false }
    }

    /// Proposes what came since the last turn, all at once. Who waits for what can't be proposed
    /// learns by a closed channel.
    fn propose(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        let proposals = std::mem::take(&mut self.proposals);
        let commands = proposals.iter().map(|proposal| proposal.command.clone());
        let next = self.raft.raft.raft_log.last_index() + 1;
        let leads = self.raft.raft.state == StateRole::Leader;
        if leads && self.raft.raft.step(proposal(self.raft.raft.id, commands)).is_ok() {
            let waiting = proposals.into_iter().map(|proposal| proposal.done);
            self.waiting.extend((next..).zip(waiting));
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if !entry.data.is_empty() {
                // A copy: the command is a slice of a buffer of the network.
                self.last = Bytes::copy_from_slice(&entry.data);
            }
            while self.waiting.front().is_some_and(|(index, _)| *index <= entry.index) {
                let (index, done) = self.waiting.pop_front().expect("there is a first one");
                if index == entry.index {
                    // A client that has gone does not mind.
                    let _ = done.send(());
                }
            }
        }
    }
}

/// A thread's part of a node.
pub(crate) struct Poller {
    pub(crate) replicas: BTreeMap<u64, Replica>,
    pub(crate) inbox: Receiver<Event>,
    /// To the pollers of the same groups on the other nodes, by node.
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) batch: LogBatch,
    /// Counts the groups that have got a leader.
    pub(crate) led: Arc<AtomicUsize>,
    /// The groups that the next turn looks at.
    pub(crate) woken: Vec<u64>,
}

/// What of a replica waits for the write.
struct Pending {
    group: u64,
    ready: Ready,
}

impl Poller {
    /// Runs until it is stopped. The replicas of `preferred` campaign at once.
    pub(crate) fn run(mut self, preferred: &[u64]) -> Result<(), Failure> {
        for group in preferred {
            if let Some(replica) = self.replicas.get_mut(group) {
                replica.raft.campaign()?;
            }
            self.wake(*group);
        }
        let mut next_tick = Instant::now() + TICK;
        loop {
            self.turn()?;
            let event = match self.inbox.recv_timeout(next_tick - Instant::now()) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let more = std::iter::from_fn(|| self.inbox.try_recv().ok());
            let events: Vec<Event> = event.into_iter().chain(more).collect();
            for event in events {
                match event {
                    Event::Messages(messages) => self.receive(messages),
                    Event::Propose(proposal) => self.propose(proposal),
                    Event::Stop => return Ok(()),
                }
            }
            if Instant::now() >= next_tick {
                next_tick += TICK;
                self.tick();
            }
        }
    }

    fn wake(&mut self, group: u64) {
        if let Some(replica) = self.replicas.get_mut(&group)
            && !replica.woken
        {
            replica.woken = true;
            self.woken.push(group);
        }
    }

    fn receive(&mut self, messages: Vec<(u64, Message)>) {
        for (group, message) in messages {
            if let Some(replica) = self.replicas.get_mut(&group) {
                // A message of another term than it asks for is none to act on.
                let _ = replica.raft.step(message);
            }
            self.wake(group);
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        let group = proposal.group;
        if let Some(replica) = self.replicas.get_mut(&group) {
            replica.proposals.push(proposal);
        }
        self.wake(group);
    }

    fn tick(&mut self) {
        let groups: Vec<u64> = self.replicas.keys().copied().collect();
        for group in groups {
            if self.replicas.get_mut(&group).is_some_and(|replica| replica.raft.tick()) {
                self.wake(group);
            }
        }
    }

    /// Carries out the effects of the woken replicas. A leader's messages leave before the write,
    /// so that followers write at the same time. Messages that promise something leave after it.
    fn turn(&mut self) -> Result<(), Failure> {
        let mut pending = Vec::new();
        let mut must_sync = false;
        for group in std::mem::take(&mut self.woken) {
            if let Some(ready) = self.prepare(group)? {
                must_sync |= ready.must_sync();
                pending.push(Pending { group, ready });
            }
        }
        self.flush()?;
        if !self.batch.is_empty() {
            self.engine.write(&mut self.batch, must_sync)?;
        }
        for Pending { group, ready } in pending {
            self.complete(group, ready)?;
        }
        self.flush()
    }

    fn prepare(&mut self, group: u64) -> Result<Option<Ready>, Failure> {
        let Some(replica) = self.replicas.get_mut(&group) else { return Ok(None) };
        replica.woken = false;
        replica.propose();
        if !replica.raft.has_ready() {
            return Ok(None);
        }
        let mut ready = replica.raft.ready();
        send(&mut self.links, group, ready.take_messages())?;
        replica.apply(ready.take_committed_entries());
        if ready.ss().is_some_and(|state| state.raft_state == StateRole::Leader) {
            self.led.fetch_add(1, Ordering::Relaxed);
        }
        // A commit index alone need not be written: it is found again from the log.
        if ready.must_sync() {
            let log = replica.raft.mut_store();
            if let Some(state) = ready.hs() {
                log.save(state, &mut self.batch)?;
            }
            log.append(ready.take_entries(), &mut self.batch)?;
        }
        Ok(Some(ready))
    }

    fn complete(&mut self, group: u64, mut ready: Ready) -> Result<(), Failure> {
        let Some(replica) = self.replicas.get_mut(&group) else { return Ok(()) };
        send(&mut self.links, group, ready.take_persisted_messages())?;
        let mut light = replica.raft.advance_append(ready);
        send(&mut self.links, group, light.take_messages())?;
        replica.apply(light.take_committed_entries());
        replica.raft.advance_apply();
        let applied = replica.raft.raft.raft_log.applied;
        replica.raft.mut_store().applied(applied);
        if replica.raft.has_ready() {
            self.wake(group);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.links.values_mut().try_for_each(Link::flush)
    }
}

fn send(
    links: &mut BTreeMap<u64, Link>,
    group: u64,
    messages: Vec<Message>,
) -> Result<(), Failure> {
    for message in messages {
        if let Some(link) = links.get_mut(&message.to) {
            link.push(group, &message)?;
        }
    }
    Ok(())
}
