//! `logboat-bench front`: what a command costs on its way through the Redis front, stage by stage,
//! over stores of several kinds.

use crate::report;
use bytes::{Bytes, BytesMut};
use clap::Args;
use logboat::{Node, NodeConfig};
use logboat_bench::Failure;
use logboat_bench::cluster::free_addresses;
use logboat_router::{Plan, Router};
use logboat_server::backend::{Backend, RangeId, StoreAnswers};
use logboat_server::cluster::ClusterBackend;
use logboat_server::commands::{Added, Context, Pipeline};
use logboat_server::kv::{DataMemory, Store};
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use logboat_server::resp::{Protocol, Request, RequestParser};
use logboat_server::server_state::{Facts, ServerState};
use logboat_server::session::{Registration, Session, Socket};
use logboat_server::settings::Settings;
use serde::Serialize;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The nodes of the clusters whose commands go to other nodes.
const NODES: u64 = 3;

/// The Redis front's cost of a command: SET with random keys, in pipelines. The figures are medians
/// over all pipelines, in nanoseconds a command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many commands are carried out together.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pipeline: u64,
    /// The size of a value in bytes.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// How long to measure over each kind of store.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The costs over each kind of store.
#[derive(Serialize)]
struct Report {
    pipeline: u64,
    payload_bytes: usize,
    /// Over a map in memory, cut in a thousand.
    map: Costs,
    /// Over one group of one node.
    one_group: Costs,
    /// Over a thousand groups of one node.
    thousand_groups: Costs,
    /// Over those of a thousand groups of three nodes that other nodes lead.
    led_elsewhere: Costs,
}

/// Nanoseconds a command.
#[derive(Serialize)]
struct Costs {
    /// From bytes to arguments.
    parse_ns: u64,
    /// From arguments to a request to the store.
    dispatch_ns: u64,
    /// From a request to the inboxes of workers and the queues of other nodes.
    route_ns: u64,
    /// Until all answers are there; of one pipeline at a time.
    wait_ns: u64,
    /// From an answer to the bytes of a reply.
    reply_ns: u64,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let map = MemoryBackend::even(Partition::Hash, 1_000, Limits::default());
        let map = measure(options, &map, |_| true).await?;
        let one = Cluster::start(1, 1).await?;
        let one_group = one.measure(options, |_| true).await?;
        one.stop();
        let many = Cluster::start(1, 1_000).await?;
        let thousand_groups = many.measure(options, |_| true).await?;
        many.stop();
        let three = Cluster::start(NODES, 1_000).await?;
        let led_elsewhere = three.measure(options, |range| !three.leads(range)).await?;
        three.stop();
        Ok::<_, Failure>(Report {
            pipeline: options.pipeline,
            payload_bytes: options.payload,
            map,
            one_group,
            thousand_groups,
            led_elsewhere,
        })
    })?;
    if options.json {
        return report::print(&report, true);
    }
    println!(
        "{:<16} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "ns a command", "parse", "dispatch", "route", "wait", "reply"
    );
    for (name, costs) in [
        ("map", &report.map),
        ("one group", &report.one_group),
        ("1,000 groups", &report.thousand_groups),
        ("led elsewhere", &report.led_elsewhere),
    ] {
        let Costs { parse_ns, dispatch_ns, route_ns, wait_ns, reply_ns } = costs;
        println!(
            "{name:<16} {parse_ns:>8} {dispatch_ns:>8} {route_ns:>8} {wait_ns:>8} {reply_ns:>8}"
        );
    }
    Ok(())
}

/// Nodes in this process, the first of which takes the commands.
struct Cluster {
    nodes: Vec<Node>,
    router: Router,
    _dir: TempDir,
}

impl Cluster {
    async fn start(nodes: u64, groups: usize) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("logboat-bench-").tempdir()?;
        let members = free_addresses(nodes)?;
        let replicas = usize::try_from(nodes)?;
        let plan = Plan {
            layout: "hash".into(),
            groups: Some(groups),
            keeps_layout: false,
            edge_bits: 16,
            split_keys: None,
            replicas,
        };
        let mut cluster = Vec::new();
        let mut starting = Vec::new();
        for id in members.keys() {
            let path = dir.path().join(format!("node-{id}"));
            let node = Node::start(NodeConfig::new(*id, members.clone(), path)?)?;
            cluster.push(node.clone());
            let router = Router::start(node, plan.clone(), |_| Box::new(Store::new()));
            starting.push(tokio::spawn(router));
        }
        let mut routers = Vec::new();
        for router in starting {
            routers.push(router.await??);
        }
        let started = Self { nodes: cluster, router: routers.swap_remove(0), _dir: dir };
        started.wait_for_leaders().await?;
        Ok(started)
    }

    /// Waits until every group has a leader, as the first node sees it.
    async fn wait_for_leaders(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(60);
        for range in self.router.map().ranges() {
            let replica = self.nodes[0].group(range.group);
            let replica = replica.ok_or("a group has no replica on the first node")?;
            let wait = deadline.saturating_duration_since(Instant::now());
            tokio::time::timeout(wait, replica.view().led()).await?;
        }
        Ok(())
    }

    /// Whether the first node leads a range.
    fn leads(&self, range: RangeId) -> bool {
        let group = self.router.map().ranges()[range.0].group;
        let leader = self.nodes[0].group(group).and_then(|replica| replica.view().leader());
        leader == Some(self.nodes[0].id())
    }

    async fn measure(
        &self,
        options: &Options,
        takes: impl Fn(RangeId) -> bool,
    ) -> Result<Costs, Failure> {
        let limits = Limits::default();
        let backend = ClusterBackend::new(self.router.clone(), Partition::Hash, limits);
        measure(options, &backend, takes).await
    }

    fn stop(&self) {
        self.nodes.iter().for_each(Node::stop);
    }
}

/// A connection without a socket.
struct Connection {
    server: ServerState,
    session: Session,
    parser: RequestParser,
    _registration: Registration,
}

impl Connection {
    fn new() -> Self {
        let address = ([127, 0, 0, 1], 0).into();
        let facts = Box::new(Facts::default);
        // On a busy machine everything takes long, and an entry of the slow log takes several times
        // as long as the reply that is measured.
        let settings = Settings { slow_log_slower_than_us: -1, ..Settings::default() };
        let data = DataMemory::default();
        let server = ServerState::new(address, 128 << 20, data, settings, facts);
        let socket = Socket { address, local_address: address, descriptor: 0 };
        let registration = server.clients.register(socket);
        Self {
            session: Session::new(registration.client.clone()),
            server,
            parser: RequestParser::new(Limits::default()),
            _registration: registration,
        }
    }
}

/// The costs over `backend`, with keys of the ranges that `takes` takes.
async fn measure<B: Backend>(
    options: &Options,
    backend: &B,
    takes: impl Fn(RangeId) -> bool,
) -> Result<Costs, Failure> {
    let mut connection = Connection::new();
    let value = "x".repeat(options.payload);
    let is_taken =
        |key: &String| takes(backend.range_of(&backend.partition().stored(key.as_bytes())));
    let mut keys = (0_u64..).map(|number| {
        format!("key:{:012}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000)
    });
    let mut stages = [const { Vec::new() }; 5];
    let end = Instant::now() + Duration::from_secs(options.seconds);
    while Instant::now() < end {
        let mut input = BytesMut::new();
        for key in keys.by_ref().filter(is_taken).take(usize::try_from(options.pipeline)?) {
            let (key_bytes, value_bytes) = (key.len(), value.len());
            let set = format!("*3\r\n$3\r\nSET\r\n${key_bytes}\r\n{key}\r\n${value_bytes}\r\n");
            input.extend_from_slice(set.as_bytes());
            input.extend_from_slice(value.as_bytes());
            input.extend_from_slice(b"\r\n");
        }
        let times = carry_out(&mut connection, backend, input).await?;
        for (stage, time) in stages.iter_mut().zip(times) {
            stage.push(u64::try_from(time.as_nanos())? / options.pipeline);
        }
    }
    let [parse_ns, dispatch_ns, route_ns, wait_ns, reply_ns] = stages.map(median);
    Ok(Costs { parse_ns, dispatch_ns, route_ns, wait_ns, reply_ns })
}

/// Carries out a pipeline; returns how long each stage took.
async fn carry_out<B: Backend>(
    connection: &mut Connection,
    backend: &B,
    mut input: BytesMut,
) -> Result<[Duration; 5], Failure> {
    let Connection { server, session, parser, .. } = connection;
    let started = Instant::now();
    let mut requests: Vec<Vec<Bytes>> = Vec::new();
    while let Some(request) = parser.next(&mut input)? {
        let Request::Command(arguments) = request else {
            return Err("a command was refused".into());
        };
        requests.push(arguments);
    }
    let parsed = Instant::now();
    let mut pipeline = Pipeline::default();
    let mut context = Context { backend, server, session };
    let count = requests.len();
    for request in requests {
        if !matches!(pipeline.add(&mut context, request), Added::Here) {
            // Two commands on one key would go together; these are writes.
            return Err("a command does not go with those before it".into());
        }
    }
    let asked = pipeline.next_round(server).ok_or("nothing is asked")?;
    let dispatched = Instant::now();
    let mut answers = backend.request_all(asked);
    let routed = Instant::now();
    let mut come = Vec::new();
    while let Some(mut some) = answers.next().await {
        come.append(&mut some);
    }
    let answered = Instant::now();
    pipeline.answered(come);
    let mut output = BytesMut::new();
    let took = answered - dispatched;
    while let Some(reply) = pipeline.next_reply(server, &session.client, took) {
        reply.encode(Protocol::Resp2, &mut output);
    }
    pipeline.count(server, took);
    let replied = Instant::now();
    if output.len() != count * b"+OK\r\n".len() {
        return Err(format!("not all was set: {}", output.escape_ascii()).into());
    }
    Ok([
        parsed - started,
        dispatched - parsed,
        routed - dispatched,
        answered - routed,
        replied - answered,
    ])
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
