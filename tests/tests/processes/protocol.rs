//! Redis clients on a cluster: both protocols, commands over several groups, both partitions.

use crate::support::{TestResult, get, refusal, set, shared_cluster, spec};
use logboat_tests::process::Cluster;
use redis::{Client, Connection, Value};
use std::collections::BTreeSet;

#[test]
fn both_protocols_are_spoken() -> TestResult {
    let cluster = shared_cluster()?;
    let address = cluster.node(1).client_address();
    let mut resp2 = Client::open(format!("redis://{address}/"))?.get_connection()?;
    let mut resp3 = Client::open(format!("redis://{address}/?protocol=resp3"))?.get_connection()?;
    let config = |client: &mut Connection| -> redis::RedisResult<Value> {
        redis::cmd("CONFIG").arg("GET").arg("maxclients").query(client)
    };
    assert!(matches!(config(&mut resp2)?, Value::Array(_)));
    assert!(matches!(config(&mut resp3)?, Value::Map(_)));
    for client in [&mut resp2, &mut resp3] {
        assert_eq!(redis::cmd("GET").arg("proto:none").query::<Value>(client)?, Value::Nil);
        let length: i64 = redis::cmd("APPEND").arg("proto:key").arg("abc").query(client)?;
        assert_eq!(length % 3, 0);
        assert!(refusal(redis::cmd("NOSUCH").query::<()>(client)).contains("unknown command"));
    }
    assert_eq!(get(&mut resp2, "proto:key")?.as_deref(), Some("abcabc"));
    Ok(())
}

#[test]
fn commands_over_several_groups_work_key_by_key() -> TestResult {
    let cluster = shared_cluster()?;
    let mut client = cluster.node(2).client()?;
    let keys: Vec<_> = (0..32).map(|number| format!("many:{number}")).collect();
    for key in &keys {
        set(&mut client, key, key)?;
    }
    let mut other = cluster.node(3).client()?;
    let values: Vec<Option<String>> =
        redis::cmd("MGET").arg(&keys).arg("many:none").query(&mut other)?;
    let expected = keys.iter().cloned().map(Some).chain([None]);
    assert!(values.into_iter().eq(expected));
    let found: usize = redis::cmd("EXISTS").arg(&keys).arg(&keys[0]).query(&mut client)?;
    assert_eq!(found, 33);
    let deleted: usize = redis::cmd("DEL").arg(&keys[..20]).arg("many:none").query(&mut other)?;
    assert_eq!(deleted, 20);
    let deleted: usize = redis::cmd("UNLINK").arg(&keys).query(&mut client)?;
    assert_eq!(deleted, 12);
    Ok(())
}

#[test]
fn keys_are_written_together_within_a_group_only() -> TestResult {
    let cluster = shared_cluster()?;
    let mut client = cluster.node(1).client()?;
    for command in ["MSET", "MSETNX"] {
        let mut apart = redis::cmd(command);
        (0..32).for_each(|number| {
            apart.arg(format!("apart:{number}")).arg("x");
        });
        assert!(refusal(apart.query::<()>(&mut client)).starts_with("CROSSRANGE"));
    }
    for number in 0..32 {
        assert_eq!(get(&mut client, &format!("apart:{number}"))?, None);
    }
    let mut together = redis::cmd("MSET");
    (0..32).for_each(|number| {
        together.arg(format!("{{tag}}:{number}")).arg(number);
    });
    together.query::<()>(&mut client)?;
    let last: u32 = redis::cmd("GET").arg("{tag}:31").query(&mut client)?;
    assert_eq!(last, 31);
    Ok(())
}

#[test]
fn range_is_in_key_order_over_all_groups_of_a_hash_partition() -> TestResult {
    let cluster = shared_cluster()?;
    let mut client = cluster.node(1).client()?;
    for number in 0..40 {
        set(&mut client, &format!("row:{number:02}"), &number.to_string())?;
    }
    check_rows(&mut cluster.node(3).client()?)
}

#[test]
fn range_is_in_key_order_between_given_split_keys() -> TestResult {
    let mut cluster = Cluster::new(&spec(1, &["--partition", "range"]))?;
    let file = cluster.dir().join("split-keys");
    std::fs::write(&file, "row:05\nrow:20\nrow:30\n")?;
    let file = file.display().to_string();
    cluster.node_mut(1).spec_mut().options.extend(["--split-keys".to_owned(), file]);
    cluster.start_all()?;
    // Three keys make four ranges; the fifth group holds the map.
    assert_eq!(cluster.node(1).status()?["groups"], 5);
    let mut client = cluster.node(1).client()?;
    for number in 0..40 {
        set(&mut client, &format!("row:{number:02}"), &number.to_string())?;
    }
    check_rows(&mut client)?;
    let mut neighbours = redis::cmd("MSET");
    neighbours.arg("row:21").arg("21").arg("row:29").arg("29").query::<()>(&mut client)?;
    let mut across = redis::cmd("MSET");
    across.arg("row:19").arg("x").arg("row:20").arg("x");
    assert!(refusal(across.query::<()>(&mut client)).starts_with("CROSSRANGE"));
    check_rows(&mut client)
}

#[test]
fn a_scan_may_go_on_at_another_node() -> TestResult {
    let cluster = shared_cluster()?;
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(node.client()?);
    }
    let mut expected = BTreeSet::new();
    for number in 0..50 {
        let key = format!("scan:{number}");
        set(&mut clients[0], &key, "x")?;
        expected.insert(key);
    }
    let mut found = BTreeSet::new();
    let mut cursor = "0".to_owned();
    for step in 0.. {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg("scan:*").arg("COUNT").arg(7);
        let (next, keys): (String, Vec<String>) = scan.query(&mut clients[step % 3])?;
        found.extend(keys);
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn info_tells_the_node_and_its_groups() -> TestResult {
    let cluster = shared_cluster()?;
    for (id, node) in (1..).zip(&cluster.nodes) {
        let info: String = redis::cmd("INFO").query(&mut node.client()?)?;
        let lines = [
            format!("node_id:{id}"),
            "groups:9".to_owned(),
            format!("tcp_port:{}", node.spec().client_port),
        ];
        for line in lines {
            assert!(info.lines().any(|found| found == line), "no {line} in\n{info}");
        }
    }
    Ok(())
}

/// Checks RANGE on the keys `row:00` to `row:39`.
fn check_rows(client: &mut Connection) -> TestResult {
    let mut rows = |start: &str, end: &str, limit: Option<usize>| {
        let mut range = redis::cmd("RANGE");
        range.arg(start).arg(end);
        if let Some(limit) = limit {
            range.arg("LIMIT").arg(limit);
        }
        range.query::<Vec<(String, usize)>>(client)
    };
    let expected = |numbers: std::ops::Range<usize>| -> Vec<_> {
        numbers.map(|number| (format!("row:{number:02}"), number)).collect()
    };
    assert_eq!(rows("row:", "row;", None)?, expected(0..40));
    assert_eq!(rows("row:05", "row:31", None)?, expected(5..31));
    assert_eq!(rows("row:18", "row;", Some(9))?, expected(18..27));
    assert_eq!(rows("row:31", "row:31", None)?, []);
    Ok(())
}
