//! A cluster of `logboat serve` processes, and clients that write to it over the Redis protocol.

use logboat_bench::Failure;
use logboat_bench::cluster::free_addresses;
use logboat_server::admin::StatusPage;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
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
    /// Removed last.
    _dir: TempDir,
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
        let mut servers = Self { nodes: Vec::new(), _dir: dir };
        for (id, (clients, admin)) in (1..).zip(clients.iter().zip(admins)) {
            let data_dir = servers._dir.path().join(format!("node-{id}"));
            let log_file = data_dir.with_extension("log");
            let mut command = Command::new(&program);
            command.args(["serve", "--node-id", &format!("{id}"), "--cluster", &members]);
            command.args(["--client-listen", clients, "--admin-listen", admin]);
            command.arg("--data-dir").arg(data_dir).args(options);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log_file)?);
            let (clients, admin, child) = (clients.clone(), admin.clone(), command.spawn()?);
            servers.nodes.push(Server { command, child, clients, admin, log_file });
        }
        Ok(servers)
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
        let config = ureq::Agent::config_builder().timeout_global(Some(PAGE_TIMEOUT));
        let agent = ureq::Agent::new_with_config(config.build());
        let Ok(mut page) = agent.get(format!("http://{}/status", self.admin)).call() else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_str(&page.body_mut().read_to_string()?)?))
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
