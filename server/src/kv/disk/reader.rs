//! Queries, beside the commands of their group.

use super::layout::{Catalog, Listed, data_key, decode_entry};
use super::restore::{PATIENCE, patiently};
use super::walk::{DiskWalk, scan};
use crate::kv::clock::GroupTime;
use crate::kv::database::Database;
use crate::kv::keys::{Entry, KeyRange, MAX_KEY_BYTES, ReadKeys};
use crate::kv::message::{Answer, DATABASES, Failure, Query, Question};
use crate::kv::state::keyspace;
use bytes::Bytes;
use logboat::StateReader;
use logboat::state::{StateEngine, StateError, StateView};
use parking_lot::RwLock;
use std::io;
use std::sync::Arc;
use std::thread;

/// Answers queries from what is in the tables.
pub(super) struct DiskReader {
    engine: Arc<dyn StateEngine>,
    /// What the group has noted last. Locked while that is written, so that a query sees tables and
    /// catalog of one moment.
    catalog: RwLock<Arc<Catalog>>,
    time: Arc<GroupTime>,
}

impl DiskReader {
    pub(super) fn new(engine: Arc<dyn StateEngine>, time: Arc<GroupTime>) -> Self {
        Self { engine, catalog: RwLock::default(), time }
    }

    /// The group notes this, which `write` writes.
    pub(super) fn note(
        &self,
        catalog: Catalog,
        write: impl Fn() -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let catalog = Arc::new(catalog);
        patiently(|| {
            let mut noted = self.catalog.write();
            write()?;
            *noted = Arc::clone(&catalog);
            Ok(())
        })
    }

    /// What the group has noted last.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }

    /// Tables and catalog of the same moment.
    pub(super) fn moment(&self) -> Result<(Box<dyn StateView>, Arc<Catalog>), StateError> {
        let catalog = self.catalog.read();
        Ok((self.engine.view()?, Arc::clone(&catalog)))
    }

    /// Answers an encoded [`Query`] with an encoded [`Answer`].
    fn answer(&self, query: &[u8]) -> Result<Bytes, StateError> {
        let (view, catalog) = self.moment()?;
        let answer = match Question::decode(query) {
            Ok(Question { query: Query::Keyspace, .. }) => {
                let listed = (0..DATABASES).map(|number| catalog.database(number));
                keyspace(listed.map(|it| it.map_or((0, 0), |it| (it.count, it.expiring))))
            }
            Ok(Question { database, query }) => {
                let listed = catalog.database(database);
                let database = Database::new(ViewKeys { listed, view }, catalog.clock_ms);
                database.ask(&query, Some(&self.time))?
            }
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        Ok(answer.encode())
    }
}

impl StateReader for DiskReader {
    /// An error stops the replica, so this waits for what comes back.
    fn query(&self, query: Bytes) -> io::Result<Bytes> {
        loop {
            match self.answer(&query) {
                Err(error) if error.passes() => thread::sleep(PATIENCE),
                answer => return answer.map_err(io::Error::other),
            }
        }
    }
}

/// The keys of a database in a view of the tables.
struct ViewKeys {
    listed: Option<Listed>,
    view: Box<dyn StateView>,
}

impl ReadKeys for ViewKeys {
    type Error = StateError;
    type Walk<'a> = DiskWalk<'a>;

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StateError> {
        match self.listed {
            Some(Listed { namespace, .. }) if key.len() <= MAX_KEY_BYTES => {
                self.view.get(namespace, &data_key(key))?.map(decode_entry).transpose()
            }
            _ => Ok(None),
        }
    }

    fn walk(&self, range: KeyRange<'_>) -> Result<DiskWalk<'_>, StateError> {
        let namespace = self.listed.map(|listed| listed.namespace);
        Ok(DiskWalk::stored(scan(&*self.view, namespace, range)?))
    }

    fn count(&self) -> u64 {
        self.listed.map_or(0, |listed| listed.count)
    }

    fn expiring(&self) -> u64 {
        self.listed.map_or(0, |listed| listed.expiring)
    }
}
