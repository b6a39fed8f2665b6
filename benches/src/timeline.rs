//! How a run went, second by second, as a picture.

use crate::closed_loop::Outcome;
use logboat_bench::Failure;
use logboat_bench::cluster::Cluster;
use logboat_bench::process::resident_bytes;
use logboat_bench::svg::{MARGIN, Picture, WIDTH, count, escape, figure};
use logboat_server::latency::per_second;
use std::time::Instant;

const TITLE_HEIGHT: f64 = 40.0;
const PANEL_HEIGHT: f64 = 120.0;
/// The height of a panel's heading.
const LABEL_HEIGHT: f64 = 28.0;

/// The values that are drawn, each in a panel of its own, all from zero up.
const PANELS: [&str; 5] = [
    "writes/s",
    "p99 latency, ms",
    "resident memory, MiB",
    "log files on disk, MiB over all nodes",
    "segments in use, over all nodes",
];

/// Samples, in the order of time.
#[derive(Default)]
pub(crate) struct Timeline {
    samples: Vec<Sample>,
}

/// Seconds since the start, and a value for each of [`PANELS`].
struct Sample {
    at: f64,
    values: [f64; PANELS.len()],
}

impl Timeline {
    /// Adds what was counted since the last sample of a run that began at `start`.
    pub(crate) fn add(
        &mut self,
        start: Instant,
        interval: &Outcome,
        cluster: &Cluster,
    ) -> Result<(), Failure> {
        let now = start.elapsed();
        let last = self.samples.last().map_or(0.0, |sample| sample.at);
        let at = now.as_secs_f64();
        let since_last = now.mul_f64((at - last) / at);
        let values = [
            per_second(interval.writes(), since_last),
            whole(interval.latencies.quantile_us(0.99)) / 1e3,
            mebibytes(resident_bytes()?),
            mebibytes(cluster.log_file_bytes()?),
            whole(u64::try_from(cluster.counts().segments)?),
        ];
        self.samples.push(Sample { at, values });
        Ok(())
    }

    /// Draws all samples as SVG.
    pub(crate) fn draw(&self) -> String {
        let height = PANEL_HEIGHT.mul_add(count(PANELS.len()), TITLE_HEIGHT + MARGIN);
        let seconds = self.samples.last().map_or(1.0, |sample| sample.at);
        let title = format!("Logboat under full load for {seconds:.0} s");
        let mut picture = Picture::new(height, &title, &title);
        for (at, label) in PANELS.iter().enumerate() {
            let points: Vec<_> = self
                .samples
                .iter()
                .map(|sample| (sample.at / seconds, sample.values[at]))
                .collect();
            draw_panel(&mut picture, PANEL_HEIGHT.mul_add(count(at), TITLE_HEIGHT), label, &points);
        }
        picture.finish()
    }
}

/// Draws a curve of points whose first coordinates go from 0 to 1.
fn draw_panel(picture: &mut Picture, top: f64, label: &str, points: &[(f64, f64)]) {
    let values = || points.iter().map(|(_, value)| *value);
    let most = values().fold(0.0, f64::max);
    let least = values().fold(most, f64::min);
    let mut sorted: Vec<_> = values().collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let [least, median, highest] = [least, median, most].map(figure);
    let (text, ground) = (top + 14.0, top + PANEL_HEIGHT - 8.0);
    picture.add(&format!(
        "<text x=\"{MARGIN}\" y=\"{text}\">{} \
         <tspan class=\"note\">least {least}, median {median}, most {highest}</tspan></text>",
        escape(label)
    ));
    let (end, room) = (WIDTH - MARGIN, ground - top - LABEL_HEIGHT);
    picture.add(&format!(r#"<path class="rule" d="M{MARGIN} {ground}H{end}"/>"#));
    let place = |(at, value): &(f64, f64)| {
        let x = (end - MARGIN).mul_add(*at, MARGIN);
        let part = if most > 0.0 { value / most } else { 0.0 };
        format!("{x:.1},{:.1}", part.mul_add(-room, ground))
    };
    let places: Vec<_> = points.iter().map(place).collect();
    picture.add(&format!(r#"<polyline class="curve" points="{}"/>"#, places.join(" ")));
}

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
const fn whole(number: u64) -> f64 {
    number as f64
}

fn mebibytes(bytes: u64) -> f64 {
    whole(bytes) / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_stands_on_zero_and_its_highest_point_at_the_top_of_its_panel() {
        let mut picture = Picture::new(200.0, "", "");
        draw_panel(&mut picture, 40.0, "a < b", &[(0.0, 0.0), (0.5, 3.0), (1.0, 6.0)]);
        let svg = picture.finish();
        assert!(svg.contains("16.0,152.0 440.0,110.0 864.0,68.0"), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("least 0.000, median 3.000, most 6.000"));
    }

    #[test]
    fn all_panels_are_drawn_even_of_a_run_that_did_nothing() {
        let samples = vec![Sample { at: 1.0, values: [0.0; PANELS.len()] }];
        let svg = Timeline { samples }.draw();
        assert_eq!(svg.matches("<polyline").count(), PANELS.len());
        assert!(!svg.contains("NaN"));
    }
}
