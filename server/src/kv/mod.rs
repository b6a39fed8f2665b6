//! The replicated state of one group: what it is asked ([`Command`], [`Query`]), what it answers
//! ([`Reply`]) and the [`Store`] that answers.

mod big;
mod codec;
mod extended;
mod listing;
mod message;
mod number;
mod snapshot;
mod store;
mod wire;

pub use codec::VERSION;
pub use message::{Command, Condition, Failure, Query, Reply};
pub use number::parse_integer;
pub use snapshot::SnapshotWriter;
pub use store::Store;
pub use wire::WireError;
