//! A front over a backend in memory, and a plain client that prints replies as text.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a module of several tests, each of which uses a part"
)]

use logboat::state::{LsmState, StateOptions};
use logboat::transport::Incarnation;
use logboat_server::backend::Backend;
use logboat_server::front::{FrontConfig, FrontGuard, RespServer};
use logboat_server::kv::SharedTables;
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use logboat_server::server_state::Facts;
use logboat_server::settings::Settings;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime;
use tokio::sync::oneshot;

/// Ends a test that would hang; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether this is the test `tables`, which has the other tests with keys and values on disk.
const ON_DISK: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"tables");

/// The backend with its keys and values where this test has them.
pub fn in_its_store(backend: MemoryBackend) -> MemoryBackend {
    if !ON_DISK {
        return backend;
    }
    // Nothing is flushed, so the files are not needed any more.
    let directory = tempfile::tempdir().unwrap();
    let tables = LsmState::open(directory.path(), Incarnation(1), StateOptions::default()).unwrap();
    backend.on_disk(&SharedTables::new(Arc::new(tables)))
}

pub struct Server<B = MemoryBackend> {
    pub backend: B,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl<B: Backend> Server<B> {
    pub fn start(backend: B, config: FrontConfig) -> Self {
        Self::start_with(backend, config, Settings::default())
    }

    pub fn start_with(backend: B, config: FrontConfig, settings: Settings) -> Self {
        Self::start_guarded(backend, config, settings, FrontGuard::default())
    }

    pub fn start_guarded(
        backend: B,
        config: FrontConfig,
        settings: Settings,
        guard: FrontGuard,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, address) = std::sync::mpsc::channel();
        let served = backend.clone();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let facts = || Facts {
                    sections: vec![("Engine", vec![("groups".into(), "7".into())])],
                    writes_fail: false,
                };
                let any_port = "127.0.0.1:0".parse().unwrap();
                let server =
                    RespServer::bind_guarded(any_port, config, settings, Box::new(facts), guard);
                let server = server.await.unwrap();
                bound.send(server.local_address()).unwrap();
                server
                    .serve(served, async {
                        let _ = stopped.await;
                    })
                    .await;
            });
        });
        let address = address.recv().unwrap();
        Self { backend, address, stop: Some(stop), thread: Some(thread) }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Stops the server and waits until it has ended.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Server {
    pub fn with(partition: Partition, ranges: u16) -> Self {
        let backend = MemoryBackend::even(partition, ranges, Limits::default());
        Self::start(in_its_store(backend), FrontConfig::default())
    }

    /// One server for each way that keys may lie.
    pub fn of_each_kind() -> Vec<Self> {
        [(Partition::Hash, 1), (Partition::Slots, 16), (Partition::Range, 16)]
            .map(|(partition, ranges)| Self::with(partition, ranges))
            .into()
    }
}

impl<B> Drop for Server<B> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends arguments as an array and returns the reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> String {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let argument = argument.as_ref();
            request.extend(format!("${}\r\n", argument.len()).bytes());
            request.extend(argument);
            request.extend(b"\r\n");
        }
        self.send(&request);
        self.reply()
    }

    /// Sends the words of a line as an array; `_` stands for an empty argument.
    pub fn ask(&mut self, line: &str) -> String {
        let words: Vec<&str> =
            line.split(' ').map(|word| if word == "_" { "" } else { word }).collect();
        self.call(&words)
    }

    /// The next reply: `+status`, `-error`, `:number`, `"bytes"`, `nil`, `[a, b]`, `{a: b}`,
    /// `~[a]` for a set and `="text"` for a verbatim string.
    pub fn reply(&mut self) -> String {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the connection is closed");
        let line = line.strip_suffix("\r\n").expect("a whole line");
        let (kind, rest) = line.split_at(1);
        match (kind, rest) {
            ("+" | "-" | ":", _) => line.to_owned(),
            ("$", "-1") | ("_", "") => "nil".to_owned(),
            ("$", length) => format!("\"{}\"", self.bytes(length)),
            ("=", length) => format!("=\"{}\"", self.bytes(length)),
            ("*", count) => format!("[{}]", self.replies(count).join(", ")),
            ("~", count) => format!("~[{}]", self.replies(count).join(", ")),
            ("%", count) => {
                let count: usize = count.parse().unwrap();
                let pairs: Vec<String> =
                    (0..count).map(|_| format!("{}: {}", self.reply(), self.reply())).collect();
                format!("{{{}}}", pairs.join(", "))
            }
            _ => panic!("no reply starts like {line:?}"),
        }
    }

    fn replies(&mut self, count: &str) -> Vec<String> {
        (0..count.parse::<usize>().unwrap()).map(|_| self.reply()).collect()
    }

    fn bytes(&mut self, length: &str) -> String {
        let length: usize = length.parse().unwrap();
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes[length..], b"\r\n");
        bytes[..length].escape_ascii().to_string()
    }

    /// Whether nothing more comes: the server has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0) | Err(_))
    }

    pub fn close_sending_side(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Writes as much as the server takes until it cuts the connection, without reading.
    pub fn send_until_cut(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while let Ok(written) = self.stream.write(bytes) {
            sent += written;
        }
        sent
    }
}

/// Sends each line and compares the reply, in a new database of each kind.
#[track_caller]
pub fn transcript(lines: &[(&str, &str)]) {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        for (line, expected) in lines {
            assert_eq!(client.ask(line), *expected, "{line}");
        }
    }
}

/// What a backend with another as its `inner` hands on to that.
#[allow(unused_macros, reason = "some tests have no backend of their own")]
macro_rules! hand_on_to_inner {
    () => {
        fn partition(&self) -> logboat_server::layout::Partition {
            self.inner.partition()
        }

        fn limits(&self) -> logboat_server::limits::Limits {
            self.inner.limits()
        }

        fn sure_copies(&self) -> usize {
            self.inner.sure_copies()
        }

        fn ranges(&self) -> usize {
            self.inner.ranges()
        }

        fn range_of(&self, stored_key: &[u8]) -> logboat_server::backend::RangeId {
            self.inner.range_of(stored_key)
        }

        fn bounds(
            &self,
            range: logboat_server::backend::RangeId,
        ) -> (bytes::Bytes, Option<bytes::Bytes>) {
            self.inner.bounds(range)
        }
    };
}
#[allow(unused_imports, reason = "some tests have no backend of their own")]
pub(crate) use hand_on_to_inner;
