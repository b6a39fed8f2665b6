//! A node whose disk is full.

use crate::support::{TestResult, get, set, spec};
use logboat_tests::process::{Cluster, SmallDisk, eventually};
use std::fs;

#[test]
fn a_node_with_a_full_disk_says_so_and_goes_on_once_there_is_space() -> TestResult {
    let mut cluster = Cluster::new(&spec(3, &["--groups", "2"]))?;
    let disk = match SmallDisk::mount(&cluster.node(3).spec().data_dir, 4 << 20) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("skipped: {error}");
            return Ok(());
        }
    };
    cluster.start_all()?;
    let ballast = disk.path().join("ballast");
    disk.fill(&ballast)?;
    let mut client = cluster.node(1).client()?;
    let value = "v".repeat(16 << 10);
    let mut written = 0;
    eventually("node 3 to tell that its disk is full", || {
        set(&mut client, &format!("key:{written}"), &format!("{value}{written}"))?;
        written += 1;
        let (status, text) = cluster.node(3).page("/healthz")?;
        Ok((status == 503 && text.contains("the disk is full")).then_some(()))
    })?;
    // Reads go on there, and everything goes on elsewhere.
    let mut third = cluster.node(3).client()?;
    assert_eq!(get(&mut third, "key:0")?, Some(format!("{value}0")));
    set(&mut client, "while full", "written")?;

    fs::remove_file(&ballast)?;
    eventually("node 3 to be well again", || {
        Ok((cluster.node(3).page("/healthz")?.0 == 200).then_some(()))
    })?;
    // Now nothing can be read but from nodes 2 and 3 together.
    cluster.node_mut(1).kill()?;
    for number in 0..written {
        let found = get(&mut third, &format!("key:{number}"))?;
        assert_eq!(found, Some(format!("{value}{number}")), "key:{number}");
    }
    assert_eq!(get(&mut third, "while full")?.as_deref(), Some("written"));
    // The processes end before their disk is taken away.
    drop(cluster);
    drop(disk);
    Ok(())
}
