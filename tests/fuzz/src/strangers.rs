//! What comes before anybody is known, on real sockets: the first record of TLS on each port, and
//! the challenge of a cluster's secret. Whatever a stranger sends, it does not get in, and it
//! learns next to nothing.

use logboat_security::{
    CertificateAuthority, ClientAuth, ClusterSecret, Own, Port, PortTls, Role, Tls, accept,
};
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The most that a stranger hears: what a server says of itself before it knows the other side.
const MOST_BYTES: usize = 8 << 10;

/// What a listener says first in the challenge.
const NONCE_BYTES: usize = 32;

/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

struct Ports {
    runtime: Runtime,
    tls: PortTls,
    secret: ClusterSecret,
}

fn ports() -> &'static Ports {
    static PORTS: OnceLock<Ports> = OnceLock::new();
    PORTS.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let day = Duration::from_secs(86_400);
        let (authority, _) = CertificateAuthority::new("fuzz", day).expect("an authority");
        let files = authority.issue_files(dir.path(), "node", Role::Peer(None), &[], day);
        let tls = Tls::open(files.expect("a certificate"), "fuzz", Own::Peer(1)).expect("TLS");
        let secret = dir.path().join("secret");
        fs::write(&secret, "s".repeat(32)).expect("a file");
        let secret = ClusterSecret::open(secret).expect("a secret");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let tls = PortTls { tls, required: true };
        Ports { runtime: runtime.expect("a runtime"), tls, secret }
    })
}

/// Sends all but the first byte, which chooses the port.
pub fn strangers(data: &[u8]) {
    let Some((&first, sent)) = data.split_first() else { return };
    let port = match first % 4 {
        0 => Some(Port::Peers),
        1 => Some(Port::Clients(ClientAuth::Required)),
        2 => Some(Port::Admin),
        _ => None,
    };
    let most = if port.is_some() { MOST_BYTES } else { NONCE_BYTES };
    let Ports { runtime, tls, secret } = ports();
    let heard = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let listening = async {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            match port {
                Some(port) => accept(socket, port, Some(tls)).await.map(drop).is_ok(),
                None => secret.demand(&mut socket).await.is_ok(),
            }
        };
        let talking = async {
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            // The other side may have ended it already.
            let _ = socket.write_all(sent).await;
            let _ = socket.shutdown().await;
            let mut heard = Vec::new();
            let _ = socket.read_to_end(&mut heard).await;
            heard
        };
        let both = async { tokio::join!(listening, talking) };
        let (let_in, heard) = tokio::time::timeout(PATIENCE, both).await.expect("an end");
        assert!(!let_in, "a stranger is let in");
        heard
    });
    assert!(heard.len() <= most, "a stranger hears {} bytes", heard.len());
}
