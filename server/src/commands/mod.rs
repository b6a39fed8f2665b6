//! The commands: what a client can ask, one file a family. Each command parses its arguments, asks
//! the backend, and shapes the reply.
//!
//! [`execute`] is the entry: it finds the command in the [`table`], checks the number of arguments
//! and the keys, and calls the function of the command. What one connection sends is carried out
//! strictly in turn. Overlapping two commands of one connection would be faster for pipelines, but
//! can be observed: two reads of one key could answer new, then old.

mod arguments;
mod connection;
mod error;
mod fan_out;
mod generic;
mod introspection;
mod number;
mod ordered;
mod rows;
mod scan;
mod server;
mod string;
pub mod table;

use bytes::Bytes;

pub use self::error::CommandError;
use self::table::{Name, Spec};
use crate::backend::{Backend, RangeId};
use crate::kv::{self, Command, Query};
use crate::limits::Limits;
use crate::resp::Reply;
use crate::server_state::ServerState;
use crate::session::Session;

/// What a command works with.
#[derive(Debug)]
pub struct Context<'a, B> {
    /// The store.
    pub backend: &'a B,
    /// What all connections share.
    pub server: &'a ServerState,
    /// The connection.
    pub session: &'a mut Session,
}

type Outcome = Result<Reply, CommandError>;

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
        Name::ClientGetName => Ok(connection::client_get_name(context)),
        Name::ClientHelp => Ok(introspection::help("client")),
        Name::ClientId => Ok(connection::client_id(context)),
        Name::ClientInfo => Ok(connection::client_info(context)),
        Name::ClientList => connection::client_list(context, arguments),
        Name::ClientNoEvict | Name::ClientNoTouch => connection::client_switch(arguments),
        Name::ClientReply => connection::client_reply(context, arguments),
        Name::ClientSetInfo => connection::client_set_info(context, arguments),
        Name::ClientSetName => connection::client_set_name(context, arguments),
        Name::Command => Ok(introspection::command()),
        Name::CommandCount => Ok(introspection::count()),
        Name::CommandDocs => Ok(introspection::docs(arguments)),
        Name::CommandGetKeys => introspection::get_keys(arguments),
        Name::CommandHelp => Ok(introspection::help("command")),
        Name::CommandInfo => Ok(introspection::info(arguments)),
        Name::CommandList => introspection::list(arguments),
        Name::ConfigGet => Ok(server::config_get(context, arguments)),
        Name::ConfigHelp => Ok(introspection::help("config")),
        Name::ConfigResetStat => Ok(server::config_reset_stat(context)),
        Name::ConfigRewrite => server::config_rewrite(),
        Name::ConfigSet => server::config_set(context, arguments),
        Name::DbSize => generic::db_size(context).await,
        Name::Decr => number::decr(context, arguments).await,
        Name::DecrBy => number::decr_by(context, arguments).await,
        Name::Del | Name::Unlink => generic::del(context, arguments).await,
        Name::Echo => Ok(Reply::Bulk(arguments[0].clone())),
        Name::Exists => generic::exists(context, arguments).await,
        Name::FlushAll | Name::FlushDb => generic::flush_all(context, arguments).await,
        Name::FunctionFlush => {
            server::flush_scripts(arguments, "FUNCTION FLUSH only supports SYNC|ASYNC option")
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
        Name::Range => ordered::range(context, arguments).await,
        Name::Reset => Ok(connection::reset(context)),
        Name::Scan => scan::scan(context, arguments).await,
        Name::ScriptFlush => {
            server::flush_scripts(arguments, "SCRIPT FLUSH only support SYNC|ASYNC option")
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

impl<B: Backend> Context<'_, B> {
    /// Where a client's key is stored, and in which range.
    fn locate(&self, key: &[u8]) -> (RangeId, Bytes) {
        let stored = self.backend.partition().stored(key);
        (self.backend.range_of(&stored), stored)
    }

    async fn propose(&self, range: RangeId, command: &Command) -> Result<kv::Reply, CommandError> {
        let answer = self.backend.propose(range, command.encode()).await?;
        understood(&answer, &self.backend.limits())
    }

    async fn read(&self, range: RangeId, query: &Query) -> Result<kv::Reply, CommandError> {
        let answer = self.backend.read(range, query.encode()).await?;
        understood(&answer, &self.backend.limits())
    }
}

/// Decodes an answer of the state machine; a refusal becomes an error.
fn understood(answer: &Bytes, limits: &Limits) -> Result<kv::Reply, CommandError> {
    match kv::Reply::decode(answer)? {
        kv::Reply::Failed(failure) => {
            Err(CommandError::of_failure(failure, limits.max_reply_bytes))
        }
        reply => Ok(reply),
    }
}

/// The reply to a command whose answer is a number.
fn integer(answer: kv::Reply) -> Outcome {
    number_of(answer).map(Reply::Integer)
}

/// The number that the state machine answered.
fn number_of(answer: kv::Reply) -> Result<i64, CommandError> {
    match answer {
        kv::Reply::Integer(value) => Ok(value),
        _ => Err(CommandError::Mismatch),
    }
}

/// The reply to a command whose answer is the value of a key.
fn value(answer: kv::Reply) -> Outcome {
    match answer {
        kv::Reply::Value(value) => Ok(Reply::optional(value)),
        _ => Err(CommandError::Mismatch),
    }
}
