//! The failovers of a plan as a picture: how many groups have a leader again, over time.

use super::report::{Failover, Report};
use std::fmt::Write;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 360.0;
/// The corners of what the curves are drawn in.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 864.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 320.0;
/// The curves' colours, of middle brightness: readable on light and on dark ground.
const COLOURS: [&str; 4] = ["#2da44e", "#cf7a1b", "#8250df", "#1f83d6"];
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}\
    .title{font-size:16px;font-weight:600}.note{font-size:11px;fill:#656d76}\
    .rule{stroke:#8c959f;stroke-dasharray:3 3}.curve{stroke-width:1.5;fill:none}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}}";

/// Draws the curves of all failovers as SVG, one below the other in the legend.
#[must_use]
pub fn draw(report: &Report) -> String {
    let title = format!(
        "{} nodes, {} groups: the share of the groups that lost their leader and have one again",
        report.nodes, report.groups
    );
    let ends = report.failovers.iter().filter_map(|failover| failover.curve.last());
    let seconds = ends.map(|(ms, _)| ms.div_ceil(1_000)).max().unwrap_or(1).max(1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <title>{title}</title>\n<text class=\"title\" x=\"16\" y=\"24\">{title}</text>\n"
    );
    draw_grid(&mut svg, seconds);
    for (at, (failover, colour)) in report.failovers.iter().zip(COLOURS.iter().cycle()).enumerate()
    {
        draw_curve(&mut svg, failover, colour, seconds, at);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_grid(svg: &mut String, seconds: u64) {
    for percent in [0, 25, 50, 75, 100] {
        let y = y(f64::from(percent) / 100.0);
        add(svg, &format!(r#"<path class="rule" d="M{LEFT} {y:.1}H{RIGHT}"/>"#));
        let text = format!(r#"<text class="note" x="16" y="{:.1}">{percent} %</text>"#, y + 4.0);
        add(svg, &text);
    }
    for second in 0..=seconds {
        let x = x(second * 1_000, seconds);
        let text = format!(
            r#"<text class="note" text-anchor="middle" x="{x:.1}" y="{}">{second} s</text>"#,
            BOTTOM + 20.0
        );
        add(svg, &text);
    }
}

fn draw_curve(svg: &mut String, failover: &Failover, colour: &str, seconds: u64, at: usize) {
    let mut points = String::new();
    for (ms, share) in &failover.curve {
        write!(points, "{:.1},{:.1} ", x(*ms, seconds), y(*share)).expect("a string takes all");
    }
    let points = points.trim_end();
    add(svg, &format!(r#"<polyline class="curve" style="stroke:{colour}" points="{points}"/>"#));
    let died = if failover.deaths == 1 { "node dies" } else { "nodes die" };
    // The curves rise late, so that the left of the picture is free.
    let (left, line) = (LEFT + 16.0, TOP + 24.0 + 22.0 * at as f64);
    add(
        svg,
        &format!(
            "<path class=\"curve\" style=\"stroke:{colour}\" d=\"M{left} {:.1}h24\"/>\
             <text x=\"{:.1}\" y=\"{line:.1}\">{} {died}: {} groups, all after {:.2} s</text>",
            line - 4.0,
            left + 32.0,
            failover.deaths,
            failover.affected,
            failover.all_ms / 1e3,
        ),
    );
}

fn x(ms: u64, seconds: u64) -> f64 {
    let part = ms as f64 / (seconds * 1_000) as f64;
    (RIGHT - LEFT).mul_add(part, LEFT)
}

fn y(share: f64) -> f64 {
    (TOP - BOTTOM).mul_add(share, BOTTOM)
}

fn add(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}
