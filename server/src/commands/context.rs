//! The context of a command: the store, what all connections share, and its own connection.

mod fan_out;

pub(super) use self::fan_out::{KeysByRange, RangeShare};
use super::answer::understood;
use super::error::CommandError;
use super::plan::late;
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, Command, Query};
use crate::resp::Reply;
use crate::server_state::ServerState;
use crate::session::Session;
use bytes::Bytes;

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

/// The result of a command.
pub(super) type Outcome = Result<Reply, CommandError>;

impl<B: Backend> Context<'_, B> {
    /// Where a client's key is stored, and in which range.
    pub(super) fn locate(&self, key: &[u8]) -> (RangeId, Bytes) {
        let stored = self.backend.partition().stored(key);
        (self.backend.range_of(&stored), stored)
    }

    /// Refuses commands that would grow what this node holds beyond its limit. The leader of the
    /// range, which may be another node, does so too, and counts what is under way.
    pub(super) fn check_memory<'c>(
        &self,
        commands: impl IntoIterator<Item = &'c Command>,
    ) -> Result<(), CommandError> {
        let growths = commands.into_iter().filter_map(Command::growth_bytes);
        let growth = growths.reduce(u64::saturating_add);
        match growth.is_none_or(|bytes| self.server.data.has_room_for(bytes)) {
            true => Ok(()),
            false => Err(CommandError::OutOfMemory),
        }
    }

    /// Asks `range` a query.
    pub(super) async fn read(&self, range: RangeId, query: &Query) -> Result<Answer, CommandError> {
        let database = self.session.database;
        let (backend, encoded) = (self.backend, query.encode_in(database));
        let answer = match self.session.reads_anywhere {
            true => backend.read_here(range, encoded).await?,
            false => backend.read(range, encoded).await?,
        };
        match understood(&answer)? {
            Answer::Late => {
                let answer = self.backend.propose(range, late(query, database)).await?;
                understood(&answer)
            }
            answer => Ok(answer),
        }
    }

    /// The keys and values of a reply that is made before it is sent, in bytes.
    pub(super) fn reply_limit(&self) -> usize {
        self.backend.limits().max_reply_bytes.min(self.server.memory.max_bytes())
    }
}
