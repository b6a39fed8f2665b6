//! The ratios as a picture: names on the left, and a bar a row on a logarithmic scale. A bar goes
//! to the right of "as good" where Logboat is better.

use crate::contest::{Better, Row};
use logboat_bench::svg::{MARGIN, Picture, WIDTH, count, escape, figure};

const TITLE_HEIGHT: f64 = 40.0;
const ROW_HEIGHT: f64 = 42.0;
const BAR_HEIGHT: f64 = 18.0;
/// Where the names end and the bars begin.
const BARS_LEFT: f64 = 448.0;
/// Room beyond the longest bars for what stands at their ends.
const RATIO_WIDTH: f64 = 60.0;

/// Draws the rows, from the top down, as SVG.
pub(crate) fn draw(rows: &[Row]) -> String {
    let height = ROW_HEIGHT.mul_add(count(rows.len()), TITLE_HEIGHT + MARGIN);
    let scale = Scale::new(rows);
    let title = "Logboat beside its peers";
    let mut picture = Picture::new(height, title, &format!("{title}: how many times better"));
    let (rule, top) = (scale.x(1.0), TITLE_HEIGHT);
    let end = height - MARGIN;
    picture.add(&format!(r#"<path class="rule" d="M{rule:.1} {top}V{end}"/>"#));
    for (at, row) in rows.iter().enumerate() {
        draw_row(&mut picture, &scale, ROW_HEIGHT.mul_add(count(at), TITLE_HEIGHT), row);
    }
    picture.finish()
}

fn draw_row(picture: &mut Picture, scale: &Scale, top: f64, row: &Row) {
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
    let (name, note, bar) = (top + 15.0, top + 31.0, top + 9.0);
    picture.add(&format!(r#"<text x="{MARGIN}" y="{name}">{what}</text>"#));
    picture.add(&format!(
        "<text class=\"note\" x=\"{MARGIN}\" y=\"{note}\">\
         {logboat} against {other} {unit} of {peer}{less}</text>"
    ));
    picture.add(&format!(
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{bar}\" width=\"{width:.1}\" \
         height=\"{BAR_HEIGHT}\" rx=\"2\"/>"
    ));
    let (x, y) = (left + width + 6.0, bar + 14.0);
    picture.add(&format!(r#"<text class="ratio" x="{x:.1}" y="{y}">{advantage:.1} ×</text>"#));
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
        (WIDTH - MARGIN - RATIO_WIDTH - BARS_LEFT).mul_add(part, BARS_LEFT)
    }
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
        assert!((scale.x(0.5) - BARS_LEFT).abs() < 1e-9);
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
