//! A node whose disk is full, or stands still.

use crate::support::{TestResult, get, refusal, set, spec};
use logboat_tests::process::{Cluster, ProcessError, SmallDisk, eventually};
use redis::{Connection, RedisResult};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

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
    Ok(())
}

#[test]
#[ignore = "in every second run, deletes wait for room in the log while all disks are full"]
fn nodes_with_full_disks_serve_reads_and_deletes_across_a_restart() -> TestResult {
    for full in [vec![1, 2, 3], vec![3]] {
        let mut cluster = Cluster::new(&spec(3, &["--groups", "2", "--wal-max-bytes", "4194304"]))?;
        let mount = |id: &usize| SmallDisk::mount(&cluster.node(*id).spec().data_dir, 16 << 20);
        let disks = match full.iter().map(mount).collect::<Result<Vec<_>, _>>() {
            Ok(disks) => disks,
            Err(error) => {
                eprintln!("skipped: {error}");
                return Ok(());
            }
        };
        cluster.start_all()?;
        let all_are_full = full.len() == 3;
        let (mut first, mut third) = (cluster.node(1).client()?, cluster.node(3).client()?);
        for number in 0..60 {
            set(&mut first, &format!("key:{number}"), &"v".repeat(4 << 10))?;
        }
        let fill = || disks.iter().try_for_each(|disk| disk.fill(&disk.path().join("ballast")));
        fill()?;
        await_full(&cluster, &full, &mut first)?;
        check(&mut first, &mut third, all_are_full, 0..20)?;

        for id in &full {
            cluster.node_mut(*id).kill()?;
        }
        fill()?;
        for id in &full {
            cluster.node_mut(*id).start()?;
        }
        let mut clients = Vec::new();
        for id in [1, 3] {
            clients.push(eventually("a node to serve clients", || {
                Ok(cluster.node(id).client().ok())
            })?);
        }
        let [mut first, mut third] = <[_; 2]>::try_from(clients).ok().expect("two clients");
        eventually("the disks to be known to be full", || {
            let page = |id: &usize| Ok::<_, ProcessError>(cluster.node(*id).page("/healthz")?.1);
            let known = full.iter().map(page).collect::<Result<Vec<_>, _>>()?;
            Ok(known.iter().all(|text| text.contains("the disk is full")).then_some(()))
        })?;
        check(&mut first, &mut third, all_are_full, 20..40)?;

        for disk in &disks {
            fs::remove_file(disk.path().join("ballast"))?;
        }
        for id in 1..=3 {
            cluster.node_mut(id).ready()?;
        }
        set(&mut first, "key:0", "written again")?;
        assert_eq!(get(&mut third, "key:0")?.as_deref(), Some("written again"));
        assert_eq!(get(&mut third, "key:39")?, None);
        assert_eq!(get(&mut third, "key:59")?.map(|value| value.len()), Some(4 << 10));
    }
    Ok(())
}

/// Writes until these nodes know that their disks are full.
fn await_full(cluster: &Cluster, full: &[usize], client: &mut Connection) -> TestResult {
    let value = "v".repeat(16 << 10);
    eventually("the disks to be full", || {
        // Refused at last, if all disks are full.
        let _ = set(client, "filler", &value);
        let page = |id: &usize| Ok::<_, ProcessError>(cluster.node(*id).page("/healthz")?.1);
        let known = full.iter().map(page).collect::<Result<Vec<_>, _>>()?;
        Ok(known.iter().all(|text| text.contains("the disk is full")).then_some(()))
    })?;
    Ok(())
}

/// Reads and deletes these keys, and sees what becomes of a write.
fn check(
    first: &mut Connection,
    third: &mut Connection,
    all_are_full: bool,
    keys: Range<usize>,
) -> TestResult {
    let written = eventually("an answer to a write", || {
        let written = set(first, "another", "v");
        // Leaders that are just elected, or not at all, are no matter of disks.
        let elects = written.as_ref().is_err_and(|error| error.code() == Some("CLUSTERDOWN"));
        Ok((!elects).then_some(written))
    })?;
    if all_are_full {
        let refusal = refusal(written);
        assert!(refusal.contains("finds no room on its disk"), "{refusal}");
    } else {
        written?;
    }
    for number in keys {
        let key = format!("key:{number}");
        assert_eq!(get(third, &key)?.map(|value| value.len()), Some(4 << 10), "{key}");
        delete(first, &key)?;
        assert_eq!(get(third, &key)?, None, "{key}");
    }
    Ok(())
}

/// Deletes a key that is there. Once more if the leader has gone that was to answer: then it may
/// have been deleted.
fn delete(client: &mut Connection, key: &str) -> RedisResult<()> {
    let mut least = 1;
    loop {
        match redis::cmd("DEL").arg(key).query::<usize>(client) {
            Err(error) if error.code() == Some("UNKNOWN") && least == 1 => least = 0,
            deleted => return deleted.map(|count| assert!(count >= least, "{key}")),
        }
    }
}

#[test]
fn a_node_whose_disk_stands_still_hands_its_groups_over_under_load() -> TestResult {
    const GROUPS: usize = 8;
    let mut cluster = Cluster::new(&spec(3, &["--groups", "8"]))?;
    let disk = match SmallDisk::mount_image(&cluster.node(3).spec().data_dir, 64 << 20) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("skipped: {error}");
            return Ok(());
        }
    };
    cluster.start_all()?;
    eventually("node 3 to lead", || Ok((leaders(&cluster, 3)? > 0).then_some(())))?;
    let flood = Flood::start(cluster.node(1).client_address());
    disk.freeze()?;
    // The group of all ranges is led by somebody too.
    eventually("nodes 1 and 2 to lead all groups", || {
        Ok((leaders(&cluster, 1)? + leaders(&cluster, 2)? > GROUPS).then_some(()))
    })?;
    drop(flood);
    let mut client = cluster.node(1).client()?;
    (0..50).try_for_each(|number| set(&mut client, &format!("key:{number}"), "frozen"))?;
    disk.thaw()?;
    // Now nothing can be read but from nodes 2 and 3 together.
    cluster.node_mut(1).kill()?;
    let mut third = cluster.node(3).client()?;
    for number in 0..50 {
        assert_eq!(get(&mut third, &format!("key:{number}"))?.as_deref(), Some("frozen"));
    }
    Ok(())
}

fn leaders(cluster: &Cluster, id: usize) -> Result<usize, ProcessError> {
    let (_, text) = cluster.node(id).page("/status")?;
    let status: serde_json::Value = serde_json::from_str(&text).expect("a status is JSON");
    Ok(status["leaders"].as_u64().expect("it counts leaders") as usize)
}

/// Clients that come one after the other, write to all groups and never wait for an answer, so that
/// leaders always have something to send.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut clients = Vec::new();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                if let Ok(mut client) = TcpStream::connect(address) {
                    // Whoever is not served is one of many.
                    let _ = client.write_all(format!("SET flood:{number} x\r\n").as_bytes());
                    clients.push(client);
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed.
            let _ = thread.join();
        }
    }
}
