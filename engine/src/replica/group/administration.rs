//! What a replica is asked for that concerns its group as a whole: changes of its members and
//! transfers of its leadership, and those who wait for them to end.

use crate::error::{ChangeError, RequestError};
use crate::membership::Membership;
use crate::replica::group::Group;
use crate::replica::request::{Request, Responder};
use crate::replica::run_context::RunContext;
use crate::request::administration::{
    ChangeRequest, Transferred, decode_change_request, decode_transfer, encode_changed,
    encode_transferred,
};
use crate::request::kind::Answer;
use logboat_raft::{
    Change, ChangeError as NotTaken, Configuration, Input, LogId, MemberRole, NodeId, RoleKind,
    Time,
};
use std::sync::Arc;

/// For how many election timeouts a transfer is waited for. The leader gives up after one.
const TRANSFER_TIMEOUTS: u32 = 2;

/// What is under way. Hardly any replica has something, and there are many.
#[derive(Default)]
pub(super) struct Administration {
    /// In the order in which they were asked for. One that the core has taken has an entry. At most
    /// one is taken and not over, but others may wait that were taken in an earlier leadership.
    changes: Vec<PendingChange>,
    transfers: Vec<PendingTransfer>,
}

struct PendingChange {
    changes: Vec<Change>,
    /// The entry that holds the first configuration on the way, once that is proposed.
    entry: Option<LogId>,
    deadline: Time,
    responder: Responder,
}

struct PendingTransfer {
    to: NodeId,
    deadline: Time,
    responder: Responder,
}

impl Administration {
    /// When somebody has waited for too long.
    pub(super) fn deadline(&self) -> Option<Time> {
        let changes = self.changes.iter().map(|change| change.deadline);
        changes.chain(self.transfers.iter().map(|transfer| transfer.deadline)).min()
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.transfers.is_empty()
    }
}

impl Group {
    /// Changes the members, if this replica leads. The answer follows when the members that the
    /// group has in the end are committed.
    pub(super) fn change_members(&mut self, run: &mut RunContext<'_>, request: Request) {
        let Request { body, responder } = request;
        if let Some(error) = self.no_leader_here() {
            return responder.answer(run.turn, Err(error));
        }
        // A request that this version can't read is one that it can't serve.
        let Some(request) = decode_change_request(&body) else {
            return responder.answer(run.turn, Err(RequestError::Stopped));
        };
        let members = self.raft.configuration();
        let (from, changes) = match request {
            ChangeRequest::Make { from, changes } => (from, changes),
            ChangeRequest::CheckLearner(node) => {
                let checked = self.raft.check_learner(&run.turn.support, node);
                let members = || Membership::new(Arc::clone(members));
                let answer = checked.map(|()| members()).map_err(ChangeError::from);
                return responder.answer(run.turn, encode_changed(answer));
            }
        };
        if from.is_some_and(|from| from != members.id()) {
            let answer = Err(ChangeError::OtherMembers { id: members.id() });
            return responder.answer(run.turn, encode_changed(answer));
        }
        let is_known = |node| members.member(node).is_some() || self.shared.peers.contains(node);
        let stranger = changes.iter().find_map(|change| match *change {
            Change::AddLearner(node) if !is_known(node) => Some(node),
            _ => None,
        });
        if let Some(node) = stranger {
            let answer = encode_changed(Err(ChangeError::NotAPeer { node }));
            return responder.answer(run.turn, answer);
        }
        let deadline = run.turn.now + self.shared.request_timeout;
        let pending = PendingChange { changes: changes.clone(), entry: None, deadline, responder };
        self.administration.get_or_insert_default().changes.push(pending);
        self.step(run, Input::Change { changes });
    }

    /// The core has taken the change that this step asks for.
    pub(super) fn change_proposed(&mut self, entry: LogId) {
        let pending = self.administration.as_mut().and_then(|it| it.changes.last_mut());
        if let Some(pending) = pending {
            pending.entry = Some(entry);
        }
    }

    /// The core has refused the change that this step asks for.
    pub(super) fn change_refused(&mut self, run: &mut RunContext<'_>, error: NotTaken) {
        let asked = |pending: &mut PendingChange| pending.entry.is_none();
        let pending = self.administration.as_mut().and_then(|it| it.changes.pop_if(asked));
        if let Some(PendingChange { responder, .. }) = pending {
            responder.answer(run.turn, encode_changed(Err(error.into())));
        }
        self.tidy_up();
    }

    /// A configuration is committed and in force. If it is not joint, the change that it comes from
    /// is over, and so are those before it, which may have been lost with an earlier leader.
    pub(super) fn change_committed(
        &mut self,
        run: &mut RunContext<'_>,
        configuration: &Configuration,
    ) {
        if configuration.is_joint() {
            return;
        }
        let Some(administration) = &mut self.administration else {
            return;
        };
        let index = configuration.id().index;
        let is_over =
            |pending: &mut PendingChange| pending.entry.is_some_and(|entry| entry.index <= index);
        for pending in administration.changes.extract_if(.., is_over) {
            let is_done = pending.changes.iter().all(|change| is_done(*change, configuration));
            let members = || Membership::new(configuration.clone().into());
            let outcome = is_done.then(members).ok_or(ChangeError::Lost);
            pending.responder.answer(run.turn, encode_changed(outcome));
        }
        self.tidy_up();
    }

    /// Hands leadership over, if this replica leads. The answer follows when another replica leads.
    pub(super) fn transfer(&mut self, run: &mut RunContext<'_>, request: Request) {
        let Request { body, responder } = request;
        if let Some(error) = self.no_leader_here() {
            return responder.answer(run.turn, Err(error));
        }
        let Some(to) = decode_transfer(&body) else {
            return responder.answer(run.turn, Err(RequestError::Stopped));
        };
        if self.raft.leader() == Some(to) {
            return responder.answer(run.turn, Ok(encode_transferred(Transferred::Done)));
        }
        if !self.raft.configuration().is_incoming(to) {
            return responder.answer(run.turn, Ok(encode_transferred(Transferred::NotVoter)));
        }
        let deadline = run.turn.now + self.raft.election_timeout() * TRANSFER_TIMEOUTS;
        let pending = PendingTransfer { to, deadline, responder };
        self.administration.get_or_insert_default().transfers.push(pending);
        self.step(run, Input::Transfer { to });
    }

    /// Another replica leads: transfers are over.
    pub(super) fn transfer_ended(&mut self, run: &mut RunContext<'_>) {
        let Some(administration) = &mut self.administration else {
            return;
        };
        let Some(leader) = self.raft.leader().filter(|_| self.raft.role() != RoleKind::Leader)
        else {
            return;
        };
        for PendingTransfer { to, responder, .. } in administration.transfers.drain(..) {
            let is_done = to == leader;
            let outcome =
                if is_done { Transferred::Done } else { Transferred::NotTaken { leader } };
            responder.answer(run.turn, Ok(encode_transferred(outcome)));
        }
        self.tidy_up();
    }

    /// Answers those who have waited for too long.
    pub(super) fn expire_administration(&mut self, run: &mut RunContext<'_>) {
        let Some(administration) = &mut self.administration else {
            return;
        };
        let now = run.turn.now;
        for pending in administration.changes.extract_if(.., |it| it.deadline <= now) {
            pending.responder.answer(run.turn, Err(RequestError::TimedOut));
        }
        let leads = self.raft.role() == RoleKind::Leader;
        for pending in administration.transfers.extract_if(.., |it| it.deadline <= now) {
            let answer = match self.raft.leader().filter(|_| leads) {
                Some(leader) => Ok(encode_transferred(Transferred::NotTaken { leader })),
                None => Err(RequestError::TimedOut),
            };
            pending.responder.answer(run.turn, answer);
        }
        self.tidy_up();
    }

    /// The replica has stopped: nobody hears how things end.
    pub(super) fn abandon_administration(&mut self, run: &mut RunContext<'_>) {
        let Some(administration) = self.administration.take() else {
            return;
        };
        let Administration { changes, transfers } = *administration;
        let changes = changes.into_iter().map(|pending| pending.responder);
        let transfers = transfers.into_iter().map(|pending| pending.responder);
        for responder in changes.chain(transfers) {
            responder.answer(run.turn, Err(RequestError::TimedOut));
        }
    }

    /// Answers a query from the state that is here.
    pub(super) fn read_local(&mut self, run: &mut RunContext<'_>, request: Request) {
        let Request { body, responder } = request;
        let refusal: Option<Answer> = match self.is_stuck() {
            _ if self.halted => Some(Err(RequestError::Stopped)),
            true => Some(Err(RequestError::Busy)),
            false => None,
        };
        match refusal {
            Some(answer) => responder.answer(run.turn, answer),
            None => self.query_local(run, body, responder),
        }
    }

    /// Why this replica can't do what only a leader does.
    fn no_leader_here(&self) -> Option<RequestError> {
        if self.halted {
            return Some(RequestError::Stopped);
        }
        let leads = self.raft.role() == RoleKind::Leader && self.restoring.is_none();
        (!leads).then(|| RequestError::NotLeader { leader: self.raft.leader() })
    }

    fn tidy_up(&mut self) {
        self.administration.take_if(|administration| administration.is_empty());
    }
}

impl From<NotTaken> for ChangeError {
    fn from(error: NotTaken) -> Self {
        match error {
            NotTaken::Refused(refusal) => refusal.into(),
            NotTaken::NotLeader { leader } => RequestError::NotLeader { leader }.into(),
        }
    }
}

/// Whether a configuration has what a change asked for.
fn is_done(change: Change, configuration: &Configuration) -> bool {
    let role = configuration.role(change.node());
    match change {
        Change::AddLearner(_) => role.is_some(),
        Change::Promote(_) => role == Some(MemberRole::Voter),
        Change::Demote(_) => role == Some(MemberRole::Learner),
        Change::Remove(_) => role.is_none(),
        Change::Prefer(node) => configuration.preferred() == Some(node),
    }
}
