//! When a replica campaigns: election timeouts, the order of succession after a lost leader, and
//! backoff.
//!
//! None of this matters for safety. It decides how soon somebody leads, and how evenly the groups
//! of a lost node are spread over those that are left.

use super::Replica;
use crate::{Config, MemberRole, NodeId, Support, Time};
use core::time::Duration;

impl Replica {
    /// A moment between one and two election timeouts from now, drawn at random so that votes
    /// rarely split (Raft paper, section 5.2).
    pub(crate) fn election_deadline(&mut self) -> Time {
        let timeout = self.election_timeout();
        self.turn() + timeout + self.draw(timeout)
    }

    /// When to campaign after a start: at once for the preferred voter, and for a group's only
    /// voter.
    pub(crate) fn first_deadline(&mut self) -> Time {
        let node = self.node();
        let configuration = self.configuration();
        let first = configuration.preferred() == Some(node)
            || configuration.is_quorum(|voter| voter == node);
        if first { self.now } else { self.election_deadline() }
    }

    /// When to campaign after the leader was lost. The first of the remaining voters campaigns at
    /// once, and each next one a stagger later. The preferred voter is the first; the order of the
    /// others differs from group to group. Outgoing voters wait until all others had their turn.
    pub(crate) fn succession_deadline(&mut self, support: &Support) -> Time {
        let Config { group, ref tuning, .. } = self.config;
        let configuration = self.configuration();
        let order = |node: NodeId| {
            let mut hash = group.0.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ node.0;
            (configuration.preferred() != Some(node), splitmix64(&mut hash), node)
        };
        let own = order(self.node());
        let is_ahead = |node: &NodeId| {
            support.support_for(*node).is_some()
                && configuration.is_incoming(*node)
                && order(*node) < own
        };
        let ahead = self.peers().filter(is_ahead).count();
        let stagger = tuning.campaign_stagger;
        let turn = self.turn();
        if ahead == 0 {
            return turn;
        }
        turn + stagger * u32::try_from(ahead).unwrap_or(u32::MAX) + self.draw(stagger)
    }

    /// From when on this replica may campaign: an outgoing voter an election timeout after the
    /// others. Barred altogether, it could be missed. An incoming voter that lives may lack the
    /// joint configuration, and then needs a leader that has it.
    fn turn(&self) -> Time {
        let is_outgoing = self.role() == MemberRole::Outgoing;
        if is_outgoing { self.now + self.election_timeout() } else { self.now }
    }

    /// When to campaign again after so many failures: ever later, up to an election timeout. The
    /// first retry comes before the turn of the next in line. Voters that refused may have learnt a
    /// moment later than this node that the leader is lost.
    pub(crate) fn retry_deadline(&mut self, failures: u8) -> Time {
        self.backoff(self.config.tuning.campaign_stagger / 4, failures)
    }

    /// How long a campaign waits for answers after so many failures. Answers may be slow, since
    /// many groups campaign at the same time.
    pub(crate) fn answer_deadline(&mut self, failures: u8) -> Time {
        self.backoff(self.config.tuning.campaign_stagger * 2, failures)
    }

    /// When to look again whether a campaign makes sense.
    pub(crate) fn look_deadline(&mut self) -> Time {
        self.backoff(self.config.tuning.campaign_stagger, 0)
    }

    /// A moment between one and two times `shortest` from now, doubled for each failure up to an
    /// election timeout.
    fn backoff(&mut self, shortest: Duration, failures: u8) -> Time {
        let wait = (shortest * (1 << failures.min(10))).min(self.election_timeout());
        self.now + wait + self.draw(wait)
    }

    /// Some time between none and `most`.
    fn draw(&mut self, most: Duration) -> Duration {
        let spread = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(splitmix64(&mut self.config.seed) % spread)
    }
}

/// The next number of the generator SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
const fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
