//! `logboat-bench`: how much a cluster, or a log alone, does in a second on this machine.

mod closed_loop;
mod disk;
mod elastic;
mod expiry;
mod failover;
mod front;
mod idle;
mod membership;
mod mixed;
mod moving;
mod one_thread;
mod open_loop;
mod overload;
mod placement;
mod plan;
mod replace;
mod report;
mod resp;
mod restarts;
mod rivals;
mod servers;
mod throughput;
mod timeline;
mod wal;

use clap::{Parser, Subcommand};
use logboat_bench::allocator::CountingAllocator;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[derive(Debug, Parser)]
#[command(name = "logboat-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// A whole cluster in this process, under closed-loop clients.
    Throughput(throughput::Options),
    /// A cluster that is offered many times what it takes.
    Overload(overload::Options),
    /// Small writes beside large ones.
    Mixed(mixed::Options),
    /// A cluster of groups that have nothing to do.
    Idle(idle::Options),
    /// A cluster of processes, one of which is killed.
    Failover(failover::Options),
    /// A cluster of processes that are restarted one after the other.
    Restarts(restarts::Options),
    /// A group of which a replica is replaced.
    Replace(replace::Options),
    /// Groups that all move to other nodes.
    Moving(moving::Options),
    /// A cluster of processes that nodes join and leave.
    Elastic(elastic::Options),
    /// Keys that expire: what they take, and what others wait for.
    Expiry(expiry::Options),
    /// Placement for a large simulated cluster.
    Plan(plan::Options),
    /// Clients of a server that speaks the Redis protocol.
    Resp(resp::Options),
    /// Clients of an etcd or a ZooKeeper, to be run beside those.
    Rivals(rivals::Options),
    /// What a command costs in the Redis front, stage by stage.
    Front(front::Options),
    /// What the disk takes of synced writes.
    Disk(disk::Options),
    /// The write-ahead log alone.
    Wal(wal::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().bench {
        Bench::Throughput(options) => throughput::run(&options),
        Bench::Overload(options) => overload::run(&options),
        Bench::Mixed(options) => mixed::run(&options),
        Bench::Idle(options) => idle::run(&options),
        Bench::Failover(options) => failover::run(&options),
        Bench::Restarts(options) => restarts::run(&options),
        Bench::Replace(options) => replace::run(&options),
        Bench::Moving(options) => moving::run(&options),
        Bench::Elastic(options) => elastic::run(&options),
        Bench::Expiry(options) => expiry::run(&options),
        Bench::Plan(options) => plan::run(&options),
        Bench::Resp(options) => resp::run(&options),
        Bench::Rivals(options) => rivals::run(&options),
        Bench::Front(options) => front::run(&options),
        Bench::Disk(options) => disk::run(&options),
        Bench::Wal(options) => wal::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("logboat-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
