//! How two nodes prove to each other that they know the cluster's secret, before anything else.
//!
//! ```text
//! dialer:   magic [8] | nonce of the dialer [32]
//! listener: nonce of the listener [32]
//! dialer:   HMAC(secret, "dialer" | both nonces) [32]
//! listener: HMAC(secret, "listener" | both nonces) [32]
//! ```
//!
//! Each side draws its nonce anew, so that no answer fits a second time. The dialer proves itself
//! first: a stranger that dials learns one random number. Nobody between the two is kept from
//! reading or changing what follows; that takes TLS.

use crate::secret_file::{Hash, SecretError, SecretFile};
use ring::hmac::{HMAC_SHA256, Key, sign, verify};
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What the challenge begins with.
const MAGIC: [u8; 8] = *b"LOGBOAT?";

/// The shortest secret, in bytes. Whoever sees a proof can try out secrets at home.
const LEAST_BYTES: usize = 32;

const NONCE_BYTES: usize = 32;

/// The secret of a cluster, from a file with one or two lines. The first is the one by which a node
/// proves itself; both are accepted. Clones are the same.
#[derive(Clone, Debug)]
pub struct ClusterSecret(SecretFile);

/// Why two nodes do not know that they belong together.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// The dialer began with something else.
    #[error("it proves no knowledge of the cluster's secret")]
    Missing,
    /// The dialer's proof is wrong.
    #[error("it has another cluster's secret, or repeats what it heard")]
    Wrong,
    /// The listener ended the connection at the challenge.
    #[error("the peer has another cluster's secret, or none")]
    Refused,
    /// The listener's proof is wrong.
    #[error("what answers does not know the cluster's secret")]
    Impostor,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ClusterSecret {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read, or does not hold one or two lines of 32 bytes at least.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SecretError> {
        Ok(Self(SecretFile::open(path, LEAST_BYTES)?))
    }

    /// Reads the file again, for connections that are made from now on.
    ///
    /// # Errors
    /// As [`open`](Self::open). Then what was read before goes on counting.
    pub fn reload(&self) -> Result<(), SecretError> {
        self.0.reload()
    }

    /// Whether a connection that begins with these bytes begins with a challenge.
    #[must_use]
    pub fn is_challenge(begin: &[u8]) -> bool {
        begin.starts_with(&MAGIC)
    }

    /// Whether more bytes may make a challenge of these.
    #[must_use]
    pub fn may_be_challenge(begin: &[u8]) -> bool {
        MAGIC.starts_with(begin)
    }

    /// The dialer's part.
    ///
    /// # Errors
    /// When one side does not know the secret of the other.
    pub async fn prove(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<(), ChallengeError> {
        let own = nonce()?;
        stream.write_all(&[&MAGIC[..], &own].concat()).await?;
        stream.flush().await?;
        let other = read::<NONCE_BYTES>(stream).await.map_err(refused)?;
        let hashes = self.0.hashes();
        let first = hashes.first().ok_or(ChallengeError::Refused)?;
        stream.write_all(sign(&key(first), &text(b"dialer", &own, &other)).as_ref()).await?;
        stream.flush().await?;
        let proof = read::<32>(stream).await.map_err(refused)?;
        let said = text(b"listener", &own, &other);
        match hashes.iter().any(|hash| verify(&key(hash), &said, &proof).is_ok()) {
            true => Ok(()),
            false => Err(ChallengeError::Impostor),
        }
    }

    /// The listener's part.
    ///
    /// # Errors
    /// When the dialer does not know the secret. It is told nothing.
    pub async fn demand(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<(), ChallengeError> {
        // What begins otherwise is turned away at the first byte.
        for expected in MAGIC {
            if stream.read_u8().await? != expected {
                return Err(ChallengeError::Missing);
            }
        }
        let other = read::<NONCE_BYTES>(stream).await?;
        let own = nonce()?;
        stream.write_all(&own).await?;
        stream.flush().await?;
        let proof = read::<32>(stream).await?;
        let said = text(b"dialer", &other, &own);
        let hashes = self.0.hashes();
        let known = hashes.iter().map(key).find(|key| verify(key, &said, &proof).is_ok());
        let key = known.ok_or(ChallengeError::Wrong)?;
        stream.write_all(sign(&key, &text(b"listener", &other, &own)).as_ref()).await?;
        stream.flush().await?;
        Ok(())
    }
}

fn key(hash: &Hash) -> Key {
    Key::new(HMAC_SHA256, hash)
}

fn text(side: &[u8], of_dialer: &[u8], of_listener: &[u8]) -> Vec<u8> {
    [b"logboat ", side, b" ", of_dialer, of_listener].concat()
}

fn nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    let filled = SystemRandom::new().fill(&mut nonce);
    filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(nonce)
}

async fn read<const COUNT: usize>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A listener that ends the connection has refused the dialer.
fn refused(error: io::Error) -> ChallengeError {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => ChallengeError::Refused,
        _ => ChallengeError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    fn secret(lines: &str) -> ClusterSecret {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        ClusterSecret::open(file.path()).unwrap()
    }

    fn line(letter: char) -> String {
        letter.to_string().repeat(LEAST_BYTES) + "\n"
    }

    async fn meet(
        dialer: &ClusterSecret,
        listener: &ClusterSecret,
    ) -> (Result<(), ChallengeError>, Result<(), ChallengeError>) {
        let (mut here, mut there) = duplex(1024);
        let demanded = async {
            let demanded = listener.demand(&mut there).await;
            drop(there);
            demanded
        };
        tokio::join!(dialer.prove(&mut here), demanded)
    }

    #[tokio::test]
    async fn the_same_secret_is_proved_both_ways() {
        let (old, both) = (secret(&line('a')), secret(&(line('b') + &line('a'))));
        for (dialer, listener) in [(&old, &old), (&old, &both), (&both, &both)] {
            assert!(matches!(meet(dialer, listener).await, (Ok(()), Ok(()))));
        }
        // A node proves itself by its first line.
        let met = meet(&both, &old).await;
        assert!(matches!(met, (Err(ChallengeError::Refused), Err(ChallengeError::Wrong))));
    }

    /// What the dialer wrote, as somebody on the way saw it.
    async fn overheard(secret: &ClusterSecret) -> (Vec<u8>, Vec<u8>) {
        let (mut here, mut wire) = duplex(1024);
        let (mut there, mut other_wire) = duplex(1024);
        let relay = async {
            let mut hello = vec![0; MAGIC.len() + NONCE_BYTES];
            wire.read_exact(&mut hello).await.unwrap();
            other_wire.write_all(&hello).await.unwrap();
            pass(&mut other_wire, &mut wire).await;
            let proof = pass(&mut wire, &mut other_wire).await;
            pass(&mut other_wire, &mut wire).await;
            (hello, proof)
        };
        let (proved, demanded, heard) =
            tokio::join!(secret.prove(&mut here), secret.demand(&mut there), relay);
        proved.unwrap();
        demanded.unwrap();
        heard
    }

    async fn pass(from: &mut DuplexStream, to: &mut DuplexStream) -> Vec<u8> {
        let bytes = read::<32>(from).await.unwrap();
        to.write_all(&bytes).await.unwrap();
        bytes.to_vec()
    }

    #[tokio::test]
    async fn what_was_overheard_proves_nothing_again() {
        let secret = secret(&line('a'));
        let (hello, proof) = overheard(&secret).await;
        let (mut here, mut there) = duplex(1024);
        let replay = async {
            here.write_all(&hello).await.unwrap();
            here.write_all(&proof).await.unwrap();
            let mut answer = Vec::new();
            here.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let demanded = async {
            let demanded = secret.demand(&mut there).await;
            drop(there);
            demanded
        };
        let (answer, demanded) = tokio::join!(replay, demanded);
        assert!(matches!(demanded, Err(ChallengeError::Wrong)));
        assert_eq!(answer.len(), NONCE_BYTES, "the stranger learns a random number");
    }

    #[tokio::test]
    async fn a_listener_that_repeats_the_proof_of_the_dialer_is_found_out() {
        let secret = secret(&line('a'));
        let (mut here, mut there) = duplex(1024);
        let mirror = async {
            read::<{ 8 + NONCE_BYTES }>(&mut there).await.unwrap();
            there.write_all(&[0; NONCE_BYTES]).await.unwrap();
            let proof = read::<32>(&mut there).await.unwrap();
            there.write_all(&proof).await.unwrap();
        };
        let (proved, ()) = tokio::join!(secret.prove(&mut here), mirror);
        assert!(matches!(proved, Err(ChallengeError::Impostor)));
    }

    #[tokio::test]
    async fn what_begins_otherwise_is_refused_at_once() {
        let (mut here, mut there) = duplex(1024);
        here.write_all(b"G").await.unwrap();
        let demanded = secret(&line('a')).demand(&mut there).await;
        assert!(matches!(demanded, Err(ChallengeError::Missing)));
    }
}
