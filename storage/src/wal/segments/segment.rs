//! An open segment file, with its header.

use std::sync::Arc;

/// An open segment.
#[derive(Debug)]
pub struct Segment<F> {
    pub(crate) id: u32,
    pub(crate) salt: u64,
    pub(crate) file: Arc<F>,
}

impl<F> Clone for Segment<F> {
    fn clone(&self) -> Self {
        Self { file: Arc::clone(&self.file), ..*self }
    }
}
