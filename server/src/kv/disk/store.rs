//! The state machine of a group whose state is on disk.

use super::keys::DiskKeys;
use super::layout::{Catalog, note_of};
use super::reader::DiskReader;
use super::restore::{capture, take_in, write_patiently};
use super::tables::SharedTables;
use crate::kv::admission::StoreAdmission;
use crate::kv::clock::GroupTime;
use crate::kv::memory::DataMemory;
use crate::kv::snapshot::SnapshotWriter;
use crate::kv::state::State;
use bytes::Bytes;
use logboat::state::{Namespace, Pressure, StateBatch, StateEngine, StateError};
use logboat::{
    ApplyError, CommandAdmission, CommandBatch, DiskStateMachine, GroupId, LogId, StateReader,
};
use std::array;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Changes are written before the end of a batch when they take so much, in bytes.
const MOST_CHANGED_BYTES: usize = 1 << 20;

/// How long commands wait when the tables take no more, before they look again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The keys and values of one group, on disk.
pub struct DiskStore {
    tables: SharedTables,
    group: GroupId,
    state: State<DiskKeys>,
    /// Where the applied entry of the group stands.
    root: Option<Namespace>,
    memory: Arc<DataMemory>,
    reader: Arc<DiskReader>,
    /// What was called durable last.
    synced: Option<LogId>,
    /// Whether the commands that come next have waited for the tables.
    has_waited: bool,
    /// Whether the tables know that this is the store of the group.
    has_entered: bool,
}

impl DiskStore {
    /// The store of a group. What there is of it is found when it is opened.
    #[must_use]
    pub fn new(
        tables: SharedTables,
        group: GroupId,
        memory: Arc<DataMemory>,
        time: Arc<GroupTime>,
    ) -> Self {
        let engine = tables.engine();
        let keys = array::from_fn(|_| DiskKeys::new(Arc::clone(engine), Arc::clone(&memory)));
        let reader = Arc::new(DiskReader::new(Arc::clone(engine), Arc::clone(&time)));
        let state = State::new(keys, time, 0);
        Self {
            tables,
            group,
            state,
            root: None,
            memory,
            reader,
            synced: None,
            has_waited: false,
            has_entered: false,
        }
    }

    /// What decides about commands on the node that leads the group.
    #[must_use]
    pub fn admission(&self) -> StoreAdmission {
        StoreAdmission::new(Arc::clone(&self.memory), self.time())
    }

    /// The clock of the group, and that of the node.
    #[must_use]
    pub fn time(&self) -> Arc<GroupTime> {
        Arc::clone(self.state.time())
    }

    /// Carries out an encoded command that is no part of a batch, and returns the encoded answer.
    /// The state stands at `last` then.
    ///
    /// # Errors
    /// [`StateError`] when the tables can't be read or written.
    pub fn apply_alone(&mut self, command: &Bytes, last: LogId) -> Result<Bytes, StateError> {
        let answer = self.execute(command)?;
        self.commit(last)?;
        Ok(answer)
    }

    fn engine(&self) -> &dyn StateEngine {
        &**self.tables.engine()
    }

    /// Says that this is the store of the group from now on.
    fn enter(&mut self) {
        if !std::mem::replace(&mut self.has_entered, true) {
            self.tables.enter(self.group);
        }
    }

    /// The state is the one that was noted.
    fn open_catalog(&mut self, catalog: Option<Catalog>) -> Result<(), StateError> {
        self.root = catalog.as_ref().map(|catalog| catalog.root);
        let catalog = catalog.unwrap_or_default();
        for (number, keys) in (0..).zip(self.state.keys_mut()) {
            keys.open(catalog.database(number))?;
        }
        self.state.replaced(catalog.clock_ms);
        self.reader.note(catalog, || Ok(()))
    }

    /// Carries out a command in memory.
    pub(in crate::kv) fn execute(&mut self, command: &Bytes) -> Result<Bytes, StateError> {
        self.state.apply(command)
    }

    /// Writes all that has changed. The state stands at `last`.
    pub(in crate::kv) fn commit(&mut self, last: LogId) -> Result<(), StateError> {
        let root = match self.root {
            Some(root) => root,
            None => *self.root.insert(self.tables.engine().create()?),
        };
        let mut batch = StateBatch::default();
        self.state.keys_mut().try_for_each(|keys| keys.write_changes(&mut batch, last))?;
        batch.applied(root, last);
        let listed = (0..).zip(self.state.keys());
        let databases = listed.filter_map(|(number, keys)| Some((number, keys.listed()?)));
        let (clock_ms, databases) = (self.state.clock_ms(), databases.collect());
        let catalog = Catalog { root, clock_ms, databases };
        if *self.reader.catalog() == catalog {
            return write_patiently(self.engine(), &batch);
        }
        batch.put(Namespace::NOTES, note_of(self.group), catalog.encode());
        self.reader.note(catalog, || self.engine().write(&batch))
    }

    /// Has commands wait while the disk is behind.
    fn wait_for_tables(&mut self) -> Result<(), ApplyError> {
        let pause = match self.engine().pressure() {
            Pressure::Full => Some(FULL_PAUSE),
            Pressure::Slow(pause) if !self.has_waited => Some(pause),
            Pressure::Slow(_) | Pressure::None => None,
        };
        self.has_waited = pause.is_some();
        pause.map_or(Ok(()), |pause| Err(ApplyError::Retry(pause)))
    }
}

impl DiskStateMachine for DiskStore {
    fn open(&mut self) -> io::Result<Option<LogId>> {
        self.enter();
        let catalog = self.tables.noted(self.group).map_err(io::Error::other)?;
        self.open_catalog(catalog).map_err(io::Error::other)?;
        self.synced = self.root.and_then(|root| self.engine().applied(root));
        Ok(self.synced)
    }

    fn apply(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        let failed = |error: StateError| ApplyError::Fail(error.to_string());
        self.wait_for_tables()?;
        while let Some((id, command)) = commands.peek() {
            let answer = self.execute(command).map_err(failed)?;
            commands.answer(answer);
            if self.state.keys().map(DiskKeys::changed_bytes).sum::<usize>() > MOST_CHANGED_BYTES {
                self.commit(id).map_err(failed)?;
            }
        }
        self.commit(commands.last()).map_err(failed)
    }

    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        Some(Arc::<DiskReader>::clone(&self.reader))
    }

    /// Tables are flushed by size and by age. So mostly more is durable than last time, which lets
    /// the log go on, and nothing has to be flushed for this group.
    fn sync(&mut self) -> io::Result<Option<LogId>> {
        let Some(root) = self.root else { return Ok(None) };
        let mut durable = self.engine().durable(root);
        if durable == self.synced {
            let is_new = || self.engine().durable(root) != self.synced;
            self.tables.flush_unless(is_new).map_err(io::Error::other)?;
            durable = self.engine().durable(root);
        }
        self.synced = durable;
        Ok(durable)
    }

    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        let captured = self.reader.moment().and_then(|(view, catalog)| capture(&*view, &catalog));
        captured.map_err(io::Error::other)
    }

    fn restore(&mut self, reader: &mut dyn io::Read, last: LogId) -> io::Result<()> {
        let fresh = take_in(self.engine(), reader, last)?;
        let mut batch = StateBatch::default();
        if let Some(former) = self.tables.noted(self.group).map_err(io::Error::other)? {
            former.delete(&mut batch);
        }
        batch.applied(fresh.root, last);
        batch.put(Namespace::NOTES, note_of(self.group), fresh.encode());
        let written = write_patiently(self.engine(), &batch).and_then(|()| self.engine().flush());
        written.and_then(|()| self.open_catalog(Some(fresh))).map_err(io::Error::other)?;
        self.synced = Some(last);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.enter();
        let Some(former) = self.tables.noted(self.group).map_err(io::Error::other)? else {
            return Ok(());
        };
        let mut batch = StateBatch::default();
        former.delete(&mut batch);
        batch.delete(Namespace::NOTES, note_of(self.group));
        let written = write_patiently(self.engine(), &batch).and_then(|()| self.engine().flush());
        written.and_then(|()| self.open_catalog(None)).map_err(io::Error::other)?;
        self.synced = None;
        Ok(())
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        Some(Arc::new(self.admission()))
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        if self.has_entered {
            self.tables.leave(self.group);
        }
    }
}
