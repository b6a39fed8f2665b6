//! `logboat backup` and `logboat restore`.

use crate::support::{TestResult, get, program, set, spec};
use logboat_tests::process::{Cluster, NodeProcess, eventually};
use redis::{Connection, RedisResult, cmd};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// How many keys of a kind there are.
const KEYS: usize = 60;

/// How many keys that are counted up while a backup is made.
const COUNTERS: usize = 12;

/// The longest value takes several parts on its way.
const LONG_VALUE: usize = 5 << 19;

/// The options of a node alone.
const ALONE: [&str; 2] = ["--groups", "3"];

/// Runs a command against a node.
fn run(node: &NodeProcess, arguments: &[&str]) -> TestResult<Output> {
    let admin = node.admin_address().to_string();
    Ok(program().command().args(arguments).args(["--admin", &admin]).output()?)
}

/// Runs a command that must do its work, and gives what it printed in JSON.
#[track_caller]
fn done(node: &NodeProcess, arguments: &[&str]) -> TestResult<Value> {
    let output = run(node, &[arguments, &["--json"]].concat())?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs a command that must fail, in these words among others.
#[track_caller]
fn refused(node: &NodeProcess, arguments: &[&str], words: &[&str]) -> TestResult {
    let output = run(node, arguments)?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?}");
    assert!(words.iter().all(|it| error.contains(it)), "{arguments:?}: {error}");
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn size(client: &mut Connection, database: u8) -> RedisResult<u64> {
    cmd("SELECT").arg(database).query::<()>(client)?;
    let size = cmd("DBSIZE").query(client);
    cmd("SELECT").arg(0).query::<()>(client)?;
    size
}

/// Keys of all sorts, in two databases.
fn fill(client: &mut Connection) -> RedisResult<()> {
    for number in 0..KEYS {
        set(client, &format!("key:{number}"), &format!("value {number}"))?;
    }
    set(client, "", "the empty key")?;
    set(client, "empty", "")?;
    cmd("SET").arg(b"\x00\xff\r\n").arg(b"\xfe\x00").query::<()>(client)?;
    set(client, "long", &"l".repeat(LONG_VALUE))?;
    cmd("SELECT").arg(3).query::<()>(client)?;
    for number in 0..50 {
        set(client, &format!("key:{number}"), "of another database")?;
    }
    cmd("SET").arg("dated").arg("x").arg("PXAT").arg(DEADLINE_MS).query::<()>(client)?;
    cmd("SELECT").arg(0).query(client)
}

/// Some day in the year 2100.
const DEADLINE_MS: u64 = 4_110_000_000_000;

/// Whether all that was [`fill`]ed in is there.
fn check_filled(client: &mut Connection) -> TestResult {
    for number in 0..KEYS {
        let value = get(client, &format!("key:{number}"))?;
        assert_eq!(value, Some(format!("value {number}")));
    }
    assert_eq!(get(client, "")?.as_deref(), Some("the empty key"));
    assert_eq!(get(client, "empty")?.as_deref(), Some(""));
    assert_eq!(cmd("GET").arg(b"\x00\xff\r\n").query::<Vec<u8>>(client)?, b"\xfe\x00");
    assert_eq!(get(client, "long")?, Some("l".repeat(LONG_VALUE)));
    assert_eq!(size(client, 3)?, 51);
    cmd("SELECT").arg(3).query::<()>(client)?;
    assert_eq!(get(client, "key:7")?.as_deref(), Some("of another database"));
    assert_eq!(cmd("PEXPIRETIME").arg("dated").query::<u64>(client)?, DEADLINE_MS);
    cmd("SELECT").arg(0).query::<()>(client)?;
    Ok(())
}

/// The counters' values.
fn counters(client: &mut Connection) -> TestResult<Vec<u64>> {
    let count = |number| Ok(get(client, &format!("count:{number}"))?.unwrap_or_default());
    let counts: RedisResult<Vec<String>> = (0..COUNTERS).map(count).collect();
    Ok(counts?.iter().map(|count| count.parse().unwrap_or(0)).collect())
}

/// Makes a backup while the counters count. Returns what was printed, and the counters before and
/// after.
fn back_up_under_writes(cluster: &Cluster, out: &Path) -> TestResult<(Value, Vec<u64>, Vec<u64>)> {
    let is_over = AtomicBool::new(false);
    let mut client = cluster.node(1).client()?;
    let mut writer = cluster.node(3).client()?;
    let count_up = |client: &mut Connection| -> RedisResult<()> {
        (0..COUNTERS).try_for_each(|it| cmd("INCR").arg(format!("count:{it}")).query(client))
    };
    count_up(&mut client)?;
    thread::scope(|scope| {
        let counting = scope.spawn(|| -> RedisResult<()> {
            while !is_over.load(Ordering::Relaxed) {
                count_up(&mut writer)?;
            }
            Ok(())
        });
        let before = counters(&mut client)?;
        let page = done(cluster.node(2), &["backup", "--out", &text(out)])?;
        let after = counters(&mut client)?;
        is_over.store(true, Ordering::Relaxed);
        counting.join().expect("it does not panic")?;
        Ok((page, before, after))
    })
}

#[test]
fn a_backup_is_restored_by_other_nodes_groups_and_stores() -> TestResult {
    let cluster = Cluster::start(&spec(3, &["--groups", "6"]))?;
    fill(&mut cluster.node(1).client()?)?;
    let first = cluster.dir().join("first");
    let (page, before, after) = back_up_under_writes(&cluster, &first)?;
    assert_eq!((&page["groups"], &page["expiring"]), (&6.into(), &1.into()), "{page}");
    assert_eq!(page["keys"], KEYS + 4 + 51 + COUNTERS);

    // One node instead of three, another layout of keys and number of groups, the other store.
    let options = [&ALONE[..], &["--partition", "range", "--store", "disk"]].concat();
    let alone = Cluster::start(&spec(1, &options))?;
    let restored = done(alone.node(1), &["restore", "--from", &text(&first)])?;
    assert_eq!((&restored["keys"], &restored["expired"]), (&page["keys"], &0.into()));
    let mut client = alone.node(1).client()?;
    check_filled(&mut client)?;
    let counted = counters(&mut client)?;
    let bounds = before.iter().zip(&after);
    let is_between =
        |(count, (before, after)): (&u64, (&u64, &u64))| before <= count && count <= after;
    assert!(counted.iter().zip(bounds).all(is_between), "{before:?} {counted:?} {after:?}");

    // All keys are the same, whoever has them.
    let second = alone.dir().join("second");
    let again = done(alone.node(1), &["backup", "--out", &text(&second)])?;
    assert_eq!((&again["digest"], &again["groups"]), (&page["digest"], &3.into()));
    let mut client = cluster.node(3).client()?;
    cmd("FLUSHALL").query::<()>(&mut client)?;
    done(cluster.node(2), &["restore", "--from", &text(&second)])?;
    check_filled(&mut client)?;
    let third = cluster.dir().join("third");
    let last = done(cluster.node(1), &["backup", "--out", &text(&third)])?;
    assert_eq!(last["digest"], page["digest"]);
    Ok(())
}

/// Changes a bit in the midst of a file.
fn flip(path: &Path) -> std::io::Result<()> {
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes)
}

/// The file of a group that has keys.
fn group_file(backup: &Path) -> TestResult<PathBuf> {
    let mut largest = (0, PathBuf::new());
    for entry in fs::read_dir(backup)? {
        let entry = entry?;
        if entry.file_name() != "MANIFEST" {
            largest = largest.max((entry.metadata()?.len(), entry.path()));
        }
    }
    Ok(largest.1)
}

#[test]
fn what_is_no_whole_backup_is_refused_before_a_key_is_written() -> TestResult {
    let source = Cluster::start(&spec(1, &ALONE))?;
    let mut client = source.node(1).client()?;
    for number in 0..KEYS {
        set(&mut client, &format!("key:{number}"), "value")?;
    }
    let node = source.node(1);
    let first = source.dir().join("first");
    done(node, &["backup", "--out", &text(&first)])?;
    refused(node, &["backup", "--out", &text(&first)], &["first", "holds a backup already"])?;
    refused(node, &["restore", "--from", &text(&first)], &["holds 60 keys", "--resume"])?;

    let target = Cluster::start(&spec(1, &ALONE))?;
    let to = target.node(1);
    let file = group_file(&first)?;
    let name = file.file_name().map(|name| text(name.as_ref())).unwrap_or_default();
    flip(&file)?;
    refused(to, &["restore", "--from", &text(&first)], &[&name, "checksum does not fit"])?;
    flip(&file)?;
    let aside = first.with_extension("aside");
    fs::rename(&file, &aside)?;
    refused(to, &["restore", "--from", &text(&first)], &[&name, "is missing"])?;
    fs::rename(&aside, &file)?;
    let manifest = first.join("MANIFEST");
    flip(&manifest)?;
    refused(to, &["restore", "--from", &text(&first)], &["MANIFEST", "damaged"])?;
    flip(&manifest)?;
    fs::rename(&manifest, &aside)?;
    refused(to, &["restore", "--from", &text(&first)], &["MANIFEST", "was not finished"])?;
    refused(node, &["backup", "--out", &text(&first)], &["first", "is not empty"])?;
    fs::rename(&aside, &manifest)?;
    let mut restored = to.client()?;
    assert_eq!(size(&mut restored, 0)?, 0);
    // And all that was mended is a backup.
    done(to, &["restore", "--from", &text(&first)])?;
    assert_eq!(size(&mut restored, 0)?, KEYS as u64);
    refused(to, &["restore", "--from", &text(&first)], &["holds 60 keys"])?;
    let since = ["--since", &text(&first)];
    let out = text(&target.dir().join("other"));
    refused(to, &[&["backup", "--out", &out], &since[..]].concat(), &["first", "another cluster"])?;
    Ok(())
}

#[test]
fn groups_that_have_not_changed_are_not_copied_again() -> TestResult {
    let cluster = Cluster::start(&spec(1, &ALONE))?;
    let node = cluster.node(1);
    let mut client = node.client()?;
    for number in 0..KEYS {
        set(&mut client, &format!("key:{number}"), "value")?;
    }
    let path = |name: &str| text(&cluster.dir().join(name));
    let first = done(node, &["backup", "--out", &path("1")])?;
    let second = ["backup", "--out", &path("2"), "--since", &path("1")];
    let second = done(node, &second)?;
    assert_eq!((&second["unchanged_groups"], &second["digest"]), (&3.into(), &first["digest"]));

    set(&mut client, "key:7", "another value")?;
    flip(&group_file(&cluster.dir().join("2"))?)?;
    let third = done(node, &["backup", "--out", &path("3"), "--since", &path("2")])?;
    // One has changed, and of another the earlier file is damaged, unless they are the same.
    let unchanged = third["unchanged_groups"].as_u64();
    assert!(matches!(unchanged, Some(1 | 2)), "{third}");
    cmd("FLUSHALL").query::<()>(&mut client)?;
    done(node, &["restore", "--from", &path("3")])?;
    assert_eq!(get(&mut client, "key:7")?.as_deref(), Some("another value"));
    assert_eq!(size(&mut client, 0)?, KEYS as u64);
    Ok(())
}

#[test]
fn a_backup_does_without_a_node_and_not_without_a_majority() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "4"]))?;
    set(&mut cluster.node(1).client()?, "key", "value")?;
    cluster.node_mut(1).kill()?;
    let out = cluster.dir().join("two");
    let page = done(cluster.node(2), &["backup", "--out", &text(&out)])?;
    assert_eq!((&page["groups"], &page["keys"]), (&4.into(), &1.into()));

    cluster.node_mut(2).kill()?;
    let out = cluster.dir().join("one");
    let words = ["the backup is not whole: 4 of 4 groups are missing (1, 2, 3, 4)"];
    let order = ["backup", "--out", &text(&out), "--patience", "1"];
    refused(cluster.node(3), &order, &words)?;
    assert!(!out.join("MANIFEST").exists());
    refused(cluster.node(3), &["restore", "--from", &text(&out)], &["was not finished"])?;
    cluster.node_mut(3).kill()?;
    refused(cluster.node(3), &order, &["nobody listens there"])?;
    Ok(())
}

#[test]
fn a_restore_that_is_killed_goes_on() -> TestResult {
    let source = Cluster::start(&spec(1, &ALONE))?;
    let mut client = source.node(1).client()?;
    let value = "v".repeat(64 << 10);
    for number in 0..40 {
        set(&mut client, &format!("key:{number}"), &value)?;
    }
    let backup = text(&source.dir().join("backup"));
    let page = done(source.node(1), &["backup", "--out", &backup])?;

    let target = Cluster::start(&spec(1, &ALONE))?;
    let node = target.node(1);
    let admin = node.admin_address().to_string();
    let order = ["restore", "--from", &backup, "--admin", &admin];
    let mut restoring = program().command().args(order).spawn()?;
    let mut client = node.client()?;
    eventually("some keys to be there", || Ok((size(&mut client, 0)? > 0).then_some(())))?;
    restoring.kill()?;
    restoring.wait()?;
    refused(node, &["restore", "--from", &backup], &["--resume"])?;
    let restored = done(node, &["restore", "--from", &backup, "--resume"])?;
    assert_eq!(restored["keys"], 40);
    let again = text(&target.dir().join("again"));
    let again = done(node, &["backup", "--out", &again])?;
    assert_eq!(again["digest"], page["digest"]);
    Ok(())
}
