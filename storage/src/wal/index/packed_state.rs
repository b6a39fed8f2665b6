//! The hard state of a group, packed: with thousands of idle groups it is a good part of what the
//! log needs memory for.

use logboat_raft::{
    Epoch, Fortification, HardState, Index, NodeId, ReplicaAddress, ReplicaId, Term,
};

/// A hard state in half the memory. Nearly all replicas are founders of their groups. So the ids of
/// the replica, of the one that it voted for and of the one that it fortified stand elsewhere, and
/// only if one of them is another.
#[derive(Clone, Debug, Default)]
pub(super) struct PackedState {
    term: Term,
    commit: Index,
    vote: NodeId,
    leader: NodeId,
    epoch: Epoch,
    bond_term: Term,
    ids: Option<Box<[ReplicaId; 3]>>,
    has_vote: bool,
    is_fortified: bool,
    /// The segment of the record that holds the hard state; zero when there is none.
    pub(super) segment: u32,
}

const _: () = assert!(size_of::<PackedState>() <= 64, "there are thousands of them");

impl PackedState {
    pub(super) fn pack(state: &HardState, segment: u32) -> Self {
        let bond = state.fortified;
        let ids = [
            state.replica,
            state.vote.map(|vote| vote.replica).unwrap_or_default(),
            bond.map(|bond| bond.replica).unwrap_or_default(),
        ];
        let is_founding = ids.iter().all(|id| *id == ReplicaId::FOUNDER);
        Self {
            term: state.term,
            commit: state.commit,
            vote: state.vote.map(|vote| vote.node).unwrap_or_default(),
            leader: bond.map(|bond| bond.leader).unwrap_or_default(),
            epoch: bond.map(|bond| bond.epoch).unwrap_or_default(),
            bond_term: bond.map(|bond| bond.term).unwrap_or_default(),
            ids: (!is_founding).then(|| Box::new(ids)),
            has_vote: state.vote.is_some(),
            is_fortified: bond.is_some(),
            segment,
        }
    }

    pub(super) fn unpack(&self) -> HardState {
        let [replica, voted, fortified] = self.ids.as_deref().copied().unwrap_or_default();
        HardState {
            replica,
            term: self.term,
            vote: self.has_vote.then_some(ReplicaAddress::new(self.vote, voted)),
            commit: self.commit,
            fortified: self.is_fortified.then_some(Fortification {
                leader: self.leader,
                replica: fortified,
                epoch: self.epoch,
                term: self.bond_term,
            }),
        }
    }

    /// Which replica of the group it is.
    pub(super) fn replica(&self) -> ReplicaId {
        self.ids.as_deref().map_or(ReplicaId::FOUNDER, |[replica, ..]| *replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::LogId;

    #[test]
    fn what_is_packed_comes_out_again() {
        let ids = [ReplicaId::FOUNDER, ReplicaId(LogId::new(Term(7), Index(8)))];
        let votes = ids.map(|id| Some(ReplicaAddress::new(NodeId(2), id)));
        let bond =
            |replica| Fortification { leader: NodeId(3), replica, epoch: Epoch(4), term: Term(5) };
        let bonds = ids.map(|id| Some(bond(id)));
        for replica in ids {
            for vote in votes.into_iter().chain([None, Some(ReplicaAddress::founder(NodeId(0)))]) {
                for fortified in bonds.into_iter().chain([None]) {
                    let (term, commit) = (Term(9), Index(10));
                    let state = HardState { replica, term, vote, commit, fortified };
                    let packed = PackedState::pack(&state, 6);
                    assert_eq!((packed.unpack(), packed.replica()), (state, replica));
                }
            }
        }
        assert_eq!(PackedState::default().unpack(), HardState::default());
    }
}
