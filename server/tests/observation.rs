//! What tells of other connections and of the server's load: SLOWLOG, LATENCY, CLIENT KILL and
//! PAUSE, MONITOR, and the statistics of INFO.

mod support;

use logboat_server::layout::Partition;
use std::thread;
use support::{Client, Server, transcript};

/// The lines of a section of INFO.
fn info(client: &mut Client, section: &str) -> Vec<String> {
    let text = client.ask(&format!("INFO {section}"));
    text.trim_matches('"').split("\\r\\n").map(str::to_owned).collect()
}

fn field(client: &mut Client, section: &str, name: &str) -> String {
    let lines = info(client, section);
    let value = lines.iter().find_map(|line| line.strip_prefix(&format!("{name}:")));
    value.unwrap_or_else(|| panic!("no {name} in {lines:?}")).to_owned()
}

/// Asks until `is_so`. Ends a test that would hang, as a client's patience does.
fn eventually(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it did not come about");
}

#[test]
fn errors_are_those_of_redis() {
    transcript(&[
        ("SLOWLOG", "-ERR wrong number of arguments for 'slowlog' command"),
        ("SLOWLOG GET a", "-ERR count should be greater than or equal to -1"),
        ("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1"),
        (
            "SLOWLOG GET 1 2",
            "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
        ),
        ("SLOWLOG LEN 1", "-ERR wrong number of arguments for 'slowlog|len' command"),
        ("SLOWLOG FOO", "-ERR unknown subcommand 'FOO'. Try SLOWLOG HELP."),
        ("LATENCY HISTORY foo", "[]"),
        ("LATENCY RESET a b", ":0"),
        ("LATENCY LATEST", "[]"),
        ("LATENCY GRAPH foo", "-ERR No samples available for event 'foo'"),
        ("LATENCY HISTOGRAM get", "[]"),
        ("CLIENT KILL", "-ERR wrong number of arguments for 'client|kill' command"),
        ("CLIENT KILL 1.1.1.1:5", "-ERR No such client"),
        ("CLIENT KILL ID x", "-ERR client-id should be greater than 0"),
        ("CLIENT KILL ID 0", "-ERR client-id should be greater than 0"),
        ("CLIENT KILL ID 99", ":0"),
        ("CLIENT KILL ID 1 2", "-ERR syntax error"),
        ("CLIENT KILL foo bar", "-ERR syntax error"),
        ("CLIENT KILL TYPE foo", "-ERR Unknown client type 'foo'"),
        ("CLIENT KILL TYPE pubsub SKIPME no", ":0"),
        ("CLIENT KILL USER foo", "-ERR No such user 'foo'"),
        ("CLIENT KILL USER default", ":0"),
        ("CLIENT KILL MAXAGE x", "-ERR maxage is not an integer or out of range"),
        ("CLIENT KILL MAXAGE 0", "-ERR maxage should be greater than 0"),
        ("CLIENT KILL MAXAGE 1000 SKIPME no", ":0"),
        ("CLIENT KILL LADDR 1.1.1.1:1 SKIPME maybe", "-ERR syntax error"),
        ("CLIENT PAUSE", "-ERR wrong number of arguments for 'client|pause' command"),
        ("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range"),
        ("CLIENT PAUSE -1", "-ERR timeout is negative"),
        ("CLIENT PAUSE 1 foo", "-ERR CLIENT PAUSE mode must be WRITE or ALL"),
        (
            "client pause 1 all x",
            "-ERR unknown subcommand or wrong number of arguments for 'pause'. Try CLIENT HELP.",
        ),
        ("CLIENT UNPAUSE", "+OK"),
        ("CLIENT UNBLOCK x", "-ERR value is not an integer or out of range"),
        ("CLIENT UNBLOCK 5", ":0"),
        ("CLIENT UNBLOCK 5 foo", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        ("CLIENT NO-EVICT foo", "-ERR syntax error"),
        ("CLIENT NO-TOUCH foo", "-ERR syntax error"),
        ("MONITOR foo", "-ERR wrong number of arguments for 'monitor' command"),
        (
            "CONFIG SET slowlog-max-len -1",
            "-ERR CONFIG SET failed (possibly related to argument 'slowlog-max-len') - argument \
             must be between 0 and 9223372036854775807 inclusive",
        ),
        (
            "CONFIG SET slowlog-log-slower-than -5",
            "-ERR CONFIG SET failed (possibly related to argument 'slowlog-log-slower-than') - \
             argument must be between -1 and 9223372036854775807 inclusive",
        ),
        (
            "CONFIG GET slowlog*",
            "[\"slowlog-log-slower-than\", \"10000\", \"slowlog-max-len\", \"128\"]",
        ),
        ("CONFIG GET latency-monitor*", "[\"latency-monitor-threshold\", \"0\"]"),
        ("ROLE", "[\"master\", :0, []]"),
    ]);
}

#[test]
fn the_slow_log_has_what_took_long_cut_and_without_passwords() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    assert_eq!(client.ask("SLOWLOG GET"), "[]");
    client.ask("CLIENT SETNAME me");
    assert_eq!(client.ask("CONFIG SET slowlog-log-slower-than 0"), "+OK");
    client.ask("SLOWLOG RESET");
    client.ask("AUTH secret");
    client.ask(&format!("SET key {}", "x".repeat(200)));
    let keys: Vec<_> = (0..40).map(|key| format!("k{key}")).collect();
    client.ask(&format!("DEL {}", keys.join(" ")));
    client.ask("CONFIG SET slowlog-log-slower-than -1");
    client.ask("GET key");
    let log = client.ask("SLOWLOG GET -1");
    let address = client.local_address();
    for part in [
        format!(
            "[\"SET\", \"key\", \"{}... (72 more bytes)\"], \"{address}\", \"me\"]",
            "x".repeat(128)
        ),
        "[\"AUTH\", \"(redacted)\"]".to_owned(),
        "\"k29\", \"... (10 more arguments)\"]".to_owned(),
        "[\"SLOWLOG\", \"RESET\"]".to_owned(),
    ] {
        assert!(log.contains(&part), "{part} in {log}");
    }
    assert!(!log.contains("GET") && !log.contains("secret"), "{log}");
    assert_eq!(client.ask("SLOWLOG LEN"), ":4");
    client.ask("CONFIG SET slowlog-max-len 2 slowlog-log-slower-than 0");
    assert_eq!(client.ask("SLOWLOG LEN"), ":2");
}

#[test]
fn what_a_client_says_of_itself_is_bounded() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    let (long, most) = ("n".repeat(1025), "n".repeat(1024));
    let refused = |what: &str| format!("-ERR {what} cannot be longer than 1024 bytes.");
    assert_eq!(client.call(&["CLIENT", "SETNAME", &long]), refused("Client names"));
    assert_eq!(client.call(&["HELLO", "2", "SETNAME", &long]), refused("Client names"));
    assert_eq!(client.call(&["CLIENT", "SETINFO", "LIB-NAME", &long]), refused("lib-name"));
    assert_eq!(client.call(&["CLIENT", "SETINFO", "LIB-VER", &long]), refused("lib-ver"));
    assert_eq!(client.ask("CLIENT GETNAME"), "nil");
    assert_eq!(client.call(&["CLIENT", "SETNAME", &most]), "+OK");
}

#[test]
fn what_took_long_is_a_sample_of_its_event() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    client.ask("CONFIG SET latency-monitor-threshold 1");
    let pairs: Vec<_> = (0..50_000).map(|key| format!("k{key}")).collect();
    let request: Vec<_> = ["MSET"].into_iter().chain(pairs.iter().map(String::as_str)).collect();
    eventually(|| {
        assert_eq!(client.call(&request), "+OK");
        client.ask("LATENCY LATEST") != "[]"
    });
    let latest = client.ask("LATENCY LATEST");
    assert!(latest.contains("[\"command\", :"), "{latest}");
    assert!(client.ask("LATENCY HISTORY command").starts_with("[[:"));
    assert!(client.ask("LATENCY GRAPH command").contains("all time high"));
    assert!(client.ask("LATENCY HISTOGRAM mset").contains("\"mset\", [\"calls\", :"));
    assert_eq!(client.ask("LATENCY RESET nosuch"), ":0");
    assert_eq!(client.ask("LATENCY RESET COMMAND"), ":1");
}

#[test]
fn a_connection_is_killed_by_any_of_what_it_is() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    let id = |other: &mut Client| other.ask("CLIENT ID")[1..].to_owned();
    for filter in ["ID", "ADDR", "old form"] {
        let mut other = server.connect();
        let killed = match filter {
            "ID" => client.ask(&format!("CLIENT KILL ID {}", id(&mut other))),
            "ADDR" => client.ask(&format!("CLIENT KILL ADDR {}", other.local_address())),
            _ => client.ask(&format!("CLIENT KILL {}", other.local_address())),
        };
        assert_eq!(killed, if filter == "old form" { "+OK" } else { ":1" });
        assert!(other.is_closed(), "{filter}");
    }
    let mut others = [server.connect(), server.connect()];
    others.iter_mut().for_each(|other| assert_eq!(other.ask("PING"), "+PONG"));
    assert_eq!(client.ask("CLIENT KILL TYPE normal"), ":2");
    assert!(others.iter_mut().all(Client::is_closed));
    eventually(|| field(&mut client, "clients", "connected_clients") == "1");
    // Whoever kills itself gets the reply.
    assert_eq!(client.ask(&format!("CLIENT KILL {}", client.local_address())), "+OK");
    assert!(client.is_closed());
}

#[test]
fn a_pause_holds_writes_or_everything_until_it_is_over() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    assert_eq!(client.ask("CLIENT PAUSE 60000 WRITE"), "+OK");
    let mut writer = server.connect();
    writer.send(b"GET a\r\nSET a 1\r\nGET a\r\n");
    assert_eq!(writer.reply(), "nil");
    eventually(|| field(&mut client, "clients", "blocked_clients") == "1");
    assert_eq!(client.ask("GET a"), "nil");
    assert!(client.ask("CLIENT LIST").contains("flags=b"));
    // A shorter pause does not end a longer one.
    assert_eq!(client.ask("CLIENT PAUSE 1 WRITE"), "+OK");
    assert_eq!(client.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!([writer.reply(), writer.reply()], ["+OK", "\"1\""]);
    assert_eq!(field(&mut client, "clients", "blocked_clients"), "0");
    // All commands wait, and then the pause is over by itself.
    assert_eq!(client.ask("CLIENT PAUSE 50"), "+OK");
    assert_eq!(client.ask("SET a 2"), "+OK");
    assert_eq!(writer.ask("GET a"), "\"2\"");
}

#[test]
fn who_leaves_during_a_pause_is_gone_and_its_command_is_not_carried_out() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    assert_eq!(client.ask("CLIENT PAUSE 60000 WRITE"), "+OK");
    for _ in 0..50 {
        server.connect().send(b"SET a 1\r\nGET a\r\n");
    }
    let mut half_closed = server.connect();
    half_closed.send(b"SET a 1\r\n");
    half_closed.close_sending_side();
    assert!(half_closed.is_closed());
    eventually(|| field(&mut client, "clients", "connected_clients") == "1");
    assert_eq!(client.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!(client.ask("GET a"), "nil");
}

#[test]
fn a_monitor_sees_commands_before_they_are_carried_out_but_no_passwords() {
    let server = Server::with(Partition::Hash, 1);
    let (mut monitor, mut client) = (server.connect(), server.connect());
    assert_eq!(monitor.ask("MONITOR"), "+OK");
    client.send(b"SET a \"x \\x00\"\r\nSET b 1\r\n");
    assert_eq!([client.reply(), client.reply()], ["+OK", "+OK"]);
    for line in ["SELECT 3", "KEYS *", "AUTH secret", "CONFIG GET save", "GET", "NOSUCH", "PING"] {
        client.ask(line);
    }
    let address = client.local_address();
    for (database, request) in [
        (0, "\"SET\" \"a\" \"x \\x00\""),
        (0, "\"SET\" \"b\" \"1\""),
        (0, "\"SELECT\" \"3\""),
        (3, "\"KEYS\" \"*\""),
        (3, "\"AUTH\" \"(redacted)\""),
        (3, "\"PING\""),
    ] {
        let line = monitor.reply();
        let end = format!(" [{database} {address}] {request}");
        assert!(line.ends_with(&end), "{line} ends with {end}");
    }
    assert!(client.ask("CLIENT LIST").contains("flags=O"));
    assert_eq!(monitor.ask("RESET"), "+RESET");
    client.ask("PING");
    assert_eq!(monitor.ask("PING"), "+PONG");
}

#[test]
fn commands_are_counted_by_what_they_are_and_became() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    assert_eq!(client.ask("CONFIG RESETSTAT"), "+OK");
    client
        .send(b"SET a 1\r\nGET a\r\nGET none\r\nINCR a\r\nSET a x\r\nINCR a\r\nGET\r\nNOSUCH\r\n");
    for _ in 0..8 {
        client.reply();
    }
    client.ask("CLIENT LIST");
    let stats = info(&mut client, "commandstats").join("\n");
    for (command, calls, rejected, failed) in
        [("set", 2, 0, 0), ("get", 2, 1, 0), ("incr", 2, 0, 1), ("client|list", 1, 0, 0)]
    {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
        let line = line.unwrap_or_else(|| panic!("{command} in {stats}"));
        assert!(line.contains(&format!(":calls={calls},usec=")), "{line}");
        let end = format!(",rejected_calls={rejected},failed_calls={failed}");
        assert!(line.ends_with(&end), "{line}");
    }
    assert_eq!(field(&mut client, "errorstats", "errorstat_ERR"), "count=3");
    assert_eq!(field(&mut client, "stats", "total_error_replies"), "3");
    assert_eq!(field(&mut client, "stats", "keyspace_hits"), "1");
    assert_eq!(field(&mut client, "stats", "keyspace_misses"), "1");
    let percentiles = field(&mut client, "latencystats", "latency_percentiles_usec_get");
    assert!(percentiles.starts_with("p50=") && percentiles.contains(",p99.9="), "{percentiles}");
    assert_ne!(field(&mut client, "stats", "total_net_input_bytes"), "0");
    eventually(|| {
        client.ask("PING");
        field(&mut client, "stats", "instantaneous_ops_per_sec") != "0"
    });
    // Without being asked for, INFO leaves out what is long.
    let default = client.ask("INFO");
    assert!(!default.contains("cmdstat_") && default.contains("# Errorstats"), "{default}");
    assert!(client.ask("INFO everything").contains("cmdstat_"));
}
