//! COMMAND: what commands there are, from the table.

use super::arguments::is;
use super::context::Outcome;
use super::error::CommandError;
use super::table::{self, Command, KeyFlags, Keys, Name, Spec};
use crate::glob::Pattern;
use crate::resp::Reply;
use bytes::Bytes;

/// Carries out COMMAND or a subcommand.
pub(super) fn execute(command: Command, arguments: &[Bytes]) -> Outcome {
    match command {
        Command::All => Ok(describe_all()),
        Command::Count => Ok(count()),
        Command::Docs => Ok(docs(arguments)),
        Command::GetKeys => get_keys(arguments),
        Command::GetKeysAndFlags => get_keys_and_flags(arguments),
        Command::Help => Ok(help("command")),
        Command::Info => Ok(info(arguments)),
        Command::List => list(arguments),
    }
}

/// COMMAND
fn describe_all() -> Reply {
    Reply::Array(table::COMMANDS.iter().map(describe).collect())
}

/// COMMAND COUNT
fn count() -> Reply {
    Reply::Integer(table::COMMANDS.len() as i64)
}

/// COMMAND INFO [name …]
fn info(arguments: &[Bytes]) -> Reply {
    if arguments.is_empty() {
        return describe_all();
    }
    let one = |name: &Bytes| table::find_by_full_name(name).map_or(Reply::Null, describe);
    Reply::Array(arguments.iter().map(one).collect())
}

/// COMMAND DOCS [name …]: unknown names are left out
fn docs(arguments: &[Bytes]) -> Reply {
    let specs: Vec<&Spec> = if arguments.is_empty() {
        table::COMMANDS.iter().collect()
    } else {
        arguments.iter().filter_map(|name| table::find_by_full_name(name)).collect()
    };
    Reply::Map(
        specs.into_iter().map(|spec| (Reply::text(spec.full_name), document(spec))).collect(),
    )
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
fn list(arguments: &[Bytes]) -> Outcome {
    let keep: Box<dyn Fn(&Spec) -> bool> = match arguments {
        [] => Box::new(|_| true),
        [filter, kind, _] if is(filter, "FILTERBY") && is(kind, "MODULE") => Box::new(|_| false),
        [filter, kind, category] if is(filter, "FILTERBY") && is(kind, "ACLCAT") => {
            Box::new(move |spec| spec.categories().any(|known| is(category, &known[1..])))
        }
        [filter, kind, pattern] if is(filter, "FILTERBY") && is(kind, "PATTERN") => {
            let pattern = Pattern::new(pattern, true);
            Box::new(move |spec| pattern.matches(spec.full_name.as_bytes()))
        }
        _ => return Err(CommandError::Syntax),
    };
    let names = table::all().filter(|spec| keep(spec)).map(|spec| Reply::text(spec.full_name));
    Ok(Reply::Array(names.collect()))
}

/// COMMAND GETKEYS command [argument …]
fn get_keys(arguments: &[Bytes]) -> Outcome {
    let spec = with_keys(arguments)?;
    Ok(Reply::bulks(spec.keys.of(arguments).cloned()))
}

/// COMMAND GETKEYSANDFLAGS command [argument …]
fn get_keys_and_flags(arguments: &[Bytes]) -> Outcome {
    let spec = with_keys(arguments)?;
    // SET reads what the key held only where it is asked to.
    let only_sets = spec.name == Name::Set && !arguments[3..].iter().any(|word| is(word, "GET"));
    let mut described = Vec::new();
    for (keys, flags) in spec.key_groups() {
        let flags = if only_sets { "OW update".split_ascii_whitespace() } else { flags };
        let flags = || Reply::Set(flags.clone().map(Reply::Status).collect());
        let keys = keys.of(arguments);
        described.extend(keys.map(|key| Reply::Array(vec![Reply::Bulk(key.clone()), flags()])));
    }
    Ok(Reply::Array(described))
}

/// What the table says of a whole command, which must have keys.
fn with_keys(arguments: &[Bytes]) -> Result<&'static Spec, CommandError> {
    let refused = |reason: &str| CommandError::Other(reason.to_owned());
    let spec = table::lookup(arguments).map_err(|_| refused("Invalid command specified"))?;
    if spec.keys == Keys::NONE {
        return Err(refused("The command has no key arguments"));
    }
    if !spec.accepts(arguments.len()) {
        return Err(refused("Invalid number of arguments specified for command"));
    }
    Ok(spec)
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
    let specifications = spec.key_groups().map(|(keys, flags)| key_specification(keys, flags));
    let subcommands = match spec.subcommands {
        // Redis has a set here where there is nothing, and a list where there is something.
        [] => Reply::Set(Vec::new()),
        subcommands => Reply::Array(subcommands.iter().map(describe).collect()),
    };
    Reply::Array(vec![
        Reply::text(spec.full_name),
        Reply::Integer(spec.arity),
        Reply::Set(spec.flags().map(Reply::Status).collect()),
        Reply::Integer(keys.first),
        Reply::Integer(keys.last),
        Reply::Integer(keys.step),
        Reply::Set(spec.categories().map(Reply::Status).collect()),
        // Hints for clients and proxies; there are none.
        Reply::Set(Vec::new()),
        Reply::Set(specifications.collect()),
        subcommands,
    ])
}

/// Where the keys are, in the form of the "key specifications" of Redis 7.
fn key_specification(keys: Keys, flags: KeyFlags) -> Reply {
    let entry = |key: &str, value| (Reply::text(key), value);
    // The last key counts from the first one here, unless it counts from the end.
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
    let index = Reply::Map(vec![entry("index", Reply::Integer(keys.first))]);
    let range = Reply::Map(vec![
        entry("lastkey", Reply::Integer(last)),
        entry("keystep", Reply::Integer(keys.step)),
        entry("limit", Reply::Integer(0)),
    ]);
    Reply::Map(vec![
        entry("flags", Reply::Set(flags.map(Reply::Status).collect())),
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
