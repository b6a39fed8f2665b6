//! Network namespaces: networks apart from this machine's own, with interfaces, addresses and
//! routes that nobody else sees.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where `ip netns` keeps the namespaces that have names.
const NAMED: &str = "/var/run/netns";

/// How many this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace. It has no name, so it ends with this value and the last process in it,
/// however these end. All interfaces in it end with it.
#[derive(Debug)]
pub struct NetworkNamespace(File);

impl NetworkNamespace {
    /// A namespace without any interface that is up.
    ///
    /// # Errors
    /// When this process may not make one, or there is no program `ip`.
    pub fn new() -> io::Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("logboat-{}-{number}", std::process::id());
        // An earlier process of the same id may have been killed before it took the name away.
        let _ = netns("delete", &name);
        netns("add", &name)?;
        let file = File::open(Path::new(NAMED).join(&name));
        netns("delete", &name)?;
        Ok(Self(file?))
    }

    /// Moves the calling thread into the namespace: from now on its sockets, the processes and the
    /// threads that it starts belong there.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Does something in the namespace. A thread that panics there stays there.
    ///
    /// # Errors
    /// When the operating system does not let the thread in or out.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let home = Self(File::open("/proc/thread-self/ns/net")?);
        self.enter()?;
        let result = work();
        home.enter()?;
        Ok(result)
    }

    /// Carries out commands of `ip` in the namespace, one a line, up to the first that fails.
    ///
    /// # Errors
    /// When one fails.
    pub fn ip(&self, commands: &str) -> io::Result<()> {
        let output = self.within(|| {
            let mut ip = Command::new("ip");
            ip.args(["-batch", "-"]);
            let piped = ip.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = piped.spawn().map_err(of_ip)?;
            // What it has not read when it fails does not matter; what it says of that does.
            let _ = child.stdin.take().map(|mut stdin| stdin.write_all(commands.as_bytes()));
            child.wait_with_output()
        })??;
        succeeded(&output)
    }

    /// The file by which other processes find the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

fn netns(command: &str, name: &str) -> io::Result<()> {
    succeeded(&Command::new("ip").args(["netns", command, name]).output().map_err(of_ip)?)
}

fn succeeded(output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip: {}", reason.trim())))
}

fn of_ip(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("ip: {error}"))
}
