//! Nodes that come and go, and nodes that lose what they have.

use crate::dice::Dice;
use crate::links::Links;
use logboat_tests::process::{Cluster, NodeProcess, ProcessError, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The most nodes beside those that the cluster is made with.
pub(crate) const MOST_GUESTS: usize = 2;

/// How long a node may be silent before the others replace it: longer than any other fault lasts.
pub(crate) const LOST_AFTER: &str = "6s";

/// How many replicas the groups have.
const REPLICAS: usize = 3;

/// The most bits that flip at once.
const MOST_FLIPS: usize = 8;

/// The nodes that have joined, and those that are about to leave.
pub(crate) struct Members {
    /// Nodes beside those with which the cluster was made, by their places.
    guests: [Option<NodeProcess>; MOST_GUESTS],
    /// The nodes that leave the cluster, with the ids that they had.
    leaving: Vec<(Place, u64)>,
    /// The node whose data were hurt since the last healing. Another one may hold the last copy.
    pub(crate) hurt: Option<usize>,
    /// What nodes are started with that join.
    options: Vec<String>,
    /// How many have been guests.
    guests_so_far: u64,
}

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Among those with which the cluster was made.
    Seat(usize),
    Guest(usize),
}

impl Members {
    /// Nothing has happened yet. Nodes that join are started with these options, but for those that
    /// make a cluster.
    pub(crate) fn new(options: &[String]) -> Self {
        Self {
            guests: [const { None }; MOST_GUESTS],
            leaving: Vec::new(),
            hurt: None,
            options: without_groups(options),
            guests_so_far: 0,
        }
    }

    /// The guests.
    pub(crate) fn guests(&self) -> impl Iterator<Item = &NodeProcess> {
        self.guests.iter().flatten()
    }

    /// A node joins. Nothing happens if there are as many as there may be.
    pub(crate) fn join(&mut self, cluster: &Cluster, links: &Links) -> Result<bool, ProcessError> {
        let Some(place) = self.guests.iter().position(Option::is_none) else { return Ok(false) };
        self.guests_so_far += 1;
        let number = cluster.nodes.len() as u64 + self.guests_so_far;
        let options: Vec<_> = self.options.iter().map(String::as_str).collect();
        let mut node = cluster.joining(number, &options)?;
        if let Some((namespace, host)) = links.spare_place(place) {
            let spec = node.spec_mut();
            let port = spec.peer_listen.map_or(0, |address| address.port());
            spec.peer_listen = Some((host, port).into());
            (spec.host, spec.admin_host) = (host, Ipv4Addr::LOCALHOST);
            spec.namespace = Some(namespace);
        }
        node.start()?;
        self.guests[place] = Some(node);
        Ok(true)
    }

    /// Has a node leave for good, if that makes sense now.
    pub(crate) fn decommission(
        &mut self,
        cluster: &Cluster,
        dice: &mut Dice,
    ) -> Result<bool, ProcessError> {
        let guests = (0..MOST_GUESTS).filter(|place| self.guests[*place].is_some());
        let seats = (0..cluster.nodes.len()).map(Place::Seat);
        let places: Vec<_> = seats.chain(guests.map(Place::Guest)).collect();
        let place = places[dice.below(places.len())];
        let asked = &cluster.nodes[dice.below(cluster.nodes.len())];
        if !self.leaving.is_empty() || !self.is_whole(cluster) {
            return Ok(false);
        }
        let leaver = match place {
            Place::Seat(seat) => Some(&cluster.nodes[seat]),
            Place::Guest(guest) => self.guests[guest].as_ref(),
        };
        let Some(id) = leaver.and_then(id_of) else { return Ok(false) };
        // Refused where too few would stay.
        let posted = asked.post("/nodes/decommission", &json!({ "nodes": [id] }));
        let is_taken = posted.is_ok_and(|(code, _)| code == 200);
        if is_taken {
            self.leaving.push((place, id));
        }
        Ok(is_taken)
    }

    /// A node is killed and its directory emptied. When it comes back, it joins as a new one.
    pub(crate) fn wipe(
        &mut self,
        cluster: &mut Cluster,
        seat: usize,
    ) -> Result<bool, ProcessError> {
        if self.hurt.is_some() || !self.is_whole(cluster) {
            return Ok(false);
        }
        self.hurt = Some(seat);
        let node = &mut cluster.nodes[seat];
        node.kill()?;
        start_anew(node)?;
        Ok(true)
    }

    /// Bits flip in what a node has stored, while it does not run.
    pub(crate) fn flip(
        &mut self,
        cluster: &mut Cluster,
        seat: usize,
        dice: &mut Dice,
    ) -> Result<bool, ProcessError> {
        let flips = 1 + dice.below(MOST_FLIPS);
        if self.hurt.is_some() || !self.is_whole(cluster) {
            return Ok(false);
        }
        self.hurt = Some(seat);
        let node = &mut cluster.nodes[seat];
        node.kill()?;
        let files = stored_files(&node.spec().data_dir)?;
        for _ in 0..flips {
            flip_bit(&files[dice.below(files.len())], dice)?;
        }
        node.start()?;
        Ok(true)
    }

    /// Notes which of those have ended by now that are to leave: nothing can be done to them.
    pub(crate) fn look(&mut self, cluster: &mut Cluster) -> Result<(), ProcessError> {
        for (place, _) in &self.leaving {
            match *place {
                Place::Seat(seat) => _ = cluster.nodes[seat].has_ended()?,
                Place::Guest(guest) => {
                    if let Some(node) = &mut self.guests[guest] {
                        node.has_ended()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until those have left that are to leave, and has others come in their seats. All nodes
    /// have been started.
    pub(crate) fn see_off(&mut self, cluster: &mut Cluster) -> Result<(), ProcessError> {
        for (place, id) in std::mem::take(&mut self.leaving) {
            let leaver = match place {
                Place::Seat(seat) => &mut cluster.nodes[seat],
                Place::Guest(guest) => match &mut self.guests[guest] {
                    Some(node) => node,
                    None => continue,
                },
            };
            // One that was away for too long meanwhile was given up, and is another node by now.
            let is_gone = eventually(&format!("node {id} to leave"), || {
                if leaver.has_ended()? {
                    return Ok(Some(true));
                }
                Ok(id_of(leaver).is_some_and(|now| now != id).then_some(false))
            })?;
            match place {
                Place::Seat(seat) if is_gone => {
                    start_anew(&mut cluster.nodes[seat])?;
                    cluster.nodes[seat].start()?;
                }
                Place::Guest(guest) if is_gone => {
                    if let Some(node) = self.guests[guest].take() {
                        fs::remove_dir_all(&node.spec().data_dir)?;
                    }
                }
                Place::Seat(_) | Place::Guest(_) => {}
            }
        }
        self.hurt = None;
        Ok(())
    }

    /// Waits until the guests serve clients.
    pub(crate) fn await_guests(&mut self) -> Result<(), ProcessError> {
        self.guests.iter_mut().flatten().try_for_each(NodeProcess::ready)
    }

    /// Whether all nodes are there with what they had, and every group has all of its replicas.
    fn is_whole(&self, cluster: &Cluster) -> bool {
        let mut ids = BTreeSet::new();
        for node in cluster.nodes.iter().chain(self.guests()) {
            let Ok(status) = node.status() else { return false };
            let is_well = status["ready"] == true
                && status["failed"].as_array().is_some_and(Vec::is_empty)
                && status["groups_without_leader"] == 0;
            match status["node_id"].as_u64() {
                Some(id) if is_well => _ = ids.insert(id),
                _ => return false,
            }
        }
        let page = |path| -> Option<Value> {
            let (_, text) = cluster.nodes.first()?.page(path).ok()?;
            serde_json::from_str(&text).ok()
        };
        let (Some(groups), Some(nodes)) = (page("/groups"), page("/nodes")) else { return false };
        let is_up = |node: &Value| node["state"] == "up" && holds(&ids, &node["id"]);
        let replicas = REPLICAS.min(ids.len());
        let is_full = |group: &Value| {
            let voters = group["voters"].as_array().map(Vec::as_slice).unwrap_or_default();
            let learners = group["learners"].as_array().is_some_and(Vec::is_empty);
            voters.len() >= replicas && learners && voters.iter().all(|node| holds(&ids, node))
        };
        let all = |page: &Value, is: &dyn Fn(&Value) -> bool| {
            page.as_array().is_some_and(|them| !them.is_empty() && them.iter().all(is))
        };
        all(&nodes["nodes"], &is_up) && all(&groups["groups"], &is_full)
    }
}

fn holds(ids: &BTreeSet<u64>, id: &Value) -> bool {
    id.as_u64().is_some_and(|id| ids.contains(&id))
}

fn id_of(node: &NodeProcess) -> Option<u64> {
    node.status().ok()?["node_id"].as_u64()
}

/// Empties the directory of a node that does not run, and has it join when it is started.
fn start_anew(node: &mut NodeProcess) -> Result<(), ProcessError> {
    // The directory itself may be where a disk is mounted.
    for entry in fs::read_dir(&node.spec().data_dir)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    let spec = node.spec_mut();
    if spec.peer_listen.is_none() {
        spec.peer_listen = Some(own_address(&spec.cluster, spec.id)?);
        spec.options = without_groups(&spec.options);
    }
    Ok(())
}

/// Where a node of `--cluster` is.
fn own_address(cluster: &str, id: u64) -> Result<SocketAddr, ProcessError> {
    let members = cluster.split(',').filter_map(|member| member.split_once('='));
    let mut own = members.filter(|(member, _)| *member == id.to_string());
    let address = own.next().and_then(|(_, address)| address.parse().ok());
    address.ok_or(ProcessError::NotRunning(id))
}

/// The options but for that which makes a cluster.
fn without_groups(options: &[String]) -> Vec<String> {
    let mut options = options.to_vec();
    if let Some(at) = options.iter().position(|option| option == "--groups") {
        options.drain(at..=at + 1);
    }
    options
}

/// The files of a directory that hold what its node has promised, and something at all.
fn stored_files(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![data_dir.join("BOOT"), data_dir.join("PEERS")];
    for directory in ["wal", "snapshots"] {
        for entry in fs::read_dir(data_dir.join(directory))? {
            files.push(entry?.path());
        }
    }
    files.retain(|file| file.metadata().is_ok_and(|file| file.is_file() && file.len() > 0));
    // The order of a directory is nobody's plan.
    files.sort_unstable();
    Ok(files)
}

fn flip_bit(path: &Path, dice: &mut Dice) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let at = dice.below(file.metadata()?.len() as usize) as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << dice.below(8);
    file.write_all_at(&byte, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_a_cluster_is_left_out_where_a_node_joins() {
        let options = ["--a", "1", "--groups", "7", "--b", "2"].map(str::to_owned);
        assert_eq!(without_groups(&options), ["--a", "1", "--b", "2"]);
        assert_eq!(without_groups(&options[..2]), ["--a", "1"]);
        let address = own_address("1=127.0.0.1:1,12=127.0.0.1:12,2=127.0.0.1:2", 2).unwrap();
        assert_eq!(address.port(), 2);
    }

    #[test]
    fn one_bit_of_a_file_flips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, [0; 16]).unwrap();
        flip_bit(&path, &mut Dice::new(1)).unwrap();
        let ones: u32 = fs::read(&path).unwrap().iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(ones, 1);
    }
}
