//! The ratios as a picture: a bar a row on a logarithmic scale, to the right of "as good" where
//! Logboat is better.

use super::contest::{Better, Row};
use super::figure;
use std::fmt::Write;

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 16.0;
const TITLE_HEIGHT: f64 = 40.0;
const ROW_HEIGHT: f64 = 46.0;
/// Room beyond the longest bars for what stands at their ends.
const LABEL_WIDTH: f64 = 60.0;

/// Readable on light and on dark ground: colours of middle brightness, and text in that of the
/// reader's choice where the picture's host tells it.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}\
    .title{font-size:16px;font-weight:600}.note{font-size:11px;fill:#656d76}\
    .ratio{font-weight:600}.better{fill:#2da44e}.worse{fill:#cf7a1b}\
    .rule{stroke:#8c959f;stroke-dasharray:3 3}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}}";

/// Draws the rows, from the top down, as SVG.
pub(super) fn draw(rows: &[Row]) -> String {
    let height = ROW_HEIGHT.mul_add(count(rows.len()), TITLE_HEIGHT + MARGIN);
    let scale = Scale::new(rows);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <title>Logboat beside its peers</title>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"24\">Logboat beside its peers: \
         how many times better</text>\n"
    );
    let (rule, top) = (scale.x(1.0), TITLE_HEIGHT);
    let end = height - MARGIN;
    line(&mut svg, &format!(r#"<path class="rule" d="M{rule:.1} {top}V{end}"/>"#));
    for (at, row) in rows.iter().enumerate() {
        draw_row(&mut svg, &scale, ROW_HEIGHT.mul_add(count(at), TITLE_HEIGHT), row);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_row(svg: &mut String, scale: &Scale, top: f64, row: &Row) {
    let advantage = row.advantage();
    let (one, end) = (scale.x(1.0), scale.x(advantage));
    let (left, width) = (one.min(end), (end - one).abs().max(1.0));
    let class = if advantage >= 1.0 { "better" } else { "worse" };
    let (what, peer, unit) = (escape(row.what), escape(row.peer), escape(row.unit));
    let (logboat, other) = (figure(row.logboat), figure(row.peer_value));
    let less = match row.better {
        Better::More => "",
        Better::Less => ", less is better",
    };
    let (names, bar) = (top + 14.0, top + 20.0);
    line(
        svg,
        &format!(
            "<text x=\"{MARGIN}\" y=\"{names}\">{what} \
             <tspan class=\"note\">{logboat} against {other} {unit} of {peer}{less}</tspan></text>"
        ),
    );
    line(
        svg,
        &format!(
            r#"<rect class="{class}" x="{left:.1}" y="{bar}" width="{width:.1}" height="16" rx="2"/>"#
        ),
    );
    let (x, y) = (left + width + 6.0, bar + 13.0);
    line(svg, &format!(r#"<text class="ratio" x="{x:.1}" y="{y}">{advantage:.1} ×</text>"#));
}

fn line(svg: &mut String, text: &str) {
    writeln!(svg, "{text}").expect("a string takes all");
}

/// From advantages to places.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn new(rows: &[Row]) -> Self {
        let logs = || rows.iter().map(|row| row.advantage().ln());
        Self { least: logs().fold(0.0, f64::min), most: logs().fold(1.0, f64::max) }
    }

    fn x(&self, advantage: f64) -> f64 {
        let part = (advantage.ln() - self.least) / (self.most - self.least);
        (WIDTH - 2.0 * MARGIN - LABEL_WIDTH).mul_add(part, MARGIN)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[expect(clippy::cast_precision_loss, reason = "rows are few")]
const fn count(rows: usize) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(better: Better, ratio: f64) -> Row {
        Row {
            what: "a & b",
            peer: "peer",
            unit: "<s>",
            better,
            logboat: ratio,
            peer_value: 1.0,
            ratio,
        }
    }

    #[test]
    fn a_row_that_is_worse_goes_to_the_left_of_one_that_is_better() {
        let rows = [row(Better::More, 20.0), row(Better::Less, 2.0), row(Better::More, 1.0)];
        let scale = Scale::new(&rows);
        assert!(scale.x(0.5) < scale.x(1.0) && scale.x(1.0) < scale.x(20.0));
        assert!((scale.x(0.5) - MARGIN).abs() < 1e-9);
        let svg = draw(&rows);
        assert_eq!(svg.matches("class=\"better\"").count(), 2);
        assert_eq!(svg.matches("class=\"worse\"").count(), 1);
        assert!(svg.contains("20.0 ×") && svg.contains("0.5 ×"));
    }

    #[test]
    fn what_stands_in_the_picture_is_escaped() {
        let svg = draw(&[row(Better::More, 2.0)]);
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;s&gt;") && !svg.contains("<s>"));
    }
}
