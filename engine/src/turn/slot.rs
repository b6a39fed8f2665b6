//! The slot of a replica: where it stands among those of its worker.

/// A replica's index in the tables of its worker. When the replica has gone, another one gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(pub u32);

/// The slot of a replica. Threads, callers and files may have it for longer than the replica lives.
/// So it says which of the replicas it is that have had the index: what comes late for one that has
/// gone reaches no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The index.
    pub index: SlotIndex,
    /// How many replicas had it before.
    pub generation: u32,
}
