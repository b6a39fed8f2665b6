//! The same bytes to a node and to Redis itself, where `redis-server` can be run: the answers are
//! the same bytes too.
//!
//! Left out is what differs on purpose, as `docs/redis.md` lists it. The variable
//! `LOGBOAT_COMPARED_COMMANDS` says how many commands each kind of connection gets, in the place of
//! two thousand.

use crate::support::{TestResult, spec, talk};
use logboat_tests::process::{Cluster, PATIENCE, eventually, free_ports};
use logboat_tests::random::SplitMix64;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How many commands each kind of connection gets, unless it is said otherwise.
const COMMANDS: usize = 2_000;

/// Time passes after one of so many pipelines.
const TIME_PASSES: u64 = 40;

/// How long keys live that expire while the two are compared, in milliseconds.
const SHORT_MS: &str = "30";

/// After this time they have expired.
const LONGER: Duration = Duration::from_millis(80);

/// How a key comes to expire soon: the answers are the same however slow the machine is.
const EXPIRING: [&[&str]; 6] = [
    &["SET K V PX S"],
    &["PSETEX K S V"],
    &["SET K V", "PEXPIRE K S"],
    &["SET K V", "GETEX K PX S"],
    &["SET K V EX 1000", "PEXPIRE K S LT"],
    &["SET K V PX 10000000", "SET K V PX S GET"],
];

/// What shows that a key has expired, and what may be done with it.
const EXPIRED: [&str; 20] = [
    "GET K",
    "TTL K",
    "PTTL K",
    "EXPIRETIME K",
    "EXISTS K K",
    "TYPE K",
    "STRLEN K",
    "GETRANGE K 0 -1",
    "MGET K K",
    "PERSIST K",
    "EXPIREAT K 5",
    "GETDEL K",
    "GETEX K PERSIST",
    "SET K V XX",
    "SET K V KEEPTTL",
    "SETNX K V",
    "INCR K",
    "APPEND K V",
    "RENAMENX K {d}renamed",
    "COPY K {d}copy",
];

/// The most commands that are sent at once.
const MAX_PIPELINE: u64 = 24;

/// What stands between two pipelines, so that their answers can be told apart.
const MARKER: &str = "the end of this pipeline";

const KEYS: [&str; 7] = ["{d}1", "{d}2", "{d}3", "{d}4", "{d}5", "{d}", "{d}none"];

const VALUES: [&[u8]; 26] = [
    b"",
    b"a",
    b"abc",
    b"0",
    b"10",
    b"-1",
    b"+1",
    b"01",
    b" 1",
    b"1 ",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"999999999999999999",
    b"1.5",
    b"-0.0",
    b"3.0e3",
    b"5e-324",
    b"1e400",
    b"inf",
    b"nan",
    b"0x10",
    b"\0\xff\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\xc3\xa9",
    b"a value that is somewhat longer than the others, though not as long as some are",
];

const NUMBERS: [&[u8]; 13] = [
    b"0",
    b"1",
    b"-1",
    b"2",
    b"-3",
    b"100",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"1.5",
    b"",
    b"x",
    b"1 ",
];

/// How long keys live that nobody asks about: long, or nothing that makes sense.
const TERMS: [&[u8]; 8] =
    [b"0", b"-1", b"x", b"", b"9223372036854775807", b"10000000", b"1.5", b"7777777"];

/// When keys expire.
const TIMES: [&[u8]; 8] =
    [b"0", b"-5", b"x", b"1", b"1000", b"33333333333", b"99999999999", b"4102444800000"];

/// The same in seconds without times that have passed: Redis counts such a key for a while.
const FUTURE_SECONDS: [&[u8]; 6] =
    [b"0", b"-5", b"x", b"9000000000", b"99999999999", b"4102444800000"];

/// The same in milliseconds.
const FUTURE_MILLISECONDS: [&[u8]; 5] = [b"0", b"-5", b"x", b"4102444800000", b"9000000000000"];

/// Requests by their shape: `K` stands for a key, `V` for a value, `N` for a number, `P` for a
/// small position, `T`, `A`, `F` and `M` for times, and `K*` or `KV*` for some of them. The others
/// are words.
const SHAPES: [&str; 143] = [
    "GET K",
    "GET K",
    "SET K V",
    "SET K V",
    "SET K V NX",
    "SET K V XX",
    "SET K V GET",
    "SET K V XX GET",
    "SET K V NX XX",
    "SET K V KEEPTTL",
    "SET K V BAD",
    "SETNX K V",
    "GETSET K V",
    "GETDEL K",
    "STRLEN K",
    "APPEND K V",
    "SETRANGE K P V",
    "SETRANGE K N V",
    "GETRANGE K P P",
    "GETRANGE K N N",
    "SUBSTR K P P",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "INCRBYFLOAT K V",
    "MGET K*",
    "MSET KV*",
    "MSET KV* K",
    "MSETNX KV*",
    "DEL K*",
    "UNLINK K*",
    "EXISTS K*",
    "TYPE K",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB SYNC",
    "FLUSHALL BAD",
    "PING",
    "PING V",
    "PING V V",
    "ECHO V",
    "SELECT 0",
    "SELECT N",
    "CLIENT GETNAME",
    "CLIENT SETNAME name",
    "CLIENT SETNAME V",
    "CLIENT TRACKING OFF",
    "CLIENT NO-EVICT V",
    "CLIENT BAD",
    "CONFIG GET maxclients",
    "CONFIG BAD",
    "COMMAND GETKEYS GET K",
    "COMMAND GETKEYS MSET KV*",
    "COMMAND GETKEYS PING",
    "COMMAND GETKEYS NOSUCH V",
    "COMMAND GETKEYSANDFLAGS SET K V",
    "SCAN 0 COUNT abc",
    "SCAN 0 COUNT 0",
    "SCAN abc",
    "SCAN 0 MATCH {e}* COUNT 100",
    "SCAN 0 MATCH {e}* MATCH",
    "HELLO 1 BAD",
    "HELLO V BAD",
    "NOSUCH K V",
    "EXEC",
    "DISCARD",
    "SELECT P",
    "SELECT 0",
    "MOVE K x",
    "MOVE K 99",
    "SWAPDB x 1",
    "SWAPDB 99 N",
    "RENAME K K",
    "RENAMENX K K",
    "COPY K K",
    "COPY K K REPLACE",
    "COPY K K DB P",
    "COPY K K DB P REPLACE",
    "COPY K K DB N",
    "COPY K K BAD",
    "TOUCH K*",
    "SET {d}o V",
    "OBJECT ENCODING {d}o",
    "OBJECT REFCOUNT {d}o",
    "OBJECT FREQ K",
    "OBJECT BAD K",
    "OBJECT ENCODING {d}absent",
    "LCS K K",
    "LCS K K LEN",
    "LCS K K IDX",
    "LCS K K IDX WITHMATCHLEN",
    "LCS K K IDX MINMATCHLEN P",
    "LCS K K IDX LEN",
    "LCS K K MINMATCHLEN N",
    "WAIT 0 0",
    "WAIT N 1",
    "MEMORY USAGE {d}absent",
    "MEMORY USAGE {d}absent SAMPLES P",
    "MEMORY BAD",
    "COMMAND GETKEYSANDFLAGS COPY K K",
    "SET {d}r V EX T",
    "SET {d}r V PX T",
    "SET {d}r V EX 100 EX T",
    "SETEX {d}r T V",
    "PSETEX {d}r T V",
    "GETEX {d}r EX T",
    "GETEX {d}r PX T",
    "GETEX {d}absent EX T",
    "EXPIRE {d}r T",
    "PEXPIRE {d}r T",
    "EXPIRE {d}r T NX",
    "EXPIRE {d}r T XX",
    "GET {d}r",
    "SET K V EXAT F",
    "SET K V PXAT M",
    "SET K V KEEPTTL",
    "SET K V KEEPTTL EX 1",
    "SET K V EX",
    "SET K V EX 1 PX 1",
    "GETEX K",
    "GETEX K PERSIST",
    "GETEX K EXAT A",
    "GETEX K PXAT A",
    "GETEX K EX 1 PERSIST",
    "GETEX K BAD",
    "EXPIREAT K A",
    "EXPIREAT K A NX",
    "EXPIREAT K A XX",
    "EXPIREAT K A GT",
    "EXPIREAT K A LT",
    "EXPIREAT K A XX GT",
    "EXPIREAT K A NX GT",
    "EXPIREAT K A GT LT",
    "EXPIREAT K A BAD",
    "PEXPIREAT K A",
    "PEXPIREAT K A GT",
    "EXPIRETIME K",
    "PEXPIRETIME K",
    "PERSIST K",
    "TTL {d}absent",
    "PTTL {d}absent",
    "EXPIRE {d}absent T",
];

/// What may end a connection before its bytes do, one connection each.
const BROKEN: [&[u8]; 19] = [
    b"*1\r\n$4\r\nPING\r\n*x\r\n",
    b"*1\r\n$4\r\nPING\r\n*2147483648\r\n",
    b"*1048577\r\n$4\r\nPING\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$x\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n+a\r\n",
    b"*1\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n:1\r\n",
    b"*9223372036854775808\r\n",
    b"*1 \r\n",
    b"*01\r\n$4\r\nPING\r\nQUIT\r\n",
    b"*-1\r\n*0\r\n\r\nPING\r\nQUIT\r\n",
    b"SET {d}1 \"a\\x41\\n\"\r\nGET {d}1\r\nQUIT\r\n",
    b"SET {d}1 'a\\'b'\nGET {d}1\nQUIT\n",
    b"SET {d}1 \"a\r\nPING\r\n",
    b"SET {d}1 'a'b\r\nPING\r\n",
    b"GET\0 a\r\nQUIT\r\n",
    b"   PING   a  \r\nquit now\r\n",
];

#[test]
fn a_node_answers_as_redis_itself_does() -> TestResult {
    let Some(redis) = Redis::start()? else {
        eprintln!("skipped: there is no redis-server 7 here");
        return Ok(());
    };
    let cluster = Cluster::start(&spec(1, &["--groups", "4"]))?;
    let ports = [cluster.node(1).spec().client_port, redis.port];
    for (seed, hello) in [(1, "HELLO 2 BAD"), (2, "HELLO 3 SETNAME three")] {
        compare(ports, seed, hello)?;
    }
    for bytes in BROKEN {
        let [ours, theirs] = ports.map(|port| Peer::connect(port)?.last_words(bytes));
        assert_eq!(ours?, theirs?, "to {}", bytes.escape_ascii());
    }
    let long = [&b"PING "[..], &[b'x'; 70_000]].concat();
    let [ours, theirs] = ports.map(|port| talk(port, &long));
    assert_eq!(ours?, theirs?, "to an inline request without an end");
    Ok(())
}

/// Sends random pipelines to both, on one connection each.
fn compare(ports: [u16; 2], seed: u64, hello: &str) -> TestResult {
    let mut random = Random(SplitMix64::new(seed));
    let mut both = [Peer::connect(ports[0])?, Peer::connect(ports[1])?];
    // The answer to a HELLO that works tells of the server, so the two may differ.
    for peer in &mut both {
        let words: Vec<_> = hello.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        peer.exchange(&encoded(&words))?;
        peer.exchange(&encoded(&[b"FLUSHALL".to_vec()]))?;
    }
    let wanted = std::env::var("LOGBOAT_COMPARED_COMMANDS");
    let wanted = wanted.map_or(Ok(COMMANDS), |number| number.parse())?;
    let mut sent = 0;
    while sent < wanted {
        let place = format!("seed {seed}, after {sent} commands");
        let count = 1 + random.below(MAX_PIPELINE);
        let requests: Vec<_> = (0..count).map(|_| random.request()).collect();
        let bytes: usize = requests.iter().map(|request| encoded(request).len()).sum();
        let cut = usize::try_from(random.below(bytes as u64 + 1))?;
        ask_both(&mut both, &requests, cut, &place)?;
        sent += requests.len();
        if random.below(TIME_PASSES) == 0 {
            let (before, after) = (random.expiring(), random.expired());
            ask_both(&mut both, &before, 0, &place)?;
            // Time itself is what is tested.
            thread::sleep(LONGER);
            ask_both(&mut both, &after, 0, &place)?;
            // Redis counts a key that has expired until it comes across it.
            ask_both(&mut both, &[vec![b"FLUSHALL".to_vec()]], 0, &place)?;
            sent += before.len() + after.len() + 1;
        }
    }
    Ok(())
}

/// Sends requests to both, in two pieces, and compares the answers.
fn ask_both(
    both: &mut [Peer; 2],
    requests: &[Vec<Vec<u8>>],
    cut: usize,
    place: &str,
) -> TestResult {
    let bytes: Vec<_> = requests.iter().flat_map(|request| encoded(request)).collect();
    let mut answers = Vec::new();
    for peer in both {
        peer.stream.write_all(&bytes[..cut])?;
        answers.push(peer.exchange(&bytes[cut..])?);
    }
    if answers[0] != answers[1] {
        let requests: Vec<_> =
            requests.iter().map(|request| request.join(&b' ').escape_ascii().to_string()).collect();
        panic!(
            "{place}:\n{}\na node: {}\nRedis:  {}",
            requests.join("\n"),
            answers[0].escape_ascii(),
            answers[1].escape_ascii()
        );
    }
    Ok(())
}

/// A request as an array of bulk strings.
fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

struct Random(SplitMix64);

impl Random {
    const fn below(&mut self, bound: u64) -> u64 {
        self.0.draw() % bound
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        let index = self.below(items.len() as u64);
        items[usize::try_from(index).expect("the index of a slice")]
    }

    /// A request, at times with a word too few or too many, and its name in either case.
    fn request(&mut self) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        for word in self.one_of(&SHAPES).split(' ') {
            self.add(word, &mut words);
        }
        match self.below(24) {
            0 if words.len() > 1 => drop(words.pop()),
            1 => self.add("V", &mut words),
            2..8 => words[0].make_ascii_lowercase(),
            _ => {}
        }
        words
    }

    /// Requests after which all keys but the last expire soon.
    fn expiring(&mut self) -> Vec<Vec<Vec<u8>>> {
        let mut requests = Vec::new();
        for key in &KEYS[..KEYS.len() - 1] {
            requests.extend(self.one_of(&EXPIRING).iter().map(|shape| self.about(shape, key)));
        }
        requests
    }

    /// Requests about keys that have expired, some about each.
    fn expired(&mut self) -> Vec<Vec<Vec<u8>>> {
        let mut requests = Vec::new();
        for key in &KEYS[..KEYS.len() - 1] {
            for _ in 0..=self.below(3) {
                let shape = self.one_of(&EXPIRED);
                requests.push(self.about(shape, key));
            }
        }
        requests
    }

    /// A request about this key.
    fn about(&mut self, shape: &str, key: &str) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        for word in shape.split(' ') {
            match word {
                "K" => words.push(key.into()),
                "S" => words.push(SHORT_MS.into()),
                word => self.add(word, &mut words),
            }
        }
        words
    }

    /// Adds what a word of a shape stands for.
    fn add(&mut self, word: &str, words: &mut Vec<Vec<u8>>) {
        match word {
            "K" => words.push(self.one_of(&KEYS).into()),
            "V" => words.push(self.one_of(&VALUES).into()),
            "N" => words.push(self.one_of(&NUMBERS).into()),
            "T" => words.push(self.one_of(&TERMS).into()),
            "A" => words.push(self.one_of(&TIMES).into()),
            "F" => words.push(self.one_of(&FUTURE_SECONDS).into()),
            "M" => words.push(self.one_of(&FUTURE_MILLISECONDS).into()),
            "P" => words.push((self.below(16).cast_signed() - 5).to_string().into()),
            "K*" => (0..=self.below(4)).for_each(|_| self.add("K", words)),
            "KV*" => (0..=self.below(4)).for_each(|_| {
                self.add("K", words);
                self.add("V", words);
            }),
            word => words.push(word.into()),
        }
    }
}

/// One side of the comparison.
struct Peer {
    stream: TcpStream,
}

impl Peer {
    fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends requests and gives all the bytes that answer them.
    fn exchange(&mut self, requests: &[u8]) -> std::io::Result<Vec<u8>> {
        self.stream.write_all(requests)?;
        self.stream.write_all(&encoded(&[b"ECHO".to_vec(), MARKER.into()]))?;
        let end = format!("${}\r\n{MARKER}\r\n", MARKER.len()).into_bytes();
        let (mut answers, mut buffer) = (Vec::new(), [0; 16 << 10]);
        while !answers.ends_with(&end) {
            match self.stream.read(&mut buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => answers.extend(&buffer[..count]),
            }
        }
        Ok(answers)
    }

    /// Sends the last bytes and gives all that answers them.
    fn last_words(mut self, bytes: &[u8]) -> std::io::Result<String> {
        self.stream.write_all(bytes)?;
        self.stream.shutdown(Shutdown::Write)?;
        let mut answers = Vec::new();
        self.stream.read_to_end(&mut answers)?;
        Ok(answers.escape_ascii().to_string())
    }
}

/// Redis without persistence, on a port of its own. The process ends with this value.
struct Redis {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Redis {
    /// Nothing where there is no Redis that can be compared with.
    fn start() -> TestResult<Option<Self>> {
        let Ok(version) = Command::new("redis-server").arg("--version").output() else {
            return Ok(None);
        };
        if !String::from_utf8_lossy(&version.stdout).contains(" v=7.") {
            return Ok(None);
        }
        let (port, dir) = (free_ports(1)?, tempfile::tempdir()?);
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let redis = Self { process: command.spawn()?, port, _dir: dir };
        eventually("redis-server to listen", || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })?;
        Ok(Some(redis))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone and waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
