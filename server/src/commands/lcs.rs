//! LCS: the longest common subsequence of two values.

use super::answer;
use super::arguments::{self, is};
use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::backend::Backend;
use crate::client_memory::UNCOUNTED_BYTES;
use crate::kv::{Answer, Query};
use crate::resp::Reply;
use bytes::Bytes;

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]
pub(super) async fn lcs<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let options = Options::parse(&arguments[2..])?;
    let keys = [context.locate(&arguments[0]), context.locate(&arguments[1])];
    let lengths = keys.iter().map(|(range, key)| (*range, Query::Length { key: key.clone() }));
    let lengths = context.read_each(lengths.collect()).await?.into_iter().map(answer::integer);
    let lengths = lengths.collect::<Result<Vec<_>, _>>()?;
    let [a_bytes, b_bytes] = lengths[..] else { return Err(CommandError::Mismatch) };
    let (a_bytes, b_bytes) = (a_bytes as usize, b_bytes as usize);
    let rows = (a_bytes + 1).saturating_mul(b_bytes + 1);
    let table_bytes = rows.saturating_mul(size_of::<u32>());
    if table_bytes > context.backend.limits().max_value_bytes {
        return Err(too_large());
    }
    let bytes = a_bytes + b_bytes + table_bytes;
    if bytes > UNCOUNTED_BYTES {
        let memory = context.server.memory.reserve(bytes);
        context.session.reply_memory = Some(memory.ok_or(CommandError::NoMemory)?);
    }
    let values = keys
        .into_iter()
        .zip([a_bytes, b_bytes])
        .map(|((range, key), bytes)| (range, Query::Get { key, limit_bytes: bytes as u64 }));
    let mut answers = context.read_each(values.collect()).await?.into_iter();
    let mut next = || match answers.next() {
        // It has grown in between.
        Some(Answer::Withheld { .. }) => Err(CommandError::NoMemory),
        Some(answer) => Ok(answer::value(answer)?.unwrap_or_default()),
        None => Err(CommandError::Mismatch),
    };
    let (a, b) = (next()?, next()?);
    let table = Table::new(&a, &b);
    Ok(match options {
        Options { indexes: true, .. } => table.matches(&options),
        Options { length: true, .. } => Reply::Integer(table.length().into()),
        Options { .. } => Reply::Bulk(table.subsequence()),
    })
}

fn too_large() -> CommandError {
    let reason = "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
    CommandError::Other(reason.into())
}

#[derive(Default)]
struct Options {
    length: bool,
    indexes: bool,
    with_lengths: bool,
    least_length: i64,
}

impl Options {
    fn parse(arguments: &[Bytes]) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            if is(option, "IDX") {
                options.indexes = true;
            } else if is(option, "LEN") {
                options.length = true;
            } else if is(option, "WITHMATCHLEN") {
                options.with_lengths = true;
            } else if is(option, "MINMATCHLEN")
                && let Some(length) = rest.next()
            {
                options.least_length = arguments::integer(length)?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.indexes && options.length {
            let reason = "If you want both the length and indexes, please just use IDX.";
            return Err(CommandError::Other(reason.into()));
        }
        Ok(options)
    }
}

/// The lengths of the longest common subsequences of all beginnings of two values, by dynamic
/// programming (Wagner and Fischer, 1974).
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    lengths: Vec<u32>,
}

/// Parts of the two values that are equal: where they begin and how long they are.
#[derive(Clone, Copy)]
struct Match {
    in_a: usize,
    in_b: usize,
    length: usize,
}

impl<'a> Table<'a> {
    fn new(a: &'a [u8], b: &'a [u8]) -> Self {
        let mut table = Self { a, b, lengths: vec![0; (a.len() + 1) * (b.len() + 1)] };
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                let length = match a[i - 1] == b[j - 1] {
                    true => table.at(i - 1, j - 1) + 1,
                    false => table.at(i - 1, j).max(table.at(i, j - 1)),
                };
                let place = table.place(i, j);
                table.lengths[place] = length;
            }
        }
        table
    }

    const fn place(&self, i: usize, j: usize) -> usize {
        i * (self.b.len() + 1) + j
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lengths[self.place(i, j)]
    }

    fn length(&self) -> u32 {
        self.at(self.a.len(), self.b.len())
    }

    /// The equal parts that make up the subsequence, the last one first. Where there are several
    /// subsequences, Redis takes the one that this way back through the table finds.
    fn parts(&self) -> Vec<Match> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut parts: Vec<Match> = Vec::new();
        let mut goes_on = false;
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                match parts.last_mut().filter(|_| goes_on) {
                    Some(part) => *part = Match { in_a: i, in_b: j, length: part.length + 1 },
                    None => parts.push(Match { in_a: i, in_b: j, length: 1 }),
                }
                goes_on = true;
            } else {
                goes_on = false;
                match self.at(i - 1, j) > self.at(i, j - 1) {
                    true => i -= 1,
                    false => j -= 1,
                }
            }
        }
        parts
    }

    fn subsequence(&self) -> Bytes {
        let parts = self.parts().into_iter().rev();
        Bytes::from(
            parts.flat_map(|part| &self.a[part.in_a..][..part.length]).copied().collect::<Vec<_>>(),
        )
    }

    fn matches(&self, options: &Options) -> Reply {
        let bounds = |start: usize, length: usize| {
            Reply::Array(vec![
                Reply::Integer(start as i64),
                Reply::Integer((start + length) as i64 - 1),
            ])
        };
        let parts = self.parts().into_iter();
        let parts = parts.filter(|part| part.length as i64 >= options.least_length);
        let parts = parts.map(|Match { in_a, in_b, length }| {
            let mut fields = vec![bounds(in_a, length), bounds(in_b, length)];
            if options.with_lengths {
                fields.push(Reply::Integer(length as i64));
            }
            Reply::Array(fields)
        });
        Reply::Map(vec![
            (Reply::text("matches"), Reply::Array(parts.collect())),
            (Reply::text("len"), Reply::Integer(self.length().into())),
        ])
    }
}
