//! The ranges of a table, so that a change copies little of them.

use crate::table::record::RangeRecord;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::Index;
use std::sync::Arc;

/// How many ranges a piece has, but for the last one.
const PIECE: usize = 256;

/// Ranges in the order of their keys, in pieces that clones share until one of them changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Arc<Vec<Arc<RangeRecord>>>>);

impl Ranges {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PIECE + last.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The range at a place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&Arc<RangeRecord>> {
        self.0.get(place / PIECE)?.get(place % PIECE)
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<RangeRecord>> + Clone {
        self.0.iter().flat_map(|piece| piece.iter())
    }

    /// The ranges that are not the very same as in `before`, by their places.
    pub(crate) fn changed_since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = &'a Arc<RangeRecord>> {
        let pieces = self.0.iter().enumerate();
        let changed = pieces.filter(|(number, piece)| {
            before.0.get(*number).is_none_or(|before| !Arc::ptr_eq(before, piece))
        });
        let records = changed.flat_map(|(number, piece)| {
            piece.iter().enumerate().map(move |(place, record)| (number * PIECE + place, record))
        });
        let is_other = |(place, record): &(usize, &Arc<RangeRecord>)| {
            before.get(*place).is_none_or(|before| !Arc::ptr_eq(before, record))
        };
        records.filter(is_other).map(|(_, record)| record)
    }

    /// How many pieces are the very same as in `other`.
    #[cfg(test)]
    pub(crate) fn shared_pieces(&self, other: &Self) -> usize {
        self.0.iter().zip(&other.0).filter(|(piece, other)| Arc::ptr_eq(piece, other)).count()
    }

    /// The range at a place, to change it.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut RangeRecord> {
        let piece = Arc::make_mut(self.0.get_mut(place / PIECE)?);
        piece.get_mut(place % PIECE).map(Arc::make_mut)
    }
}

impl Index<usize> for Ranges {
    type Output = Arc<RangeRecord>;

    fn index(&self, place: usize) -> &Arc<RangeRecord> {
        &self.0[place / PIECE][place % PIECE]
    }
}

impl FromIterator<RangeRecord> for Ranges {
    fn from_iter<I: IntoIterator<Item = RangeRecord>>(records: I) -> Self {
        let mut pieces: Vec<Vec<_>> = Vec::new();
        for record in records {
            match pieces.last_mut().filter(|piece| piece.len() < PIECE) {
                Some(piece) => piece.push(Arc::new(record)),
                None => pieces.push(vec![Arc::new(record)]),
            }
        }
        Self(pieces.into_iter().map(Arc::new).collect())
    }
}

impl Serialize for Ranges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<RangeRecord>::deserialize(deserializer)?.into_iter().collect())
    }
}
