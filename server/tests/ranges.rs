//! Commands whose keys lie in several ranges, and ranges that do not answer.

mod support;

use bytes::Bytes;
use logboat_server::backend::{Backend, BackendError, RangeId, StoreRequest};
use logboat_server::front::FrontConfig;
use logboat_server::layout::{Partition, slot};
use logboat_server::limits::Limits;
use logboat_server::memory::Immediate;
use logboat_server::memory::MemoryBackend;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use support::{Client, Server, hand_on_to_inner, in_its_store};

/// Two keys that lie in different ranges of a hash layout of 16.
const APART: [&str; 2] = ["a", "b"];

fn fill(client: &mut Client, keys: impl Iterator<Item = String>) -> BTreeSet<String> {
    keys.inspect(|key| assert_eq!(client.call(&["SET", key, key]), "+OK")).collect()
}

/// The strings in a printed list.
fn strings(list: &str) -> Vec<String> {
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Scans to the end, with `between` after each step; all keys, and the number of steps.
fn scan(
    client: &mut Client,
    options: &str,
    mut between: impl FnMut(&mut Client, usize),
) -> (Vec<String>, usize) {
    let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
    for step in 1.. {
        let reply = strings(&client.ask(&format!("SCAN {cursor}{options}")));
        cursor.clone_from(&reply[0]);
        keys.extend_from_slice(&reply[1..]);
        if cursor == "0" {
            return (keys, step);
        }
        between(client, step);
    }
    unreachable!("the loop has no end of its own")
}

#[test]
fn writes_of_many_keys_across_ranges_are_refused_whole() {
    let server = Server::with(Partition::Hash, 16);
    let mut client = server.connect();
    let [a, b] = APART;
    let refused = "-CROSSRANGE Keys in request don't lie in the same range";
    assert_eq!(client.call(&["MSET", a, "1", b, "2"]), refused);
    assert_eq!(client.call(&["MSETNX", a, "1", b, "2"]), refused);
    assert_eq!(client.ask("DBSIZE"), ":0");
}

#[test]
fn reads_and_removals_work_key_by_key() {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        let keys = fill(&mut client, (0..100).map(|i| format!("{}{i}", i * 7919 % 256)));
        let request = |name: &str| -> Vec<String> {
            [name, "none"].into_iter().map(str::to_owned).chain(keys.iter().cloned()).collect()
        };
        let values = client.call(&request("MGET"));
        assert!(values.starts_with("[nil, "));
        assert!(strings(&values).iter().eq(&keys));
        assert_eq!(client.call(&request("EXISTS")), ":100");
        assert_eq!(client.ask("DBSIZE"), ":100");
        assert_eq!(client.call(&request("DEL")), ":100");
        assert_eq!(client.ask("DBSIZE"), ":0");
    }
}

#[test]
fn a_scan_reports_every_key_in_every_layout() {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        let names = (0..300).map(|i| format!("key:{i}"));
        let expected = fill(&mut client, names.chain((0..300).map(|i| format!("{{tag}}{i}"))));
        for options in ["", " COUNT 1", " COUNT 100", " COUNT 10000"] {
            let (keys, steps) = scan(&mut client, options, |_, _| ());
            assert_eq!(keys.len(), expected.len(), "no duplicates while nothing changes");
            assert_eq!(keys.into_iter().collect::<BTreeSet<_>>(), expected);
            assert!(steps < 600);
        }
        let (keys, _) = scan(&mut client, " MATCH key:1??", |_, _| ());
        assert_eq!(keys.len(), 100);
        let all = strings(&client.ask("KEYS *"));
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[test]
fn a_scan_under_writes_reports_what_stays() {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        let stays = fill(&mut client, (0..200).map(|i| format!("stays:{i}")));
        fill(&mut client, (0..200).map(|i| format!("goes:{i}")));
        let (keys, _) = scan(&mut client, " COUNT 7", |client, step| {
            client.ask(&format!("DEL goes:{step}"));
            client.ask(&format!("SET new:{step} x"));
        });
        assert!(keys.into_iter().collect::<BTreeSet<_>>().is_superset(&stays));
    }
}

#[test]
fn a_cursor_of_one_node_goes_on_at_another() {
    let backend = MemoryBackend::even(Partition::Hash, 16, Limits::default());
    let backend = in_its_store(backend);
    let nodes = [(); 2].map(|()| Server::start(backend.clone(), FrontConfig::default()));
    let mut clients = nodes.each_ref().map(Server::connect);
    let expected = fill(&mut clients[0], (0..200).map(|i| format!("key:{i}")));
    let (mut cursor, mut keys) = ("0".to_owned(), BTreeSet::new());
    for step in 0.. {
        let reply = strings(&clients[step % 2].ask(&format!("SCAN {cursor}")));
        cursor.clone_from(&reply[0]);
        keys.extend(reply.into_iter().skip(1));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(keys, expected);
}

#[test]
fn a_scan_ends_where_a_range_starts_within_a_slot() {
    // All keys of one tag lie in one slot, which is cut into three ranges.
    let tag = slot(b"{tag}").to_be_bytes();
    let cut = |key: &str| Bytes::from([&tag[..], key.as_bytes()].concat());
    let splits = vec![cut("{tag}3"), cut("{tag}6")];
    let backend = in_its_store(MemoryBackend::new(Partition::Hash, splits, Limits::default()));
    let server = Server::start(backend, FrontConfig::default());
    let mut client = server.connect();
    let expected = fill(&mut client, (0..10).map(|i| format!("{{tag}}{i}")));
    for count in 1..=11 {
        let (keys, steps) = scan(&mut client, &format!(" COUNT {count}"), |_, step| {
            assert!(step < 100, "the scan does not end");
        });
        assert_eq!(keys.into_iter().collect::<BTreeSet<_>>(), expected);
        assert!(steps <= 10);
    }
}

#[test]
fn range_merges_all_ranges() {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        let keys = fill(&mut client, (0..500).map(|i| format!("{}:{i}", i * 7919 % 256)));
        let pairs = |list: &str| -> Vec<String> {
            let strings = strings(list);
            assert!(strings.chunks(2).all(|pair| pair[0] == pair[1]), "keys with their values");
            strings.into_iter().step_by(2).collect()
        };
        assert!(pairs(&client.ask("RANGE _ _")).iter().eq(&keys));
        for (start, end, limit) in [("1", "2", 10), ("", "9", 333), ("200:", "", 1), ("x", "", 5)] {
            let reply = client.call(&["RANGE", start, end, "LIMIT", &limit.to_string()]);
            let inside = keys
                .iter()
                .filter(|key| key.as_str() >= start && (end.is_empty() || key.as_str() < end));
            assert!(pairs(&reply).iter().eq(inside.take(limit)), "{start} {end} {limit}");
        }
    }
}

#[test]
fn range_fetches_long_values_in_their_turn() {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        // Sixteen ranges share 16 MiB, so that these exceed a batch.
        let long = "v".repeat(2 * 1024 * 1024);
        for (key, value) in [("a", "1"), ("b", long.as_str()), ("c", "3"), ("d", long.as_str())] {
            assert_eq!(client.call(&["SET", key, value]), "+OK");
        }
        let expected = format!("[\"a\", \"1\", \"b\", \"{long}\", \"c\", \"3\"]");
        assert!(client.ask("RANGE _ d") == expected);
    }
}

#[test]
fn errors_of_ranges_reach_the_client_as_documented() {
    let server = Server::with(Partition::Hash, 16);
    let mut client = server.connect();
    let range = server.backend.range_of(&Partition::Hash.stored(b"a"));
    for (fault, reply) in [
        (BackendError::Busy, "-TRYAGAIN "),
        (BackendError::Unavailable, "-CLUSTERDOWN "),
        (BackendError::OutcomeUnknown, "-UNKNOWN outcome unknown: "),
        (BackendError::TooLarge { bytes: 9, limit: 8 }, "-ERR command of 9 bytes exceeds "),
        (BackendError::Stopped, "-ERR the node is shutting down"),
    ] {
        server.backend.set_fault(range, Some(fault));
        for line in ["SET a 1", "GET a", "INCR a", "MGET a b", "DBSIZE", "KEYS *", "RANGE _ _"] {
            let answer = client.ask(line);
            assert!(answer.starts_with(reply), "{line}: {answer}");
        }
        assert_eq!(client.ask("SET b 1"), "+OK");
    }
    server.backend.set_fault(range, None);
    assert_eq!(client.ask("GET a"), "nil");
}

#[test]
fn a_removal_that_is_half_done_is_no_clean_failure() {
    let server = Server::with(Partition::Hash, 16);
    let mut client = server.connect();
    let [a, b] = APART;
    let range = server.backend.range_of(&Partition::Hash.stored(a.as_bytes()));
    fill(&mut client, APART.into_iter().map(str::to_owned));
    server.backend.set_fault(range, Some(BackendError::Busy));
    let answer = client.call(&["DEL", a, b]);
    assert!(answer.starts_with("-UNKNOWN outcome unknown: done in a part"), "{answer}");
    assert!(client.call(&["DEL", a]).starts_with("-TRYAGAIN "));
    server.backend.set_fault(range, None);
    assert_eq!(client.call(&["EXISTS", a, b]), ":1");
    for range in 0..16 {
        server.backend.set_fault(RangeId(range), Some(BackendError::Busy));
    }
    assert!(client.call(&["DEL", a, b]).starts_with("-TRYAGAIN "));
    // One range that may be done is enough, whichever answers first.
    for unknown in APART {
        let range = server.backend.range_of(&Partition::Hash.stored(unknown.as_bytes()));
        server.backend.set_fault(range, Some(BackendError::OutcomeUnknown));
        assert!(client.call(&["DEL", a, b]).starts_with("-UNKNOWN "));
        server.backend.set_fault(range, Some(BackendError::Busy));
    }
}

/// A backend that counts the reads that are under way.
#[derive(Clone)]
struct Counting {
    inner: MemoryBackend,
    reads: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Backend for Counting {
    hand_on_to_inner!();

    type Answers = Immediate;

    fn request_all(&self, requests: Vec<StoreRequest>) -> Immediate {
        self.inner.request_all(requests)
    }

    async fn propose(&self, range: RangeId, command: Bytes) -> Result<Bytes, BackendError> {
        self.inner.propose(range, command).await
    }

    async fn read(&self, range: RangeId, query: Bytes) -> Result<Bytes, BackendError> {
        let reads = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(reads, Ordering::SeqCst);
        // Others get their turn to ask as well.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let answer = self.inner.read(range, query).await;
        self.reads.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

#[test]
fn pages_are_asked_for_when_there_is_room_for_them() {
    let inner = MemoryBackend::even(Partition::Hash, 64, Limits::default());
    let (reads, most) = (Arc::default(), Arc::<AtomicUsize>::default());
    let backend = Counting { inner, reads, most: Arc::clone(&most) };
    // Room for six pages of keys.
    let max_buffered_bytes = 2_000_000;
    let server = Server::start(backend, FrontConfig { max_buffered_bytes, ..Default::default() });
    let mut client = server.connect();
    let keys = fill(&mut client, (0..300).map(|i| format!("key:{i}")));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = server.connect();
                let listed = strings(&client.ask("KEYS *"));
                assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), keys);
                let (scanned, _) = scan(&mut client, " COUNT 1000", |_, _| {});
                assert_eq!(scanned.into_iter().collect::<BTreeSet<_>>(), keys);
                assert_eq!(strings(&client.ask("RANGE _ _")).len(), 2 * keys.len());
            });
        }
    });
    // A page of RANGE is smaller.
    let least_page = 16 * 1024 + Limits::default().max_key_bytes;
    let most = most.load(Ordering::SeqCst);
    assert!(most <= max_buffered_bytes / least_page, "{most} pages were under way");
}

/// So many that no query walks all of them.
const MANY: usize = (1 << 17) + 100;

fn scan_of_a_slot_of_many_keys(partition: Partition) {
    let server = Server::with(partition, 4);
    let mut client = server.connect();
    let names: Vec<String> = (0..MANY).map(|number| format!("{{t}}{number}")).collect();
    for names in names.chunks(8_192) {
        let pairs = names.iter().flat_map(|name| [name.as_str(), ""]);
        let request: Vec<_> = std::iter::once("MSET").chain(pairs).collect();
        assert_eq!(client.call(&request), "+OK");
    }
    for key in ["a", "b", "zz"] {
        assert_eq!(client.ask(&format!("SET {key} 1")), "+OK");
    }
    let (found, steps) = scan(&mut client, " COUNT 10000", |_, _| {});
    let distinct: BTreeSet<_> = found.iter().collect();
    assert_eq!((found.len(), distinct.len()), (MANY + 3, MANY + 3));
    assert!((16..30).contains(&steps), "{steps}");
}

#[test]
fn a_slot_of_many_keys_is_scanned_in_parts() {
    scan_of_a_slot_of_many_keys(Partition::Slots);
}

#[test]
fn a_range_of_many_keys_is_scanned_in_parts() {
    scan_of_a_slot_of_many_keys(Partition::Range);
}
