//! Keys that expire while nodes are killed and started again.

use crate::support::{TestResult, spec};
use logboat_tests::process::{Cluster, NodeProcess, ProcessError, eventually};
use redis::{Connection, RedisResult, cmd};

const KEYS: usize = 20;

/// How long the others live, in seconds.
const LONG_SECS: i64 = 1_000;

#[test]
fn keys_expire_once_and_for_all_though_nodes_are_killed() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "4"]))?;
    let mut client = cluster.node(2).client()?;
    for number in 0..KEYS {
        set_for(&mut client, &format!("short:{number}"), "PX", 1_500)?;
        set_for(&mut client, &format!("long:{number}"), "EX", LONG_SECS)?;
    }
    cluster.node_mut(1).kill()?;
    eventually("the short-lived keys to expire", || {
        Ok((present(&mut client, "short")? == 0).then_some(()))
    })?;
    // What has expired for one node has expired for the others.
    let mut other = cluster.node(3).client()?;
    assert_eq!(present(&mut other, "short")?, 0);
    cluster.node_mut(1).start()?;
    cluster.node_mut(1).ready()?;
    let mut client = cluster.node(1).client()?;
    assert_eq!((present(&mut client, "short")?, present(&mut client, "long")?), (0, KEYS));
    let left = seconds_left(&mut client)?;
    assert!(left.iter().all(|left| (1..=LONG_SECS).contains(left)), "{left:?}");
    // Nobody asks for them, and their memory is freed all the same.
    eventually("the memory of expired keys to be freed", || {
        let keys: usize = cmd("DBSIZE").query(&mut client)?;
        Ok((keys == KEYS).then_some(()))
    })?;
    cluster.nodes.iter_mut().try_for_each(NodeProcess::kill)?;
    cluster.start_all()?;
    let mut client = cluster.node(3).client()?;
    assert_eq!((present(&mut client, "short")?, present(&mut client, "long")?), (0, KEYS));
    let later = seconds_left(&mut client)?;
    let never_longer = left.iter().zip(&later).all(|(left, later)| later <= left);
    assert!(never_longer, "{left:?}, then {later:?}");
    Ok(())
}

fn set_for(client: &mut Connection, key: &str, term: &str, time: i64) -> RedisResult<()> {
    cmd("SET").arg(key).arg("value").arg(term).arg(time).query(client)
}

/// How many of the keys are there.
fn present(client: &mut Connection, name: &str) -> Result<usize, ProcessError> {
    let keys: Vec<_> = (0..KEYS).map(|number| format!("{name}:{number}")).collect();
    Ok(cmd("EXISTS").arg(keys).query(client)?)
}

fn seconds_left(client: &mut Connection) -> RedisResult<Vec<i64>> {
    (0..KEYS).map(|number| cmd("TTL").arg(format!("long:{number}")).query(client)).collect()
}
