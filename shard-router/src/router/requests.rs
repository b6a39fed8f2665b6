//! One request on its way to the leader of its group: attempts, one after the other.

use super::{Inner, LONGEST_BACKOFF, READ_ATTEMPT_LIMIT};
use crate::error::RouteError;
use crate::map::Range;
use backon::BackoffBuilder;
use bytes::Bytes;
use logboat::{GroupRequest, NodeId, ReadFrom, RequestError, RequestKind};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// An attempt that brought no answer.
pub(super) struct FailedAttempt {
    pub(super) target: NodeId,
    pub(super) error: RequestError,
}

/// A request on its way to the leader of its range.
pub(super) struct RoutedRequest<'a> {
    pub(super) inner: &'a Inner,
    pub(super) range: &'a Range,
    pub(super) request: GroupRequest,
    /// When all attempts end.
    pub(super) deadline: Instant,
}

impl RoutedRequest<'_> {
    /// Asks one node after the other until one answers. It prefers the node that the last answer
    /// named, then the known leader, then the next replica in line. An attempt that may have had an
    /// effect is the last one. The first attempt may be over.
    pub(super) async fn run(self, mut first: Option<FailedAttempt>) -> Result<Bytes, RouteError> {
        let group = self.range.group;
        let mut waits = self.inner.backoff(group).build();
        let mut hint = self.reads_here().then(|| self.inner.node.id());
        let mut named_leader = None;
        for attempt in 0.. {
            let next_in_line = self.next_in_line(attempt);
            let followed = self.inner.followed(group);
            let known = || self.inner.leader_of(group);
            let FailedAttempt { target, error } = match first.take() {
                Some(failed) => failed,
                None => {
                    let target = hint.take().or_else(known).unwrap_or(next_in_line);
                    match self.attempt(target, attempt).await {
                        Ok(answer) => {
                            self.inner.answered(group, Some(target));
                            return Ok(answer);
                        }
                        Err(error) => FailedAttempt { target, error },
                    }
                }
            };
            if let Some(error) = final_error(self.request.kind(), &error) {
                return Err(error);
            }
            if let RequestError::NotLeader { leader: Some(leader) } = error
                && leader != target
            {
                hint = Some(leader);
                named_leader = hint;
            }
            if !matches!(error, RequestError::NoRoomForAnswer { .. }) {
                self.inner.answered(group, None);
            }
            // A hint is worth following at once, but two replicas may point at each other.
            let wait = match hint {
                Some(_) if attempt == 0 => Duration::ZERO,
                _ => waits.next().unwrap_or(LONGEST_BACKOFF),
            };
            if Instant::now() + wait >= self.deadline {
                return Err(self.unavailable(named_leader, &error));
            }
            if let Some(leader) = self.inner.rest(group, followed, wait).await {
                hint = Some(leader);
            }
        }
        unreachable!("the attempts end by their deadline")
    }

    /// The replica to ask if nobody is known to lead. By the range that the caller found at first,
    /// and later by what is known of the group now, since it may have moved.
    fn next_in_line(&self, attempt: usize) -> NodeId {
        let table = self.inner.feed.newest();
        let replicas = match table.members(self.range.group) {
            Some(members) if attempt > 0 => &members.voters,
            _ => &self.range.replicas,
        };
        replicas[attempt % replicas.len()]
    }

    /// Whether the replica on this node, if there is one, may answer without leading.
    fn reads_here(&self) -> bool {
        let anywhere =
            matches!(self.request.kind(), RequestKind::Read(mode) if mode.from == ReadFrom::Any);
        anywhere && self.inner.routes.load().local.contains_key(&self.range.group)
    }

    /// Why there was no answer in time.
    fn unavailable(&self, named_leader: Option<NodeId>, last_error: &RequestError) -> RouteError {
        if let RequestError::NoRoomForAnswer { bytes } = *last_error {
            return RouteError::NoRoomForAnswer { bytes };
        }
        match named_leader {
            Some(leader) if !self.inner.reaches(leader) => RouteError::LeaderUnreachable { leader },
            _ => RouteError::Unavailable { reason: last_error.to_string() },
        }
    }

    async fn attempt(&self, target: NodeId, attempt: usize) -> Result<Bytes, RequestError> {
        let limit = match self.request.kind().writes() {
            true => self.deadline,
            false => self.deadline.min(Instant::now() + READ_ATTEMPT_LIMIT),
        };
        let answer = async {
            if target == self.inner.node.id() {
                self.ask_here().await
            } else {
                self.ask(target, attempt).await
            }
        };
        timeout_at(limit, answer).await.unwrap_or(Err(RequestError::TimedOut))
    }

    async fn ask_here(&self) -> Result<Bytes, RequestError> {
        let group = self.range.group;
        let local = self.inner.replica_here(group).ok_or(RequestError::NoSuchGroup(group))?;
        local.request(self.request.clone()).await
    }

    /// Asks another node, by way of a third one if this node does not reach it. The third node
    /// forwards the request once and no further, so it never goes in a circle.
    async fn ask(&self, target: NodeId, attempt: usize) -> Result<Bytes, RequestError> {
        let (node, group) = (&self.inner.node, self.range.group);
        let next_hop = || self.inner.next_hop(self.range, target, attempt);
        // Before the first heartbeats no node counts as reached.
        if self.inner.reaches(target) || next_hop().is_none() {
            let answer = node.call(target, group, &self.request).await;
            if !matches!(answer, Err(RequestError::Unreachable(_))) {
                return answer;
            }
        }
        match next_hop() {
            Some(via) => node.call_via(via, target, group, &self.request).await,
            None => Err(RequestError::Unreachable(target)),
        }
    }
}

/// What the caller hears of an error after which no other attempt helps or is allowed.
pub(super) fn final_error(kind: RequestKind, error: &RequestError) -> Option<RouteError> {
    match *error {
        RequestError::Busy => Some(RouteError::Busy),
        RequestError::LogFull => Some(RouteError::LogFull),
        RequestError::TooLarge { bytes, limit } => Some(RouteError::TooLarge { bytes, limit }),
        RequestError::AnswerTooLarge { bytes, limit } => {
            Some(RouteError::AnswerTooLarge { bytes, limit })
        }
        RequestError::TimedOut if kind.writes() => Some(RouteError::OutcomeUnknown),
        // What a read gets finds room later.
        RequestError::NoRoomForAnswer { bytes } if kind.writes() => {
            Some(RouteError::NoRoomForAnswer { bytes })
        }
        RequestError::TimedOut
        | RequestError::NoRoomForAnswer { .. }
        | RequestError::NotLeader { .. }
        | RequestError::NoSuchGroup(_)
        | RequestError::Unreachable(_)
        | RequestError::Stopped => None,
    }
}
