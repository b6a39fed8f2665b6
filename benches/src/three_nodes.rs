//! The consensus core alone: the three replicas of a group on one thread. Their disk is durable at
//! once, and their network loses nothing.

use bytes::Bytes;
use logboat_raft::{
    Config, Configuration, GroupId, Input, Message, NodeId, Output, Raft, ReplicaId, Restored,
    RoleKind, Support, Time, Tuning, WriteSeq,
};
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

/// The three replicas of a group, and the messages between them.
pub struct ThreeNodes {
    replicas: [Raft; 3],
    messages: VecDeque<(NodeId, NodeId, Message)>,
    outputs: Vec<Output>,
    /// No support from any node: these replicas have no nodes.
    support: Support,
    committed: u64,
}

impl ThreeNodes {
    /// Three empty replicas. The first one becomes the leader.
    ///
    /// # Panics
    /// When the first one isn't elected.
    #[must_use]
    pub fn new(group: GroupId, tuning: &Arc<Tuning>) -> Self {
        let voters = [1, 2, 3].map(NodeId);
        let founding = Arc::new(Configuration::founding(&voters, Some(voters[0])));
        let replica = |node: NodeId| {
            let config = Config {
                group,
                node,
                replica: ReplicaId::FOUNDER,
                founding: Arc::clone(&founding),
                seed: group.0 ^ node.0,
                tuning: Arc::clone(tuning),
            };
            Raft::new(config, Restored::default(), Time::default())
        };
        let mut nodes = Self {
            replicas: voters.map(replica),
            messages: VecDeque::new(),
            outputs: Vec::new(),
            support: Support::default(),
            committed: 0,
        };
        nodes.step(0, Input::Campaign);
        nodes.deliver();
        assert_eq!(nodes.replicas[0].role(), RoleKind::Leader);
        nodes
    }

    /// Proposes on the leader and delivers messages until there are none.
    pub fn propose(&mut self, commands: Vec<Bytes>) {
        self.step(0, Input::Propose { commands: commands.into() });
        self.deliver();
    }

    /// How many entries the leader has handed out for applying.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.messages.pop_front() {
            self.step(place(to), Input::Receive { from, message });
        }
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.replicas[at].step(Time::default(), &self.support, input, &mut outputs);
        let mut durable = None;
        for output in outputs.drain(..) {
            match output {
                Output::Persist(persist) => durable = Some(persist.seq),
                Output::Send { to, message } | Output::SendAfter { after: _, to, message } => {
                    self.messages.push_back((NodeId(at as u64 + 1), to, message));
                }
                Output::Apply { entries } => {
                    self.committed += if at == 0 { entries.len() as u64 } else { 0 };
                    black_box(entries);
                }
                Output::Proposed { .. }
                | Output::Refused { .. }
                | Output::ChangeProposed { .. }
                | Output::ChangeRefused { .. }
                | Output::Configured { .. }
                | Output::ReadReady { .. }
                | Output::ReadRefused { .. }
                | Output::ReadLog { .. }
                | Output::SendSnapshot { .. }
                | Output::RestoreSnapshot { .. }
                | Output::Gone { .. }
                | Output::Violated { .. }
                | Output::OtherVoters { .. }
                | Output::RoleChanged { .. } => {}
            }
        }
        self.outputs = outputs;
        if let Some(seq) = durable {
            self.persisted(at, seq);
        }
    }

    fn persisted(&mut self, at: usize, seq: WriteSeq) {
        self.step(at, Input::Persisted { seq });
    }
}

fn place(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).expect("three nodes")
}
