//! How a new cluster is to be cut into ranges.

use crate::error::{MapError, RouterStartError};
use crate::map::{Range, RangeMap};
use bytes::Bytes;
use logboat::{GroupId, NodeId};

/// What a cluster is made with. Every node that makes it is given the same plan; the first one that
/// the meta group hears of stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The name of the layout of keys. A cluster keeps the one that it was made with.
    pub layout: String,
    /// Whether a cluster that was made with another layout is taken as it is.
    pub keeps_layout: bool,
    /// How many groups. When not given, a new cluster gets 1,000 and an old one keeps what it has.
    pub groups: Option<usize>,
    /// How many of the first 16 bits of a key tell where a range may begin, where there are no
    /// split keys: the bits behind them are zero in the first key of a range.
    pub edge_bits: u32,
    /// The first keys of all ranges but the first, ascending. Evenly spread over the first bits of
    /// a key when not given.
    pub split_keys: Option<Vec<Bytes>>,
    /// How many replicas each group gets; at most one a node.
    pub replicas: usize,
}

/// How many groups a new cluster gets by default.
const DEFAULT_GROUPS: usize = 1_000;

impl Plan {
    /// The map of a new cluster of `nodes`: replicas and first leaders are spread evenly, by turns.
    ///
    /// # Errors
    /// When there are more ranges than keys to split at, or split keys are not ascending.
    pub fn map(&self, nodes: &[NodeId]) -> Result<RangeMap, MapError> {
        let starts = self.starts()?;
        let replicas = self.replicas.clamp(1, nodes.len());
        let range = |(number, start): (usize, Bytes)| Range {
            start,
            group: GroupId(number as u64 + 1),
            replicas: (0..replicas).map(|next| nodes[(number + next) % nodes.len()]).collect(),
        };
        RangeMap::new(1, self.layout.clone(), starts.into_iter().enumerate().map(range).collect())
    }

    /// Checks that a cluster's map is one that this plan might have made.
    ///
    /// # Errors
    /// [`RouterStartError::Mismatch`] with the first thing that differs.
    pub(crate) fn check(&self, map: &RangeMap) -> Result<(), RouterStartError> {
        let mismatch = |what, stored: &dyn ToString, given: &dyn ToString| {
            let (stored, given) = (stored.to_string(), given.to_string());
            Err(RouterStartError::Mismatch { what, stored, given })
        };
        if self.layout != map.layout() && !self.keeps_layout {
            return mismatch("partition", &map.layout(), &self.layout);
        }
        let count = map.ranges().len();
        match (self.groups, &self.split_keys) {
            (Some(groups), None) if groups != count => mismatch("groups", &count, &groups),
            (_, Some(keys)) if !map.ranges()[1..].iter().map(|range| &range.start).eq(keys) => {
                mismatch("split keys", &"other than these", &"the ones given")
            }
            _ => Ok(()),
        }
    }

    fn starts(&self) -> Result<Vec<Bytes>, MapError> {
        if let Some(keys) = &self.split_keys {
            return Ok(std::iter::once(Bytes::new()).chain(keys.iter().cloned()).collect());
        }
        let groups = self.groups.unwrap_or(DEFAULT_GROUPS);
        let edge_bits = self.edge_bits.min(16);
        if groups == 0 || groups > 1 << edge_bits {
            return Err(MapError::Groups(groups));
        }
        let start = |number: usize| match number {
            0 => Bytes::new(),
            _ => {
                let edge = ((number << edge_bits) / groups) << (16 - edge_bits);
                let prefix = u16::try_from(edge).expect("number < groups");
                Bytes::copy_from_slice(&prefix.to_be_bytes())
            }
        };
        Ok((0..groups).map(start).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(groups: usize) -> Plan {
        Plan {
            layout: "hash".to_owned(),
            groups: Some(groups),
            keeps_layout: false,
            edge_bits: 16,
            split_keys: None,
            replicas: 3,
        }
    }

    fn nodes(count: u64) -> Vec<NodeId> {
        (1..=count).map(NodeId).collect()
    }

    #[test]
    fn ranges_are_even_and_first_leaders_take_turns() {
        let map = plan(4).map(&nodes(5)).unwrap();
        let starts: Vec<_> = map.ranges().iter().map(|range| range.start.to_vec()).collect();
        assert_eq!(starts, [vec![], vec![0x40, 0], vec![0x80, 0], vec![0xc0, 0]]);
        let replicas: Vec<_> = map.ranges().iter().map(|range| range.replicas.clone()).collect();
        assert_eq!(replicas[0], [NodeId(1), NodeId(2), NodeId(3)]);
        assert_eq!(replicas[3], [NodeId(4), NodeId(5), NodeId(1)]);
    }

    #[test]
    fn every_number_of_groups_makes_a_map() {
        for groups in [1, 2, 3, 7, 1_000, 65_535, 65_536] {
            assert_eq!(plan(groups).map(&nodes(3)).unwrap().ranges().len(), groups);
        }
        assert!(plan(0).map(&nodes(3)).is_err());
        assert!(plan(65_537).map(&nodes(3)).is_err());
    }

    #[test]
    fn ranges_begin_at_edges_only() {
        for groups in [1, 3, 1_000, 16_384] {
            let map = Plan { edge_bits: 14, ..plan(groups) }.map(&nodes(3)).unwrap();
            let starts = map.ranges()[1..].iter().map(|range| &range.start);
            assert!(starts.into_iter().all(|start| start.len() == 2 && start[1] & 3 == 0));
            assert_eq!(map.ranges().len(), groups);
        }
        assert!(Plan { edge_bits: 14, ..plan(16_385) }.map(&nodes(3)).is_err());
    }

    #[test]
    fn a_cluster_has_no_more_replicas_than_nodes() {
        assert_eq!(plan(1).map(&nodes(1)).unwrap().ranges()[0].replicas, [NodeId(1)]);
    }

    #[test]
    fn a_plan_that_did_not_make_the_map_is_told_so() {
        let map = plan(4).map(&nodes(3)).unwrap();
        assert!(plan(4).check(&map).is_ok());
        assert!(Plan { groups: None, ..plan(4) }.check(&map).is_ok());
        assert!(plan(5).check(&map).is_err());
        let other = Plan { layout: "range".to_owned(), ..plan(4) };
        assert!(other.check(&map).is_err());
        assert!(Plan { keeps_layout: true, ..other }.check(&map).is_ok());
        let keys = |last: &'static [u8]| Some(vec![Bytes::from_static(b"k"), last.into()]);
        let split = Plan { groups: None, split_keys: keys(b"x"), ..plan(4) };
        assert!(split.check(&map).is_err());
        let map = split.map(&nodes(3)).unwrap();
        assert!(split.check(&map).is_ok());
        assert!(Plan { split_keys: keys(b"y"), ..split }.check(&map).is_err());
    }
}
