//! What all simulated nodes share: time, chance, the network between them, and the books that are
//! kept on them.

use super::checks::Checks;
use super::elastic::{Elastic, Question, Told};
use super::members::Aim;
use super::options::{Fault, FaultCounts, Options, Plan};
use super::random::Random;
use super::stand_in::Directory;
use super::trace::Trace;
use super::transfer::{Departing, WrittenFile};
use bytes::Bytes;
use logboat::internals::{LogReadJob, QueryJob};
use logboat::{GroupId, RequestError};
use logboat_raft::{NodeId, SnapshotMeta, Start, Term};
use logboat_transport::Outgoing;
use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

/// What can happen.
#[derive(Debug)]
pub(super) enum Event {
    /// An interval passed on a node.
    Tick,
    /// A worker of a node takes its turn.
    Turn(usize),
    /// The sync under way on a node is over.
    Synced,
    /// Nothing was written for a while since this many writes.
    Idle(u64),
    /// A full disk is asked for room again.
    Room,
    /// Entries are read back from the log.
    ReadLog(LogReadJob),
    /// A reader is asked. If it is slow, the replica hears of that first.
    Query {
        job: QueryJob,
        is_slow: bool,
    },
    /// A snapshot is written, or failed.
    SnapshotWritten {
        group: GroupId,
        meta: SnapshotMeta,
        file: Option<WrittenFile>,
    },
    /// The next piece of a snapshot leaves.
    Chunk(Departing),
    /// A frame arrives; without a connection it is one that the network kept for long.
    Frame {
        from: usize,
        bytes: Bytes,
        connection: Option<u64>,
    },
    /// A node starts again.
    Restart,
    /// A node loses power.
    Crash,
    /// A connection is tried again.
    Reconnect {
        to: usize,
    },
    /// A connection is noticed to be lost.
    Disconnected {
        to: usize,
    },
    /// A client goes on.
    Think(usize),
    /// An attempt of a client took too long.
    Expire {
        client: usize,
        attempt: u64,
    },
    /// An attempt of a client was answered.
    Answer {
        client: usize,
        attempt: u64,
        result: Result<Bytes, RequestError>,
    },
    /// The next fault begins.
    Fault,
    /// A fault ends.
    Heal(Heal),
    /// A node learns of a peer that it did not know.
    AddPeer,
    /// A node is told to remove its replica in this place, which is gone.
    Remove {
        place: usize,
    },
    /// A leader is asked for the next change of members.
    Change,
    /// The workers of a node stand still for so long.
    Stall {
        host: usize,
        lasts: u64,
    },
    /// Syncs of a node take long for so long.
    SlowDisk {
        host: usize,
        lasts: u64,
    },
    /// A node names a later term, in which it led.
    Lie,
    /// Something goes wrong with a change, whose leader is in this place of a node.
    Interfere {
        host: usize,
        place: usize,
    },
    /// An old copy of a node's directory is put in its place, if that may be. So often it is looked
    /// at again if not.
    PutBack {
        place: usize,
        left: u64,
    },
    /// A node loses power, if a directory stands in for the one that it wrote last.
    CutStandIn(usize),
    /// A node comes back on the directory that it wrote last.
    Original(usize),
    /// A node of an elastic cluster looks what is to be done.
    Look,
    /// A node is asked something, or told what it has asked.
    Question {
        from: usize,
        question: Question,
    },
    Told {
        from: usize,
        told: Told,
    },
    /// People ask again for what they want.
    Wish(u64),
    /// A node that was away is there again.
    Return(usize),
}

/// What an event of a node is called in the trace.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Tick,
    Turn,
    Synced,
    Idle,
    Room,
    ReadLog,
    Query,
    SnapshotWritten,
    Chunk,
    Restart,
    Crash,
    Reconnect,
    Disconnected,
    Other,
}

impl Event {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Tick => Kind::Tick,
            Self::Turn(_) => Kind::Turn,
            Self::Synced => Kind::Synced,
            Self::Idle(_) => Kind::Idle,
            Self::Room => Kind::Room,
            Self::ReadLog(_) => Kind::ReadLog,
            Self::Query { .. } => Kind::Query,
            Self::SnapshotWritten { .. } => Kind::SnapshotWritten,
            Self::Chunk(_) => Kind::Chunk,
            Self::Restart => Kind::Restart,
            Self::Crash => Kind::Crash,
            Self::Reconnect { .. } => Kind::Reconnect,
            Self::Disconnected { .. } => Kind::Disconnected,
            Self::Frame { .. }
            | Self::Think(_)
            | Self::Expire { .. }
            | Self::Answer { .. }
            | Self::Fault
            | Self::Heal(_)
            | Self::AddPeer
            | Self::Remove { .. }
            | Self::Change
            | Self::Stall { .. }
            | Self::SlowDisk { .. }
            | Self::Lie
            | Self::Interfere { .. }
            | Self::PutBack { .. }
            | Self::CutStandIn(_)
            | Self::Original(_)
            | Self::Look
            | Self::Question { .. }
            | Self::Told { .. }
            | Self::Wish(_)
            | Self::Return(_) => Kind::Other,
        }
    }
}

/// How a fault ends.
#[derive(Clone, Debug)]
pub(super) enum Heal {
    /// All links are as usual.
    Network,
    /// A clock runs as fast as the others.
    Clock(usize),
    /// A disk is as fast as usual.
    Disk(usize),
    /// A disk has room again.
    Room(usize),
}

/// Whom an event concerns: a run of a node, a node whichever run it is in, or nobody.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Process { host: usize, incarnation: u64 },
    Host(usize),
    World,
}

/// An event at its time.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) at: u64,
    number: u64,
    pub(super) target: Target,
    pub(super) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest, for a heap that gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The way from one node to another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    /// Whether there is a connection, and which one.
    pub(super) up: bool,
    pub(super) connection: u64,
    /// The start that was welcomed, until something comes from it.
    pub(super) unconfirmed: Option<Start>,
    pub(super) blocked: bool,
    /// How many of a thousand frames get lost, and doubled.
    pub(super) loss: u64,
    pub(super) duplicate: u64,
    pub(super) reorder: bool,
    /// Delay on top of the usual one, in microseconds.
    pub(super) slow_us: u64,
    last_arrival: u64,
}

/// A frame in which a leader told a follower that it resigned.
#[derive(Clone, Debug)]
pub(super) struct Resignation {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) group: GroupId,
    pub(super) term: Term,
    pub(super) frame: Bytes,
}

/// How many resignations are kept.
const KEPT_RESIGNATIONS: usize = 30;

/// Everything but the nodes.
pub(super) struct Scene {
    /// Microseconds since the beginning.
    pub(super) now: u64,
    pub(super) plan: Plan,
    pub(super) options: Options,
    pub(super) random: Random,
    pub(super) trace: Trace,
    pub(super) checks: Checks,
    pub(super) counts: FaultCounts,
    /// Whether faults still happen.
    pub(super) stormy: bool,
    /// Whether the network has a fault that does not heal.
    pub(super) bridged: bool,
    /// The latest that were heard, if they may be heard again.
    pub(super) resignations: VecDeque<Resignation>,
    /// Copies of directories that are to be put back, each with the place of its node.
    pub(super) copies: Vec<(usize, Directory)>,
    /// Nodes that share no group, of which the first has taken the second out of its peers. Leases
    /// mean nothing between them.
    pub(super) parted: BTreeSet<(usize, usize)>,
    /// A term that a node has named, and that nobody may believe.
    pub(super) lie: Option<Term>,
    /// What the members of each group are to become.
    pub(super) aims: Vec<Option<Aim>>,
    pub(super) elastic: Elastic,
    links: Vec<Link>,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
}

impl Scene {
    pub(super) fn new(options: &Options) -> Self {
        let mut random = Random::new(options.seed);
        let plan = Plan::draw(options, &mut random);
        let checks = Checks::new(&plan);
        Self {
            now: 0,
            copies: Vec::new(),
            parted: BTreeSet::new(),
            lie: None,
            aims: vec![None; plan.groups],
            elastic: Elastic::default(),
            links: vec![Link::default(); plan.nodes * plan.nodes],
            plan,
            options: options.clone(),
            random,
            trace: Trace::new(options.trace),
            checks,
            counts: FaultCounts::new(),
            stormy: true,
            bridged: false,
            resignations: VecDeque::new(),
            queue: BinaryHeap::new(),
            scheduled: 0,
        }
    }

    /// Puts an event on the list.
    pub(super) fn after(&mut self, micros: u64, target: Target, event: Event) {
        self.scheduled += 1;
        let (at, number) = (self.now + micros, self.scheduled);
        self.queue.push(Scheduled { at, number, target, event });
    }

    /// The next event, whose time it is now.
    pub(super) fn next(&mut self) -> Option<Scheduled> {
        let next = self.queue.pop()?;
        (self.now, self.checks.now_us) = (next.at, next.at);
        Some(next)
    }

    pub(super) fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.plan.nodes + to]
    }

    /// Whether this kind of fault was asked for.
    pub(super) fn may(&self, fault: Fault) -> bool {
        self.stormy && self.options.faults.contains(&fault)
    }

    pub(super) fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }

    /// Sends what a turn has for a peer.
    pub(super) fn send(&mut self, from: usize, to: NodeId, outgoing: Outgoing) {
        for frame in outgoing.into_frames() {
            self.send_frame(from, to.0 as usize - 1, frame, true);
        }
    }

    /// Sends a frame; says whether there was a connection. One with a request is never doubled: the
    /// transport does not do that, and a client would see its command twice.
    pub(super) fn send_frame(&mut self, from: usize, to: usize, bytes: Bytes, twice: bool) -> bool {
        let (delay_us, now) = (self.plan.delay_us, self.now);
        let link = *self.link(from, to);
        if !link.up {
            return false;
        }
        if link.blocked || (link.loss > 0 && self.random.per_mille(link.loss)) {
            return true;
        }
        let delay =
            self.random.between(delay_us / 4 + 1, delay_us + delay_us / 4 + 1) + link.slow_us;
        let arrival = if link.reorder {
            now + delay + self.random.below(20 * delay_us)
        } else {
            (now + delay).max(link.last_arrival + 1)
        };
        self.link(from, to).last_arrival = arrival;
        if twice && link.duplicate > 0 && self.random.per_mille(link.duplicate) {
            let late = [1_000, 100_000, 60_000_000][self.random.place(3)];
            let late = self.random.below(late);
            let event = Event::Frame { from, bytes: bytes.clone(), connection: None };
            self.after(arrival - now + late, Target::Host(to), event);
        }
        let event = Event::Frame { from, bytes, connection: Some(link.connection) };
        self.after(arrival - now, Target::Host(to), event);
        true
    }

    /// Sends something that is no frame, on a connection or as a visitor.
    pub(super) fn send_word(&mut self, from: usize, to: NodeId, by_visit: bool, word: Event) {
        let to = to.0 as usize - 1;
        let link = *self.link(from, to);
        let is_open = link.up || by_visit;
        if is_open && !link.blocked && !(link.loss > 0 && self.random.per_mille(link.loss)) {
            let delay_us = self.plan.delay_us;
            let delay = self.random.between(delay_us / 4 + 1, delay_us + 1) + link.slow_us;
            self.after(delay, Target::Host(to), word);
        }
    }

    /// Keeps a resignation that was heard, if it may be heard again.
    pub(super) fn keep_resignation(&mut self, resignation: Resignation) {
        if self.may(Fault::Echo) {
            self.resignations.truncate(KEPT_RESIGNATIONS - 1);
            self.resignations.push_front(resignation);
        }
    }

    /// Breaks a connection, with all that is in flight on it; its sender notices.
    pub(super) fn disconnect(&mut self, from: usize, to: usize) {
        let link = self.link(from, to);
        if !link.up {
            return;
        }
        link.up = false;
        link.connection += 1;
        let noticed = self.random.below(20_000);
        self.after(noticed, Target::Host(from), Event::Disconnected { to });
        let again = noticed + self.random.between(10_000, 500_000);
        self.after(again, Target::Host(from), Event::Reconnect { to });
    }

    /// Makes all links usual again.
    pub(super) fn heal_network(&mut self) {
        for link in &mut self.links {
            let Link { up, connection, unconfirmed, last_arrival, .. } = *link;
            *link = Link { up, connection, unconfirmed, last_arrival, ..Link::default() };
        }
    }
}
