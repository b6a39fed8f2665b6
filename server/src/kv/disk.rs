//! Keys on disk: a group's databases in the tables that all groups of a node share
//! ([`logboat::state`]).
//!
//! Each database that has keys has a namespace of its own there, so that clearing it takes one
//! write. In it stand, in this order,
//!
//! - the keys with their values and deadlines,
//! - the deadlines, by time, with the keys: what has expired is found without looking at anything
//!   else.
//!
//! What a group knows of its databases ([`Catalog`]: how many keys they have, where they are) is a
//! note under the number of the group. It also names the namespace whose applied entry is that of
//! the group. All that a batch of commands changes is written in one step.
//!
//! Commands of a batch change memory first ([`DiskKeys`]), and the tables at its end. A write looks
//! for what the key was before, since the number of keys is kept, and the deadline that goes.

mod keys;
mod layout;
mod reader;
mod restore;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod walk;

#[cfg(doc)]
pub(super) use self::keys::DiskKeys;
pub use self::store::DiskStore;
pub use self::tables::SharedTables;
