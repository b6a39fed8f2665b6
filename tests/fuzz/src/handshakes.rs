//! The listener of a transport, on a real socket, with arbitrary bytes of a dialer. The dialer gets
//! the answer that its hello deserves, or none. The connection ends in any case.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use logboat_raft::{
    BootCount, BootNonce, ClusterId, Incarnation, Introduction, LogPosition, NodeId, Remembered,
    Start,
};
use logboat_transport::{
    BootRefusal, Inbox, Parcel, TcpTransport, TransportConfig, VisitAnswer, judge,
};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) const CLUSTER: u64 = 5;
pub(crate) const NODE: u64 = 1;
pub(crate) const PEER: u64 = 2;

/// What the node says of itself.
pub(crate) const BOOT: Introduction = introduction(11);
/// What the peer says of itself.
pub(crate) const PEERS_BOOT: Introduction = introduction(12);
/// What the node remembers of the peer: its start was welcomed.
pub(crate) const KNOWN: Remembered = Remembered {
    incarnation: PEERS_BOOT.incarnation,
    let_in: PEERS_BOOT.let_in,
    welcomed: Some(PEERS_BOOT.newest),
    heard: PEERS_BOOT.log_end,
    fenced: false,
};

/// The protocol's version.
pub(crate) const VERSION: u32 = 9;

/// Bytes of what an introduction and an answer begin with: magic, version, four numbers, checksum.
const BASE_BYTES: usize = 48;
/// Bytes of a hello: six numbers and a checksum more.
pub(crate) const HELLO_BYTES: usize = 100;

const fn introduction(number: u64) -> Introduction {
    Introduction {
        incarnation: Incarnation(number),
        newest: start(number + 10, number + 20),
        let_in: Some(start(number + 9, number + 30)),
        log_end: LogPosition { segment: 1, offset: 4096 },
        cluster: Some(ClusterId(13)),
    }
}

const fn start(count: u64, nonce: u64) -> Start {
    Start { count: BootCount(count), nonce: BootNonce(nonce) }
}

/// The introduction that the numbers of a hello or an answer say, from the incarnation on.
pub(crate) fn said(numbers: [u64; 7]) -> Introduction {
    let [incarnation, count, nonce, let_in_count, let_in_nonce, log_end, cluster] = numbers;
    Introduction {
        incarnation: Incarnation(incarnation),
        newest: start(count, nonce),
        let_in: (let_in_count > 0).then(|| start(let_in_count, let_in_nonce)),
        log_end: LogPosition::unpack(log_end),
        cluster: (cluster != 0).then_some(ClusterId(cluster)),
    }
}

/// An introduction of this node or its peer.
pub(crate) fn hello(names: [u64; 3], own: Introduction) -> Vec<u8> {
    text(VERSION, &numbers(names, own))
}

/// The numbers of an introduction, or of an answer that says nothing of what is remembered.
pub(crate) fn numbers([first, second, third]: [u64; 3], own: Introduction) -> [u64; 10] {
    let Introduction { incarnation, newest, let_in, log_end, cluster } = own;
    let let_in = let_in.unwrap_or_default();
    let [newest, let_in] = [newest, let_in].map(|start| [start.count.0, start.nonce.0]);
    let [count, nonce, let_in_count, let_in_nonce] = [newest[0], newest[1], let_in[0], let_in[1]];
    let (log_end, cluster) = (log_end.pack(), cluster.map_or(0, |cluster| cluster.0));
    let who = [first, second, third, incarnation.0];
    let starts = [count, nonce, let_in_count, let_in_nonce];
    let [a, b, c, d] = who;
    let [e, f, g, h] = starts;
    [a, b, c, d, e, f, g, h, log_end, cluster]
}

/// An answer with what is remembered of the other side.
fn answer_text(names: [u64; 3], own: Introduction, remembered: Remembered) -> Vec<u8> {
    text(VERSION, &answer_numbers(names, own, remembered))
}

/// The numbers of an answer.
pub(crate) fn answer_numbers(
    names: [u64; 3],
    own: Introduction,
    remembered: Remembered,
) -> [u64; 12] {
    let [a, b, c, d, e, f, g, h, i, j] = numbers(names, own);
    let newest = remembered.newest().unwrap_or_default();
    [a, b, c, d, e, f, g, h, i, j, newest.count.0, remembered.heard.pack()]
}

/// Sends bytes as they are, or a well-formed hello and the bytes behind it.
pub fn handshakes(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // Empty data are an empty text.
    let sent =
        handshake_bytes(&mut input, numbers([CLUSTER, PEER, NODE], PEERS_BOOT)).unwrap_or_default();
    let expected = expected(&sent);
    let (answer, reset) = answer(&sent);
    if reset {
        // What the listener leaves unread may take the answer away, or the end of it.
        assert!(sent.len() > HELLO_BYTES || expected.len() <= BASE_BYTES);
        assert!(expected.starts_with(&answer));
    } else {
        assert_eq!(answer, expected);
    }
}

/// A hello or answer with these numbers, some of them changed, and more bytes behind it. Or bytes
/// without any such form.
pub(crate) fn handshake_bytes<const COUNT: usize>(
    input: &mut Unstructured<'_>,
    mut numbers: [u64; COUNT],
) -> Result<Vec<u8>> {
    let mut sent = Vec::new();
    if input.ratio(2, 3)? {
        let version = if input.ratio(7, 8)? { VERSION } else { input.arbitrary()? };
        for number in &mut numbers {
            if input.ratio(1, 8)? {
                *number = input.arbitrary()?;
            }
        }
        sent = text(version, &numbers);
    }
    let left = input.len();
    sent.extend_from_slice(input.bytes(left)?);
    Ok(sent)
}

/// The first four numbers, then the others, if there are any, each with a checksum of all before.
pub(crate) fn text(version: u32, numbers: &[u64]) -> Vec<u8> {
    let mut text = b"LOGBOAT\n".to_vec();
    text.extend(version.to_le_bytes());
    let (base, rest) = numbers.split_at(4);
    for part in [base, rest].into_iter().filter(|part| !part.is_empty()) {
        text.extend(part.iter().flat_map(|number| number.to_le_bytes()));
        text.extend(crc32fast::hash(&text).to_le_bytes());
    }
    text
}

/// What the listener should answer.
fn expected(sent: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&sent[at..at + 8]);
        u64::from_le_bytes(number)
    };
    if sent.len() < BASE_BYTES {
        return Vec::new();
    }
    let version = number(8) as u32;
    let base = [12, 20, 28, 36].map(number);
    if text(version, &base) != sent[..BASE_BYTES] {
        return Vec::new();
    } else if version != VERSION {
        return text(VERSION, &[0, 0, 1, 0]);
    } else if sent.len() < HELLO_BYTES {
        return Vec::new();
    }
    let [cluster, from, to, incarnation] = base;
    let [count, nonce, let_in_count, let_in_nonce, log_end, drawn] =
        [48, 56, 64, 72, 80, 88].map(number);
    let told = [incarnation, count, nonce, let_in_count, let_in_nonce, log_end, drawn];
    if text(VERSION, &[&[cluster, from, to][..], &told].concat()) != sent[..HELLO_BYTES] {
        return Vec::new();
    }
    let (nobody, nothing) = (Introduction::default(), Remembered::default());
    let refusal = |code, remembered| answer_text([CLUSTER, NODE, code], nobody, remembered);
    if (from, to) == (0, 0) {
        let welcome = answer_text([0, 0, 0], nobody, nothing);
        [welcome, visit(&sent[HELLO_BYTES..]).unwrap_or_default()].concat()
    } else if cluster != CLUSTER {
        answer_text([0, 0, 2], nobody, nothing)
    } else if ![0, 13].contains(&drawn) {
        let own = Introduction { cluster: BOOT.cluster, ..nobody };
        answer_text([CLUSTER, NODE, 15], own, nothing)
    } else if from != PEER {
        answer_text([0, 0, 4], nobody, nothing)
    } else if to != NODE {
        refusal(3, nothing)
    } else {
        match judge(Some(KNOWN), said(told)) {
            Ok(_) => answer_text([CLUSTER, NODE, 0], BOOT, KNOWN),
            Err(BootRefusal::Incarnation) => refusal(5, nothing),
            Err(BootRefusal::OldBoot) => refusal(7, KNOWN),
            Err(BootRefusal::OtherBoot) => refusal(8, KNOWN),
            Err(BootRefusal::FarBoot) => refusal(9, KNOWN),
            Err(BootRefusal::ShortLog) => refusal(10, KNOWN),
            Err(BootRefusal::ForgottenWelcome) => refusal(11, KNOWN),
            Err(BootRefusal::UnknownWelcome) => refusal(12, KNOWN),
            Err(BootRefusal::Fenced) => refusal(14, nothing),
        }
    }
}

/// What a visitor who asks this hears: its question, if that is whole.
fn visit(asked: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = asked.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let [len, checksum] = [len, checksum].map(|number| u32::from_le_bytes(*number));
    let question = rest.get(..len as usize)?;
    let is_whole = crc32fast::hash(question) == checksum;
    is_whole.then(|| asked[..8 + question.len()].to_vec())
}

/// What it does answer until it closes the connection, and whether it did so by a reset.
fn answer(sent: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(listener()).expect("the listener takes connections");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a wait that is not zero");
    // A listener that has read enough closes before all is sent.
    let _ = stream.write_all(sent);
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

/// Drops what arrives, and tells visitors what they asked.
struct Deaf;

impl Inbox for Deaf {
    fn receive(&self, from: NodeId, _: Vec<Parcel>) {
        assert_eq!(from, NodeId(PEER));
    }

    fn visited(&self, question: Bytes, answer: VisitAnswer) {
        answer(question);
    }

    fn introduction(&self, _: NodeId) -> Introduction {
        BOOT
    }

    fn remembered(&self, _: NodeId) -> Option<Remembered> {
        Some(KNOWN)
    }

    fn remember(&self, _: NodeId, _: Remembered) -> io::Result<()> {
        Ok(())
    }

    fn let_in_by(&self, _: NodeId) -> io::Result<()> {
        Ok(())
    }

    fn connected(&self, _: NodeId) {}

    fn disconnected(&self, _: NodeId) {}
}
