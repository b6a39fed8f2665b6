//! INFO.

use super::arguments::is;
use super::context::Context;
use crate::process::ProcessUsage;
use crate::resp::Reply;
use crate::server_state::{Facts, REDIS_VERSION, ServerState};
use bytes::Bytes;
use std::fmt::{Display, Write};
use std::time::UNIX_EPOCH;

/// INFO [section …]
pub(super) fn info<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Reply {
    let everything = ["all", "everything", "default"];
    let all = arguments.is_empty()
        || arguments.iter().any(|wanted| everything.iter().any(|word| is(wanted, word)));
    let mut text = String::new();
    for section in sections(context.server) {
        if all || arguments.iter().any(|wanted| is(wanted, section.title)) {
            section.write(&mut text);
        }
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

/// All sections, in the order of Redis; those of the engine stand before the last.
fn sections(server: &ServerState) -> Vec<Section> {
    let facts = server.facts();
    let usage = ProcessUsage::now();
    let mut sections = vec![
        about_server(server),
        clients(server),
        memory(server, usage),
        persistence(server, &facts),
        stats(server),
        // Any node takes any command, so each is a master to its clients.
        Section::new("Replication").line("role", "master").line("connected_slaves", 0),
        processor(usage),
        Section::new("Cluster").line("cluster_enabled", 0),
    ];
    let own = facts.sections.into_iter().map(|(title, lines)| Section { title, lines });
    sections.extend(own);
    let keyspace = Section::new("Keyspace");
    sections.push(match facts.keys.filter(|keys| *keys > 0) {
        Some(keys) => keyspace.line("db0", format!("keys={keys},expires=0,avg_ttl=0")),
        None => keyspace,
    });
    sections
}

fn about_server(server: &ServerState) -> Section {
    let uptime = server.started.elapsed().as_secs();
    Section::new("Server")
        .line("redis_version", REDIS_VERSION)
        .line("logboat_version", env!("CARGO_PKG_VERSION"))
        .line("redis_mode", "standalone")
        .line("os", std::env::consts::OS)
        .line("arch_bits", usize::BITS)
        .line("process_id", std::process::id())
        .line("tcp_port", server.address.port())
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
        .line("expired_keys", 0)
        .line("evicted_keys", 0)
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
