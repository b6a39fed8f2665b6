//! LATENCY: how long commands took.

use super::arguments::{is, text};
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::introspection::help;
use super::table::{self, Latency, Spec};
use crate::resp::Reply;
use crate::stats::{CommandTotal, LatencySample, LatencySeries, Stats};
use bytes::Bytes;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// The rows of a graph.
const GRAPH_ROWS: usize = 4;

/// The most samples of a graph, the latest ones.
const GRAPH_COLUMNS: usize = 80;

/// Carries out a subcommand.
pub(super) fn execute<B>(
    context: &Context<'_, B>,
    command: Latency,
    arguments: &[Bytes],
) -> Outcome {
    let stats = &context.server.stats;
    match command {
        Latency::Doctor => Ok(doctor(stats, context.server.settings().latency_threshold_ms)),
        Latency::Graph => graph(stats, &arguments[0]),
        Latency::Help => Ok(help("latency")),
        Latency::Histogram => Ok(histogram(stats, arguments)),
        Latency::History => Ok(history(stats, &arguments[0])),
        Latency::Latest => Ok(latest(stats)),
        Latency::Reset => Ok(reset(stats, arguments)),
    }
}

/// LATENCY LATEST
fn latest(stats: &Stats) -> Reply {
    let all = stats.latency.all();
    let described = all.into_iter().filter_map(|(event, series)| {
        let LatencySample { at_secs, took_ms } = *series.samples.back()?;
        Some(Reply::Array(vec![
            Reply::text(event),
            Reply::Integer(at_secs as i64),
            Reply::Integer(took_ms as i64),
            Reply::Integer(series.max_ms as i64),
        ]))
    });
    Reply::Array(described.collect())
}

/// LATENCY HISTORY event
fn history(stats: &Stats, event: &[u8]) -> Reply {
    let samples = series_of(stats, event).unwrap_or_default().samples;
    let sample = |LatencySample { at_secs, took_ms }| {
        Reply::Array(vec![Reply::Integer(at_secs as i64), Reply::Integer(took_ms as i64)])
    };
    Reply::Array(samples.into_iter().map(sample).collect())
}

/// LATENCY RESET [event …]
fn reset(stats: &Stats, events: &[Bytes]) -> Reply {
    let wanted = |event: &str| events.is_empty() || events.iter().any(|wanted| is(wanted, event));
    Reply::Integer(stats.latency.forget(wanted) as i64)
}

/// LATENCY HISTOGRAM [command …]: unknown names are left out, and so is what was never called
fn histogram(stats: &Stats, names: &[Bytes]) -> Reply {
    let totals = if names.is_empty() {
        stats.commands.by_command()
    } else {
        let specs = names.iter().filter_map(|name| table::find_by_full_name(name));
        let whole = |spec: &'static Spec| std::iter::once(spec).chain(spec.subcommands);
        specs.flat_map(whole).map(|spec| stats.commands.of(spec)).collect()
    };
    let called = totals.into_iter().filter(|total| total.calls > 0);
    Reply::Map(called.map(|total| (Reply::text(total.spec.full_name), cdf(&total))).collect())
}

fn cdf(total: &CommandTotal) -> Reply {
    let powers = total.latencies.below_powers().into_iter();
    let powers =
        powers.map(|(us, count)| (Reply::Integer(us as i64), Reply::Integer(count as i64)));
    Reply::Map(vec![
        (Reply::text("calls"), Reply::Integer(total.calls as i64)),
        (Reply::text("histogram_usec"), Reply::Map(powers.collect())),
    ])
}

/// LATENCY GRAPH event: one column a sample, under it how long ago it was
fn graph(stats: &Stats, event: &[u8]) -> Outcome {
    let Some(series) = series_of(stats, event) else {
        let event = text(event);
        return Err(CommandError::Other(format!("No samples available for event '{event}'")));
    };
    let first = series.samples.len().saturating_sub(GRAPH_COLUMNS);
    let samples: Vec<_> = series.samples.range(first..).copied().collect();
    let took = || samples.iter().map(|sample| sample.took_ms);
    let (high, low) = (took().max().unwrap_or(0), took().min().unwrap_or(0));
    let mut drawn = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        drawn,
        "{} - high {high} ms, low {low} ms (all time high {} ms)",
        text(event),
        series.max_ms
    );
    let _ = writeln!(drawn, "{}", "-".repeat(80));
    let span = (high - low).max(1);
    let level = |took_ms: u64| ((took_ms - low) * (GRAPH_ROWS as u64 - 1) / span) as usize;
    for row in (0..GRAPH_ROWS).rev() {
        let cell = |took_ms| match level(took_ms).cmp(&row) {
            std::cmp::Ordering::Equal => '#',
            std::cmp::Ordering::Greater => '|',
            std::cmp::Ordering::Less => ' ',
        };
        let _ = writeln!(drawn, "{}", took().map(cell).collect::<String>());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ages: Vec<_> =
        samples.iter().map(|sample| age(now.saturating_sub(sample.at_secs))).collect();
    let _ = writeln!(drawn);
    for row in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        let letter = |age: &String| age.as_bytes().get(row).map_or(' ', |byte| char::from(*byte));
        let _ = writeln!(drawn, "{}", ages.iter().map(letter).collect::<String>());
    }
    Ok(Reply::Verbatim(Bytes::from(drawn)))
}

/// A time in the past, in the largest unit of which there is a whole one.
fn age(seconds: u64) -> String {
    let units = [('d', 86_400), ('h', 3_600), ('m', 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= *length);
    let (letter, length) = unit.unwrap_or(('s', 1));
    format!("{}{letter}", seconds / length)
}

/// LATENCY DOCTOR
fn doctor(stats: &Stats, threshold_ms: u64) -> Reply {
    let all = stats.latency.all();
    let mut report = String::new();
    if threshold_ms == 0 && all.is_empty() {
        report.push_str(
            "Latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> turns \
             it on.\n",
        );
    } else if all.is_empty() {
        report.push_str("No event has taken longer than latency-monitor-threshold.\n");
    }
    for (event, series) in all {
        let count = series.samples.len() as u64;
        let sum: u64 = series.samples.iter().map(|sample| sample.took_ms).sum();
        // Writing to a string cannot fail.
        let _ = writeln!(
            report,
            "{event}: {count} seconds with latency spikes (average {} ms, longest {} ms). Times \
             include the log's syncs and the network: see the disks' latencies in /metrics.",
            sum / count.max(1),
            series.max_ms,
        );
    }
    Reply::Verbatim(Bytes::from(report))
}

fn series_of(stats: &Stats, event: &[u8]) -> Option<LatencySeries> {
    let mut all = stats.latency.all();
    let name = *all.keys().find(|name| name.as_bytes() == event)?;
    all.remove(name)
}
