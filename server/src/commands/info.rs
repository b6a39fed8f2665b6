//! INFO.

mod sections;

use self::sections::sections;
use super::arguments::is;
use super::context::Context;
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, DatabaseSize, Query};
use crate::layout::Partition;
use crate::resp::Reply;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::Duration;

/// How long INFO waits to hear how many keys there are. Without an answer it says nothing of them.
const PATIENCE: Duration = Duration::from_secs(2);

/// The sections that have to be asked for.
const ON_DEMAND: [&str; 3] = ["Modules", "Commandstats", "Latencystats"];

/// INFO [section …]
pub(super) async fn info<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Reply {
    let any_is = |word: &str| arguments.iter().any(|wanted| is(wanted, word));
    let everything = any_is("all") || any_is("everything");
    let default = arguments.is_empty() || any_is("default");
    let wants = |title: &str| everything || any_is(title) || default && !ON_DEMAND.contains(&title);
    let mut text = String::new();
    let in_cluster = context.backend.partition() == Partition::Slots;
    for section in sections(context.server, in_cluster) {
        if wants(section.title) {
            section.write(&mut text);
        }
    }
    if wants("Keyspace") {
        keyspace(context).await.write(&mut text);
    }
    Reply::Verbatim(Bytes::from(text))
}

/// A section: a title, and names with values.
struct Section {
    title: &'static str,
    lines: Vec<(String, String)>,
}

impl Section {
    const fn new(title: &'static str) -> Self {
        Self { title, lines: Vec::new() }
    }

    fn line(mut self, name: &str, value: impl Display) -> Self {
        self.lines.push((name.to_owned(), value.to_string()));
        self
    }

    /// Names that all have the value zero: there is nothing of the kind here.
    fn zeros(self, names: &[&str]) -> Self {
        names.iter().fold(self, |section, name| section.line(name, 0))
    }

    /// A number of bytes, as it is and for people.
    fn bytes(self, name: &str, bytes: u64) -> Self {
        self.line(name, bytes).line(&format!("{name}_human"), human(bytes))
    }

    fn write(&self, text: &mut String) {
        let separator = if text.is_empty() { "" } else { "\r\n" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}# {}\r\n", self.title);
        for (name, value) in &self.lines {
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
}

/// How many keys each database has, all ranges together.
async fn keyspace<B: Backend>(context: &Context<'_, B>) -> Section {
    let queries = (0..context.backend.ranges()).map(|range| (RangeId(range), Query::Keyspace));
    let answers = tokio::time::timeout(PATIENCE, context.read_each(queries.collect())).await;
    let mut sizes: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
    for answer in answers.into_iter().flatten().flatten() {
        let Answer::Keyspace(databases) = answer else { continue };
        for DatabaseSize { database, keys, expiring } in databases {
            let size = sizes.entry(database).or_default();
            *size = (size.0 + keys, size.1 + expiring);
        }
    }
    sizes.into_iter().fold(Section::new("Keyspace"), |section, (database, (keys, expiring))| {
        let size = format!("keys={keys},expires={expiring},avg_ttl=0");
        section.line(&format!("db{database}"), size)
    })
}

/// A number of bytes in Redis's human-readable form.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn human(bytes: u64) -> String {
    let units = [('T', 1_u64 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_are_written_as_in_redis() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (12_472_320, "11.89M"),
            (25_276_502_016, "23.54G"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
