//! Three nodes, a group on all of them, and a leader that is killed.
//!
//! `cargo run -p logboat --example three_nodes`
//!
//! Nodes 1 and 2 run in this process. Node 3 runs in a child process, leads the group, and is
//! killed. The two that are left elect another leader, and no value is lost.

use logboat::{
    Bytes, GroupHandle, GroupId, GroupRequest, GroupSpec, Node, NodeConfig, NodeId, ReadMode,
    RequestError, SnapshotWriter, StateMachine,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::sleep;

const GROUP: GroupId = GroupId(1);
const CHILD: NodeId = NodeId(3);

/// Where the child finds its data directory and the addresses of all nodes.
const DIR: &str = "THREE_NODES_DIR";
const ADDRESSES: &str = "THREE_NODES_ADDRESSES";

/// How long a client waits before it asks again who leads.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A value that each command replaces. So a command that is applied twice does no harm.
#[derive(Default)]
struct Register(Bytes);

impl StateMachine for Register {
    fn apply(&mut self, command: Bytes) -> Bytes {
        // A copy: the command is a slice of a larger buffer.
        std::mem::replace(&mut self.0, Bytes::copy_from_slice(&command))
    }

    fn query(&self, _query: Bytes) -> Bytes {
        self.0.clone()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let value = self.0.clone();
        Box::new(move |writer| writer.write_all(&value))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut value = Vec::new();
        reader.read_to_end(&mut value)?;
        self.0 = value.into();
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let (Some(dir), Ok(addresses)) = (std::env::var_os(DIR), std::env::var(ADDRESSES)) {
        return run_child(Path::new(&dir), &addresses);
    }
    let dir = tempfile::tempdir()?;
    let addresses = free_addresses()?;
    let mut child = spawn_child(dir.path(), &addresses)?;
    let one = start_node(NodeId(1), dir.path(), &addresses)?;
    let two = start_node(NodeId(2), dir.path(), &addresses)?;
    let replica = start_replica(&one)?;
    start_replica(&two)?;

    // The group prefers node 3, which leads as soon as it is there.
    while replica.view().led().await != CHILD {
        sleep(RETRY_INTERVAL).await;
    }
    request(&one, &replica, propose("written while node 3 leads")).await?;
    println!("node 3 leads and has taken a value");

    child.kill()?;
    child.wait()?;
    println!("node 3 is dead");

    // A read is answered once there is another leader, which has all that was acknowledged.
    let read = GroupRequest::read(ReadMode::default(), Bytes::new());
    let value = request(&one, &replica, read).await?;
    println!("node {} leads and has {value:?}", replica.view().led().await);
    assert_eq!(value, "written while node 3 leads");

    request(&one, &replica, propose("written by two of three")).await?;
    println!("two of three nodes have taken another value");
    one.stop();
    two.stop();
    Ok(())
}

/// Puts a value into the register.
fn propose(value: &'static str) -> GroupRequest {
    GroupRequest::propose(Bytes::from_static(value.as_bytes()))
}

/// Asks whichever node leads, again and again until one has answered.
///
/// This is what a client of a register may do, since a repeated command does no harm. One that must
/// be applied once only has to stop at [`RequestError::TimedOut`]: the first attempt may have had
/// an effect. All other errors say that there was none.
async fn request(
    node: &Node,
    replica: &GroupHandle,
    request: GroupRequest,
) -> Result<Bytes, RequestError> {
    loop {
        let leader = replica.view().led().await;
        let answer = match leader == node.id() {
            true => replica.request(request.clone()).await,
            false => node.call(leader, GROUP, &request).await,
        };
        match answer {
            Err(RequestError::TooLarge { .. } | RequestError::Stopped) | Ok(_) => return answer,
            // That node leads no more, is gone, or is busy.
            Err(_) => sleep(RETRY_INTERVAL).await,
        }
    }
}

fn start_node(id: NodeId, dir: &Path, addresses: &[String]) -> Result<Node, Box<dyn Error>> {
    let members: BTreeMap<_, _> = (1..).map(NodeId).zip(addresses.iter().cloned()).collect();
    let config = NodeConfig::new(id, members, dir.join(format!("node-{id}")))?;
    Ok(Node::start(config)?)
}

fn start_replica(node: &Node) -> Result<GroupHandle, Box<dyn Error>> {
    Ok(node.create_group(GroupSpec {
        group: GROUP,
        replicas: node.members(),
        preferred: Some(CHILD),
        machine: Box::new(Register::default()),
    })?)
}

/// Addresses on loopback that were free a moment ago.
fn free_addresses() -> io::Result<Vec<String>> {
    let listeners = (0..3).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

/// Runs this program once more, as node 3.
fn spawn_child(dir: &Path, addresses: &[String]) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .env(DIR, dir)
        .env(ADDRESSES, addresses.join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
}

/// What the child does: it is node 3 until it is killed, or until its parent has gone.
fn run_child(dir: &Path, addresses: &str) -> Result<(), Box<dyn Error>> {
    let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
    let node = start_node(CHILD, dir, &addresses)?;
    start_replica(&node)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    node.stop();
    Ok(())
}

/// `cargo test` runs the example, too.
#[test]
fn the_group_survives_its_leader() -> Result<(), Box<dyn Error>> {
    main()
}
