//! The table of commands: names, numbers of arguments, flags, and where the keys are.

mod rows;
mod spec;

pub use self::rows::{COMMANDS, NUMBERS};
pub use self::spec::{
    Client, Cluster, Command, Config, KeyFlags, Keys, Latency, Name, Object, SlowLog, Spec,
};
use super::arguments::{is, text};
use super::error::CommandError;
use bytes::Bytes;
use std::ops::Range;

/// The bytes of a name or of arguments that an error repeats.
const MAX_ECHO_BYTES: usize = 128;

/// All commands, each with its subcommands behind it.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
}

/// The command of this name, in any case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    find_in(COMMANDS, name)
}

/// The command of this name, or the subcommand of one as in `config|get`, in any case.
#[must_use]
pub fn find_by_full_name(name: &[u8]) -> Option<&'static Spec> {
    match name.iter().position(|&byte| byte == b'|') {
        None => find(name),
        Some(bar) => find_in(find(&name[..bar])?.subcommands, &name[bar + 1..]),
    }
}

/// The command or subcommand that a request names, whatever the number of its arguments.
///
/// # Errors
/// Fails with Redis's text if there is no such command.
pub fn lookup(request: &[Bytes]) -> Result<&'static Spec, CommandError> {
    let name = request.first().map_or(&[][..], |name| &name[..]);
    let Some(spec) = find(name) else {
        return Err(unknown(name, request));
    };
    let (false, Some(sub)) = (spec.subcommands.is_empty(), request.get(1)) else {
        return Ok(spec);
    };
    find_in(spec.subcommands, sub).ok_or_else(|| CommandError::UnknownSubcommand {
        name: text(&sub[..sub.len().min(MAX_ECHO_BYTES)]),
        command: spec.full_name.to_ascii_uppercase(),
    })
}

/// The command or subcommand that a request calls; the number of its arguments fits.
///
/// # Errors
/// Fails with Redis's text if there is no such command or the number of arguments does not fit.
pub fn resolve(request: &[Bytes]) -> Result<&'static Spec, CommandError> {
    let spec = lookup(request)?;
    spec.check_arity(request.len()).map(|()| spec)
}

/// Where the passwords are in a request that may have some.
pub fn passwords(request: &[Bytes]) -> Range<usize> {
    match request {
        [name, ..] if is(name, "AUTH") => 1..request.len(),
        [name, options @ ..] if is(name, "HELLO") => {
            let auth = options.iter().position(|option| is(option, "AUTH"));
            auth.map_or(0..0, |auth| auth + 2..(auth + 4).min(request.len()))
        }
        _ => 0..0,
    }
}

fn find_in(specs: &'static [Spec], name: &[u8]) -> Option<&'static Spec> {
    let lower = || name.iter().map(u8::to_ascii_lowercase);
    let found = specs.binary_search_by(|spec| spec.own_name().bytes().cmp(lower()));
    found.ok().map(|position| &specs[position])
}

fn unknown(name: &[u8], request: &[Bytes]) -> CommandError {
    let mut arguments = String::new();
    for argument in request.iter().skip(1) {
        let Some(room) = MAX_ECHO_BYTES.checked_sub(arguments.len()).filter(|room| *room > 0)
        else {
            break;
        };
        arguments += &format!("'{}' ", text(&argument[..argument.len().min(room)]));
    }
    let name = text(&name[..name.len().min(MAX_ECHO_BYTES)]);
    CommandError::UnknownCommand { name, arguments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Vec<Bytes> {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn names_are_sorted_for_the_search() {
        let tables = COMMANDS.iter().map(|spec| spec.subcommands).chain([COMMANDS]);
        for table in tables {
            assert!(table.is_sorted_by(|a, b| a.own_name() < b.own_name()));
        }
    }

    #[test]
    fn each_row_has_a_number_of_its_own() {
        let numbers: std::collections::BTreeSet<_> = all().map(|spec| spec.number).collect();
        assert_eq!(numbers.len(), all().count());
        assert!(numbers.last().is_some_and(|last| *last < NUMBERS));
    }

    #[test]
    fn passwords_are_found_in_what_may_have_them() {
        for (line, hidden) in [
            ("auth secret", 1..2),
            ("AUTH user secret", 1..3),
            ("HELLO 3 AUTH user secret SETNAME x", 3..5),
            ("HELLO 3 SETNAME x AUTH user", 5..6),
            ("HELLO 3", 0..0),
            ("SET auth x", 0..0),
        ] {
            assert_eq!(passwords(&request(line)), hidden, "{line}");
        }
    }

    #[test]
    fn requests_resolve_to_commands_and_subcommands() {
        assert_eq!(resolve(&request("gEt a")).unwrap().name, Name::Get);
        assert_eq!(resolve(&request("client id")).unwrap().name, Name::Client(Client::Id));
        assert_eq!(resolve(&request("COMMAND")).unwrap().name, Name::Command(Command::All));
        for (line, text) in [
            ("get", "ERR wrong number of arguments for 'get' command"),
            ("get a b", "ERR wrong number of arguments for 'get' command"),
            ("CONFIG", "ERR wrong number of arguments for 'config' command"),
            ("config GET", "ERR wrong number of arguments for 'config|get' command"),
            ("config foo", "ERR unknown subcommand 'foo'. Try CONFIG HELP."),
            ("foo bar baz", "ERR unknown command 'foo', with args beginning with: 'bar' 'baz' "),
            ("foo", "ERR unknown command 'foo', with args beginning with: "),
        ] {
            assert_eq!(resolve(&request(line)).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn long_unknown_commands_are_cut_in_the_error() {
        let long = "x".repeat(1000);
        let error = resolve(&request(&format!("{long} {long} {long}"))).unwrap_err().to_string();
        let cut = "x".repeat(128);
        let expected = format!("ERR unknown command '{cut}', with args beginning with: '{cut}' ");
        assert_eq!(error, expected);
    }

    #[test]
    fn keys_are_found_at_their_positions() {
        let keys = |line: &str| -> Vec<String> {
            let request = request(line);
            let spec = resolve(&request).unwrap();
            spec.keys.of(&request).map(|key| text(key)).collect()
        };
        assert_eq!(keys("mset a 1 b 2"), ["a", "b"]);
        assert_eq!(keys("set a 1 NX"), ["a"]);
        assert_eq!(keys("del a b c"), ["a", "b", "c"]);
        assert!(keys("ping").is_empty());
    }
}
