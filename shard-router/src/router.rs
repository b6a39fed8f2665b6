//! The way of a request to the leader of its group.

mod batch;
mod starts;

pub use self::batch::{Access, RangeRequest, RoutedBatch};
use self::starts::{LocalReplicas, start_groups};
use crate::error::{RouteError, RouterStartError};
use crate::map::{META_GROUP, Range, RangeMap};
use crate::meta::{MapWatch, MetaMachine};
use crate::plan::Plan;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use logboat::{
    GroupHandle, GroupId, GroupRequest, GroupSpec, Node, NodeId, ReadFrom, ReadMode, RequestError,
    RequestKind, RoleKind, StateMachine,
};
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// Brings requests to the groups of a cluster, from any of its nodes. Clones share everything.
///
/// ```
/// use bytes::Bytes;
/// use logboat::{Node, NodeConfig, NodeId, SnapshotWriter, StateMachine};
/// use logboat_router::{Plan, Router};
///
/// /// Keeps the last command.
/// #[derive(Default)]
/// struct Register(Bytes);
///
/// impl StateMachine for Register {
///     fn apply(&mut self, command: Bytes) -> Bytes {
///         std::mem::replace(&mut self.0, command)
///     }
///
///     fn query(&self, _query: Bytes) -> Bytes {
///         self.0.clone()
///     }
///
///     fn snapshot(&self) -> SnapshotWriter {
///         let value = self.0.clone();
///         Box::new(move |writer| writer.write_all(&value))
///     }
///
///     fn restore(&mut self, reader: &mut dyn std::io::Read) -> std::io::Result<()> {
///         let mut value = Vec::new();
///         reader.read_to_end(&mut value)?;
///         self.0 = value.into();
///         Ok(())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let data_dir = dir.path();
/// let members = [(NodeId(1), "127.0.0.1:0".to_owned())].into();
/// let node = Node::start(NodeConfig::new(NodeId(1), members, data_dir)?)?;
/// let plan = Plan {
///     layout: "plain".into(),
///     keeps_layout: false,
///     groups: Some(4),
///     edge_bits: 16,
///     split_keys: None,
///     replicas: 1,
/// };
/// let router = Router::start(node.clone(), plan, |_range| Box::<Register>::default()).await?;
///
/// let map = router.map();
/// let range = &map.ranges()[map.locate(b"some key")];
/// router.propose(range, Bytes::from("value")).await?;
/// assert_eq!(router.read(range, Bytes::new()).await?, "value");
/// node.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Router(Arc<Inner>);

struct Inner {
    node: Node,
    map: MapWatch,
    /// The replicas on this node, as they were started with the router. None stands for a replica
    /// that did not start.
    local: LocalReplicas,
    /// The node that answered last for each group, or zero. It is a hint where no replica runs
    /// here, or where the replica here does not hear the leader.
    answered_last: FxHashMap<GroupId, AtomicU64>,
}

/// How long a request may take, all attempts together.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long one attempt to read may take before another replica is asked who leads.
const READ_ATTEMPT_LIMIT: Duration = Duration::from_secs(1);

/// The waits after attempts that found no leader. They double up to the longest one. Each is drawn
/// from the upper half of its limit, since the jitter adds up to as much again.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_micros(2_500))
    .with_max_delay(Duration::from_millis(100))
    .without_max_times()
    .with_jitter();

/// The first of these waits on a node with a replica of the group. That replica ends the wait when
/// it hears the next leader, so asking around more often would only take time from the elections.
const FIRST_WAIT_BESIDE_REPLICA: Duration = Duration::from_millis(40);

/// The longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_millis(200);

/// How often a node that waits for the first map looks whether it is to propose it.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_millis(20);

impl Router {
    /// Starts the meta group on `node`, waits until there is a map, and starts this node's replicas
    /// of its groups. `machine` makes the state machine of each. Waits for as long as no majority
    /// of the nodes is up, and not for replicas whose state machine hangs while it is restored:
    /// those are found when they have started. Dropping the future leaves the meta group running.
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
        let handle = node.create_group(spec)?;
        let map = agree(&handle, &plan, &members, &mut watch).await?;
        plan.check(&map)?;
        let local = start_groups(node.clone(), map, Box::new(machine)).await?;
        let map = Arc::clone(watch.borrow().as_ref().expect("the cluster has agreed on a map"));
        let groups = map.ranges().iter().map(|range| range.group);
        let answered_last = groups.map(|group| (group, AtomicU64::new(0))).collect();
        Ok(Self(Arc::new(Inner { node, map: watch, local, answered_last })))
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

    /// Who seems to lead the group of `range`: whom the replica here follows, or who answered last.
    #[must_use]
    pub fn leader_of(&self, range: &Range) -> Option<NodeId> {
        self.0.leader_of(range.group)
    }

    /// Replicates `command` in the group of `range` and returns the state machine's answer.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub async fn propose(&self, range: &Range, command: Bytes) -> Result<Bytes, RouteError> {
        self.request(range, GroupRequest::propose(command)).await
    }

    /// Replicates `commands`, one after the other, in the group of `range` and returns what became
    /// of each, as [`GroupHandle::propose_all`] does.
    ///
    /// # Errors
    /// See [`RouteError`]: an error of the whole is the outcome of each of the commands.
    pub async fn propose_all(
        &self,
        range: &Range,
        commands: &[impl AsRef<[u8]>],
    ) -> Result<Vec<Result<Bytes, RequestError>>, RouteError> {
        let request = GroupRequest::propose_all(commands);
        let answer = self.request(range, request.clone()).await?;
        Ok(request.outcomes(answer))
    }

    /// Answers `query` linearizably from the group of `range`.
    ///
    /// # Errors
    /// See [`RouteError`]; never [`RouteError::OutcomeUnknown`].
    pub async fn read(&self, range: &Range, query: Bytes) -> Result<Bytes, RouteError> {
        self.read_in(ReadMode::default(), range, query).await
    }

    /// Like [`Self::read`], and as linearizable, but `mode` says which replica serves the read, and
    /// on what grounds. With [`ReadFrom::Any`] the replica on this node serves it, if there is one.
    ///
    /// # Errors
    /// See [`RouteError`]; never [`RouteError::OutcomeUnknown`].
    pub async fn read_in(
        &self,
        mode: ReadMode,
        range: &Range,
        query: Bytes,
    ) -> Result<Bytes, RouteError> {
        self.request(range, GroupRequest::read(mode, query)).await
    }

    async fn request(&self, range: &Range, request: GroupRequest) -> Result<Bytes, RouteError> {
        let deadline = Instant::now() + REQUEST_LIMIT;
        RoutedRequest { inner: &self.0, range, request, deadline }.run(None).await
    }

    /// Makes requests to several ranges at once: one wake-up a worker here and one frame a node
    /// elsewhere carry them, and the caller is woken when all answers are there.
    ///
    /// Writes of one range take effect in their order. They travel as one list, which counts as one
    /// command ([`Self::propose_all`]). A read and a write of one range may come in either order,
    /// and so may any two requests of different ranges.
    #[must_use]
    pub fn request_all(&self, requests: Vec<RangeRequest>) -> RoutedBatch {
        RoutedBatch::begin(&self.0, self.map(), requests)
    }
}

/// An attempt that brought no answer.
struct FailedAttempt {
    target: NodeId,
    error: RequestError,
}

/// A request on its way to the leader of its range.
struct RoutedRequest<'a> {
    inner: &'a Inner,
    range: &'a Range,
    request: GroupRequest,
    /// When all attempts end.
    deadline: Instant,
}

impl RoutedRequest<'_> {
    /// Asks one node after the other until one answers. It prefers the node that the last answer
    /// named, then the known leader, then the next replica in line. An attempt that may have had an
    /// effect is the last one. The first attempt may be over.
    async fn run(self, mut first: Option<FailedAttempt>) -> Result<Bytes, RouteError> {
        let group = self.range.group;
        let mut waits = self.inner.backoff(group).build();
        let mut hint = self.reads_here().then(|| self.inner.node.id());
        let mut named_leader = None;
        for attempt in 0.. {
            let next_in_line = self.range.replicas[attempt % self.range.replicas.len()];
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

    /// Whether the replica on this node, if there is one, may answer without leading.
    fn reads_here(&self) -> bool {
        let anywhere =
            matches!(self.request.kind(), RequestKind::Read(mode) if mode.from == ReadFrom::Any);
        anywhere && self.inner.local.contains_key(&self.range.group)
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
fn final_error(kind: RequestKind, error: &RequestError) -> Option<RouteError> {
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

impl Inner {
    /// The replica of `group` on this node. One that failed, or did not start, may have been
    /// started again since. All others are found without a lock.
    fn replica_here(&self, group: GroupId) -> Option<Cow<'_, GroupHandle>> {
        match self.local.get(&group)? {
            Some(handle) if handle.view().failure().is_none() => Some(Cow::Borrowed(handle)),
            _ => self.node.group(group).map(Cow::Owned),
        }
    }

    /// Whom the replica of `group` on this node knows as its leader, if there is one.
    fn followed(&self, group: GroupId) -> Option<NodeId> {
        self.replica_here(group)?.view().leader()
    }

    /// The waits between attempts.
    fn backoff(&self, group: GroupId) -> ExponentialBuilder {
        match self.replica_here(group) {
            Some(_) => BACKOFF.with_min_delay(FIRST_WAIT_BESIDE_REPLICA),
            None => BACKOFF,
        }
    }

    /// Waits for so long, or until the replica of `group` on this node knows a leader other than
    /// `former`, which it returns. So all that wait for an election go on as soon as it is over.
    async fn rest(&self, group: GroupId, former: Option<NodeId>, wait: Duration) -> Option<NodeId> {
        if wait.is_zero() {
            return None;
        }
        let Some(local) = self.replica_here(group) else {
            sleep(wait).await;
            return None;
        };
        timeout(wait, local.view().led_by_other(former)).await.ok()
    }

    /// Who seems to lead `group`.
    fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        self.followed(group).or_else(|| self.answered_last(group))
    }

    /// The node that answered last for `group`.
    fn answered_last(&self, group: GroupId) -> Option<NodeId> {
        let last = self.answered_last.get(&group)?.load(Ordering::Relaxed);
        (last != 0).then_some(NodeId(last))
    }

    /// Notes who answered for `group`, or that nobody did.
    fn answered(&self, group: GroupId, leader: Option<NodeId>) {
        if let Some(last) = self.answered_last.get(&group) {
            let leader = leader.map_or(0, |node| node.0);
            // Nearly always it is the same node, so most calls write nothing to the cache line,
            // which all callers share.
            if last.load(Ordering::Relaxed) != leader {
                last.store(leader, Ordering::Relaxed);
            }
        }
    }

    fn reaches(&self, node: NodeId) -> bool {
        node == self.node.id() || self.node.reaches(node)
    }

    /// A node that may reach `target` when this one does not. It is one that this node reaches,
    /// another one at each attempt, and replicas of the range come first.
    fn next_hop(&self, range: &Range, target: NodeId, attempt: usize) -> Option<NodeId> {
        let others = self.node.members().into_iter().filter(|node| !range.replicas.contains(node));
        let hops =
            range.replicas.iter().copied().chain(others).filter(|&node| {
                node != target && node != self.node.id() && self.node.reaches(node)
            });
        let hops: Vec<_> = hops.collect();
        (!hops.is_empty()).then(|| hops[attempt % hops.len()])
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
                // With a snapshot, the map is known at the next start before any other node is
                // reached.
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
