//! The dispatcher: from a request to the function of its command.

use super::context::{Context, Outcome};
use super::error::CommandError;
use super::expiry::Term;
use super::plan::Step;
use super::table::{self, Name, Spec};
use super::{
    client, cluster, config, connection, debug, expiry, generic, info, introspection, latency, lcs,
    number, object, range, scan, scripting, server, slow_log, string, transaction,
};
use crate::backend::Backend;
use crate::kv::Command;
use crate::resp::Reply;
use crate::session::Elements;
use crate::stats::Finished;
use bytes::Bytes;
use std::time::Instant;

/// Carries out a command that runs alone ([`Added::Alone`](super::Added::Alone)): its name and its
/// arguments, at least one element.
///
/// After [`Reply::ArrayHead`] the elements stand in the session, for
/// [`next_part`](super::next_part).
pub async fn execute_alone<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Reply {
    let begun = Instant::now();
    context.session.reply_memory = None;
    context.session.elements = Elements::default();
    let (finished, outcome) = match prepare(context, arguments) {
        Ok(spec) => {
            context.session.note_command(spec.full_name, begun);
            context.server.monitors.show(context.session, spec, arguments);
            let outcome = match begin(context, spec, arguments) {
                Ok(Step::Reply(outcome)) => outcome,
                Ok(Step::Alone(outcome)) => outcome.await,
                // It goes with others.
                Ok(Step::Store(_)) => Err(CommandError::Mismatch),
                Err(error) => Err(error),
            };
            let outcome = outcome.and_then(|reply| bounded(context, spec, reply));
            let failed = u64::from(outcome.is_err());
            (Some(Finished { spec, calls: 1, failed, rejected: 0 }), outcome)
        }
        Err(Rejected { spec, error }) => {
            let finished = spec.map(|spec| Finished { spec, calls: 0, failed: 0, rejected: 1 });
            (finished, Err(error))
        }
    };
    let stats = &context.server.stats;
    if let Some(finished) = finished {
        let took = begun.elapsed();
        stats.commands.finished(finished, took);
        if finished.calls > 0 && stats.is_long(took) {
            stats.note_long(finished.spec, arguments, &context.session.client, took);
        }
    }
    outcome.unwrap_or_else(|error| {
        let text = error.to_string();
        stats.errors.count(&text);
        Reply::Error(text)
    })
}

/// Refuses a large reply for which there is no memory. A command that has changed something gets
/// its reply in any case; that is one value at most.
fn bounded<B>(context: &Context<'_, B>, spec: &Spec, reply: Reply) -> Outcome {
    let is_counted = context.session.reply_memory.is_some();
    let has_room = is_counted || context.server.memory.has_room_for(reply.encoded_bytes_at_most());
    if !has_room && spec.is_readonly() {
        return Err(CommandError::NoMemory);
    }
    Ok(reply)
}

/// A request that is refused before it begins.
pub(super) struct Rejected {
    /// What it is, if there is such a command.
    pub(super) spec: Option<&'static Spec>,
    /// Why it is refused.
    pub(super) error: CommandError,
}

/// Finds the command and checks everything that does not depend on what the command does.
pub(super) fn prepare<B: Backend>(
    context: &mut Context<'_, B>,
    arguments: &[Bytes],
) -> Result<&'static Spec, Rejected> {
    let spec = table::lookup(arguments).map_err(|error| Rejected { spec: None, error })?;
    match check(context, spec, arguments) {
        Ok(()) => Ok(spec),
        Err(error) => Err(Rejected { spec: Some(spec), error }),
    }
}

/// So long keys were in bytes, before the limit was lowered.
const LONGEST_KEY_OF_BEFORE: usize = 64 << 10;

fn check<B: Backend>(
    context: &mut Context<'_, B>,
    spec: &Spec,
    arguments: &[Bytes],
) -> Result<(), CommandError> {
    spec.check_arity(arguments.len())
        .map_err(|error| transaction::refused(context.session, error))?;
    if !context.session.authenticated && !spec.may_come_before_login() {
        return Err(CommandError::NotAuthenticated);
    }
    transaction::admit(context.session, spec.name)?;
    let limit = match spec.name {
        // What is there from before can be removed.
        Name::Del | Name::GetDel | Name::Unlink => LONGEST_KEY_OF_BEFORE,
        _ => 0,
    };
    let limit = limit.max(context.backend.limits().max_key_bytes);
    match spec.keys.of(arguments).find(|key| key.len() > limit) {
        Some(key) => Err(CommandError::KeyTooLong { bytes: key.len(), limit }),
        None if context.session.follows_slots => cluster::check_slot(context, spec, arguments),
        None => Ok(()),
    }
}

/// Begins a command that was prepared. What stands behind its names are its arguments.
pub(super) fn begin<'a, B: Backend>(
    context: &'a mut Context<'_, B>,
    spec: &Spec,
    request: &'a [Bytes],
) -> Result<Step<'a>, CommandError> {
    let arguments = spec.arguments_of(request);
    let plan = match spec.name {
        Name::Append => string::append(context, arguments),
        Name::Copy => return generic::copy(context, arguments),
        Name::Decr => number::decr(context, arguments),
        Name::DecrBy => number::decr_by(context, arguments),
        Name::Del | Name::Unlink => return generic::del(context, arguments),
        Name::Echo => return Ok(Step::Reply(Ok(Reply::Bulk(arguments[0].clone())))),
        Name::Exists | Name::Touch => return generic::exists(context, arguments),
        Name::Expire => expiry::expire(context, arguments, Term::Seconds, "expire"),
        Name::ExpireAt => expiry::expire(context, arguments, Term::AtSeconds, "expireat"),
        Name::ExpireTime => expiry::expire_time(context, arguments),
        Name::Get => string::get(context, arguments),
        Name::GetDel => string::get_del(context, arguments),
        Name::GetEx => expiry::get_ex(context, arguments),
        Name::GetRange | Name::SubStr => string::get_range(context, arguments),
        Name::GetSet => string::get_set(context, arguments),
        Name::Incr => number::incr(context, arguments),
        Name::IncrBy => number::incr_by(context, arguments),
        Name::IncrByFloat => number::incr_by_float(context, arguments),
        Name::MemoryUsage => object::usage(context, arguments),
        Name::Move => return Ok(Step::Reply(generic::move_key(context, arguments))),
        Name::MSet => string::mset(context, arguments),
        Name::MSetNx => string::mset_nx(context, arguments),
        Name::Object(command) => return object::begin(context, command, arguments),
        Name::Persist => expiry::persist(context, arguments),
        Name::PExpire => expiry::expire(context, arguments, Term::Milliseconds, "pexpire"),
        Name::PExpireAt => expiry::expire(context, arguments, Term::AtMilliseconds, "pexpireat"),
        Name::PExpireTime => expiry::pexpire_time(context, arguments),
        Name::PSetEx => string::pset_ex(context, arguments),
        Name::PTtl => expiry::pttl(context, arguments),
        Name::Ping => return Ok(Step::Reply(connection::ping(arguments))),
        Name::Rename => generic::rename(context, arguments),
        Name::RenameNx => generic::rename_nx(context, arguments),
        Name::Set => string::set(context, arguments),
        Name::SetEx => string::set_ex(context, arguments),
        Name::SetNx => string::set_nx(context, arguments),
        Name::SetRange => string::set_range(context, arguments),
        Name::StrLen => string::str_len(context, arguments),
        Name::SwapDb => return Ok(Step::Reply(server::swap_db(arguments))),
        Name::Ttl => expiry::ttl(context, arguments),
        Name::Type => generic::key_type(context, arguments),
        Name::Wait => return Ok(Step::Reply(server::wait(context, arguments))),
        name => return Ok(Step::alone(run(context, name, request, arguments))),
    };
    plan.map(Step::Store)
}

/// Carries out a command that changes the connection, or asks several ranges.
async fn run<B: Backend>(
    context: &mut Context<'_, B>,
    name: Name,
    request: &[Bytes],
    arguments: &[Bytes],
) -> Outcome {
    match name {
        Name::Auth => connection::auth(context, arguments),
        Name::Asking | Name::ReadOnly | Name::ReadWrite => cluster::mode(context, name),
        Name::Client(command) => client::execute(context, command, request, arguments),
        Name::Cluster(command) => cluster::execute(context, command, arguments).await,
        Name::Command(command) => introspection::execute(command, arguments),
        Name::Config(command) => config::execute(context, command, arguments),
        Name::DbSize => server::db_size(context).await,
        Name::Debug => debug::debug(context, arguments).await,
        Name::Discard => transaction::discard(context.session),
        Name::Exec => transaction::exec(context.session),
        Name::FlushAll => server::flush(context, arguments, Command::ClearAll).await,
        Name::FlushDb => server::flush(context, arguments, Command::Clear).await,
        Name::FunctionFlush => {
            scripting::flush(arguments, "FUNCTION FLUSH only supports SYNC|ASYNC option")
        }
        Name::Hello => connection::hello(context, arguments),
        Name::Info => Ok(info::info(context, arguments).await),
        Name::LastSave => Ok(server::last_save(context)),
        Name::Latency(command) => latency::execute(context, command, arguments),
        Name::Keys => scan::keys(context, arguments).await,
        Name::Lcs => lcs::lcs(context, arguments).await,
        Name::MemoryHelp => Ok(introspection::help("memory")),
        Name::MGet => string::mget(context, arguments).await,
        Name::Monitor => Ok(connection::monitor(context)),
        Name::Multi => transaction::multi(context.session),
        Name::Quit => Ok(connection::quit(context)),
        Name::RandomKey => generic::random_key(context).await,
        Name::Range => range::range(context, arguments).await,
        Name::Reset => Ok(connection::reset(context)),
        Name::Role => Ok(server::role()),
        Name::Scan => scan::scan(context, arguments).await,
        Name::ScriptFlush => {
            scripting::flush(arguments, "SCRIPT FLUSH only support SYNC|ASYNC option")
        }
        Name::Select => connection::select(context, arguments),
        Name::SlowLog(command) => slow_log::execute(context, command, request, arguments),
        Name::Time => Ok(server::time()),
        Name::Unwatch => Ok(transaction::unwatch()),
        Name::Watch => transaction::watch(),
        // No request resolves to a container, and the others begin otherwise.
        _ => Err(CommandError::Syntax),
    }
}
