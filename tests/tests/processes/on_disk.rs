//! Nodes that keep keys and values on disk, alone and beside others.

use crate::crashes::check_on_all_nodes;
use crate::support::{Load, TestResult, get, set_again, spec};
use logboat_tests::process::{Cluster, NodeProcess, ProcessError, eventually};
use redis::Connection;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Options with which the log is cut often.
const OPTIONS: [&str; 4] = ["--groups", "8", "--snapshot-log-bytes", "8192"];

fn dbsize(client: &mut Connection) -> TestResult<i64> {
    Ok(redis::cmd("DBSIZE").query(client)?)
}

fn store(cluster: &Cluster, node: usize) -> TestResult<serde_json::Value> {
    Ok(cluster.node(node).status()?["store"].clone())
}

#[test]
fn what_is_on_disk_outlives_kills_and_ends() -> TestResult {
    let options = [&OPTIONS[..], &["--store", "disk", "--max-memory", "16777216"]].concat();
    let mut cluster = Cluster::start(&spec(3, &options))?;
    let load = Load::start(&cluster);
    for victim in [1, 2] {
        load.await_progress(60)?;
        cluster.node_mut(victim).kill()?;
        load.await_progress(60)?;
        cluster.node_mut(victim).start()?;
        cluster.node_mut(victim).ready()?;
    }
    cluster.nodes.iter_mut().try_for_each(NodeProcess::kill)?;
    cluster.start_all()?;
    load.await_progress(60)?;
    check_on_all_nodes(&cluster, load)?;
    let mut client = cluster.node(1).client()?;
    let mut big = redis::cmd("SET");
    big.arg("big").arg(vec![7_u8; 1 << 20]).exec(&mut client)?;
    let before = dbsize(&mut client)?;
    // A node keeps what its directory was made with, and says so.
    cluster.nodes.iter_mut().try_for_each(NodeProcess::terminate)?;
    for node in &mut cluster.nodes {
        assert!(node.wait()?.success());
        node.spec_mut().options.retain(|option| option != "--store" && option != "disk");
        node.spec_mut().options.extend(["--store", "memory"].map(str::to_owned));
    }
    let said = cluster.node_mut(1).start_refused()?;
    assert!(said.contains("was made with --store disk"), "{said}");
    for node in &mut cluster.nodes {
        let options = &mut node.spec_mut().options;
        options.truncate(options.len() - 2);
    }
    cluster.start_all()?;
    let mut client = cluster.node(2).client()?;
    assert_eq!(dbsize(&mut client)?, before);
    assert_eq!(redis::cmd("STRLEN").arg("big").query::<i64>(&mut client)?, 1 << 20);
    let store = store(&cluster, 2)?;
    assert_eq!(store["kind"], "disk");
    assert!(store["table_bytes"].as_u64() > Some(0), "{store}");
    let info: String = redis::cmd("INFO").arg("Logboat").query(&mut client)?;
    assert!(info.contains("store:disk\r\n") && info.contains("table_flushes:"), "{info}");
    Ok(())
}

/// Has a node miss what is cut from the log meanwhile, and another one go when it is back.
fn catch_up_by_snapshots(cluster: &mut Cluster, behind: usize, round: &str) -> TestResult {
    cluster.node_mut(behind).kill()?;
    let others: Vec<usize> = [1, 2, 3].into_iter().filter(|node| *node != behind).collect();
    let sent = |cluster: &Cluster| {
        let sent = others.iter().map(|id| cluster.node(*id).metric("logboat_snapshots_sent_total"));
        sent.sum::<Result<f64, ProcessError>>()
    };
    let value = |number| format!("{}{round}{number}", "v".repeat(400));
    let mut client = cluster.node(others[0]).client()?;
    // A snapshot is due when as much was written as the last one takes.
    for number in (0..60).cycle().take(240) {
        set_again(&mut client, &format!("key:{number}"), &value(number))?;
    }
    let before = sent(cluster)?;
    cluster.node_mut(behind).start()?;
    cluster.node_mut(behind).ready()?;
    eventually("a snapshot to be sent", || Ok((sent(cluster)? > before).then_some(())))?;
    // Now nothing can be read but from the node that was behind, and one other.
    cluster.node_mut(others[1]).kill()?;
    let mut client = cluster.node(behind).client()?;
    for number in 0..60 {
        assert_eq!(get(&mut client, &format!("key:{number}"))?, Some(value(number)));
    }
    let left: i64 = redis::cmd("PTTL").arg("expiring").query(&mut client)?;
    assert!(left > 0, "{left}");
    assert_eq!(dbsize(&mut client)?, 61);
    cluster.node_mut(others[1]).start()?;
    Ok(cluster.node_mut(others[1]).ready()?)
}

/// So many values that no compression makes smaller.
fn fill(client: &mut Connection, keys: std::ops::Range<u64>) -> TestResult {
    for key in keys {
        let mut state = key + 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{:08x}", state >> 32)
        };
        let value: String = (0..8 << 10).map(|_| next()).collect();
        set_again(client, &format!("key:{key}"), &value)?;
    }
    Ok(())
}

/// The files of the tables below a directory.
fn tables_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(tables_below(&path)?);
        } else if directory.ends_with("tables") {
            files.push(path);
        }
    }
    Ok(files)
}

#[test]
fn a_damaged_table_that_a_merge_meets_has_the_node_join_again() -> TestResult {
    let options = ["--groups", "2", "--store", "disk", "--max-memory", "16777216"];
    let mut cluster = Cluster::start(&spec(3, &options))?;
    let mut client = cluster.node(1).client()?;
    fill(&mut client, 0..40)?;
    cluster.node_mut(3).terminate()?;
    cluster.node_mut(3).wait()?;
    let tables = tables_below(&cluster.node(3).spec().data_dir.join("state"))?;
    assert!(!tables.is_empty());
    for table in tables {
        let mut content = fs::read(&table)?;
        let at = content.len() / 4;
        content[at] ^= 1;
        fs::write(&table, content)?;
    }
    cluster.node_mut(3).start()?;
    cluster.node_mut(3).ready()?;
    // Nobody reads what is damaged. Others come, until tables are merged.
    let mut key = 40;
    eventually("the node to have joined again", || {
        fill(&mut client, key..key + 10).unwrap_or_else(|failed| match failed {});
        key += 10;
        let status = cluster.node(3).status();
        Ok(status.is_ok_and(|status| status["node_id"] == 4).then_some(()))
    })?;
    let log = cluster.node(3).log();
    assert!(log.contains("a merge of the tables has met a damaged one"), "{log}");
    Ok(())
}

#[test]
fn nodes_of_either_kind_take_what_the_others_have() -> TestResult {
    let mut cluster = Cluster::new(&spec(3, &["--groups", "2", "--snapshot-log-bytes", "2048"]))?;
    for node in [2, 3] {
        let on_disk = ["--store", "disk"].map(str::to_owned);
        cluster.node_mut(node).spec_mut().options.extend(on_disk);
    }
    cluster.start_all()?;
    let mut client = cluster.node(2).client()?;
    redis::cmd("SET").arg("expiring").arg("v").arg("EX").arg(3_600).exec(&mut client)?;
    // From disk to memory, and from either to disk.
    for (behind, round) in [(1, "first"), (3, "second")] {
        catch_up_by_snapshots(&mut cluster, behind, round)?;
    }
    assert_eq!(store(&cluster, 1)?["kind"], "memory");
    assert_eq!(store(&cluster, 3)?["kind"], "disk");
    Ok(())
}
