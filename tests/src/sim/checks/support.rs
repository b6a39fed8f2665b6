//! The support of nodes for each other, and the bonds and reads that rest on it.

use super::bonds::Counted;
use super::{Checks, GroupChecks, node_id, place_of};
use logboat_raft::{BootCount, Fortification, Grant, NodeId};
use std::collections::BTreeMap;

impl Checks {
    /// A node starts, with these grants on its disk.
    pub(in crate::sim) fn started(
        &mut self,
        node: usize,
        boot: BootCount,
        grants: &BTreeMap<NodeId, Grant>,
    ) {
        self.boots.insert(node_id(node), boot);
        self.finds_grants(node, grants);
        for (peer, grant) in grants {
            // What the disk kept of a batch that nobody knew to be durable counts from now on.
            self.granted(node, *peer, *grant);
        }
    }

    /// A promise to a peer is durable. (What a node notes of itself is none.)
    pub(in crate::sim) fn granted(&mut self, node: usize, peer: NodeId, grant: Grant) {
        let own = node_id(node);
        if peer == own {
            return;
        }
        let known = self.grants.get(&(own, peer)).copied().unwrap_or_default();
        assert!(
            grant.epoch > known.epoch
                || (grant.epoch == known.epoch && (known.live || !grant.live)),
            "support was given again at an epoch: {known:?}, then {grant:?}"
        );
        self.grants.insert((own, peer), grant);
        if known.live && (grant.epoch, grant.live) != (known.epoch, true) {
            for group in &mut self.groups {
                let bond = group.replicas[node].model.durable.hard_state.fortified;
                if bond.is_some_and(|bond| (bond.leader, bond.epoch) == (peer, known.epoch)) {
                    group.bonds.ended(own, peer, self.now_us);
                }
            }
        }
    }

    /// A read was served that came at the moment `since`, and that none but one of these `leaders`
    /// can have confirmed. Whoever did, a majority stood by that one then or later: its own replica
    /// and the followers with bonds. So nobody had been elected in its place when the read came.
    pub(in crate::sim) fn read_served(&self, group: usize, leaders: &[NodeId], since: u64) {
        let is_safe = |leader: &NodeId| {
            let stood = |node| node == *leader || self.stood_by(group, node, *leader, since);
            self.groups[group].members.had_quorum(since, stood)
        };
        assert!(
            leaders.iter().any(is_safe),
            "a read was served, and no majority has stood by any of {leaders:?} since it came"
        );
    }

    /// Whether the bond of a follower with a leader stands on disk, or did so after `since`.
    fn stood_by(&self, group: usize, follower: NodeId, leader: NodeId, since: u64) -> bool {
        let GroupChecks { bonds, replicas, .. } = &self.groups[group];
        let grant = self.grants.get(&(follower, leader)).copied().unwrap_or_default();
        let bond = replicas[place_of(follower)].model.durable.hard_state.fortified;
        let stands = |bond: Fortification| (bond.leader, bond.epoch) == (leader, grant.epoch);
        (grant.live && bond.is_some_and(stands))
            || bonds.last_ended(follower, leader).is_some_and(|ended| ended >= since)
    }

    /// The disk of a node has all grants that were durable, or later ones.
    pub(super) fn finds_grants(&self, node: usize, grants: &BTreeMap<NodeId, Grant>) {
        for ((own, peer), known) in &self.grants {
            let found = grants.get(peer).copied().unwrap_or_default();
            assert!(
                *own != node_id(node) || (found.epoch, !found.live) >= (known.epoch, !known.live),
                "{own} forgot what it granted {peer}: {known:?}, then {found:?}"
            );
        }
    }

    /// While the latest leader counts on a follower whose node supports the leader's at that epoch,
    /// on disk, the follower's bond is on its disk, too.
    pub(super) fn bonds_stand(&self, number: usize) {
        let group = &self.groups[number];
        let Some((term, place)) = group.newest_leader() else { return };
        let leader = node_id(place);
        if group.replicas[place].leads != Some(term) || !group.bonds.serves(leader, term) {
            return;
        }
        for Counted { follower, epoch } in &group.replicas[place].counted {
            let grant = self.grants.get(&(*follower, leader)).copied().unwrap_or_default();
            let stands = grant.live && grant.epoch == *epoch;
            if !stands || self.boots.get(&leader) != Some(&grant.boot) {
                continue;
            }
            let bond = group.replicas[place_of(*follower)].model.durable.hard_state.fortified;
            assert!(
                bond.is_some_and(|bond| (bond.leader, bond.epoch) == (leader, *epoch)),
                "the leader {leader} of {term} counts on a bond with {follower} at {epoch}, whose \
                 disk has {bond:?}"
            );
        }
    }
}
