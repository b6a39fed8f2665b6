//! Closed-loop clients of a server, all of them on one thread, and the time in which they count.

use logboat_bench::Failure;
use logboat_bench::process::cpu_time;
use logboat_server::latency::Latencies;
use std::cell::{Cell, RefCell};
use std::io;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet};

/// How long clients run before anything counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// What the clients share.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) is_measured: Cell<bool>,
    pub(crate) ends: Cell<bool>,
    /// From the moment at which a request, or its pipeline, was sent to the one at which its answer
    /// was read.
    pub(crate) latencies: RefCell<Latencies>,
    /// How many of these were reads.
    pub(crate) reads: Cell<u64>,
    pub(crate) errors: Cell<u64>,
}

impl Load {
    /// Lets the clients count for so long, and ends them. Returns how long that was, and the
    /// processor time of this process.
    pub(crate) async fn measure(
        &self,
        seconds: u64,
        clients: Vec<JoinHandle<io::Result<()>>>,
    ) -> Result<(Duration, Duration), Failure> {
        tokio::time::sleep(WARM_UP).await;
        let (start, cpu) = (Instant::now(), cpu_time());
        self.is_measured.set(true);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let taken = (start.elapsed(), cpu_time().saturating_sub(cpu));
        self.is_measured.set(false);
        self.ends.set(true);
        for client in clients {
            client.await??;
        }
        Ok(taken)
    }
}

/// Runs what starts clients by [`spawn_local`](tokio::task::spawn_local).
pub(crate) fn run<T>(bench: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = LocalSet::new();
    runtime.block_on(clients.run_until(bench))
}

/// A client's connection.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
