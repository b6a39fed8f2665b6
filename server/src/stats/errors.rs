//! Error replies by their codes.

use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The most codes that are told apart. Clients can't make up codes, but there is no need to rely on
/// that.
const MAX_CODES: usize = 128;

/// How often each error code was sent. Errors are rare enough for a lock.
#[derive(Debug, Default)]
pub struct ErrorCounts {
    by_code: Mutex<BTreeMap<String, u64>>,
}

impl ErrorCounts {
    /// Counts an error reply, whose text begins with its code.
    pub fn count(&self, text: &str) {
        let code = text.split(' ').next().unwrap_or_default();
        let mut by_code = self.by_code.lock();
        if let Some(count) = by_code.get_mut(code) {
            *count += 1;
        } else if by_code.len() < MAX_CODES {
            by_code.insert(code.to_owned(), 1);
        }
    }

    /// How often each code was sent.
    #[must_use]
    pub fn by_code(&self) -> BTreeMap<String, u64> {
        self.by_code.lock().clone()
    }

    /// How many error replies were sent.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_code.lock().values().sum()
    }

    pub(super) fn reset(&self) {
        self.by_code.lock().clear();
    }
}
