//! `logboat-bench rivals`: closed-loop clients that set keys in etcd or ZooKeeper, to be run beside
//! `resp`. All of them share one thread.

mod etcd;
mod zookeeper;

use self::etcd::Etcd;
use self::zookeeper::ZooKeeper;
use crate::one_thread::{self, Load};
use crate::report;
use clap::{Args, ValueEnum};
use logboat_bench::Failure;
use logboat_server::latency::per_second;
use serde::Serialize;
use std::io;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for what is read at once.
const READ_BYTES: usize = 4 << 10;

/// Closed-loop clients that set keys in another system, one after the other. It runs already.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// What it is.
    system: System,
    /// Where one of its servers is; the leader is the fastest.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// On which port: 2379 or 2181, if they have their own.
    #[arg(long)]
    port: u16,
    /// How many clients, each with a connection and a key.
    #[arg(long, default_value_t = 256)]
    clients: u64,
    /// The size of a value in bytes.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// How long to measure, after a second of the same load that does not count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum System {
    /// An etcd, by gRPC.
    Etcd,
    /// A ZooKeeper.
    Zookeeper,
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    clients: u64,
    payload_bytes: usize,
    writes_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    errors: u64,
}

/// The protocol of a system, on one connection.
trait Protocol {
    /// What is sent first, and makes the key.
    fn greeting(&mut self) -> Vec<u8>;

    /// How many answers the greeting has.
    const GREETING_ANSWERS: usize;

    /// Adds the request that sets the key.
    fn put_request(&mut self, value: &[u8], request: &mut Vec<u8>);

    /// Takes what has arrived whole off the front of `arrived`, up to the next answer. Returns
    /// whether that is a success. What has to be sent without an answer goes into `sent`.
    fn take_answer(&mut self, arrived: &mut Vec<u8>, sent: &mut Vec<u8>) -> Option<bool>;
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let load = Rc::new(Load::default());
    let report = one_thread::run(measure(options, &load))?;
    report::print(&report, options.json)
}

async fn measure(options: &Options, load: &Rc<Load>) -> Result<Report, Failure> {
    let mut clients = Vec::new();
    for number in 0..options.clients {
        let stream = one_thread::connect(&options.host, options.port).await?;
        let (load, value) = (Rc::clone(load), vec![b'x'; options.payload]);
        clients.push(match options.system {
            System::Etcd => {
                tokio::task::spawn_local(client(Etcd::new(number), stream, load, value))
            }
            System::Zookeeper => {
                tokio::task::spawn_local(client(ZooKeeper::new(number), stream, load, value))
            }
        });
    }
    let (elapsed, _) = load.measure(options.seconds, clients).await?;
    let latencies = load.latencies.borrow();
    Ok(Report {
        clients: options.clients,
        payload_bytes: options.payload,
        writes_per_s: per_second(latencies.count(), elapsed),
        p50_us: latencies.quantile_us(0.5),
        p99_us: latencies.quantile_us(0.99),
        errors: load.errors.get(),
    })
}

/// A client, which sets its key until the load ends.
async fn client<P: Protocol>(
    mut protocol: P,
    mut stream: TcpStream,
    load: Rc<Load>,
    value: Vec<u8>,
) -> io::Result<()> {
    let (mut request, mut arrived) = (protocol.greeting(), Vec::new());
    for _ in 0..P::GREETING_ANSWERS {
        ask(&mut protocol, &mut stream, &mut request, &mut arrived).await?;
    }
    while !load.ends.get() {
        protocol.put_request(&value, &mut request);
        let sent = Instant::now();
        let done = ask(&mut protocol, &mut stream, &mut request, &mut arrived).await?;
        if load.is_measured.get() {
            load.latencies.borrow_mut().record_all(sent.elapsed(), 1);
            load.errors.set(load.errors.get() + u64::from(!done));
        }
    }
    Ok(())
}

/// Sends a request, and waits for the next answer. Returns whether that is a success.
async fn ask<P: Protocol>(
    protocol: &mut P,
    stream: &mut TcpStream,
    request: &mut Vec<u8>,
    arrived: &mut Vec<u8>,
) -> io::Result<bool> {
    loop {
        stream.write_all(request).await?;
        request.clear();
        if let Some(done) = protocol.take_answer(arrived, request) {
            return Ok(done);
        }
        arrived.reserve(READ_BYTES);
        if request.is_empty() && stream.read_buf(arrived).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
