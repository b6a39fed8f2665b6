//! The listener of a transport, on a real socket: whatever a dialer says, it gets the answer that
//! its introduction deserves or none, and the connection ends.

use arbitrary::{Result, Unstructured};
use logboat_raft::{ClusterId, Incarnation, NodeId};
use logboat_transport::{Inbox, Parcel, TcpTransport, TransportConfig};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) const CLUSTER: u64 = 5;
pub(crate) const NODE: u64 = 1;
pub(crate) const PEER: u64 = 2;
pub(crate) const INCARNATION: u64 = 11;
pub(crate) const PEERS_INCARNATION: u64 = 12;

/// The protocol's version.
pub(crate) const VERSION: u32 = 2;

/// Bytes of an introduction and of an answer: magic, version, four numbers, checksum.
pub(crate) const TEXT_BYTES: usize = 48;

/// Says bytes as they are, or an introduction that is well-formed and the bytes behind it.
pub fn handshakes(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // Data that say nothing at all are said.
    let said = said(&mut input, [CLUSTER, PEER, NODE, PEERS_INCARNATION]).unwrap_or_default();
    let expected = expected(&said);
    let (answer, reset) = answer(&said);
    if reset {
        // What the listener leaves unread may take the answer away, or the end of it.
        assert!(said.len() > TEXT_BYTES || expected.is_empty());
        assert!(expected.starts_with(&answer));
    } else {
        assert_eq!(answer, expected);
    }
}

/// A text with these numbers, or with others here and there, and what follows; or mere noise.
pub(crate) fn said(input: &mut Unstructured<'_>, mut numbers: [u64; 4]) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    if input.ratio(2, 3)? {
        let version = if input.ratio(7, 8)? { VERSION } else { input.arbitrary()? };
        for number in &mut numbers {
            if input.ratio(1, 8)? {
                *number = input.arbitrary()?;
            }
        }
        said = text(version, numbers);
    }
    let left = input.len();
    said.extend_from_slice(input.bytes(left)?);
    Ok(said)
}

pub(crate) fn text(version: u32, numbers: [u64; 4]) -> Vec<u8> {
    let mut text = b"LOGBOAT\n".to_vec();
    text.extend(version.to_le_bytes());
    text.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    text.extend(crc32fast::hash(&text).to_le_bytes());
    text
}

/// What the listener should answer.
fn expected(said: &[u8]) -> Vec<u8> {
    let Some((hello, _)) = said.split_first_chunk::<TEXT_BYTES>() else {
        return Vec::new();
    };
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&hello[at..at + 8]);
        u64::from_le_bytes(number)
    };
    let [version, cluster, from, to, incarnation] =
        [number(8) & 0xffff_ffff, number(12), number(20), number(28), number(36)];
    if text(version as u32, [cluster, from, to, incarnation]) != hello {
        return Vec::new();
    }
    let code = if version != u64::from(VERSION) {
        1
    } else if cluster != CLUSTER {
        2
    } else if to != NODE {
        3
    } else if from != PEER {
        4
    } else if incarnation != PEERS_INCARNATION {
        5
    } else {
        0
    };
    match code {
        0 => text(VERSION, [CLUSTER, NODE, code, INCARNATION]),
        _ if cluster == CLUSTER => text(VERSION, [CLUSTER, NODE, code, 0]),
        _ => text(VERSION, [0, 0, code, 0]),
    }
}

/// What it does answer until it closes the connection, and whether it did so by a reset.
fn answer(said: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(listener()).expect("the listener takes connections");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a wait that is not zero");
    // A listener that has heard enough closes before all is said.
    let _ = stream.write_all(said);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => (answer, false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it keeps the connection"),
        Err(_) => (answer, true),
    }
}

/// The address of a transport that listens for as long as the process lives.
fn listener() -> SocketAddr {
    static LISTENER: OnceLock<TcpTransport> = OnceLock::new();
    let transport = LISTENER.get_or_init(|| {
        let mut config = TransportConfig::new(
            NodeId(NODE),
            ClusterId(CLUSTER),
            Incarnation(INCARNATION),
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            // Nobody listens there: this node only answers.
            BTreeMap::from([(NodeId(PEER), "127.0.0.1:1".to_owned())]),
        );
        config.backoff_min = Duration::from_secs(3600);
        config.backoff_max = config.backoff_min;
        TcpTransport::start(config, Arc::new(Deaf)).expect("loopback has a free port")
    });
    transport.local_addr()
}

/// Drops what arrives.
struct Deaf;

impl Inbox for Deaf {
    fn receive(&self, from: NodeId, _: Vec<Parcel>) {
        assert_eq!(from, NodeId(PEER));
    }

    fn verify(&self, _: NodeId, incarnation: Incarnation) -> bool {
        incarnation == Incarnation(PEERS_INCARNATION)
    }

    fn connected(&self, _: NodeId) {}

    fn disconnected(&self, _: NodeId) {}
}
