//! A simulated node: its disk, its clock, its comings and goings, and the process that runs on it.

use super::disk_machine::MachineDisks;
use super::process::Process;
use super::scene::{Event, Scene, Target};
use super::stand_in::Directory;
use logboat_raft::{BootNonce, Incarnation, NodeId, Remembered, Time};
use logboat_server::kv::NodeClock;
use logboat_storage::simulation::{InlineWal, SimDisk, SimSnapshotDisk};
use logboat_storage::{BootRecord, PeerTable, WalError};
use parking_lot::Mutex;
use std::io::ErrorKind;
use std::sync::Arc;

/// A moment at which losing power hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CrashPoint {
    /// What a turn sends has left, what it writes has not reached the log.
    Sent,
    /// A batch is written and not synced.
    Written,
    /// A batch is written while the one before it is being synced.
    WrittenBehind,
    /// A sync is over and nobody knows.
    Synced,
    /// A snapshot file is being made, received or switched to.
    SnapshotFile,
    /// A snapshot is current and the log does not say so.
    SnapshotCurrent,
    /// A leader's snapshot was adopted and the log does not say so.
    SnapshotAdopted,
    /// A start of a peer is remembered as welcome, and the peer does not know.
    Welcomed,
    /// A peer has welcomed this start, and the node has not noted that.
    Answered,
    /// That is noted, and nothing was said to the peer since.
    LetIn,
    /// It is noted that a peer knows of its welcome, and what it said is not taken in.
    Confirmed,
}

impl CrashPoint {
    pub(super) const ALL: [Self; 11] = [
        Self::Sent,
        Self::Written,
        Self::WrittenBehind,
        Self::Synced,
        Self::SnapshotFile,
        Self::SnapshotCurrent,
        Self::SnapshotAdopted,
        Self::Welcomed,
        Self::Answered,
        Self::LetIn,
        Self::Confirmed,
    ];
}

/// The time since 1970 at which the simulation begins, in milliseconds.
pub(super) const FOUNDED_MS: u64 = 1_800_000_000_000;

/// How wrong a wall clock is, in milliseconds.
pub(super) const HOUR_MS: u64 = 3_600_000;

/// A clock that runs at its own pace, from a process's start.
#[derive(Clone, Copy, Debug)]
struct Clock {
    at: u64,
    shows: u64,
    /// Its seconds in a million seconds.
    pace: u64,
}

/// What a process runs on, and what outlives it.
pub(super) struct Hardware {
    pub(super) place: usize,
    pub(super) disk: SimDisk,
    pub(super) snapshots: SimSnapshotDisk,
    /// Those of state machines that keep their states themselves.
    pub(super) machines: MachineDisks,
    /// What the directory says of the node's starts.
    pub(super) boot: BootRecord,
    /// Drawn when the directory was made.
    pub(super) directory: Incarnation,
    /// What the directory says of the peers.
    pub(super) peers: Arc<Mutex<PeerTable>>,
    /// What the node wrote last, while another directory stands in for it.
    pub(super) original: Option<Directory>,
    /// Counts the runs.
    pub(super) incarnation: u64,
    /// When power goes.
    pub(super) crash_at: Option<CrashPoint>,
    /// Power goes after this event.
    pub(super) doomed: bool,
    /// A bit of the log was flipped.
    pub(super) damaged: bool,
    /// A sync is to fail.
    pub(super) failing_sync: bool,
    /// How long syncs take on top of the usual, in microseconds.
    pub(super) slow_us: u64,
    clock: Clock,
    /// The time since 1970, as the process knows it.
    pub(super) unix_clock: Arc<NodeClock>,
}

impl Hardware {
    pub(super) fn id(&self) -> NodeId {
        NodeId(self.place as u64 + 1)
    }

    /// Whether the node runs on another directory than the one that it wrote last.
    pub(super) const fn stands_in(&self) -> bool {
        self.original.is_some()
    }

    /// What the node has noted of another on the directory that it wrote last.
    pub(super) fn has_noted(&self, node: NodeId) -> Option<Remembered> {
        let peers = self.original.as_ref().map_or(&self.peers, |original| &original.peers);
        peers.lock().get(node)
    }

    /// The run that goes on now, for events that end with it.
    pub(super) fn target(&self) -> Target {
        Target::Process { host: self.place, incarnation: self.incarnation }
    }

    /// What the clock shows.
    pub(super) fn time(&self, now: u64) -> Time {
        Time(self.clock.shows + (now - self.clock.at) * self.clock.pace / 1_000_000)
    }

    /// What the wall clock shows when the process starts, in milliseconds since 1970. That of one
    /// node is an hour ahead or behind at most of its starts.
    pub(super) const fn wall_clock(&self, scene: &Scene) -> u64 {
        let right = FOUNDED_MS + scene.now / 1_000;
        match (self.place == scene.plan.wrong_clock, self.incarnation % 3) {
            (true, 1) => right + HOUR_MS,
            (true, 2) => right - HOUR_MS,
            _ => right,
        }
    }

    /// Changes the pace of the clock.
    pub(super) fn pace(&mut self, now: u64, pace: u64) {
        self.clock = Clock { at: now, shows: self.time(now).0, pace };
    }

    /// Lets the clock jump ahead.
    pub(super) fn jump(&mut self, micros: u64) {
        self.clock.shows += micros;
    }

    /// Whether power goes at this moment.
    pub(super) fn crashes(&mut self, point: CrashPoint) -> bool {
        self.doomed |= self.crash_at == Some(point);
        self.doomed
    }

    /// Looks at the own clock again at about this moment, or after an interval.
    pub(super) fn tick_later(&self, moment: Time, scene: &mut Scene) {
        let interval = scene.plan.tick.as_micros() as u64;
        let left = moment.since(self.time(scene.now)).as_micros() as u64;
        let micros = left.clamp(interval / 5, interval) * 1_000_000 / self.clock.pace;
        scene.after(micros, self.target(), Event::Tick);
    }

    fn cut_power(&mut self, scene: &mut Scene) {
        let random = &mut scene.random;
        let kept = [0, 200, 500, 500, 900, 1_000][random.place(6)];
        self.disk.crash(|| random.per_mille(kept));
        self.snapshots.crash(|| random.per_mille(kept));
    }
}

/// A node.
pub(super) struct Host {
    pub(super) hardware: Hardware,
    pub(super) process: Option<Box<Process>>,
    pub(super) paused_until: u64,
    /// Why it does not start, now or ever.
    pub(super) dead: Option<String>,
}

impl Host {
    pub(super) fn new(place: usize) -> Self {
        let hardware = Hardware {
            place,
            disk: SimDisk::default(),
            snapshots: SimSnapshotDisk::default(),
            machines: MachineDisks::default(),
            boot: BootRecord::default(),
            directory: Incarnation(place as u64 + 1),
            peers: Arc::default(),
            original: None,
            incarnation: 0,
            crash_at: None,
            doomed: false,
            damaged: false,
            failing_sync: false,
            slow_us: 0,
            clock: Clock { at: 0, shows: 0, pace: 1_000_000 },
            unix_clock: Arc::new(NodeClock::manual(0)),
        };
        Self { hardware, process: None, paused_until: 0, dead: None }
    }

    /// A place for a node that joins later.
    pub(super) fn vacant(place: usize) -> Self {
        Self { dead: Some("it has not joined".to_owned()), ..Self::new(place) }
    }

    /// Has the node lose power, and not start again for now.
    pub(super) fn end(&mut self, reason: String) {
        self.hardware.doomed = true;
        self.dead = Some(reason);
    }

    /// Ends a node that is not part of its cluster any more.
    pub(super) fn expel(&mut self, scene: &mut Scene) {
        let office = self.process.as_mut().and_then(|process| process.office.as_mut());
        let Some(reason) = office.and_then(|office| office.expelled.take()) else { return };
        let (place, node) = (self.hardware.place, self.hardware.id());
        scene.trace.note(scene.now, &[place as u64], format_args!("{node} ends: {reason}"));
        self.end(reason);
    }

    /// Starts the node from what is on its disk. It may have to wait, or refuse for good.
    pub(super) fn start(&mut self, scene: &mut Scene) {
        if self.process.is_some() || self.dead.is_some() {
            return;
        }
        let hardware = &mut self.hardware;
        let options = scene.plan.wal.clone();
        let known_end = hardware.boot.log_end;
        let peers = Arc::clone(&hardware.peers);
        let open = |disk: &SimDisk| {
            let found = |end| {
                peers.lock().begin(end);
                Ok(())
            };
            InlineWal::open_past(disk.clone(), options.clone(), known_end, found)
        };
        let mut opened = open(&hardware.disk);
        if opened.is_ok() && scene.stormy && scene.random.per_mille(100) {
            drop(opened);
            // Power goes again during recovery.
            hardware.cut_power(scene);
            opened = open(&hardware.disk);
        }
        match opened {
            Ok((wal, recovered)) => {
                hardware.incarnation += 1;
                let nonce = BootNonce(scene.random.next());
                hardware.boot = hardware.boot.next(nonce, wal.log().durable_end());
                hardware.clock = Clock { at: scene.now, shows: 0, pace: 1_000_000 };
                hardware.unix_clock = Arc::new(NodeClock::manual(0));
                let mut process = Process::start(hardware, wal, recovered, scene);
                process.miss_a_peer(hardware, scene);
                if scene.plan.elastic {
                    scene.after(1, hardware.target(), Event::Look);
                }
                self.process = Some(Box::new(process));
            }
            Err(WalError::DiskFull { .. }) => self.start_later(scene),
            Err(WalError::Io { source, .. })
                if hardware.failing_sync || source.kind() == ErrorKind::StorageFull =>
            {
                hardware.failing_sync = false;
                hardware.cut_power(scene);
                self.start_later(scene);
            }
            Err(error) => {
                let node = hardware.id();
                assert!(hardware.damaged, "node {node} does not start: {error}");
                scene.trace.note(scene.now, &[], format_args!("{node} is dead: {error}"));
                self.dead = Some(error.to_string());
            }
        }
    }

    /// Loses power: all that is in memory goes, and any part of what is not synced.
    pub(super) fn crash(&mut self, scene: &mut Scene) {
        let Some(process) = self.process.take() else {
            return;
        };
        let hardware = &mut self.hardware;
        let (place, node) = (hardware.place, hardware.id());
        scene.trace.note(scene.now, &[place as u64], format_args!("{node} crashes"));
        hardware.incarnation += 1;
        hardware.doomed = false;
        hardware.crash_at = None;
        hardware.cut_power(scene);
        // What it would still do to its files comes too late.
        drop(process);
        for peer in (0..scene.plan.nodes).filter(|peer| *peer != place) {
            scene.disconnect(peer, place);
            scene.disconnect(place, peer);
        }
        let away = [10_000, 1_000_000, 20_000_000][scene.random.place(3)];
        let away = if scene.stormy && !self.hardware.stands_in() { away } else { 10_000 };
        let away = scene.random.between(1_000, away);
        scene.after(away, Target::Host(place), Event::Restart);
    }

    fn start_later(&self, scene: &mut Scene) {
        scene.after(200_000, Target::Host(self.hardware.place), Event::Restart);
    }
}
