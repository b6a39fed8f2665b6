//! A node's part of the cluster: what the table says is done, and what is done gets into the table.

mod cache;
pub(crate) mod driver;
pub(crate) mod export;
mod follow;
mod join;
pub(crate) mod operate;
mod pace;
mod peers;
mod publish;
mod rejoin;
mod replicas;
mod seek;
mod service;
mod standing;

pub use self::cache::known_members;
pub use self::join::{JoinError, Joined, Joining};
pub use self::rejoin::{FormerNode, former_node, has_joined};
use super::starts::{start_groups, without_unusable};
use super::{Inner, REQUEST_LIMIT, RoutedRequest};
use crate::error::{ClusterError, RouterStartError};
use crate::map::{META_GROUP, Range};
use crate::meta::MetaMachine;
use crate::plan::Plan;
use crate::table::{
    Change, ClusterSettings, Command, Foundation, Members, NodeCard, Outcome, Table, meta_founders,
};
use bytes::Bytes;
use logboat::{ClusterId, GroupHandle, GroupRequest, GroupSpec, NodeId, RequestError, RoleKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How often a node that waits for the first table looks whether it is to make it.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_millis(20);

/// How long to wait before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How a node takes part in its cluster.
#[derive(Clone, Debug, Default)]
pub struct RouterOptions {
    /// How the cluster is made, if this node is one of those that make it.
    pub plan: Option<Plan>,
    /// What the others are to know of this node. Without it, they know where its peers reached it
    /// when the cluster was made.
    pub card: Option<NodeCard>,
    /// Where a person said that the nodes are ([`known_members`]).
    pub given: BTreeMap<NodeId, String>,
    /// The settings with which the cluster is made, if this node makes it. Later ones are set by
    /// [`Router::set_settings`](crate::Router::set_settings).
    pub settings: ClusterSettings,
    /// How the node has joined its cluster, if it has. If it is cut off, since the others have
    /// moved while it was down, it asks the same nodes where they are.
    pub joining: Option<Joining>,
}

/// Starts what the node has, and what keeps it up to date.
pub(super) async fn start(
    inner: &Arc<Inner>,
    options: RouterOptions,
) -> Result<JoinSet<()>, RouterStartError> {
    let mut tasks = JoinSet::new();
    let cached = cache::read(inner.node.data_dir()).map_err(RouterStartError::Stored)?;
    if let Some(cached) = cached {
        inner.feed.publish(cached.table, Vec::new());
    }
    let at_start = inner.feed.newest();
    service::register(inner);
    let meta = inner.start_meta(&options)?;
    tasks.spawn(follow::follow(Arc::clone(inner)));
    tasks.spawn(standing::watch(Arc::clone(inner)));
    let mut expelled = inner.expelled.subscribe();
    let table = tokio::select! {
        table = inner.first_table(meta.as_ref(), &options) => table?,
        Ok(reason) = expelled.wait_for(Option::is_some) => {
            return Err(RouterStartError::Expelled(reason.clone().unwrap_or_default()));
        }
    };
    if let Some(reason) = operate::expulsion(&table, inner.node.id()) {
        return Err(RouterStartError::Expelled(reason));
    }
    inner.belong(&table).await?;
    // Before the node knew a table, it was told what stands in the first one.
    let at_start = if at_start.version() > 0 { at_start } else { Arc::clone(&table) };
    tasks.spawn(peers::keep(Arc::clone(inner), at_start));
    tasks.spawn(cache::keep(Arc::clone(inner), options.given));
    tasks.spawn(pace::keep(Arc::clone(inner)));
    let map = table.map()?;
    if let Some(plan) = &options.plan {
        plan.check(&map)?;
    }
    inner.know_groups(&map);
    let local = start_groups(inner.node.clone(), &table, Arc::clone(&inner.machine)).await?;
    inner.change_routes(|_, started| *started = local);
    inner.has_started.store(true, Ordering::Relaxed);
    tasks.spawn(replicas::keep(Arc::clone(inner)));
    tasks.spawn(publish::keep(Arc::clone(inner)));
    tasks.spawn(driver::drive(Arc::clone(inner)));
    tasks.spawn(rejoin::clear(Arc::clone(inner)));
    if let Some(joining) = options.joining {
        tasks.spawn(seek::seek(Arc::clone(inner), joining));
    }
    if let Some(card) = options.card {
        tasks.spawn(publish::announce(Arc::clone(inner), card));
    }
    Ok(tasks)
}

impl Inner {
    /// Starts the replica of the meta group here, if there is to be one.
    fn start_meta(&self, options: &RouterOptions) -> Result<Option<GroupHandle>, RouterStartError> {
        let machine = || Box::new(MetaMachine::new(Arc::clone(&self.feed)));
        let me = self.node.id();
        let stored = self.node.stored_groups().into_iter().find(|it| it.group == META_GROUP);
        let known = self.feed.newest().meta().cloned();
        let founders = meta_founders(self.node.founders());
        let tombstone = self.node.tombstone(META_GROUP);
        let is_live = |members: &Members| members.contains(me) && !members.is_gone(me, tombstone);
        let is_sound = stored.is_some_and(|stored| stored.failure.is_none());
        let founds = match &known {
            Some(members) => members.founding.contains(&me),
            None => options.plan.is_some() && founders.contains(&me),
        };
        let started = if is_sound {
            self.node.join_group(META_GROUP, machine())
        } else if founds {
            let preferred = founders.first().copied();
            let (group, machine) = (META_GROUP, machine());
            self.node.create_group(GroupSpec { group, replicas: founders, preferred, machine })
        } else if known.as_ref().is_some_and(is_live) {
            self.node.join_group(META_GROUP, machine())
        } else {
            return Ok(None);
        };
        // Without it, the table is followed elsewhere.
        Ok(without_unusable(&self.node, started)?)
    }

    /// Waits for a table. The leader of the meta group makes the cluster if there is none.
    async fn first_table(
        &self,
        meta: Option<&GroupHandle>,
        options: &RouterOptions,
    ) -> Result<Arc<Table>, RouterStartError> {
        let mut tables = self.feed.watch();
        let plan = options.plan.as_ref();
        let foundation = plan.map(|plan| self.foundation(plan, &options.settings)).transpose()?;
        loop {
            let newest = Arc::clone(&tables.borrow_and_update());
            if newest.version() > 0 {
                return Ok(newest);
            }
            if let Some((meta, found)) = meta.zip(foundation.clone())
                && meta.view().role() == RoleKind::Leader
            {
                match meta.propose(found).await {
                    // With a snapshot, the table is known at the next start before any other node
                    // is reached.
                    Ok(_) => meta.compact(),
                    Err(RequestError::TooLarge { bytes, limit }) => {
                        let reason = format!("a plan of {bytes} bytes, more than {limit}");
                        return Err(RouterStartError::Meta(reason));
                    }
                    // Whoever leads now proposes it.
                    Err(_) => {}
                }
            }
            tokio::select! {
                _ = tables.changed() => {}
                () = sleep(BOOTSTRAP_INTERVAL) => {}
            }
        }
    }

    /// Notes which cluster the node belongs to, before any other group promises anything here. Its
    /// directory may know that it is another one.
    async fn belong(&self, table: &Table) -> Result<(), RouterStartError> {
        let Some(cluster) = table.cluster() else { return Ok(()) };
        let node = self.node.clone();
        let noted = tokio::task::spawn_blocking(move || node.adopt_cluster(cluster)).await;
        let noted = noted.unwrap_or_else(|error| Err(error.into()));
        noted.map_err(|source| RouterStartError::Cluster { cluster, source })
    }

    /// The command that makes the cluster. A plan that makes no map is refused.
    fn foundation(
        &self,
        plan: &Plan,
        settings: &ClusterSettings,
    ) -> Result<Bytes, RouterStartError> {
        plan.map(self.node.founders())?;
        let addresses: BTreeMap<_, _> = self.node.addresses();
        let address = |node: &NodeId| (*node, addresses.get(node).cloned().unwrap_or_default());
        let nodes = self.node.founders().iter().map(address);
        let cluster = ClusterId(join::random());
        let change = Change::Found(Foundation::new(cluster, plan, settings, nodes));
        Ok(Command::new(change, "it was started for the first time").encode())
    }

    /// Makes a change of the table, wherever the meta group is. Returns the outcome, unless it was
    /// refused.
    async fn change_table(
        &self,
        change: Change,
        why: impl Into<String>,
    ) -> Result<Outcome, ClusterError> {
        let command = Command::new(change, why).encode();
        let table = self.feed.newest();
        let replicas = table.meta().map(|meta| meta.voters.clone()).unwrap_or_default();
        if replicas.is_empty() {
            return Err(ClusterError::Refused("the cluster has not been made yet".to_owned()));
        }
        let range = Range { start: Bytes::new(), group: META_GROUP, replicas };
        let request = GroupRequest::propose(command);
        let deadline = Instant::now() + REQUEST_LIMIT;
        let routed = RoutedRequest { inner: self, range: &range, request, deadline };
        let answer = routed.run(None).await?;
        match Outcome::decode(&answer) {
            Some(Outcome::Refused(reason)) => Err(ClusterError::Refused(reason)),
            Some(Outcome::Conflict) => Err(ClusterError::Conflict),
            Some(outcome) => Ok(outcome),
            None => Err(ClusterError::Refused("an answer that makes no sense".to_owned())),
        }
    }
}
