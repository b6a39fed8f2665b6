//! The failovers of a plan as a picture: how many groups have a leader again, over time.

use super::report::{Failover, Report};
use std::fmt::Write;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 360.0;
/// The corners of what the curves are drawn in.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 864.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 320.0;
/// The curves' colours, of middle brightness: readable on light and on dark ground.
const COLOURS: [&str; 4] = ["#2da44e", "#cf7a1b", "#8250df", "#1f83d6"];
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}\
    .title{font-size:16px;font-weight:600}.note{font-size:11px;fill:#656d76}\
    .rule{stroke:#8c959f;stroke-dasharray:3 3}.curve{stroke-width:1.5;fill:none}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}}";

/// A mark on the axis of time at every so many milliseconds.
const MARK_MS: u64 = 100;

/// Draws the curves of all failovers as SVG, from just before the first loss is noticed.
#[must_use]
pub fn draw(report: &Report) -> String {
    let title = format!(
        "{} nodes, {} groups: the share of the groups that lost their leader and have one again",
        report.nodes, report.groups
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <title>{title}</title>\n<text class=\"title\" x=\"16\" y=\"24\">{title}</text>\n"
    );
    let axis = Axis::of(&report.failovers);
    axis.draw(&mut svg);
    let coloured = report.failovers.iter().zip(COLOURS.iter().cycle());
    for (at, (failover, colour)) in coloured.enumerate() {
        draw_curve(&mut svg, &axis, failover, colour);
        let line = BOTTOM - 24.0 - 22.0 * (report.failovers.len() - 1 - at) as f64;
        draw_legend(&mut svg, line, failover, colour);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The axis of time, in milliseconds.
struct Axis {
    from: u64,
    to: u64,
}

impl Axis {
    /// An axis that shows where the curves rise.
    fn of(failovers: &[Failover]) -> Self {
        let rise = |failover: &Failover| failover.curve.iter().find(|it| it.1 > 0.0).map(|it| it.0);
        let from = failovers.iter().filter_map(rise).min().unwrap_or_default();
        let ends = failovers.iter().filter_map(|failover| failover.curve.last());
        let to = ends.map(|(ms, _)| *ms).max().unwrap_or_default();
        let from = from.saturating_sub(1) / MARK_MS * MARK_MS;
        Self { from, to: (to.div_ceil(MARK_MS) * MARK_MS).max(from + MARK_MS) }
    }

    fn draw(&self, svg: &mut String) {
        for percent in [0, 25, 50, 75, 100] {
            let y = y(f64::from(percent) / 100.0);
            add(svg, &format!(r#"<path class="rule" d="M{LEFT} {y:.1}H{RIGHT}"/>"#));
            let text = y + 4.0;
            let text = format!(r#"<text class="note" x="16" y="{text:.1}">{percent} %</text>"#);
            add(svg, &text);
        }
        for ms in (self.from..=self.to).step_by(MARK_MS as usize) {
            let (x, y, seconds) = (self.x(ms), BOTTOM + 20.0, ms as f64 / 1e3);
            let place = format!(r#"text-anchor="middle" x="{x:.1}" y="{y}""#);
            add(svg, &format!(r#"<text class="note" {place}>{seconds:.1} s</text>"#));
        }
    }

    fn x(&self, ms: u64) -> f64 {
        let part = (ms - self.from) as f64 / (self.to - self.from) as f64;
        (RIGHT - LEFT).mul_add(part, LEFT)
    }
}

fn draw_curve(svg: &mut String, axis: &Axis, failover: &Failover, colour: &str) {
    let mut points = String::new();
    for (ms, share) in failover.curve.iter().filter(|(ms, _)| *ms >= axis.from) {
        write!(points, "{:.1},{:.1} ", axis.x(*ms), y(*share)).expect("a string takes all");
    }
    let points = points.trim_end();
    let style = format!("style=\"stroke:{colour}\"");
    add(svg, &format!("<polyline class=\"curve\" {style} points=\"{points}\"/>"));
}

/// The curves are high at their end, so that there is room below it.
fn draw_legend(svg: &mut String, line: f64, failover: &Failover, colour: &str) {
    let (left, stroke) = (RIGHT - 330.0, line - 4.0);
    let died = if failover.deaths == 1 { "node dies" } else { "nodes die" };
    let (style, text) = (format!("style=\"stroke:{colour}\""), left + 32.0);
    add(svg, &format!("<path class=\"curve\" {style} d=\"M{left} {stroke}h24\"/>"));
    let Failover { deaths, affected, all_ms, .. } = failover;
    let seconds = all_ms / 1e3;
    let label = format!("{deaths} {died}: {affected} groups, all after {seconds:.2} s");
    add(svg, &format!("<text x=\"{text}\" y=\"{line}\">{label}</text>"));
}

fn y(share: f64) -> f64 {
    (TOP - BOTTOM).mul_add(share, BOTTOM)
}

fn add(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}
