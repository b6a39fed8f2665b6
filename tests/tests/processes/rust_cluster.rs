//! The cluster clients of the `redis` crate, which go to the leaders of slots by themselves.

use crate::cluster_clients::{living_leaders, settled};
use crate::support::{TestResult, spec};
use logboat_tests::process::{Cluster, ProcessError, eventually};
use redis::cluster::{ClusterClient, ClusterClientBuilder, ClusterConnection, cluster_pipe};
use redis::cluster_read_routing::RandomReplicaStrategy;
use redis::{RedisResult, cmd};
use tokio::runtime::Builder;

const KEYS: usize = 100;

/// How many requests these nodes have answered with MOVED.
fn moved(cluster: &Cluster, nodes: &[usize]) -> Result<usize, ProcessError> {
    let mut sum = 0;
    for node in nodes {
        let mut client = cluster.node(*node).client()?;
        let info: String = cmd("INFO").arg("errorstats").query(&mut client)?;
        let line = info.lines().find_map(|line| line.strip_prefix("errorstat_MOVED:count="));
        sum += line.map_or(0, |count| count.parse::<usize>().expect("a count is a number"));
    }
    Ok(sum)
}

/// A client that knows where all nodes are.
fn client(cluster: &Cluster) -> ClusterClientBuilder {
    let nodes = cluster.nodes.iter();
    let nodes = nodes.map(|node| format!("redis://{}", node.client_address()));
    ClusterClient::builder(nodes).min_retry_wait(10).max_retry_wait(100)
}

/// Adds one to every key, and returns the sums.
fn add(connection: &mut ClusterConnection) -> RedisResult<Vec<u64>> {
    (0..KEYS).map(|number| cmd("INCR").arg(format!("key:{number}")).query(connection)).collect()
}

/// Does the same with a connection that does not block.
async fn add_async(
    connection: &mut redis::cluster_async::ClusterConnection,
) -> RedisResult<Vec<u64>> {
    let mut sums = Vec::new();
    for number in 0..KEYS {
        let key = format!("async:{number}");
        sums.push(cmd("INCR").arg(key).query_async(connection).await?);
    }
    Ok(sums)
}

#[test]
fn the_rust_crate_finds_leaders_before_and_after_a_failover() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "12"]))?;
    drop(settled(&cluster, 1)?);
    let client = client(&cluster).build()?;
    let mut connection = client.get_connection()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut other = runtime.block_on(client.get_async_connection())?;
    assert_eq!(add(&mut connection)?, vec![1; KEYS]);
    assert_eq!(runtime.block_on(add_async(&mut other))?, vec![1; KEYS]);
    let before = moved(&cluster, &[1, 2, 3])?;
    assert!(before * 100 < 2 * KEYS, "{before} requests were moved by a topology that is new");

    cluster.node_mut(3).kill()?;
    eventually("leaders that live", || living_leaders(&cluster, &[1, 2]))?;
    // The connection that does not block finds out by itself. The other one goes on dialing the
    // node that is gone, in whatever cluster, so its user takes a new one.
    let sums =
        eventually("the leaders to be found", || Ok(runtime.block_on(add_async(&mut other)).ok()))?;
    let mut connection = client.get_connection()?;
    assert_eq!(add(&mut connection)?, vec![2; KEYS]);
    let before = moved(&cluster, &[1, 2])?;
    let next = |sums: Vec<u64>| sums.into_iter().map(|sum| sum + 1).collect::<Vec<_>>();
    assert_eq!(add(&mut connection)?, vec![3; KEYS]);
    assert_eq!(runtime.block_on(add_async(&mut other))?, next(sums));
    let moved = moved(&cluster, &[1, 2])? - before;
    assert!(moved * 100 < 2 * KEYS, "{moved} of {} requests were moved", 2 * KEYS);
    Ok(())
}

#[test]
fn the_rust_crate_reads_what_it_wrote_from_replicas() -> TestResult {
    let cluster = Cluster::start(&spec(3, &["--groups", "12"]))?;
    drop(settled(&cluster, 1)?);
    let mut connection =
        client(&cluster).read_routing_strategy(RandomReplicaStrategy).build()?.get_connection()?;
    for number in 0..KEYS {
        let key = format!("key:{number}");
        cmd("SET").arg(&key).arg(number).query::<()>(&mut connection)?;
        assert_eq!(cmd("GET").arg(&key).query::<usize>(&mut connection)?, number);
    }
    // Keys of several slots, in one command and in one pipeline.
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key:{number}")).collect();
    let found: Vec<usize> = cmd("MGET").arg(&keys).query(&mut connection)?;
    assert_eq!(found, (0..KEYS).collect::<Vec<_>>());
    let mut pipeline = cluster_pipe();
    for key in &keys {
        pipeline.cmd("PEXPIRE").arg(key).arg(600_000);
    }
    let set: Vec<u64> = pipeline.query(&mut connection)?;
    assert_eq!(set, vec![1; KEYS]);
    Ok(())
}
