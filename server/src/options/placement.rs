//! What a person says of how replicas are placed.

use crate::output::Failure;
use logboat_router::ClusterSettings;
use std::time::Duration;

/// After how long a node that is silent counts as lost, unless somebody says so.
const LOST_AFTER: Duration = Duration::from_mins(5);

/// The settings of the cluster that somebody has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenSettings {
    /// After how long a node that is silent counts as lost.
    pub lost_after: Option<Duration>,
    /// How many MiB of groups a node receives in a second, and sends, for replicas that move.
    pub move_mib_per_s: Option<u64>,
}

impl GivenSettings {
    /// Reads what was given as `--lost-after` and `--move-mib-per-s`.
    pub(crate) fn read(
        lost_after: Option<&str>,
        move_mib_per_s: Option<u64>,
    ) -> Result<Self, Failure> {
        if move_mib_per_s.is_some_and(|mib| mib == 0 || mib > MOST_MIB_PER_S) {
            return Err(format!("--move-mib-per-s: from 1 to {MOST_MIB_PER_S}").into());
        }
        Ok(Self { lost_after: lost_after.map(time).transpose()?, move_mib_per_s })
    }

    /// These settings, but for what was given.
    #[must_use]
    pub fn over(&self, settings: &ClusterSettings) -> ClusterSettings {
        ClusterSettings {
            lost_after: self.lost_after.or(settings.lost_after),
            move_mib_per_s: self.move_mib_per_s.unwrap_or(settings.move_mib_per_s),
        }
    }

    /// The settings that a cluster is made with.
    #[must_use]
    pub fn of_new_cluster(&self) -> ClusterSettings {
        let lost_after = Some(LOST_AFTER);
        self.over(&ClusterSettings { lost_after, ..ClusterSettings::default() })
    }
}

/// More than any disk or network takes.
const MOST_MIB_PER_S: u64 = 1 << 20;

fn time(text: &str) -> Result<Duration, Failure> {
    let wrong = || format!("--lost-after: {text:?} is not a time such as 30s, 5min or 2h");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let secs = match &text[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        _ => return Err(wrong().into()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    // A year is for ever.
    let is_sensible = |secs: &u64| (1..=366 * 86_400).contains(secs);
    let time = count.checked_mul(secs).filter(is_sensible).ok_or_else(wrong)?;
    Ok(Duration::from_secs(time))
}
