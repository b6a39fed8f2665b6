//! Tests of single replicas; whole clusters are in `tests/protocol`.

use super::Raft;
use crate::{
    Config, Configuration, Confirmation, Conflict, Entries, Entry, EntryKind, Epoch, GroupId,
    Index, Input, LogId, MAX_INDEX_STEP, MAX_STEP, Message, NodeId, Output, Payload, ReadFrom,
    ReadMode, ReadToken, Refusal, ReplicaId, Restored, RoleKind, Round, SnapshotMeta, Support,
    Term, Time, Tuning, Violation, VotersDigest, WriteSeq,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;

mod identity;

/// Thousands of replicas live in one process, and most of them are idle followers. Besides this
/// an idle one has its configuration, its term runs and a few words of queues on the heap.
#[test]
fn a_replica_is_small() {
    assert!(size_of::<Raft>() <= 544, "{} bytes", size_of::<Raft>());
}

/// The digest of the voters that the group was founded with.
fn founders() -> VotersDigest {
    VotersDigest::of(&[NodeId(1), NodeId(2), NodeId(3)])
}

#[test]
fn replicas_with_other_founders_are_not_heard_and_named() {
    let mut raft = replica();
    let (last, commit, entries) = (LogId::default(), Index(0), Entries::new());
    for others in [&[1, 2][..], &[1, 2, 3, 4], &[2, 3], &[]] {
        let others: Vec<_> = others.iter().copied().map(NodeId).collect();
        let founders = VotersDigest::of(&others);
        let entries = entries.clone();
        for payload in [
            Payload::PreVote { last, founders },
            Payload::Vote { last, transfer: true, founders },
            Payload::Fortify { commit, founders },
            Payload::AppendEntries { prev: last, entries, commit, founders },
        ] {
            // A node that is no voter here may have been started as one all the same.
            for from in [2, 4] {
                let leads =
                    matches!(payload, Payload::Fortify { .. } | Payload::AppendEntries { .. });
                let named = Output::OtherVoters { from: NodeId(from), leads };
                assert_eq!(receive(&mut raft, from, 1, payload.clone()), [named]);
            }
        }
    }
    assert_eq!(raft.term(), Term(0));
}

#[test]
fn a_replica_does_not_hear_itself() {
    let mut raft = replica();
    let last = LogId::default();
    let vote = Payload::Vote { last, transfer: false, founders: founders() };
    assert_eq!(receive(&mut raft, 1, 1, vote.clone()), []);
    assert_ne!(receive(&mut raft, 3, 1, vote), []);
}

/// It may be a member of a configuration that is yet to come. But its vote counts for nothing.
#[test]
fn a_replica_that_is_no_member_gets_a_vote_and_its_own_does_not_count() {
    let last = LogId::default();
    let vote = Payload::Vote { last, transfer: false, founders: founders() };
    assert_ne!(receive(&mut replica(), 9, 1, vote), []);
    let mut raft = replica();
    raft.step(Time(0), &supported(), Input::Campaign, &mut Vec::new());
    assert_eq!(raft.role(), RoleKind::PreCandidate);
    receive(&mut raft, 9, 1, Payload::PreVoteReply { granted: true });
    assert_eq!(raft.role(), RoleKind::PreCandidate);
    receive(&mut raft, 2, 1, Payload::PreVoteReply { granted: true });
    assert_eq!(raft.role(), RoleKind::Candidate);
    receive(&mut raft, 9, 1, Payload::VoteReply { granted: true });
    assert_eq!(raft.role(), RoleKind::Candidate);
    receive(&mut raft, 2, 1, Payload::VoteReply { granted: true });
    assert_eq!(raft.role(), RoleKind::Leader);
}

#[test]
fn what_no_replica_can_have_said_is_not_heard() {
    let entry = |term, index| {
        let id = LogId::new(Term(term), Index(index));
        Entry::new(GroupId(1), id, EntryKind::Noop, Bytes::new())
    };
    let append = |terms: [u64; 2]| Payload::AppendEntries {
        prev: LogId::default(),
        entries: [entry(terms[0], 1), entry(terms[1], 2)].into_iter().collect(),
        commit: Index(0),
        founders: founders(),
    };
    let snapshot = |term, index| {
        let meta = snapshot(LogId::new(Term(term), Index(index)));
        Payload::Snapshot { meta }
    };
    let fortify = Payload::Fortify { commit: Index(0), founders: founders() };
    for (term, payload) in [
        (4, append([3, 2])),
        (4, append([4, 5])),
        (4, snapshot(5, 9)),
        (4, snapshot(4, u64::MAX)),
        (u64::MAX, fortify),
    ] {
        let mut raft = replica();
        assert_eq!(receive(&mut raft, 2, term, payload), []);
        assert_eq!(raft.term(), Term(0));
    }
    assert_ne!(receive(&mut replica(), 2, 4, append([3, 4])), []);
}

#[test]
fn a_term_that_no_election_can_have_led_to_is_refused_and_named() {
    let mut raft = replica();
    let last = LogId::new(Term(1), Index(1));
    let vote = Payload::Vote { last, transfer: true, founders: founders() };
    let (term, known) = (Term(MAX_STEP + 1), Term(0));
    let violation = Violation::ImplausibleTerm { term, known };
    let from = NodeId(2);
    assert_eq!(receive(&mut raft, 2, term.0, vote.clone()), [Output::Violated { from, violation }]);
    assert_eq!(raft.term(), known);
    // Who is led to the bound leaves the others room to follow.
    assert_ne!(receive(&mut raft, 2, MAX_STEP, vote.clone()), []);
    assert_ne!(receive(&mut replica(), 3, MAX_STEP, vote), []);
}

#[test]
fn what_raises_a_term_is_paid_for() {
    let (mut raft, last) = (replica(), LogId::new(Term(1), Index(1)));
    let vote = || Payload::Vote { last, transfer: true, founders: founders() };
    assert_ne!(receive(&mut raft, 2, MAX_STEP, vote()), []);
    for step in [MAX_STEP, 1] {
        let (term, known) = (Term(MAX_STEP + step), Term(MAX_STEP));
        let violation = Violation::ImplausibleTerm { term, known };
        let refused = Output::Violated { from: NodeId(2), violation };
        assert_eq!(receive(&mut raft, 2, term.0, vote()), [refused]);
    }
    // Elections cost time, which brings back more than they take.
    receive_at(&mut raft, Time(1), 2, MAX_STEP + 1, vote());
    assert_eq!(raft.term(), Term(MAX_STEP + 1));
}

/// By itself, the resignation of a leader takes the replica to the term after it.
#[test]
fn resignations_of_leaders_that_never_were_are_paid_for() {
    let mut raft = replica();
    let fortify = Payload::Fortify { commit: Index(0), founders: founders() };
    let resign = |term| Payload::Resign { epoch: Epoch(1), term: Term(term) };
    receive(&mut raft, 2, 1, fortify.clone());
    receive(&mut raft, 2, MAX_STEP, resign(MAX_STEP));
    assert_eq!(raft.term(), Term(MAX_STEP + 1));
    for payload in [fortify, resign(2 * MAX_STEP)] {
        let (term, known) = (Term(2 * MAX_STEP), Term(MAX_STEP + 1));
        let violation = Violation::ImplausibleTerm { term, known };
        let refused = Output::Violated { from: NodeId(2), violation };
        assert_eq!(receive(&mut raft, 2, term.0, payload), [refused]);
    }
}

proptest! {
    /// A peer leads one replica on for as long as it likes, behind the back of the third.
    #[test]
    fn wherever_messages_take_a_replica_the_others_follow(
        lies in prop::collection::vec((0u8..8, 0u32..40, any::<bool>(), 0u64..3_000_000), 0..40),
    ) {
        let mut raft = replica();
        let mut now = Time(0);
        for (kind, size, is_below, wait) in lies {
            now.0 += wait;
            let step = (1u64 << size) - u64::from(is_below);
            let term = raft.term().0.saturating_add(step);
            receive_at(&mut raft, now, 2, term, lie(kind, term));
        }
        // Neither was it heard of meanwhile, nor has it told anybody.
        let (mut third, term) = (replica(), raft.term());
        receive_at(&mut third, now, 2, term.0, lie(3, term.0));
        prop_assert_eq!(third.term(), term);
    }
}

/// A peer has raised the term of the others for as long as they run, and one of them starts anew.
#[test]
fn who_was_started_since_follows_two_nodes_that_name_the_term() {
    let later = Time::from_millis(10 * 24 * 3_600 * 1_000);
    let (mut old, mut new) = (replica(), replica_of(later));
    let term = MAX_STEP + later.0;
    receive_at(&mut old, later, 2, term, lie(3, term));
    assert_eq!(old.term(), Term(term));
    // By one node alone it may be raised no further than before.
    for far in [term, 1 << 50] {
        let violation = Violation::ImplausibleTerm { term: Term(far), known: Term(0) };
        let refused = Output::Violated { from: NodeId(2), violation };
        assert_eq!(receive_at(&mut new, later, 2, far, lie(3, far)), [refused]);
        assert!(!violation.is_certain(), "the peer may be honest");
    }
    receive_at(&mut new, later, 3, term, lie(3, term));
    assert_eq!(new.term(), old.term());
    // It follows the elections to come.
    receive_at(&mut new, later + Duration::from_micros(9), 3, term + 1, lie(3, term + 1));
    assert_eq!(new.term(), Term(term + 1));
}

/// A message whose term may be a lie.
fn lie(kind: u8, term: u64) -> Payload {
    let last = LogId::new(Term(1), Index(1));
    let (commit, founders) = (Index(0), founders());
    match kind {
        0 => Payload::Vote { last, transfer: true, founders },
        1 => Payload::Vote { last, transfer: false, founders },
        2 => Payload::PreVoteReply { granted: false },
        3 => Payload::Fortified { epoch: None, applied: Index(0) },
        4 => Payload::TimeoutNow,
        5 => Payload::PreVote { last, founders },
        6 => Payload::Resign { epoch: Epoch(1), term: Term(term) },
        _ => Payload::Fortify { commit, founders },
    }
}

/// A replica that fortifies node 2, and has asked it for a read's index.
fn reader() -> Raft {
    let mut raft = replica();
    let payload = Payload::Fortify { commit: Index(0), founders: founders() };
    let message = Message::of_founder(Term(1), payload);
    let mode = ReadMode { from: ReadFrom::Any, lease: false };
    let mut out = Vec::new();
    let heard = Input::Receive { from: NodeId(2), message };
    for input in [heard, Input::Read { token: TOKEN, mode }] {
        raft.step(Time(0), &supporting(), input, &mut out);
    }
    raft
}

/// This node supports node 2.
fn supporting() -> Support {
    let mut support = supported();
    support.of_mut(NodeId(2)).support_for = Some(Epoch(1));
    support
}

const TOKEN: ReadToken = ReadToken(7);

fn read_index(index: u64) -> Payload {
    Payload::ReadIndexReply { token: TOKEN, index: Some(Index(index)), commit: Index(0) }
}

#[test]
fn an_index_that_no_log_can_have_reached_is_refused_and_named() {
    let (from, known, index) = (NodeId(2), Index(0), Index(MAX_INDEX_STEP + 1));
    let named = Output::Violated { from, violation: Violation::ImplausibleIndex { index, known } };
    let snapshot = Payload::Snapshot { meta: snapshot(LogId::new(Term(1), index)) };
    assert_eq!(receive(&mut reader(), 2, 1, snapshot), core::slice::from_ref(&named));
    let reason = Refusal::NotLeader { leader: None };
    let refused = Output::ReadRefused { token: TOKEN, reason };
    assert_eq!(receive(&mut reader(), 2, 1, read_index(index.0)), [named, refused]);
}

#[test]
fn only_the_leader_says_how_far_a_read_must_wait() {
    let mut raft = reader();
    assert_eq!(receive(&mut raft, 3, 1, read_index(0)), []);
    assert_eq!(receive(&mut raft, 2, 1, read_index(0)), [Output::ReadReady { token: TOKEN }]);
}

#[test]
fn a_read_that_waits_for_what_never_comes_is_given_up() {
    let leader = Some(NodeId(2));
    for answered in [true, false] {
        let mut raft = reader();
        if answered {
            assert_eq!(receive(&mut raft, 2, 1, read_index(1_000)), []);
        }
        let mut out = Vec::new();
        while !out.iter().any(|output| matches!(output, Output::ReadRefused { .. })) {
            let deadline = raft.next_deadline(&supporting()).expect("the read has one");
            out.clear();
            raft.step(deadline, &supporting(), Input::Tick, &mut out);
        }
        let reason = Refusal::NotLeader { leader };
        assert!(out.contains(&Output::ReadRefused { token: TOKEN, reason }), "{out:?}");
    }
}

#[test]
fn an_append_over_a_committed_entry_is_refused_and_named() {
    let mut raft = replica();
    let append = |term, data: &'static [u8]| {
        let id = LogId::new(Term(term), Index(1));
        let entry = Entry::new(GroupId(1), id, EntryKind::Command, Bytes::from_static(data));
        let entries = [entry].into_iter().collect();
        Payload::AppendEntries {
            prev: LogId::default(),
            entries,
            commit: Index(1),
            founders: founders(),
        }
    };
    receive(&mut raft, 2, 1, append(1, b"committed"));
    assert_eq!(raft.status().commit, Index(1));
    let violation = Violation::CommittedEntry { index: Index(1) };
    let out = receive(&mut raft, 3, 2, append(2, b"other"));
    assert!(out.contains(&Output::Violated { from: NodeId(3), violation }), "{out:?}");
    assert_eq!(raft.last(), LogId::new(Term(1), Index(1)));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_ignored() {
    let mut raft = replica();
    raft.step(Time(0), &supported(), Input::Campaign, &mut Vec::new());
    receive(&mut raft, 2, 1, Payload::PreVoteReply { granted: true });
    receive(&mut raft, 2, 1, Payload::VoteReply { granted: true });
    assert_eq!(raft.role(), RoleKind::Leader);
    let through = Index(2);
    assert_eq!(receive(&mut raft, 2, 1, Payload::Appended { through, applied: Index(0) }), []);
    assert_eq!(raft.status().peers[0].matched, Index(0));
}

#[test]
fn a_snapshot_that_left_and_got_lost_is_sent_again() {
    let timeout = Tuning::default().election_timeout;
    let mut raft = replica();
    let mut out = Vec::new();
    raft.step(Time(0), &supported(), Input::Campaign, &mut out);
    receive(&mut raft, 2, 1, Payload::PreVoteReply { granted: true });
    receive(&mut raft, 2, 1, Payload::VoteReply { granted: true });
    raft.step(Time(0), &supported(), Input::Persisted { seq: WriteSeq(2) }, &mut out);
    let through = Index(1);
    receive(&mut raft, 2, 1, Payload::Appended { through, applied: Index(0) });
    let last = raft.last();
    raft.step(Time(0), &supported(), Input::Compact { meta: snapshot(last) }, &mut out);
    raft.step(Time(0), &supported(), Input::Unreachable { node: NodeId(3) }, &mut out);
    let resends = Time(0) + Tuning::default().retransmit_timeout;
    raft.step(resends, &supported(), Input::Tick, &mut out);
    let to = NodeId(3);
    let lacks = |raft: &mut Raft, now| {
        let mut out = Vec::new();
        let (x_index, x_len) = (Index(1), Index(1));
        let conflict = Conflict { x_term: None, x_index, x_len };
        let payload = Payload::Rejected { prev: last.index, conflict };
        let message = Message::of_founder(Term(1), payload);
        raft.step(now, &supported(), Input::Receive { from: to, message }, &mut out);
        out.contains(&Output::SendSnapshot { to })
    };
    assert!(out.contains(&Output::SendSnapshot { to }));
    assert!(!lacks(&mut raft, Time(0) + timeout), "it is on its way");
    let sent = Input::SnapshotSent { to, meta: snapshot(last) };
    raft.step(Time(0) + timeout, &supported(), sent, &mut out);
    assert!(!lacks(&mut raft, Time(0) + timeout), "it may be being written");
    assert!(lacks(&mut raft, Time(0) + timeout * 2));
    assert!(!lacks(&mut raft, Time(0) + timeout * 2), "another is on its way");
}

#[test]
fn a_followers_questions_are_bounded_and_each_is_answered_once() {
    let mut raft = replica();
    raft.step(Time(0), &supported(), Input::Campaign, &mut Vec::new());
    receive(&mut raft, 2, 1, Payload::PreVoteReply { granted: true });
    receive(&mut raft, 2, 1, Payload::VoteReply { granted: true });
    let ask = |token| Payload::ReadIndex { token: ReadToken(token), lease: false };
    // As long as its first entry is not committed, the leader answers none.
    for _ in 0..10_000 {
        assert_eq!(receive(&mut raft, 3, 1, ask(0)), []);
    }
    let refused = (0..2_000).filter(|&token| !receive(&mut raft, 3, 1, ask(token)).is_empty());
    let refused = refused.count();
    assert_eq!(receive(&mut raft, 2, 1, ask(0)), [], "another follower has its own");
    let (mut out, mut support) = (Vec::new(), supported());
    raft.step(Time(0), &support, Input::Persisted { seq: WriteSeq(2) }, &mut out);
    let through = Index(1);
    receive(&mut raft, 2, 1, Payload::Appended { through, applied: through });
    receive(&mut raft, 2, 1, Payload::Fortified { epoch: Some(Epoch(1)), applied: through });
    let confirmed = Confirmation { round: Round(9), epoch: Some(Epoch(1)) };
    support.of_mut(NodeId(2)).confirmed = confirmed;
    raft.step(Time(0), &support, Input::Confirmed, &mut out);
    let answers = |node| {
        let is_answer = |output: &&Output| {
            let Output::Send { to, message } = output else { return false };
            let is_answer = matches!(message.payload, Payload::ReadIndexReply { .. });
            *to == NodeId(node) && is_answer
        };
        out.iter().filter(is_answer).count()
    };
    assert_eq!((answers(2), answers(3) + refused), (1, 2_000));
    assert!(refused > 0);
}

/// It would wait for longer than an election timeout before it campaigns again.
#[test]
fn a_leader_without_a_majority_calls_nobody_back() {
    let mut raft = replica();
    let lead = |raft: &mut Raft, support: &Support, input| {
        let mut out = Vec::new();
        raft.step(Time(0), support, input, &mut out);
        out
    };
    let from = NodeId(2);
    let message = |payload| {
        let term = Term(1);
        Input::Receive { from, message: Message::of_founder(term, payload) }
    };
    lead(&mut raft, &supported(), Input::Campaign);
    lead(&mut raft, &supported(), message(Payload::PreVoteReply { granted: true }));
    lead(&mut raft, &supported(), message(Payload::VoteReply { granted: true }));
    assert_eq!(raft.role(), RoleKind::Leader);
    let calls_back = |out: &[Output]| {
        out.iter().any(|output| {
            let Output::Send { message, .. } = output else { return false };
            matches!(message.payload, Payload::Fortify { .. })
        })
    };
    let rival = || {
        let payload =
            Payload::PreVote { last: LogId::new(Term(1), Index(1)), founders: founders() };
        Input::Receive { from, message: Message::of_founder(Term(2), payload) }
    };
    assert!(calls_back(&lead(&mut raft, &supported(), rival())));
    assert!(!calls_back(&lead(&mut raft, &Support::default(), rival())));
}

fn founding() -> Arc<Configuration> {
    Configuration::founding(&[1, 2, 3].map(NodeId), Some(NodeId(1))).into()
}

/// A snapshot from before any change of members.
fn snapshot(last: LogId) -> SnapshotMeta {
    SnapshotMeta { last, configuration: founding() }
}

fn replica() -> Raft {
    replica_of(Time(0))
}

/// One that starts at this moment.
fn replica_of(now: Time) -> Raft {
    let config = Config {
        group: GroupId(1),
        node: NodeId(1),
        replica: ReplicaId::FOUNDER,
        founding: founding(),
        seed: 1,
        tuning: Arc::new(Tuning::default()),
    };
    Raft::new(config, Restored::default(), now)
}

/// All peers support this node.
fn supported() -> Support {
    let mut support = Support::default();
    for peer in [2, 3] {
        support.of_mut(NodeId(peer)).support_from = Some(Epoch(1));
    }
    support
}

fn receive(raft: &mut Raft, from: u64, term: u64, payload: Payload) -> Vec<Output> {
    receive_at(raft, Time(0), from, term, payload)
}

fn receive_at(raft: &mut Raft, now: Time, from: u64, term: u64, payload: Payload) -> Vec<Output> {
    let mut out = Vec::new();
    let from = NodeId(from);
    let term = Term(term);
    let message = Message::of_founder(term, payload);
    raft.step(now, &supporting(), Input::Receive { from, message }, &mut out);
    out
}
