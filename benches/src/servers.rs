//! A cluster of `logboat serve` processes, and clients that write to it over the Redis protocol.

use logboat_bench::Failure;
use logboat_bench::cluster::free_addresses;
use logboat_server::admin::StatusPage;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

/// How many processes, each a node; every group has a replica on each.
pub(crate) const NODES: u64 = 3;

/// How long a status page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The processes, which end with this value, and their files.
pub(crate) struct Servers {
    /// Node 1 first.
    pub(crate) nodes: Vec<Server>,
    program: PathBuf,
    /// Where nodes are reached by their peers, which joined nodes are told.
    peers: String,
    /// How many processes were started.
    started: usize,
    /// Removed last.
    dir: TempDir,
}

/// Measures until a signal asks the bench to stop. Then it fails, so that what it has started ends
/// with the values that hold it.
pub(crate) async fn until_stopped<T>(
    measure: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        measured = measure => measured,
        _ = terminate.recv() => Err("terminated".into()),
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

/// One node's process.
pub(crate) struct Server {
    /// What starts the process.
    command: Command,
    child: Child,
    /// Where Redis clients connect.
    pub(crate) clients: String,
    admin: String,
    data_dir: PathBuf,
    log_file: PathBuf,
}

impl Servers {
    /// Starts the processes on free ports of loopback, with `options` besides those that make them
    /// a cluster. Does not wait until they serve.
    pub(crate) fn start(options: &[String]) -> Result<Self, Failure> {
        let program = program()?;
        allow_many_connections()?;
        let dir = tempfile::Builder::new().prefix("logboat-bench-").tempdir()?;
        let addresses: Vec<_> = free_addresses(3 * NODES)?.into_values().collect();
        let mut kinds = addresses.chunks_exact(usize::try_from(NODES)?);
        let mut kind = || kinds.next().expect("three addresses a node");
        let (peers, clients, admins) = (kind(), kind(), kind());
        let members = (1..).zip(peers).map(|(id, address)| format!("{id}={address}"));
        let members = members.collect::<Vec<_>>().join(",");
        let (nodes, started, peers) = (Vec::new(), 0, peers.join(","));
        let mut servers = Self { nodes, program, peers, started, dir };
        for (id, (clients, admin)) in (1..).zip(clients.iter().zip(admins)) {
            let who = ["--node-id".to_owned(), format!("{id}")];
            let who = [&who[..], &["--cluster".to_owned(), members.clone()]].concat();
            servers.spawn(&who, clients, admin, options)?;
        }
        Ok(servers)
    }

    /// Starts another process, which joins the cluster. Does not wait until it serves.
    pub(crate) fn join(&mut self, options: &[String]) -> Result<(), Failure> {
        let addresses: Vec<_> = free_addresses(3)?.into_values().collect();
        let [peers, clients, admin] = &addresses[..] else { return Err("no free ports".into()) };
        let join = ["--join".to_owned(), self.peers.clone()];
        let join = [&join[..], &["--peer-listen".to_owned(), peers.clone()]].concat();
        self.spawn(&join, clients, admin, options)
    }

    fn spawn(
        &mut self,
        who: &[String],
        clients: &str,
        admin: &str,
        options: &[String],
    ) -> Result<(), Failure> {
        self.started += 1;
        let data_dir = self.dir.path().join(format!("node-{}", self.started));
        let log_file = data_dir.with_extension("log");
        let mut command = Command::new(&self.program);
        command.arg("serve").args(who);
        command.args(["--client-listen", clients, "--admin-listen", admin]);
        command.arg("--data-dir").arg(&data_dir).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log_file)?);
        let (clients, admin) = (clients.to_owned(), admin.to_owned());
        let child = command.spawn()?;
        self.nodes.push(Server { command, child, clients, admin, data_dir, log_file });
        Ok(())
    }

    /// Where the data of all nodes live.
    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }
}

impl Server {
    /// Its status page; nothing while it does not answer.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn status(&mut self) -> Result<Option<StatusPage>, Failure> {
        if let Some(status) = self.child.try_wait()? {
            return Err(self.ended(status));
        }
        Ok(self.page("status").ok())
    }

    /// One of its admin pages.
    pub(crate) fn page<T: DeserializeOwned>(&self, page: &str) -> Result<T, Failure> {
        let mut page = agent().get(format!("http://{}/{page}", self.admin)).call()?;
        Ok(serde_json::from_str(&page.body_mut().read_to_string()?)?)
    }

    /// One of the counters and gauges of its metrics.
    pub(crate) fn metric(&self, name: &str) -> Result<u64, Failure> {
        let mut page = agent().get(format!("http://{}/metrics", self.admin)).call()?;
        let text = page.body_mut().read_to_string()?;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        let value = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
        value.ok_or_else(|| format!("there is no metric {name}").into())
    }

    /// Gives it an order.
    pub(crate) fn post(&self, page: &str, order: &impl Serialize) -> Result<(), Failure> {
        let order = serde_json::to_string(order)?;
        let request = agent().post(format!("http://{}/{page}", self.admin));
        let mut answer = request.header("Content-Type", "application/json").send(order)?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(answer.body_mut().read_to_string()?.into()),
        }
    }

    /// Deletes what it has, once it was killed.
    pub(crate) fn wipe(&self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.data_dir)
    }

    /// Asks the process to end (SIGTERM).
    pub(crate) fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// Whether the process has ended, as it should.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub(crate) fn has_ended(&mut self) -> Result<bool, Failure> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => Err(self.ended(status)),
            ended => Ok(ended.is_some()),
        }
    }

    /// Starts the process again, which has ended.
    pub(crate) fn start_again(&mut self) -> io::Result<()> {
        self.child = self.command.spawn()?;
        Ok(())
    }

    /// Kills the process as a crash would (SIGKILL).
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        let log = std::fs::read_to_string(&self.log_file).unwrap_or_default();
        format!("a node ended with {status}; its log:\n{log}").into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone and waited for.
        let _ = self.kill();
    }
}

/// A client that sets keys, one after the other.
pub(crate) struct Client(BufStream<TcpStream>);

impl Client {
    /// Connects to a node.
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // Thousands of clients don't need the usual buffers of thousands of bytes.
        Ok(Self(BufStream::with_capacity(128, 128, stream)))
    }

    /// Sets a key and returns the error, if that was the node's answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn set(&mut self, key: &str, value: &str) -> io::Result<Result<(), String>> {
        let (key_bytes, value_bytes) = (key.len(), value.len());
        let request =
            format!("*3\r\n$3\r\nSET\r\n${key_bytes}\r\n{key}\r\n${value_bytes}\r\n{value}\r\n");
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await?;
        let mut reply = String::new();
        if self.0.read_line(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(if reply.starts_with('+') { Ok(()) } else { Err(reply) })
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(PAGE_TIMEOUT));
    ureq::Agent::new_with_config(config.http_status_as_error(false).build())
}

/// The server's binary, which stands beside this one.
fn program() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?.with_file_name("logboat");
    let profile = if cfg!(debug_assertions) { "" } else { "--release " };
    let missing = |path: &Path| {
        let path = path.display();
        format!("there is no {path}: build it with `cargo build {profile}-p logboat-server`")
    };
    if program.is_file() { Ok(program) } else { Err(missing(&program).into()) }
}

/// Raises the limit of open files to what the system allows this process and its children.
fn allow_many_connections() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
