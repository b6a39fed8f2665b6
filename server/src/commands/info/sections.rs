//! The sections of INFO that a node knows by itself.
//!
//! They have the fields that dashboards and exporters read. What there is nothing of is zero, such
//! as scripts, subscribers and evicted keys. Fields about what is done in another way, such as the
//! allocator, are left out where any number would be a wrong one.

use super::{Section, human};
use crate::latency::ratio;
use crate::process::ProcessUsage;
use crate::server_state::{Facts, REDIS_VERSION, ServerState};
use std::time::{SystemTime, UNIX_EPOCH};

/// How often a second a node looks at its clients' rates, doubled: Redis's `hz`.
const HZ: u32 = 10;

/// All sections but the last, in the order of Redis, and then those of the engine.
pub(super) fn sections(server: &ServerState, in_cluster: bool) -> Vec<Section> {
    let facts = server.facts();
    let usage = ProcessUsage::now();
    let mut sections = vec![
        about_server(server, in_cluster),
        clients(server),
        memory(server, usage),
        persistence(server, &facts),
        stats(server),
        replication(server),
        processor(usage),
        Section::new("Modules"),
        command_stats(server),
        error_stats(server),
        latency_stats(server),
        Section::new("Cluster").line("cluster_enabled", u8::from(in_cluster)),
    ];
    let own = facts.sections.into_iter().map(|(title, lines)| Section { title, lines });
    sections.extend(own);
    sections
}

fn about_server(server: &ServerState, in_cluster: bool) -> Section {
    let uptime = server.started.elapsed().as_secs();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let executable = std::env::current_exe().unwrap_or_default();
    Section::new("Server")
        .line("redis_version", REDIS_VERSION)
        .line("logboat_version", env!("CARGO_PKG_VERSION"))
        .line("redis_mode", if in_cluster { "cluster" } else { "standalone" })
        .line("os", std::env::consts::OS)
        .line("arch_bits", usize::BITS)
        .line("monotonic_clock", "POSIX clock_gettime")
        .line("multiplexing_api", "epoll")
        .line("process_id", std::process::id())
        .line("process_supervised", "no")
        .line("run_id", &server.run_id)
        .line("tcp_port", server.address.port())
        .line("server_time_usec", now.as_micros())
        .line("uptime_in_seconds", uptime)
        .line("uptime_in_days", uptime / 86_400)
        .line("hz", HZ)
        .line("configured_hz", HZ)
        .line("executable", executable.display())
        .line("config_file", "")
        .line("io_threads_active", 0)
}

fn clients(server: &ServerState) -> Section {
    let (input, output) = server.clients.largest_buffers();
    Section::new("Clients")
        .line("connected_clients", server.clients.count())
        .line("cluster_connections", 0)
        .line("maxclients", server.settings().max_clients)
        .line("client_recent_max_input_buffer", input)
        .line("client_recent_max_output_buffer", output)
        .line("blocked_clients", server.pause.waiting())
        .zeros(&[
            "tracking_clients",
            "pubsub_clients",
            "watching_clients",
            "clients_in_timeout_table",
            "total_watched_keys",
            "total_blocking_keys",
            "total_blocking_keys_on_nokey",
        ])
}

/// The memory of the process. The allocator keeps no account, so the resident memory is reported as
/// the memory in use.
fn memory(server: &ServerState, usage: ProcessUsage) -> Section {
    let (resident, dataset) = (usage.resident_bytes, server.data.held_bytes());
    let percent = |part, whole| format!("{:.2}%", 100.0 * ratio(part, whole));
    Section::new("Memory")
        .bytes("used_memory", resident)
        .bytes("used_memory_rss", resident)
        .bytes("used_memory_peak", usage.peak_bytes)
        .line("used_memory_peak_perc", percent(resident, usage.peak_bytes))
        .line("used_memory_overhead", resident.saturating_sub(dataset))
        .line("used_memory_startup", 0)
        .bytes("used_memory_dataset", dataset)
        .line("used_memory_dataset_perc", percent(dataset, resident))
        .line("allocator_allocated", resident)
        .line("allocator_active", resident)
        .line("allocator_resident", resident)
        .bytes("total_system_memory", usage.machine_bytes)
        .zeros(&["used_memory_lua", "used_memory_vm_eval"])
        .line("used_memory_lua_human", human(0))
        .zeros(&[
            "used_memory_scripts_eval",
            "number_of_cached_scripts",
            "number_of_functions",
            "number_of_libraries",
            "used_memory_vm_functions",
            "used_memory_vm_total",
        ])
        .line("used_memory_vm_total_human", human(0))
        .zeros(&["used_memory_functions", "used_memory_scripts"])
        .line("used_memory_scripts_human", human(0))
        .bytes("maxmemory", server.settings().max_memory_bytes)
        .line("maxmemory_policy", "noeviction")
        .line("mem_fragmentation_ratio", "1.00")
        .zeros(&[
            "mem_fragmentation_bytes",
            "mem_not_counted_for_evict",
            "mem_replication_backlog",
            "mem_total_replication_buffers",
            "mem_clients_slaves",
        ])
        .line("mem_clients_normal", server.clients.buffered_bytes())
        .zeros(&["mem_cluster_links", "mem_aof_buffer"])
        .line("mem_allocator", "libc")
        .zeros(&["active_defrag_running", "lazyfree_pending_objects", "lazyfreed_objects"])
}

/// How writes are kept. Each write is in the log and synced before it is acknowledged. Redis calls
/// that an append-only file. There are no dumps that a client could wait for.
fn persistence(server: &ServerState, facts: &Facts) -> Section {
    let started_at = server.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let write_status = if facts.writes_fail { "err" } else { "ok" };
    Section::new("Persistence")
        .zeros(&[
            "loading",
            "async_loading",
            "current_cow_peak",
            "current_cow_size",
            "current_cow_size_age",
        ])
        .line("current_fork_perc", "0.00")
        .zeros(&[
            "current_save_keys_processed",
            "current_save_keys_total",
            "rdb_changes_since_last_save",
            "rdb_bgsave_in_progress",
        ])
        .line("rdb_last_save_time", started_at.as_secs())
        .line("rdb_last_bgsave_status", "ok")
        .line("rdb_last_bgsave_time_sec", -1)
        .line("rdb_current_bgsave_time_sec", -1)
        .zeros(&["rdb_saves", "rdb_last_cow_size"])
        .line("aof_enabled", 1)
        .zeros(&["aof_rewrite_in_progress", "aof_rewrite_scheduled"])
        .line("aof_last_rewrite_time_sec", -1)
        .line("aof_current_rewrite_time_sec", -1)
        .line("aof_last_bgrewrite_status", "ok")
        .zeros(&["aof_rewrites", "aof_rewrites_consecutive_failures"])
        .line("aof_last_write_status", write_status)
        .zeros(&["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"])
}

fn stats(server: &ServerState) -> Section {
    let stats = &server.stats;
    let (totals, rate) = (stats.commands.totals(), stats.rates.now());
    let kilobytes = |bytes: f64| format!("{:.2}", bytes / 1_024.0);
    Section::new("Stats")
        .line("total_connections_received", stats.connections.value())
        .line("total_commands_processed", totals.calls)
        .line("instantaneous_ops_per_sec", rate.calls.round())
        .line("total_net_input_bytes", totals.received)
        .line("total_net_output_bytes", totals.sent)
        .zeros(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"])
        .line("instantaneous_input_kbps", kilobytes(rate.received))
        .line("instantaneous_output_kbps", kilobytes(rate.sent))
        .line("instantaneous_input_repl_kbps", "0.00")
        .line("instantaneous_output_repl_kbps", "0.00")
        .line("rejected_connections", stats.rejected.value())
        .zeros(&["sync_full", "sync_partial_ok", "sync_partial_err"])
        .line("expired_keys", server.data.expired_keys())
        .line("expired_stale_perc", "0.00")
        .zeros(&[
            "expired_time_cap_reached_count",
            "evicted_keys",
            "evicted_clients",
            "total_eviction_exceeded_time",
            "current_eviction_exceeded_time",
        ])
        .line("keyspace_hits", totals.hits)
        .line("keyspace_misses", totals.misses)
        .zeros(&[
            "pubsub_channels",
            "pubsub_patterns",
            "pubsubshard_channels",
            "latest_fork_usec",
            "total_forks",
            "migrate_cached_sockets",
            "slave_expires_tracked_keys",
            "active_defrag_hits",
            "active_defrag_misses",
            "active_defrag_key_hits",
            "active_defrag_key_misses",
            "total_active_defrag_time",
            "current_active_defrag_time",
            "tracking_total_keys",
            "tracking_total_items",
            "tracking_total_prefixes",
            "unexpected_error_replies",
        ])
        .line("total_error_replies", stats.errors.total())
        .zeros(&["dump_payload_sanitizations", "acl_access_denied_cmd"])
        .line("acl_access_denied_auth", stats.failed_logins.value())
}

/// Any node takes any command, so each is a master to its clients. Replication is a matter of the
/// groups, which the section about the engine counts.
fn replication(server: &ServerState) -> Section {
    Section::new("Replication")
        .line("role", "master")
        .line("connected_slaves", 0)
        .line("master_failover_state", "no-failover")
        .line("master_replid", &server.run_id)
        .line("master_replid2", "0".repeat(40))
        .line("master_repl_offset", 0)
        .line("second_repl_offset", -1)
        .zeros(&[
            "repl_backlog_active",
            "repl_backlog_size",
            "repl_backlog_first_byte_offset",
            "repl_backlog_histlen",
        ])
}

fn processor(usage: ProcessUsage) -> Section {
    Section::new("CPU")
        .line("used_cpu_sys", format!("{:.6}", usage.system_secs))
        .line("used_cpu_user", format!("{:.6}", usage.user_secs))
        .line("used_cpu_sys_children", "0.000000")
        .line("used_cpu_user_children", "0.000000")
}

/// How often each command came, and how long it took from when its turn came until its reply.
fn command_stats(server: &ServerState) -> Section {
    let totals = server.stats.commands.by_command();
    totals.into_iter().fold(Section::new("Commandstats"), |section, total| {
        let value = format!(
            "calls={},usec={},usec_per_call={:.2},rejected_calls={},failed_calls={}",
            total.calls,
            total.us,
            ratio(total.us, total.calls),
            total.rejected,
            total.failed
        );
        section.line(&format!("cmdstat_{}", total.spec.full_name), value)
    })
}

fn error_stats(server: &ServerState) -> Section {
    let counts = server.stats.errors.by_code();
    counts.into_iter().fold(Section::new("Errorstats"), |section, (code, count)| {
        section.line(&format!("errorstat_{code}"), format!("count={count}"))
    })
}

fn latency_stats(server: &ServerState) -> Section {
    let percentiles = server.settings().latency_percentiles;
    let percentiles: Vec<(&str, f64)> = percentiles
        .split_ascii_whitespace()
        .filter_map(|percent| Some((percent, percent.parse().ok()?)))
        .collect();
    let called = server.stats.commands.by_command().into_iter().filter(|total| total.calls > 0);
    called.fold(Section::new("Latencystats"), |section, total| {
        let value = |(name, percent): &(&str, f64)| {
            format!("p{name}={}.000", total.latencies.percentile_us(*percent))
        };
        let values: Vec<_> = percentiles.iter().map(value).collect();
        let name = format!("latency_percentiles_usec_{}", total.spec.full_name);
        section.line(&name, values.join(","))
    })
}
