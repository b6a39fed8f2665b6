//! Memory that is aligned to blocks, as writes past the page cache need it.

/// Every write begins and ends at a multiple of this, in the file and in memory: direct writes ask
/// for that. A segment's header is a block of its own, which is not written again while the segment
/// is in use.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// How many bytes behind the beginning of `buffer` the next multiple of a block's size comes.
pub(crate) fn unaligned_bytes(buffer: &[u8]) -> usize {
    buffer.as_ptr().align_offset(BLOCK_BYTES as usize)
}

/// An aligned copy of `content`, with room for `room` bytes in all. Returns the buffer, and where
/// in it the copy begins.
pub(crate) fn aligned(content: &[u8], room: usize) -> (Vec<u8>, usize) {
    let mut buffer = Vec::with_capacity(room.max(content.len()) + BLOCK_BYTES as usize);
    let first = unaligned_bytes(&buffer);
    buffer.resize(first, 0);
    buffer.extend_from_slice(content);
    (buffer, first)
}
