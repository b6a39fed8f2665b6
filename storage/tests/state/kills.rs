//! Processes that are killed, and that run out of files and space, while they write.

use crate::support::{OWNER, at, bytes, pairs, small};
use logboat_storage::state::{LsmState, Namespace, StateBatch, StateEngine, StateError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DIRECTORY: &str = "LOGBOAT_TEST_STATE";
const LIMIT: &str = "LOGBOAT_TEST_LIMIT";

/// The first namespaces that an engine makes.
const SPACES: [Namespace; 2] = [Namespace(2), Namespace(3)];

/// Opens the engine once nobody else has it. A process that some other test starts has what is open
/// here, locks too, until it runs its own program.
fn open(directory: &Path) -> LsmState {
    loop {
        match LsmState::open(directory, OWNER, small()) {
            Err(StateError::InUse { .. }) => std::thread::sleep(Duration::from_millis(1)),
            opened => return opened.unwrap(),
        }
    }
}

/// Writes until it is killed or fails, and says what is durable. Each batch writes its number to
/// both namespaces.
#[test]
#[ignore = "the process that others start and kill"]
fn writer() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let engine = open(Path::new(&directory));
    if let Ok(limit) = std::env::var(LIMIT) {
        let (resource, number) = limit.split_once(' ').unwrap();
        let resource = if resource == "files" { Resource::Nofile } else { Resource::Fsize };
        let current = Some(number.parse().unwrap());
        setrlimit(resource, Rlimit { current, ..getrlimit(resource) }).unwrap();
    }
    while engine.applied(SPACES[1]).is_none() && engine.create().unwrap() < SPACES[1] {}
    let mut last = engine.applied(SPACES[0]).map_or(0, |id| id.index.0);
    let work = |last: &mut u64| -> Result<(), StateError> {
        loop {
            *last += 1;
            let mut batch = StateBatch::default();
            for namespace in SPACES {
                for key in 0..10 {
                    let value = format!("{last} {}", "x".repeat(*last as usize % 50));
                    batch.put(namespace, bytes(format!("{key}")), bytes(value));
                }
                batch.applied(namespace, at(*last));
            }
            while let Err(StateError::Busy) = engine.write(&batch) {
                engine.flush()?;
                while engine.compact()? {}
            }
            if last.is_multiple_of(40) {
                let fresh = engine.create()?;
                let pairs = (0..50).map(|key| Ok((bytes(format!("{key:03}")), bytes("v"))));
                engine.ingest(fresh, at(1), &mut pairs.into_iter())?;
                let mut batch = StateBatch::default();
                batch.delete_namespace(fresh);
                engine.write(&batch)?;
            } else if !engine.flush_if_due(Instant::now())? {
                continue;
            }
            println!("durable {}", engine.durable(SPACES[0]).map_or(0, |id| id.index.0));
            engine.compact()?;
        }
    };
    let error = work(&mut last).unwrap_err();
    println!("failed {error}");
}

/// Starts a writer, kills it when it has said so many things, and returns the last that it said to
/// be durable, and its error.
fn run(directory: &Path, limit: Option<&str>, lines: usize) -> (u64, Option<String>) {
    // The signal at the limit of a file's size would end the process before it sees the error.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    command.args(["kills::writer", "--exact", "--ignored", "--nocapture"]);
    command.env(DIRECTORY, directory).stdout(Stdio::piped());
    command.envs(limit.map(|limit| (LIMIT, limit)));
    let mut child = command.spawn().unwrap();
    let (mut durable, mut error, mut seen) = (0, None, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(number) = line.strip_prefix("durable ") {
            durable = number.parse().unwrap();
            seen += 1;
        } else if let Some(text) = line.strip_prefix("failed ") {
            error = Some(text.to_owned());
        }
        if seen == lines {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    (durable, error)
}

/// What a process left behind is a prefix of whole batches that holds what it called durable.
fn check(directory: &Path, durable: u64) -> u64 {
    let engine = open(directory);
    engine.verify().unwrap();
    let applied = SPACES.map(|namespace| engine.applied(namespace).map_or(0, |id| id.index.0));
    assert_eq!(applied[0], applied[1], "a batch was split");
    assert!(applied[0] >= durable, "{} though {durable} was durable", applied[0]);
    for namespace in SPACES {
        let found = pairs(&engine, namespace);
        assert_eq!(found.len(), if applied[0] == 0 { 0 } else { 10 });
        let prefix = format!("{} ", applied[0]);
        assert!(found.iter().all(|pair| pair[2..].starts_with(&prefix)), "{found:?}");
    }
    applied[0]
}

#[test]
fn a_kill_loses_nothing_that_was_durable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mut last = 0;
    for round in 0..8 {
        let (durable, error) = run(&path, None, 3 + round * 5 % 7);
        assert_eq!(error, None);
        let applied = check(&path, durable);
        assert!(applied >= durable && durable >= last, "it goes on from where it was");
        last = applied;
    }
    assert!(last > 100, "{last} batches");
}

#[test]
fn running_out_of_files_and_space_loses_nothing_that_was_durable() {
    for limits in [("files", 9, 20), ("bytes", 400, 2400)] {
        let (what, first, last) = limits;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut failed = 0;
        for step in 0..6 {
            let limit = format!("{what} {}", first + (last - first) * step / 6);
            let (durable, error) = run(&path, Some(&limit), 15);
            failed += usize::from(error.is_some());
            check(&path, durable);
        }
        assert!(failed > 2, "{failed} writers failed for want of {what}");
    }
}
