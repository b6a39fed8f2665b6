//! The options of `logboat serve`, from the command line and from a file.

mod placement;
mod security;

pub use self::placement::GivenSettings;
use crate::admin_guard::Page;
use crate::debug::DebugCommand;
use crate::layout::Partition;
use crate::log_size::{self, LogSize};
use crate::output::Failure;
use crate::process::available_memory;
use crate::security::Security;
use crate::settings::Settings;
use crate::store_kind::StoreKind;
use bytes::Bytes;
use clap::Args;
use logboat::transport::Visit;
use logboat::{Founding, NodeConfig, NodeId};
use logboat_router::{Joined, Joining, NodeCard, Plan, known_members};
use logboat_security::{ClientAuth, Own, PortTls, TlsMode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One node of a cluster. Whatever the command line leaves out is looked up in the file of
/// `--config`, where the names are the same without the dashes before them.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServeOptions {
    /// This node's id, one of those in --cluster. A node that joins gets its id from the cluster.
    #[arg(long, value_name = "ID")]
    pub node_id: Option<u64>,
    /// All nodes that the cluster is made with, and their peer addresses: 1=HOST:PORT,2=HOST:PORT,…
    /// Nodes that join it later are not among them.
    #[arg(long, value_name = "ID=HOST:PORT,…")]
    pub cluster: Option<String>,
    /// Join a cluster that there is already: the peer addresses of some of its nodes, of which any
    /// will do. The same command starts the node again later, in place of --node-id and --cluster.
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub join: Option<Vec<String>>,
    /// Where the peers of a node that joins reach it. It may change from one start to the next.
    #[arg(long, value_name = "IP:PORT")]
    pub peer_listen: Option<SocketAddr>,
    /// The part of the world that fails at once with this node, such as its rack: replicas of a
    /// group are spread over zones.
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
    /// After how long a node that is silent counts as lost, so that its replicas are replaced: 30s,
    /// 5min or 2h. A cluster that is made keeps it; `logboat settings` changes it later
    /// [default: 5min].
    #[arg(long, value_name = "TIME")]
    pub lost_after: Option<String>,
    /// How many MiB of groups a node receives in a second, and how many it sends, for replicas that
    /// move. A cluster that is made keeps it; `logboat settings` changes it later [default: 128].
    #[arg(long, value_name = "MIB")]
    pub move_mib_per_s: Option<u64>,
    /// Tells clusters with the same nodes apart.
    #[arg(long, value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Nodes that a new node does not wait for before it takes part, since they are not there yet:
    /// a minority of --cluster. Counts on an empty directory only.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub found_without: Option<Vec<u64>>,
    /// Where log and snapshots live.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where Redis clients connect.
    #[arg(long, value_name = "IP:PORT")]
    pub client_listen: Option<SocketAddr>,
    /// Where clients of a cluster are told to connect to this node, if that is not --client-listen.
    #[arg(long, value_name = "HOST:PORT")]
    pub client_advertise: Option<String>,
    /// Where the admin pages are (/healthz, /readyz, /livez, /metrics, /status).
    #[arg(long, value_name = "IP:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// How many groups a new cluster gets [default: 1000].
    #[arg(long, value_name = "COUNT")]
    pub groups: Option<usize>,
    /// How many replicas each group of a new cluster gets [default: 3].
    #[arg(long, value_name = "COUNT")]
    pub replicas: Option<usize>,
    /// How keys lie on the ranges: slots (those of Redis Cluster), hash (spread evenly) or range
    /// (in their own order) [default: slots for a new cluster; another one keeps its own].
    #[arg(long)]
    pub partition: Option<Partition>,
    /// The first keys of all ranges but the first, one a line, ascending; for --partition range.
    #[arg(long, value_name = "FILE")]
    pub split_keys: Option<PathBuf>,
    /// The election timeout: the shortest time without a leader after which a replica campaigns, in
    /// ms [default: 2500].
    #[arg(long, value_name = "MS")]
    pub election_timeout_ms: Option<u64>,
    /// The time between two heartbeats, in ms [default: a fifth of the election timeout].
    #[arg(long, value_name = "MS")]
    pub heartbeat_ms: Option<u64>,
    /// Have nodes promise each other support for a time, for reads on leases; the same on all
    /// nodes. The groups of a process that has ended then wait for the election timeout.
    #[arg(long)]
    #[serde(default)]
    pub leases: bool,
    /// A group's log beyond this many bytes becomes a snapshot [default: 8388608].
    #[arg(long, value_name = "BYTES")]
    pub snapshot_log_bytes: Option<u64>,
    /// What the node may hold for requests, messages and writes under way, in bytes; beyond it the
    /// answer is a busy error. An eighth of it is for clients' requests that have not arrived whole
    /// and replies that have not been read [default: 1073741824].
    #[arg(long, value_name = "BYTES")]
    pub memory_budget: Option<usize>,
    /// Where this node keeps keys and values: memory, or disk, for more than memory takes. Fixed
    /// when the data directory is made [default: memory, or what the directory was made with].
    #[arg(long, value_name = "disk|memory")]
    pub store: Option<StoreKind>,
    /// What keys and values may take of this node's memory, in bytes; 0 for no limit. In memory,
    /// writes that grow are refused beyond it; on disk, it is for what is cached and not written
    /// yet [default: half of the memory that the process may have].
    #[arg(long, value_name = "BYTES")]
    pub max_memory: Option<u64>,
    /// The size of a log segment, in bytes [default: 67108864, or a sixteenth of the log's size if
    /// that is less].
    #[arg(long, value_name = "BYTES")]
    pub wal_segment_bytes: Option<u64>,
    /// How large the log may grow before old segments are emptied, in bytes; auto is a quarter of
    /// the disk, and 2147483648 at the most [default: auto].
    #[arg(long, value_name = "BYTES|auto")]
    pub wal_max_bytes: Option<LogSize>,
    /// How many clients may be connected at once [default: 10000].
    #[arg(long, value_name = "COUNT")]
    pub max_clients: Option<u32>,
    /// Who may use the command DEBUG, which has replicas stand still: no, local or yes
    /// [default: no].
    #[arg(long, value_name = "no|local|yes")]
    pub enable_debug_command: Option<DebugCommand>,
    /// A client that is idle for this long is disconnected, in seconds; 0 for never [default: 0].
    #[arg(long, value_name = "SECONDS")]
    pub client_timeout: Option<u32>,
    /// The node's certificate, in PEM; see `logboat cert`. Read again when it changes, and on
    /// SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The certificates of the authorities that the node trusts, in PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// TLS between nodes: off, optional (both, and TLS wherever the other node speaks it) or
    /// required [default: off].
    #[arg(long, value_name = "off|optional|required")]
    pub tls_peers: Option<TlsMode>,
    /// TLS for clients: off, optional (both, told apart by the first byte) or required
    /// [default: off].
    #[arg(long, value_name = "off|optional|required")]
    pub tls_clients: Option<TlsMode>,
    /// TLS for the admin pages: off, optional or required [default: off].
    #[arg(long, value_name = "off|optional|required")]
    pub tls_admin: Option<TlsMode>,
    /// Whether clients show certificates in TLS: none, optional or required [default: none].
    #[arg(long, value_name = "none|optional|required")]
    pub tls_client_auth: Option<ClientAuth>,
    /// A file with the secret by which nodes know each other, of 32 bytes at least; the same on all
    /// nodes. A second line is accepted as well, while the secret is replaced. Read again on
    /// SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub cluster_secret_file: Option<PathBuf>,
    /// Refuse to start if strangers could speak as nodes: without --tls-peers required and without
    /// --cluster-secret-file.
    #[arg(long)]
    #[serde(default)]
    pub require_secure: bool,
    /// A file with the password of clients, or two of them, one a line. Read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub requirepass_file: Option<PathBuf>,
    /// A file with the token for the admin pages, or two of them, one a line, each of 16 bytes at
    /// least. Read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Admin pages that everybody may see who reaches them: healthz, livez, metrics, readyz,
    /// status. On a loopback address these are all of them.
    #[arg(long, value_name = "PAGE,…", value_delimiter = ',')]
    pub admin_open: Option<Vec<Page>>,
    /// A TOML file with any of these options.
    #[arg(long, value_name = "FILE.toml")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// A node that is ready to start: the options, checked.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// What the engine is told.
    pub node: NodeConfig,
    /// How the cluster is made if it is new. None for a node that has joined it.
    pub plan: Option<Plan>,
    /// Where a person said that the nodes are.
    pub given: BTreeMap<NodeId, String>,
    /// How the node has joined its cluster, if it has.
    pub joining: Option<Joining>,
    /// The zone of the node.
    pub zone: String,
    /// What was given of the settings of the cluster.
    pub placement: GivenSettings,
    /// Where Redis clients connect.
    pub client_listen: SocketAddr,
    /// Where clients of a cluster are told to connect, if that is elsewhere.
    pub client_advertise: Option<String>,
    /// Where the admin pages are.
    pub admin_listen: Option<SocketAddr>,
    /// Where keys and values are kept.
    pub store: StoreKind,
    /// The settings of the Redis front to start with.
    pub settings: Settings,
    /// Who may use DEBUG.
    pub debug_command: DebugCommand,
    /// What guards the ports.
    pub security: Security,
}

impl ServeOptions {
    /// Fills in what the file of `--config` says.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn complete(self) -> Result<Self, Failure> {
        match &self.config {
            Some(path) => Ok(self.clone().or(read_file(path)?)),
            None => Ok(self),
        }
    }

    /// The options of a node with which its cluster is made, checked.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn resolve(self) -> Result<NodeOptions, Failure> {
        let options = self.complete()?;
        let id = NodeId(options.node_id.ok_or("--node-id is missing")?);
        let cluster = options.cluster.as_deref().ok_or("--cluster is missing")?;
        if options.peer_listen.is_some() {
            return Err("--peer-listen goes with --join".into());
        }
        let given = parse_cluster(cluster)?;
        let data_dir = options.data_dir.clone().ok_or("--data-dir is missing")?;
        let own = given.get(&id).cloned();
        let mut members = known_members(&data_dir, &given)?;
        // Whoever starts the node knows best where it is.
        members.extend(own.map(|address| (id, address)));
        let mut node = NodeConfig::new(id, members, data_dir)
            .map_err(|reason| format!("--cluster: {reason}"))?;
        node.founders = Some(given.keys().copied().collect());
        let plan = Some(options.plan()?);
        options.resolve_node(node, given, plan)
    }

    /// The options of a node that has joined its cluster, checked.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn resolve_joined(
        self,
        joined: &Joined,
        joining: &Joining,
    ) -> Result<NodeOptions, Failure> {
        let data_dir = self.data_dir.clone().ok_or("--data-dir is missing")?;
        let node = joined.config(data_dir).map_err(|reason| format!("--peer-listen: {reason}"))?;
        // It waits for nobody to record it, whatever it was started with.
        let options = Self { found_without: None, ..self };
        let mut options = options.resolve_node(node, BTreeMap::new(), None)?;
        // With files that are read again.
        let Security { peers, .. } = &options.security;
        let visit = Visit { tls: peers.tls.clone(), secret: peers.secret.clone() };
        options.joining = Some(Joining { visit, ..joining.clone() });
        Ok(options)
    }

    /// How the node joins its cluster, if it is to.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn joining(&self) -> Result<Option<Joining>, Failure> {
        let Some(nodes) = &self.join else { return Ok(None) };
        let makes_cluster = [
            ("--node-id", self.node_id.is_some()),
            ("--cluster", self.cluster.is_some()),
            ("--found-without", self.found_without.is_some()),
            ("--groups", self.groups.is_some()),
            ("--replicas", self.replicas.is_some()),
            ("--partition", self.partition.is_some()),
            ("--split-keys", self.split_keys.is_some()),
        ];
        if let Some((option, _)) = makes_cluster.into_iter().find(|(_, is_given)| *is_given) {
            return Err(format!("{option} makes a cluster, and --join joins one").into());
        }
        if let Some(wrong) = nodes.iter().find(|node| split_address(node).is_none()) {
            return Err(format!("--join: {wrong:?} is not HOST:PORT").into());
        }
        let peers = self.peer_listen.ok_or("--join goes with --peer-listen")?;
        if peers.ip().is_unspecified() || peers.port() == 0 {
            return Err(format!("--peer-listen {peers}: others can't reach it there").into());
        }
        self.joining_at(nodes.clone(), peers.to_string()).map(Some)
    }

    /// How the node joins its cluster again if it can't go on under its id. A node with which the
    /// cluster was made then finds the others where `--cluster` says. None if there is nobody else.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn rejoining(&self) -> Result<Option<Joining>, Failure> {
        let Some(cluster) = &self.cluster else { return self.joining() };
        let mut members = parse_cluster(cluster)?;
        let id = NodeId(self.node_id.ok_or("--node-id is missing")?);
        let own = members.remove(&id).ok_or_else(|| format!("--cluster: node {id} is missing"))?;
        let others: Vec<_> = members.into_values().collect();
        (!others.is_empty()).then(|| self.joining_at(others, own)).transpose()
    }

    /// How a node joins that its peers reach at `peers`.
    fn joining_at(&self, nodes: Vec<String>, peers: String) -> Result<Joining, Failure> {
        self.data_dir.as_ref().ok_or("--data-dir is missing")?;
        let clients = self.client_listen.ok_or("--client-listen is missing")?;
        let cluster_name = self.cluster_name.clone().unwrap_or_else(|| "logboat".to_owned());
        let tls = match self.tls_peers.unwrap_or_default() {
            TlsMode::Off => None,
            mode => {
                let tls = self.tls(&cluster_name, Own::Any)?;
                let tls = tls.ok_or("--tls-peers needs --tls-cert, --tls-key and --tls-ca")?;
                Some(PortTls { tls, required: mode == TlsMode::Required })
            }
        };
        let card = NodeCard {
            peers,
            clients: self.client_advertise()?.unwrap_or_else(|| clients.to_string()),
            admin: self.admin_listen.map(|address| address.to_string()).unwrap_or_default(),
            zone: self.zone.clone().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let visit = Visit { tls, secret: self.cluster_secret()? };
        Ok(Joining { nodes, cluster_name, card, visit })
    }

    fn resolve_node(
        self,
        mut node: NodeConfig,
        given: BTreeMap<NodeId, String>,
        plan: Option<Plan>,
    ) -> Result<NodeOptions, Failure> {
        if self.max_clients == Some(0) || self.replicas == Some(0) {
            return Err("--max-clients and --replicas begin with 1".into());
        }
        let client_listen = self.client_listen.ok_or("--client-listen is missing")?;
        self.tune(&mut node)?;
        let store = StoreKind::chosen(&node.data_dir, self.store, StoreKind::Memory)?;
        let security = self.security(&node)?;
        node.tls.clone_from(&security.peers.tls);
        node.cluster_secret.clone_from(&security.peers.secret);
        Ok(NodeOptions {
            security,
            plan,
            given,
            joining: None,
            zone: self.zone.clone().unwrap_or_default(),
            placement: GivenSettings::read(self.lost_after.as_deref(), self.move_mib_per_s)?,
            node,
            client_listen,
            client_advertise: self.client_advertise()?,
            admin_listen: self.admin_listen,
            store,
            settings: self.settings(),
            debug_command: self.enable_debug_command.unwrap_or_default(),
        })
    }

    /// Each option, or that of `other` where there is none.
    fn or(self, other: Self) -> Self {
        Self {
            node_id: self.node_id.or(other.node_id),
            cluster: self.cluster.or(other.cluster),
            join: self.join.or(other.join),
            peer_listen: self.peer_listen.or(other.peer_listen),
            zone: self.zone.or(other.zone),
            lost_after: self.lost_after.or(other.lost_after),
            move_mib_per_s: self.move_mib_per_s.or(other.move_mib_per_s),
            cluster_name: self.cluster_name.or(other.cluster_name),
            found_without: self.found_without.or(other.found_without),
            data_dir: self.data_dir.or(other.data_dir),
            client_listen: self.client_listen.or(other.client_listen),
            client_advertise: self.client_advertise.or(other.client_advertise),
            admin_listen: self.admin_listen.or(other.admin_listen),
            groups: self.groups.or(other.groups),
            replicas: self.replicas.or(other.replicas),
            partition: self.partition.or(other.partition),
            split_keys: self.split_keys.or(other.split_keys),
            election_timeout_ms: self.election_timeout_ms.or(other.election_timeout_ms),
            heartbeat_ms: self.heartbeat_ms.or(other.heartbeat_ms),
            leases: self.leases || other.leases,
            snapshot_log_bytes: self.snapshot_log_bytes.or(other.snapshot_log_bytes),
            memory_budget: self.memory_budget.or(other.memory_budget),
            store: self.store.or(other.store),
            max_memory: self.max_memory.or(other.max_memory),
            wal_segment_bytes: self.wal_segment_bytes.or(other.wal_segment_bytes),
            wal_max_bytes: self.wal_max_bytes.or(other.wal_max_bytes),
            max_clients: self.max_clients.or(other.max_clients),
            client_timeout: self.client_timeout.or(other.client_timeout),
            enable_debug_command: self.enable_debug_command.or(other.enable_debug_command),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            tls_ca: self.tls_ca.or(other.tls_ca),
            tls_peers: self.tls_peers.or(other.tls_peers),
            cluster_secret_file: self.cluster_secret_file.or(other.cluster_secret_file),
            require_secure: self.require_secure || other.require_secure,
            tls_clients: self.tls_clients.or(other.tls_clients),
            tls_admin: self.tls_admin.or(other.tls_admin),
            tls_client_auth: self.tls_client_auth.or(other.tls_client_auth),
            requirepass_file: self.requirepass_file.or(other.requirepass_file),
            admin_token_file: self.admin_token_file.or(other.admin_token_file),
            admin_open: self.admin_open.or(other.admin_open),
            config: None,
        }
    }

    fn settings(&self) -> Settings {
        let defaults = Settings::default();
        Settings {
            max_clients: self.max_clients.unwrap_or(defaults.max_clients),
            max_memory_bytes: self.max_memory.unwrap_or_else(|| available_memory() / 2),
            client_timeout_secs: self.client_timeout.unwrap_or(defaults.client_timeout_secs),
            ..defaults
        }
    }

    fn tune(&self, node: &mut NodeConfig) -> Result<(), Failure> {
        if let Some(name) = &self.cluster_name {
            node.cluster_name.clone_from(name);
        }
        if let Some(left_out) = &self.found_without {
            let left_out = left_out.iter().copied().map(NodeId).collect();
            node.founding = Founding::Without(left_out);
        }
        if let Some(ms) = self.election_timeout_ms {
            node.tuning.election_timeout = Duration::from_millis(ms);
            node.heartbeat_interval = Duration::from_millis((ms / 5).max(1));
        }
        if let Some(ms) = self.heartbeat_ms {
            node.heartbeat_interval = Duration::from_millis(ms);
        }
        if node.heartbeat_interval.is_zero()
            || node.heartbeat_interval * 3 > node.tuning.election_timeout
        {
            return Err("--heartbeat-ms must be at least 1 and at most a third of \
                        --election-timeout-ms"
                .into());
        }
        node.leases = self.leases;
        if let Some(bytes) = self.snapshot_log_bytes {
            node.snapshot_log_bytes = bytes;
        }
        if let Some(bytes) = self.memory_budget {
            node.memory_budget_bytes = bytes;
        }
        node.wal.max_bytes = self.wal_max_bytes.unwrap_or_default().bytes(&node.data_dir)?;
        let segment_bytes = || log_size::segment_bytes(node.wal.max_bytes);
        node.wal.segment_bytes = self.wal_segment_bytes.unwrap_or_else(segment_bytes);
        if node.wal.max_bytes < node.wal.segment_bytes {
            return Err(format!(
                "--wal-max-bytes {} is less than a segment, --wal-segment-bytes {}",
                node.wal.max_bytes, node.wal.segment_bytes
            )
            .into());
        }
        Ok(())
    }

    /// The address that clients are told, if it is given.
    fn client_advertise(&self) -> Result<Option<String>, Failure> {
        match &self.client_advertise {
            Some(address) if split_address(address).is_none() => {
                Err(format!("--client-advertise: {address:?} is not HOST:PORT").into())
            }
            address => Ok(address.clone()),
        }
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let partition = self.partition.unwrap_or_default();
        if self.split_keys.is_some() && partition != Partition::Range {
            return Err("--split-keys goes with --partition range".into());
        }
        Ok(Plan {
            layout: partition.to_string(),
            keeps_layout: self.partition.is_none(),
            edge_bits: partition.edge_bits(),
            groups: self.groups,
            split_keys: self.split_keys.as_deref().map(read_split_keys).transpose()?,
            replicas: self.replicas.unwrap_or(3),
        })
    }
}

fn read_file(path: &Path) -> Result<ServeOptions, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("--config {}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("--config {}: {error}", path.display()).into())
}

fn read_split_keys(path: &Path) -> Result<Vec<Bytes>, Failure> {
    let text =
        std::fs::read(path).map_err(|error| format!("--split-keys {}: {error}", path.display()))?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(|line| Bytes::copy_from_slice(line.trim_ascii_end())).collect())
}

/// Host and port of an address.
pub(crate) fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

/// Parses `1=HOST:PORT,2=HOST:PORT`.
fn parse_cluster(text: &str) -> Result<BTreeMap<NodeId, String>, Failure> {
    let mut members = BTreeMap::new();
    for part in text.split(',') {
        let wrong = || format!("--cluster: {part:?} is not ID=HOST:PORT");
        let (id, address) = part.split_once('=').ok_or_else(wrong)?;
        let id: u64 = id.trim().parse().map_err(|_| wrong())?;
        if id == 0 {
            return Err("--cluster: node ids begin with 1".into());
        }
        if address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(wrong().into());
        }
        if members.insert(NodeId(id), address.to_owned()).is_some() {
            return Err(format!("--cluster: node {id} stands there twice").into());
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests;
