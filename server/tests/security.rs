//! Passwords and TLS on the clients' port, over sockets. All certificates are made here.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use logboat_security::{
    CertificateAuthority, ClientAuth, Own, PortTls, Role, SecretFile, Tls, TlsFiles, crypto,
};
use logboat_server::front::{FrontConfig, FrontGuard};
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use logboat_server::settings::Settings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use support::Server;

const DAY: Duration = Duration::from_secs(86_400);

fn start(guard: FrontGuard) -> Server {
    let backend = MemoryBackend::even(Partition::Hash, 4, Limits::default());
    Server::start_guarded(backend, FrontConfig::default(), Settings::default(), guard)
}

fn passwords(lines: &str) -> SecretFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lines).unwrap();
    SecretFile::open(file.path(), 1).unwrap()
}

fn with_password() -> Server {
    let passwords = Some(passwords("old secret\nnew secret\n"));
    start(FrontGuard { passwords, ..FrontGuard::default() })
}

/// Sends inline commands, the last of which ends the connection, and returns all that comes back.
fn converse(mut stream: impl Read + Write, commands: &str) -> String {
    stream.write_all(commands.as_bytes()).unwrap();
    let mut replies = Vec::new();
    stream.read_to_end(&mut replies).unwrap();
    String::from_utf8(replies).unwrap()
}

fn plain(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";
const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

#[test]
fn nothing_is_done_for_a_client_that_has_not_logged_in() {
    let server = with_password();
    let replies = converse(plain(&server), "GET a\r\nPING\r\nCONFIG GET *\r\nMULTI\r\nQUIT\r\n");
    assert_eq!(replies, [NOAUTH; 4].concat() + "+OK\r\n");
    let replies = converse(plain(&server), "HELLO\r\nHELLO 3\r\nQUIT\r\n");
    assert_eq!(replies.matches("-NOAUTH HELLO must be called with").count(), 2, "{replies}");
    // As in Redis, what is no command is told first.
    let replies = converse(plain(&server), "NOSUCH\r\nGET\r\nQUIT\r\n");
    assert!(replies.starts_with("-ERR unknown command"), "{replies}");
}

#[test]
fn either_password_opens_and_others_do_not() {
    let server = with_password();
    for login in
        ["AUTH \"old secret\"\r\n", "AUTH \"new secret\"\r\n", "AUTH default \"new secret\"\r\n"]
    {
        let replies = converse(plain(&server), &format!("{login}SET a 1\r\nGET a\r\nQUIT\r\n"));
        assert_eq!(replies, "+OK\r\n+OK\r\n$1\r\n1\r\n+OK\r\n", "{login}");
    }
    let hello = "HELLO 3 AUTH default \"new secret\"\r\nGET a\r\nQUIT\r\n";
    let replies = converse(plain(&server), hello);
    assert!(replies.starts_with('%') && replies.ends_with("$1\r\n1\r\n+OK\r\n"), "{replies}");
    for login in ["AUTH secret", "AUTH \"old secret \"", "AUTH \"\"", "AUTH admin \"new secret\""] {
        let replies = converse(plain(&server), &format!("{login}\r\nGET a\r\nQUIT\r\n"));
        assert_eq!(replies, format!("{WRONGPASS}{NOAUTH}+OK\r\n"), "{login}");
    }
    let replies = converse(plain(&server), "HELLO 3 AUTH default wrong\r\nGET a\r\nQUIT\r\n");
    assert_eq!(replies, format!("{WRONGPASS}{NOAUTH}+OK\r\n"));
    // Whoever is in stays in; a RESET makes the connection as new.
    let stays = "AUTH \"new secret\"\r\nAUTH wrong\r\nGET a\r\nRESET\r\nGET a\r\nQUIT\r\n";
    let replies = converse(plain(&server), stays);
    let expected = format!("+OK\r\n{WRONGPASS}$1\r\n1\r\n+RESET\r\n{NOAUTH}+OK\r\n");
    assert_eq!(replies, expected);
}

#[test]
fn a_stranger_can_send_little_and_guess_rarely() {
    let server = with_password();
    let replies = converse(plain(&server), "*11\r\n");
    assert_eq!(replies, "-ERR Protocol error: unauthenticated multibulk length\r\n");
    let replies = converse(plain(&server), "*2\r\n$4\r\nAUTH\r\n$16385\r\n");
    assert_eq!(replies, "-ERR Protocol error: unauthenticated bulk length\r\n");
    let replies = converse(plain(&server), &"AUTH wrong\r\n".repeat(30));
    assert_eq!(replies, WRONGPASS.repeat(10));
    // Who has logged in may send more.
    let long =
        format!("AUTH \"new secret\"\r\n*2\r\n$4\r\nECHO\r\n$20000\r\n{}\r\n", "x".repeat(20_000));
    let replies = converse(plain(&server), &(long + "QUIT\r\n"));
    assert!(replies.starts_with("+OK\r\n$20000\r\n"), "{}", &replies[..40]);
}

#[test]
fn without_a_password_nobody_logs_in() {
    let server = start(FrontGuard::default());
    let replies = converse(plain(&server), "AUTH secret\r\nGET a\r\nQUIT\r\n");
    assert!(replies.starts_with("-ERR AUTH <password> called without any password"), "{replies}");
    assert!(replies.ends_with("$-1\r\n+OK\r\n"), "{replies}");
}

/// A server with TLS, and what its clients need.
struct Locked {
    server: Server,
    authority: CertificateAuthority,
}

impl Locked {
    fn start(required: bool, client_auth: ClientAuth) -> Self {
        let (authority, _) = CertificateAuthority::new("orders", DAY).unwrap();
        let issued = authority.issue(Role::Peer(None), &["localhost".to_owned()], DAY).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let [cert, key, ca] = ["crt", "key", "ca"].map(|name| dir.path().join(name));
        fs::write(&cert, issued.cert_pem).unwrap();
        fs::write(&key, issued.key_pem).unwrap();
        fs::write(&ca, authority.cert_pem()).unwrap();
        let tls = Tls::open(TlsFiles { cert, key, ca }, "orders", Own::Any).unwrap();
        let tls = Some(PortTls { tls, required });
        let server = start(FrontGuard { tls, client_auth, passwords: None });
        Self { server, authority }
    }

    fn connect(&self, role: Option<Role>) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.authority.cert_pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match role {
            None => builder.with_no_client_auth(),
            Some(role) => {
                let issued = self.authority.issue(role, &[], DAY).unwrap();
                let cert = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        let host = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), host).unwrap();
        StreamOwned::new(connection, plain(&self.server))
    }
}

#[test]
fn clients_speak_tls() {
    let locked = Locked::start(true, ClientAuth::None);
    // Longer than what the encryption holds back, so that replies wait for their reader.
    let value = "v".repeat(3 << 20);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}\r\n", value.len());
    let replies = converse(locked.connect(None), &(set + &"GET a\r\n".repeat(5) + "QUIT\r\n"));
    let reply = format!("${}\r\n{value}\r\n", value.len());
    assert!(replies == format!("+OK\r\n{}+OK\r\n", reply.repeat(5)), "{} bytes", replies.len());
    let replies = converse(plain(&locked.server), "GET a\r\n");
    assert_eq!(replies, "-ERR TLS is required on this port\r\n");
}

#[test]
fn both_are_spoken_where_tls_is_optional() {
    let locked = Locked::start(false, ClientAuth::None);
    assert_eq!(converse(locked.connect(None), "SET a 1\r\nQUIT\r\n"), "+OK\r\n+OK\r\n");
    assert_eq!(converse(plain(&locked.server), "GET a\r\nQUIT\r\n"), "$1\r\n1\r\n+OK\r\n");
}

#[test]
fn clients_that_must_show_a_certificate_do() {
    let locked = Locked::start(true, ClientAuth::Required);
    let client = Some(Role::Client("c".to_owned()));
    assert_eq!(converse(locked.connect(client), "PING\r\nQUIT\r\n"), "+PONG\r\n+OK\r\n");
    for role in [None, Some(Role::Peer(None)), Some(Role::Admin)] {
        let mut stream = locked.connect(role.clone());
        // The refusal comes after the client's part of the handshake.
        let _ = stream.write_all(b"PING\r\n");
        let mut byte = [0];
        let error = stream.read(&mut byte).unwrap_err().to_string();
        assert!(error.contains("fatal alert"), "{role:?}: {error}");
    }
}

#[test]
fn a_client_of_tls_on_a_plain_port_hears_an_error() {
    let server = start(FrontGuard::default());
    let replies = converse(plain(&server), "\u{16}\u{3}\u{1}\u{2}");
    assert_eq!(replies, "-ERR Protocol error: TLS is off on this port\r\n");
}
