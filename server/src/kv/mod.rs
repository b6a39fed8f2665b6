//! The replicated state of one group: the [`Store`], its commands and queries ([`Command`],
//! [`Query`]), and its answers ([`Answer`]).

mod admission;
mod big;
mod clock;
mod deadlines;
mod disposal;
mod entries;
mod extended;
mod footprint;
mod key;
mod memory;
mod message;
mod number;
mod snapshot;
mod store;
mod wire;

pub use admission::StoreAdmission;
pub use clock::{GroupTime, NodeClock};
pub use memory::DataMemory;
pub use message::{
    Answer, Command, Condition, DATABASES, DatabaseSize, Deadline, ExpireIf, Expiry, Failure,
    Lifetime, NODES_DATABASE, Proposal, Query, Question, VERSION,
};
pub use number::parse_integer;
pub use snapshot::SnapshotWriter;
pub(crate) use store::PAGE_BYTES;
pub use store::Store;
pub use wire::WireError;
