//! The start of a node: it is assembled from the data directory up to the threads.

use crate::admission::gate::AdmissionGate;
use crate::admission::pacer::Pacer;
use crate::admission::{Admission, OVERHEAD_BYTES};
use crate::background::disk_machines::DiskMachines;
use crate::background::guard::Guard;
use crate::background::log_reader::LogReader;
use crate::background::pace::Paces;
use crate::background::snapshots::SnapshotThread;
use crate::background::stuck_calls::StuckCalls;
use crate::background::taken_parts::TakenParts;
use crate::background::threads::join_by;
use crate::background::user_code::UserCode;
use crate::background::writers::SnapshotWriters;
use crate::config::NodeConfig;
use crate::error::{ConfigError, StartError};
use crate::founding::Founder;
use crate::groups::Groups;
use crate::liveness::clock::Clock;
use crate::liveness::manager::LivenessManager;
use crate::liveness::node_time::NodeTime;
use crate::liveness::protocol::{Liveness, LivenessTiming};
use crate::mending::Mending;
use crate::numbering::random_start;
use crate::peers::Peers;
use crate::remote::calls::Calls;
use crate::remote::inbound::Inbound;
use crate::remote::relays::Relays;
use crate::replica::group::Shared;
use crate::service::Services;
use crate::turn::jobs::{JobQueue, LogReadQueue, SnapshotJob, SnapshotQueue};
use crate::turn::storage::PatientStorage;
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use crate::worker::runtime::{Intervals, Runtime};
use crate::worker::state::WorkerContext;
use logboat_raft::{BootNonce, GroupId, Incarnation, Introduction, NodeId, Time};
use logboat_storage::{
    DataDir, DirectoryError, Identity, KnownPeers, Recovered, SnapshotStore, Wal,
};
use logboat_transport::{Inbox, StartError as TransportError, Transport, TransportMetrics};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How a node is connected to its peers, and how that ends.
pub struct Link {
    /// The way to the peers.
    pub transport: Arc<dyn Transport>,
    /// What it counts, if it counts.
    pub metrics: Option<TransportMetrics>,
    /// Sends what is queued and closes the connections. Called once.
    pub close: Box<dyn FnOnce() + Send>,
}

/// A node's directory, opened and recovered.
struct Disk {
    data_dir: Arc<DataDir>,
    identity: Identity,
    known_peers: Arc<KnownPeers>,
    /// How this start introduces itself to a peer that never let the node in.
    introduction: Introduction,
    wal: Wal,
    recovered: Recovered,
    snapshots: SnapshotStore,
}

/// Everything that a running node consists of.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) gate: Arc<AdmissionGate>,
    pub(crate) workers: Workers,
    pub(crate) calls: Arc<Calls>,
    pub(crate) liveness: Arc<LivenessManager>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) transport_metrics: Option<TransportMetrics>,
    pub(crate) wal: Wal,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) snapshot_queue: SnapshotQueue,
    pub(crate) founder: Arc<Founder>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) user_code: UserCode,
    pub(crate) inbound: Arc<Inbound>,
}

/// What a stop ends.
pub(crate) struct Threads {
    runtime: Runtime,
    log_reader: JoinHandle<()>,
    snapshots: JoinHandle<()>,
    user_threads: UserCode,
    close: Box<dyn FnOnce() + Send>,
    /// Locks the directory until everything that writes to it has ended. Whoever may outlive the
    /// node and write has it as well.
    data_dir: Arc<DataDir>,
}

impl Threads {
    /// Notes how far the log, which is closed, has come: the next start checks that.
    pub(crate) fn note_stop(&self, wal: &Wal) {
        if wal.poisoned().is_none()
            && let Err(error) = self.data_dir.boot().close(wal.durable_end())
        {
            tracing::warn!("noting that the node has stopped: {error}");
        }
    }

    /// Ends the connections after sending what is queued, then the threads. Returns whether all
    /// have ended by the deadline, but for those that are left to user code.
    pub(crate) fn stop(self, snapshot_queue: &SnapshotQueue, deadline: Instant) -> bool {
        self.user_threads.paces.end();
        (self.close)();
        self.user_threads.close();
        let workers_ended = self.runtime.stop(deadline);
        snapshot_queue.submit(SnapshotJob::Stop);
        let others = [self.snapshots, self.log_reader];
        others.into_iter().fold(workers_ended, |ended, thread| join_by(thread, deadline) && ended)
    }
}

/// Starts the parts of a node from the bottom up. The configuration has been checked.
pub(crate) fn assemble(
    config: &NodeConfig,
    connect: impl FnOnce(&Identity, Arc<dyn Inbox>) -> Result<Link, TransportError>,
) -> Result<(Parts, Threads), StartError> {
    let workers = Workers::new(config.workers, config.arriving_bytes());
    let mut disk = open_disk(config, &workers)?;
    let gate = new_gate(config, &disk.wal);
    let liveness = new_liveness(config, &disk, &workers);
    let guard = Guard::new(disk.wal.clone(), workers.clone());
    let founder = new_founder(config, &disk, &liveness, &workers)?;
    let shared = new_shared(config, &gate, &disk.recovered);
    let (snapshot_queue, snapshot_jobs) = JobQueue::new();
    let groups = Arc::new(Groups::new(&mut disk.recovered));
    let inbound = Arc::new(Inbound {
        workers: workers.clone(),
        calls: Calls::new(random_start()),
        relays: Relays::default(),
        snapshots: snapshot_queue.clone(),
        parts: Admission::new(config.budget().snapshots()),
        groups: Arc::clone(&groups),
        gate: Arc::clone(&gate),
        liveness: Arc::clone(&liveness),
        guard: guard.clone(),
        known_peers: Arc::clone(&disk.known_peers),
        introduction: disk.introduction,
        cluster: Arc::clone(disk.data_dir.cluster()),
        founder: Arc::clone(&founder),
        services: Services::default(),
        transport: OnceLock::new(),
    });
    let link = connect(&disk.identity, Arc::clone(&inbound) as Arc<dyn Inbox>)?;
    let transport = attach(&link, &inbound, &liveness);
    let user_code = new_user_code(config, &disk, &workers, &gate);
    let writers = new_writers(&disk, &user_code, &gate);
    let snapshots = new_snapshot_thread(config, writers, &transport, &shared, &workers, &guard)
        .start(snapshot_jobs)?;
    let (log_reads, log_reader) = start_log_reader(config, &disk, &workers, &guard)?;
    let context = WorkerContext {
        node: config.node,
        wal: disk.wal.clone(),
        transport: Arc::clone(&transport),
        peers: Arc::clone(&shared.peers),
        liveness: Arc::clone(&liveness),
        founder: Arc::clone(&founder),
        groups: Arc::clone(&groups),
        log_reads,
        snapshots: snapshot_queue.clone(),
        shared: Arc::clone(&shared),
        user_code: user_code.clone(),
        _directory: Arc::clone(&disk.data_dir),
        guard,
        settling: config.tuning.election_timeout * 2,
    };
    let runtime = start_runtime(config, &workers, context, &gate, &disk)?;
    let (close, data_dir, user_threads) = (link.close, disk.data_dir, user_code.clone());
    let threads = Threads { runtime, log_reader, snapshots, user_threads, close, data_dir };
    let parts = Parts {
        identity: disk.identity,
        gate,
        workers,
        calls: Arc::clone(&inbound.calls),
        liveness,
        groups,
        transport,
        transport_metrics: link.metrics,
        wal: disk.wal,
        snapshots: disk.snapshots,
        snapshot_queue,
        founder,
        shared,
        user_code,
        inbound,
    };
    Ok((parts, threads))
}

/// Has what arrives answered, and heartbeats sent, over this link.
fn attach(link: &Link, inbound: &Inbound, liveness: &LivenessManager) -> Arc<dyn Transport> {
    let transport = Arc::clone(&link.transport);
    inbound.transport.get_or_init(|| Arc::downgrade(&transport));
    liveness.connect(&transport);
    transport
}

fn open_disk(config: &NodeConfig, workers: &Workers) -> Result<Disk, StartError> {
    let identity = Identity {
        cluster: config.cluster_id(),
        name: config.cluster_name.clone(),
        node: config.node,
        members: config.founding_nodes(),
        incarnation: config.founding.incarnation().unwrap_or(Incarnation(random(config.node))),
    };
    let given = identity.incarnation;
    let (data_dir, identity) = DataDir::open(&config.data_dir, &identity)?;
    if config.founding.incarnation().is_some() && identity.incarnation != given {
        return Err(StartError::OtherIncarnation { path: config.data_dir.clone() });
    }
    if let Some(cluster) = config.drawn_cluster {
        data_dir.adopt(cluster)?;
    }
    let workers = workers.clone();
    let known_peers = Arc::new(data_dir.known_peers()?);
    let snapshots = SnapshotStore::open(&data_dir.snapshots())?;
    let boot = data_dir.boot();
    let known_end = boot.record().log_end;
    // Peers are told where the log ended at the first start that they did not let in. To open a log
    // may write to it, so that a start which is cut short would pass for a longer log.
    let found = |end| known_peers.begin(end);
    let pressure = move |groups: &[GroupId]| {
        for worker in workers.iter() {
            worker.post(Event::Compact(groups.to_vec()));
        }
    };
    let (wal, recovered) =
        Wal::open_past(&data_dir.wal(), config.wal.clone(), known_end, found, pressure)?;
    for (group, damage) in &recovered.damaged {
        tracing::error!(group = group.0, "the replica of this node has lost data: {damage}");
    }
    // A crash came between the tombstone of a replica and the end of its snapshot.
    for group in snapshots.groups() {
        if wal.tombstone(group).is_some() {
            snapshots.remove(group)?;
        }
    }
    boot.begin(BootNonce(random(config.node)), wal.durable_end())
        .map_err(|source| DirectoryError::Io { path: config.data_dir.clone(), source })?;
    let introduction = Introduction {
        incarnation: identity.incarnation,
        newest: boot.record().start(),
        let_in: None,
        log_end: wal.found_end(),
        // Told as it is at each introduction.
        cluster: None,
    };
    let data_dir = Arc::new(data_dir);
    Ok(Disk { data_dir, identity, known_peers, introduction, wal, recovered, snapshots })
}

fn new_user_code(
    config: &NodeConfig,
    disk: &Disk,
    workers: &Workers,
    gate: &AdmissionGate,
) -> UserCode {
    let stuck = StuckCalls::new(Arc::clone(&gate.metrics));
    let paces = Paces::new(config.snapshot_bytes_per_s);
    UserCode::new(config.workers, workers, stuck, DiskMachines::new(&disk.data_dir), paces)
}

fn new_writers(disk: &Disk, user_code: &UserCode, gate: &AdmissionGate) -> SnapshotWriters {
    SnapshotWriters {
        store: disk.snapshots.clone(),
        pool: Arc::clone(&user_code.writers),
        metrics: Arc::clone(&gate.metrics),
        directory: Arc::clone(&disk.data_dir),
        paces: user_code.paces.clone(),
    }
}

fn new_snapshot_thread(
    config: &NodeConfig,
    writers: SnapshotWriters,
    transport: &Arc<dyn Transport>,
    shared: &Shared,
    workers: &Workers,
    guard: &Guard,
) -> SnapshotThread {
    let (memory_bytes, peers) = (config.budget().snapshots(), Arc::clone(&shared.peers));
    let taken = TakenParts::new(Arc::clone(transport), peers, memory_bytes);
    SnapshotThread::new(writers, Arc::clone(transport), taken, workers.clone(), guard)
}

fn start_log_reader(
    config: &NodeConfig,
    disk: &Disk,
    workers: &Workers,
    guard: &Guard,
) -> io::Result<(LogReadQueue, JoinHandle<()>)> {
    let (log_reads, jobs) = JobQueue::new();
    let patience = config.state_machine_timeout;
    let log_reader = LogReader::new(disk.wal.clone(), workers.clone(), guard.clone(), patience);
    Ok((log_reads, log_reader.start(jobs)?))
}

/// A number that is drawn anew at each call.
fn random(node: NodeId) -> u64 {
    RandomState::new().hash_one(node.0)
}

fn new_liveness(config: &NodeConfig, disk: &Disk, workers: &Workers) -> Arc<LivenessManager> {
    let timeout = config.tuning.election_timeout;
    let timing = LivenessTiming {
        heartbeat_interval: config.heartbeat_interval,
        support_timeout: timeout,
        leases: config.leases,
        max_clock_drift: config.max_clock_drift,
    };
    let members = config.members.keys().copied();
    let boot = disk.introduction.newest.count;
    let founded = disk.data_dir.boot().record().founded;
    let liveness = Liveness::new(
        config.node,
        members,
        boot,
        founded,
        &disk.recovered.grants,
        timing,
        Time::default(),
    );
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
    let liveness = liveness.with_wall_clock(wall_ms, Time::default());
    let time = NodeTime::new(Clock::start());
    time.set_origin(liveness.unix_origin_ms());
    LivenessManager::new(liveness, time, disk.wal.clone(), Box::new(workers.clone()))
}

fn new_founder(
    config: &NodeConfig,
    disk: &Disk,
    liveness: &Arc<LivenessManager>,
    workers: &Workers,
) -> Result<Arc<Founder>, ConfigError> {
    let boot = Arc::clone(disk.data_dir.boot());
    let founder = Founder::begin(boot, config, Arc::clone(liveness), workers.clone())?;
    Ok(Arc::new(founder))
}

fn new_gate(config: &NodeConfig, wal: &Wal) -> Arc<AdmissionGate> {
    Arc::new(AdmissionGate {
        admission: Admission::with_largest(
            config.budget().requests(),
            config.max_command_bytes + OVERHEAD_BYTES,
        ),
        wal: wal.clone(),
        max_log_bytes: config.budget().log(),
        max_command_bytes: config.max_command_bytes,
        metrics: Arc::default(),
        stopped: AtomicBool::new(false),
    })
}

fn new_shared(config: &NodeConfig, gate: &AdmissionGate, recovered: &Recovered) -> Arc<Shared> {
    let others = config.members.keys().filter(|node| **node != config.node);
    let damaged = recovered.damaged.iter().map(|(group, damage)| (*group, damage.to_string()));
    Arc::new(Shared {
        request_timeout: config.request_timeout,
        snapshot_log_bytes: config.snapshot_log_bytes,
        disk_is_full: gate.wal.stalled_flag(),
        unapplied: Admission::new(config.budget().unapplied()),
        metrics: Arc::clone(&gate.metrics),
        events: Arc::default(),
        peers: Arc::new(Peers::new(others.copied())),
        mending: Arc::new(Mending::new(config.node, damaged)),
    })
}

fn start_runtime(
    config: &NodeConfig,
    workers: &Workers,
    context: WorkerContext,
    gate: &Arc<AdmissionGate>,
    disk: &Disk,
) -> io::Result<Runtime> {
    let pacer = Pacer::new(Arc::clone(&gate.admission));
    let gate = Arc::clone(gate);
    let is_over = move || gate.stopped.load(Ordering::Relaxed);
    let pace = Arc::clone(&context.user_code.paces.arriving);
    let storage = Arc::new(PatientStorage::new(disk.snapshots.clone(), pace, is_over));
    let intervals = Intervals {
        heartbeat: config.heartbeat_interval,
        state_machine_timeout: config.state_machine_timeout,
    };
    Runtime::start(workers.clone(), context, storage, pacer, intervals)
}
