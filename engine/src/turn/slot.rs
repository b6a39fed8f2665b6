//! The slot of a replica: where it stands among those of its worker.

/// A replica's place in its worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);
