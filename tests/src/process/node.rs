//! One node: its process, its ports, its files.

use super::{NetworkNamespace, ProcessError, Program, eventually};
use redis::{Client, Connection};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How long a client waits for a connection or for a reply. It is longer than a node tries to find
/// a group's leader, so that the node's own answer ends the wait.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an admin page may take. A paused node answers never, and is asked again.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a node is started. All of it may be changed between two starts.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its id. The cluster may give another one to a node that joins.
    pub id: u64,
    /// What `--cluster` says.
    pub cluster: String,
    /// Where it is reached by its peers, if it joins the nodes of `cluster` in place of being one.
    pub peer_listen: Option<SocketAddr>,
    /// Where its log and snapshots live.
    pub data_dir: PathBuf,
    /// Where it listens for clients.
    pub host: Ipv4Addr,
    /// Where it serves the admin pages.
    pub admin_host: Ipv4Addr,
    /// The network that it runs in, if not that of who starts it.
    pub namespace: Option<Arc<NetworkNamespace>>,
    /// The port for Redis clients.
    pub client_port: u16,
    /// The port for the admin pages.
    pub admin_port: u16,
    /// Further options of `logboat serve`.
    pub options: Vec<String>,
}

/// A node that runs, or may be started. Its process ends with this value.
#[derive(Debug)]
pub struct NodeProcess {
    program: Program,
    spec: NodeSpec,
    /// Where its standard error goes, over all starts.
    log_file: PathBuf,
    child: Option<Child>,
}

impl NodeProcess {
    /// A node that does not run yet; its standard error will be added to `log_file`.
    #[must_use]
    pub const fn new(program: Program, spec: NodeSpec, log_file: PathBuf) -> Self {
        Self { program, spec, log_file, child: None }
    }

    /// Starts the process. Does not wait until it serves.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn start(&mut self) -> Result<(), ProcessError> {
        let log = File::options().create(true).append(true).open(&self.log_file)?;
        self.spawn(log.into())
    }

    /// Starts the process with a standard error that is a pipe without a reader.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn start_unheard(&mut self) -> Result<(), ProcessError> {
        self.spawn(Stdio::piped())?;
        drop(self.running()?.stderr.take());
        Ok(())
    }

    fn spawn(&mut self, stderr: Stdio) -> Result<(), ProcessError> {
        debug_assert!(self.child.is_none(), "node {} runs already", self.spec.id);
        let spawn = || self.command().stderr(stderr).spawn();
        let child = match &self.spec.namespace {
            Some(namespace) => namespace.within(spawn)?,
            None => spawn(),
        };
        self.child = Some(child?);
        Ok(())
    }

    /// Waits until the node serves clients.
    ///
    /// # Errors
    /// When its process ends instead, or it takes too long.
    pub fn ready(&mut self) -> Result<(), ProcessError> {
        let what = format!("node {} to serve clients", self.spec.id);
        let ready = eventually(&what, || {
            if let Some(status) = self.running()?.try_wait()? {
                self.child = None;
                return Err(self.ended(status));
            }
            Ok(self.page("/healthz").is_ok_and(|(status, _)| status == 200).then_some(()))
        });
        ready.map_err(|error| match error {
            ProcessError::InVain(what) => {
                let health = self.page("/healthz");
                ProcessError::InVain(format!("{what}; {health:?}; it said:\n{}", self.log()))
            }
            other => other,
        })
    }

    /// Starts the process, which must refuse to run, and gives what it said.
    ///
    /// # Errors
    /// When it ends without an error.
    pub fn start_refused(&mut self) -> Result<String, ProcessError> {
        let before = self.log().len();
        self.start()?;
        let status = self.wait()?;
        if status.success() {
            return Err(self.ended(status));
        }
        Ok(self.log().split_off(before))
    }

    /// Kills the process as a crash would (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<(), ProcessError> {
        self.running()?.kill()?;
        self.wait().map(drop)
    }

    /// Stops the process in its tracks (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused process go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT)
    }

    /// Lets the process open only so many files more than it has open now. Returns the limit before
    /// that, for [`Self::set_file_limit`].
    ///
    /// # Errors
    /// When it does not run, or the operating system refuses.
    pub fn starve_of_files(&mut self, more: u64) -> Result<Rlimit, ProcessError> {
        let pid = Pid::from_child(self.running()?);
        let open = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()))?.count() as u64;
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: Some(open + more), maximum };
        Ok(prlimit(Some(pid), Resource::Nofile, limit)?)
    }

    /// Sets how many files the process may have open.
    ///
    /// # Errors
    /// When it does not run, or the operating system refuses.
    pub fn set_file_limit(&mut self, limit: Rlimit) -> Result<(), ProcessError> {
        let pid = Pid::from_child(self.running()?);
        prlimit(Some(pid), Resource::Nofile, limit)?;
        Ok(())
    }

    /// Asks the process to end (SIGTERM).
    ///
    /// # Errors
    /// When it does not run.
    pub fn terminate(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::TERM)
    }

    /// Has the process read its certificates and secrets again (SIGHUP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn hang_up(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::HUP)
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        let what = format!("node {} to end", self.spec.id);
        let child = self.running()?;
        let status = eventually(&what, || Ok(child.try_wait()?))?;
        self.child = None;
        Ok(status)
    }

    /// Whether a process was started and not yet seen to end.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// A connection of a Redis client to this node, in RESP2.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn client(&self) -> Result<Connection, ProcessError> {
        connect(self.client_address())
    }

    /// An admin page: the HTTP status and the text.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn page(&self, path: &str) -> Result<(u16, String), ProcessError> {
        let wrong = |error: ureq::Error| self.page_error(path, &error.to_string());
        let url = format!("http://{}{path}", self.admin_address());
        let mut response = self.beside(|| agent().get(url).call())?.map_err(wrong)?;
        let text = response.body_mut().read_to_string().map_err(wrong)?;
        Ok((response.status().as_u16(), text))
    }

    /// Posts to an admin page, which takes it only on an address of loopback, be it in the node's
    /// own network: the HTTP status and the text.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<(u16, String), ProcessError> {
        let wrong = |error: ureq::Error| self.page_error(path, &error.to_string());
        let url = format!("http://{}{path}", self.admin_address());
        // An order may wait for a leader.
        let limit = |request: ureq::RequestBuilder<_>| {
            request.config().timeout_global(Some(CLIENT_TIMEOUT)).build()
        };
        let request = limit(agent().post(url)).content_type("application/json");
        let post = || request.send(&body.to_string());
        let mut response = self.beside(post)?.map_err(wrong)?;
        let text = response.body_mut().read_to_string().map_err(wrong)?;
        Ok((response.status().as_u16(), text))
    }

    /// Whether its process has ended by itself, or was never started.
    ///
    /// # Errors
    /// When the operating system refuses to say.
    pub fn has_ended(&mut self) -> Result<bool, ProcessError> {
        if let Some(child) = &mut self.child
            && child.try_wait()?.is_some()
        {
            self.child = None;
        }
        Ok(self.child.is_none())
    }

    /// Asks an admin page from where it is reached: an address of loopback is that of the node's
    /// own network.
    fn beside<T>(&self, ask: impl FnOnce() -> T) -> Result<T, ProcessError> {
        match &self.spec.namespace {
            Some(namespace) if self.spec.admin_host.is_loopback() => Ok(namespace.within(ask)?),
            _ => Ok(ask()),
        }
    }

    /// The page `/status`.
    ///
    /// # Errors
    /// When the node does not answer, or not with JSON.
    pub fn status(&self) -> Result<serde_json::Value, ProcessError> {
        let (_, text) = self.page("/status")?;
        serde_json::from_str(&text).map_err(|error| self.page_error("/status", &error.to_string()))
    }

    /// The sum of the samples of a metric over its labels.
    ///
    /// # Errors
    /// When the node does not answer, or does not know the metric.
    pub fn metric(&self, name: &str) -> Result<f64, ProcessError> {
        let (_, text) = self.page("/metrics")?;
        let samples = text.lines().filter_map(|line| {
            let labels = line.strip_prefix(name)?;
            let (labels, value) = labels.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().ok())?
        });
        let mut samples = samples.peekable();
        if samples.peek().is_none() {
            return Err(self.page_error("/metrics", &format!("there is no {name}")));
        }
        Ok(samples.sum())
    }

    /// Everything the process has written to standard error, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log_file)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// The executable.
    #[must_use]
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// How the node is started.
    #[must_use]
    pub const fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// Changes how the node is started next.
    pub const fn spec_mut(&mut self) -> &mut NodeSpec {
        &mut self.spec
    }

    /// Where Redis clients connect.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        (self.spec.host, self.spec.client_port).into()
    }

    /// Where the admin pages are.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        (self.spec.admin_host, self.spec.admin_port).into()
    }

    /// The directory of its log.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.spec.data_dir.join("wal")
    }

    fn command(&self) -> Command {
        let spec = &self.spec;
        let mut command = self.program.command();
        command.arg("serve");
        match spec.peer_listen {
            None => {
                command.args(["--node-id", &spec.id.to_string(), "--cluster", &spec.cluster]);
            }
            Some(address) => {
                let members = spec.cluster.split(',').filter_map(|it| it.split_once('='));
                let nodes: Vec<_> = members.map(|(_, address)| address).collect();
                command.args(["--join", &nodes.join(","), "--peer-listen", &address.to_string()]);
            }
        }
        command.arg("--data-dir").arg::<&Path>(&spec.data_dir);
        command.args(["--client-listen", &self.client_address().to_string()]);
        command.args(["--admin-listen", &self.admin_address().to_string()]);
        if !spec.host.is_loopback() {
            // The network of a namespace reaches no further than this machine.
            command.args(["--admin-open", "healthz,livez,metrics,readyz,status"]);
        }
        command.args(&spec.options);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn running(&mut self) -> Result<&mut Child, ProcessError> {
        self.child.as_mut().ok_or(ProcessError::NotRunning(self.spec.id))
    }

    fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        // The process has not been waited for, so its id is still its own.
        let pid = Pid::from_child(self.running()?);
        Ok(kill_process(pid, signal)?)
    }

    fn ended(&self, status: ExitStatus) -> ProcessError {
        ProcessError::Ended { node: self.spec.id, status, log: self.log() }
    }

    fn page_error(&self, page: &str, reason: &str) -> ProcessError {
        let (page, reason) = (page.to_owned(), reason.to_owned());
        ProcessError::Page { node: self.spec.id, page, reason }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way it is gone and waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("node {} said:\n{}", self.spec.id, self.log());
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PAGE_TIMEOUT))
        .http_status_as_error(false);
    ureq::Agent::new_with_config(config.build())
}

/// A connection of a Redis client to `address`, in RESP2.
///
/// # Errors
/// When nobody answers there.
fn connect(address: SocketAddr) -> Result<Connection, ProcessError> {
    let client = Client::open(format!("redis://{address}/"))?;
    let connection = client.get_connection_with_timeout(CLIENT_TIMEOUT)?;
    connection.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    Ok(connection)
}
