//! INFO.

use super::arguments::is;
use super::context::Context;
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, DatabaseSize, Query};
use crate::layout::Partition;
use crate::process::ProcessUsage;
use crate::resp::Reply;
use crate::server_state::{Facts, REDIS_VERSION, ServerState};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long INFO waits to hear how many keys there are. Without an answer it says nothing of them.
const PATIENCE: Duration = Duration::from_secs(2);

/// INFO [section …]
pub(super) async fn info<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Reply {
    let everything = ["all", "everything", "default"];
    let all = arguments.is_empty()
        || arguments.iter().any(|wanted| everything.iter().any(|word| is(wanted, word)));
    let wants = |title: &str| all || arguments.iter().any(|wanted| is(wanted, title));
    let mut text = String::new();
    let in_cluster = context.backend.partition() == Partition::Slots;
    for section in sections(context.server, in_cluster) {
        if wants(section.title) {
            section.write(&mut text);
        }
    }
    if wants("Keyspace") {
        keyspace(context).await.write(&mut text);
    }
    Reply::Verbatim(Bytes::from(text))
}

/// A section: a title, and names with values.
struct Section {
    title: &'static str,
    lines: Vec<(String, String)>,
}

impl Section {
    const fn new(title: &'static str) -> Self {
        Self { title, lines: Vec::new() }
    }

    fn line(mut self, name: &str, value: impl Display) -> Self {
        self.lines.push((name.to_owned(), value.to_string()));
        self
    }

    /// A number of bytes, as it is and for people.
    fn bytes(self, name: &str, bytes: u64) -> Self {
        self.line(name, bytes).line(&format!("{name}_human"), human(bytes))
    }

    fn write(&self, text: &mut String) {
        let separator = if text.is_empty() { "" } else { "\r\n" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}# {}\r\n", self.title);
        for (name, value) in &self.lines {
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
}

/// How many keys each database has, all ranges together.
async fn keyspace<B: Backend>(context: &Context<'_, B>) -> Section {
    let queries = (0..context.backend.ranges()).map(|range| (RangeId(range), Query::Keyspace));
    let answers = tokio::time::timeout(PATIENCE, context.read_each(queries.collect())).await;
    let mut sizes: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
    for answer in answers.into_iter().flatten().flatten() {
        let Answer::Keyspace(databases) = answer else { continue };
        for DatabaseSize { database, keys, expiring } in databases {
            let size = sizes.entry(database).or_default();
            *size = (size.0 + keys, size.1 + expiring);
        }
    }
    sizes.into_iter().fold(Section::new("Keyspace"), |section, (database, (keys, expiring))| {
        let size = format!("keys={keys},expires={expiring},avg_ttl=0");
        section.line(&format!("db{database}"), size)
    })
}

/// All sections but the last, in the order of Redis, and then those of the engine.
fn sections(server: &ServerState, in_cluster: bool) -> Vec<Section> {
    let facts = server.facts();
    let usage = ProcessUsage::now();
    let mut sections = vec![
        about_server(server, in_cluster),
        clients(server),
        memory(server, usage),
        persistence(server, &facts),
        stats(server),
        // Any node takes any command, so each is a master to its clients.
        Section::new("Replication")
            .line("role", "master")
            .line("connected_slaves", 0)
            .line("master_failover_state", "no-failover")
            .line("master_repl_offset", 0)
            .line("second_repl_offset", -1)
            .line("repl_backlog_active", 0)
            .line("repl_backlog_size", 0)
            .line("repl_backlog_histlen", 0),
        processor(usage),
        Section::new("Modules"),
        Section::new("Errorstats"),
        Section::new("Cluster").line("cluster_enabled", u8::from(in_cluster)),
    ];
    let own = facts.sections.into_iter().map(|(title, lines)| Section { title, lines });
    sections.extend(own);
    sections
}

fn about_server(server: &ServerState, in_cluster: bool) -> Section {
    let uptime = server.started.elapsed().as_secs();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Section::new("Server")
        .line("redis_version", REDIS_VERSION)
        .line("logboat_version", env!("CARGO_PKG_VERSION"))
        .line("redis_mode", if in_cluster { "cluster" } else { "standalone" })
        .line("os", std::env::consts::OS)
        .line("arch_bits", usize::BITS)
        .line("multiplexing_api", "epoll")
        .line("process_id", std::process::id())
        .line("process_supervised", "no")
        .line("tcp_port", server.address.port())
        .line("server_time_usec", now.as_micros())
        .line("uptime_in_seconds", uptime)
        .line("uptime_in_days", uptime / 86_400)
}

fn clients(server: &ServerState) -> Section {
    Section::new("Clients")
        .line("connected_clients", server.clients.count())
        .line("cluster_connections", 0)
        .line("maxclients", server.settings().max_clients)
        .line("blocked_clients", 0)
        .line("tracking_clients", 0)
        .line("pubsub_clients", 0)
        .line("watching_clients", 0)
        .line("clients_in_timeout_table", 0)
        .line("total_blocking_keys", 0)
        .line("total_blocking_keys_on_nokey", 0)
}

/// The memory of the process. The allocator keeps no account, so the resident memory is reported as
/// the memory in use.
fn memory(server: &ServerState, usage: ProcessUsage) -> Section {
    Section::new("Memory")
        .bytes("used_memory", usage.resident_bytes)
        .bytes("used_memory_dataset", server.data.held_bytes())
        .bytes("used_memory_rss", usage.resident_bytes)
        .bytes("used_memory_peak", usage.peak_bytes)
        .bytes("total_system_memory", usage.machine_bytes)
        .bytes("maxmemory", server.settings().max_memory_bytes)
        .line("maxmemory_policy", "noeviction")
        .line("mem_fragmentation_ratio", "1.00")
        .line("mem_clients_normal", server.clients.buffered_bytes())
        .line("mem_allocator", "libc")
}

/// How writes are kept. Each write is in the log and synced before it is acknowledged. Redis calls
/// that an append-only file. There are no dumps that a client could wait for.
fn persistence(server: &ServerState, facts: &Facts) -> Section {
    let started_at = server.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let write_status = if facts.writes_fail { "err" } else { "ok" };
    Section::new("Persistence")
        .line("loading", 0)
        .line("async_loading", 0)
        .line("rdb_changes_since_last_save", 0)
        .line("rdb_bgsave_in_progress", 0)
        .line("rdb_last_save_time", started_at.as_secs())
        .line("rdb_last_bgsave_status", "ok")
        .line("rdb_last_bgsave_time_sec", -1)
        .line("rdb_current_bgsave_time_sec", -1)
        .line("aof_enabled", 1)
        .line("aof_rewrite_in_progress", 0)
        .line("aof_rewrite_scheduled", 0)
        .line("aof_last_rewrite_time_sec", -1)
        .line("aof_current_rewrite_time_sec", -1)
        .line("aof_last_bgrewrite_status", "ok")
        .line("aof_last_write_status", write_status)
}

fn stats(server: &ServerState) -> Section {
    let stats = &server.stats;
    Section::new("Stats")
        .line("total_connections_received", stats.connections.value())
        .line("total_commands_processed", stats.commands.value())
        .line("rejected_connections", stats.rejected.value())
        .line("expired_keys", server.data.expired_keys())
        .line("evicted_keys", 0)
        .line("evicted_clients", 0)
        .line("pubsub_channels", 0)
        .line("pubsub_patterns", 0)
        .line("latest_fork_usec", 0)
        .line("migrate_cached_sockets", 0)
        .line("tracking_total_keys", 0)
        .line("tracking_total_items", 0)
        .line("tracking_total_prefixes", 0)
        .line("total_error_replies", stats.errors.value())
}

fn processor(usage: ProcessUsage) -> Section {
    Section::new("CPU")
        .line("used_cpu_sys", format!("{:.6}", usage.system_secs))
        .line("used_cpu_user", format!("{:.6}", usage.user_secs))
        .line("used_cpu_sys_children", "0.000000")
        .line("used_cpu_user_children", "0.000000")
}

/// A number of bytes in Redis's human-readable form.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn human(bytes: u64) -> String {
    let units = [('T', 1_u64 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_are_written_as_in_redis() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (12_472_320, "11.89M"),
            (25_276_502_016, "23.54G"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
