//! The founding of a group, which comes after the [check](FoundersCheck) that no other node has
//! founded it otherwise. Until then the replica promises nothing and writes nothing, as if its node
//! was not founded.

use crate::error::list;
use crate::replica::founders_check::{FoundersCheck, Step};
use crate::replica::group::Group;
use crate::replica::run_context::RunContext;
use logboat_raft::{Configuration, Input, LogWrite, NodeId, Persist, WriteSeq};
use logboat_transport::Founders;
use std::sync::Arc;

impl Group {
    /// Has the replica found its group, if none of the other nodes contradicts.
    pub fn found(&mut self, founding: Arc<Configuration>) {
        let others = self.shared.peers.all();
        self.founders_check = Some(Box::new(FoundersCheck::new(founding, &others)));
    }

    /// Asks the others, or founds the group, when the time has come.
    pub(super) fn check_founders(&mut self, run: &mut RunContext<'_>) {
        let patience = self.raft.election_timeout();
        let Some(check) = self.founders_check.as_mut().filter(|_| run.turn.support.founded) else {
            return;
        };
        match check.step(run.turn.now, patience) {
            Step::Wait => {}
            Step::Ask(nodes) => {
                let own = founders_of(&check.founding);
                for node in nodes {
                    run.turn.sends.to(node).push_founders(self.id, own.as_ref(), true);
                }
            }
            Step::Found => {
                let log = LogWrite::Founding(Arc::clone(&check.founding));
                let persist = Persist { seq: WriteSeq::default(), hard_state: None, log };
                run.turn.writes.push((self.id, persist));
                self.founders_check = None;
                self.step(run, Input::Founded);
            }
        }
    }

    /// Another node says by whom the group was founded, as far as it knows.
    pub(super) fn founders_named(
        &mut self,
        run: &mut RunContext<'_>,
        from: NodeId,
        founders: Option<&Founders>,
    ) {
        let own = match &self.founders_check {
            Some(check) => &check.founding,
            None => self.raft.configuration(),
        };
        let own = founders_of(own);
        let other = founders.zip(own).filter(|(other, own)| other.digest != own.digest);
        if let Some((other, own)) = other {
            self.name_other_voters(from);
            if self.founders_check.is_some() {
                let [own, other] = [own.members, other.members.clone()].map(|set| list(&set));
                self.fail(
                    run,
                    &format!(
                        "it is not founded with its replicas on {own}: node {from} has one with \
                         replicas on {other}"
                    ),
                );
            }
        } else if let Some(check) = &mut self.founders_check {
            check.agrees(from);
            self.check_founders(run);
        }
    }

    /// A replica of another founding was heard. If it leads, and its node has no replica here, it
    /// is a leader of other nodes, which took this one for theirs. They are a majority of a set
    /// that lists this node, and this replica's set does not list the leader's. So this one stops:
    /// of two histories, one has to end.
    pub(super) fn other_voters(&mut self, run: &mut RunContext<'_>, from: NodeId, leads: bool) {
        self.name_other_voters(from);
        if leads && self.members().member(from).is_none() {
            let own: Vec<_> = self.members().members().iter().map(|member| member.node).collect();
            let own = list(&own);
            self.fail(
                run,
                &format!(
                    "node {from} leads a group of this id that was founded with other nodes, this \
                     one among them, and here its replicas are on {own}"
                ),
            );
        }
    }

    /// Said once: a peer's replica asks again and again.
    fn name_other_voters(&self, from: NodeId) {
        if self.view.has_other_voters(from) {
            tracing::error!(
                group = self.id.0,
                "node {from} and this one were started with different replicas of the group: \
                 neither votes for the other or follows it"
            );
        }
    }
}

/// How a founding is told to other nodes. Nothing if the replica does not know it yet.
#[must_use]
pub fn founders_of(configuration: &Configuration) -> Option<Founders> {
    let members: Vec<_> = configuration.members().iter().map(|member| member.node).collect();
    let digest = configuration.founders();
    (!members.is_empty()).then_some(Founders { digest, members })
}
