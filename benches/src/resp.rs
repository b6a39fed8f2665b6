//! `logboat-bench resp`: closed-loop clients of a server that speaks the Redis protocol, whichever
//! it is. All of them share one thread, as those of redis-benchmark do.

use crate::one_thread::{self, Load};
use crate::report;
use clap::Args;
use logboat_bench::Failure;
use logboat_server::latency::{per_second, ratio};
use serde::Serialize;
use std::io;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for what is read at once.
const READ_BYTES: usize = 16 << 10;

/// Closed-loop clients of a server that speaks the Redis protocol.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Where the server is.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// On which port.
    #[arg(long, default_value_t = 6401)]
    port: u16,
    /// How many clients, each with a connection.
    #[arg(long, default_value_t = 256)]
    clients: u64,
    /// How many commands a client sends together, before it reads their replies.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pipeline: u64,
    /// How many of 100 commands are GET; the others are SET.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    read_percent: u64,
    /// The size of a value in bytes.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// How many keys there are, from which each command draws one.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How long to measure, after a second of the same load that does not count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    clients: u64,
    pipeline: u64,
    payload_bytes: usize,
    writes_per_s: f64,
    reads_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    errors: u64,
    /// Of this process alone.
    client_cpu_us_per_command: f64,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let load = Rc::new(Load::default());
    let report = one_thread::run(measure(options, &load))?;
    report::print(&report, options.json)
}

async fn measure(options: &Options, load: &Rc<Load>) -> Result<Report, Failure> {
    let mut clients = Vec::new();
    for number in 0..options.clients {
        let stream = one_thread::connect(&options.host, options.port).await?;
        let client = Client::new(number, stream, options, Rc::clone(load));
        clients.push(tokio::task::spawn_local(client.run()));
    }
    let (elapsed, cpu) = load.measure(options.seconds, clients).await?;
    let (latencies, reads) = (load.latencies.borrow(), load.reads.get());
    let commands = latencies.count();
    Ok(Report {
        clients: options.clients,
        pipeline: options.pipeline,
        payload_bytes: options.payload,
        writes_per_s: per_second(commands - reads, elapsed),
        reads_per_s: per_second(reads, elapsed),
        p50_us: latencies.quantile_us(0.5),
        p99_us: latencies.quantile_us(0.99),
        p999_us: latencies.quantile_us(0.999),
        errors: load.errors.get(),
        client_cpu_us_per_command: ratio(u64::try_from(cpu.as_micros())?, commands),
    })
}

/// A client.
struct Client {
    stream: TcpStream,
    load: Rc<Load>,
    pipeline: u64,
    read_percent: u64,
    keys: u64,
    value: String,
    /// Where the draw of keys and commands is.
    dice: u64,
    request: Vec<u8>,
    replies: Replies,
}

impl Client {
    fn new(number: u64, stream: TcpStream, options: &Options, load: Rc<Load>) -> Self {
        Self {
            stream,
            load,
            pipeline: options.pipeline,
            read_percent: options.read_percent,
            keys: options.keys,
            value: "x".repeat(options.payload),
            dice: number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            request: Vec::new(),
            replies: Replies::default(),
        }
    }

    /// Sends pipelines until the load ends.
    async fn run(mut self) -> io::Result<()> {
        while !self.load.ends.get() {
            let reads = self.make_request();
            let sent = Instant::now();
            self.stream.write_all(&self.request).await?;
            let mut missing = self.pipeline;
            while missing > 0 {
                let (replies, errors) = self.read_replies().await?;
                missing = missing.saturating_sub(replies);
                if self.load.is_measured.get() {
                    self.load.latencies.borrow_mut().record_all(sent.elapsed(), replies);
                    self.load.errors.set(self.load.errors.get() + errors);
                }
            }
            if self.load.is_measured.get() {
                self.load.reads.set(self.load.reads.get() + reads);
            }
        }
        Ok(())
    }

    /// Makes the next pipeline; returns how many of its commands read.
    fn make_request(&mut self) -> u64 {
        self.request.clear();
        let mut reads = 0;
        for _ in 0..self.pipeline {
            let key = self.draw() % self.keys;
            if self.draw() % 100 < self.read_percent {
                reads += 1;
                let get = format!("*2\r\n$3\r\nGET\r\n$16\r\nkey:{key:012}\r\n");
                self.request.extend(get.bytes());
            } else {
                let set = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n");
                self.request.extend(set.bytes());
                self.request.extend(format!("${}\r\n", self.value.len()).bytes());
                self.request.extend(self.value.bytes());
                self.request.extend(b"\r\n");
            }
        }
        reads
    }

    /// Waits for more bytes; returns how many replies have arrived whole, and how many of them are
    /// errors.
    async fn read_replies(&mut self) -> io::Result<(u64, u64)> {
        self.replies.bytes.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.replies.bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.replies.take())
    }

    /// A number of a xorshift generator.
    const fn draw(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice >> 8
    }
}

/// Replies that arrive in pieces. They are statuses, errors, numbers and bytes, but no lists.
#[derive(Default)]
pub(crate) struct Replies {
    pub(crate) bytes: Vec<u8>,
}

impl Replies {
    /// Drops the replies that have arrived whole. Returns how many there were, and how many of them
    /// were errors.
    pub(crate) fn take(&mut self) -> (u64, u64) {
        let (mut at, mut replies, mut errors) = (0, 0, 0);
        while let Some(length) = length_of_reply(&self.bytes[at..]) {
            replies += 1;
            errors += u64::from(self.bytes[at] == b'-');
            at += length;
        }
        self.bytes.drain(..at);
        (replies, errors)
    }
}

/// The length of the first reply, if it is there as a whole.
fn length_of_reply(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let length = match bytes[0] {
        b'$' => std::str::from_utf8(&bytes[1..end]).ok()?.trim_end().parse::<i64>().ok()?,
        _ => -1,
    };
    // A length of -1 stands for no value, and nothing follows.
    let whole = end + usize::try_from(length).map_or(0, |length| length + 2);
    (bytes.len() >= whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_in_whatever_pieces_they_come() {
        let bytes = b"+OK\r\n$3\r\na\nb\r\n-ERR no\r\n$-1\r\n:7\r\n$0\r\n\r\n";
        for piece in 1..=bytes.len() {
            let mut replies = Replies::default();
            let mut counted = (0, 0);
            for chunk in bytes.chunks(piece) {
                replies.bytes.extend(chunk);
                let (whole, errors) = replies.take();
                counted = (counted.0 + whole, counted.1 + errors);
            }
            assert_eq!(counted, (6, 1), "pieces of {piece}");
            assert!(replies.bytes.is_empty());
        }
    }
}
