//! Checksums and fixed-size numbers, of which headers and records are made.

/// CRC-32 of the salt, a prefix and the content, in this order.
pub(crate) fn salted_crc(salt: u64, prefix: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(prefix);
    hasher.update(content);
    hasher.finalize()
}

/// The number at `offset`, which the caller knows to lie within `bytes`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}
