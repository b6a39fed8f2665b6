//! The replicated state of one group: the [`Store`], its commands and queries ([`Command`],
//! [`Query`]), and its answers ([`Answer`]).

mod admission;
mod big;
mod clock;
mod database;
mod deadlines;
mod disk;
mod disposal;
mod extended;
mod footprint;
mod key;
mod keys;
mod memory;
mod memory_keys;
mod message;
mod number;
mod snapshot;
mod state;
mod store;
#[cfg(test)]
mod suite;
mod wire;

pub use admission::StoreAdmission;
pub use clock::{GroupTime, NodeClock, Sweeps};
pub use disk::{DiskStore, SharedTables};
pub(crate) use keys::Entry;
pub use memory::DataMemory;
pub use message::{
    Answer, Command, Condition, DATABASES, DatabaseSize, Deadline, ExpireIf, Expiry, Failure,
    Lifetime, Proposal, Query, Question, VERSION,
};
pub use number::parse_integer;
pub use snapshot::SnapshotWriter;
pub(crate) use snapshot::{SnapshotReader, write_database, write_end, write_entry, write_head};
pub(crate) use state::PAGE_BYTES;
pub use store::Store;
pub use wire::WireError;
