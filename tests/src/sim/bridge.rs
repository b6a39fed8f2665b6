//! A fault of the network that never heals: some nodes all reach each other, and an old leader
//! reaches only one of them. Groups that have a majority among these must not wait for the end of
//! the fault.

use super::host::Host;
use super::process::group_id;
use super::scene::Scene;
use logboat_raft::{RoleKind, Term};

/// More than half of the nodes, which all reach each other. One of them reaches the old leader's
/// node as well. Nobody reaches the others.
#[derive(Debug)]
pub(super) struct Bridge {
    core: Vec<usize>,
    /// The groups that have had no leader yet since the network is like this.
    pub(super) stuck: Vec<usize>,
}

impl Bridge {
    /// Cuts all other links, for a node that leads something now if there is one.
    pub(super) fn build(hosts: &[Host], scene: &mut Scene) -> Self {
        let nodes = hosts.len();
        let first = scene.random.place(nodes);
        let leads = |place: &usize| leads_any(&hosts[*place], scene.plan.groups);
        let old = (first..nodes).chain(0..first).find(leads).unwrap_or(first);
        let mut core: Vec<usize> = (0..nodes).filter(|place| *place != old).collect();
        while core.len() > nodes / 2 + 1 {
            core.swap_remove(scene.random.place(core.len()));
        }
        let bridge = core[scene.random.place(core.len())];
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                let joins = [(old, bridge), (bridge, old)].contains(&(from, to));
                let works = joins || (core.contains(&from) && core.contains(&to));
                if !works {
                    scene.link(from, to).blocked = true;
                    scene.disconnect(from, to);
                }
            }
        }
        scene.bridged = true;
        let numbers = [old as u64, bridge as u64];
        let text = format_args!("{old} reaches only {bridge} of {core:?}, and nobody the others");
        scene.trace.note(scene.now, &numbers, text);
        Self { core, stuck: (0..scene.plan.groups).collect() }
    }

    /// Forgets the groups that have a leader which has committed something in its term, and those
    /// that have no majority of replicas that reach each other.
    pub(super) fn look(&mut self, hosts: &[Host], scene: &Scene) {
        let works = |place: &usize| {
            let Host { dead, hardware, .. } = &hosts[*place];
            self.core.contains(place) && dead.is_none() && !hardware.damaged
        };
        let is_stuck = |group: &usize| {
            let is_able = scene.checks.has_majority(*group, |place| works(&place));
            let term = scene.checks.committed_term(*group);
            let leads = |host: &Host| leader_term(host, *group) == Some(term);
            is_able && !hosts.iter().any(leads)
        };
        let stuck = self.stuck.iter().copied().filter(is_stuck);
        self.stuck = stuck.collect();
    }
}

fn leads_any(host: &Host, groups: usize) -> bool {
    (0..groups).any(|group| leader_term(host, group).is_some())
}

fn leader_term(host: &Host, group: usize) -> Option<Term> {
    let raft = host.process.as_ref()?.cell_of(group_id(group))?.group.raft();
    (raft.role() == RoleKind::Leader).then(|| raft.term())
}
