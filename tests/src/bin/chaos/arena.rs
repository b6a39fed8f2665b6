//! The cluster and everything that can befall it.

use crate::dice::Dice;
use crate::link::State;
use crate::links::{LinkKind, Links};
use crate::members::{self, Members};
use clap::ValueEnum;
use logboat_tests::process::{
    Certificates, Cluster, ClusterSpec, NodeProcess, ProcessError, Program, SmallDisk,
};
use redis::{Client, Connection};
use rustix::process::Rlimit;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, fs, io};

/// The size of a node's disk, where it has one of its own. It is filled quickly, and still holds
/// the log and snapshots of a run.
const DISK_BYTES: u64 = 256 << 20;

/// How many more files a node may open that is short of descriptors.
const FILES_LEFT: u64 = 64;

/// How many idle clients come then.
const IDLE_CLIENTS: usize = 200;

/// How long one of them waits for its connection.
const IDLE_PATIENCE: Duration = Duration::from_millis(100);

/// The most groups of which state machines hang, if not those of all.
const HUNG_GROUPS: usize = 16;

/// What can befall a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// One node, two or all are killed.
    Kill,
    /// A node stops in its tracks.
    Pause,
    /// Links between nodes are cut or stalled, one way or both, of one node or between many.
    Partition,
    /// There is no space left on a node's disk.
    DiskFull,
    /// A node's disk answers in fits and starts.
    SlowDisk,
    /// A node may open hardly any more files, and idle clients take what there is.
    Descriptors,
    /// A node is killed and started with a standard error that nobody reads.
    Unheard,
    /// State machines of a node hang for a while: of some groups, or of all.
    HungApply,
    /// A node joins the cluster.
    Join,
    /// A node leaves for good, and another one comes in its place.
    Decommission,
    /// A node is killed for good and its directory emptied. Another one comes in its place.
    Wipe,
    /// Bits flip in what a node has stored, while it does not run.
    Flip,
}

/// Gives the nodes of a cluster certificates, and has them speak TLS.
fn lock(cluster: &mut Cluster) -> Result<Certificates, ProcessError> {
    let certificates = Certificates::new(cluster.dir().join("certificates"))?;
    certificates.hand_out(cluster)?;
    for node in &mut cluster.nodes {
        let options = ["--tls-peers", "required", "--tls-clients", "required"];
        node.spec_mut().options.extend(options.map(str::to_owned));
    }
    Ok(certificates)
}

/// A cluster whose nodes can be hurt.
pub(crate) struct Arena {
    /// It thaws its disk as it goes, so it goes first; the disks are detached before the cluster
    /// clears away the directory where they are.
    stutter: Option<Stutter>,
    /// The nodes that are short of descriptors.
    starved: Vec<Starved>,
    /// Those who had state machines hang, and wait for the end of that.
    hanging: Vec<Connection>,
    disks: Vec<Arc<SmallDisk>>,
    cluster: Cluster,
    members: Members,
    /// Those of the nodes, if they speak TLS.
    certificates: Option<Certificates>,
    faults: Vec<Fault>,
    links: Links,
}

impl Arena {
    /// Starts a cluster. Faults of disks that this machine does not allow are left out, aloud; no
    /// faults mean all.
    pub(crate) fn start(
        nodes: u16,
        groups: usize,
        faults: &[Fault],
        links: LinkKind,
        tls: bool,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let options = [
            ("--groups", groups.to_string()),
            ("--election-timeout-ms", "600".to_owned()),
            ("--snapshot-log-bytes", "65536".to_owned()),
            ("--wal-segment-bytes", "65536".to_owned()),
            ("--wal-max-bytes", "4194304".to_owned()),
            ("--enable-debug-command", "yes".to_owned()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let mut options: Vec<_> = options.collect();
        let mut faults = if faults.is_empty() { Fault::value_variants() } else { faults }.to_vec();
        if tls && faults.iter().any(|fault| fault.concerns_members()) {
            println!("join, decommission, wipe and flip are left out: certificates name nodes");
            faults.retain(|fault| !fault.concerns_members());
        }
        let has_members = faults.iter().any(|fault| fault.concerns_members());
        if has_members {
            options.extend(["--lost-after", members::LOST_AFTER].map(str::to_owned));
        }
        // The nodes are not to outlive a run that is killed.
        let program = Program::new(std::env::current_exe()?).tied();
        let members = Members::new(&options);
        let mut cluster = Cluster::new(&ClusterSpec { program, nodes, options })?;
        let mut disks = Vec::new();
        if faults.iter().any(|fault| fault.needs_disk()) {
            match mount_disks(&cluster) {
                Ok(mounted) => disks = mounted,
                Err(error) => {
                    println!("disk-full and slow-disk are left out: {error}");
                    faults.retain(|fault| !fault.needs_disk());
                }
            }
        }
        if nodes == 1 {
            faults.retain(|fault| *fault != Fault::Partition);
        }
        let spare_places = if has_members { members::MOST_GUESTS } else { 0 };
        let links = Links::put(&mut cluster, links, spare_places)?;
        let certificates = tls.then(|| lock(&mut cluster)).transpose()?;
        let mut arena = Self {
            stutter: None,
            starved: Vec::new(),
            hanging: Vec::new(),
            disks,
            cluster,
            members,
            certificates,
            faults,
            links,
        };
        arena.cluster.start_all()?;
        Ok(arena)
    }

    /// A client of each node, those that have joined last.
    pub(crate) fn clients(&self) -> Result<Vec<Client>, ProcessError> {
        let nodes = self.cluster.nodes.iter().chain(self.members.guests());
        let addresses = nodes.map(NodeProcess::client_address);
        let client = |address: SocketAddr| match &self.certificates {
            Some(certificates) => certificates.client(address, None),
            None => Ok(Client::open(format!("redis://{address}/"))?),
        };
        addresses.map(client).collect()
    }

    /// Lets something happen. Nothing does if there is nothing to choose from, or what was chosen
    /// is the case already.
    pub(crate) fn inflict(&mut self, dice: &mut Dice) -> Result<Option<Fault>, ProcessError> {
        if self.faults.is_empty() {
            return Ok(None);
        }
        self.members.look(&mut self.cluster)?;
        let fault = self.faults[dice.below(self.faults.len())];
        let node = dice.below(self.cluster.nodes.len());
        let happened = match fault {
            Fault::Kill => self.kill(node, dice)?,
            Fault::Pause => self.pause(node)?,
            Fault::Partition => self.partition(node, dice)?,
            Fault::DiskFull => self.fill(node)?,
            Fault::SlowDisk => self.slow_down(node, dice),
            Fault::Descriptors => self.starve(node)?,
            Fault::Unheard => self.start_unheard(node)?,
            Fault::HungApply => self.hang(node, dice)?,
            Fault::Join => self.members.join(&self.cluster, &self.links)?,
            Fault::Decommission => self.members.decommission(&self.cluster, dice)?,
            Fault::Wipe => !self.is_full(node) && self.members.wipe(&mut self.cluster, node)?,
            Fault::Flip => {
                !self.is_full(node) && self.members.flip(&mut self.cluster, node, dice)?
            }
        };
        Ok(happened.then_some(fault))
    }

    /// Makes everything well again and waits until all nodes serve clients.
    pub(crate) fn heal(&mut self) -> Result<(), ProcessError> {
        self.stutter = None;
        self.hanging.clear();
        self.members.look(&mut self.cluster)?;
        for Starved { node, limit, .. } in self.starved.drain(..) {
            let node = &mut self.cluster.nodes[node];
            // One that was started since has the usual limit, so this changes nothing.
            if node.is_started() {
                node.set_file_limit(limit)?;
            }
        }
        for disk in &self.disks {
            match fs::remove_file(ballast(disk)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        self.links.open_all()?;
        for node in self.cluster.nodes.iter_mut().filter(|node| node.is_started()) {
            node.resume()?;
        }
        for node in self.cluster.nodes.iter_mut().filter(|node| !node.is_started()) {
            node.start()?;
        }
        self.members.see_off(&mut self.cluster)?;
        self.cluster.start_all()?;
        self.members.await_guests()
    }

    /// Whether what fills the disk of a node would go with its data.
    fn is_full(&self, node: usize) -> bool {
        self.disks.get(node).is_some_and(|disk| ballast(disk).exists())
    }

    /// Half of the times one node, else some of the others as well.
    fn kill(&mut self, first: usize, dice: &mut Dice) -> Result<bool, ProcessError> {
        let nodes = self.cluster.nodes.len();
        let count = if dice.below(2) == 0 { 1 } else { 1 + dice.below(nodes) };
        let mut killed = false;
        for offset in 0..count {
            let node = &mut self.cluster.nodes[(first + offset) % nodes];
            if node.is_started() {
                node.kill()?;
                killed = true;
            }
        }
        Ok(killed)
    }

    fn pause(&mut self, node: usize) -> Result<bool, ProcessError> {
        let node = &mut self.cluster.nodes[node];
        if !node.is_started() {
            return Ok(false);
        }
        node.pause()?;
        Ok(true)
    }

    /// Cuts or stalls the links that a shape with `node` in its middle says. Whether there are any.
    fn partition(&mut self, node: usize, dice: &mut Dice) -> Result<bool, ProcessError> {
        let state = if dice.below(2) == 0 { State::Cut } else { State::Stalled };
        let shape = Shape::ALL[dice.below(Shape::ALL.len())];
        let nodes = self.cluster.nodes.len();
        // Counted from `node` on.
        let place = |other: usize| (other + nodes - node) % nodes;
        let mut happened = false;
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from) {
                if shape.closes(place(from), place(to), nodes) {
                    self.links.set(from, to, state)?;
                    happened = true;
                }
            }
        }
        Ok(happened)
    }

    fn starve(&mut self, node: usize) -> Result<bool, ProcessError> {
        let process = &mut self.cluster.nodes[node];
        if !process.is_started() || self.starved.iter().any(|starved| starved.node == node) {
            return Ok(false);
        }
        let limit = process.starve_of_files(FILES_LEFT)?;
        let address = process.client_address();
        let connect = |_| TcpStream::connect_timeout(&address, IDLE_PATIENCE).ok();
        let idle = (0..IDLE_CLIENTS).map_while(connect).collect();
        self.starved.push(Starved { node, limit, _idle: idle });
        Ok(true)
    }

    fn start_unheard(&mut self, node: usize) -> Result<bool, ProcessError> {
        let node = &mut self.cluster.nodes[node];
        if !node.is_started() {
            return Ok(false);
        }
        node.kill()?;
        node.start_unheard()?;
        Ok(true)
    }

    /// Has the state machines of some groups hang, or those of all: they do so at their next
    /// command.
    fn hang(&mut self, node: usize, dice: &mut Dice) -> Result<bool, ProcessError> {
        let seconds = dice.time_ms(200..3_000).as_secs_f64();
        let client = &self.clients()?[node];
        let keys = if dice.below(3) == 0 { 0 } else { 1 + dice.below(HUNG_GROUPS) };
        let mut happened = false;
        for number in 0..keys.max(1) {
            // A node that is down, or takes no clients, hangs well enough.
            let Ok(mut connection) = client.get_connection_with_timeout(IDLE_PATIENCE) else {
                break;
            };
            let mut sleep = redis::cmd("DEBUG");
            sleep.arg("SLEEP").arg(seconds);
            if keys > 0 {
                sleep.arg(format!("{}:{number}", dice.below(usize::MAX)));
            }
            if connection.send_packed_command(&sleep.get_packed_command()).is_ok() {
                self.hanging.push(connection);
                happened = true;
            }
        }
        Ok(happened)
    }

    fn fill(&self, node: usize) -> Result<bool, ProcessError> {
        if self.members.hurt == Some(node) {
            return Ok(false);
        }
        let disk = &self.disks[node];
        disk.fill(&ballast(disk))?;
        Ok(true)
    }

    fn slow_down(&mut self, node: usize, dice: &mut Dice) -> bool {
        if self.stutter.is_some() {
            return false;
        }
        self.stutter = Some(Stutter::start(Arc::clone(&self.disks[node]), dice.split()));
        true
    }
}

/// A node that may open hardly any more files, until it is healed.
struct Starved {
    node: usize,
    /// What it may have open otherwise.
    limit: Rlimit,
    /// Clients that ask nothing.
    _idle: Vec<TcpStream>,
}

/// Which links fail together. Places are those of a circle that begins with the node concerned.
#[derive(Clone, Copy)]
enum Shape {
    /// The node is not heard.
    Mute,
    /// The node does not hear.
    Deaf,
    /// Neither.
    Alone,
    /// The node and the next one don't reach each other.
    Pair,
    /// Two sides, of which the node's is the smaller one.
    Sides,
    /// Two sides that only the node reaches, as a bridge.
    Bridge,
    /// The node reaches only the next one, and of five or more the last one reaches nobody. The
    /// next one is a bridge to a majority, which it is one of.
    Pendant,
}

impl Shape {
    const ALL: [Self; 7] =
        [Self::Mute, Self::Deaf, Self::Alone, Self::Pair, Self::Sides, Self::Bridge, Self::Pendant];

    /// Whether the link between two places out of `nodes` fails.
    const fn closes(self, from: usize, to: usize, nodes: usize) -> bool {
        match self {
            Self::Mute => from == 0,
            Self::Deaf => to == 0,
            Self::Alone => from == 0 || to == 0,
            Self::Pair => from + to == 1,
            Self::Sides => (from < nodes / 2) != (to < nodes / 2),
            Self::Bridge => from != 0 && to != 0 && (from <= nodes / 2) != (to <= nodes / 2),
            Self::Pendant => {
                let hangs = (from == 0 && to != 1) || (to == 0 && from != 1);
                let alone = nodes >= 5 && (from == nodes - 1 || to == nodes - 1);
                hangs || alone
            }
        }
    }
}

impl Fault {
    const fn needs_disk(self) -> bool {
        match self {
            Self::DiskFull | Self::SlowDisk => true,
            Self::Kill
            | Self::Pause
            | Self::Partition
            | Self::Descriptors
            | Self::Unheard
            | Self::HungApply
            | Self::Join
            | Self::Decommission
            | Self::Wipe
            | Self::Flip => false,
        }
    }

    /// Whether nodes come or go, or lose what they have.
    const fn concerns_members(self) -> bool {
        matches!(self, Self::Join | Self::Decommission | Self::Wipe | Self::Flip)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::DiskFull => "disk-full",
            Self::SlowDisk => "slow-disk",
            Self::Descriptors => "descriptors",
            Self::Unheard => "unheard",
            Self::HungApply => "hung-apply",
            Self::Join => "join",
            Self::Decommission => "decommission",
            Self::Wipe => "wipe",
            Self::Flip => "flip",
        })
    }
}

/// Gives every node a disk of its own.
fn mount_disks(cluster: &Cluster) -> io::Result<Vec<Arc<SmallDisk>>> {
    let nodes = cluster.nodes.iter();
    nodes
        .map(|node| SmallDisk::mount_image(&node.spec().data_dir, DISK_BYTES).map(Arc::new))
        .collect()
}

/// The file that takes up the space of a disk.
fn ballast(disk: &SmallDisk) -> PathBuf {
    disk.path().join("ballast")
}

/// A disk that stands still again and again, until this value goes.
struct Stutter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stutter {
    fn start(disk: Arc<SmallDisk>, mut dice: Dice) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = disk.freeze() {
                    eprintln!("no slow disk: {error}");
                    return;
                }
                thread::sleep(dice.time_ms(10..800));
                if let Err(error) = disk.thaw() {
                    eprintln!("{}: stays frozen: {error}", disk.path().display());
                }
                thread::sleep(dice.time_ms(1..50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Stutter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has printed what went wrong.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_closes_the_links_that_it_says() {
        let closed = |shape: Shape, nodes: usize| {
            let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
            let closed = pairs.filter(|&(from, to)| from != to && shape.closes(from, to, nodes));
            closed.collect::<Vec<_>>()
        };
        assert_eq!(closed(Shape::Mute, 3), [(0, 1), (0, 2)]);
        assert_eq!(closed(Shape::Deaf, 3), [(1, 0), (2, 0)]);
        assert_eq!(closed(Shape::Alone, 3), [(0, 1), (0, 2), (1, 0), (2, 0)]);
        assert_eq!(closed(Shape::Pair, 3), [(0, 1), (1, 0)]);
        assert_eq!(closed(Shape::Sides, 3), closed(Shape::Alone, 3));
        assert_eq!(closed(Shape::Bridge, 3), [(1, 2), (2, 1)]);
        assert_eq!(closed(Shape::Bridge, 2), []);
        assert_eq!(closed(Shape::Pendant, 3), [(0, 2), (2, 0)]);
        // 0 and 1 against the rest; 1 and 2 against 3 and 4, with 0 between them.
        assert_eq!(closed(Shape::Sides, 5).len(), 2 * 2 * 3);
        let bridge = closed(Shape::Bridge, 5);
        assert_eq!(bridge.len(), 2 * 2 * 2);
        assert!(bridge.contains(&(1, 4)) && bridge.contains(&(3, 2)) && !bridge.contains(&(1, 2)));
        // 0 with 1, which is with 2 and 3; 4 is alone.
        let pendant = closed(Shape::Pendant, 5);
        assert_eq!(pendant.len(), 2 * (2 + 4));
        let open = [(0, 1), (1, 2), (1, 3), (2, 3)];
        assert!(open.iter().all(|&(one, other)| !pendant.contains(&(one, other))));
    }
}
