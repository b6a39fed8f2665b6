//! What a simulation is asked for, and what it draws from its seed.

use super::elastic::{FOUNDERS, MOST_NODES};
use super::process::group_id;
use super::random::Random;
use logboat::internals::LivenessTiming;
use logboat::{Tuning, WalOptions};
use logboat_raft::{Configuration, GroupId, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

faults! {
    /// A node loses power, at any moment or at one that hurts, and comes back.
    Crash = "crash",
    /// A node stands still and goes on.
    Pause = "pause",
    /// Two sets of nodes don't hear each other.
    Partition = "partition",
    /// A link works in one direction only.
    OneWay = "one-way",
    /// Two nodes don't hear each other, though both hear a third.
    Bridge = "bridge",
    /// A link loses many frames.
    Loss = "loss",
    /// A link delivers frames twice, the second time perhaps a minute late.
    Duplicate = "duplicate",
    /// A follower hears once more, however late, that its leader resigned in an earlier term.
    Echo = "echo",
    /// A link delivers frames out of order.
    Reorder = "reorder",
    /// A link is slow.
    SlowLink = "slow-link",
    /// A connection breaks, and what is in flight on it is lost.
    Disconnect = "disconnect",
    /// A clock runs fast or slow.
    Skew = "skew",
    /// A clock jumps ahead.
    Jump = "jump",
    /// A worker of a node takes nothing in for a while.
    BusyWorker = "busy-worker",
    /// A node supports another no longer, and not again for a while.
    Withdraw = "withdraw",
    /// A disk takes long to sync.
    SlowDisk = "slow-disk",
    /// A sync fails once.
    SyncFailure = "sync-failure",
    /// A disk is full for a while.
    DiskFull = "disk-full",
    /// A bit of acknowledged data flips.
    BitFlip = "bit-flip",
    /// A snapshot can't be written.
    SnapshotFailure = "snapshot-failure",
    /// A replica is told to make a snapshot now.
    Compact = "compact",
    /// A leader is told to hand over.
    Transfer = "transfer",
    /// A leader is told to change its group's members.
    Members = "members",
    /// A replica that was removed is heard, or a node that was not asked.
    Forgery = "forgery",
    /// A node names a term that is far ahead.
    Lie = "lie",
    /// A node does not know one of its peers for a while.
    Peers = "peers",
    /// A node is told to remove a replica that is gone.
    Removal = "removal",
    /// A replica fails: its state machine panics or can't be restored, or its log can't be read.
    ReplicaFailure = "replica-failure",
    /// Nodes differ in how long they wait for each other.
    Settings = "settings",
    /// Some nodes are cut off from the others for good, and these go on.
    Isolation = "isolation",
    /// A node runs on an old copy of its directory for a while.
    OldCopy = "old-copy",
    /// A node runs on an emptied directory for a while.
    Wipe = "wipe",
    /// A stranger dials a node, and claims to be another one.
    Impostor = "impostor",
    /// A node joins an elastic cluster.
    Join = "join",
    /// A node of an elastic cluster is drained.
    Drain = "drain",
    /// A node that is being emptied is to keep its replicas.
    Undrain = "undrain",
    /// One or two nodes leave an elastic cluster.
    Decommission = "decommission",
    /// A node of an elastic cluster is lost for good.
    Lose = "lose",
    /// A node of an elastic cluster is away for so long that it is given up, or almost.
    Absence = "absence",
    /// A recovery gives up a lost node of an elastic cluster, which comes back all the same.
    GiveUp = "give-up",
    /// The data of a replica of an elastic cluster are damaged.
    Damage = "damage",
    /// The driver of a node goes on by an old table when another node has one, and is late.
    TwoDrivers = "two-drivers",
}

impl Fault {
    /// Those of elastic clusters.
    pub const ELASTIC: &[Self] = &[
        Self::Join,
        Self::Drain,
        Self::Undrain,
        Self::Decommission,
        Self::Lose,
        Self::Absence,
        Self::GiveUp,
        Self::Damage,
        Self::TwoDrivers,
    ];

    /// Those that may happen in any cluster.
    #[must_use]
    pub fn anywhere() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|fault| !Self::ELASTIC.contains(fault)).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|fault| fault.name() == text);
        found.copied().ok_or_else(|| format!("there is no fault {text:?}"))
    }
}

/// What to simulate. All but the seed can be left to the seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything else follows from it.
    pub seed: u64,
    /// Nodes, from 3 to 7.
    pub nodes: Option<usize>,
    /// Groups, from 1 to 100.
    pub groups: Option<usize>,
    /// How many events pass under faults before these stop.
    pub steps: u64,
    /// The faults that may happen.
    pub faults: Vec<Fault>,
    /// Whether the trace is kept as text.
    pub trace: bool,
    /// Whether the groups have the server's stores of keys, which expire.
    pub keys: bool,
    /// Whether nodes join and leave, and the router's placement moves replicas.
    pub elastic: bool,
}

impl Options {
    /// A simulation of this seed with everything that can happen.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: None,
            groups: None,
            steps: 20_000,
            faults: Fault::anywhere(),
            trace: false,
            keys: false,
            elastic: false,
        }
    }

    /// Two groups of the server's stores of keys, one in memory and one on disk, under faults that
    /// have them change their leaders, start again, and take over snapshots, while clocks differ.
    #[must_use]
    pub fn keys(seed: u64) -> Self {
        let faults = vec![
            Fault::Crash,
            Fault::Pause,
            Fault::Partition,
            Fault::Disconnect,
            Fault::Duplicate,
            Fault::Skew,
            Fault::Jump,
            Fault::BusyWorker,
            Fault::Withdraw,
            Fault::SlowDisk,
            Fault::Compact,
            Fault::Transfer,
            Fault::Isolation,
        ];
        Self { nodes: Some(3), groups: Some(2), faults, keys: true, ..Self::new(seed) }
    }

    /// One of seven kinds of simulation, in turn: with everything that can happen, or small
    /// clusters, in which clients meet more often, under the plainest faults, under those that
    /// leave a leader behind who can still ask some of the others, under those that let support end
    /// early, under those that take a node's directory away, with members that come and go, or
    /// under those that bring the words of former leaders late.
    #[must_use]
    pub fn mixed(seed: u64) -> Self {
        let options = Self::new(seed);
        let mut nodes = 3;
        let faults = match seed % 7 {
            0 => return options,
            1 => vec![Fault::Pause, Fault::Crash, Fault::Partition, Fault::Peers, Fault::Isolation],
            2 => vec![Fault::Transfer, Fault::SlowLink, Fault::Withdraw, Fault::Forgery],
            3 => vec![Fault::Withdraw, Fault::Bridge, Fault::BusyWorker],
            4 => vec![Fault::OldCopy, Fault::Wipe, Fault::Impostor, Fault::Crash],
            5 => {
                nodes = 4 + seed as usize % 2;
                let others = [
                    Fault::Pause,
                    Fault::Crash,
                    Fault::Partition,
                    Fault::Withdraw,
                    Fault::SlowDisk,
                    Fault::Forgery,
                    Fault::Lie,
                    Fault::Removal,
                ];
                [Fault::Members; 4].into_iter().chain(others).collect()
            }
            _ => vec![
                Fault::Transfer,
                Fault::Duplicate,
                Fault::Echo,
                Fault::Pause,
                Fault::ReplicaFailure,
                Fault::Lie,
            ],
        };
        Self { nodes: Some(nodes), groups: Some(1), faults, ..options }
    }

    /// A cluster of three nodes that grows and shrinks, with a meta group beside the others, under
    /// faults that come in the middle of that.
    #[must_use]
    pub fn elastic(seed: u64) -> Self {
        let others = [
            Fault::Join,
            Fault::Join,
            Fault::Join,
            Fault::Join,
            Fault::Decommission,
            Fault::Crash,
            Fault::Pause,
            Fault::Partition,
            Fault::Loss,
            Fault::Disconnect,
            Fault::Transfer,
            Fault::SlowDisk,
        ];
        // Recoveries are rare, and take a node's data away that others may need.
        let recoveries = if seed % 4 == 3 { 3 } else { 0 };
        let elastic = Fault::ELASTIC.iter().copied().filter(|fault| *fault != Fault::GiveUp);
        let elastic = elastic.chain(std::iter::repeat_n(Fault::GiveUp, recoveries));
        Self {
            nodes: Some(MOST_NODES),
            groups: Some(4 + seed as usize % 4),
            faults: elastic.chain(others).collect(),
            elastic: true,
            ..Self::new(seed)
        }
    }
}

/// How often each fault happened.
pub type FaultCounts = BTreeMap<Fault, u64>;

/// What the seed makes of the options.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    /// How many of them found the groups.
    founders: usize,
    pub(super) groups: usize,
    /// Replicas of each group.
    pub(super) replicas: usize,
    /// Workers of each node.
    pub(super) workers: usize,
    /// How long a worker may be late at the most, in microseconds.
    pub(super) worker_lag_us: u64,
    pub(super) clients: usize,
    /// The longest pause of a client between two operations, in microseconds.
    pub(super) think_us: u64,
    /// What commands may be longer than they need to be, in bytes.
    pub(super) padding_bytes: usize,
    /// The longest time between two faults, in microseconds.
    pub(super) fault_us: u64,
    /// The usual delay of a link, in microseconds.
    pub(super) delay_us: u64,
    /// The usual time of a sync, in microseconds.
    pub(super) sync_us: u64,
    pub(super) tick: Duration,
    pub(super) tuning: Tuning,
    /// What each node's timeouts are, in quarters of those that it should have.
    quarters: Vec<u32>,
    /// Whether the members of groups change. Then every node holds a replica of every group, which
    /// waits to be added if it has not founded the group.
    pub(super) members_change: bool,
    /// A node that starts later than the others, and when it does, in microseconds.
    pub(super) late: Option<(usize, u64)>,
    /// Whether the others wait for that one before they promise anything.
    waits_for_late: bool,
    /// Whether clients read on leases, too; then clocks run almost equally fast.
    pub(super) leases: bool,
    pub(super) request_timeout: Duration,
    pub(super) snapshot_log_bytes: u64,
    /// Every other group has its state on disk, from this one on.
    first_on_disk: usize,
    pub(super) chunk_bytes: usize,
    pub(super) wal: WalOptions,
    /// Whether the groups have stores of keys.
    pub(super) keys: bool,
    /// The node (by place) whose wall clock is wrong at most of its starts.
    pub(super) wrong_clock: usize,
    /// Whether the last group is a meta group, and places the replicas of all.
    pub(super) elastic: bool,
    /// After how long a node of an elastic cluster that is silent is lost.
    pub(super) lost_after: Duration,
}

impl Plan {
    pub(super) fn draw(options: &Options, random: &mut Random) -> Self {
        let nodes = options.nodes.unwrap_or_else(|| match random.below(10) {
            0..6 => 3,
            6..8 => 5,
            _ => random.between(3, 7) as usize,
        });
        let groups = options.groups.unwrap_or_else(|| match random.below(10) {
            0..4 => random.between(1, 3) as usize,
            4..9 => random.between(4, 12) as usize,
            _ => random.between(13, 100) as usize,
        });
        let replicas = random.between(3, nodes.min(5) as u64) as usize;
        let tick = Duration::from_millis([25, 50, 100, 250][random.place(4)]);
        let election_timeout = tick * 10;
        let segment_bytes = [8 << 10, 16 << 10, 32 << 10, 128 << 10][random.place(4)];
        let mut plan = Self {
            quarters: vec![4; nodes],
            late: None,
            waits_for_late: false,
            nodes,
            founders: nodes,
            elastic: false,
            lost_after: Duration::MAX,
            groups,
            replicas,
            workers: random.between(1, 4) as usize,
            worker_lag_us: [50, 5_000, election_timeout.as_micros() as u64][random.place(3)],
            clients: random.between(3, 8) as usize,
            think_us: random.between(20, 1_000) * 1_000,
            padding_bytes: [1, 300, 2_000][random.place(3)],
            fault_us: election_timeout.as_micros() as u64 * random.between(1, 6),
            delay_us: random.between(50, 2_000),
            sync_us: random.between(50, 10_000),
            tick,
            tuning: Tuning {
                election_timeout,
                campaign_stagger: tick * random.between(1, 4) as u32,
                commit_delay: tick * random.between(1, 3) as u32,
                retransmit_timeout: election_timeout / random.between(1, 4) as u32,
                max_append_bytes: [64, 1 << 10, 512 << 10][random.place(3)],
                max_inflight_messages: random.between(1, 16) as usize,
                max_inflight_bytes: [64, 4 << 10, 4 << 20][random.place(3)],
                max_uncommitted_bytes: [512, 16 << 20][random.place(2)],
                max_unapplied_entries: [8, 1 << 18][random.place(2)],
                max_unwritten_commits: 8,
            },
            members_change: false,
            leases: random.per_mille(300),
            request_timeout: election_timeout * random.between(1, 4) as u32,
            snapshot_log_bytes: [300, 2_000, 20_000][random.place(3)],
            first_on_disk: (options.seed / 7 % 2) as usize,
            chunk_bytes: [64, 1_000, 64 << 10][random.place(3)],
            wal: WalOptions {
                segment_bytes,
                max_bytes: segment_bytes * random.between(2, 8),
                mark_delay: Duration::from_millis(random.between(1, 100)),
            },
            keys: options.keys,
            wrong_clock: if options.keys { (options.seed % nodes as u64) as usize } else { 0 },
        };
        plan.members_change = options.faults.contains(&Fault::Members)
            && (options.groups == Some(1) || random.per_mille(300));
        // Where clients read on leases, all nodes wait equally long.
        if options.faults.contains(&Fault::Settings) && !plan.leases {
            plan.quarters.fill_with(|| [2, 3, 4, 8][random.place(4)]);
        }
        plan.draw_late(random);
        plan.become_elastic(options, random);
        plan
    }

    /// Whether a node starts late, and whether the others wait for it.
    fn draw_late(&mut self, random: &mut Random) {
        if random.per_mille(300) {
            let micros = random.below(20 * self.election_us());
            self.late = Some((random.place(self.nodes), micros));
            self.waits_for_late = random.per_mille(300);
        }
    }

    /// Elastic clusters are slow enough that what the driver waits for by its own clock is no age,
    /// and write more at a time.
    fn become_elastic(&mut self, options: &Options, random: &mut Random) {
        if !options.elastic {
            return;
        }
        self.elastic = true;
        self.members_change = true;
        self.founders = FOUNDERS;
        self.replicas = FOUNDERS;
        self.late = None;
        self.tick = Duration::from_millis([200, 400][random.place(2)]);
        let election_timeout = self.tick * 10;
        self.tuning = Tuning {
            election_timeout,
            campaign_stagger: self.tick * 2,
            commit_delay: self.tick * 2,
            retransmit_timeout: election_timeout / random.between(1, 4) as u32,
            max_append_bytes: [1 << 10, 512 << 10][random.place(2)],
            max_inflight_bytes: 4 << 20,
            max_uncommitted_bytes: 16 << 20,
            ..self.tuning.clone()
        };
        self.quarters.fill(4);
        self.request_timeout = election_timeout * random.between(1, 3) as u32;
        self.lost_after = election_timeout * random.between(4, 10) as u32;
        self.fault_us = election_timeout.as_micros() as u64 * random.between(1, 4);
        self.think_us = random.between(200, 2_000) * 1_000;
        self.snapshot_log_bytes = [4_000, 20_000][random.place(2)];
        self.chunk_bytes = 64 << 10;
        self.wal.segment_bytes = 128 << 10;
        self.wal.max_bytes = 1 << 20;
    }

    /// The groups that clients use.
    pub(super) const fn data_groups(&self) -> usize {
        if self.elastic { self.groups - 1 } else { self.groups }
    }

    /// Whether a group (by place) is the meta group.
    pub(super) const fn is_meta(&self, group: usize) -> bool {
        self.elastic && group + 1 == self.groups
    }

    /// The meta group.
    pub(super) const fn meta_group(&self) -> GroupId {
        group_id(self.groups - 1)
    }

    /// The nodes that must have recorded a node (by place) before it promises anything.
    pub(super) fn awaited(&self, node: usize) -> BTreeSet<NodeId> {
        let left_out = self.late.filter(|_| !self.waits_for_late).map(|(late, _)| late);
        let left_out = left_out.filter(|late| *late != node);
        // A node that joins waits for nobody.
        let founders = if node < self.founders { self.founders } else { 0 };
        let others = (0..founders).filter(|other| *other != node && Some(*other) != left_out);
        others.map(|other| NodeId(other as u64 + 1)).collect()
    }

    /// Whether nodes differ in how long they wait.
    pub(super) fn settings_differ(&self) -> bool {
        self.quarters.iter().any(|quarters| *quarters != self.quarters[0])
    }

    /// The usual time that a node waits for its leader, in microseconds.
    pub(super) const fn election_us(&self) -> u64 {
        self.tuning.election_timeout.as_micros() as u64
    }

    /// The longest time that a node waits for its leader.
    pub(super) fn longest_election_timeout(&self) -> Duration {
        let longest = self.quarters.iter().max().expect("there are nodes");
        self.tuning.election_timeout * *longest / 4
    }

    /// What the replicas of a node go by.
    pub(super) fn tuning_of(&self, node: usize) -> Tuning {
        let mut tuning = self.tuning.clone();
        tuning.election_timeout = tuning.election_timeout * self.quarters[node] / 4;
        tuning.retransmit_timeout = tuning.retransmit_timeout * self.quarters[node] / 4;
        tuning
    }

    /// How often a node asks for support, and how long the support that it gives lasts.
    pub(super) fn timing_of(&self, node: usize) -> LivenessTiming {
        let timeout = self.tuning_of(node).election_timeout;
        LivenessTiming {
            heartbeat_interval: self.tick,
            support_timeout: timeout,
            leases: self.leases,
            max_clock_drift: 0.1,
        }
    }

    /// After how long an append is sent again, in microseconds.
    pub(super) const fn retransmit_us(&self) -> u64 {
        self.tuning.retransmit_timeout.as_micros() as u64
    }

    /// The configuration that a group (by place) is founded with.
    pub(super) fn founding(&self, group: usize) -> Configuration {
        let voters: Vec<_> =
            self.voters(group).iter().map(|node| NodeId(*node as u64 + 1)).collect();
        Configuration::founding(&voters, Some(voters[0]))
    }

    /// Whether the state machines of a group (by place) keep their state on disk.
    pub(super) const fn is_on_disk(&self, group: usize) -> bool {
        group % 2 == self.first_on_disk && !self.is_meta(group)
    }

    /// The nodes (by place) that hold replicas of a group (by place).
    pub(super) fn hosts(&self, group: usize) -> Vec<usize> {
        if self.members_change { (0..self.nodes).collect() } else { self.voters(group) }
    }

    /// The nodes (by place) that found a group (by place), the preferred one first.
    pub(super) fn voters(&self, group: usize) -> Vec<usize> {
        let first = if self.is_meta(group) { 0 } else { group };
        (0..self.replicas).map(|next| (first + next) % self.founders).collect()
    }
}
