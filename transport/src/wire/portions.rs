//! Hands decoded parcels over in portions of bounded memory.

use crate::error::DecodeError;
use crate::wire::decode::decode_each;
use crate::wire::parcel::Parcel;
use bytes::Bytes;

/// A portion is handed over as soon as it takes this much memory. Small parcels take forty times as
/// much in memory as on the wire. So the receiver must be able to refuse parts of a frame before
/// the whole of it is decoded.
const PORTION_BYTES: usize = 1 << 20;

/// Parcels that were decoded and not yet handed over.
pub(crate) struct Portions<F> {
    parcels: Vec<Parcel>,
    /// What these take in memory.
    bytes: usize,
    receive: F,
}

impl<F: FnMut(Vec<Parcel>)> Portions<F> {
    /// Hands portions to `receive`.
    pub(crate) const fn new(receive: F) -> Self {
        Self { parcels: Vec::new(), bytes: 0, receive }
    }

    /// Decodes a frame. What is less than a portion waits for the next frame.
    ///
    /// # Errors
    /// What is wrong with the frame. Full portions of it have been handed over, if its checksum is
    /// right.
    pub(crate) fn decode(&mut self, frame: Bytes) -> Result<(), DecodeError> {
        decode_each(frame, |parcel| {
            self.bytes += parcel.memory_bytes();
            self.parcels.push(parcel);
            if self.bytes >= PORTION_BYTES {
                self.flush();
            }
        })
    }

    /// Hands over what is left.
    pub(crate) fn flush(&mut self) {
        self.bytes = 0;
        if !self.parcels.is_empty() {
            (self.receive)(std::mem::take(&mut self.parcels));
        }
    }
}
