//! Directories and files that are not what they should be.

use crate::support::{Home, LsmHome, OWNER, at, pairs, put, settle, small, value};
use logboat_raft::Incarnation;
use logboat_storage::state::{
    LsmState, Namespace, StateBatch, StateEngine, StateError, StateOptions, StateUpkeep,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A home with tables, and the namespace in them.
fn home() -> (LsmHome, Namespace) {
    let home = LsmHome::new();
    let engine = home.open();
    let namespace = engine.create().unwrap();
    for index in 1..=200 {
        put(&engine, namespace, &format!("{index:03}"), &format!("value {index}"), index);
    }
    settle(&engine);
    (home, namespace)
}

fn tree(home: &LsmHome) -> PathBuf {
    home.path().join("tree")
}

fn manifest(home: &LsmHome) -> PathBuf {
    let files = fs::read_dir(tree(home)).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('v')).max().unwrap()
}

fn tables(home: &LsmHome) -> Vec<PathBuf> {
    let files = fs::read_dir(tree(home).join("tables")).unwrap();
    files.map(|entry| entry.unwrap().path()).collect()
}

fn refused(home: &LsmHome) -> StateError {
    home.try_open().err().expect("it must not open")
}

#[test]
fn a_second_opening_is_refused() {
    let home = LsmHome::new();
    let _first = home.open();
    let error = refused(&home);
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
}

#[test]
fn another_nodes_tables_are_refused() {
    let (home, _) = home();
    let error = LsmState::open(&home.path(), Incarnation(8), small()).err().unwrap();
    assert!(matches!(error, StateError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("another data directory"), "{error}");
    LsmState::open(&home.path(), OWNER, small()).unwrap();
}

#[test]
fn every_flipped_byte_of_a_manifest_is_noticed() {
    let (home, namespace) = home();
    for path in [manifest(&home), tree(&home).join("current"), home.path().join("STATE")] {
        let content = fs::read(&path).unwrap();
        for at in 0..content.len() {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).unwrap();
            let error = refused(&home);
            assert!(matches!(error, StateError::Damaged { .. }), "byte {at}: {error}");
            let error = error.to_string();
            assert!(error.contains(home.path().to_str().unwrap()), "byte {at}: {error}");
        }
        fs::write(&path, content).unwrap();
    }
    assert_eq!(pairs(&home.open(), namespace).len(), 200);
}

#[test]
fn a_flip_in_a_table_is_never_served() {
    let (home, namespace) = home();
    let table = tables(&home).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len());
    let table = table.unwrap();
    let content = fs::read(&table).unwrap();
    let (mut noticed, mut tried) = (0, 0);
    for at in (0..content.len()).step_by(content.len() / 60) {
        let mut flipped = content.clone();
        flipped[at] ^= 0x10;
        fs::write(&table, &flipped).unwrap();
        tried += 1;
        match home.try_open() {
            Err(_) => noticed += 1,
            Ok(engine) => {
                let error = engine.verify().unwrap_err().to_string();
                assert!(error.contains(table.to_str().unwrap()), "{error}");
                for index in 1..=200_u64 {
                    let key = format!("{index:03}");
                    match engine.get(namespace, key.as_bytes()) {
                        Ok(found) => assert_eq!(found, Some(format!("value {index}").into())),
                        Err(error) => {
                            noticed += 1;
                            let error = error.to_string();
                            assert!(error.contains(table.to_str().unwrap()), "{error}");
                            break;
                        }
                    }
                }
            }
        }
    }
    assert!(noticed * 3 > tried, "{noticed} of {tried}");
}

#[test]
fn what_is_missing_is_named() {
    let (home, namespace) = home();
    let check = |path: &Path, named: &str| {
        let spare = home.path().join("spare");
        fs::rename(path, &spare).unwrap();
        let error = refused(&home);
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
        fs::rename(&spare, path).unwrap();
    };
    check(&tree(&home).join("current"), "current");
    check(&manifest(&home), manifest(&home).to_str().unwrap());
    check(&tables(&home)[0], "tree");
    check(&tree(&home).join("tables"), "tree");
    check(&tree(&home), "tree");
    check(&home.path().join("STATE"), "STATE");
    assert_eq!(pairs(&home.open(), namespace).len(), 200);
}

#[test]
fn a_making_that_was_cut_short_is_made_again() {
    let home = LsmHome::new();
    drop(home.open());
    fs::remove_file(home.path().join("STATE")).unwrap();
    let engine = home.open();
    assert!(engine.namespaces().is_empty());
}

#[test]
fn nothing_is_written_after_an_error_until_it_is_opened_anew() {
    let (home, namespace) = home();
    let engine = home.open();
    put(&engine, namespace, "late", "1", 201);
    engine.flush().unwrap();
    put(&engine, namespace, "later", "1", 202);
    let (tables, aside) = (tree(&home).join("tables"), tree(&home).join("aside"));
    fs::rename(&tables, &aside).unwrap();
    let error = engine.flush().unwrap_err().to_string();
    assert!(error.contains("tree"), "{error}");
    fs::rename(&aside, &tables).unwrap();
    let before = fs::read(manifest(&home)).unwrap();
    let mut batch = StateBatch::default();
    batch.put(namespace, "latest".into(), "1".into());
    for error in [
        engine.flush().unwrap_err(),
        engine.write(&batch).unwrap_err(),
        engine.compact().unwrap_err(),
        engine.create().unwrap_err(),
        engine.ingest(namespace, at(1), &mut std::iter::empty()).unwrap_err(),
    ] {
        assert!(matches!(error, StateError::Poisoned(_)), "{error}");
    }
    assert_eq!(fs::read(manifest(&home)).unwrap(), before, "the manifest is left alone");
    assert_eq!(engine.durable(namespace), Some(at(201)));
    assert_eq!(value(&engine, namespace, "later").as_deref(), Some("1"), "reads go on");
    drop(engine);
    let engine = home.open();
    assert_eq!(engine.applied(namespace), Some(at(201)));
    assert_eq!(value(&engine, namespace, "late").as_deref(), Some("1"));
    assert_eq!(value(&engine, namespace, "later"), None);
    put(&engine, namespace, "later", "1", 202);
    settle(&engine);
    assert_eq!(engine.durable(namespace), Some(at(202)));
}

/// Opens it with a table in the first level that is damaged where only a merge or a read of some
/// keys looks.
fn open_damaged(home: &LsmHome, namespace: Namespace) -> (LsmState, PathBuf) {
    let large = StateOptions { memtable_bytes: 1 << 20, ..small() };
    let engine = LsmState::open(&home.path(), OWNER, large).unwrap();
    for index in 1..=200 {
        // Nothing that is compressed to a block or two.
        let value: String = (0..64).map(|at| format!("{:x}", index * 7_919 * (at + 1))).collect();
        put(&engine, namespace, &format!("{index:03}"), &value, 200 + index);
    }
    engine.flush().unwrap();
    drop(engine);
    let table = tables(home).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len());
    let table = table.unwrap();
    let mut content = fs::read(&table).unwrap();
    let middle = content.len() / 2;
    content[middle / 2..middle].iter_mut().step_by(16).for_each(|byte| *byte ^= 0x10);
    fs::write(&table, &content).unwrap();
    (home.open(), table)
}

#[test]
fn writes_name_a_damaged_table_when_no_more_can_be_merged() {
    let (home, namespace) = home();
    let (engine, table) = open_damaged(&home, namespace);
    let engine: Arc<dyn StateEngine> = Arc::new(engine);
    let upkeep = StateUpkeep::start(Arc::clone(&engine), Box::new(|_| {}));
    // The first level is never merged, so it grows until it takes no more.
    let refused = (0..100).find_map(|round| {
        let mut batch = StateBatch::default();
        for key in (0..200).step_by(7) {
            batch.put(namespace, format!("{key:03}").into(), format!("{round}").into());
        }
        batch.applied(namespace, at(1_000 + round));
        let written = engine.write(&batch).and_then(|()| engine.flush());
        written.err()
    });
    let refused = refused.expect("it takes no more").to_string();
    assert!(refused.contains(table.to_str().unwrap()), "{refused}");
    assert!(engine.statistics().is_damaged);
    assert_eq!(engine.applied(namespace), engine.durable(namespace));
    drop(upkeep);
}

#[test]
fn a_disk_without_room_is_waited_for() {
    let (home, namespace) = home();
    let full = StateOptions { reserve_bytes: 1 << 60, ..small() };
    let engine = LsmState::open(&home.path(), OWNER, full).unwrap();
    let durable = engine.durable(namespace);
    let mut batch = StateBatch::default();
    batch.put(namespace, "key".into(), vec![b'v'; 4 << 10].into());
    batch.applied(namespace, at(1_000));
    let refused = (0..100).find_map(|_| engine.write(&batch).err());
    assert!(matches!(refused, Some(StateError::Busy)), "{refused:?}");
    assert!(!engine.flush_if_due(Instant::now()).unwrap());
    assert!(matches!(engine.flush(), Err(StateError::NoRoom(_))));
    engine.compact().unwrap();
    assert!(engine.statistics().lacks_room);
    assert_eq!(engine.durable(namespace), durable);
    let mut nothing = std::iter::empty();
    let fresh = engine.create().unwrap();
    assert!(matches!(engine.ingest(fresh, at(1), &mut nothing), Err(StateError::NoRoom(_))));
    drop(engine);
    // What was not durable is written again.
    let engine = home.open();
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    assert_eq!(engine.durable(namespace), Some(at(1_000)));
    assert!(!engine.statistics().lacks_room);
}
