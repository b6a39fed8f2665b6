//! Glob patterns with the rules of Redis: `*`, `?`, `[abc]`, `[^a-z]` and `\` as an escape.
//!
//! A pattern is whatever a client sends, and it is tried on keys of any length by threads that
//! others wait for. So the time of a match is bounded by far less than the product of the lengths:
//! what is long and stands between two stars is tried at all places at once, 64 elements to a
//! machine word ("Shift-And": Baeza-Yates and Gonnet, "A new approach to text searching", 1992).

use std::cell::OnceCell;

/// Up to so many elements are tried at one place after the other. A row of bits for each byte would
/// take more memory than a pattern of many short runs is worth.
const SHORT_RUN: usize = 64;

/// A pattern, ready to be matched with many texts.
#[derive(Debug)]
pub struct Pattern {
    fold_case: bool,
    /// What stands before the first star.
    start: Vec<Element>,
    /// What stands between stars, in order; without empty ones.
    middle: Vec<Run>,
    /// What stands behind the last star; none if there is no star at all.
    end: Option<Vec<Element>>,
}

/// What matches one byte of the text.
#[derive(Debug)]
enum Element {
    Byte(u8),
    Any,
    Class(Class),
}

/// Elements between two stars, which match wherever they are found first: giving an earlier star
/// more text can't help.
#[derive(Debug)]
struct Run {
    elements: Vec<Element>,
    /// A row of bits for each value of a byte: which elements match it. Made when it is needed
    /// first, which is for a text that is at least as long as the elements.
    rows: OnceCell<Vec<u64>>,
}

impl Pattern {
    /// Takes a pattern apart. With `fold_case`, ASCII letters match in either case.
    #[must_use]
    pub fn new(text: &[u8], fold_case: bool) -> Self {
        let mut parts = vec![Vec::new()];
        let mut rest = text;
        while let Some((&first, after)) = rest.split_first() {
            let part = parts.last_mut().expect("there is always a last part");
            let (element, after) = match (first, after) {
                (b'*', after) => {
                    parts.push(Vec::new());
                    rest = after;
                    continue;
                }
                (b'?', after) => (Element::Any, after),
                (b'[', after) => {
                    let (class, after) = Class::parse(after, fold_case);
                    (Element::Class(class), after)
                }
                (b'\\', [escaped, after @ ..]) => (Element::Byte(fold(*escaped, fold_case)), after),
                (literal, after) => (Element::Byte(fold(literal, fold_case)), after),
            };
            part.push(element);
            rest = after;
        }
        let end = if parts.len() > 1 { parts.pop() } else { None };
        let mut parts = parts.into_iter();
        let start = parts.next().unwrap_or_default();
        let middle = parts.filter(|part| !part.is_empty()).map(Run::new).collect();
        Self { fold_case, start, middle, end }
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some(end) = &self.end else {
            return self.start.len() == text.len() && self.all_match(&self.start, text);
        };
        if text.len() < self.shortest_text() {
            return false;
        }
        let (start, rest) = text.split_at(self.start.len());
        let (mut rest, tail) = rest.split_at(rest.len() - end.len());
        if !self.all_match(&self.start, start) || !self.all_match(end, tail) {
            return false;
        }
        for run in &self.middle {
            let Some(found) = run.find(rest, self.fold_case) else {
                return false;
            };
            rest = &rest[found..];
        }
        true
    }

    /// About how many steps of a few instructions it takes at most to match a text of so many
    /// bytes.
    #[must_use]
    pub fn cost(&self, text_bytes: usize) -> usize {
        if text_bytes < self.shortest_text() {
            return 1;
        }
        let steps_a_byte = self.middle.iter().map(Run::steps_a_byte).max().unwrap_or(0);
        1 + text_bytes * (1 + steps_a_byte)
    }

    fn shortest_text(&self) -> usize {
        let middle: usize = self.middle.iter().map(|run| run.elements.len()).sum();
        self.start.len() + middle + self.end.as_ref().map_or(0, Vec::len)
    }

    fn all_match(&self, elements: &[Element], text: &[u8]) -> bool {
        all_match(elements, text, self.fold_case)
    }
}

fn all_match(elements: &[Element], text: &[u8], fold_case: bool) -> bool {
    elements.iter().zip(text).all(|(element, byte)| element.matches(fold(*byte, fold_case)))
}

impl Element {
    fn matches(&self, byte: u8) -> bool {
        match self {
            Self::Byte(expected) => *expected == byte,
            Self::Any => true,
            Self::Class(class) => class.contains(byte),
        }
    }
}

impl Run {
    fn new(elements: Vec<Element>) -> Self {
        Self { elements, rows: OnceCell::new() }
    }

    fn words(&self) -> usize {
        self.elements.len().div_ceil(64)
    }

    fn rows(&self) -> &[u64] {
        self.rows.get_or_init(|| {
            let words = self.words();
            let mut rows = vec![0; 256 * words];
            for (i, element) in self.elements.iter().enumerate() {
                for byte in (0..=u8::MAX).filter(|byte| element.matches(*byte)) {
                    rows[usize::from(byte) * words + i / 64] |= 1 << (i % 64);
                }
            }
            rows
        })
    }

    fn steps_a_byte(&self) -> usize {
        if self.elements.len() <= SHORT_RUN { self.elements.len() } else { self.words() }
    }

    /// Where the first match ends.
    fn find(&self, text: &[u8], fold_case: bool) -> Option<usize> {
        let length = self.elements.len();
        if length > SHORT_RUN {
            return self.find_long(text, fold_case);
        }
        let mut windows = text.windows(length);
        let at = windows.position(|window| all_match(&self.elements, window, fold_case))?;
        Some(at + length)
    }

    fn find_long(&self, text: &[u8], fold_case: bool) -> Option<usize> {
        let words = self.words();
        let last = (self.elements.len() - 1) % 64;
        let rows = self.rows();
        // Bit i: the elements up to i match the text up to here.
        let mut state = vec![0_u64; words];
        let at = text.iter().position(|byte| {
            let row = usize::from(fold(*byte, fold_case)) * words;
            let mut carry = 1;
            for (state, row) in state.iter_mut().zip(&rows[row..row + words]) {
                let shifted = (*state << 1) | carry;
                carry = *state >> 63;
                *state = shifted & row;
            }
            state[words - 1] >> last & 1 == 1
        })?;
        Some(at + 1)
    }
}

/// A set of bytes.
#[derive(Debug)]
struct Class {
    negated: bool,
    low_half: u128,
    high_half: u128,
}

impl Class {
    /// Parses a class whose text starts `pattern`, behind its `[`; returns what follows the class.
    /// A class that is never closed ends with the pattern.
    fn parse(pattern: &[u8], fold_case: bool) -> (Self, &[u8]) {
        let (negated, mut rest) = match pattern {
            [b'^', rest @ ..] => (true, rest),
            _ => (false, pattern),
        };
        let mut class = Self { negated, low_half: 0, high_half: 0 };
        loop {
            rest = match rest {
                [] => return (class, rest),
                [b']', after @ ..] => return (class, after),
                [b'\\', escaped, after @ ..] => {
                    class.add(*escaped, *escaped, fold_case);
                    after
                }
                [low, b'-', high, after @ ..] => {
                    class.add(*low.min(high), *low.max(high), fold_case);
                    after
                }
                [literal, after @ ..] => {
                    class.add(*literal, *literal, fold_case);
                    after
                }
            };
        }
    }

    fn add(&mut self, low: u8, high: u8, fold_case: bool) {
        let (low, high) = (fold(low, fold_case), fold(high, fold_case));
        for byte in low..=high {
            let bit = 1 << (byte % 128);
            if byte < 128 { self.low_half |= bit } else { self.high_half |= bit }
        }
    }

    fn contains(&self, byte: u8) -> bool {
        let half = if byte < 128 { self.low_half } else { self.high_half };
        (half >> (byte % 128) & 1 == 1) != self.negated
    }
}

fn fold(byte: u8, fold_case: bool) -> u8 {
    if fold_case { byte.to_ascii_lowercase() } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn matches(pattern: &[u8], text: &[u8], fold_case: bool) -> bool {
        Pattern::new(pattern, fold_case).matches(text)
    }

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes(), false),
            expected,
            "{pattern} {text}"
        );
    }

    #[test]
    fn patterns_of_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("foo*", "foo", true),
            ("foo*", "foobar", true),
            ("*bar", "foobar", true),
            ("*bar", "foobarx", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("key:1??", "key:123", true),
            ("key:1??", "key:12", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            (r"a\", r"a\", true),
            ("{a}*", "{a}x", true),
            ("[abc", "b", true),
            (r"[\]]", "]", true),
            ("[", "x", false),
            ("[^", "x", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
        ] {
            check(pattern, text, expected);
        }
    }

    #[test]
    fn case_is_folded_on_request() {
        assert!(matches(b"MAX*", b"maxclients", true));
        assert!(matches(b"[A-C]x", b"bX", true));
        assert!(!matches(b"MAX*", b"maxclients", false));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"a*".repeat(5_000);
        let mut text = vec![b'a'; 20_000];
        assert!(matches(&pattern, &text, false));
        text.push(b'b');
        assert!(!matches(&[&pattern[..], b"c"].concat(), &text, false));
    }

    #[test]
    fn a_long_run_of_a_long_pattern_takes_little_time() {
        let pattern = [b"*".to_vec(), b"a".repeat(32 << 10), b"b".to_vec()].concat();
        let pattern = Pattern::new(&pattern, false);
        let text = b"a".repeat(64 << 10);
        assert!(pattern.cost(text.len()) < 1 << 26);
        assert!(!pattern.matches(&text));
        assert!(pattern.matches(&[&text[..], b"b"].concat()));
    }

    /// Tries every way to match: what a match means, for short patterns.
    fn every_way(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', after @ ..], text) => (0..=text.len()).any(|at| every_way(after, &text[at..])),
            ([b'[', after @ ..], [byte, text @ ..]) => {
                let (class, after) = Class::parse(after, false);
                class.contains(*byte) && every_way(after, text)
            }
            ([b'?', after @ ..], [_, text @ ..]) => every_way(after, text),
            ([literal, after @ ..], [byte, text @ ..]) => literal == byte && every_way(after, text),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn matches_are_those_of_every_way(
            pattern in r"([ab*?]|\[\^?[ab-]{0,3}\]){0,9}",
            text in "[ab]{0,16}",
        ) {
            let expected = every_way(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), false), expected);
        }

        #[test]
        fn long_runs_match_like_short_ones(
            run in vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'?')], 65..200),
            before in vec(prop_oneof![Just(b'a'), Just(b'b')], 0..200),
            flip in any::<proptest::sample::Index>(),
        ) {
            let pattern = [b"*", &run[..], b"*"].concat();
            let mut text = before;
            text.extend(run.iter().map(|byte| if *byte == b'?' { b'c' } else { *byte }));
            text.push(b'a');
            prop_assert!(matches(&pattern, &text, false));
            let flip = flip.index(text.len());
            text[flip] = b'd';
            let expected = text.windows(run.len()).any(|window| {
                run.iter().zip(window).all(|(want, byte)| *want == b'?' || want == byte)
            });
            prop_assert_eq!(matches(&pattern, &text, false), expected);
        }
    }
}
