//! From a request to the function of its command.

use bytes::Bytes;

use super::context::{Context, Outcome};
use super::error::CommandError;
use super::table::{self, Name, Spec};
use super::{client, config, connection, generic, introspection, number, range, scan, scripting};
use super::{server, string};
use crate::backend::Backend;
use crate::resp::Reply;

/// Carries out one request: a command's name and its arguments, at least one element.
pub async fn execute<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Reply {
    let outcome = match prepare(context, arguments) {
        Ok(spec) => run(context, spec.name, spec.arguments_of(arguments)).await,
        Err(error) => Err(error),
    };
    context.server.stats.count_command(outcome.is_err());
    outcome.unwrap_or_else(|error| Reply::Error(error.to_string()))
}

/// Finds the command and checks what can be checked without knowing what it does.
fn prepare<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
) -> Result<&'static Spec, CommandError> {
    let spec = table::resolve(arguments)?;
    context.session.client.note_command(spec.full_name);
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
        Name::ClientGetName => Ok(client::get_name(context)),
        Name::ClientHelp => Ok(introspection::help("client")),
        Name::ClientId => Ok(client::id(context)),
        Name::ClientInfo => Ok(client::info(context)),
        Name::ClientList => client::list(context, arguments),
        Name::ClientNoEvict | Name::ClientNoTouch => client::switch(arguments),
        Name::ClientReply => client::reply(context, arguments),
        Name::ClientSetInfo => client::set_info(context, arguments),
        Name::ClientSetName => client::set_name(context, arguments),
        Name::Command => Ok(introspection::command()),
        Name::CommandCount => Ok(introspection::count()),
        Name::CommandDocs => Ok(introspection::docs(arguments)),
        Name::CommandGetKeys => introspection::get_keys(arguments),
        Name::CommandHelp => Ok(introspection::help("command")),
        Name::CommandInfo => Ok(introspection::info(arguments)),
        Name::CommandList => introspection::list(arguments),
        Name::ConfigGet => Ok(config::get(context, arguments)),
        Name::ConfigHelp => Ok(introspection::help("config")),
        Name::ConfigResetStat => Ok(config::reset_stat(context)),
        Name::ConfigRewrite => config::rewrite(),
        Name::ConfigSet => config::set(context, arguments),
        Name::DbSize => server::db_size(context).await,
        Name::Decr => number::decr(context, arguments).await,
        Name::DecrBy => number::decr_by(context, arguments).await,
        Name::Del | Name::Unlink => generic::del(context, arguments).await,
        Name::Echo => Ok(Reply::Bulk(arguments[0].clone())),
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
        Name::Info => Ok(server::info(context, arguments)),
        Name::Keys => scan::keys(context, arguments).await,
        Name::MGet => string::mget(context, arguments).await,
        Name::MSet => string::mset(context, arguments).await,
        Name::MSetNx => string::mset_nx(context, arguments).await,
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
        // A request without a subcommand does not resolve to these: their arity asks for one.
        Name::Client | Name::Config | Name::Function | Name::Script => Err(CommandError::Syntax),
    }
}
