//! The newest table that a node knows of, wherever it has it from, and the last changes of it.

use crate::table::{Command, Table};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// How many of the last changes are kept for those that follow.
const KEPT: usize = 1_024;

/// The newest table of a node. The replica of the meta group here fills it, if there is one, or
/// else whoever follows another node.
#[derive(Debug)]
pub struct Feed {
    newest: watch::Sender<Arc<Table>>,
    /// The changes that led to the newest table, each with the version that it made.
    recent: Mutex<VecDeque<(u64, Arc<Command>)>>,
}

/// What has happened to the table since a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// These changes, in order. None if nothing has happened.
    Changes(Vec<Arc<Command>>),
    /// More than is remembered: this is the table.
    Whole(Arc<Table>),
}

impl Feed {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let (newest, _) = watch::channel(Arc::default());
        Arc::new(Self { newest, recent: Mutex::default() })
    }

    /// The newest table. Of version 0 before there is one.
    pub fn newest(&self) -> Arc<Table> {
        Arc::clone(&self.newest.borrow())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Table>> {
        self.newest.subscribe()
    }

    /// Takes a table, and the changes that led to it from an earlier one, unless a newer one is
    /// known.
    pub fn publish(&self, table: Arc<Table>, by: Vec<Arc<Command>>) {
        let mut recent = self.recent.lock();
        let version = table.version();
        if version <= self.newest.borrow().version() {
            return;
        }
        let first = version + 1 - by.len() as u64;
        if by.is_empty() || recent.back().is_some_and(|(last, _)| last + 1 != first) {
            // What was remembered does not lead to this table.
            recent.clear();
        }
        recent.extend((first..).zip(by));
        let surplus = recent.len().saturating_sub(KEPT);
        recent.drain(..surplus);
        // While `recent` is locked, so that the two go together.
        self.newest.send_replace(table);
    }

    /// What has happened since a version.
    pub fn since(&self, version: u64) -> News {
        let recent = self.recent.lock();
        let newest = self.newest();
        if newest.version() <= version {
            return News::Changes(Vec::new());
        }
        let mut missing = recent.iter().filter(|(made, _)| *made > version).peekable();
        match missing.peek() {
            Some((first, _)) if *first == version + 1 => {
                News::Changes(missing.map(|(_, command)| Arc::clone(command)).collect())
            }
            _ => News::Whole(newest),
        }
    }

    /// Takes what another node has told that was asked for the news since this version.
    pub fn take(&self, since: u64, news: News) {
        match news {
            News::Whole(table) => self.publish(table, Vec::new()),
            News::Changes(commands) => {
                let mut table = self.newest();
                if table.version() == since && !commands.is_empty() {
                    let changed = Arc::make_mut(&mut table);
                    commands.iter().for_each(|command| _ = changed.apply(command));
                    self.publish(table, commands);
                }
            }
        }
    }
}
