//! Ranges of keys, a group a range, and requests that find their way.
//!
//! `cargo run -p logboat-router --example router`
//!
//! The dictionary below is cut into three ranges. Each range is a Raft group of its own, with its
//! own state machine. The router knows which group holds a key, and which node leads that group.
//! Here all groups run on one node; the calls are the same on many.

use logboat::{Bytes, Node, NodeConfig, NodeId, SnapshotWriter, StateMachine};
use logboat_router::{Plan, Router};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read};

/// The words of one range, with what they mean. Commands are lines `word=meaning`.
#[derive(Default)]
struct Words(BTreeMap<String, String>);

impl Words {
    fn insert(&mut self, line: &str) -> Option<String> {
        let (word, meaning) = line.split_once('=')?;
        self.0.insert(word.to_owned(), meaning.to_owned())
    }
}

impl StateMachine for Words {
    /// Returns what the word meant before. A command that is no such line changes nothing.
    fn apply(&mut self, command: Bytes) -> Bytes {
        let before = std::str::from_utf8(&command).ok().and_then(|line| self.insert(line));
        before.unwrap_or_default().into()
    }

    /// The meaning of a word, or all words of the range for an empty query.
    fn query(&self, query: Bytes) -> Bytes {
        if query.is_empty() {
            let words: Vec<&str> = self.0.keys().map(String::as_str).collect();
            return words.join(" ").into();
        }
        let word = String::from_utf8_lossy(&query);
        self.0.get(&*word).cloned().unwrap_or_default().into()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let words = self.0.clone();
        Box::new(move |writer| {
            words.iter().try_for_each(|(word, meaning)| writeln!(writer, "{word}={meaning}"))
        })
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        self.0.clear();
        for line in BufReader::new(reader).lines() {
            self.insert(&line?);
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;

    // Ranges up to "h", from "h" up to "p", and from "p" on. Every node is given the same plan, and
    // calls the closure for each range of which it holds a replica.
    let plan = Plan {
        layout: "words".to_owned(),
        keeps_layout: false,
        groups: None,
        edge_bits: 16,
        split_keys: Some(vec![Bytes::from_static(b"h"), Bytes::from_static(b"p")]),
        replicas: 3,
    };
    let router = Router::start(node.clone(), plan, |_range| Box::new(Words::default())).await?;
    let map = router.map();

    for (word, meaning) in [
        ("logboat", "a boat cut from a single log"),
        ("raft", "logs that float together"),
        ("anchor", "what keeps a boat where it is"),
        ("keel", "the lowest timber of a boat"),
    ] {
        let range = &map.ranges()[map.locate(word.as_bytes())];
        router.propose(range, format!("{word}={meaning}").into()).await?;
        println!("{word} went to group {}", range.group);
    }

    let range = &map.ranges()[map.locate(b"logboat")];
    let meaning = router.read(range, Bytes::from_static(b"logboat")).await?;
    println!("logboat: {}", String::from_utf8_lossy(&meaning));
    assert_eq!(meaning, "a boat cut from a single log");

    // Ranges lie in the order of their keys, so the words of all ranges are in order, too.
    let mut words = Vec::new();
    for range in map.ranges() {
        let of_range = router.read(range, Bytes::new()).await?;
        words.extend(String::from_utf8_lossy(&of_range).split(' ').map(str::to_owned));
    }
    println!("all words: {words:?}");
    assert_eq!(words, ["anchor", "keel", "logboat", "raft"]);
    node.stop();
    Ok(())
}

/// `cargo test` runs the example, too.
#[test]
fn words_come_back_in_order() -> Result<(), Box<dyn Error>> {
    main()
}
