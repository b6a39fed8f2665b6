//! The five properties of Raft over the replicas of a group.

use super::{GroupChecks, node_id, place_of};
use logboat_raft::{
    HardState, Index, LogId, Message, NodeId, Payload, Raft, ReplicaAddress, SnapshotMeta, Term,
};

impl GroupChecks {
    /// What a message says of leaders and terms.
    pub(super) fn heard(&mut self, from: usize, to: usize, message: &Message) {
        self.bonds.heard(node_id(from), node_id(to), message);
        self.elections.heard(node_id(from), node_id(to), message);
        if matches!(
            message.payload,
            Payload::AppendEntries { .. } | Payload::Fortify { .. } | Payload::Snapshot { .. }
        ) {
            let leader = *self.leaders.entry(message.term).or_insert(from);
            assert_eq!(leader, from, "election safety: two lead in {}", message.term);
        }
        if let Payload::Resign { term, .. } = message.payload {
            // Whoever goes by it enters the next term, without a campaign.
            self.entered = self.entered.max(term.next());
        }
    }

    /// A replica writes this, which may name another term or vote than before.
    pub(super) fn votes(&self, node: usize, after: HardState) {
        let view = &self.replicas[node].model.view;
        let configuration = view.configuration_at(view.last().index);
        let leads = |it| self.leaders.get(&after.term) == Some(&place_of(it));
        let handed_over = |term| self.bonds.handed_over(term);
        let change = (view.hard_state, after);
        self.elections.written(
            node_id(node),
            change,
            configuration.map(|it| &**it),
            leads,
            handed_over,
        );
    }

    /// A replica leads, and did not before: it was elected by a majority of what was in force at
    /// the end of its log, before the entries of its term.
    pub(super) fn is_elected(&self, node: usize, raft: &Raft) {
        let view = &self.replicas[node].model.view;
        let mut end = view.last().index;
        while view.entry(end).is_some_and(|(term, _)| term == raft.term()) {
            end = end.prev();
        }
        if let Some(configuration) = view.configuration_at(end) {
            let own = ReplicaAddress::new(node_id(node), raft.id());
            self.elections.elected(raft.term(), own, configuration);
        }
    }

    /// The leader of the latest term that had one.
    pub(super) fn newest_leader(&self) -> Option<(Term, usize)> {
        self.leaders.last_key_value().map(|(term, place)| (*term, *place))
    }

    /// The content of a snapshot is the state after its last entry, which all replicas agree on, as
    /// they do on the configuration there. Stores of keys may differ in what has expired and takes
    /// space still.
    pub(super) fn snapshot_is(&mut self, meta: &SnapshotMeta, content: &[u8]) {
        let last = meta.last;
        let content = match &mut self.keys {
            Some(keys) => {
                keys.snapshot_is(content);
                &[]
            }
            None => content,
        };
        let crc = crc32fast::hash(&[content, &meta.configuration.encode()].concat());
        let known = *self.states.entry(last).or_insert(crc);
        assert_eq!(known, crc, "a snapshot up to {last} is not the state there");
    }

    /// What the latest leader counts as held by a follower is on that follower's disk.
    pub(super) fn follower_holds(&self, leader: usize, follower: NodeId, matched: Index) {
        let Some(term) = self.replicas[leader].model.view.term_at(matched) else { return };
        let id = LogId::new(term, matched);
        assert!(
            self.replicas[place_of(follower)].model.holds(id),
            "a leader counts {id} as durable on {follower}, and it is not"
        );
    }

    /// The leader of the latest term has all that is committed. (One of an earlier term, which does
    /// not know yet that it was deposed, may not.)
    pub(super) fn leader_completeness(&self, node: usize, term: Term) {
        if self.leaders.last_key_value().is_some_and(|(latest, _)| *latest > term) {
            return;
        }
        let view = &self.replicas[node].model.view;
        let begin = view.snapshot.index;
        for (place, entry) in self.committed.iter().enumerate().skip(begin.0 as usize) {
            let index = Index(place as u64 + 1);
            assert_eq!(
                view.entry(index).as_ref(),
                Some(entry),
                "leader completeness: the leader of {term} lacks committed entry {index}"
            );
        }
    }

    /// A replica's commit index moved. Only a leader, in the term that it led before its run or
    /// leads now, may call something committed that nobody did.
    pub(super) fn commits(
        &mut self,
        node: usize,
        leads: [Option<Term>; 2],
        commit: Index,
        now_us: u64,
    ) {
        let replica = &self.replicas[node];
        let view = &replica.model.view;
        let from = replica.commit.max(view.snapshot.index);
        let mut newest = None;
        for index in from.0 + 1..=commit.0 {
            let entry = view.entry(Index(index)).expect("what is committed is in the log");
            match self.committed.get(index as usize - 1) {
                Some(known) => assert_eq!(
                    (index, entry),
                    (index, *known),
                    "two replicas call different entries committed"
                ),
                None => {
                    assert_eq!(index as usize, self.committed.len() + 1, "a gap is committed");
                    self.committed.push(entry);
                    let id = LogId::new(entry.0, Index(index));
                    self.members.committed_entry(id, now_us);
                    newest = Some(id);
                }
            }
        }
        if let Some(newest) = newest {
            assert!(leads != [None, None], "{newest} is called committed by no leader");
            assert!(
                leads.contains(&Some(newest.term)),
                "a leader committed {newest}, of an older term, by counting"
            );
            self.is_held(node, newest);
        }
    }

    /// What a leader calls committed is on the disks of a majority: of the configuration in force
    /// at that entry, or of a later one that the leader has had in this run. Of a joint one, both
    /// halves count, but when the leader has left it already.
    fn is_held(&self, leader: usize, id: LogId) {
        let view = &self.replicas[leader].model.view;
        let holds = |node: NodeId| self.replicas[place_of(node)].model.holds(id);
        let counted = [id.index, view.last().index]
            .into_iter()
            .any(|index| view.configuration_at(index).is_some_and(|it| it.is_quorum(holds)));
        assert!(counted, "{id} is called committed and is on the disks of no majority");
    }
}
