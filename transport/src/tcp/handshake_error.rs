//! Why a handshake failed before two nodes knew each other.

use logboat_security::{ChallengeError, StrangerError, explain, refuses_certificate};
use std::error::Error;
use std::io;

/// Why a handshake failed, on either side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the other side does not speak this protocol")]
    Foreign,
    #[error("the other side's introduction is damaged")]
    Damaged,
    #[error("timed out")]
    TimedOut,
    /// The dialer shows another node's certificate, or speaks otherwise than it must.
    #[error(transparent)]
    Stranger(StrangerError),
    /// The listener and this node don't get together in TLS.
    #[error(transparent)]
    Tls(logboat_security::DialError),
    #[error("what answers has the certificate of another node")]
    OtherNode,
    #[error("the other side begins with a cluster's secret, and this node has none")]
    SecretHere,
    #[error(transparent)]
    Challenge(ChallengeError),
    #[error("{}", explain(.0))]
    Io(#[from] io::Error),
}

impl HandshakeError {
    /// Whether one side refuses the other for what it does not show.
    pub(crate) fn refuses(&self) -> bool {
        match self {
            Self::Tls(error) => !is_lost(error),
            Self::Stranger(_) | Self::OtherNode => true,
            Self::SecretHere | Self::Challenge(_) => true,
            Self::Foreign | Self::Damaged | Self::TimedOut | Self::Io(_) => false,
        }
    }

    /// Whether one side refused the certificate of the other.
    pub(crate) fn is_about_certificate(&self) -> bool {
        match self {
            Self::Stranger(error) => error.is_about_certificate(),
            Self::Tls(error) => error.is_about_certificate(),
            // In TLS 1.3 the dialer hears of it when it reads.
            Self::Io(error) => refuses_certificate(error),
            Self::OtherNode => true,
            _ => false,
        }
    }

    pub(crate) const fn cause(&self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Damaged => "damaged",
            Self::TimedOut => "timeout",
            Self::Stranger(error) => error.cause(),
            Self::Tls(_) => "tls",
            Self::OtherNode => "certificate",
            Self::SecretHere | Self::Challenge(_) => "secret",
            Self::Io(_) => "io",
        }
    }
}

/// Whether the connection was lost under the handshake, as that to a peer that ends.
fn is_lost(error: &logboat_security::DialError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.raw_os_error().is_some())
}

impl From<ChallengeError> for HandshakeError {
    fn from(error: ChallengeError) -> Self {
        match error {
            ChallengeError::Io(error) => Self::Io(error),
            error => Self::Challenge(error),
        }
    }
}
