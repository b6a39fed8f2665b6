//! Unsigned LEB128: numbers of up to 64 bits in one to ten bytes, seven bits a byte, the lowest
//! first. All bytes but the last one have their highest bit set.
//!
//! The log, the frames between nodes and the commands of the store write their numbers like this.
//! [`put`] takes the fewest bytes. [`decode`] also accepts a number that was padded with zeros, but
//! never one that does not fit 64 bits.

#![no_std]

extern crate alloc;

use alloc::vec::Vec;

/// The most bytes that a number takes.
pub const MAX_BYTES: usize = 10;

/// Why no number could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The bytes end before the number does.
    #[error("the bytes end within a number")]
    Truncated,
    /// The number does not fit 64 bits.
    #[error("a number that does not fit 64 bits")]
    Overflow,
}

/// Appends a number.
#[inline]
pub fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// How many bytes [`put`] appends for this number.
#[must_use]
pub const fn bytes(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// Reads the number that `bytes` begin with. Returns it with the number of bytes that it takes.
///
/// # Errors
/// [`VarintError`] when `bytes` don't begin with a whole number of 64 bits.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<(u64, usize), VarintError> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(MAX_BYTES).enumerate() {
        // The last byte has room for one bit, and nothing may follow it.
        if at == MAX_BYTES - 1 && *byte > 1 {
            return Err(VarintError::Overflow);
        }
        number |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Ok((number, at + 1));
        }
    }
    Err(VarintError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers of every length.
    fn numbers() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_put(number in numbers(), rest in any::<[u8; 3]>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            let length = bytes.len();
            assert_eq!(length, (64 - number.leading_zeros()).div_ceil(7).max(1) as usize);
            for end in 0..length {
                assert_eq!(decode(&bytes[..end]), Err(VarintError::Truncated));
            }
            bytes.extend(rest);
            assert_eq!(decode(&bytes), Ok((number, length)));
        }
    }

    #[test]
    fn the_bytes_on_disks_and_wires_stay_what_they_are() {
        for (number, expected) in [
            (0, [0].as_slice()),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn padding_is_accepted_and_what_does_not_fit_is_not() {
        assert_eq!(decode(&[0x81, 0x80, 0]), Ok((1, 3)));
        let mut longest = [0xff; MAX_BYTES];
        for (last, expected) in [
            (0, Ok((u64::MAX >> 1, MAX_BYTES))),
            (1, Ok((u64::MAX, MAX_BYTES))),
            (2, Err(VarintError::Overflow)),
            (0x7f, Err(VarintError::Overflow)),
            (0x80, Err(VarintError::Overflow)),
            (0xff, Err(VarintError::Overflow)),
        ] {
            longest[MAX_BYTES - 1] = last;
            assert_eq!(decode(&longest), expected, "{last:#x}");
        }
        assert_eq!(decode(&[0x80; 11]), Err(VarintError::Overflow));
    }
}
