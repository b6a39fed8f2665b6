//! Placement: which replicas should be on which nodes, and the next few steps toward that.
//!
//! It is a pure function. [`Cluster`] is what is known: settings, nodes, and groups with their
//! replicas, kept up to date by whoever hears of changes. [`Cluster::steps`] says what to do next.
//! It does nothing itself, keeps no plan, and reads no clock. Who carries out the steps tells the
//! cluster so ([`Cluster::begin`]), and tells what came of it ([`Cluster::set_group`]).
//!
//! # The rules
//! In the order in which groups are helped ([`Need`]):
//! 1. **Promotion.** A learner that has caught up becomes a voter while voters are missing. In the
//!    same joint change a voter that has to go becomes a learner, dead ones first.
//! 2. **Demotion.** A damaged voter learns at once, to be removed and joined anew. So does a dead
//!    one that nothing can replace, one that is to go when enough others stay, and one above the
//!    wanted number. A dead one is demoted before a live one.
//! 3. **Transfer.** Leaders leave a node that is being emptied.
//! 4. **Removal.** A learner on a node that is lost or being emptied, or that is damaged, goes.
//! 5. **Settlement.** A learner beside enough voters takes the place of a voter that shares its
//!    zone or whose node has more replicas, or else it goes.
//! 6. **Copies.** Missing replicas come as learners: first those of groups that would lose their
//!    majority with one more loss, then those that replace lost ones, then those of nodes that are
//!    being emptied, then those that spread a group over zones.
//! 7. **Balance.** When no copy is wanted for another reason, replicas move from nodes with more
//!    than the mean to those with less, and so do leaders. Nothing moves if that would only swap
//!    two nodes' places, and nothing as long as all are within 1 % of the mean.
//!
//! Every step passes one check ([`Cluster::check`]), whichever rule asks for it: the voters that
//! result have a live majority; there are not fewer live voters than before, unless there were more
//! than wanted; no live voter goes while a dead one is there; nobody is removed who votes; the
//! leader hands over before it is demoted.
//!
//! A node is **lost** when a person says so, or when it has been silent for
//! [`Settings::lost_after`], unless half of the nodes are silent: then the fault is more likely on
//! this side. One that a group needs for its majority is not given up without a person. A node that
//! is being emptied counts as one of the nodes still, so that no group
//! shrinks because of it. Where no other node can take a replica, it waits ([`Need::NoRoom`]).
//!
//! # Pace
//! A node receives and sends a bounded number of copies at a time, takes part in a bounded number
//! of new transfers a round, and a round has a bounded number of steps. A round looks at a bounded
//! number of groups, beginning at a place that the time says, so that groups which have to wait
//! hold up no others.
//!
//! # Cost
//! A round costs time for the steps that it finds and for the nodes, not for the groups: the index
//! knows which groups need something. A change of a group costs microseconds. When a node's
//! standing changes, the groups on it are seen again; when the number of replicas changes that the
//! cluster can have, all are. `logboat-bench plan` measures it for 100
//! nodes and 1,000,000 groups.

mod balance;
mod cluster;
mod facts;
mod mend;
mod need;
mod round;
mod safety;
mod seats;
pub mod simulation;
mod standing;
mod step;
#[cfg(test)]
mod tests;

pub use cluster::{Cluster, TooFewNodes};
pub use facts::{Condition, GroupFacts, Heard, NodeFacts, Replica, Settings, Space};
pub use need::Need;
pub use round::Round;
pub use safety::StepRefusal;
pub use step::{Act, Step, Why};
