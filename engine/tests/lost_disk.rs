//! A node that comes back with an empty disk has forgotten its votes and its acknowledgements. Its
//! peers must notice that it is not the node that it was, and it must take no part.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Counter, TestResult, number};
use logboat::wal::WalError;
use logboat::{GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId, StartError, Tuning};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const GROUP: GroupId = GroupId(1);

fn start(
    node: NodeId,
    members: &BTreeMap<NodeId, String>,
    dir: &Path,
) -> Result<(Node, GroupHandle), Box<dyn Error>> {
    let mut config = NodeConfig::new(node, members.clone(), dir)?;
    config.heartbeat_interval = Duration::from_millis(20);
    config.tuning = Tuning { election_timeout: Duration::from_millis(300), ..Tuning::default() };
    config.wal.segment_bytes = 1 << 20;
    let node = Node::start(config)?;
    let replicas = members.keys().copied().collect();
    let machine = Box::<Counter>::default();
    let preferred = Some(NodeId(1));
    let group = node.create_group(GroupSpec { group: GROUP, replicas, preferred, machine })?;
    Ok((node, group))
}

fn last_error(node: &Node, peer: NodeId) -> String {
    let peers = node.status().peers;
    let peer = peers.into_iter().find(|status| status.node == peer);
    peer.and_then(|peer| peer.last_error).unwrap_or_default()
}

#[tokio::test]
async fn a_node_with_an_empty_disk_is_refused_by_all_and_told_so() -> TestResult {
    let ports: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = ports.iter().map(|port| port.local_addr().unwrap().to_string());
    let members: BTreeMap<_, _> = [NodeId(1), NodeId(2)].into_iter().zip(addresses).collect();
    drop(ports);
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let (one, group) = start(NodeId(1), &members, dirs[0].path())?;
    let (two, _) = start(NodeId(2), &members, dirs[1].path())?;
    group.view().led().await;
    assert_eq!(number(&group.propose(Bytes::from_static(b"+")).await?), 1);
    two.stop();
    drop(two);

    let empty = tempfile::tempdir()?;
    let (two, forgetful) = start(NodeId(2), &members, empty.path())?;
    let refused = "by another data directory";
    while !(last_error(&one, NodeId(2)).contains(refused)
        && last_error(&two, NodeId(1)).contains(refused))
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(forgetful.view().leader(), None);
    two.stop();
    drop(two);

    // With its own disk it is welcome again.
    let (two, _) = start(NodeId(2), &members, dirs[1].path())?;
    let answer = loop {
        group.view().led().await;
        if let Ok(answer) = group.propose(Bytes::from_static(b"+")).await {
            break answer;
        }
    };
    assert!(number(&answer) >= 2);
    two.stop();
    one.stop();
    Ok(())
}

/// A disk may not be mounted at one start, and be there at the next. So the node must not give up
/// its id for that.
#[tokio::test]
async fn what_is_missing_as_a_whole_is_no_damage() -> TestResult {
    let members = BTreeMap::from([(NodeId(1), free_address()?)]);
    let dir = tempfile::tempdir()?;
    let config = || NodeConfig::new(NodeId(1), members.clone(), dir.path()).unwrap();
    let (node, group) = start(NodeId(1), &members, dir.path())?;
    group.view().led().await;
    node.stop();
    drop((node, group));
    let refused = |is_damage: bool| {
        let error = Node::start(config()).err().unwrap();
        assert_eq!(error.is_damage(), is_damage, "{error}");
    };
    let aside = dir.path().join("aside");
    for name in ["wal", "snapshots", "BOOT"] {
        fs::rename(dir.path().join(name), &aside)?;
        refused(false);
        fs::rename(&aside, dir.path().join(name))?;
    }
    let wal = dir.path().join("wal");
    fs::rename(&wal, &aside)?;
    fs::create_dir(&wal)?;
    refused(false);
    fs::remove_dir_all(&wal)?;
    fs::rename(&aside, &wal)?;
    // Bytes that are there and are not what was written are damage.
    let path = wal.join("0000000001.wal");
    let mut content = fs::read(&path)?;
    content[16] ^= 1;
    fs::write(&path, content)?;
    refused(true);
    Ok(())
}

#[test]
fn what_another_build_wrote_or_a_device_can_t_read_is_no_damage() {
    let (file, what) = (PathBuf::from("0000000001.wal"), "format version 8".to_owned());
    let newer = WalError::OtherVersion { file: file.clone(), what };
    let refused = WalError::Io { path: file, source: io::Error::other("EIO") };
    for error in [newer, refused] {
        assert!(!StartError::from(error).is_damage());
    }
}

fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

#[tokio::test]
async fn a_missing_snapshot_is_named() -> TestResult {
    let port = TcpListener::bind("127.0.0.1:0")?;
    let members = BTreeMap::from([(NodeId(1), port.local_addr()?.to_string())]);
    drop(port);
    let dir = tempfile::tempdir()?;
    let (node, group) = start(NodeId(1), &members, dir.path())?;
    let file = dir.path().join("snapshots").join(format!("{GROUP}.snap"));
    // When there is a second snapshot, the log begins after the first.
    let mut inodes = BTreeSet::new();
    while inodes.len() < 2 {
        let _busy_or_leaderless = group.propose(Bytes::from_static(b"+")).await;
        group.compact();
        inodes.extend(fs::metadata(&file).ok().map(|metadata| metadata.ino()));
    }
    node.stop();
    drop((node, group));
    fs::remove_file(&file)?;
    let error = start(NodeId(1), &members, dir.path()).err().unwrap().to_string();
    let expected =
        format!("group {GROUP}: {}: it is missing, though the log begins", file.display());
    assert!(error.starts_with(&expected), "{error}");
    Ok(())
}
