//! A connection that is plain or encrypted, and how it comes about on either side.

use crate::certificate::Facts;
use crate::identity::Identity;
use crate::material::PEERS_PROTOCOL;
use crate::read_ahead::ReadAhead;
use crate::tls::{PortTls, Tls};
use crate::verifier::Port;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// What a TLS connection begins with: the type of a record of the handshake.
const FIRST_BYTE: u8 = 0x16;

/// How long a stranger may take to hear why it is turned away.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often something of a stranger is read and dropped.
const MOST_DROPPED_READS: usize = 64;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted by TLS.
    Tls(Box<Encrypted>),
}

/// The encrypted side of a [`Stream`].
#[derive(Debug)]
pub struct Encrypted(TlsStream<ReadAhead>);

/// Why a connection that came to a port was not let in.
#[derive(Debug, thiserror::Error)]
pub enum StrangerError {
    /// It is not encrypted, and has to be. Here it is, for an answer.
    #[error("it speaks no TLS, which this port requires")]
    Plain(TcpStream),
    /// It is encrypted, and the port knows nothing of that.
    #[error("it speaks TLS, which is off on this port")]
    Encrypted,
    /// It ended before it said anything.
    #[error("it ended before it said anything")]
    Silent,
    /// The handshake failed, or the certificate does not open this port.
    #[error("{}", explain(.0))]
    Handshake(#[source] io::Error),
}

/// Why a peer could not be spoken to in TLS.
#[derive(Debug, thiserror::Error)]
#[error("{}", explain(.0))]
pub struct DialError(#[source] io::Error);

impl StrangerError {
    /// A word for it, for metrics.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Plain(_) => "plain",
            Self::Encrypted => "encrypted",
            Self::Silent => "silent",
            Self::Handshake(_) => "tls",
        }
    }

    /// Whether it showed a certificate that was refused.
    #[must_use]
    pub fn is_about_certificate(&self) -> bool {
        matches!(self, Self::Handshake(error) if refuses_certificate(error))
    }
}

impl DialError {
    /// Whether what answers speaks no TLS, or nothing at all.
    #[must_use]
    pub fn speaks_no_tls(&self) -> bool {
        match rustls_error(&self.0) {
            Some(error) => matches!(error, rustls::Error::InvalidMessage(_)),
            None => matches!(
                self.0.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            ),
        }
    }

    /// Whether one side refused the certificate of the other.
    #[must_use]
    pub fn is_about_certificate(&self) -> bool {
        refuses_certificate(&self.0)
    }
}

/// Takes in a connection to a port, which speaks TLS if it has `tls`. It waits for the first byte
/// of the other side, for as long as the caller lets it.
///
/// # Errors
/// When the other side speaks otherwise than the port, or its certificate does not open it.
pub async fn accept(
    socket: TcpStream,
    port: Port,
    tls: Option<&PortTls>,
) -> Result<Stream, StrangerError> {
    let mut first = [0];
    if socket.peek(&mut first).await.map_err(StrangerError::Handshake)? == 0 {
        return Err(StrangerError::Silent);
    }
    match (first[0] == FIRST_BYTE, tls) {
        (false, Some(PortTls { required: true, .. })) => Err(StrangerError::Plain(socket)),
        (false, _) => Ok(Stream::Plain(socket)),
        (true, None) => Err(StrangerError::Encrypted),
        (true, Some(PortTls { tls, .. })) => {
            let acceptor = TlsAcceptor::from(tls.material().coming(port));
            let accepted = acceptor.accept(ReadAhead::new(socket)).await;
            let stream = TlsStream::from(accepted.map_err(StrangerError::Handshake)?);
            if port == Port::Peers {
                check_protocol(&stream).map_err(StrangerError::Handshake)?;
            }
            Ok(Stream::Tls(Box::new(Encrypted(stream))))
        }
    }
}

/// Speaks TLS with a peer that was dialled.
///
/// # Errors
/// When the peer speaks no TLS, its certificate is no peer's, or it refuses that of this node.
pub async fn dial(socket: TcpStream, tls: &Tls) -> Result<Stream, DialError> {
    let connector = TlsConnector::from(tls.material().dialled_peers.clone());
    // The peer is known by its URI, and no name is sent.
    let nobody = ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
    let stream = connector.connect(nobody, ReadAhead::new(socket)).await.map_err(DialError)?;
    let stream = TlsStream::from(stream);
    check_protocol(&stream).map_err(DialError)?;
    Ok(Stream::Tls(Box::new(Encrypted(stream))))
}

/// Tells a stranger that speaks no TLS why it is turned away. Closing a connection with unread
/// input would reset it, and the stranger might never see the text.
pub async fn turn_away(mut socket: TcpStream, text: &[u8]) {
    let farewell = async {
        socket.write_all(text).await?;
        socket.shutdown().await?;
        let mut dropped = [0; 1024];
        for _ in 0..MOST_DROPPED_READS {
            if socket.read(&mut dropped).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // Either way the connection is dropped next.
    let _ = timeout(FAREWELL, farewell).await;
}

/// What is wrong with a connection that had been let in.
#[must_use]
pub fn explain(error: &io::Error) -> String {
    rustls_error(error).map_or_else(|| error.to_string(), explain_tls)
}

pub(crate) fn explain_tls(error: &rustls::Error) -> String {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(CertificateError::Other(reason)) => reason.0.to_string(),
        // Authorities of one name differ by their keys alone.
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "the certificate is signed by no authority that is trusted here".to_owned(),
        Tls::AlertReceived(alert) => match alert {
            AlertDescription::ProtocolVersion => {
                "the other side speaks no version of TLS that is known here".to_owned()
            }
            _ if is_of_certificate(*alert) => {
                format!("the other side refused the certificate ({alert:?})")
            }
            _ => format!("the other side ended the TLS handshake ({alert:?})"),
        },
        error => error.to_string(),
    }
}

/// Whether one side refused the certificate of the other, on a connection that had been let in.
#[must_use]
pub fn refuses_certificate(error: &io::Error) -> bool {
    match rustls_error(error) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => true,
        Some(rustls::Error::AlertReceived(alert)) => is_of_certificate(*alert),
        _ => false,
    }
}

const fn is_of_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn check_protocol(stream: &TlsStream<ReadAhead>) -> io::Result<()> {
    if stream.get_ref().1.alpn_protocol() == Some(PEERS_PROTOCOL) {
        return Ok(());
    }
    Err(io::Error::other("the other side does not ask for the peers' protocol"))
}

impl Stream {
    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(encrypted) => encrypted.0.get_ref().0.socket(),
        }
    }

    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What the certificate of the other side says that it is for, if it has shown one.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        let Self::Tls(encrypted) = self else { return None };
        let certificates = encrypted.0.get_ref().1.peer_certificates()?;
        // It was verified in the handshake.
        Facts::of(certificates.first()?).ok()?.identity.ok()
    }
}

impl Encrypted {
    /// Has it take no more than so many bytes that the system does not take. By default these are
    /// 64 KiB.
    pub fn bound_unsent(&mut self, bytes: usize) {
        match &mut self.0 {
            TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(Some(bytes)),
            TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(Some(bytes)),
        }
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(encrypted) => Pin::new(encrypted).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, data),
            Self::Tls(encrypted) => Pin::new(encrypted).poll_write(context, data),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
            Self::Tls(encrypted) => Pin::new(encrypted).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(encrypted) => encrypted.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(encrypted) => Pin::new(encrypted).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(encrypted) => Pin::new(encrypted).poll_shutdown(context),
        }
    }
}
