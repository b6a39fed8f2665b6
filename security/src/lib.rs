//! What stands before the ports of a node: who may speak to it, and who may hear it.
//!
//! - [`Tls`] holds a node's certificate, its key and the certificates of those that it trusts. It
//!   reads the files again when they change. [`accept`] and [`dial`] make a [`Stream`], which is
//!   plain or encrypted.
//! - [`Identity`] is what a certificate says that it is for. A certificate for clients does not
//!   open the port for peers.
//! - [`ClusterSecret`] lets nodes without TLS prove to each other that they belong together.
//! - [`SecretFile`] holds passwords and tokens.
//! - [`Slots`] bound what a single source address can take up before it is known.
//! - [`audit`] writes one line for each refusal that somebody should look at.
//! - [`CertificateAuthority`] makes certificates.

use rustls::crypto::{CryptoProvider, ring};

pub mod audit;
mod authority;
mod certificate;
mod challenge;
mod identity;
mod material;
mod mode;
mod read_ahead;
mod secret_file;
mod slots;
mod stream;
mod tls;
mod verifier;

pub use authority::{AuthorityError, CertificateAuthority, Issued};
pub use challenge::{ChallengeError, ClusterSecret};
pub use identity::{Identity, IdentityError, Role};
pub use material::{TlsError, TlsFiles};
pub use mode::{ClientAuth, TlsMode};
pub use secret_file::{SecretError, SecretFile};
pub use slots::{Slot, Slots};
pub use stream::{
    DialError, Encrypted, StrangerError, Stream, accept, dial, explain, refuses_certificate,
    turn_away,
};
pub use tls::{Expiry, Own, PortTls, Tls};
pub use verifier::Port;

/// What all of TLS here encrypts with.
#[must_use]
pub fn crypto() -> CryptoProvider {
    ring::default_provider()
}
