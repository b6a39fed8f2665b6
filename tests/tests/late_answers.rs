//! Answers that come after a node has started anew are not taken for answers to its new questions,
//! and what is not answered is said again.

use bytes::Bytes;
use logboat::internals::{
    Admission, Group, GroupEvent, Peers, Request, RunContext, RunScratch, Shared, Slot, Storage,
    Turn, recover,
};
use logboat::{GroupView, ReadFrom, ReadMode, RequestError, SnapshotWriter, StateMachine, Tuning};
use logboat_raft::{
    Config, Configuration, Confirmation, Epoch, GroupId, LogId, Message, NodeId, Raft, ReadToken,
    ReplicaId, RoleKind, Round, SnapshotMeta, Time, WriteSeq,
};
use logboat_storage::simulation::{InlineWal, SimDisk};
use logboat_storage::{SnapshotInfo, WalOptions};
use logboat_transport::{Parcel, decode};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Cursor};
use std::mem;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot::Receiver;

const GROUP: GroupId = GroupId(1);

/// Counts its commands.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, _: Bytes) -> Bytes {
        self.0 += 1;
        Bytes::new()
    }

    fn query(&self, _: Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

/// Takes no snapshots over.
struct NoSnapshots;

impl Storage for NoSnapshots {
    fn open_received(&self, _: GroupId, _: &SnapshotMeta) -> io::Result<Box<dyn io::Read>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn adopt_snapshot(&self, _: GroupId, _: LogId) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn discard_snapshot(&self, _: GroupId, _: LogId) {}

    fn current_snapshot(&self, _: GroupId) -> Option<SnapshotInfo> {
        None
    }
}

/// One of three nodes that support each other at epoch 1, with one replica.
struct Member {
    group: Group,
    turn: Turn,
    scratch: RunScratch,
    wal: InlineWal<SimDisk>,
    disk: SimDisk,
    durable: WriteSeq,
    /// What it has sent, and to whom.
    sent: Vec<(NodeId, Message)>,
}

impl Member {
    fn start(id: NodeId, disk: SimDisk) -> Self {
        let options = WalOptions { segment_bytes: 1 << 16, ..WalOptions::default() };
        let (wal, mut recovered) = InlineWal::open(disk.clone(), options).expect("it opens");
        let log = recovered.groups.remove(&GROUP).unwrap_or_default();
        let mut machine = Counter::default();
        let no_snapshot = None::<(SnapshotMeta, Cursor<Bytes>)>;
        let recovery = recover(log, no_snapshot, &mut machine).expect("it agrees");
        let restored = recovery.restored;
        let founding = Configuration::founding(&[1, 2, 3].map(NodeId), Some(NodeId(1)));
        let founding = Arc::new(founding);
        let config = Config {
            group: GROUP,
            node: id,
            replica: ReplicaId::FOUNDER,
            founding: Arc::clone(&founding),
            seed: id.0,
            tuning: Arc::new(Tuning::default()),
        };
        let raft = Raft::new(config, restored, Time(0));
        let shared = Arc::new(Shared {
            request_timeout: Duration::from_secs(5),
            snapshot_log_bytes: 1 << 30,
            disk_is_full: Arc::default(),
            unapplied: Admission::new(1 << 20),
            metrics: Arc::default(),
            events: Arc::default(),
            peers: Arc::new(Peers::new([1, 2, 3].map(NodeId))),
            mending: Arc::default(),
        });
        let view = Arc::<GroupView>::default();
        let group =
            Group::new(GROUP, Slot::default(), raft, founding, Box::new(machine), shared, view);
        let first_read_token = ReadToken(RandomState::new().hash_one(id.0));
        let mut turn = Turn::new(Arc::new(NoSnapshots), first_read_token);
        for peer in [1, 2, 3].map(NodeId).into_iter().filter(|peer| *peer != id) {
            let known = turn.support.of_mut(peer);
            (known.support_for, known.support_from) = (Some(Epoch(1)), Some(Epoch(1)));
        }
        let (scratch, durable, sent) = (RunScratch::default(), WriteSeq(0), Vec::new());
        Self { group, turn, scratch, wal, disk, durable, sent }
    }

    /// Runs the replica, makes its writes durable, and reads back what it wants.
    fn run(&mut self, event: GroupEvent) {
        let mut events = vec![event];
        loop {
            let mut run = RunContext { turn: &mut self.turn, scratch: &mut self.scratch };
            self.group.run(&mut run, self.durable, mem::take(&mut events).into_iter());
            let writes = mem::take(&mut self.turn.writes);
            if !writes.is_empty() {
                self.wal.write(&[], &writes).expect("there is room");
                self.wal.sync().expect("the disk works");
            }
            let seqs = mem::take(&mut self.turn.seqs);
            self.durable = seqs.iter().map(|(_, seq)| *seq).fold(self.durable, WriteSeq::max);
            let turn = &mut self.turn;
            for (to, outgoing) in turn.sends.take().into_iter().chain(turn.promises.take()) {
                for frame in outgoing.into_frames() {
                    let mut parcels = Vec::new();
                    decode(frame, &mut parcels).expect("it is whole");
                    self.sent.extend(parcels.into_iter().filter_map(|parcel| match parcel {
                        Parcel::Message { message, .. } => Some((to, message)),
                        _ => None,
                    }));
                }
            }
            for job in mem::take(&mut self.turn.log_reads) {
                let entries = self.wal.read(job.group, job.first, job.last, job.max_bytes);
                events.push(GroupEvent::log_read(job, entries));
            }
            if events.is_empty() && seqs.is_empty() {
                return;
            }
        }
    }

    fn read(&mut self, admission: &Arc<Admission>) -> Receiver<Result<Bytes, RequestError>> {
        let permit = admission.admit(1).expect("there is room");
        let (request, answer) = Request::local(Bytes::from_static(b"?"), permit);
        self.run(GroupEvent::Read(request, ReadMode { from: ReadFrom::Any, lease: false }));
        answer
    }
}

/// Delivers what `from` has sent, and not what that brings about.
fn deliver(members: &mut [Member], from: NodeId) {
    let sent = mem::take(&mut members[from.0 as usize - 1].sent);
    for (to, message) in sent {
        members[to.0 as usize - 1].run(GroupEvent::Message { from, message });
    }
}

fn settle(members: &mut [Member]) {
    while members.iter().any(|member| !member.sent.is_empty()) {
        [1, 2, 3].map(NodeId).into_iter().for_each(|from| deliver(members, from));
    }
}

fn propose(members: &mut [Member], admission: &Arc<Admission>, count: usize) {
    for _ in 0..count {
        let permit = admission.admit(1).expect("there is room");
        let (request, mut answer) = Request::local(Bytes::from_static(b"+"), permit);
        members[0].run(GroupEvent::Propose(request));
        settle(members);
        answer.try_recv().expect("it is answered").expect("it is acknowledged");
    }
}

/// Fails when tokens of reads begin at the same number in each run.
#[test]
fn a_read_after_a_restart_is_not_answered_for_the_run_before() {
    let admission = Admission::new(1 << 20);
    let mut members = [1, 2, 3].map(|id| Member::start(NodeId(id), SimDisk::default()));
    members[0].run(GroupEvent::Tick);
    settle(&mut members);
    propose(&mut members, &admission, 3);

    // A follower reads. Its leader notes the commit index and opens round 1, whose answers get
    // lost.
    let _unanswered = members[1].read(&admission);
    settle(&mut members);
    assert_eq!(members[0].group.raft().awaited_round(), Some(Round(1)));
    members[0].turn.support.next_round = Round(2);
    propose(&mut members, &admission, 5);

    // It starts anew and reads again, when all eight writes were acknowledged.
    let disk = members[1].disk.clone();
    members[1] = Member::start(NodeId(2), disk);
    members[1].run(GroupEvent::Tick);
    members[1].sent.clear();
    let mut answer = members[1].read(&admission);
    deliver(&mut members, NodeId(2));

    // The leader opens round 2 and answers both reads, the older one first.
    members[0].turn.support.next_round = Round(3);
    for peer in [2, 3].map(NodeId) {
        let confirmed = Confirmation { round: Round(2), epoch: Some(Epoch(1)) };
        members[0].turn.support.of_mut(peer).confirmed = confirmed;
    }
    members[0].run(GroupEvent::Confirmed);
    deliver(&mut members, NodeId(1));
    let count = answer.try_recv().expect("it is answered").expect("it is served");
    assert_eq!(count, 8_u64.to_le_bytes()[..], "the read misses acknowledged writes");
}

/// Its followers have not heard that it leads no more, and are bound to it as long as its node
/// lives.
#[test]
fn who_is_stopped_resigns_from_what_it_led() {
    let mut members = [1, 2, 3].map(|id| Member::start(NodeId(id), SimDisk::default()));
    members[0].run(GroupEvent::Tick);
    settle(&mut members);
    assert!(members[1].group.raft().fortified().is_some());
    let others = [2, 3].map(NodeId);
    let supported = |member: &mut Member, epoch| {
        others.iter().for_each(|peer| member.turn.support.of_mut(*peer).support_from = epoch);
    };
    supported(&mut members[0], None);
    members[0].run(GroupEvent::SupportChanged);
    assert_eq!(members[0].group.raft().role(), RoleKind::Follower);
    members[0].sent.clear();
    supported(&mut members[0], Some(Epoch(1)));
    members[0].run(GroupEvent::Stop(Box::new(|| {})));
    settle(&mut members);
    assert!(others.iter().all(|peer| {
        let fortified = members[peer.0 as usize - 1].group.raft().fortified();
        fortified.is_none_or(|bond| bond.leader != NodeId(1))
    }));
}
