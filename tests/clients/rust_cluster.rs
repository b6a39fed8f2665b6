// needs: redis tokio
//! The cluster clients of the Rust crate `redis`: the one that blocks, the other one, and reads
//! from replicas.

use redis::cluster::{ClusterClient, ClusterClientBuilder, cluster_pipe};
use redis::cluster_read_routing::RandomReplicaStrategy;
use redis::{Client, RedisResult, cmd};

const KEYS: usize = 200;

fn addresses() -> Vec<String> {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    (port..port + 3).map(|port| format!("redis://127.0.0.1:{port}")).collect()
}

fn builder() -> ClusterClientBuilder {
    ClusterClient::builder(addresses())
}

/// How many requests the nodes have answered with MOVED.
fn moved() -> RedisResult<usize> {
    let mut sum = 0;
    for address in addresses() {
        let mut node = Client::open(address)?.get_connection()?;
        let info: String = cmd("INFO").arg("errorstats").query(&mut node)?;
        let line = info.lines().find_map(|line| line.strip_prefix("errorstat_MOVED:count="));
        sum += line.map_or(0, |count| count.parse::<usize>().unwrap());
    }
    Ok(sum)
}

fn main() -> RedisResult<()> {
    let before = moved()?;
    let mut connection = builder().build()?.get_connection()?;
    let keys: Vec<String> = (0..KEYS).map(|number| format!("rust:{number}")).collect();
    for (number, key) in keys.iter().enumerate() {
        cmd("SET").arg(key).arg(number).arg("EX").arg(100).query::<()>(&mut connection)?;
    }
    let found: Vec<usize> = cmd("MGET").arg(&keys).query(&mut connection)?;
    assert_eq!(found, (0..KEYS).collect::<Vec<_>>());
    let mut pipeline = cluster_pipe();
    for key in &keys {
        pipeline.cmd("PERSIST").arg(key);
    }
    assert_eq!(pipeline.query::<Vec<u64>>(&mut connection)?, vec![1; KEYS]);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut other = builder().build()?.get_async_connection().await?;
        for (number, key) in keys.iter().enumerate() {
            let sum: usize = cmd("INCR").arg(key).query_async(&mut other).await?;
            assert_eq!(sum, number + 1);
        }
        RedisResult::Ok(())
    })?;

    // A replica shows what was written just before.
    let client = builder().read_routing_strategy(RandomReplicaStrategy).build()?;
    let mut reader = client.get_connection()?;
    for (number, key) in keys.iter().enumerate() {
        cmd("SET").arg(key).arg(2 * number).query::<()>(&mut reader)?;
        assert_eq!(cmd("GET").arg(key).query::<usize>(&mut reader)?, 2 * number);
    }
    let moved = moved()? - before;
    assert!(moved * 100 < 5 * KEYS, "{moved} of {} requests were moved", 5 * KEYS);
    Ok(())
}
