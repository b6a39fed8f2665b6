//! The cluster: nodes, the network between them, and the groups, driven event by event.

use super::cost::{DELAY, JITTER, LOOKS_AN_INTERVAL, RUN, SYNC, WAKE_UP, WORKERS};
use super::node::{Batch, Node};
use super::queue::{Event, Queue};
use super::replica::{Message, Produced, Replica, ReplicaId};
use super::tally::Tally;
use super::voters::{Place, Voters};
use super::worker::{Event as Posted, Groups};
use crate::random::SplitMix64;
use logboat::internals::{Effect, LivenessTiming};
use logboat::{NodeConfig, Tuning};
use logboat_raft::{LogPosition, NodeId, SupportMessage, Time};
use logboat_transport::Outgoing;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the nodes have to begin to support each other.
const SETTLING: Duration = Duration::from_secs(2);

/// A cluster in virtual time.
pub(super) struct World {
    pub(super) now: Time,
    pub(super) groups: Groups,
    pub(super) nodes: Vec<Node>,
    pub(super) tally: Tally,
    timing: LivenessTiming,
    tuning: Tuning,
    random: SplitMix64,
    queue: Queue,
}

impl World {
    /// Nodes that all support each other, and groups on random ones of them that are idle since
    /// long ago, each led by its preferred voter.
    pub(super) fn at_rest(nodes: usize, groups: usize, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let count = u16::try_from(nodes).expect("fewer than 2^16 nodes");
        let voters: Vec<_> = (0..groups).map(|_| Voters::draw(&mut random, count)).collect();
        let config = default_config();
        let timeout = config.tuning.election_timeout;
        let timing = LivenessTiming {
            heartbeat_interval: config.heartbeat_interval,
            support_timeout: timeout,
            leases: config.leases,
            max_clock_drift: config.max_clock_drift,
        };
        let mut world = Self {
            now: Time(0),
            groups: Groups { voters, replicas: Vec::new(), slots: Vec::new() },
            nodes: Vec::with_capacity(nodes),
            tally: Tally::new(groups),
            timing,
            tuning: config.tuning,
            random,
            queue: Queue::default(),
        };
        world.start_nodes(nodes);
        world.run(Time(0) + SETTLING);
        world.seat_groups();
        world
    }

    /// Lets happen what happens up to `end`.
    pub(super) fn run(&mut self, end: Time) {
        while let Some((at, event)) = self.queue.pop(end) {
            self.now = at;
            self.handle(event);
        }
        self.now = end;
    }

    /// Ends nodes, in the midst of whatever they do. What they have sent arrives.
    pub(super) fn kill(&mut self, nodes: &[NodeId]) {
        for id in nodes {
            self.node(*id).lives = false;
        }
    }

    /// So many of the nodes, by lot.
    pub(super) fn draw_nodes(&mut self, count: usize) -> Vec<NodeId> {
        let mut left: Vec<_> = self.nodes.iter().map(|node| node.id).collect();
        let draw = |_| left.swap_remove(self.random.draw() as usize % left.len());
        (0..count).map(draw).collect()
    }

    /// Some part of an interval of heartbeats, by lot.
    pub(super) fn draw_pause(&mut self) -> Duration {
        let most = u64::try_from(self.timing.heartbeat_interval.as_micros())
            .expect("an interval is short");
        Duration::from_micros(self.random.draw() % most)
    }

    /// Whether a node lives.
    pub(super) fn lives(&self, id: NodeId) -> bool {
        self.nodes[index(id)].lives
    }

    /// Nodes start at different moments of an interval.
    fn start_nodes(&mut self, nodes: usize) {
        for number in 1..=nodes as u64 {
            let (id, start) = (NodeId(number), Time(0) + self.draw_pause());
            self.nodes.push(Node::new(id, nodes, self.timing, start));
            self.queue.add(start, Event::Look(id));
        }
    }

    fn seat_groups(&mut self) {
        for group in 0..self.groups.voters.len() {
            for place in Place::ALL {
                let id = ReplicaId::new(group, place);
                let voters = self.groups.voters[group];
                let worker = &mut self.nodes[index(voters.node(place))].workers[group % WORKERS];
                self.groups.replicas.push(Replica::at_rest(id, voters, &worker.support));
                let slot = worker.add(id, &self.groups);
                self.groups.slots.push(slot);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Look(id) => self.look(id),
            Event::Word { from, to, message } => self.heard(from, to, message),
            Event::Frame { to, messages } => self.arrived(to, messages),
            Event::Turn { node, worker } => self.turn(node, worker),
            Event::Flush(id, produced) => self.flush(id, *produced),
            Event::TurnEnds { node, worker } => self.end_turn(node, worker),
            Event::Synced(id) => self.synced(id),
        }
    }

    /// See `Ticker` in `engine/src/runtime.rs`.
    fn look(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.node(id);
        if !node.lives {
            return;
        }
        let mut effects = Vec::new();
        node.liveness.tick(now, LogPosition::default(), &mut effects);
        self.carry_out(id, effects);
        for worker in 0..WORKERS {
            let alarm = &mut self.node(id).workers[worker].alarm;
            if alarm.is_some_and(|alarm| alarm <= now) {
                *alarm = None;
                self.post(id, worker, Posted::Tick);
            }
        }
        self.queue.add(now + self.timing.heartbeat_interval / LOOKS_AN_INTERVAL, Event::Look(id));
    }

    fn heard(&mut self, from: NodeId, to: NodeId, message: SupportMessage) {
        let now = self.now;
        let node = self.node(to);
        if node.lives {
            let mut effects = Vec::new();
            node.liveness.receive(from, message, now, &mut effects);
            self.carry_out(to, effects);
        }
    }

    /// See `LivenessManager` in `engine/src/liveness/manager.rs`.
    fn carry_out(&mut self, id: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist(node, grant) => {
                    self.node(id).log.next().grants.push((node, grant));
                }
                Effect::Send(to, message) => self.send_word(id, to, message),
                Effect::SendWhenDurable(to, message) => {
                    self.node(id).log.next().support_messages.push((to, message));
                }
                Effect::SupportForChanged(peer, epoch) => {
                    if epoch.is_none() {
                        self.tally.detected.push(self.now);
                    }
                    self.post_to_all(id, || Posted::SupportFor(peer, epoch));
                }
                Effect::SupportFromChanged(peer, epoch) => {
                    self.post_to_all(id, || Posted::SupportFrom(peer, epoch));
                }
                // Nobody reads, all nodes have the same settings, and none lies.
                Effect::Lease(..) | Effect::SettingsDiffer(..) | Effect::Implausible(..) => {}
            }
        }
        self.write(id);
    }

    fn arrived(&mut self, to: NodeId, messages: Vec<Message>) {
        if !self.lives(to) {
            return;
        }
        let mut sorted: [Vec<Message>; WORKERS] = Default::default();
        for message in messages {
            sorted[message.to.group() % WORKERS].push(message);
        }
        for (worker, messages) in sorted.into_iter().enumerate() {
            if !messages.is_empty() {
                self.post(to, worker, Posted::Messages(messages));
            }
        }
    }

    fn post_to_all(&mut self, id: NodeId, event: impl Fn() -> Posted) {
        (0..WORKERS).for_each(|worker| self.post(id, worker, event()));
    }

    fn post(&mut self, id: NodeId, number: usize, event: Posted) {
        let worker = &mut self.nodes[index(id)].workers[number];
        worker.inbox.push(event);
        if !std::mem::replace(&mut worker.busy, true) {
            self.queue.add(self.now + WAKE_UP, Event::Turn { node: id, worker: number });
        }
    }

    /// See `Worker` in `engine/src/worker.rs`.
    fn turn(&mut self, id: NodeId, number: usize) {
        let Self { now, groups, nodes, tuning, random, .. } = self;
        let node = &mut nodes[index(id)];
        if !node.lives {
            return;
        }
        let mut at = *now;
        for (runs, produced) in node.workers[number].turn(*now, groups, tuning, random) {
            at = at + RUN * u32::try_from(runs).expect("a burst is short");
            self.queue.add(at, Event::Flush(id, Box::new(produced)));
        }
        self.queue.add(at, Event::TurnEnds { node: id, worker: number });
    }

    fn flush(&mut self, id: NodeId, produced: Produced) {
        if !self.lives(id) {
            return;
        }
        self.tally.add(self.now, &produced);
        let Produced { sends, promises, wrote, .. } = produced;
        self.send_messages(id, sends);
        let batch = self.node(id).log.next();
        batch.promises.extend(promises);
        batch.wrote.extend(wrote);
        self.write(id);
    }

    fn end_turn(&mut self, id: NodeId, number: usize) {
        let worker = &mut self.nodes[index(id)].workers[number];
        worker.alarm = worker.wait_lists.next_deadline();
        worker.busy = worker.has_more();
        if worker.busy {
            self.queue.add(self.now, Event::Turn { node: id, worker: number });
        }
    }

    fn write(&mut self, id: NodeId) {
        if self.node(id).log.begin() {
            self.queue.add(self.now + SYNC, Event::Synced(id));
        }
    }

    fn synced(&mut self, id: NodeId) {
        let node = self.node(id);
        if !node.lives {
            return;
        }
        let Batch { grants, support_messages, promises, wrote } = node.log.end();
        for (peer, grant) in grants {
            node.liveness.persisted(peer, grant);
        }
        self.tally.syncs += 1;
        self.tally.group_syncs += u64::from(!wrote.is_empty());
        for (to, message) in support_messages {
            self.send_word(id, to, message);
        }
        self.send_messages(id, promises);
        for replica in wrote {
            if self.groups.replicas[replica.index()].synced() {
                self.post(id, replica.group() % WORKERS, Posted::Synced(replica));
            }
        }
        self.write(id);
    }

    fn send_word(&mut self, from: NodeId, to: NodeId, message: SupportMessage) {
        let mut outgoing = Outgoing::new();
        outgoing.push_support(&message);
        let bytes: usize = outgoing.into_frames().iter().map(|frame| frame.len()).sum();
        self.tally.liveness_messages += 1;
        self.tally.liveness_bytes += bytes as u64;
        let at = self.arrival(from, to);
        self.queue.add(at, Event::Word { from, to, message });
    }

    /// One frame a peer.
    fn send_messages(&mut self, from: NodeId, mut messages: Vec<(NodeId, Message)>) {
        self.tally.group_messages += messages.len() as u64;
        messages.sort_by_key(|(to, _)| *to);
        for frame in messages.chunk_by(|a, b| a.0 == b.0) {
            let to = frame[0].0;
            let messages = frame.iter().map(|(_, message)| *message).collect();
            let at = self.arrival(from, to);
            self.queue.add(at, Event::Frame { to, messages });
        }
    }

    /// When what is sent now arrives: never before what was sent earlier.
    fn arrival(&mut self, from: NodeId, to: NodeId) -> Time {
        let jitter = self.random.draw() % JITTER.as_micros() as u64;
        let at = self.now + DELAY + Duration::from_micros(jitter);
        let last = &mut self.nodes[index(from)].arrivals[index(to)];
        *last = at.max(*last);
        *last
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[index(id)]
    }
}

/// Nodes are counted from one.
fn index(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).expect("there are fewer nodes than bytes")
}

/// The defaults that nodes start with.
fn default_config() -> NodeConfig {
    let id = NodeId(1);
    let members = BTreeMap::from([(id, "127.0.0.1:0".to_owned())]);
    NodeConfig::new(id, members, "").expect("the only member has an address")
}
