//! The way of a request to the leader of its group.

mod batch;
pub(crate) mod cluster;
mod requests;
mod starts;

pub use self::batch::{Access, RangeRequest, RoutedBatch};
use self::cluster::export::Exports;
pub use self::cluster::export::{ExportPart, GroupExport};
pub use self::cluster::{
    FormerNode, JoinError, Joined, Joining, RouterOptions, former_node, has_joined, known_members,
};
use self::requests::RoutedRequest;
use self::starts::{LocalReplicas, MakeMachine};
use crate::error::{RouteError, RouterStartError};
use crate::map::{META_GROUP, Range, RangeMap};
use crate::plan::Plan;
use crate::table::{Feed, Table};
use arc_swap::ArcSwap;
use backon::ExponentialBuilder;
use bytes::Bytes;
use logboat::{
    GroupHandle, GroupId, GroupRequest, Node, NodeId, ReadMode, RequestError, StateMachine,
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

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
pub struct Router(Arc<Running>);

/// A router with the tasks that keep it up to date. They end with it.
struct Running {
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

/// What the tasks of a router share.
struct Inner {
    node: Node,
    /// The table of the cluster, as far as this node knows it.
    feed: Arc<Feed>,
    routes: ArcSwap<Routes>,
    /// Why this node is not part of the cluster any more, if another one has said so.
    expelled: watch::Sender<Option<String>>,
    /// Held while routes are changed.
    changing_routes: Mutex<()>,
    /// The node that answered last for each group, or zero. It is a hint where no replica runs
    /// here, or where the replica here does not hear the leader.
    answered_last: OnceLock<FxHashMap<GroupId, AtomicU64>>,
    machine: Arc<Mutex<MakeMachine>>,
    /// The copies of groups that this node holds ready.
    exports: Exports,
    /// Whether the replicas of this node were started, so that it knows which have failed.
    has_started: AtomicBool,
}

/// Where requests go.
struct Routes {
    map: Arc<RangeMap>,
    /// The replicas on this node. None stands for a replica that did not start.
    local: LocalReplicas,
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

impl Router {
    /// Starts `node`'s part of the cluster: its replica of the meta group, if it is to have one,
    /// and when there is a table, its replicas of the groups. `machine` makes the state machine of
    /// each. Waits for a table for as long as no majority of the meta group is up, unless the node
    /// has one from before, and not for replicas whose state machine hangs while it is restored:
    /// those are found when they have started. Dropping the future leaves the meta group running.
    ///
    /// # Errors
    /// See [`RouterStartError`].
    pub async fn start(
        node: Node,
        plan: Plan,
        machine: impl Fn(&Range) -> Box<dyn StateMachine> + Send + 'static,
    ) -> Result<Self, RouterStartError> {
        let options = RouterOptions { plan: Some(plan), ..RouterOptions::default() };
        Self::start_with(node, options, machine).await
    }

    /// Like [`Self::start`], for any node of a cluster: one that it was made with, and one that has
    /// joined it.
    ///
    /// # Errors
    /// See [`RouterStartError`].
    pub async fn start_with(
        node: Node,
        options: RouterOptions,
        machine: impl Fn(&Range) -> Box<dyn StateMachine> + Send + 'static,
    ) -> Result<Self, RouterStartError> {
        let inner = Arc::new(Inner {
            feed: Feed::new(),
            routes: ArcSwap::from_pointee(Routes::none()),
            changing_routes: Mutex::new(()),
            expelled: watch::Sender::new(None),
            answered_last: OnceLock::new(),
            machine: Arc::new(Mutex::new(Box::new(machine))),
            exports: Exports::default(),
            has_started: AtomicBool::new(false),
            node,
        });
        let tasks = cluster::start(&inner, options).await?;
        Ok(Self(Arc::new(Running { inner, _tasks: tasks })))
    }

    /// The node that this router runs on.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0.inner.node
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.inner
    }

    /// The map of ranges.
    #[must_use]
    pub fn map(&self) -> Arc<RangeMap> {
        Arc::clone(&self.0.inner.routes.load().map)
    }

    /// The table of the cluster, as far as this node knows it.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.0.inner.feed.newest()
    }

    /// The tables that follow.
    #[must_use]
    pub fn tables(&self) -> watch::Receiver<Arc<Table>> {
        self.0.inner.feed.watch()
    }

    /// Who seems to lead the group of `range`: whom the replica here follows, or who answered last.
    #[must_use]
    pub fn leader_of(&self, range: &Range) -> Option<NodeId> {
        self.0.inner.leader_of(range.group)
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
    /// on what grounds. With [`ReadFrom::Any`](logboat::ReadFrom::Any) the replica on this node
    /// serves it, if there is one.
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
        RoutedRequest { inner: &self.0.inner, range, request, deadline }.run(None).await
    }

    /// Makes requests to several ranges at once: one wake-up a worker here and one frame a node
    /// elsewhere carry them, and the caller is woken when all answers are there.
    ///
    /// Writes of one range take effect in their order. They travel as one list, which counts as one
    /// command ([`Self::propose_all`]). A read and a write of one range may come in either order,
    /// and so may any two requests of different ranges.
    #[must_use]
    pub fn request_all(&self, requests: Vec<RangeRequest>) -> RoutedBatch {
        RoutedBatch::begin(&self.0.inner, requests)
    }
}

impl Routes {
    /// Nothing is known yet.
    fn none() -> Self {
        Self { map: Arc::new(RangeMap::none()), local: LocalReplicas::default() }
    }

    /// The replica of `group` on this node. One that failed, or did not start, may have been
    /// started again since. All others are found without a lock.
    fn replica(&self, node: &Node, group: GroupId) -> Option<Cow<'_, GroupHandle>> {
        match self.local.get(&group) {
            Some(Some(handle)) if handle.view().failure().is_none() => Some(Cow::Borrowed(handle)),
            None if group != META_GROUP => None,
            _ => node.group(group).map(Cow::Owned),
        }
    }
}

impl Inner {
    /// The replica of `group` on this node.
    fn replica_here(&self, group: GroupId) -> Option<GroupHandle> {
        self.routes.load().replica(&self.node, group).map(Cow::into_owned)
    }

    /// Whom the replica of `group` on this node knows as its leader, if there is one.
    fn followed(&self, group: GroupId) -> Option<NodeId> {
        self.routes.load().replica(&self.node, group)?.view().leader()
    }

    /// The waits between attempts.
    fn backoff(&self, group: GroupId) -> ExponentialBuilder {
        match self.routes.load().replica(&self.node, group) {
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
        let last = self.last_of(group)?.load(Ordering::Relaxed);
        (last != 0).then_some(NodeId(last))
    }

    fn last_of(&self, group: GroupId) -> Option<&AtomicU64> {
        self.answered_last.get()?.get(&group)
    }

    /// Notes who answered for `group`, or that nobody did.
    fn answered(&self, group: GroupId, leader: Option<NodeId>) {
        if let Some(last) = self.last_of(group) {
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
