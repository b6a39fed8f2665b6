//! What happened, as a hash always and as text on demand: the same seed gives the same of both.

use std::fmt;

/// The record of a simulation.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty record, with text if wanted.
    pub(super) fn new(text: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: text.then(Vec::new) }
    }

    /// Notes an event at a moment (microseconds), by the numbers that tell it from others and by a
    /// line of text.
    pub(super) fn note(&mut self, micros: u64, numbers: &[u64], text: fmt::Arguments<'_>) {
        self.mix(micros);
        numbers.iter().for_each(|number| self.mix(*number));
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{micros:>12} {text}"));
        }
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn into_lines(self) -> Option<Vec<String>> {
        self.lines
    }

    const fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}
