//! Which replica says something, and to which: what does not name the right ones counts for
//! nothing.

use super::*;
use crate::{Change, HardState, ReplicaAddress};

/// A replica that some entry added, and a later one.
const ADDED: ReplicaId = ReplicaId(LogId::new(Term(1), Index(2)));
const LATER: ReplicaId = ReplicaId(LogId::new(Term(1), Index(9)));

/// Hands in a message between these replicas.
fn hear(
    raft: &mut Raft,
    from: (u64, ReplicaId),
    to: ReplicaId,
    message: (u64, Payload),
) -> Answers {
    let (node, from) = (NodeId(from.0), from.1);
    let message = Message { from, to, term: Term(message.0), payload: message.1 };
    let (mut out, support) = (Vec::new(), supporting());
    raft.step(Time(0), &support, Input::Receive { from: node, message }, &mut out);
    Answers(out)
}

struct Answers(Vec<Output>);

impl Answers {
    /// The only message that was sent.
    fn message(&self) -> Option<&Message> {
        let mut sent = self.0.iter().filter_map(|output| match output {
            Output::Send { message, .. } | Output::SendAfter { message, .. } => Some(message),
            _ => None,
        });
        let first = sent.next();
        assert_eq!(sent.next(), None, "one message at the most");
        first
    }

    fn gone(&self) -> Option<ReplicaId> {
        self.0.iter().find_map(|output| match output {
            Output::Gone { floor } => Some(*floor),
            _ => None,
        })
    }
}

const FOUNDER: ReplicaId = ReplicaId::FOUNDER;

fn vote() -> Payload {
    let last = LogId::new(Term(1), Index(1));
    Payload::Vote { last, transfer: true, founders: founders() }
}

fn fortify() -> Payload {
    Payload::Fortify { commit: Index(0), founders: founders() }
}

/// A replica that leads term 1, and knows nothing of the others yet.
fn leader() -> Raft {
    let mut raft = replica();
    raft.step(Time(0), &supported(), Input::Campaign, &mut Vec::new());
    for payload in [Payload::PreVoteReply { granted: true }, Payload::VoteReply { granted: true }] {
        receive(&mut raft, 3, 1, payload);
    }
    assert_eq!(raft.role(), RoleKind::Leader);
    raft
}

/// A replica that waits to be added to its group.
fn joiner() -> Raft {
    let founding = Configuration::unknown().into();
    let (group, node, tuning) = (GroupId(1), NodeId(1), Arc::new(Tuning::default()));
    let config = Config { group, node, replica: FOUNDER.next(), founding, seed: 1, tuning };
    Raft::new(config, Restored::default(), Time(0))
}

#[test]
fn a_vote_is_repeated_to_the_same_replica_only() {
    let mut raft = replica();
    let granted = |answers: &Answers| {
        let message = answers.message().expect("a vote is answered");
        (message.to, message.payload == Payload::VoteReply { granted: true })
    };
    assert_eq!(granted(&hear(&mut raft, (2, FOUNDER), FOUNDER, (3, vote()))), (FOUNDER, true));
    assert_eq!(granted(&hear(&mut raft, (2, LATER), FOUNDER, (3, vote()))), (LATER, false));
    assert_eq!(granted(&hear(&mut raft, (2, FOUNDER), FOUNDER, (3, vote()))), (FOUNDER, true));
    // The disk keeps which one it was.
    let vote = Some(ReplicaAddress::new(NodeId(2), LATER));
    let hard_state = HardState { term: Term(3), vote, ..HardState::default() };
    let restored = Restored { hard_state, ..Restored::default() };
    let mut raft = Raft::new(replica().replica.config.clone(), restored, Time(0));
    assert!(!granted(&hear(&mut raft, (2, FOUNDER), FOUNDER, (3, self::vote()))).1);
    assert!(granted(&hear(&mut raft, (2, LATER), FOUNDER, (3, self::vote()))).1);
}

#[test]
fn votes_count_for_the_replica_that_the_configuration_names() {
    let mut raft = replica();
    let mut out = Vec::new();
    raft.step(Time(0), &supported(), Input::Campaign, &mut out);
    let pre_vote = || (1, Payload::PreVoteReply { granted: true });
    hear(&mut raft, (2, LATER), FOUNDER, pre_vote());
    assert_eq!(raft.role(), RoleKind::PreCandidate);
    hear(&mut raft, (2, FOUNDER), FOUNDER, pre_vote());
    assert_eq!(raft.role(), RoleKind::Candidate);
    let vote = || (1, Payload::VoteReply { granted: true });
    hear(&mut raft, (2, LATER), FOUNDER, vote());
    assert_eq!(raft.role(), RoleKind::Candidate);
    hear(&mut raft, (2, FOUNDER), FOUNDER, vote());
    assert_eq!(raft.role(), RoleKind::Leader);
}

#[test]
fn a_leader_counts_what_the_replica_says_that_the_configuration_names() {
    let mut raft = leader();
    let last = raft.last().index;
    let says = |payload| (1, payload);
    let told = |raft: &Raft| {
        let peer = raft.status().peers.into_iter().find(|peer| peer.node == NodeId(2)).unwrap();
        (peer.matched, peer.fortified, peer.applied)
    };
    for payload in [
        Payload::Appended { through: last, applied: Index(0) },
        Payload::Fortified { epoch: Some(Epoch(1)), applied: Index(0) },
    ] {
        let before = told(&raft);
        hear(&mut raft, (2, LATER), FOUNDER, says(payload.clone()));
        assert_eq!(told(&raft), before, "{payload:?} of another replica");
        hear(&mut raft, (2, FOUNDER), FOUNDER, says(payload.clone()));
        assert_ne!(told(&raft), before, "{payload:?}");
    }
}

#[test]
fn a_follower_takes_read_indexes_of_the_replica_that_leads() {
    let mut raft = reader();
    let (index, commit) = (Some(Index(0)), Index(0));
    let answer = || (1, Payload::ReadIndexReply { token: TOKEN, index, commit });
    let ready = |answers: &Answers| answers.0.contains(&Output::ReadReady { token: TOKEN });
    assert!(!ready(&hear(&mut raft, (2, LATER), FOUNDER, answer())));
    assert!(ready(&hear(&mut raft, (2, FOUNDER), FOUNDER, answer())));
}

#[test]
fn a_bond_with_one_replica_forbids_votes_for_a_later_one_on_its_node() {
    let mut raft = replica();
    hear(&mut raft, (2, FOUNDER), FOUNDER, (1, fortify()));
    assert_eq!(raft.fortified().map(|bond| bond.replica), Some(FOUNDER));
    let last = LogId::new(Term(1), Index(1));
    let vote = Payload::PreVote { last, founders: founders() };
    let refused = hear(&mut raft, (2, LATER), FOUNDER, (2, vote.clone()));
    let granted = |granted| Some(Payload::PreVoteReply { granted });
    assert_eq!(refused.message().map(|it| it.payload.clone()), granted(false));
    assert!(raft.fortified().is_some());
    let given = hear(&mut raft, (2, FOUNDER), FOUNDER, (2, vote));
    assert_eq!(given.message().map(|it| it.payload.clone()), granted(true));
}

#[test]
fn a_resignation_ends_bonds_of_its_replica_and_is_answered_from_the_next_term() {
    let bound = || {
        let mut raft = replica();
        hear(&mut raft, (2, FOUNDER), FOUNDER, (4, fortify()));
        raft
    };
    let resign = |epoch, term| Payload::Resign { epoch: Epoch(epoch), term: Term(term) };
    for (from, payload, ends, enters, is_answered) in [
        ((2, LATER), resign(1, 4), false, false, true),
        ((3, FOUNDER), resign(1, 4), false, false, true),
        ((2, FOUNDER), resign(2, 4), false, true, false),
        ((2, FOUNDER), resign(1, 3), false, false, true),
        ((2, FOUNDER), resign(1, 4), true, true, true),
        ((2, FOUNDER), resign(1, 6), true, true, true),
    ] {
        let mut raft = bound();
        let Payload::Resign { term, .. } = payload else { unreachable!() };
        let answers = hear(&mut raft, from, FOUNDER, (7, payload.clone()));
        let answer = answers.0.iter().find_map(|output| match output {
            Output::SendAfter { message, .. } | Output::Send { message, .. } => {
                matches!(message.payload, Payload::Resigned { .. }).then_some(message)
            }
            _ => None,
        });
        let answer = answer.map(|answer| (answer.to, &answer.payload));
        let expected = (from.1, &Payload::Resigned { term });
        assert_eq!(answer, is_answered.then_some(expected), "{from:?} {payload:?}");
        assert_eq!(raft.fortified().is_none(), ends, "{from:?} {payload:?}");
        assert_eq!(raft.term() > Term(4), enters, "{from:?} {payload:?}");
        if enters {
            // What was on its way binds nobody any more.
            hear(&mut raft, (2, FOUNDER), FOUNDER, (4, fortify()));
            assert!(raft.fortified().is_none_or(|bond| !ends || bond.term > Term(4)));
        }
    }
}

#[test]
fn a_repeated_vote_leaves_the_bond_of_its_term() {
    let mut raft = replica();
    hear(&mut raft, (2, FOUNDER), FOUNDER, (3, vote()));
    hear(&mut raft, (2, FOUNDER), FOUNDER, (3, fortify()));
    let bond = raft.fortified();
    assert!(bond.is_some());
    hear(&mut raft, (2, FOUNDER), FOUNDER, (3, vote()));
    assert_eq!(raft.fortified(), bond);
}

#[test]
fn a_replica_that_waits_takes_its_id_from_a_leader_alone_and_keeps_it() {
    let mut raft = joiner();
    for payload in [vote(), Payload::TimeoutNow, Payload::Left] {
        assert_eq!(hear(&mut raft, (2, FOUNDER), ADDED, (1, payload)).0, []);
    }
    assert_eq!(raft.id(), FOUNDER.next());
    let answers = hear(&mut raft, (2, FOUNDER), ADDED, (1, fortify()));
    assert_eq!(raft.id(), ADDED);
    assert_eq!(answers.message().map(|message| message.from), Some(ADDED));
    let is_written = |output: &Output| {
        matches!(output, Output::Persist(persist)
            if persist.hard_state.as_ref().is_some_and(|state| state.replica == ADDED))
    };
    assert!(answers.0.iter().any(is_written), "the id is durable before it answers");
    assert_eq!(hear(&mut raft, (2, FOUNDER), FOUNDER, (1, fortify())).0, [], "for another");
}

#[test]
fn a_replica_that_waits_answers_for_one_that_was_removed_before_it_was_called() {
    let mut raft = joiner();
    let gone = |floor| Payload::Gone { floor, founders: founders() };
    assert_eq!(hear(&mut raft, (2, FOUNDER), ADDED, (5, gone(ADDED))).0, [], "it is not gone");
    let answers = hear(&mut raft, (2, FOUNDER), ADDED, (5, gone(ADDED.next())));
    assert_eq!(answers.gone(), None);
    let answer = answers.message().expect("it is answered");
    assert_eq!((answer.from, &answer.payload), (ADDED, &Payload::Left));
    assert_eq!(raft.id(), FOUNDER.next(), "it waits on, for another call");
    hear(&mut raft, (2, FOUNDER), LATER, (5, fortify()));
    assert_eq!(raft.id(), LATER);
}

#[test]
fn a_leader_that_calls_a_later_replica_says_that_this_one_is_gone_and_nobody_else_does() {
    let mut raft = reader();
    for (term, payload) in [(9, vote()), (0, fortify()), (9, Payload::TimeoutNow)] {
        assert_eq!(hear(&mut raft, (2, FOUNDER), LATER, (term, payload)).0, []);
    }
    assert_eq!(raft.term(), Term(1));
    let answers = hear(&mut raft, (2, FOUNDER), LATER, (1, append()));
    assert_eq!((answers.gone(), answers.message()), (Some(LATER), None));
    // It takes no further step.
    assert_eq!(raft.next_deadline(&supporting()), None);
    assert_eq!(hear(&mut raft, (2, FOUNDER), FOUNDER, (2, fortify())).0, []);
}

#[test]
fn who_waits_in_a_later_term_answers_the_leader_that_calls_it() {
    let mut raft = joiner();
    let waiting = raft.id();
    // A node has named a term in which nobody leads.
    let resign = Payload::Resign { epoch: Epoch(1), term: Term(7) };
    hear(&mut raft, (3, FOUNDER), waiting, (7, resign));
    let answers = hear(&mut raft, (2, FOUNDER), ADDED, (1, append()));
    let answer = answers.message().expect("the leader has to follow");
    let payload = Payload::Fortified { epoch: None, applied: Index(0) };
    assert_eq!((answer.from, answer.term, &answer.payload), (ADDED, Term(8), &payload));
}

/// An append that an empty log takes.
fn append() -> Payload {
    let (prev, entries, commit) = (LogId::default(), Entries::new(), Index(0));
    Payload::AppendEntries { prev, entries, commit, founders: founders() }
}

#[test]
fn a_replica_believes_that_it_is_gone_and_its_tombstone_answers() {
    let mut raft = reader();
    let gone = |floor| Payload::Gone { floor, founders: founders() };
    assert_eq!(hear(&mut raft, (3, FOUNDER), FOUNDER, (1, gone(FOUNDER))).0, [], "not later");
    let answers = hear(&mut raft, (3, FOUNDER), FOUNDER, (1, gone(LATER)));
    assert_eq!(answers.gone(), Some(LATER));
    // Nobody of another group of this id is believed.
    let stranger = Payload::Gone { floor: LATER.next(), founders: VotersDigest(7) };
    let mut other = reader();
    assert_eq!(hear(&mut other, (3, FOUNDER), FOUNDER, (2, stranger)).gone(), None);
    // A later replica answers for it.
    let mut later = joiner();
    hear(&mut later, (2, FOUNDER), LATER, (1, fortify()));
    let answers = hear(&mut later, (3, FOUNDER), ADDED, (5, gone(LATER)));
    let answer = answers.message().expect("it is answered");
    assert_eq!((answer.from, &answer.payload), (ADDED, &Payload::Left));
    let resign = Payload::Resign { epoch: Epoch(1), term: Term(4) };
    let answers = hear(&mut later, (3, FOUNDER), ADDED, (5, resign));
    let answer = answers.message().expect("it is answered");
    assert_eq!((answer.from, &answer.payload), (ADDED, &Payload::Resigned { term: Term(4) }));
    assert_eq!(later.term(), Term(1), "it promises nothing");
}

#[test]
fn who_is_gone_by_a_committed_configuration_is_told_so_whatever_it_says() {
    let mut raft = reader();
    let at = |index| LogId::new(Term(1), Index(index));
    let joined = founding().change(at(1), &[Change::AddLearner(NodeId(4))]).unwrap();
    let without = joined.change(at(2), &[Change::Remove(NodeId(4))]).unwrap();
    let entry =
        |it: &Configuration| Entry::new(GroupId(1), it.id(), EntryKind::Configuration, it.encode());
    let entries = [entry(&joined), entry(&without)].into_iter().collect();
    let payload = |entries, commit| {
        let prev = LogId::default();
        Payload::AppendEntries { prev, entries, commit: Index(commit), founders: founders() }
    };
    hear(&mut raft, (2, FOUNDER), FOUNDER, (1, payload(entries, 1)));
    let removed = ReplicaId(at(1));
    let pre_vote = || Payload::PreVote { last: at(9), founders: founders() };
    let said = |raft: &mut Raft, id| {
        let answers = hear(raft, (4, id), FOUNDER, (2, pre_vote()));
        answers.message().map(|message| (message.to, message.payload.clone()))
    };
    let answer = said(&mut raft, removed);
    assert!(!matches!(answer, Some((_, Payload::Gone { .. }))), "it is not committed: {answer:?}");
    let floor = ReplicaId(at(3));
    let gone = Payload::Gone { floor, founders: founders() };
    let commit = Payload::Fortify { commit: Index(2), founders: founders() };
    hear(&mut raft, (2, FOUNDER), FOUNDER, (1, commit));
    assert_eq!(said(&mut raft, removed), Some((removed, gone)));
    // One that is added later is not.
    let answer = said(&mut raft, floor);
    assert!(!matches!(answer, Some((_, Payload::Gone { .. }))), "{answer:?}");
}

/// The entry that adds a replica is in the log of whoever calls it. Otherwise a single message
/// could bar a node from its group: every later replica on it would have an earlier id.
#[test]
fn an_id_of_a_later_term_than_the_messages_is_not_heard() {
    let far = ReplicaId(LogId::new(Term(2), Index(1)));
    for payload in [fortify(), append()] {
        let mut raft = joiner();
        assert_eq!(hear(&mut raft, (2, FOUNDER), far, (1, payload.clone())).0, []);
        assert_eq!(raft.id(), FOUNDER.next());
        hear(&mut raft, (2, FOUNDER), far, (2, payload));
        assert_eq!(raft.id(), far);
    }
    let gone = || Payload::Gone { floor: far, founders: founders() };
    assert_eq!(hear(&mut reader(), (3, FOUNDER), FOUNDER, (1, gone())).gone(), None);
    assert_eq!(hear(&mut reader(), (3, FOUNDER), FOUNDER, (2, gone())).gone(), Some(far));
}
