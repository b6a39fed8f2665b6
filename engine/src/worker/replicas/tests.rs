use super::*;
use crate::admission::Admission;
use crate::error::RequestError;
use crate::peers::Peers;
use crate::replica::event::SnapshotOffer;
use crate::replica::group::{Group, Shared};
use crate::replica::request::Request;
use crate::request::kind::{Answer, RequestKind};
use crate::state_machine::SnapshotWriter;
use crate::turn::jobs::SnapshotJob;
use crate::turn::storage::NoStorage;
use bytes::Bytes;
use logboat_raft::{
    Config, Configuration, Entries, Epoch, Index, LogId, LogReadTarget, Message, Payload, Raft,
    ReadMode, ReadToken, ReplicaId, Restored, RoleKind, Round, SnapshotMeta, Term, VotersDigest,
};
use logboat_transport::{Parcel, decode};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot::Receiver;

const OWN: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);

/// Answers a command with itself.
struct Echo;

impl StateMachine for Echo {
    fn apply(&mut self, command: Bytes) -> Bytes {
        command
    }

    fn query(&self, query: Bytes) -> Bytes {
        query
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

/// The replicas of a worker whose log writes at once.
struct Worker {
    replicas: Replicas,
    turn: Turn,
    shared: Arc<Shared>,
}

impl Worker {
    fn new() -> Self {
        Self::on(NoStorage::default())
    }

    fn on(storage: NoStorage) -> Self {
        let shared = Shared {
            request_timeout: Duration::from_secs(5),
            snapshot_log_bytes: 100,
            disk_is_full: Arc::default(),
            unapplied: Admission::new(1 << 20),
            metrics: Arc::default(),
            events: Arc::default(),
            peers: Arc::new(Peers::new([OWN, PEER, OTHER])),
            mending: Arc::default(),
        };
        let mut turn = Turn::new(Arc::new(storage), ReadToken(0));
        let known = turn.support.of_mut(PEER);
        (known.support_for, known.support_from) = (Some(Epoch(1)), Some(Epoch(1)));
        Self { replicas: Replicas::new(OWN), turn, shared: Arc::new(shared) }
    }

    /// Starts a replica with these voters.
    fn start(&mut self, group: GroupId, voters: &[NodeId]) -> Slot {
        let founding = Arc::new(Configuration::founding(voters, Some(OWN)));
        let config = Config {
            group,
            node: OWN,
            replica: ReplicaId::FOUNDER,
            founding: Arc::clone(&founding),
            seed: 1,
            tuning: Arc::default(),
        };
        let raft = Raft::new(config, Restored::default(), self.turn.now);
        let (slot, shared) = (self.replicas.next_slot(), Arc::clone(&self.shared));
        let view = Arc::default();
        let group_cell = Group::new(group, slot, raft, founding, Box::new(Echo), shared, view);
        self.replicas.add(group, ReplicaCell::new(group_cell, ApplyOn::Worker));
        self.replicas.post(slot, GroupEvent::Tick);
        self.run();
        slot
    }

    /// Runs turns until there is nothing to do. Returns the calls that are to be made elsewhere.
    fn run(&mut self) -> Vec<(Slot, Call)> {
        let mut elsewhere = Vec::new();
        loop {
            let Self { replicas, turn, .. } = self;
            while let Some((slot, mut call)) = replicas.run_next(turn) {
                while let Some(made) = call.take() {
                    if replicas.called_on(slot).1 == ApplyOn::Pool {
                        replicas.detach(turn, slot);
                        elsewhere.push((slot, made));
                    } else {
                        call = replicas.end_call(turn, slot, made.run());
                    }
                }
            }
            for gone in std::mem::take(&mut turn.gone) {
                drop(replicas.bury(gone.group, gone.slot));
            }
            replicas.free_ended(turn);
            turn.discarded.clear();
            turn.sends.take();
            turn.promises.take();
            turn.writes.clear();
            let seqs = std::mem::take(&mut turn.seqs);
            if seqs.is_empty() {
                return elsewhere;
            }
            seqs.into_iter().for_each(|(slot, seq)| replicas.durable(slot, seq));
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.replicas.post(slot, GroupEvent::Remove(GroupId(0), Box::new(|| ())));
        self.run();
    }

    fn request(&mut self, slot: Slot, kind: RequestKind) -> Receiver<Answer> {
        let permit = self.shared.unapplied.admit(1).unwrap();
        let (request, answer) = Request::local(Bytes::from_static(b"x"), permit);
        self.replicas.post(slot, GroupEvent::request(kind, request));
        answer
    }

    /// How many replicas there are, and for how many there is a place.
    fn sizes(&self) -> (usize, usize) {
        let Replicas { table, by_group, ended, late, .. } = &self.replicas;
        assert!(ended.is_empty() && late.is_empty());
        let there = table.iter().filter(|entry| entry.replica.is_some()).count();
        assert_eq!(there, by_group.len());
        (there, table.len())
    }
}

#[test]
fn as_many_replicas_as_there_are_at_a_time_take_memory() {
    let mut worker = Worker::new();
    for group in 0..1_000 {
        let alone = worker.start(GroupId(group), &[OWN]);
        let follower = worker.start(GroupId(1_000 + group), &[OWN, PEER]);
        assert_eq!(worker.sizes(), (2, 2));
        // One goes at once, the other when it has a deadline and a leader that is misplaced.
        worker.remove(alone);
        worker.turn.now = worker.turn.now + Duration::from_millis(1);
        worker.replicas.misplaced.add(PEER, follower.index);
        running(&mut worker.replicas.table, follower.index).preferred = Some(PEER);
        worker.remove(follower);
        assert_eq!(worker.sizes(), (0, 2));
        assert!(!worker.replicas.leads_for_others());
        assert_eq!(worker.replicas.wait_lists.followers_of(OWN), []);
    }
}

#[test]
fn one_that_is_started_again_takes_the_place_of_the_one_before() {
    let mut worker = Worker::new();
    for _ in 0..100 {
        let slot = worker.start(GroupId(1), &[OWN]);
        worker.replicas.post(slot, GroupEvent::Fail("a test".to_owned()));
        worker.run();
        drop(worker.replicas.retire(slot));
    }
    assert_eq!(worker.sizes(), (1, 2));
}

#[test]
fn a_replica_that_can_not_read_what_it_is_to_apply_does_not_lead_until_it_can() {
    let mut worker = Worker::new();
    let slot = worker.start(GroupId(1), &[OWN]);
    let mut led = |event| {
        worker.replicas.post(slot, event);
        worker.run();
        let raft = running(&mut worker.replicas.table, slot.index).group.raft();
        (raft.role() == RoleKind::Leader, raft.may_lead())
    };
    let read = |target| GroupEvent::LogRead { target, first: Index(1), entries: Ok(Vec::new()) };
    assert_eq!(led(GroupEvent::Tick), (true, true));
    assert_eq!(led(GroupEvent::LogReadLate), (false, false));
    // That a follower's entries can be read says nothing.
    assert_eq!(led(read(LogReadTarget::Peer(PEER))), (false, false));
    assert_eq!(led(GroupEvent::Tick), (false, false));
    assert!(led(read(LogReadTarget::Apply)).1);
}

#[test]
fn what_comes_late_for_a_replica_reaches_no_other() {
    let mut worker = Worker::new();
    let former = worker.start(GroupId(1), &[OWN]);
    worker.remove(former);
    let slot = worker.start(GroupId(2), &[OWN]);
    assert_eq!((slot.index, slot.generation), (former.index, former.generation + 1));
    let before = running(&mut worker.replicas.table, slot.index).group.raft().commit();

    let requests = [
        RequestKind::Propose,
        RequestKind::ProposeAll,
        RequestKind::Read(ReadMode::default()),
        RequestKind::ReadLocal,
        RequestKind::Change,
        RequestKind::Transfer,
    ];
    let answers = requests.map(|kind| worker.request(former, kind));
    let (told, heard) = std::sync::mpsc::channel();
    let stopped = told.clone();
    for event in [
        GroupEvent::Stop(Box::new(move || stopped.send(()).unwrap())),
        GroupEvent::Remove(GroupId(1), Box::new(|| ())),
        GroupEvent::Halt,
        GroupEvent::Fail("for another".to_owned()),
        GroupEvent::Stuck,
        GroupEvent::LogReadLate,
        GroupEvent::SnapshotWritten(None),
        GroupEvent::SnapshotSent { to: PEER, meta: None },
        GroupEvent::LogRead {
            target: LogReadTarget::Apply,
            first: Index(1),
            entries: Ok(Vec::new()),
        },
        GroupEvent::Compact,
        GroupEvent::Transfer(PEER),
        GroupEvent::Tick,
    ] {
        worker.replicas.post(former, event);
    }
    worker.replicas.durable(former, WriteSeq(1_000_000));
    assert_eq!(worker.replicas.group_of(former), None);
    assert!(worker.replicas.retire(former).is_none());
    assert!(worker.replicas.bury(GroupId(1), former).is_none());
    assert!(worker.replicas.ready.is_empty(), "nobody is woken");
    worker.run();

    for mut answer in answers {
        assert_eq!(answer.try_recv(), Ok(Err(RequestError::Stopped)));
    }
    assert_eq!(heard.try_iter().count(), 1);
    let removed: Vec<_> = worker.turn.awaited_burials.iter().map(|(group, _)| *group).collect();
    assert_eq!(removed, [GroupId(1)]);
    let cell = running(&mut worker.replicas.table, slot.index);
    assert_eq!(cell.group.raft().commit(), before);
    assert!(cell.durable < WriteSeq(1_000_000));
    let mut answer = worker.request(slot, RequestKind::Propose);
    worker.run();
    assert_eq!(answer.try_recv(), Ok(Ok(Bytes::from_static(b"x"))));
}

#[test]
fn lists_that_have_a_former_replica_do_the_next_no_harm() {
    let mut worker = Worker::new();
    let former = worker.start(GroupId(1), &[OWN, PEER]);
    let Replicas { wait_lists, .. } = &mut worker.replicas;
    let now = worker.turn.now;
    let wake_conditions = WakeConditions {
        deadline: Some(now),
        awaited_round: Some(Round(1)),
        leader: Some(PEER),
        speaks: true,
        ..WakeConditions::default()
    };
    wait_lists.update(former.index, wake_conditions, [OWN, PEER]);
    wait_lists.support_for_changed(&mut worker.turn.support, PEER, Some(Epoch(1)));
    wait_lists.open_round(&mut worker.turn.support, now, Duration::ZERO).unwrap();
    worker.remove(former);

    // Of nobody, and then of another.
    for is_vacant in [true, false] {
        if !is_vacant {
            worker.start(GroupId(2), &[OWN]);
        }
        let Worker { replicas, turn, .. } = &mut worker;
        replicas.wake_due(now);
        replicas.wake_concerned(10);
        let answer = Confirmation { round: Round(1), epoch: Some(Epoch(1)) };
        replicas.confirmed(&mut turn.support, PEER, answer);
        replicas.wait_lists.support_from_changed(&mut turn.support, PEER, Some(Epoch(1)));
        replicas.wake_concerned(10);
        assert!(replicas.ready.len() <= usize::from(!is_vacant));
        worker.run();
    }
    assert_eq!(worker.sizes(), (1, 1));
}

#[test]
fn a_replica_whose_state_machine_is_called_elsewhere_stays_until_that_has_ended() {
    let mut worker = Worker::new();
    let slot = worker.start(GroupId(1), &[OWN]);
    worker.replicas.move_to_pool(slot);
    let mut answer = worker.request(slot, RequestKind::Propose);
    let mut calls = worker.run();
    let (_, call) = calls.pop().unwrap();
    assert!(calls.is_empty());
    worker.remove(slot);
    assert_eq!(answer.try_recv(), Ok(Err(RequestError::TimedOut)));
    let other = worker.start(GroupId(2), &[OWN]);
    assert_ne!(other.index, slot.index);

    worker.replicas.post(slot, GroupEvent::Called(Box::new(call.run())));
    worker.run();
    assert_eq!(worker.sizes(), (1, 2));
    let next = worker.start(GroupId(3), &[OWN]);
    assert_eq!(next.index, slot.index);
}

/// Whether a follower answers a probe of this leader that it lacks what comes before.
fn rejects(worker: &mut Worker, slot: Slot, from: NodeId, term: Term) -> bool {
    let payload = Payload::AppendEntries {
        prev: LogId::new(Term(1), Index(9)),
        entries: Entries::new(),
        commit: Index(0),
        founders: VotersDigest::of(&[OWN, PEER, OTHER]),
    };
    let message = Message::of_founder(term, payload);
    worker.replicas.post(slot, GroupEvent::Message { from, message });
    let Worker { replicas, turn, .. } = &mut *worker;
    while let Some((_, call)) = replicas.run_next(turn) {
        assert!(call.is_none());
    }
    let mut parcels = Vec::new();
    for (to, outgoing) in turn.sends.take().into_iter().chain(turn.promises.take()) {
        for frame in outgoing.into_frames() {
            assert_eq!(to, from);
            decode(frame, &mut parcels).unwrap();
        }
    }
    worker.run();
    parcels.iter().any(|parcel| match parcel {
        Parcel::Message { message, .. } => matches!(message.payload, Payload::Rejected { .. }),
        _ => false,
    })
}

fn offer(from: NodeId, term: Term, index: u64) -> SnapshotOffer {
    let last = LogId::new(Term(1), Index(index));
    SnapshotOffer { from, replica: ReplicaId::FOUNDER, term, last }
}

/// A leader that hears that its snapshot is not here sends it again.
#[test]
fn a_replica_does_not_say_that_it_lacks_what_is_being_checked() {
    let mut worker = Worker::new();
    let slot = worker.start(GroupId(1), &[OWN, PEER, OTHER]);
    let rejects = |worker: &mut Worker| rejects(worker, slot, PEER, Term(1));
    assert!(rejects(&mut worker));
    for is_over in [false, true, false] {
        let offer = offer(PEER, Term(1), 9);
        worker.replicas.post(slot, GroupEvent::SnapshotChecked { offer, is_over });
        assert_eq!(rejects(&mut worker), is_over);
    }
    // It comes, and turns out to be of a group with other founders.
    let configuration = Configuration::founding(&[OWN], None).into();
    let meta = SnapshotMeta { last: LogId::new(Term(1), Index(9)), configuration };
    let message = Message::of_founder(Term(1), Payload::Snapshot { meta });
    worker.replicas.post(slot, GroupEvent::Message { from: PEER, message });
    assert!(rejects(&mut worker));
}

#[test]
fn who_is_told_nothing_while_a_snapshot_is_checked_is_who_has_sent_it() {
    let mut worker = Worker::new();
    let slot = worker.start(GroupId(1), &[OWN, PEER, OTHER]);
    let checked = |worker: &mut Worker, offer, is_over| {
        worker.replicas.post(slot, GroupEvent::SnapshotChecked { offer, is_over });
    };
    let [first, second] = [9, 20].map(|index| offer(PEER, Term(1), index));
    checked(&mut worker, first, false);
    checked(&mut worker, second, false);
    checked(&mut worker, first, true);
    assert!(!rejects(&mut worker, slot, PEER, Term(1)), "the second is being checked");
    // The leader dies.
    assert!(rejects(&mut worker, slot, OTHER, Term(2)));
    let successors = offer(OTHER, Term(2), 30);
    checked(&mut worker, successors, false);
    checked(&mut worker, second, true);
    assert!(!rejects(&mut worker, slot, OTHER, Term(2)));
    // It leads again, and remembers nothing of what it had sent.
    assert!(rejects(&mut worker, slot, OTHER, Term(3)));
}

/// A state that is written faster than a peer takes it over would be sent to that without end.
#[test]
fn a_snapshot_is_due_when_as_much_was_written_as_the_last_one_takes() {
    for (snapshot_bytes, most) in [(0, 10), (500, 2)] {
        let storage = NoStorage { snapshot_bytes, ..NoStorage::default() };
        let questions = Arc::clone(&storage.questions);
        let mut worker = Worker::on(storage);
        let slot = worker.start(GroupId(1), &[OWN]);
        let mut snapshots = 0;
        for _ in 0..1_000 {
            drop(worker.request(slot, RequestKind::Propose));
            worker.run();
            for job in std::mem::take(&mut worker.turn.snapshots) {
                let SnapshotJob::Write { meta, .. } = job else { panic!("nobody is sent one") };
                snapshots += 1;
                worker.replicas.post(slot, GroupEvent::SnapshotWritten(Some(meta)));
            }
        }
        assert_eq!(snapshots, most);
        // All workers ask under one lock.
        assert!(questions.load(Ordering::Relaxed) <= 2 * (most + 1), "{questions:?}");
    }
}
