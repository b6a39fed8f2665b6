//! Two that do the same work in turn.

use indicatif::ProgressBar;
use logboat_bench::Failure;
use serde::Serialize;

/// One side's work, done once: a figure for each of the contest's rows.
type Run<'a> = Box<dyn FnMut() -> Result<Vec<f64>, Failure> + 'a>;

/// Whether a figure is better when there is more of it or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    More,
    Less,
}

/// What a figure says.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

/// What came out for one figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// The median of the rounds.
    pub(crate) logboat: f64,
    /// The median of the rounds.
    pub(crate) peer_value: f64,
    /// Logboat's figure by the peer's: the median of the ratios of the rounds.
    pub(crate) ratio: f64,
}

impl Row {
    /// How many times better Logboat's figure is than the peer's, whichever way better is.
    pub(crate) fn advantage(&self) -> f64 {
        match self.better {
            Better::More => self.ratio,
            Better::Less => 1.0 / self.ratio,
        }
    }
}

/// Logboat and a peer, ready to run.
pub(crate) struct Contest<'a> {
    pub(crate) peer: &'static str,
    pub(crate) figures: &'static [Figure],
    pub(crate) logboat: Run<'a>,
    pub(crate) other: Run<'a>,
}

impl Contest<'_> {
    /// Runs both sides in turn, `rounds` times each.
    pub(crate) fn run(mut self, rounds: u64, progress: &ProgressBar) -> Result<Vec<Row>, Failure> {
        let what = self.figures[0].what;
        let mut pairs = Vec::new();
        for _ in 0..rounds {
            progress.set_message(format!("{what}: Logboat"));
            let logboat = (self.logboat)()?;
            progress.inc(1);
            progress.set_message(format!("{what}: {}", self.peer));
            pairs.push((logboat, (self.other)()?));
            progress.inc(1);
        }
        let row = |(at, figure): (usize, &Figure)| Row {
            what: figure.what,
            peer: self.peer,
            unit: figure.unit,
            better: figure.better,
            logboat: median(pairs.iter().map(|(logboat, _)| logboat[at])),
            peer_value: median(pairs.iter().map(|(_, peer)| peer[at])),
            ratio: median(pairs.iter().map(|(logboat, peer)| logboat[at] / peer[at])),
        };
        Ok(self.figures.iter().enumerate().map(row).collect())
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_pair_by_pair() {
        let mut logboat = [12.0, 40.0, 30.0].into_iter();
        let mut other = [3.0, 20.0, 5.0].into_iter();
        let contest = Contest {
            peer: "a peer",
            figures: &[Figure { what: "work", unit: "s", better: Better::Less }],
            logboat: Box::new(|| Ok(vec![logboat.next().ok_or("no more")?])),
            other: Box::new(|| Ok(vec![other.next().ok_or("no more")?])),
        };
        let rows = contest.run(3, &ProgressBar::hidden()).expect("three rounds");
        let [row] = &rows[..] else { panic!("one figure, one row") };
        // 4, 2 and 6 times: the ratio of the medians would be 6.
        assert_eq!((row.logboat, row.peer_value, row.ratio), (30.0, 5.0, 4.0));
        assert!((row.advantage() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn an_even_number_has_two_in_the_middle() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), 2.5);
    }
}
