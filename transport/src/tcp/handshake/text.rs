//! The bytes of a hello and of an answer: numbers behind a magic, with checksums.

use crate::tcp::handshake_error::HandshakeError;
use bytes::{Buf, BufMut};
use logboat_raft::{
    BootCount, BootNonce, ClusterId, Incarnation, Introduction, LogPosition, Start,
};
use logboat_security::ClusterSecret;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a connection between nodes begins with.
const MAGIC: [u8; 8] = *b"LOGBOAT\n";

/// The version of the protocol: of the handshake and of the frames. Nodes talk to their own version
/// only.
pub(super) const VERSION: u32 = 9;

/// The length of the part that is the same in every version.
const BASE_BYTES: usize = 48;

/// How many numbers follow the base in a hello, all of the introduction.
pub(super) const HELLO_NUMBERS: usize = 6;

/// How many numbers follow the base in an answer.
pub(super) const ANSWER_NUMBERS: usize = HELLO_NUMBERS + 2;

/// What follows the incarnation in an introduction.
pub(super) fn numbers(introduction: Introduction) -> [u64; HELLO_NUMBERS] {
    let Introduction { newest, let_in, log_end, cluster, .. } = introduction;
    let let_in = let_in.unwrap_or_default();
    let cluster = cluster.map_or(0, |cluster| cluster.0);
    [newest.count.0, newest.nonce.0, let_in.count.0, let_in.nonce.0, log_end.pack(), cluster]
}

/// The introduction that these [`numbers`] say.
pub(super) fn introduction(incarnation: u64, numbers: [u64; HELLO_NUMBERS]) -> Introduction {
    let [count, nonce, let_in_count, let_in_nonce, log_end, cluster] = numbers;
    let start = |count, nonce| Start { count: BootCount(count), nonce: BootNonce(nonce) };
    Introduction {
        incarnation: Incarnation(incarnation),
        newest: start(count, nonce),
        let_in: (let_in_count > 0).then(|| start(let_in_count, let_in_nonce)),
        log_end: LogPosition::unpack(log_end),
        cluster: (cluster != 0).then_some(ClusterId(cluster)),
    }
}

/// Writes a hello or an answer.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    base: [u64; 4],
    rest: &[u64],
) -> Result<(), HandshakeError> {
    stream.write_all(&encode(base, rest)).await?;
    Ok(stream.flush().await?)
}

fn encode(base: [u64; 4], rest: &[u64]) -> Vec<u8> {
    let mut text = MAGIC.to_vec();
    text.put_u32_le(VERSION);
    for numbers in [&base[..], rest] {
        if numbers.is_empty() {
            continue;
        }
        numbers.iter().for_each(|number| text.put_u64_le(*number));
        let checksum = crc32fast::hash(&text);
        text.put_u32_le(checksum);
    }
    text
}

/// The part of a hello or an answer that is the same in every version.
pub(super) struct Base {
    pub(super) version: u32,
    pub(super) numbers: [u64; 4],
    text: [u8; BASE_BYTES],
}

impl Base {
    /// What does not begin with the magic is turned away at once, however short it is, and not kept
    /// waiting for the rest.
    pub(super) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Self, HandshakeError> {
        let mut text = [0; BASE_BYTES];
        let mut filled = 0;
        while filled < BASE_BYTES {
            match stream.read(&mut text[filled..]).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => filled += count,
            }
            let begin = filled.min(MAGIC.len());
            if ClusterSecret::is_challenge(&text[..begin]) {
                return Err(HandshakeError::SecretHere);
            } else if text[..begin] != MAGIC[..begin]
                && !ClusterSecret::may_be_challenge(&text[..begin])
            {
                return Err(HandshakeError::Foreign);
            }
        }
        let (covered, mut checksum) = text.split_at(BASE_BYTES - 4);
        if crc32fast::hash(covered) != checksum.get_u32_le() {
            return Err(HandshakeError::Damaged);
        }
        let mut fields = &covered[MAGIC.len()..];
        let version = fields.get_u32_le();
        Ok(Self { version, numbers: [(); 4].map(|()| fields.get_u64_le()), text })
    }

    /// The numbers that follow it in this version.
    pub(super) async fn rest<const COUNT: usize>(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<[u64; COUNT], HandshakeError> {
        let mut rest = vec![0; COUNT * size_of::<u64>() + size_of::<u32>()];
        stream.read_exact(&mut rest).await?;
        let (mut numbers, mut checksum) = rest.split_at(COUNT * size_of::<u64>());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.text);
        hasher.update(numbers);
        if hasher.finalize() != checksum.get_u32_le() {
            return Err(HandshakeError::Damaged);
        }
        Ok([(); COUNT].map(|()| numbers.get_u64_le()))
    }
}
