//! The replicated state of one group: the [`Store`], its commands and queries ([`Command`],
//! [`Query`]), and its answers ([`Answer`]).

mod big;
mod entries;
mod extended;
mod footprint;
mod memory;
mod message;
mod number;
mod snapshot;
mod store;
mod wire;

pub use memory::DataMemory;
pub use message::{
    Answer, Command, Condition, DATABASES, Failure, Proposal, Query, Question, VERSION,
};
pub use number::parse_integer;
pub use snapshot::SnapshotWriter;
pub use store::Store;
pub use wire::WireError;
