//! What a client may send and get.

/// Limits on sizes. A request beyond them is answered by an error; the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest key, in bytes.
    pub max_key_bytes: usize,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
    /// All arguments of one request together, in bytes, plus 32 bytes for each argument.
    pub max_request_bytes: usize,
    /// The keys and values of one reply together, in bytes. Bounds what RANGE, KEYS and MGET hold
    /// in memory.
    pub max_reply_bytes: usize,
}

impl Limits {
    /// The longest argument of a request, in bytes.
    #[must_use]
    pub const fn max_argument_bytes(&self) -> usize {
        if self.max_key_bytes > self.max_value_bytes {
            self.max_key_bytes
        } else {
            self.max_value_bytes
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_key_bytes: 56 * 1024,
            max_value_bytes: 8 * 1024 * 1024,
            max_request_bytes: 64 * 1024 * 1024,
            max_reply_bytes: 256 * 1024 * 1024,
        }
    }
}
