//! COMMAND: what commands there are, from the table.

use bytes::Bytes;

use super::arguments::is;
use super::context::Outcome;
use super::error::CommandError;
use super::table::{self, Spec};
use crate::glob;
use crate::resp::Reply;

/// COMMAND
pub(super) fn command() -> Reply {
    Reply::Array(table::COMMANDS.iter().map(describe).collect())
}

/// COMMAND COUNT
pub(super) fn count() -> Reply {
    Reply::Integer(table::COMMANDS.len() as i64)
}

/// COMMAND INFO [name …]
pub(super) fn info(arguments: &[Bytes]) -> Reply {
    if arguments.is_empty() {
        return command();
    }
    let one = |name: &Bytes| table::find(name).map_or(Reply::Null, describe);
    Reply::Array(arguments.iter().map(one).collect())
}

/// COMMAND DOCS [name …]: unknown names are left out
pub(super) fn docs(arguments: &[Bytes]) -> Reply {
    let specs: Vec<&Spec> = if arguments.is_empty() {
        table::COMMANDS.iter().collect()
    } else {
        arguments.iter().filter_map(|name| table::find(name)).collect()
    };
    Reply::Map(
        specs.into_iter().map(|spec| (Reply::text(spec.full_name), document(spec))).collect(),
    )
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
pub(super) fn list(arguments: &[Bytes]) -> Outcome {
    let keep: Box<dyn Fn(&Spec) -> bool> = match arguments {
        [] => Box::new(|_| true),
        [filter, kind, _] if is(filter, "FILTERBY") && is(kind, "MODULE") => Box::new(|_| false),
        [filter, kind, category] if is(filter, "FILTERBY") && is(kind, "ACLCAT") => {
            Box::new(move |spec| spec.categories().any(|known| is(category, &known[1..])))
        }
        [filter, kind, pattern] if is(filter, "FILTERBY") && is(kind, "PATTERN") => {
            Box::new(move |spec| glob::matches(pattern, spec.full_name.as_bytes(), true))
        }
        _ => return Err(CommandError::Syntax),
    };
    let all = table::COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
    let names = all.filter(|spec| keep(spec)).map(|spec| Reply::text(spec.full_name));
    Ok(Reply::Array(names.collect()))
}

/// COMMAND GETKEYS command [argument …]
pub(super) fn get_keys(arguments: &[Bytes]) -> Outcome {
    let reason = match table::resolve(arguments) {
        Ok(spec) => {
            let keys: Vec<Bytes> = spec.keys.of(arguments).cloned().collect();
            if !keys.is_empty() {
                return Ok(Reply::bulks(keys));
            }
            "The command has no key arguments"
        }
        Err(CommandError::Arity(_)) => "Invalid number of arguments specified for command",
        Err(_) => "Invalid command specified",
    };
    Err(CommandError::Other(reason.into()))
}

/// The subcommand HELP of `name`
pub(super) fn help(name: &str) -> Reply {
    let subcommands = table::find(name.as_bytes()).map_or(&[][..], |spec| spec.subcommands);
    let title = format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        name.to_ascii_uppercase(),
    );
    let lines = subcommands
        .iter()
        .flat_map(|spec| [spec.own_name().to_ascii_uppercase(), format!("    {}.", spec.summary)]);
    Reply::Array(std::iter::once(title).chain(lines).map(Reply::text).collect())
}

/// The ten elements that Redis gives for a command.
fn describe(spec: &Spec) -> Reply {
    let keys = spec.keys;
    let flags = spec.flags().map(Reply::Status);
    let categories = spec.categories().map(Reply::Status);
    Reply::Array(vec![
        Reply::text(spec.full_name),
        Reply::Integer(spec.arity),
        Reply::Set(flags.collect()),
        Reply::Integer(keys.first),
        Reply::Integer(keys.last),
        Reply::Integer(keys.step),
        Reply::Set(categories.collect()),
        Reply::Array(Vec::new()),
        Reply::Array(if keys.first > 0 { vec![key_specification(spec)] } else { Vec::new() }),
        Reply::Array(spec.subcommands.iter().map(describe).collect()),
    ])
}

/// Where the keys are, in the form of the "key specifications" of Redis 7.
fn key_specification(spec: &Spec) -> Reply {
    let keys = spec.keys;
    let entry = |key: &str, value| (Reply::text(key), value);
    let access = if spec.flags().any(|flag| flag == "readonly") {
        ["RO", "access"]
    } else {
        ["RW", "update"]
    };
    // The last key counts from the first one here, unless it counts from the end.
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
    let index = Reply::Map(vec![entry("index", Reply::Integer(keys.first))]);
    let range = Reply::Map(vec![
        entry("lastkey", Reply::Integer(last)),
        entry("keystep", Reply::Integer(keys.step)),
        entry("limit", Reply::Integer(0)),
    ]);
    Reply::Map(vec![
        entry("flags", Reply::Set(access.map(Reply::Status).into())),
        entry(
            "begin_search",
            Reply::Map(vec![entry("type", Reply::text("index")), entry("spec", index)]),
        ),
        entry(
            "find_keys",
            Reply::Map(vec![entry("type", Reply::text("range")), entry("spec", range)]),
        ),
    ])
}

fn document(spec: &Spec) -> Reply {
    let entry = |key: &str, value: &str| (Reply::text(key), Reply::text(value));
    let mut fields = vec![
        entry("summary", spec.summary),
        entry("since", spec.since),
        entry("group", spec.group),
    ];
    if !spec.subcommands.is_empty() {
        let documents = spec.subcommands.iter();
        let documents = documents.map(|spec| (Reply::text(spec.full_name), document(spec)));
        fields.push((Reply::text("subcommands"), Reply::Map(documents.collect())));
    }
    Reply::Map(fields)
}
