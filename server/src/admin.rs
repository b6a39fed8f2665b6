//! The admin pages of a node: `/healthz`, `/readyz`, `/livez`, `/metrics` and `/status`, and those
//! about its [cluster](crate::cluster_pages).

use crate::admin_guard::{Caller, authorize};
use crate::admin_listener::LimitedListener;
use crate::backup::pages as backup_pages;
use crate::cluster_pages;
use crate::descriptors::ADMIN_CONNECTIONS;
use crate::health::Health;
use crate::latency::ratio;
use crate::logging;
use crate::security::Security;
use crate::server_state::ServerState;
use crate::store_kind::StoreKind;
use crate::tables::Tables;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use logboat::{Node, NodeStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fmt, io};
use tokio::net::TcpListener;

/// How long a request may take, from the connection to the last byte of the answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// What the admin pages show.
#[derive(Clone)]
pub struct Admin {
    node: Node,
    /// Where keys and values are.
    store: (StoreKind, Option<Arc<Tables>>),
    /// In whose place the node has joined, if in anybody's.
    former: Option<FormerPage>,
    registry: Arc<Registry>,
    security: Security,
    /// Whether the node serves clients: it knows the map and has started its replicas.
    ready: Arc<AtomicBool>,
    /// Once the node knows the cluster.
    cluster: Arc<OnceLock<logboat_router::Router>>,
}

impl Admin {
    /// Pages about `node`, its store and its `clients`, behind a guard. Not ready yet.
    #[must_use]
    pub fn new(
        node: Node,
        store: (StoreKind, Option<Arc<Tables>>),
        clients: Arc<ServerState>,
        security: Security,
    ) -> Self {
        let mut registry = Registry::default();
        node.register_metrics(&mut registry);
        let collector = StatusCollector {
            node: node.clone(),
            tables: store.1.clone(),
            clients,
            security: security.clone(),
        };
        registry.register_collector(Box::new(collector));
        let former = logboat_router::former_node(node.data_dir()).unwrap_or_else(|error| {
            tracing::warn!("whose directory this was: {error}");
            None
        });
        Self {
            former: former.map(|former| FormerPage { node_id: former.node, reason: former.why }),
            node,
            store,
            registry: Arc::new(registry),
            security,
            ready: Arc::default(),
            cluster: Arc::default(),
        }
    }

    fn health(&self) -> Health {
        let patience = self.node.election_timeout();
        Health::of(&self.node.status(), self.ready.load(Ordering::Relaxed), patience)
    }

    /// The cluster, once the node knows it.
    pub(crate) fn cluster(&self) -> Option<&logboat_router::Router> {
        self.cluster.get()
    }

    /// Says that the node serves clients from now on, in this cluster.
    pub fn ready(&self, cluster: logboat_router::Router) {
        self.cluster.get_or_init(|| cluster);
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Serves the pages until `shutdown` resolves.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let guard = self.security.admin.clone();
        let tls = guard.tls.clone();
        let pages = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/livez", get(livez))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .merge(cluster_pages::pages())
            .merge(backup_pages::pages())
            .layer(from_fn_with_state(guard, authorize))
            .layer(map_response(last_of_its_connection))
            .with_state(self);
        let listener = LimitedListener::new(listener, tls, ADMIN_CONNECTIONS, REQUEST_LIMIT);
        axum::serve(listener, pages.into_make_service_with_connect_info::<Caller>())
            .with_graceful_shutdown(shutdown)
            .await
    }
}

/// A connection serves one request, so that it may have a deadline.
async fn last_of_its_connection(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn healthz(State(admin): State<Admin>) -> (StatusCode, Json<Health>) {
    page_of(admin.health())
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, Json<Health>) {
    page_of(admin.health().readiness())
}

async fn livez(State(admin): State<Admin>) -> (StatusCode, Json<Health>) {
    page_of(admin.health().liveness())
}

fn page_of(health: Health) -> (StatusCode, Json<Health>) {
    let code = if health.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health))
}

async fn metrics(State(admin): State<Admin>) -> Result<impl IntoResponse, StatusCode> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &admin.registry)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text))
}

async fn status(State(admin): State<Admin>) -> Json<StatusPage> {
    Json(StatusPage {
        security_warnings: admin.security.warnings().map(str::to_owned).collect(),
        store: Some(StorePage::of(admin.store.0, admin.store.1.as_deref())),
        former: admin.former.clone(),
        ..StatusPage::of(admin.node.status(), admin.ready.load(Ordering::Relaxed))
    })
}

/// `/status` as JSON; also what `logboat status` reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusPage {
    /// The node's id.
    pub node_id: u64,
    /// The cluster's id, in hexadecimal digits.
    pub cluster_id: String,
    /// Whether the node serves clients.
    pub ready: bool,
    /// The nodes that must record this one, which is new, before it takes part.
    pub waiting_for: Vec<u64>,
    /// Replicas on this node.
    pub groups: usize,
    /// Groups that this node leads.
    pub leaders: usize,
    /// Groups whose replica here knows no leader.
    pub groups_without_leader: usize,
    /// Replicas that have stopped, or could not be started, while the node goes on.
    pub failed: Vec<FailedPage>,
    /// Replicas that had failed, and whose places others have taken here since the node has
    /// started, the newest last.
    #[serde(default)]
    pub mended: Vec<MendedPage>,
    /// The node whose directory this was, if that one could not go on and this one has joined in
    /// its place.
    #[serde(default)]
    pub former: Option<FormerPage>,
    /// Replicas whose user code has not returned for long.
    pub stuck: Vec<StuckPage>,
    /// Groups of which another node was started with other replicas.
    pub other_voters: Vec<OtherVotersPage>,
    /// Peers whose settings differ from this node's.
    pub differing_settings: Vec<SettingsPage>,
    /// What is amiss with how the node's ports are guarded.
    #[serde(default)]
    pub security_warnings: Vec<String>,
    /// Bytes of requests that wait for an answer.
    pub pending_bytes: usize,
    /// Committed entries that are not yet applied.
    pub apply_lag: u64,
    /// Why the node can't acknowledge anything any more, if so.
    pub failure: Option<String>,
    /// Where keys and values are.
    #[serde(default)]
    pub store: Option<StorePage>,
    /// The log.
    pub wal: WalPage,
    /// The connections to the peers.
    pub peers: Vec<PeerPage>,
}

/// A replica in `/status` that has failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailedPage {
    /// Its group.
    pub group: u64,
    /// Why it does not run.
    pub reason: String,
}

/// A replica in `/status` that was mended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MendedPage {
    /// Its group.
    pub group: u64,
    /// Why the former replica had failed.
    pub reason: String,
    /// The node that led the group when the new replica became a voter.
    pub from: u64,
}

/// The node in `/status` in whose place this one has joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FormerPage {
    /// Its id.
    pub node_id: u64,
    /// Why it did not go on.
    pub reason: String,
}

/// A replica in `/status` that is stuck.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StuckPage {
    /// Its group.
    pub group: u64,
    /// What has not returned.
    pub code: String,
    /// For how long.
    pub elapsed_ms: u64,
    /// Whether other replicas wait for it.
    pub blocks_others: bool,
}

/// A group in `/status` whose replicas were started with different sets of nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OtherVotersPage {
    /// The group.
    pub group: u64,
    /// The node that has another set.
    pub node_id: u64,
}

/// What a peer has set otherwise, in `/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettingsPage {
    /// The peer.
    pub node_id: u64,
    /// Its election timeout.
    pub election_timeout_ms: u64,
    /// Whether it promises leases.
    pub leases: bool,
}

/// Where keys and values are, in `/status`. For those in memory there are no numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StorePage {
    /// In memory or on disk.
    pub kind: StoreKind,
    /// Bytes of tables.
    pub table_bytes: u64,
    /// Tables.
    pub tables: u64,
    /// Bytes of what is not in tables yet.
    pub memtable_bytes: u64,
    /// Flushes since the start.
    pub flushes: u64,
    /// Compactions since the start.
    pub compactions: u64,
    /// Writes that were refused since the start, since the disk was behind. They were made later.
    pub stalls: u64,
}

impl StorePage {
    /// What there is to say of the store of a node.
    pub(crate) fn of(kind: StoreKind, tables: Option<&Tables>) -> Self {
        let statistics = tables.map(Tables::statistics).unwrap_or_default();
        Self {
            kind,
            table_bytes: statistics.table_bytes,
            tables: statistics.tables,
            memtable_bytes: statistics.memtable_bytes,
            flushes: statistics.flushes,
            compactions: statistics.compactions,
            stalls: statistics.refused,
        }
    }

    /// The same with names.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let numbers = [
            ("table_bytes", self.table_bytes),
            ("tables", self.tables),
            ("memtable_bytes", self.memtable_bytes),
            ("table_flushes", self.flushes),
            ("table_compactions", self.compactions),
            ("table_stalls", self.stalls),
        ];
        let numbers = numbers.map(|(name, number)| (name, number.to_string()));
        let is_on_disk = self.kind == StoreKind::Disk;
        let numbers = numbers.into_iter().filter(move |_| is_on_disk);
        std::iter::once(("store", self.kind.to_string())).chain(numbers)
    }
}

/// The log in `/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WalPage {
    /// Segment files.
    pub segments: i64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Entries written since the start.
    pub entries: u64,
    /// Entries a sync.
    pub entries_per_sync: f64,
    /// Bytes written since the start, framing included.
    pub written_bytes: u64,
    /// Bytes submitted and not yet durable.
    pub queued_bytes: usize,
    /// Whether writes wait for space on the disk, or for what else a segment takes.
    pub stalled: bool,
    /// Why they wait, if they do.
    pub stall_reason: Option<String>,
}

/// A peer in `/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerPage {
    /// Its id.
    pub node_id: u64,
    /// Its address.
    pub address: String,
    /// Whether the connection to it stands.
    pub connected: bool,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// What went wrong last, while it is not connected.
    pub last_error: Option<String>,
}

impl StatusPage {
    fn of(status: NodeStatus, ready: bool) -> Self {
        let wal = status.wal;
        let peers = status.peers.into_iter().map(|peer| PeerPage {
            node_id: peer.node.0,
            address: peer.address,
            connected: peer.connected,
            queued_bytes: peer.queued_bytes,
            last_error: peer.last_error,
        });
        let failed = status.failed.into_iter();
        let failed = failed.map(|it| FailedPage { group: it.group.0, reason: it.reason });
        let mended = status.mended.into_iter().map(|it| MendedPage {
            group: it.group.0,
            reason: it.reason,
            from: it.from.0,
        });
        let stuck = status.stuck.into_iter().map(|it| StuckPage {
            group: it.group.0,
            code: it.code.to_string(),
            elapsed_ms: u64::try_from(it.elapsed.as_millis()).unwrap_or(u64::MAX),
            blocks_others: it.blocks_others,
        });
        let other_voters = status.other_voters.into_iter();
        let other_voters =
            other_voters.map(|it| OtherVotersPage { group: it.group.0, node_id: it.node.0 });
        let differing = status.differing_settings.into_iter().map(|(node, settings)| {
            let timeout_ms = settings.timeout.as_millis();
            SettingsPage {
                node_id: node.0,
                election_timeout_ms: u64::try_from(timeout_ms).unwrap_or(u64::MAX),
                leases: settings.leases,
            }
        });
        Self {
            node_id: status.node_id,
            cluster_id: status.cluster_id,
            ready,
            waiting_for: status.waiting_for.into_iter().map(|node| node.0).collect(),
            groups: status.groups,
            leaders: status.leaders,
            groups_without_leader: status.groups_without_leader,
            failed: failed.collect(),
            mended: mended.collect(),
            former: None,
            stuck: stuck.collect(),
            other_voters: other_voters.collect(),
            differing_settings: differing.collect(),
            security_warnings: Vec::new(),
            pending_bytes: status.pending_bytes,
            apply_lag: status.apply_lag,
            failure: status.failure,
            store: None,
            wal: WalPage {
                segments: wal.segments,
                syncs: wal.syncs,
                entries: wal.entries,
                entries_per_sync: ratio(wal.entries, wal.syncs),
                written_bytes: wal.written_bytes,
                queued_bytes: wal.queued_bytes,
                stalled: wal.stalled,
                stall_reason: wal.stall_reason,
            },
            peers: peers.collect(),
        }
    }
}

/// The metrics that are read off the node and its front when the page is requested, rather than
/// counted.
#[derive(Debug)]
struct StatusCollector {
    node: Node,
    tables: Option<Arc<Tables>>,
    clients: Arc<ServerState>,
    security: Security,
}

impl StatusCollector {
    fn encode_tables(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(statistics) = self.tables.as_ref().map(|tables| tables.statistics()) else {
            return Ok(());
        };
        let gauges = [
            ("logboat_table_bytes", "Bytes of tables", statistics.table_bytes),
            ("logboat_memtable_bytes", "Bytes not in tables yet", statistics.memtable_bytes),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            ("logboat_table_flushes", "Flushes", statistics.flushes),
            ("logboat_table_compactions", "Compactions", statistics.compactions),
            ("logboat_table_stalls", "Writes refused for a slow disk", statistics.refused),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }

    fn encode_tls(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(tls) = &self.security.tls else { return Ok(()) };
        let help = "Seconds until a certificate in use expires, negative once it has";
        let name = "logboat_tls_certificate_expiry_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let expiry = tls.expiry();
        for (certificate, secs) in [("node", expiry.cert_secs), ("ca", expiry.ca_secs)] {
            let labels = [("certificate", certificate)];
            ConstGauge::new(secs).encode(family.encode_family(&labels)?)?;
        }
        let help = "Times that files for TLS were read again and were of no use";
        let failures = ConstCounter::new(tls.reload_failures());
        let name = "logboat_tls_reload_failures";
        failures.encode(encoder.encode_descriptor(name, help, None, failures.metric_type())?)?;
        let help = "1 while the files for TLS are of no use and older ones count";
        let failing = ConstGauge::new(i64::from(tls.failure().is_some()));
        let name = "logboat_tls_reload_failing";
        failing.encode(encoder.encode_descriptor(name, help, None, failing.metric_type())?)
    }
}

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.node.status();
        let without_leader = status.groups_without_leader as u64;
        let gauges = [
            ("logboat_groups", "Replicas on this node", status.groups as u64),
            ("logboat_groups_without_leader", "Replicas here that know no leader", without_leader),
            ("logboat_pending_bytes", "Bytes of requests pending", status.pending_bytes as u64),
            ("logboat_apply_lag_entries", "Entries committed, not applied", status.apply_lag),
            ("logboat_clients", "Clients connected", self.clients.clients.count() as u64),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let stats = &self.clients.stats;
        let strangers = "Clients refused in the TLS handshake, or for too many from an address";
        let admin_refusals = self.security.admin.refusals.load(Ordering::Relaxed);
        let (refusals, lost) = (stats.rejected.value(), logging::lost_lines());
        let counters = [
            ("logboat_client_connections", "Clients accepted", stats.connections.value()),
            ("logboat_client_refusals", "Clients refused for the limit", refusals),
            ("logboat_client_commands", "Commands of clients", stats.commands.totals().calls),
            ("logboat_client_errors", "Commands answered with an error", stats.errors.total()),
            ("logboat_client_failed_logins", "Logins refused", stats.failed_logins.value()),
            ("logboat_client_strangers_refused", strangers, stats.strangers.value()),
            ("logboat_admin_refusals", "Requests to admin pages refused", admin_refusals),
            ("logboat_log_lines_lost", "Log lines that could not be written", lost),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        self.encode_tables(&mut encoder)?;
        self.encode_tls(&mut encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::tests::well;
    use logboat::{
        FailedReplica, GroupId, MendedReplica, NodeId, OtherVoters, StuckReplica, SupportSettings,
        UserCode,
    };

    #[test]
    fn the_status_names_what_is_wrong_with_replicas_and_peers() {
        let settings = SupportSettings { timeout: Duration::from_millis(750), leases: true };
        let status = NodeStatus {
            failed: vec![FailedReplica { group: GroupId(5), reason: "it panicked".to_owned() }],
            mended: vec![MendedReplica {
                group: GroupId(4),
                reason: "a bit has flipped".to_owned(),
                from: NodeId(2),
            }],
            stuck: vec![StuckReplica {
                group: GroupId(7),
                code: UserCode::SnapshotWriter,
                elapsed: Duration::from_secs(2),
                blocks_others: true,
            }],
            other_voters: vec![OtherVoters { group: GroupId(6), node: NodeId(2) }],
            differing_settings: vec![(NodeId(3), settings)],
            ..well()
        };
        let page = serde_json::to_value(StatusPage::of(status, true)).unwrap();
        let expected = serde_json::json!([
            [{ "group": 5, "reason": "it panicked" }],
            [{ "group": 4, "reason": "a bit has flipped", "from": 2 }],
            [{
                "group": 7,
                "code": "the writer of its snapshot",
                "elapsed_ms": 2_000,
                "blocks_others": true,
            }],
            [{ "group": 6, "node_id": 2 }],
            [{ "node_id": 3, "election_timeout_ms": 750, "leases": true }],
        ]);
        let shown = ["failed", "mended", "stuck", "other_voters", "differing_settings"];
        let shown = shown.map(|name| &page[name]);
        assert_eq!(serde_json::json!(shown), expected);
    }
}
