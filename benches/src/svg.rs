//! What the pictures share: their style, and a few shapes.

use std::fmt::Write;

/// The width of a picture.
pub const WIDTH: f64 = 880.0;

/// What is left free at its edges.
pub const MARGIN: f64 = 16.0;

/// Readable on light and on dark ground: the colours are of middle brightness, and the text follows
/// the reader's colour scheme.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}\
    .title{font-size:16px;font-weight:600}.note{font-size:11px;fill:#656d76}\
    .ratio{font-weight:600}.better{fill:#2da44e}.worse{fill:#cf7a1b}\
    .rule{stroke:#8c959f;stroke-dasharray:3 3}\
    .curve{stroke:#2da44e;stroke-width:1.5;fill:none}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}}";

/// A picture as text, to which lines are added.
pub struct Picture(String);

impl Picture {
    /// An empty picture of this height under a heading; `title` is its short name.
    pub fn new(height: f64, title: &str, heading: &str) -> Self {
        let (title, heading) = (escape(title), escape(heading));
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<style>{STYLE}</style>\n\
             <title>{title}</title>\n\
             <text class=\"title\" x=\"{MARGIN}\" y=\"24\">{heading}</text>\n"
        ))
    }

    /// Adds an element.
    pub fn add(&mut self, element: &str) {
        writeln!(self.0, "{element}").expect("a string takes all");
    }

    /// The whole of it.
    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// Text as it stands in a picture.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number with its significant digits.
pub fn figure(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

/// A small number of things as a coordinate.
#[expect(clippy::cast_precision_loss, reason = "they are few")]
pub const fn count(things: usize) -> f64 {
    things as f64
}
