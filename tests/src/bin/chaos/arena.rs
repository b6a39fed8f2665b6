//! The cluster and everything that can befall it.

use crate::dice::Dice;
use crate::link::{Link, State};
use clap::ValueEnum;
use logboat_tests::process::{
    Cluster, ClusterSpec, NodeProcess, ProcessError, Program, SmallDisk, free_ports,
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// The size of a node's disk, where it has one of its own: small enough to be filled in no time,
/// large enough for the log and snapshots of a run.
const DISK_BYTES: u64 = 256 << 20;

/// What can befall a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// One node, two or all are killed.
    Kill,
    /// A node stops in its tracks.
    Pause,
    /// Links between nodes are cut or stalled, one way or both.
    Partition,
    /// There is no space left on a node's disk.
    DiskFull,
    /// A node's disk answers in fits and starts.
    SlowDisk,
}

/// A cluster whose nodes can be hurt.
pub(crate) struct Arena {
    cluster: Cluster,
    faults: Vec<Fault>,
    /// From which node to which, counted from 0 on.
    links: BTreeMap<(usize, usize), Link>,
    stutter: Option<Stutter>,
    /// The disks go after the processes that use them.
    disks: Vec<Arc<SmallDisk>>,
}

impl Arena {
    /// Starts a cluster. Faults of disks that this machine does not allow are left out, aloud; no
    /// faults mean all.
    pub(crate) fn start(
        nodes: u16,
        groups: usize,
        faults: &[Fault],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let options = [
            ("--groups", groups.to_string()),
            ("--election-timeout-ms", "600".to_owned()),
            ("--snapshot-log-bytes", "65536".to_owned()),
            ("--wal-segment-bytes", "65536".to_owned()),
            ("--wal-max-bytes", "4194304".to_owned()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let program = Program::new(std::env::current_exe()?);
        let cluster = Cluster::new(&ClusterSpec { program, nodes, options: options.collect() })?;
        let mut faults = if faults.is_empty() { Fault::value_variants() } else { faults }.to_vec();
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
        let mut arena = Self { cluster, faults, links: BTreeMap::new(), stutter: None, disks };
        // A cluster is born with the same addresses on all nodes. Then they move, so that each node
        // has its own way to every other.
        arena.cluster.start_all()?;
        for node in &mut arena.cluster.nodes {
            node.terminate()?;
            node.wait()?;
        }
        arena.put_links()?;
        arena.cluster.start_all()?;
        Ok(arena)
    }

    /// Where Redis clients connect.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.cluster.nodes.iter().map(NodeProcess::client_address).collect()
    }

    /// Lets something happen. Nothing does if there is nothing to choose from, or what was chosen is
    /// the case already.
    pub(crate) fn inflict(&mut self, dice: &mut Dice) -> Result<Option<Fault>, ProcessError> {
        if self.faults.is_empty() {
            return Ok(None);
        }
        let fault = self.faults[dice.below(self.faults.len())];
        let node = dice.below(self.cluster.nodes.len());
        let happened = match fault {
            Fault::Kill => self.kill(node, dice)?,
            Fault::Pause => self.pause(node)?,
            Fault::Partition => self.partition(node, dice),
            Fault::DiskFull => self.fill(node)?,
            Fault::SlowDisk => self.slow_down(node, dice),
        };
        Ok(happened.then_some(fault))
    }

    /// Makes everything well again and waits until all nodes serve clients.
    pub(crate) fn heal(&mut self) -> Result<(), ProcessError> {
        self.stutter = None;
        for disk in &self.disks {
            match fs::remove_file(ballast(disk)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        self.links.values().for_each(|link| link.set(State::Open));
        for node in self.cluster.nodes.iter_mut().filter(|node| node.is_started()) {
            node.resume()?;
        }
        self.cluster.start_all()
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

    /// Cuts a node's links to the others, theirs to it, both, or one pair of nodes off each other.
    fn partition(&self, node: usize, dice: &mut Dice) -> bool {
        let state = if dice.below(2) == 0 { State::Cut } else { State::Stalled };
        let other =
            (node + 1 + dice.below(self.cluster.nodes.len() - 1)) % self.cluster.nodes.len();
        let shape = dice.below(4);
        for (&(from, to), link) in &self.links {
            let hit = match shape {
                0 => from == node,
                1 => to == node,
                2 => from == node || to == node,
                _ => (from, to) == (node, other) || (from, to) == (other, node),
            };
            if hit {
                link.set(state);
            }
        }
        true
    }

    fn fill(&self, node: usize) -> Result<bool, ProcessError> {
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

    /// Has every node reach every other through a link of its own.
    fn put_links(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let members = self.cluster.node(1).spec().cluster.clone();
        let members = members.split(',').filter_map(|member| member.split_once('='));
        let members = members.map(|(_, address)| address.parse::<SocketAddr>());
        let members = members.collect::<Result<Vec<_>, _>>()?;
        for from in 0..members.len() {
            let mut seen = Vec::new();
            for (to, target) in members.iter().enumerate() {
                let address = if from == to {
                    *target
                } else {
                    let port = free_ports(1)?;
                    self.links.insert((from, to), Link::open(port, *target)?);
                    (Ipv4Addr::LOCALHOST, port).into()
                };
                seen.push(format!("{}={address}", to + 1));
            }
            self.cluster.nodes[from].spec_mut().cluster = seen.join(",");
        }
        Ok(())
    }
}

impl Fault {
    const fn needs_disk(self) -> bool {
        match self {
            Self::DiskFull | Self::SlowDisk => true,
            Self::Kill | Self::Pause | Self::Partition => false,
        }
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
