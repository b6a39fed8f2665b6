//! The replies and errors of commands on all keys and on the server, for every way that keys may
//! lie on ranges.

mod support;

use logboat_server::layout::Partition;
use support::{Server, transcript};

#[test]
fn scan_errors_and_options() {
    transcript(&[
        ("SCAN 0", "[\"0\", []]"),
        ("SCAN x", "-ERR invalid cursor"),
        ("SCAN _", "[\"0\", []]"),
        ("SCAN -1", "[\"0\", []]"),
        ("SCAN 0 COUNT 0", "-ERR syntax error"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range"),
        ("SCAN 0 MATCH", "-ERR syntax error"),
        ("SCAN 0 FOO BAR", "-ERR syntax error"),
        ("SCAN 0 COUNT abc FOO", "-ERR value is not an integer or out of range"),
        ("SCAN 0 FOO COUNT abc", "-ERR syntax error"),
        ("SCAN 0 NOVALUES", "-ERR NOVALUES option can only be used in HSCAN"),
        ("SCAN 0 COUNT 5 NOVALUES", "-ERR NOVALUES option can only be used in HSCAN"),
        ("SCAN 0 COUNT abc NOVALUES", "-ERR value is not an integer or out of range"),
        ("SET key1 x", "+OK"),
        ("SCAN 0 COUNT 1000", "[\"0\", [\"key1\"]]"),
        ("SCAN 0 COUNT 1000 TYPE string MATCH k*1", "[\"0\", [\"key1\"]]"),
        ("SCAN 0 COUNT 1000 MATCH x*", "[\"0\", []]"),
        ("SCAN 0 COUNT 1000 TYPE list", "[\"0\", []]"),
        ("SCAN 18446744073709551615", "[\"0\", []]"),
        ("KEYS k?y[0-9]", "[\"key1\"]"),
    ]);
}

#[test]
fn range_replies_in_key_order() {
    transcript(&[
        ("RANGE _ _", "[]"),
        ("SET b 2", "+OK"),
        ("SET a 1", "+OK"),
        ("SET c 3", "+OK"),
        ("RANGE a c", "[\"a\", \"1\", \"b\", \"2\"]"),
        ("RANGE _ _", "[\"a\", \"1\", \"b\", \"2\", \"c\", \"3\"]"),
        ("RANGE aa _ limit 1", "[\"b\", \"2\"]"),
        ("RANGE a _ LIMIT 0", "[]"),
        ("RANGE c a", "[]"),
        ("RANGE a a", "[]"),
        ("RANGE a", "-ERR wrong number of arguments for 'range' command"),
        ("RANGE a b LIMIT", "-ERR syntax error"),
        ("RANGE a b LIMIT -1", "-ERR value is out of range, must be positive"),
        ("RANGE a b LIMIT x", "-ERR value is not an integer or out of range"),
    ]);
}

#[test]
fn settings_are_read_and_changed() {
    transcript(&[
        ("CONFIG GET databases nosuch", "[\"databases\", \"16\"]"),
        ("CONFIG GET DATA*", "[\"databases\", \"16\"]"),
        (
            "CONFIG SET nosuch 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
        ),
        (
            "CONFIG SET databases 2",
            "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set \
             immutable config",
        ),
        ("CONFIG GET DATABASES", "[\"DATABASES\", \"16\"]"),
        ("CONFIG GET data* DATABASES", "[\"databases\", \"16\"]"),
        ("CONFIG GET SAVE data* save", "[\"databases\", \"16\", \"SAVE\", \"\"]"),
        ("CONFIG SET save _", "+OK"),
        (
            "CONFIG SET save 900",
            "-ERR CONFIG SET failed (possibly related to argument 'save') - \
             Invalid save parameters",
        ),
        ("CONFIG SET appendonly no appendfsync EVERYSEC", "+OK"),
        ("CONFIG GET append*", "[\"appendfsync\", \"everysec\", \"appendonly\", \"no\"]"),
        (
            "CONFIG SET appendonly maybe",
            "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - \
             argument must be 'yes' or 'no'",
        ),
        (
            "CONFIG SET appendfsync x",
            "-ERR CONFIG SET failed (possibly related to argument 'appendfsync') - \
             argument(s) must be one of the following: everysec, always, no",
        ),
        ("CONFIG SET timeout 100 tcp-keepalive 0", "+OK"),
        (
            "CONFIG SET Timeout x",
            "-ERR CONFIG SET failed (possibly related to argument 'Timeout') - \
             argument couldn't be parsed into an integer",
        ),
        (
            "CONFIG SET timeout 5 maxclients 0",
            "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - \
             argument must be between 1 and 4294967295 inclusive",
        ),
        (
            "CONFIG SET timeout 2147483648",
            "-ERR CONFIG SET failed (possibly related to argument 'timeout') - \
             argument must be between 0 and 2147483647 inclusive",
        ),
        ("CONFIG GET timeout t*", "[\"tcp-keepalive\", \"0\", \"timeout\", \"100\"]"),
        (
            "CONFIG SET timeout 1 TIMEOUT 2",
            "-ERR CONFIG SET failed (possibly related to argument 'TIMEOUT') - duplicate parameter",
        ),
        (
            "CONFIG SET timeout 1 nosuch 2",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
        ),
        ("CONFIG SET timeout 1 x", "-ERR syntax error"),
        ("CONFIG SET maxclients 20000", "+OK"),
        ("CONFIG SET maxmemory 0 maxmemory-policy noeviction", "+OK"),
        (
            "CONFIG SET maxmemory-policy allkeys-lru",
            "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-policy') - \
             can't set immutable config",
        ),
        ("CONFIG SET a", "-ERR wrong number of arguments for 'config|set' command"),
    ]);
}

#[test]
fn commands_that_have_nothing_to_do_are_accepted() {
    transcript(&[
        ("CONFIG RESETSTAT", "+OK"),
        ("CONFIG REWRITE", "-ERR The server is running without a config file"),
        ("FUNCTION FLUSH", "+OK"),
        ("SCRIPT FLUSH SYNC", "+OK"),
        ("INFO engine", "\"# Engine\\r\\ngroups:7\\r\\n\""),
        ("INFO nosuch", "\"\""),
    ]);
}

#[test]
fn info_counts_the_keys_of_all_databases() {
    transcript(&[
        ("INFO keyspace", "\"# Keyspace\\r\\n\""),
        ("MSET a 1", "+OK"),
        ("SET b 1 EX 100", "+OK"),
        ("COPY a a DB 7", ":1"),
        (
            "INFO keyspace",
            "\"# Keyspace\\r\\ndb0:keys=2,expires=1,avg_ttl=0\\r\\ndb7:keys=1,expires=0,\
             avg_ttl=0\\r\\n\"",
        ),
    ]);
}

#[test]
fn info_has_the_sections_of_redis() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    let info = client.ask("INFO");
    let sections = [
        "Server",
        "Clients",
        "Memory",
        "Persistence",
        "Stats",
        "Replication",
        "CPU",
        "Cluster",
        "Engine",
        "Keyspace",
    ];
    let found = sections.map(|title| info.find(&format!("# {title}\\r\\n")));
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{info}");
    for (section, fields) in [
        (
            "memory",
            &[
                "used_memory:",
                "used_memory_human:",
                "used_memory_rss:",
                "used_memory_peak:",
                "total_system_memory:",
                "maxmemory:0",
                "maxmemory_policy:noeviction",
                "mem_fragmentation_ratio:",
                "mem_clients_normal:",
            ][..],
        ),
        ("cpu", &["used_cpu_sys:", "used_cpu_user:", "used_cpu_sys_children:"]),
        (
            "persistence",
            &[
                "loading:0",
                "rdb_bgsave_in_progress:0",
                "rdb_last_save_time:",
                "rdb_last_bgsave_status:ok",
                "aof_enabled:1",
                "aof_last_write_status:ok",
            ],
        ),
    ] {
        let text = client.ask(&format!("INFO {section}"));
        for field in fields {
            assert!(text.contains(&format!("\\n{field}")), "{field} in {text}");
        }
    }
}

#[test]
fn introspection() {
    transcript(&[
        ("COMMAND GETKEYS MSET a 1 b 2", "[\"a\", \"b\"]"),
        ("COMMAND GETKEYS PING x", "-ERR The command has no key arguments"),
        ("COMMAND GETKEYS ECHO a b", "-ERR The command has no key arguments"),
        ("COMMAND GETKEYS CLIENT ID", "-ERR The command has no key arguments"),
        ("COMMAND GETKEYS CONFIG FOO", "-ERR Invalid command specified"),
        ("COMMAND GETKEYS SET a", "-ERR Invalid number of arguments specified for command"),
        ("COMMAND GETKEYS MSET a 1 b", "[\"a\", \"b\"]"),
        ("COMMAND GETKEYS PING", "-ERR wrong number of arguments for 'command|getkeys' command"),
        ("COMMAND GETKEYS nosuch x", "-ERR Invalid command specified"),
        ("COMMAND GETKEYS GET a b", "-ERR Invalid number of arguments specified for command"),
        ("COMMAND LIST FILTERBY PATTERN m*t", "[\"mget\", \"mset\"]"),
        ("COMMAND LIST FILTERBY MODULE x", "[]"),
        ("COMMAND LIST FILTERBY foo x", "-ERR syntax error"),
        (
            "COMMAND INFO get nosuch",
            "[[\"get\", :2, [+readonly, +fast], :1, :1, :1, [+@read, +@string, +@fast], [], \
             [[\"flags\", [+RO, +access], \"begin_search\", [\"type\", \"index\", \"spec\", \
             [\"index\", :1]], \"find_keys\", [\"type\", \"range\", \"spec\", [\"lastkey\", :0, \
             \"keystep\", :1, \"limit\", :0]]]], []], nil]",
        ),
        (
            "COMMAND DOCS echo nosuch",
            "[\"echo\", [\"summary\", \"Answers its argument\", \"since\", \"1.0.0\", \"group\", \
             \"connection\"]]",
        ),
    ]);
}

#[test]
fn every_command_of_the_table_is_described() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    let count = client.ask("COMMAND COUNT");
    let listed = client.ask("COMMAND LIST FILTERBY PATTERN *");
    let top_level = listed.split(", ").filter(|name| !name.contains('|')).count();
    assert_eq!(count, format!(":{top_level}"));
    assert_eq!(client.ask("COMMAND DOCS"), client.ask("command docs"));
    for parent in ["CLIENT", "COMMAND", "CONFIG"] {
        let help = client.ask(&format!("{parent} HELP"));
        assert!(help.starts_with(&format!("[\"{parent} <subcommand>")), "{help}");
        assert!(help.contains("\"HELP\""), "{help}");
    }
}
