//! `logboat demo`: a whole cluster in one process, under a mixed load.

use crate::admin_guard::AdminGuard;
use crate::debug::DebugCommand;
use crate::descriptors;
use crate::front::FrontGuard;
use crate::latency::{Latencies, per_second, ratio};
use crate::layout::Partition;
use crate::load::{self, Load};
use crate::options::{GivenSettings, NodeOptions};
use crate::output::{Failure, print};
use crate::process::available_memory;
use crate::security::{PeersGuard, Security};
use crate::serve::{Server, interrupted, runtime};
use crate::settings::Settings;
use crate::store_kind::StoreKind;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use logboat::{NodeConfig, NodeId};
use logboat_router::Plan;
use logboat_security::{CertificateAuthority, ClientAuth, Own, PortTls, Role, Tls, TlsFiles};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A cluster of several nodes in one process over loopback TCP, with real logs and real syncs.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoOptions {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// How many groups the key space is cut into.
    #[arg(long, default_value_t = 1_000)]
    groups: usize,
    /// How long the load runs.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where the data lives: a directory a node. A temporary one, removed at the end, if not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the nodes keep keys and values.
    #[arg(long, value_name = "disk|memory", default_value_t = StoreKind::Memory)]
    store: StoreKind,
    /// End when the load has run, instead of staying up for clients.
    #[arg(long)]
    exit: bool,
    /// Have everything encrypted, and clients and admins show certificates, which are made for it.
    #[arg(long)]
    tls: bool,
    /// The port of the first node for Redis clients; the others follow.
    #[arg(long, default_value_t = 6401)]
    client_port_base: u16,
    /// The port of the first node for its peers; the others follow.
    #[arg(long, default_value_t = 7401)]
    peer_port_base: u16,
    /// The port of the first node's admin pages; the others follow.
    #[arg(long, default_value_t = 8401)]
    admin_port_base: u16,
}

/// The name of the demo's cluster.
const CLUSTER: &str = "demo";

/// Where its certificates are, in the directory of its data.
const CERTIFICATES: &str = "certificates";

/// How long they hold.
const VALID: Duration = Duration::from_secs(30 * 86_400);

/// Concurrent callers of the load.
const CLIENTS: usize = 256;

/// Runs the demo.
pub(crate) fn run(options: DemoOptions) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let interrupted = interrupted()?;
        tokio::pin!(interrupted);
        let temporary = match options.data_dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("logboat-demo-").tempdir()?),
        };
        let data_dir = match (&options.data_dir, &temporary) {
            (Some(dir), _) => dir.clone(),
            (None, Some(dir)) => dir.path().to_owned(),
            (None, None) => unreachable!("either a directory is given or one was made"),
        };
        let servers = tokio::select! {
            servers = start(&options, &data_dir) => servers?,
            () = &mut interrupted => return Ok(()),
        };
        let result = tokio::select! {
            result = show(&options, &servers) => result,
            () = &mut interrupted => return stop(servers).await,
        };
        result?;
        if !options.exit {
            print(&how_to_connect(&options, &data_dir))?;
            interrupted.await;
        }
        stop(servers).await
    })
}

async fn stop(servers: Vec<Server>) -> Result<(), Failure> {
    let mut stopping: JoinSet<()> = servers.into_iter().map(Server::stop).collect();
    while let Some(stopped) = stopping.join_next().await {
        stopped?;
    }
    Ok(())
}

/// Starts all nodes and waits until every group has a leader.
async fn start(options: &DemoOptions, data_dir: &Path) -> Result<Vec<Server>, Failure> {
    let bar = ProgressBar::new(options.groups as u64).with_style(ProgressStyle::with_template(
        "starting {len} groups {wide_bar} {pos} have a leader",
    )?);
    let descriptors = descriptors::raise_limit()? / u64::from(options.nodes);
    let authority = options.tls.then(|| Certificates::in_dir(data_dir)).transpose()?;
    let starting = (1..=options.nodes).map(|number| {
        let options = node_options(options, data_dir, number, authority.as_ref());
        async move { Server::start(options?.within(descriptors)?).await }
    });
    let mut starting: JoinSet<_> = starting.collect();
    let mut servers = Vec::new();
    while let Some(server) = starting.join_next().await {
        servers.push(server??);
    }
    servers.sort_by_key(|server| server.node().id());
    loop {
        let led: usize = leaders(&servers).iter().sum();
        bar.set_position(led as u64);
        // The meta group has a leader as well.
        if led > options.groups {
            bar.finish_and_clear();
            return Ok(servers);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn node_options(
    options: &DemoOptions,
    data_dir: &Path,
    number: u16,
    certificates: Option<&Certificates>,
) -> Result<NodeOptions, Failure> {
    let port = |base: u16, number: u16| {
        let port = base.checked_add(number - 1).ok_or("the ports go beyond 65535")?;
        Ok::<_, Failure>(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    let members = (1..=options.nodes)
        .map(|node| Ok((NodeId(node.into()), port(options.peer_port_base, node)?.to_string())))
        .collect::<Result<BTreeMap<_, _>, Failure>>()?;
    let mut node =
        NodeConfig::new(NodeId(number.into()), members, data_dir.join(format!("node-{number}")))?;
    node.cluster_name = CLUSTER.to_owned();
    let security = match certificates {
        Some(certificates) => certificates.security(number)?,
        None => Security::default(),
    };
    node.tls.clone_from(&security.peers.tls);
    let plan = Plan {
        layout: Partition::default().to_string(),
        keeps_layout: true,
        edge_bits: Partition::default().edge_bits(),
        groups: Some(options.groups),
        split_keys: None,
        replicas: 3,
    };
    Ok(NodeOptions {
        node,
        plan: Some(plan),
        given: BTreeMap::new(),
        joining: None,
        zone: String::new(),
        placement: GivenSettings::default(),
        client_advertise: None,
        client_listen: port(options.client_port_base, number)?,
        admin_listen: Some(port(options.admin_port_base, number)?),
        store: options.store,
        security,
        settings: Settings {
            max_memory_bytes: available_memory() / 2 / u64::from(options.nodes),
            ..Settings::default()
        },
        debug_command: DebugCommand::No,
    })
}

/// Runs the load and prints what it did.
async fn show(options: &DemoOptions, servers: &[Server]) -> Result<(), Failure> {
    let bar = ProgressBar::new(options.seconds * 1_000)
        .with_style(ProgressStyle::with_template("{msg} {wide_bar} {elapsed} of the load")?);
    let before = log_counts(servers);
    let load = Load::start(servers.iter().map(Server::backend), CLIENTS);
    let started = Instant::now();
    let length = Duration::from_secs(options.seconds);
    while started.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bar.set_position(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        bar.set_message(format!("{} operations", load.operations()));
    }
    let elapsed = started.elapsed();
    let report = load.stop().await?;
    bar.finish_and_clear();
    let after = log_counts(servers);
    print(&table(options, servers, &report, elapsed, (after.0 - before.0, after.1 - before.1)))
}

/// Entries written and syncs made by all logs.
fn log_counts(servers: &[Server]) -> (u64, u64) {
    let statuses = servers.iter().map(|server| server.node().status().wal);
    statuses.fold((0, 0), |(entries, syncs), wal| (entries + wal.entries, syncs + wal.syncs))
}

fn leaders(servers: &[Server]) -> Vec<usize> {
    servers.iter().map(|server| server.node().status().leaders).collect()
}

fn table(
    options: &DemoOptions,
    servers: &[Server],
    report: &load::Report,
    elapsed: Duration,
    (entries, syncs): (u64, u64),
) -> String {
    let leaders: Vec<_> = leaders(servers).iter().map(ToString::to_string).collect();
    let mut lines = vec![format!("{:<22} {:>12} {:>12}", "", "writes", "reads")];
    let mut row = |name: &str, value: &dyn Fn(&Latencies) -> String| {
        let (writes, reads) = (value(&report.writes), value(&report.reads));
        lines.push(format!("{name:<22} {writes:>12} {reads:>12}"));
    };
    row("a second", &|of| format!("{:.0}", per_second(of.count(), elapsed)));
    for (name, quantile) in [("p50 ms", 0.5), ("p99 ms", 0.99), ("max ms", 1.0)] {
        row(name, &|of| format!("{:.2}", ratio(of.quantile_us(quantile), 1_000)));
    }
    lines.push(format!("{:<22} {:>12}", "errors", report.errors));
    lines.push(format!("{:<22} {:>12.1}", "entries a sync", ratio(entries, syncs)));
    lines.push(format!("{:<22} {:>12}", "groups", options.groups));
    lines.push(format!("{:<22} {:>12}\n", "leaders a node", leaders.join(" / ")));
    lines.join("\n")
}

fn how_to_connect(options: &DemoOptions, data_dir: &Path) -> String {
    let (client, admin) = (options.client_port_base, options.admin_port_base);
    let last = client + options.nodes - 1;
    let (cli, status) = if options.tls {
        let dir = data_dir.join(CERTIFICATES);
        let of = |name: &str| dir.join(name).display().to_string();
        let (ca, shown) = (of("client/ca.crt"), of("client/client"));
        let (admin_ca, admins) = (of("admin/ca.crt"), of("admin/admin"));
        let tls = format!("--tls --cacert {ca} --cert {shown}.crt --key {shown}.key");
        let shown = format!("--tls-ca {admin_ca} --tls-cert {admins}.crt --tls-key {admins}.key");
        let status = format!("logboat status --admin localhost:{admin} {shown}");
        (format!("redis-cli -h localhost {tls}"), status)
    } else {
        ("redis-cli".to_owned(), format!("curl http://127.0.0.1:{admin}/status"))
    };
    format!(
        "\nThe cluster stays up. Any node takes any key:\n  \
         {cli} -p {client} SET greeting hello\n  \
         {cli} -p {last} GET greeting\n  \
         {status}\n\
         Ctrl-C ends it.\n",
    )
}

/// The certificates of the demo, as `logboat cert` makes them.
struct Certificates {
    authority: CertificateAuthority,
    dir: PathBuf,
}

impl Certificates {
    /// Those of an earlier run over the same data are replaced.
    fn in_dir(data_dir: &Path) -> Result<Self, Failure> {
        let dir = data_dir.join(CERTIFICATES);
        let (authority, issued) = CertificateAuthority::new(CLUSTER, VALID)?;
        std::fs::create_dir_all(&dir)?;
        issued.write(&dir, "ca")?;
        let certificates = Self { authority, dir };
        certificates.issue("client", "client", Role::Client(CLUSTER.to_owned()))?;
        certificates.issue("admin", "admin", Role::Admin)?;
        Ok(certificates)
    }

    fn issue(&self, dir: &str, name: &str, role: Role) -> Result<TlsFiles, Failure> {
        let hosts = ["localhost", "127.0.0.1"].map(str::to_owned);
        Ok(self.authority.issue_files(&self.dir.join(dir), name, role, &hosts, VALID)?)
    }

    /// What guards the ports of a node.
    fn security(&self, number: u16) -> Result<Security, Failure> {
        let id = number.into();
        let files = self.issue(&format!("node-{number}"), "node", Role::Peer(Some(id)))?;
        let tls = Tls::open(files, CLUSTER, Own::Peer(id))?;
        let required = Some(PortTls { tls: tls.clone(), required: true });
        Ok(Security {
            tls: Some(tls),
            peers: PeersGuard { tls: required.clone(), secret: None },
            clients: FrontGuard {
                tls: required.clone(),
                client_auth: ClientAuth::Required,
                passwords: None,
            },
            admin: AdminGuard { tls: required, ..AdminGuard::default() },
        })
    }
}
