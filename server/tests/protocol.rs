//! The protocol over real connections: forms of requests, versions of replies, errors that close,
//! limits, and connections that misbehave.

mod support;

use bytes::Bytes;
use logboat_server::backend::{
    Access, Backend, BackendError, RangeId, StoreAnswer, StoreAnswers, StoreRequest,
};
use logboat_server::front::FrontConfig;
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use logboat_server::settings::Settings;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::{Client, Server, hand_on_to_inner};
use tokio::sync::Semaphore;

fn server() -> Server {
    Server::with(Partition::Hash, 4)
}

fn with_config(config: FrontConfig) -> Server {
    Server::start(MemoryBackend::even(Partition::Hash, 4, Limits::default()), config)
}

fn with_settings(settings: Settings) -> Server {
    let backend = MemoryBackend::even(Partition::Hash, 4, Limits::default());
    Server::start_with(backend, FrontConfig::default(), settings)
}

#[test]
fn inline_commands_and_arrays_mix_in_one_pipeline() {
    let server = server();
    let mut client = server.connect();
    client.send(
        b"SET k1 \"x y\"\r\n*2\r\n$3\r\nGET\r\n$2\r\nk1\r\n\r\nPING\n*0\r\n*-10\r\nECHO ''\r\n",
    );
    let replies: Vec<String> = (0..4).map(|_| client.reply()).collect();
    assert_eq!(replies, ["+OK", "\"x y\"", "+PONG", "\"\""]);
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    let server = server();
    let mut client = server.connect();
    let requests: String = (0..5000).map(|i| format!("INCR n\r\nECHO {i}\r\n")).collect();
    client.send(requests.as_bytes());
    for i in 0..5000 {
        assert_eq!(client.reply(), format!(":{}", i + 1));
        assert_eq!(client.reply(), format!("\"{i}\""));
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = server();
    let mut client = server.connect();
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" {
        client.send(&[*byte]);
    }
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.reply(), "\"a\\r\\nb\"");
}

#[test]
fn protocol_errors_are_named_and_close_only_their_connection() {
    let server = server();
    let mut other = server.connect();
    for (bytes, text) in [
        (&b"*2147483648\r\n"[..], "invalid multibulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "expected '$', got 'f'"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n", "invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", "invalid bulk length"),
        (b"SET x \"\r\n", "unbalanced quotes in request"),
        (&[b'a'; 70_000], "too big inline request"),
        (&[&b"*"[..], &[0; 70_000]].concat(), "too big mbulk count string"),
    ] {
        let mut client = server.connect();
        client.send(b"PING\r\n");
        client.send(bytes);
        assert_eq!(client.reply(), "+PONG");
        assert_eq!(client.reply(), format!("-ERR Protocol error: {text}"));
        assert!(client.is_closed());
    }
    assert_eq!(other.ask("PING"), "+PONG");
}

#[test]
fn http_is_hung_up_on() {
    let server = server();
    let mut client = server.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET a 1\r\n");
    assert!(client.is_closed());
    assert_eq!(server.connect().ask("GET a"), "nil");
}

#[test]
fn what_is_too_large_is_refused_and_the_connection_goes_on() {
    let limits = Limits {
        max_key_bytes: 10,
        max_value_bytes: 100_000,
        max_request_bytes: 150_000,
        max_reply_bytes: 150_000,
    };
    let backend = MemoryBackend::even(Partition::Hash, 4, limits);
    let server = Server::start(backend, FrontConfig::default());
    let mut client = server.connect();
    let value = "v".repeat(100_000);
    assert_eq!(client.call(&["SET", "a", &value]), "+OK");
    assert_eq!(
        client.call(&["SET", "a", &format!("{value}v")]),
        "-ERR argument of 100001 bytes exceeds the limit of 100000 bytes"
    );
    assert_eq!(
        client.call(&["MSET", "{t}a", &value, "{t}b", &value]),
        "-ERR request exceeds the limit of 150000 bytes"
    );
    assert_eq!(
        client.call(&["GET", "01234567890"]),
        "-ERR key of 11 bytes exceeds the limit of 10 bytes"
    );
    // Such keys may be there from before.
    assert_eq!(client.call(&["DEL", "01234567890"]), ":0");
    let grown = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(client.call(&["APPEND", "a", "x"]), grown);
    assert_eq!(client.call(&["SETRANGE", "a", "100000", "x"]), grown);
    let reply = "-ERR reply exceeds the limit of 150000 bytes; ask for less at a time";
    assert_eq!(client.call(&["SET", "b", &value]), "+OK");
    assert_eq!(client.call(&["RANGE", "", ""]), reply);
    // The values of named keys are sent one after the other.
    let both = client.call(&["MGET", "a", "b"]);
    assert_eq!(both, format!("[\"{value}\", \"{value}\"]"));
    assert_eq!(client.ask("STRLEN a"), ":100000");
    assert_eq!(client.ask("CONFIG GET proto-max*"), "[\"proto-max-bulk-len\", \"100000\"]");
}

#[test]
fn an_announced_length_is_not_believed() {
    let server = server();
    // Were the announced bytes reserved, these would take 50 GB.
    let mut clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(b"*2\r\n$3\r\nGET\r\n$500000000\r\nabc");
    }
    for client in &mut clients {
        client.send(b"def");
    }
    assert_eq!(server.connect().ask("PING"), "+PONG");
}

#[test]
fn hello_switches_the_protocol_and_reset_switches_back() {
    let server = server();
    let mut client = server.connect();
    let id = client.ask("CLIENT ID");
    assert_eq!(
        client.ask("HELLO 3 SETNAME me"),
        format!(
            "{{\"server\": \"redis\", \"version\": \"7.4.0\", \"proto\": :3, \"id\": {id}, \
             \"mode\": \"standalone\", \"role\": \"master\", \"modules\": []}}"
        ),
    );
    assert_eq!(client.ask("CLIENT GETNAME"), "\"me\"");
    client.send(b"GET none\r\n");
    assert_eq!(client.reply(), "nil");
    assert_eq!(client.ask("CONFIG GET databases"), "{\"databases\": \"16\"}");
    assert!(client.ask("INFO server").starts_with("=\"txt:# Server"));
    assert_eq!(
        client.ask("COMMAND INFO get client|id"),
        "[[\"get\", :2, ~[+readonly, +fast], :1, :1, :1, ~[+@read, +@string, +@fast], ~[], \
         ~[{\"flags\": ~[+RO, +access], \"begin_search\": {\"type\": \"index\", \"spec\": \
         {\"index\": :1}}, \"find_keys\": {\"type\": \"range\", \"spec\": {\"lastkey\": :0, \
         \"keystep\": :1, \"limit\": :0}}}], ~[]], [\"client|id\", :2, ~[+noscript, +loading, \
         +stale], :0, :0, :0, ~[+@slow, +@connection], ~[], ~[], ~[]]]",
    );
    assert!(client.ask("COMMAND INFO config").contains("~[], ~[], [[\"config|get\", "));
    let hello = client.ask("HELLO");
    assert!(hello.contains("\"proto\": :3"), "{hello}");
    assert_eq!(client.ask("HELLO 4"), "-NOPROTO unsupported protocol version");
    assert_eq!(client.ask("RESET"), "+RESET");
    assert_eq!(client.ask("CONFIG GET databases"), "[\"databases\", \"16\"]");
    assert_eq!(client.ask("CLIENT GETNAME"), "nil");
}

#[test]
fn integers_of_any_size_leave_nothing_behind_them() {
    let server = server();
    let mut client = server.connect();
    for exponent in 0..19 {
        let power = 10_i64.pow(exponent);
        assert_eq!(client.ask(&format!("SET d {power}")), "+OK");
        assert_eq!(client.ask("DECR d"), format!(":{}", power - 1));
        assert_eq!(client.ask(&format!("DECRBY d {}", 2 * (power - 1))), format!(":{}", 1 - power));
        assert_eq!(client.ask("PING"), "+PONG");
    }
}

#[test]
fn commands_behind_a_refused_multi_are_refused_too() {
    let server = server();
    let mut client = server.connect();
    let refused = "-ERR command refused: it follows a MULTI, and transactions are not supported";
    let not_supported =
        "-ERR transactions are not supported; the commands up to EXEC or DISCARD are refused";
    for (end, answer) in [
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        (
            "EXEC x",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
             command",
        ),
        ("DISCARD", "+OK"),
        ("RESET", "+RESET"),
    ] {
        client.send(b"SET a 1\r\nMULTI\r\nSET a 2\r\nINCR n\r\nWATCH a\r\nUNWATCH\r\nHELLO 3\r\n");
        assert_eq!(client.reply(), "+OK");
        assert_eq!(client.reply(), not_supported);
        for _ in 0..5 {
            assert_eq!(client.reply(), refused);
        }
        assert_eq!(client.ask("MULTI"), "-ERR MULTI calls can not be nested");
        assert!(client.ask("NOSUCH").starts_with("-ERR unknown command"));
        assert_eq!(client.ask(end), answer);
        assert_eq!(client.ask("GET a"), "\"1\"");
        assert_eq!(client.ask("GET n"), "nil");
    }
    // Another client is not concerned, and neither is one whose MULTI is malformed.
    assert_eq!(client.ask("MULTI"), not_supported);
    let mut other = server.connect();
    assert_eq!(other.ask("MULTI 1"), "-ERR wrong number of arguments for 'multi' command");
    assert_eq!(other.ask("SET a 3"), "+OK");
    assert_eq!(client.ask("DISCARD x"), "-ERR wrong number of arguments for 'discard' command");
    assert_eq!(client.ask("GET a"), refused);
    assert_eq!(client.ask("QUIT"), "+OK");
    assert!(client.is_closed());
}

#[test]
fn a_password_is_refused_while_there_is_none() {
    let server = server();
    let mut client = server.connect();
    let none = "-ERR AUTH <password> called without any password configured for the default \
                user. Are you sure your configuration is correct?";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    for (line, expected) in [
        ("HELLO 3 AUTH default x SETNAME me", none),
        ("HELLO 3 AUTH other x", wrong),
        ("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'"),
        ("HELLO 3 AUTH default x foo", "-ERR Syntax error in HELLO option 'foo'"),
        ("AUTH x", none),
        ("AUTH default x", none),
        ("AUTH other x", wrong),
        ("AUTH a b c", "-ERR syntax error"),
        ("AUTH", "-ERR wrong number of arguments for 'auth' command"),
        // Neither the protocol nor the name has changed.
        ("CONFIG GET databases", "[\"databases\", \"16\"]"),
        ("CLIENT GETNAME", "nil"),
    ] {
        assert_eq!(client.ask(line), expected, "{line}");
    }
}

#[test]
fn an_inline_command_with_a_zero_byte_waits_as_in_redis() {
    let server = server();
    let mut client = server.connect();
    client.send(b"PING\r\nGET\0 a\r\nPING\r\n");
    assert_eq!(client.reply(), "+PONG");
    // Only the length of the line ends it.
    client.send(&[b'a'; 70_000]);
    assert_eq!(client.reply(), "-ERR Protocol error: too big inline request");
    assert!(client.is_closed());
}

#[test]
fn as_many_arguments_as_in_redis_may_be_announced() {
    let server = server();
    let mut client = server.connect();
    client.send(b"PING\r\n*1048577\r\n$4\r\nMGET\r\n");
    assert_eq!(client.reply(), "+PONG");
    client.send(&b"$1\r\na\r\n".repeat(1 << 20));
    let reply = client.reply();
    assert!(reply.starts_with("[nil, nil, "), "{}", &reply[..100.min(reply.len())]);
}

#[test]
fn idle_clients_are_disconnected_after_the_timeout() {
    let server = with_settings(Settings { client_timeout_secs: 1, ..Settings::default() });
    let mut idle = server.connect();
    assert_eq!(idle.ask("PING"), "+PONG");
    assert!(idle.is_closed());
}

#[test]
fn settings_take_effect_on_those_who_are_connected() {
    let server = server();
    let mut idle = server.connect();
    assert_eq!(idle.ask("PING"), "+PONG");
    let mut client = server.connect();
    assert_eq!(client.ask("CONFIG SET timeout 1 maxclients 2"), "+OK");
    assert_eq!(server.connect().reply(), "-ERR max number of clients reached");
    assert!(idle.is_closed());
    assert_eq!(server.connect().ask("CONFIG GET timeout"), "[\"timeout\", \"1\"]");
}

#[test]
fn replies_can_be_turned_off() {
    let server = server();
    let mut client = server.connect();
    client
        .send(b"CLIENT REPLY OFF\r\nINCR n\r\nCLIENT REPLY SKIP\r\nINCR n\r\nCLIENT REPLY ON\r\n");
    assert_eq!(client.reply(), "+OK");
    client.send(b"CLIENT REPLY SKIP\r\nINCR n\r\nINCR n\r\n");
    assert_eq!(client.reply(), ":4");
}

/// The fields of CLIENT LIST in Redis 7.
const CLIENT_FIELDS: &str = "id addr laddr fd name age idle flags db sub psub ssub multi watch \
                             qbuf qbuf-free argv-mem multi-mem rbs rbp obl oll omem tot-mem \
                             events cmd user redir resp lib-name lib-ver";

#[test]
fn clients_are_listed_while_they_are_connected() {
    let server = server();
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!(first.ask("CLIENT SETNAME first"), "+OK");
    assert_eq!(second.ask("CLIENT SETINFO LIB-NAME lib"), "+OK");
    let list = second.ask("CLIENT LIST");
    assert!(list.contains("name=first ") && list.contains("lib-name=lib "), "{list}");
    let info = second.ask("CLIENT INFO");
    assert!(info.contains("cmd=client|info "), "{info}");
    let fields: Vec<&str> = info.trim_matches('"').split(' ').collect();
    let names: Vec<&str> =
        fields.iter().filter_map(|field| Some(field.split_once('=')?.0)).collect();
    assert_eq!(names, CLIENT_FIELDS.split(' ').collect::<Vec<_>>());
    assert!(info.contains(" argv-mem=10 "), "{info}");
    let id = second.ask("CLIENT ID");
    let own = second.ask(&format!("CLIENT LIST ID {}", &id[1..]));
    assert!(own.contains("lib-name=lib ") && !own.contains("name=first "), "{own}");
    drop(first);
    while second.ask("CLIENT LIST").contains("name=first ") {}
}

/// A backend whose commands wait at a gate.
#[derive(Clone)]
struct Gated {
    inner: MemoryBackend,
    gate: Arc<Semaphore>,
}

impl Backend for Gated {
    hand_on_to_inner!();

    type Answers = GatedAnswers;

    fn request_all(&self, requests: Vec<StoreRequest>) -> GatedAnswers {
        GatedAnswers { gated: self.clone(), requests }
    }

    async fn propose(&self, range: RangeId, command: Bytes) -> Result<Bytes, BackendError> {
        let _permit = self.gate.acquire().await.map_err(|_| BackendError::Stopped)?;
        self.inner.propose(range, command).await
    }

    async fn read(&self, range: RangeId, query: Bytes) -> Result<Bytes, BackendError> {
        self.inner.read(range, query).await
    }
}

/// Requests that wait at the gate, if there are commands among them.
struct GatedAnswers {
    gated: Gated,
    requests: Vec<StoreRequest>,
}

impl StoreAnswers for GatedAnswers {
    async fn next(&mut self) -> Option<Vec<StoreAnswer>> {
        if self.requests.iter().any(|request| request.access == Access::Write) {
            self.gated.gate.acquire().await.ok()?.forget();
        }
        let requests = std::mem::take(&mut self.requests);
        self.gated.inner.request_all(requests).next().await
    }

    fn hurry(&mut self) {}
}

#[test]
fn replies_are_sent_while_the_next_command_waits() {
    let inner = MemoryBackend::even(Partition::Hash, 4, Limits::default());
    let gate = Arc::new(Semaphore::new(0));
    let gated = Gated { inner, gate: Arc::clone(&gate) };
    let server = Server::start(gated, FrontConfig::default());
    let mut client = server.connect();
    client.send(b"PING\r\nINCR n\r\nGET n\r\n");
    assert_eq!(client.reply(), "+PONG");
    // Other clients go on meanwhile.
    assert_eq!(server.connect().ask("GET n"), "nil");
    gate.add_permits(1);
    assert_eq!(client.reply(), ":1");
    assert_eq!(client.reply(), "\"1\"");
}

#[test]
fn quit_answers_what_was_sent_before_it_and_nothing_after() {
    let server = server();
    let mut client = server.connect();
    client.send(b"SET a 1\r\nQUIT\r\nSET a 2\r\n");
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.reply(), "+OK");
    assert!(client.is_closed());
    assert_eq!(server.connect().ask("GET a"), "\"1\"");
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_replies() {
    let server = server();
    let mut client = server.connect();
    client.send(b"SET a 1\r\nGET a\r\n");
    client.close_sending_side();
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.reply(), "\"1\"");
    assert!(client.is_closed());
}

#[test]
fn connections_beyond_the_cap_are_told_so() {
    let server = with_settings(Settings { max_clients: 2, ..Settings::default() });
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!((first.ask("PING"), second.ask("PING")), ("+PONG".into(), "+PONG".into()));
    let mut third = server.connect();
    assert_eq!(third.reply(), "-ERR max number of clients reached");
    assert!(third.is_closed());
    assert!(first.ask("INFO stats").contains("rejected_connections:1"));
    drop(second);
    while !first.ask("INFO clients").contains("connected_clients:1") {}
    assert_eq!(server.connect().ask("PING"), "+PONG");
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_and_holds_little_memory() {
    let config = FrontConfig {
        max_unsent_bytes: 100_000,
        stall_timeout: Duration::from_millis(100),
        ..FrontConfig::default()
    };
    let server = with_config(config);
    let mut greedy = server.connect();
    assert_eq!(greedy.call(&["SET", "a", &"v".repeat(1_000_000)]), "+OK");
    // Each request is a few bytes, each reply a megabyte: were the replies kept, the requests that
    // fit the sockets' buffers would ask for terabytes.
    greedy.send_until_cut(&b"GET a\r\n".repeat(1000));
    assert!(server.connect().ask("INFO clients").contains("connected_clients:1"));
}

#[test]
fn replies_larger_than_the_unsent_limit_arrive() {
    let config = FrontConfig { max_unsent_bytes: 1000, ..FrontConfig::default() };
    let server = with_config(config);
    let mut client = server.connect();
    let value = "v".repeat(300_000);
    assert_eq!(client.call(&["SET", "a", &value]), "+OK");
    client.send(&b"GET a\r\n".repeat(20));
    for _ in 0..20 {
        assert_eq!(client.reply().len(), value.len() + 2);
    }
}

#[test]
fn requests_that_never_end_stay_within_the_memory_of_clients() {
    let server =
        with_config(FrontConfig { max_buffered_bytes: 1_000_000, ..FrontConfig::default() });
    let value = "v".repeat(700_000);
    let mut unfinished = server.connect();
    unfinished.send(format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$700000\r\n{value}").as_bytes());
    let mut other = server.connect();
    // Its bytes have arrived, but for the end of the line.
    while !other.ask("CLIENT LIST").contains(" qbuf=700000 ") {}
    let refused = "-TRYAGAIN clients hold as much memory as they may; the command had no effect";
    for _ in 0..5 {
        assert_eq!(other.call(&["SET", "a", &value]), refused);
        assert_eq!(other.ask("SET b 1"), "+OK");
    }
    unfinished.send(b"\r\n");
    assert_eq!(unfinished.reply(), "+OK");
    // Alone, a request may be as long as any.
    assert_eq!(other.call(&["SET", "a", &"v".repeat(3_000_000)]), "+OK");
}

#[test]
fn large_lists_are_sent_in_parts_within_the_memory_of_clients() {
    let server = with_config(FrontConfig {
        max_buffered_bytes: 1_000_000,
        wanted_stall_timeout: Duration::from_secs(60),
        ..FrontConfig::default()
    });
    let mut other = server.connect();
    let values: Vec<_> = (10..40).map(|number| number.to_string().repeat(150_000)).collect();
    let mut request = format!("*{}\r\n$4\r\nMGET\r\n", values.len() + 2);
    for (number, value) in values.iter().enumerate() {
        assert_eq!(other.call(&["SET", &format!("k{number}"), value]), "+OK");
        request += &format!("${}\r\nk{number}\r\n", 1 + number.to_string().len());
    }
    request += "$7\r\nmissing\r\n";
    // Nine times what all clients may hold, twelve times, and nobody reads.
    let mut clients: Vec<_> = (0..12).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(request.as_bytes()));
    for _ in 0..100 {
        assert_eq!(other.ask("SET small 1"), "+OK");
        assert_eq!(other.ask("GET small"), "\"1\"");
    }
    // All of them read now: a client that does not read its list keeps the memory of a part, and
    // whoever finds no room waits for it.
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                let list = client.reply();
                assert!(values.iter().all(|value| list.contains(value.as_str())));
                assert!(list.ends_with("nil]"), "{}", &list[list.len() - 100..]);
            });
        }
    });
    // A list that is made before it is sent is refused instead.
    assert!(other.call(&["RANGE", "k", "l"]).contains("-ERR reply exceeds the limit"));
    assert_eq!(other.ask("GET small"), "\"1\"");
}

#[test]
fn who_holds_memory_that_others_want_has_to_read() {
    let server = with_config(FrontConfig {
        max_buffered_bytes: 1_000_000,
        wanted_stall_timeout: Duration::from_millis(200),
        ..FrontConfig::default()
    });
    let mut other = server.connect();
    let value = "v".repeat(400_000);
    let keys: Vec<_> = (0..50).map(|number| format!("k{number}")).collect();
    keys.iter().for_each(|key| assert_eq!(other.call(&["SET", key, &value]), "+OK"));
    let request = format!("MGET {}\r\n", keys.join(" "));
    let whole = |client: &mut Client| client.reply().matches(&value).count() == keys.len();
    // As long as nobody wants it, who does not read keeps what it holds.
    let mut alone = server.connect();
    alone.send(request.as_bytes());
    for _ in 0..50 {
        assert_eq!(other.ask("SET small 1"), "+OK");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(whole(&mut alone));
    // These don't read, and two of them hold all memory there is.
    let mut idle: Vec<_> = (0..6).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(|client| client.send(request.as_bytes()));
    let mut reading: Vec<_> = (0..6).map(|_| server.connect()).collect();
    thread::scope(|scope| {
        for client in &mut reading {
            scope.spawn(|| {
                client.send(request.as_bytes());
                assert!(whole(client));
            });
        }
    });
}

#[test]
fn stopping_closes_connections_and_the_port() {
    let mut server = server();
    let mut client = server.connect();
    assert_eq!(client.ask("PING"), "+PONG");
    server.stop();
    assert!(client.is_closed());
    assert!(std::net::TcpStream::connect(server.address).is_err());
}
