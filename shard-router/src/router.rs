//! The way of a request to the leader of its group.

use crate::error::{RouteError, RouterStartError};
use crate::map::{META_GROUP, Range, RangeMap};
use crate::meta::{MapWatch, MetaMachine};
use crate::plan::Plan;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use logboat::{
    GroupError, GroupHandle, GroupId, GroupSpec, Node, NodeId, ReadFrom, ReadMode, RequestError,
    RequestKind, RoleKind, StateMachine, decode_replies, encode_list,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Brings requests to the groups of a cluster, from any of its nodes. Clones share everything.
#[derive(Clone)]
pub struct Router(Arc<Inner>);

struct Inner {
    node: Node,
    map: MapWatch,
    local: BTreeMap<GroupId, GroupHandle>,
    /// Who answered last for each group that has no replica here; zero before anybody did.
    remote_leaders: BTreeMap<GroupId, AtomicU64>,
}

/// How long a request may take, all attempts together.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long one attempt to read may take before another replica is asked who leads.
const READ_ATTEMPT_LIMIT: Duration = Duration::from_secs(1);

/// The waits after attempts that found no leader. They double up to the longest one, and each is
/// drawn from the upper half of its limit: the jitter adds up to as much again.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_micros(2_500))
    .with_max_delay(Duration::from_millis(100))
    .without_max_times()
    .with_jitter();

/// The longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_millis(200);

/// How often a node that waits for the first map looks whether it is to propose it.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_millis(20);

impl Router {
    /// Starts the meta group on `node`, waits until there is a map, and starts this node's replicas
    /// of its groups, each with a state machine that `machine` makes. Waits for as long as no
    /// majority of the nodes is there; dropping the future leaves the meta group running.
    ///
    /// # Errors
    /// See [`RouterStartError`].
    pub async fn start(
        node: Node,
        plan: Plan,
        machine: impl Fn(&Range) -> Box<dyn StateMachine> + Send + 'static,
    ) -> Result<Self, RouterStartError> {
        let (meta, mut watch) = MetaMachine::new();
        let members = node.members();
        let preferred = members.first().copied();
        let spec = GroupSpec {
            group: META_GROUP,
            replicas: members.clone(),
            preferred,
            machine: Box::new(meta),
        };
        let handle = node.start_group(spec)?;
        let map = agree(&handle, &plan, &members, &mut watch).await?;
        plan.check(&map)?;
        let starting = node.clone();
        let local = tokio::task::spawn_blocking(move || start_groups(&starting, &map, &machine));
        let local = local.await.map_err(|error| RouterStartError::Meta(error.to_string()))??;
        let map = Arc::clone(watch.borrow().as_ref().expect("the cluster has agreed on a map"));
        let elsewhere = map.ranges().iter().filter(|range| !local.contains_key(&range.group));
        let remote_leaders = elsewhere.map(|range| (range.group, AtomicU64::new(0))).collect();
        Ok(Self(Arc::new(Inner { node, map: watch, local, remote_leaders })))
    }

    /// The node that this router runs on.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The map of ranges.
    ///
    /// # Panics
    /// Never: a router starts with a map, and a map is only ever replaced by another.
    #[must_use]
    pub fn map(&self) -> Arc<RangeMap> {
        Arc::clone(self.0.map.borrow().as_ref().expect("a router starts with a map"))
    }

    /// Replicates `command` in the group of `range` and returns the state machine's answer.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub async fn propose(&self, range: &Range, command: Bytes) -> Result<Bytes, RouteError> {
        self.request(range, RequestKind::Propose, command).await
    }

    /// Replicates `commands`, one after the other, in the group of `range` and returns what became of
    /// each, as [`GroupHandle::propose_all`] does.
    ///
    /// # Errors
    /// See [`RouteError`]: an error of the whole is the outcome of each of the commands.
    pub async fn propose_all(
        &self,
        range: &Range,
        commands: &[impl AsRef<[u8]>],
    ) -> Result<Vec<Result<Bytes, RequestError>>, RouteError> {
        let (count, list) = (commands.len(), encode_list(commands));
        let answer = self.request(range, RequestKind::ProposeAll, list.into()).await?;
        Ok(decode_replies(answer, count))
    }

    /// Answers `query` linearizably from the group of `range`.
    ///
    /// # Errors
    /// See [`RouteError`]; never [`RouteError::OutcomeUnknown`].
    pub async fn read(&self, range: &Range, query: Bytes) -> Result<Bytes, RouteError> {
        self.read_in(ReadMode::default(), range, query).await
    }

    /// Like [`Self::read`], as linearizable, but served by whom and on what grounds `mode` says: with
    /// [`ReadFrom::Any`], by the replica on this node if there is one.
    ///
    /// # Errors
    /// See [`RouteError`]; never [`RouteError::OutcomeUnknown`].
    pub async fn read_in(
        &self,
        mode: ReadMode,
        range: &Range,
        query: Bytes,
    ) -> Result<Bytes, RouteError> {
        self.request(range, RequestKind::Read(mode), query).await
    }

    /// Asks one node after the other until one answers: the one that the last answer named, else the
    /// one that the replica here follows, else the next in line. An attempt that may have had an
    /// effect is the last one.
    async fn request(
        &self,
        range: &Range,
        kind: RequestKind,
        body: Bytes,
    ) -> Result<Bytes, RouteError> {
        let deadline = Instant::now() + REQUEST_LIMIT;
        let mut waits = BACKOFF.build();
        let anywhere = matches!(kind, RequestKind::Read(mode) if mode.from == ReadFrom::Any);
        let here = anywhere && self.0.local.contains_key(&range.group);
        let mut hint = here.then(|| self.0.node.id());
        for attempt in 0.. {
            let next_in_line = range.replicas[attempt % range.replicas.len()];
            let known = || self.0.leader_of(range.group);
            let target = hint.take().or_else(known).unwrap_or(next_in_line);
            let error = match self.attempt(target, range.group, kind, &body, deadline).await {
                Ok(answer) => {
                    self.0.answered(range.group, Some(target));
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match &error {
                RequestError::Busy => return Err(RouteError::Busy),
                RequestError::TooLarge { bytes, limit } => {
                    return Err(RouteError::TooLarge { bytes: *bytes, limit: *limit });
                }
                RequestError::TimedOut if kind.writes() => {
                    return Err(RouteError::OutcomeUnknown);
                }
                RequestError::NotLeader { leader } => {
                    hint = leader.filter(|leader| *leader != target);
                }
                RequestError::TimedOut
                | RequestError::NoSuchGroup(_)
                | RequestError::Unreachable(_)
                | RequestError::Stopped => {}
            }
            self.0.answered(range.group, None);
            // A hint is worth following at once, but two replicas may point at each other.
            let wait = match hint {
                Some(_) if attempt == 0 => Duration::ZERO,
                _ => waits.next().unwrap_or(LONGEST_BACKOFF),
            };
            if Instant::now() + wait >= deadline {
                return Err(RouteError::Unavailable { reason: error.to_string() });
            }
            if !wait.is_zero() {
                sleep(wait).await;
            }
        }
        unreachable!("the attempts end by their deadline")
    }

    async fn attempt(
        &self,
        target: NodeId,
        group: GroupId,
        kind: RequestKind,
        body: &Bytes,
        deadline: Instant,
    ) -> Result<Bytes, RequestError> {
        let limit = match kind.writes() {
            true => deadline,
            false => deadline.min(Instant::now() + READ_ATTEMPT_LIMIT),
        };
        let answer = async {
            if target != self.0.node.id() {
                return self.0.node.call(target, group, kind, body).await;
            }
            let local = self.0.local.get(&group).ok_or(RequestError::NoSuchGroup(group))?;
            local.request(kind, body.clone()).await
        };
        timeout_at(limit, answer).await.unwrap_or(Err(RequestError::TimedOut))
    }
}

impl Inner {
    /// Who seems to lead `group`.
    fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        if let Some(local) = self.local.get(&group) {
            return local.view().leader();
        }
        let last = self.remote_leaders.get(&group)?.load(Ordering::Relaxed);
        (last != 0).then_some(NodeId(last))
    }

    /// Notes who answered for `group`, or that nobody did.
    fn answered(&self, group: GroupId, leader: Option<NodeId>) {
        if let Some(last) = self.remote_leaders.get(&group) {
            last.store(leader.map_or(0, |node| node.0), Ordering::Relaxed);
        }
    }
}

/// Waits for a map; the meta group's leader proposes the plan's if there is none.
async fn agree(
    meta: &GroupHandle,
    plan: &Plan,
    members: &[NodeId],
    watch: &mut MapWatch,
) -> Result<Arc<RangeMap>, RouterStartError> {
    let proposal = plan.map(members)?.encode();
    loop {
        if let Some(map) = watch.borrow_and_update().clone() {
            return Ok(map);
        }
        if meta.view().role() == RoleKind::Leader {
            match meta.propose(proposal.clone()).await {
                // A snapshot has the map there at the next start before any other node is.
                Ok(_) => meta.compact(),
                Err(RequestError::TooLarge { bytes, limit }) => {
                    let reason = format!("a map of {bytes} bytes, more than {limit}");
                    return Err(RouterStartError::Meta(reason));
                }
                // Whoever leads now proposes it.
                Err(_) => {}
            }
        }
        tokio::select! {
            changed = watch.changed() => changed.map_err(|_| {
                RouterStartError::Meta("the meta group stopped".to_owned())
            })?,
            () = sleep_until(Instant::now() + BOOTSTRAP_INTERVAL) => {}
        }
    }
}

/// Starts this node's replicas. One whose snapshot can't be believed stays out, and the group's other
/// replicas go on without it.
fn start_groups(
    node: &Node,
    map: &RangeMap,
    machine: &dyn Fn(&Range) -> Box<dyn StateMachine>,
) -> Result<BTreeMap<GroupId, GroupHandle>, GroupError> {
    let mut started = BTreeMap::new();
    for range in map.ranges().iter().filter(|range| range.replicas.contains(&node.id())) {
        let spec = GroupSpec {
            group: range.group,
            replicas: range.replicas.clone(),
            preferred: range.replicas.first().copied(),
            machine: machine(range),
        };
        match node.start_group(spec) {
            Ok(handle) => drop(started.insert(range.group, handle)),
            Err(error @ GroupError::Snapshot { .. }) => {
                node.metrics().failed_replicas.inc();
                tracing::error!("this replica does not start: {error}");
            }
            Err(
                error @ (GroupError::Exists(_) | GroupError::NotAReplica(_) | GroupError::Stopped),
            ) => {
                return Err(error);
            }
        }
    }
    Ok(started)
}
