//! `logboat serve`: one node with its Redis front and its admin pages.

use crate::admin::{Admin, StorePage};
use crate::cluster::ClusterBackend;
use crate::debug::{DebugCommand, Sleeps, Sleepy};
use crate::descriptors;
use crate::front::{FrontConfig, RespServer};
use crate::kv::{DataMemory, DiskStore, GroupTime, NodeClock, SharedTables, Store};
use crate::limits::Limits;
use crate::options::{GivenSettings, NodeOptions, ServeOptions, split_address};
use crate::output::Failure;
use crate::security::Security;
use crate::server_state::{Facts, ServerState};
use crate::store_kind::StoreKind;
use crate::tables::{self, Tables};
use crate::timekeeper::{self, GroupTimes};
use logboat::state::StateError;
use logboat::{Node, NodeConfig, NodeId, OnDisk, StartError, StateMachine};
use logboat_router::{
    ClusterSettings, JoinError, Joined, Joining, NodeCard, Range, Router, RouterOptions,
    RouterStartError, has_joined,
};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The part of the memory budget that clients' buffers may take. The engine has the others.
const CLIENTS_SHARE: usize = 8;

/// How often a node with damaged tables looks whether the others can do without it.
const SPOILT_INTERVAL: Duration = Duration::from_secs(5);

/// How long a stopping server waits for the requests under way on its ports.
const CLOSING_LIMIT: Duration = Duration::from_secs(2);

/// Runs one node until it is interrupted or terminated, or until a port is served no longer. A node
/// that can't go on under its id comes back as a new one, if there are others.
pub(crate) fn run(options: ServeOptions) -> Result<(), Failure> {
    let options = options.complete()?;
    runtime()?.block_on(async {
        loop {
            let joining = match options.joining()? {
                None if options.data_dir.as_deref().is_some_and(has_joined) => {
                    options.rejoining()?
                }
                joining => joining,
            };
            // Without that, a node with damaged tables serves for as long as it can.
            let data_dir = options.data_dir.clone().unwrap_or_default();
            // Options that are wrong are named when they are resolved.
            let rejoining = options.rejoining().ok().flatten();
            let may_rejoin = rejoining
                .is_some_and(|joining| joining.may_rejoin(&data_dir, &[tables::DIRECTORY]).is_ok());
            match run_once(options.clone(), joining.as_ref(), may_rejoin).await? {
                Ended::Asked => return Ok(()),
                Ended::Expelled(why) | Ended::Damaged(why) => {
                    let Some(joining) = options.rejoining()? else { return Err(why.into()) };
                    if rejoin(&options, &joining, &why).await?.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    })
}

/// Why a node does not run any more.
enum Ended {
    /// The process was asked to end.
    Asked,
    /// The cluster has given up the node, in these words.
    Expelled(String),
    /// What the node has promised is damaged, and nobody can tell which groups that concerns.
    Damaged(String),
}

async fn run_once(
    options: ServeOptions,
    joining: Option<&Joining>,
    may_rejoin: bool,
) -> Result<Ended, Failure> {
    let options = match joining {
        Some(joining) => match join(&options, joining).await? {
            Ok(joined) => options.resolve_joined(&joined, joining)?,
            Err(ended) => return Ok(ended),
        },
        None => options.resolve()?,
    };
    let options = options.within(descriptors::raise_limit()?)?;
    let (id, clients) = (options.node.node, options.client_listen);
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    for warning in options.security.warnings() {
        tracing::warn!("{warning}");
    }
    let reloading = options.security.reload_at_hangup()?.map(tokio::spawn);
    let started = tokio::select! {
        started = Server::start(options) => started,
        () = &mut interrupted => return Ok(Ended::Asked),
        never = say_what_it_waits_for(id) => match never {},
    };
    let mut server = match started {
        Ok(server) => server,
        Err(error) => return Ended::by(error),
    };
    tracing::info!("node {id} serves clients on {clients}");
    let ended = tokio::select! {
        () = &mut interrupted => Ok(Ended::Asked),
        reason = server.backend.router().expelled() => Ok(Ended::Expelled(reason)),
        failure = port_lost(&mut server.tasks) => Err(failure),
        failure = tables_failed(server.tables.as_deref()) => Err(failure),
        why = spoilt(server.tables.as_deref(), server.backend.router()), if may_rejoin => {
            Ok(Ended::Damaged(why))
        }
    };
    server.stop().await;
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    tracing::info!("node {id} has stopped");
    ended
}

impl Ended {
    /// Why a node did not start, if it may come back as another one.
    fn by(error: Failure) -> Result<Self, Failure> {
        if let Some(RouterStartError::Expelled(reason)) = error.downcast_ref() {
            return Ok(Self::Expelled(reason.clone()));
        }
        let is_damage = error.downcast_ref().is_some_and(StartError::is_damage)
            || matches!(error.downcast_ref(), Some(StateError::Damaged { .. }));
        if is_damage { Ok(Self::Damaged(error.to_string())) } else { Err(error) }
    }
}

/// Has a node that can't go on under its id become a new one, which is to join, unless it has to
/// wait: then it is to be started again. None if the process is asked to end meanwhile.
async fn rejoin(
    options: &ServeOptions,
    joining: &Joining,
    why: &str,
) -> Result<Option<()>, Failure> {
    let data_dir = options.data_dir.clone().unwrap_or_default();
    let rejoined = tokio::select! {
        rejoined = joining.rejoin(&data_dir, why, &[tables::DIRECTORY]) => rejoined,
        () = interrupted()? => return Ok(None),
    };
    match rejoined {
        Ok(_) => tracing::warn!("{why}: this node joins again as a new one"),
        Err(JoinError::Waits(reason)) => tracing::warn!("{why}: this is tried again: {reason}"),
        Err(error) => return Err(format!("{why}; and it can't join again: {error}").into()),
    }
    Ok(Some(()))
}

/// Has the node join its cluster, if it may and the process is not asked to end meanwhile.
async fn join(options: &ServeOptions, joining: &Joining) -> Result<Result<Joined, Ended>, Failure> {
    let data_dir = options.data_dir.clone().unwrap_or_default();
    tokio::select! {
        joined = joining.join(&data_dir) => match joined {
            Err(JoinError::Expelled(reason)) => Ok(Err(Ended::Expelled(reason))),
            joined => Ok(Ok(joined?)),
        },
        () = interrupted()? => Ok(Err(Ended::Asked)),
    }
}

/// Waits until a task that serves a port panics. A process that went on would seem to be well, and
/// take no clients.
async fn port_lost(tasks: &mut JoinSet<()>) -> Failure {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            return format!("a port is served no longer: {error}").into();
        }
    }
    std::future::pending().await
}

/// Waits until the tables of a node can't go on. What they hold that was not durable is in the log
/// as well, and comes back at the next start. Nothing can be tried again before that.
async fn tables_failed(tables: Option<&Tables>) -> Failure {
    match tables {
        Some(tables) => format!("the tables failed: {}", tables.failed().await).into(),
        None => std::future::pending().await,
    }
}

/// Logs what the node waits for, if it starts alone.
async fn say_what_it_waits_for(id: NodeId) -> Infallible {
    tokio::time::sleep(Duration::from_secs(2)).await;
    tracing::info!("node {id} has started and waits for a majority of the nodes");
    std::future::pending().await
}

/// The runtime for clients and admin pages; the engine has threads of its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Resolves when the process is asked to end.
pub(crate) fn interrupted() -> Result<impl Future<Output = ()>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// A running node with everything around it.
pub struct Server {
    node: Node,
    backend: ClusterBackend,
    /// Where keys and values are, if they are on disk.
    tables: Option<Arc<Tables>>,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Starts a node and waits until the cluster has agreed on its map of ranges, which takes a
    /// majority of the nodes. The ports are bound first, so that a busy one is known at once.
    ///
    /// # Errors
    /// What can't be started, and why.
    pub async fn start(options: NodeOptions) -> Result<Self, Failure> {
        let kind = options.store;
        let started = Arc::new(OnceLock::new());
        let facts = facts_of(Arc::clone(&started), kind, &options.security);
        let address = options.client_listen;
        let advertised = advertised(&options.node, address, options.client_advertise.clone());
        let part = part_of(&options, &advertised);
        let placement = options.placement;
        let (settings, security) = (options.settings, options.security);
        let max_memory_bytes = settings.max_memory_bytes;
        let max_buffered_bytes = options.node.memory_budget_bytes / CLIENTS_SHARE;
        let config = FrontConfig {
            max_buffered_bytes,
            nodes: options.node.members.len() as u64,
            data_on_disk: kind == StoreKind::Disk,
            debug_command: options.debug_command,
            ..FrontConfig::default()
        };
        let guard = security.clients.clone();
        let front = RespServer::bind_guarded(address, config, settings, facts, guard).await?;
        let admin_listener = match options.admin_listen {
            Some(address) => Some(bind_admin(address).await?),
            None => None,
        };
        let mut config = options.node.clone();
        config.memory_budget_bytes -= max_buffered_bytes;
        let opened = move || {
            kind.note(&config.data_dir)?;
            open(config, kind, max_memory_bytes)
        };
        let (unfinished, tables) = tokio::task::spawn_blocking(opened).await??;
        let node = unfinished.node().clone();
        started.get_or_init(|| (node.clone(), tables.clone()));
        let shown = (kind, tables.clone());
        let admin = Admin::new(node.clone(), shown, front.state(), security.clone());
        let (stopping, _) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if let Some(listener) = admin_listener {
            tasks.spawn(serve_pages(admin.clone(), listener, stopped(&stopping)));
        }
        if let Some(tls) = security.tls.clone() {
            let stopped = stopped(&stopping);
            tasks.spawn(until(stopped, async move { tls.follow().await }));
        }
        if let Some(tables) = &tables {
            see_to_tables(tables, &node, &mut tasks, &stopping);
        }
        let times = Arc::new(GroupTimes::new(NodeClock::of_node(node.time())));
        let entered = Arc::clone(&times);
        let stores = Stores::new(tables.as_deref(), &front.state(), options.debug_command);
        let router = Router::start_with(node.clone(), part, move |range| {
            stores.store(range, entered.enter(range.group))
        })
        .await?;
        let data = Arc::clone(&front.state().data);
        tasks.spawn(until(stopped(&stopping), timekeeper::keep(times, data, router.clone())));
        warn_of_other_settings(router.table().settings(), placement);
        let partition = router.map().layout().parse()?;
        let backend = ClusterBackend::new(router, partition, Limits::default());
        let backend = backend.reached_at(&advertised);
        tasks.spawn(front.serve(backend.clone(), stopped(&stopping)));
        admin.ready(backend.router().clone());
        unfinished.finish();
        Ok(Self { node, backend, tables, stopping, tasks })
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What its clients talk to.
    #[must_use]
    pub fn backend(&self) -> &ClusterBackend {
        &self.backend
    }

    /// Hands over leaderships while clients are still served, closes the clients' connections and
    /// stops the node. What it acknowledged is on its disk. A client that holds on to a connection,
    /// of whichever port, does not hold that up.
    pub async fn stop(mut self) {
        let leader = self.node.clone();
        // A panic has been printed where it happened.
        let _ = tokio::task::spawn_blocking(move || leader.hand_over()).await;
        self.stopping.send_replace(true);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSING_LIMIT, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        let (node, tables) = (self.node, self.tables);
        let ending = move || {
            node.stop();
            tables.iter().for_each(|tables| tables.flush());
        };
        // A panic has been printed where it happened.
        let _ = tokio::task::spawn_blocking(ending).await;
    }
}

/// Starts a node, and opens its tables if it has any.
fn open(
    config: NodeConfig,
    kind: StoreKind,
    max_memory_bytes: u64,
) -> Result<(Unfinished, Option<Arc<Tables>>), Failure> {
    let data_dir = config.data_dir.clone();
    let unfinished = Unfinished(Some(Node::start(config)?));
    if StoreKind::stored(&data_dir)? != Some(kind) {
        return Err("the data directory was made by another process just now".into());
    }
    if kind == StoreKind::Memory {
        return Ok((unfinished, None));
    }
    let node = unfinished.node();
    let tables = Tables::open(&data_dir, node.incarnation(), max_memory_bytes)?;
    tables.forget_others(node)?;
    Ok((unfinished, Some(Arc::new(tables))))
}

/// Serves the admin pages until `stopped` resolves.
async fn serve_pages(
    admin: Admin,
    listener: TcpListener,
    stopped: impl Future<Output = ()> + Send + 'static,
) {
    if let Err(error) = admin.serve(listener, stopped).await {
        tracing::error!("the admin pages ended: {error}");
    }
}

/// Waits until the tables are damaged where no replica notices, and the other nodes can do without
/// this one.
async fn spoilt(tables: Option<&Tables>, router: &Router) -> String {
    let Some(tables) = tables else { return std::future::pending().await };
    let why = tables.damaged().await;
    while !router.is_dispensable().await {
        tracing::warn!("{why}: this node is to join again as a new one when others can do without");
        tokio::time::sleep(SPOILT_INTERVAL).await;
    }
    why
}

/// Has deleted what removed replicas leave in the tables, and logs cut.
fn see_to_tables(
    tables: &Arc<Tables>,
    node: &Node,
    tasks: &mut JoinSet<()>,
    stopping: &watch::Sender<bool>,
) {
    let forgetting = tables::forget_removed(node.clone(), tables.shared().clone());
    tasks.spawn(until(stopped(stopping), forgetting));
    let (tables, node) = (Arc::clone(tables), node.clone());
    tasks.spawn(until(stopped(stopping), async move { tables.cut_logs(node).await }));
}

/// Makes the stores of groups.
struct Stores {
    tables: Option<SharedTables>,
    data: Arc<DataMemory>,
    /// Where it is said which of them stand still, if somebody may have them do so.
    sleeps: Option<Arc<Sleeps>>,
}

impl Stores {
    fn new(tables: Option<&Tables>, server: &ServerState, debug_command: DebugCommand) -> Self {
        let is_debugged = debug_command != DebugCommand::No;
        Self {
            tables: tables.map(|tables| tables.shared().clone()),
            data: Arc::clone(&server.data),
            sleeps: is_debugged.then(|| Arc::clone(&server.sleeps)),
        }
    }

    fn store(&self, range: &Range, time: Arc<GroupTime>) -> Box<dyn StateMachine> {
        let data = Arc::clone(&self.data);
        let sleeps = self.sleeps.as_ref().map(|sleeps| (Arc::clone(sleeps), range.start.clone()));
        match &self.tables {
            Some(tables) => {
                let store = DiskStore::new(tables.clone(), range.group, data, time);
                match sleeps {
                    Some((sleeps, range_start)) => {
                        Box::new(OnDisk(Sleepy { store, sleeps, range_start }))
                    }
                    None => Box::new(OnDisk(store)),
                }
            }
            None => {
                let store = Store::timed(data, time);
                match sleeps {
                    Some((sleeps, range_start)) => Box::new(Sleepy { store, sleeps, range_start }),
                    None => Box::new(store),
                }
            }
        }
    }
}

/// Stops a node around which something could not be started, or was not waited for. Whatever still
/// starts there has the node, too.
struct Unfinished(Option<Node>);

impl Unfinished {
    fn node(&self) -> &Node {
        self.0.as_ref().expect("it is not finished")
    }

    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            node.stop();
        }
    }
}

/// Says so if the cluster goes by other settings than the node was given.
fn warn_of_other_settings(settings: &ClusterSettings, placement: GivenSettings) {
    let given = placement.over(settings);
    if given != *settings {
        tracing::warn!(
            "this node was given \"{given}\", and the cluster goes by \"{settings}\": `logboat \
             settings` changes that"
        );
    }
}

/// How the node takes part in its cluster, with clients told to connect to this address.
fn part_of(options: &NodeOptions, clients: &str) -> RouterOptions {
    let NodeOptions { node, admin_listen, .. } = options;
    let card = NodeCard {
        peers: node.members.get(&node.node).cloned().unwrap_or_default(),
        clients: clients.to_owned(),
        admin: admin_listen.map(|address| address.to_string()).unwrap_or_default(),
        zone: options.zone.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    RouterOptions {
        plan: options.plan.clone(),
        card: Some(card),
        given: options.given.clone(),
        joining: options.joining.clone(),
        settings: options.placement.of_new_cluster(),
    }
}

/// Where clients of a cluster are told to connect: as given, or where the node listens. Where it
/// listens on all addresses, that is the host by which its peers know it.
fn advertised(node: &NodeConfig, listen: SocketAddr, given: Option<String>) -> String {
    given.unwrap_or_else(|| {
        let peer = node.members.get(&node.node).and_then(|address| split_address(address));
        match peer {
            Some((host, _)) if listen.ip().is_unspecified() => format!("{host}:{}", listen.port()),
            _ => listen.to_string(),
        }
    })
}

/// What INFO says about the node, once there is one.
fn facts_of(
    started: Arc<OnceLock<(Node, Option<Arc<Tables>>)>>,
    kind: StoreKind,
    security: &Security,
) -> Box<dyn Fn() -> Facts + Send + Sync> {
    let warnings: Vec<_> = security.warnings().collect();
    let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
    Box::new(move || {
        let Some((node, tables)) = started.get() else {
            return Facts::default();
        };
        let status = node.status();
        let writes_fail = status.failure.is_some() || status.wal.stalled;
        let facts = [
            ("node_id", status.node_id.to_string()),
            ("cluster_id", status.cluster_id),
            ("groups", status.groups.to_string()),
            ("leaders", status.leaders.to_string()),
            ("groups_without_leader", status.groups_without_leader.to_string()),
        ];
        let warning = warning.clone().map(|warning| ("security_warning", warning));
        let store = StorePage::of(kind, tables.as_deref());
        let lines = facts.into_iter().chain(store.lines()).chain(warning);
        let lines = lines.map(|(name, value)| (name.to_owned(), value)).collect();
        Facts { sections: vec![("Logboat", lines)], writes_fail }
    })
}

async fn bind_admin(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("--admin-listen {address}: {error}").into())
}

/// Does `work` to its end, or until `stopped` resolves.
async fn until(stopped: impl Future<Output = ()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stopped => {}
    }
}

fn stopped(stopping: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopping = stopping.subscribe();
    async move {
        // The sender is dropped only with the server, which ends the wait as well.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_whose_task_panics_ends_the_process() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        tasks.spawn(async { panic!("number {}", 7) });
        tasks.spawn(std::future::pending());
        let failure = port_lost(&mut tasks).await.to_string();
        assert!(failure.contains("number 7"), "{failure}");
    }
}
