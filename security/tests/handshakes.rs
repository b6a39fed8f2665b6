//! Who gets in, and what those hear who don't. All certificates are made here.
#![allow(clippy::unwrap_used, reason = "tests")]

use logboat_security::{
    CertificateAuthority, ClientAuth, Issued, Own, Port, PortTls, Role, StrangerError, Stream, Tls,
    TlsError, TlsFiles, accept, crypto, dial, explain,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const DAY: Duration = Duration::from_secs(86_400);
const CLUSTER: &str = "orders";
const PEERS: &[u8] = b"logboat-peers";

struct Authority(CertificateAuthority);

impl Authority {
    fn new() -> Self {
        Self(CertificateAuthority::new(CLUSTER, DAY).unwrap().0)
    }

    fn issue(&self, role: Role) -> Issued {
        self.0.issue(role, &["localhost".to_owned()], DAY).unwrap()
    }

    /// As by an authority with the same key that serves another cluster as well.
    fn issue_for(&self, cluster: &str, key_pem: &str, role: Role) -> Issued {
        let other = CertificateAuthority::read(self.0.cert_pem(), key_pem, Some(cluster)).unwrap();
        other.issue(role, &[], DAY).unwrap()
    }

    /// What a node has that trusts this authority.
    fn node(&self, issued: &Issued) -> (TempDir, TlsFiles) {
        let dir = tempfile::tempdir().unwrap();
        let files = files_in(dir.path());
        write(&files, issued, self.0.cert_pem());
        (dir, files)
    }

    fn tls(&self, issued: &Issued) -> Tls {
        let (_dir, files) = self.node(issued);
        Tls::open(files, CLUSTER, Own::Any).unwrap()
    }

    /// What a hostile listener is configured with. It asks for no certificate.
    fn server(issued: &Issued) -> ServerConfig {
        let (chain, key) = parse(issued);
        let mut config = ServerConfig::builder_with_provider(Arc::new(crypto()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![PEERS.to_vec()];
        config
    }

    /// What a client library is configured with, with a certificate or without.
    fn client(&self, issued: Option<&Issued>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.0.cert_pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match issued {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let (chain, key) = parse(issued);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }

    /// A client that speaks the protocol of peers.
    fn peers_client(&self, issued: Option<&Issued>) -> ClientConfig {
        let mut config = self.client(issued);
        config.alpn_protocols = vec![PEERS.to_vec()];
        config
    }
}

fn parse(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let cert = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
    (vec![cert], PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap())
}

fn files_in(dir: &Path) -> TlsFiles {
    TlsFiles { cert: dir.join("node.crt"), key: dir.join("node.key"), ca: dir.join("ca.crt") }
}

fn write(files: &TlsFiles, issued: &Issued, ca_pem: &str) {
    fs::write(&files.cert, &issued.cert_pem).unwrap();
    fs::write(&files.key, &issued.key_pem).unwrap();
    fs::write(&files.ca, ca_pem).unwrap();
}

const fn required(tls: Tls) -> PortTls {
    PortTls { tls, required: true }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What a port says of a connection that `client` makes, and what the client hears after it has
/// written and read a byte.
async fn come(
    port: Port,
    tls: Tls,
    client: ClientConfig,
) -> (Result<Stream, StrangerError>, Result<(), String>) {
    let (listener, address) = listen().await;
    let accepting = async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = accept(socket, port, Some(&required(tls))).await?;
        echo(&mut stream).await.map_err(StrangerError::Handshake)?;
        Ok(stream)
    };
    let coming = async {
        let socket = TcpStream::connect(address).await.unwrap();
        let host = ServerName::try_from("localhost").unwrap();
        let heard = async {
            let mut stream = TlsConnector::from(Arc::new(client)).connect(host, socket).await?;
            call(&mut stream).await
        };
        heard.await.map_err(|error| explain(&error))
    };
    tokio::join!(accepting, coming)
}

/// What this node says of a listener that it dials.
async fn dialled(tls: &Tls, server: ServerConfig) -> Result<(), String> {
    let (listener, address) = listen().await;
    let accepting = async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(socket).await?;
        echo(&mut stream).await
    };
    let dialling = async {
        let socket = TcpStream::connect(address).await.unwrap();
        let mut stream = dial(socket, tls).await.map_err(|error| error.to_string())?;
        call(&mut stream).await.map_err(|error| explain(&error))
    };
    tokio::join!(accepting, dialling).1
}

async fn call(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(b"x").await?;
    stream.flush().await?;
    stream.read_u8().await?;
    Ok(())
}

async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let byte = stream.read_u8().await?;
    stream.write_all(&[byte]).await?;
    stream.flush().await
}

#[tokio::test]
async fn peers_know_each_other_by_the_uri_whatever_their_address() {
    let authority = Authority::new();
    for (one, other) in [(None, None), (Some(1), None), (Some(1), Some(2))] {
        // There is no host in it: the address does not matter.
        let issue = |id| authority.0.issue(Role::Peer(id), &[], DAY).unwrap();
        let (dialer, tls) = (authority.tls(&issue(one)), authority.tls(&issue(other)));
        let (listener, address) = listen().await;
        let accepting = async {
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream = accept(socket, Port::Peers, Some(&required(tls))).await.unwrap();
            echo(&mut stream).await.unwrap();
            stream
        };
        let dialling = async {
            let socket = TcpStream::connect(address).await.unwrap();
            let mut stream = dial(socket, &dialer).await.unwrap();
            call(&mut stream).await.unwrap();
            stream
        };
        let (accepted, dialled) = tokio::join!(accepting, dialling);
        assert_eq!(accepted.identity().unwrap().role, Role::Peer(one));
        assert_eq!(dialled.identity().unwrap().role, Role::Peer(other));
    }
}

#[tokio::test]
async fn who_is_no_peer_of_this_cluster_does_not_get_in() {
    let (authority, own) = CertificateAuthority::new(CLUSTER, DAY).unwrap();
    let authority = Authority(authority);
    let tls = authority.tls(&authority.issue(Role::Peer(None)));
    let now = OffsetDateTime::now_utc();
    let between = |begin: i64, end: i64| {
        let [begin, end] = [begin, end].map(|days| now + time::Duration::days(days));
        authority.0.issue_between(Role::Peer(None), &[], begin, end).unwrap()
    };
    for (issued, reason) in [
        (authority.issue(Role::Client("c".to_owned())), "/client/c"),
        (authority.issue(Role::Admin), "/admin"),
        (authority.issue_for("others", &own.key_pem, Role::Peer(None)), "logboat://others/peer"),
        (Authority::new().issue(Role::Peer(None)), "signed by no authority"),
        (between(-2, -1), "expired"),
        (between(1, 2), "not valid yet"),
    ] {
        let client = authority.peers_client(Some(&issued));
        let (accepted, heard) = come(Port::Peers, tls.clone(), client).await;
        let error = accepted.unwrap_err();
        assert!(error.is_about_certificate(), "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        let heard = heard.unwrap_err();
        assert!(heard.contains("refused the certificate"), "{reason}: {heard}");
        // The other way round it is the dialer who notices. Certificates for clients are not even
        // for servers.
        let noticed = dialled(&tls, Authority::server(&issued)).await.unwrap_err();
        let of_client = reason.starts_with('/') && noticed.contains("extended key usage");
        assert!(noticed.contains(reason) || of_client, "{reason}: {noticed}");
    }
    let (accepted, heard) = come(Port::Peers, tls, authority.peers_client(None)).await;
    let error = accepted.unwrap_err().to_string();
    assert!(error.contains("peer sent no certificates"), "{error}");
    assert!(heard.unwrap_err().contains("CertificateRequired"));
}

#[tokio::test]
async fn peers_must_ask_for_their_protocol() {
    let authority = Authority::new();
    let peer = authority.issue(Role::Peer(None));
    let tls = authority.tls(&peer);
    let (accepted, _) = come(Port::Peers, tls.clone(), authority.client(Some(&peer))).await;
    let error = accepted.unwrap_err().to_string();
    assert!(error.contains("does not ask for the peers' protocol"), "{error}");
    let mut other = authority.client(Some(&peer));
    other.alpn_protocols = vec![b"h2".to_vec()];
    assert!(come(Port::Peers, tls, other).await.0.is_err());
}

#[tokio::test]
async fn clients_show_certificates_as_the_port_asks_for() {
    let authority = Authority::new();
    let tls = authority.tls(&authority.issue(Role::Peer(None)));
    let good = authority.issue(Role::Client("c".to_owned()));
    let peer = authority.issue(Role::Peer(None));
    let other = Authority::new().issue(Role::Client("c".to_owned()));
    for (auth, shown, gets_in) in [
        (ClientAuth::None, None, true),
        (ClientAuth::None, Some(&other), true),
        (ClientAuth::Optional, None, true),
        (ClientAuth::Optional, Some(&good), true),
        (ClientAuth::Optional, Some(&other), false),
        (ClientAuth::Optional, Some(&peer), false),
        (ClientAuth::Required, None, false),
        (ClientAuth::Required, Some(&good), true),
        (ClientAuth::Required, Some(&other), false),
    ] {
        let (accepted, heard) =
            come(Port::Clients(auth), tls.clone(), authority.client(shown)).await;
        assert_eq!(accepted.is_ok(), gets_in, "{auth}: {accepted:?}");
        assert_eq!(heard.is_ok(), gets_in, "{auth}: {heard:?}");
    }
    let admin = authority.issue(Role::Admin);
    let (accepted, _) = come(Port::Admin, tls.clone(), authority.client(Some(&admin))).await;
    assert_eq!(accepted.unwrap().identity().unwrap().role, Role::Admin);
    assert!(come(Port::Admin, tls, authority.client(Some(&good))).await.0.is_err());
}

#[tokio::test]
async fn a_port_tells_tls_by_the_first_byte() {
    let authority = Authority::new();
    let tls = authority.tls(&authority.issue(Role::Peer(None)));
    let optional = PortTls { tls: tls.clone(), required: false };
    let strict = required(tls);
    for (port, sent, expected) in [
        (None, &b"*1\r\n"[..], "plain"),
        (None, b"\x16\x03\x01", "it speaks TLS, which is off on this port"),
        (Some(&optional), b"LOGBOAT", "plain"),
        (Some(&strict), b"*1\r\n", "it speaks no TLS, which this port requires"),
        (Some(&strict), b"", "it ended before it said anything"),
    ] {
        let (listener, address) = listen().await;
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(sent).await.unwrap();
        stranger.shutdown().await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let said = match accept(socket, Port::Clients(ClientAuth::None), port).await {
            Ok(mut stream) => {
                let mut begin = vec![0; sent.len()];
                stream.read_exact(&mut begin).await.unwrap();
                assert_eq!(begin, sent, "nothing is lost");
                "plain".to_owned()
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(said, expected);
    }
    let (accepted, heard) =
        come(Port::Clients(ClientAuth::None), optional.tls, authority.client(None)).await;
    assert!(accepted.is_ok() && heard.is_ok());
}

/// A ClientHello of TLS 1.1, with one cipher suite and no extension.
const TLS_1_1: &[u8] = &[
    0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
    17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 2, 0, 47, 1, 0,
];

#[tokio::test]
async fn old_versions_and_garbage_end_the_handshake() {
    let authority = Authority::new();
    let tls = required(authority.tls(&authority.issue(Role::Peer(None))));
    for (sent, reason) in [
        (TLS_1_1, "peer is incompatible"),
        (&[0x16, 3, 1, 0, 4, 9, 9, 9, 9], "received corrupt message"),
        // The record is cut off in the middle.
        (&TLS_1_1[..30], "tls handshake eof"),
    ] {
        for port in [Port::Peers, Port::Clients(ClientAuth::None), Port::Admin] {
            let (listener, address) = listen().await;
            let mut stranger = TcpStream::connect(address).await.unwrap();
            stranger.write_all(sent).await.unwrap();
            stranger.shutdown().await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let error = accept(socket, port, Some(&tls)).await.unwrap_err();
            assert!(error.to_string().contains(reason), "{port:?}: {error}");
            assert!(!error.is_about_certificate());
        }
    }
}

#[tokio::test]
async fn a_listener_that_speaks_no_tls_is_told_from_one_that_refuses() {
    let authority = Authority::new();
    let tls = authority.tls(&authority.issue(Role::Peer(None)));
    for answer in [&b"LOGBOAT\n and so on"[..], b"-ERR unknown command\r\n", b""] {
        let (listener, address) = listen().await;
        let accepting = async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(answer).await.unwrap();
        };
        let dialling = async {
            let socket = TcpStream::connect(address).await.unwrap();
            dial(socket, &tls).await.unwrap_err()
        };
        let ((), error) = tokio::join!(accepting, dialling);
        assert!(error.speaks_no_tls(), "{error}");
    }
    let stranger = Authority::new().issue(Role::Peer(None));
    let (listener, address) = listen().await;
    let accepting = async move {
        let (socket, _) = listener.accept().await.unwrap();
        // It ends with the dialer's refusal.
        let _ = TlsAcceptor::from(Arc::new(Authority::server(&stranger))).accept(socket).await;
    };
    let dialling = async {
        let socket = TcpStream::connect(address).await.unwrap();
        dial(socket, &tls).await.unwrap_err()
    };
    let ((), error) = tokio::join!(accepting, dialling);
    assert!(!error.speaks_no_tls() && error.is_about_certificate(), "{error}");
}

#[tokio::test]
async fn a_connection_that_is_cut_off_is_told_from_one_that_ends() {
    let authority = Authority::new();
    let tls = authority.tls(&authority.issue(Role::Peer(None)));
    for ends_well in [true, false] {
        let (listener, address) = listen().await;
        let tls = required(tls.clone());
        let accepting = async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream = accept(socket, Port::Admin, Some(&tls)).await.unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await.map(|_| text)
        };
        let coming = async {
            let socket = TcpStream::connect(address).await.unwrap();
            let host = ServerName::try_from("localhost").unwrap();
            let client = TlsConnector::from(Arc::new(authority.client(None)));
            let mut stream = client.connect(host, socket).await.unwrap();
            stream.write_all(b"half").await.unwrap();
            stream.flush().await.unwrap();
            if ends_well {
                stream.shutdown().await.unwrap();
            } else {
                // The beginning of a record.
                stream.get_mut().0.write_all(&[0x17, 3, 3, 0, 200, 1]).await.unwrap();
            }
        };
        let (read, ()) = tokio::join!(accepting, coming);
        match ends_well {
            true => assert_eq!(read.unwrap(), b"half"),
            false => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
        }
    }
}

#[test]
fn files_of_no_use_are_named() {
    let authority = Authority::new();
    let peer = authority.issue(Role::Peer(Some(3)));
    let now = OffsetDateTime::now_utc();
    let old = [2, 1].map(|days| now - time::Duration::days(days));
    let old = authority.0.issue_between(Role::Peer(None), &[], old[0], old[1]).unwrap();
    let open = |issued: &Issued, ca: &str, own| {
        let dir = tempfile::tempdir().unwrap();
        let files = files_in(dir.path());
        write(&files, issued, ca);
        Tls::open(files, CLUSTER, own).map(drop).map_err(|error: TlsError| error.to_string())
    };
    let ca = authority.0.cert_pem();
    assert_eq!(open(&peer, ca, Own::Peer(3)), Ok(()));
    let mixed = Issued {
        cert_pem: peer.cert_pem.clone(),
        key_pem: authority.issue(Role::Peer(None)).key_pem,
    };
    let no_key = Issued { cert_pem: peer.cert_pem.clone(), key_pem: String::new() };
    let stranger = Authority::new();
    for (issued, ca, own, reason) in [
        (&peer, ca, Own::Peer(4), "it is of node 3, and this is node 4"),
        (&authority.issue(Role::Admin), ca, Own::Peer(3), "logboat://orders/admin"),
        (&peer, stranger.0.cert_pem(), Own::Peer(3), "signed by no authority"),
        (&old, ca, Own::Any, "it expired"),
        (&mixed, ca, Own::Any, "it is not the key of the certificate"),
        (&no_key, ca, Own::Any, "there is no key in it"),
        (&peer, "", Own::Any, "there is no certificate in it"),
        (
            &peer,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            Own::Any,
            "ca.crt",
        ),
    ] {
        let error = open(issued, ca, own).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let error = Tls::open(files_in(dir.path()), CLUSTER, Own::Any).unwrap_err();
    assert!(matches!(error, TlsError::Read { .. }), "{error}");
}

#[tokio::test]
async fn files_are_read_again_and_those_of_no_use_change_nothing() {
    let authority = Authority::new();
    let (_dir, files) = authority.node(&authority.issue(Role::Peer(None)));
    let tls = Tls::open(files.clone(), CLUSTER, Own::Any).unwrap();
    let first = tls.expiry().cert_secs;
    assert!((86_000..=86_400).contains(&first), "{first}");
    let longer = authority.0.issue(Role::Peer(None), &["localhost".to_owned()], 2 * DAY).unwrap();
    write(&files, &longer, authority.0.cert_pem());
    tls.reload().unwrap();
    assert!(tls.expiry().cert_secs > first);
    assert_eq!((tls.failure(), tls.reload_failures()), (None, 0));
    fs::write(&files.key, "nothing").unwrap();
    assert!(tls.reload().is_err());
    assert!(tls.failure().unwrap().contains("node.key"));
    assert_eq!(tls.reload_failures(), 1);
    // Connections are still made with what was read before.
    let (accepted, heard) = come(Port::Admin, tls.clone(), authority.client(None)).await;
    assert!(accepted.is_ok() && heard.is_ok());
    // Another authority counts for those that come from now on.
    let other = Authority::new();
    write(&files, &other.issue(Role::Peer(None)), other.0.cert_pem());
    tokio::time::timeout(Duration::from_secs(20), async {
        let following = tokio::spawn(tls.clone().follow());
        while tls.failure().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        following.abort();
    })
    .await
    .unwrap();
    let (accepted, _) = come(Port::Admin, tls.clone(), authority.client(None)).await;
    assert!(accepted.unwrap_err().is_about_certificate());
    assert!(come(Port::Admin, tls, other.client(None)).await.0.is_ok());
}
