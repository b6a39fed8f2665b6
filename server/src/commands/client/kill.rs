//! CLIENT KILL.

use super::is_normal;
use crate::commands::arguments::{self, is, text};
use crate::commands::context::{Context, Outcome};
use crate::commands::error::CommandError;
use crate::resp::Reply;
use crate::session::Client;
use bytes::Bytes;
use logboat_security::audit;

/// Which clients are meant: those that have all that is named.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    address: Option<Bytes>,
    local_address: Option<Bytes>,
    /// Whether only clients of a type are meant that is none of a client's here.
    is_foreign: bool,
    least_age_secs: Option<u64>,
    /// Whether the client that asks is spared.
    skips_me: bool,
}

/// CLIENT KILL ip:port, and CLIENT KILL [ID id] [ADDR ip:port] [LADDR ip:port] [TYPE type]
/// [USER name] [MAXAGE seconds] [SKIPME YES | NO]
pub(super) fn kill<B>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (filter, is_old_form) = match arguments {
        [address] => (Filter { address: Some(address.clone()), ..Filter::default() }, true),
        options => (Filter::parse(options)?, false),
    };
    let me = context.session.client.id;
    let mut killed = 0;
    for client in context.server.clients.all() {
        if !filter.means(&client, client.id == me) {
            continue;
        }
        killed += 1;
        match client.id == me {
            // It gets the reply first.
            true => context.session.closing = true,
            false => client.kill(),
        }
    }
    if killed > 0 {
        let by = context.session.client.address();
        audit::change("clients", by, "default", &format!("CLIENT KILL of {killed} connections"));
    }
    match (is_old_form, killed) {
        (true, 0) => Err(CommandError::Other("No such client".into())),
        (true, _) => Ok(Reply::OK),
        (false, killed) => Ok(Reply::Integer(killed)),
    }
}

impl Filter {
    fn parse(mut options: &[Bytes]) -> Result<Self, CommandError> {
        let mut filter = Self { skips_me: true, ..Self::default() };
        while let Some(option) = options.first() {
            let [_, value, rest @ ..] = options else { return Err(CommandError::Syntax) };
            match () {
                () if is(option, "ID") => {
                    filter.id = Some(positive(value, "client-id should be greater than 0")?);
                }
                () if is(option, "TYPE") => filter.is_foreign = !is_normal(value)?,
                () if is(option, "ADDR") => filter.address = Some(value.clone()),
                () if is(option, "LADDR") => filter.local_address = Some(value.clone()),
                () if is(option, "USER") => {
                    if &value[..] != b"default" {
                        let user = text(value);
                        return Err(CommandError::Other(format!("No such user '{user}'")));
                    }
                }
                () if is(option, "MAXAGE") => filter.least_age_secs = Some(age(value)?),
                () if is(option, "SKIPME") && is(value, "YES") => filter.skips_me = true,
                () if is(option, "SKIPME") && is(value, "NO") => filter.skips_me = false,
                () => return Err(CommandError::Syntax),
            }
            options = rest;
        }
        Ok(filter)
    }

    fn means(&self, client: &Client, is_me: bool) -> bool {
        let is_at = |wanted: &Option<Bytes>, address: std::net::SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| *wanted == address.to_string())
        };
        let is_old = |least: u64| client.age().as_secs() >= least;
        let is_spared = self.is_foreign || is_me && self.skips_me;
        !is_spared
            && self.id.is_none_or(|id| id == client.id)
            && self.least_age_secs.is_none_or(is_old)
            && is_at(&self.address, client.address())
            && is_at(&self.local_address, client.local_address())
    }
}

fn age(value: &[u8]) -> Result<u64, CommandError> {
    if arguments::integer(value).is_err() {
        return Err(CommandError::Other("maxage is not an integer or out of range".into()));
    }
    positive(value, "maxage should be greater than 0")
}

fn positive(value: &[u8], otherwise: &str) -> Result<u64, CommandError> {
    let number = arguments::integer(value).ok().and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| CommandError::Other(otherwise.to_owned()))
}
