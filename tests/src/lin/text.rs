//! Texts as short fingerprints, so that a value that grows by thousands of appends costs no more to
//! extend, compare and remember than a short one.

use std::collections::HashSet;

/// The modulus of the fingerprints, a Mersenne prime.
const PRIME: u64 = (1 << 61) - 1;

/// The base of the fingerprints: any number that is neither small nor special will do.
const BASE: u64 = 0x0b6d_7c31_94f5_a2e7;

/// A text as a polynomial over its bytes modulo a prime (Karp and Rabin, "Efficient randomized
/// pattern-matching algorithms", 1987). It can be computed from the fingerprints of the text's
/// parts.
///
/// Different texts share a fingerprint with a probability of about their length over 2⁶¹. An order
/// found with fingerprints is replayed on the texts themselves, so that such a coincidence can
/// never pass a wrong history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(pub(super) u64);

/// A text to add to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Piece {
    fingerprint: u64,
    /// The base to the power of the text's length: what the text before it is multiplied by.
    shift: u64,
}

/// The texts that some operation found or compared with, and all their prefixes. Only with these
/// can a value ever be told from another, now or after further appends.
#[derive(Debug, Default)]
pub(super) struct Observed {
    prefixes: HashSet<Fingerprint>,
}

impl Fingerprint {
    /// The fingerprint of the empty text.
    pub(super) const EMPTY: Self = Self(0);

    pub(super) fn of(text: &str) -> Self {
        text.bytes().fold(Self::EMPTY, Self::push)
    }

    /// The fingerprint of this text with `piece` after it.
    pub(super) fn with(self, piece: Piece) -> Self {
        Self(add(multiply(self.0, piece.shift), piece.fingerprint))
    }

    /// A byte counts one more than its number, so that leading zeros change the sum.
    fn push(self, byte: u8) -> Self {
        Self(add(multiply(self.0, BASE), u64::from(byte) + 1))
    }
}

impl Piece {
    pub(super) fn of(text: &str) -> Self {
        let shift = text.bytes().fold(1, |power, _| multiply(power, BASE));
        Self { fingerprint: Fingerprint::of(text).0, shift }
    }
}

impl Observed {
    /// The prefixes of `texts`. A text that is a prefix of another is read once, as part of the
    /// other. So the outputs of a key that only grows cost no more than the last of them.
    pub(super) fn of(mut texts: Vec<&str>) -> Self {
        texts.sort_unstable();
        let mut observed = Self { prefixes: HashSet::from([Fingerprint::EMPTY]) };
        for (index, text) in texts.iter().enumerate() {
            if !texts.get(index + 1).is_some_and(|next| next.starts_with(text)) {
                observed.insert(text);
            }
        }
        observed
    }

    pub(super) fn contains(&self, text: Fingerprint) -> bool {
        self.prefixes.contains(&text)
    }

    fn insert(&mut self, text: &str) {
        let mut prefix = Fingerprint::EMPTY;
        for byte in text.bytes() {
            prefix = prefix.push(byte);
            self.prefixes.insert(prefix);
        }
    }
}

fn add(left: u64, right: u64) -> u64 {
    let sum = left + right;
    if sum >= PRIME { sum - PRIME } else { sum }
}

fn multiply(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    // 2⁶¹ is 1 modulo the prime, so the upper part counts as it is.
    add((product & u128::from(PRIME)) as u64, (product >> 61) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_fingerprint_however_it_came_about() {
        let whole = Fingerprint::of("12;345;6;");
        let parts = Fingerprint::of("12;").with(Piece::of("345;")).with(Piece::of("6;"));
        assert_eq!(whole, parts);
        assert_eq!(Fingerprint::EMPTY.with(Piece::of("12;")), Fingerprint::of("12;"));
        assert_eq!(whole.with(Piece::of("")), whole);
        assert_ne!(whole, Fingerprint::of("12;6;345;"));
        assert_ne!(Fingerprint::of("\0"), Fingerprint::EMPTY);
    }

    #[test]
    fn observed_texts_bring_their_prefixes() {
        let observed = Observed::of(vec!["1;2;", "1;", "7;", "1;2;", "1;3;"]);
        for text in ["", "1", "1;", "1;2", "1;2;", "1;3;", "7;"] {
            assert!(observed.contains(Fingerprint::of(text)), "{text}");
        }
        for text in ["2;", "1;2;3;", "7;1;", ";"] {
            assert!(!observed.contains(Fingerprint::of(text)), "{text}");
        }
    }
}
