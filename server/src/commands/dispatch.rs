//! The dispatcher: from a request to the function of its command.

use super::context::{Context, Outcome};
use super::error::CommandError;
use super::table::{self, Name, Spec};
use super::{
    client, config, connection, generic, info, introspection, number, range, scan, scripting,
    server, string, transaction,
};
use crate::backend::Backend;
use crate::resp::Reply;
use bytes::Bytes;

/// Carries out one request: a command's name and its arguments, at least one element.
///
/// After [`Reply::ArrayHead`] the elements stand in the session, for
/// [`next_part`](super::next_part).
pub async fn execute<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Reply {
    context.session.reply_memory = None;
    context.session.elements.clear();
    let outcome = match prepare(context, arguments) {
        Ok(spec) => {
            let outcome = run(context, spec.name, spec.arguments_of(arguments)).await;
            outcome.and_then(|reply| bounded(context, spec, reply))
        }
        Err(error) => Err(error),
    };
    context.server.stats.count_command(outcome.is_err());
    outcome.unwrap_or_else(|error| Reply::Error(error.to_string()))
}

/// Refuses a large reply for which there is no memory. A command that has changed something gets
/// its reply in any case; that is one value at most.
fn bounded<B>(context: &Context<'_, B>, spec: &Spec, reply: Reply) -> Outcome {
    let memory = &context.server.memory;
    let is_counted = context.session.reply_memory.is_some();
    if spec.is_readonly() && !is_counted && !memory.has_room_for(reply.encoded_bytes_at_most()) {
        return Err(CommandError::NoMemory);
    }
    Ok(reply)
}

/// Finds the command and checks everything that does not depend on what the command does.
fn prepare<B: Backend>(
    context: &mut Context<'_, B>,
    arguments: &[Bytes],
) -> Result<&'static Spec, CommandError> {
    let spec =
        table::resolve(arguments).map_err(|error| transaction::refused(context.session, error))?;
    context.session.note_command(spec.full_name);
    transaction::admit(context.session, spec.name)?;
    let limit = context.backend.limits().max_key_bytes;
    match spec.keys.of(arguments).find(|key| key.len() > limit) {
        Some(key) => Err(CommandError::KeyTooLong { bytes: key.len(), limit }),
        None => Ok(spec),
    }
}

/// Carries out the command `name`; `arguments` are what stands behind the names.
async fn run<B: Backend>(context: &mut Context<'_, B>, name: Name, arguments: &[Bytes]) -> Outcome {
    match name {
        Name::Append => string::append(context, arguments).await,
        Name::Auth => connection::auth(arguments),
        Name::Client(command) => client::execute(context, command, arguments),
        Name::Command(command) => introspection::execute(command, arguments),
        Name::Config(command) => config::execute(context, command, arguments),
        Name::Container => Err(CommandError::Syntax),
        Name::DbSize => server::db_size(context).await,
        Name::Decr => number::decr(context, arguments).await,
        Name::DecrBy => number::decr_by(context, arguments).await,
        Name::Del | Name::Unlink => generic::del(context, arguments).await,
        Name::Discard => transaction::discard(context.session),
        Name::Echo => Ok(Reply::Bulk(arguments[0].clone())),
        Name::Exec => transaction::exec(context.session),
        Name::Exists => generic::exists(context, arguments).await,
        Name::FlushAll | Name::FlushDb => server::flush_all(context, arguments).await,
        Name::FunctionFlush => {
            scripting::flush(arguments, "FUNCTION FLUSH only supports SYNC|ASYNC option")
        }
        Name::Get => string::get(context, arguments).await,
        Name::GetDel => string::get_del(context, arguments).await,
        Name::GetRange | Name::SubStr => string::get_range(context, arguments).await,
        Name::GetSet => string::get_set(context, arguments).await,
        Name::Hello => connection::hello(context, arguments),
        Name::Incr => number::incr(context, arguments).await,
        Name::IncrBy => number::incr_by(context, arguments).await,
        Name::IncrByFloat => number::incr_by_float(context, arguments).await,
        Name::Info => Ok(info::info(context, arguments)),
        Name::Keys => scan::keys(context, arguments).await,
        Name::MGet => string::mget(context, arguments).await,
        Name::MSet => string::mset(context, arguments).await,
        Name::MSetNx => string::mset_nx(context, arguments).await,
        Name::Multi => transaction::multi(context.session),
        Name::Ping => connection::ping(arguments),
        Name::Quit => Ok(connection::quit(context)),
        Name::Range => range::range(context, arguments).await,
        Name::Reset => Ok(connection::reset(context)),
        Name::Scan => scan::scan(context, arguments).await,
        Name::ScriptFlush => {
            scripting::flush(arguments, "SCRIPT FLUSH only support SYNC|ASYNC option")
        }
        Name::Select => connection::select(arguments),
        Name::Set => string::set(context, arguments).await,
        Name::SetNx => string::set_nx(context, arguments).await,
        Name::SetRange => string::set_range(context, arguments).await,
        Name::StrLen => string::str_len(context, arguments).await,
        Name::Type => generic::key_type(context, arguments).await,
        Name::Unwatch => Ok(transaction::unwatch()),
        Name::Watch => transaction::watch(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::DataMemory;
    use crate::layout::Partition;
    use crate::limits::Limits;
    use crate::memory::MemoryBackend;
    use crate::server_state::{Facts, ServerState};
    use crate::session::{Session, Socket};
    use crate::settings::Settings;

    const MAX_BUFFERED_BYTES: usize = 1_000_000;

    #[tokio::test]
    async fn a_large_reply_for_which_there_is_no_memory_is_refused() {
        let address = ([127, 0, 0, 1], 1).into();
        let facts = Box::new(Facts::default);
        let (data, settings) = (DataMemory::default(), Settings::default());
        let server = ServerState::new(address, MAX_BUFFERED_BYTES, data, settings, facts);
        let backend = MemoryBackend::even(Partition::Hash, 1, Limits::default());
        let socket = Socket { address, local_address: address, descriptor: 0 };
        let mut session = Session::new(server.clients.register(socket).client.clone());
        let mut context = Context { backend: &backend, server: &server, session: &mut session };
        let value = Bytes::from(vec![b'v'; 100_000]);
        let set = [Bytes::from("SET"), Bytes::from("a"), value.clone()];
        let get = ["GET", "a"].map(Bytes::from);
        assert_eq!(execute(&mut context, &set).await, Reply::OK);
        let mut unread = server.memory.share();
        unread.set(MAX_BUFFERED_BYTES);
        let refused = Reply::Error(CommandError::NoMemory.to_string());
        assert_eq!(execute(&mut context, &get).await, refused);
        let short = ["STRLEN", "a"].map(Bytes::from);
        assert_eq!(execute(&mut context, &short).await, Reply::Integer(100_000));
        assert_eq!(execute(&mut context, &set).await, Reply::OK);
        // A command that has taken effect gets its reply.
        let take = ["GETDEL", "a"].map(Bytes::from);
        assert_eq!(execute(&mut context, &take).await, Reply::Bulk(value.clone()));
        assert_eq!(execute(&mut context, &set).await, Reply::OK);
        drop(unread);
        assert_eq!(execute(&mut context, &get).await, Reply::Bulk(value));
    }
}
