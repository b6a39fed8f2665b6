//! The accounts of segments: how much of each is still needed.

use std::collections::BTreeMap;

/// About what a record of a hard state, compaction point or grant takes. They are accounted alike,
/// so that the index need not remember the size of each.
pub(crate) const POINT_BYTES: u32 = 16;

/// How much of a segment is needed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Live {
    /// Records that are needed.
    pub(crate) pins: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// How much of each segment is still needed.
#[derive(Debug, Default)]
pub(crate) struct Accounts(BTreeMap<u32, Live>);

impl Accounts {
    pub(crate) fn live(&self, segment: u32) -> Live {
        self.0.get(&segment).copied().unwrap_or_default()
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.0.values().map(|live| live.bytes).sum()
    }

    pub(crate) fn forget(&mut self, segment: u32) {
        self.0.remove(&segment);
    }

    pub(crate) fn pin(&mut self, segment: u32, bytes: u32) {
        let live = self.0.entry(segment).or_default();
        live.pins += 1;
        live.bytes += u64::from(bytes);
    }

    pub(crate) fn release(&mut self, segment: u32, bytes: u32) {
        if let Some(live) = self.0.get_mut(&segment) {
            live.pins -= 1;
            live.bytes -= u64::from(bytes);
        }
    }
}
