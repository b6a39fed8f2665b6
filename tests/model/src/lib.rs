//! A model of node liveness and fortified leaders, of which a checker visits every state within
//! bounds.
//!
//! Tests of real code run it in many ways; they can't tell that there is no other. A model leaves
//! out all but the rules, so that there are few enough ways to try them all. What follows are these
//! rules in words, and then what the model leaves out. It shares no code with the consensus core,
//! so that it can contradict it.
//!
//! # The rules
//! **Support.** A node may ask any other for its support, naming its run (the count of its starts).
//! The other gives it at an *epoch*, which it counts for each peer and never sets back; it ends its
//! support whenever it likes, and gives it again at the next epoch. A later run needs a new epoch,
//! a request of an earlier run is ignored. All this is durable before anything that rests on it
//! leaves the node. A restarted node keeps what it has given and has forgotten what it was given.
//!
//! **Bonds.** A leader fortifies itself with its followers, by every append or without one. A
//! follower whose node supports the leader's notes leader and epoch, and says so in its answer. As
//! long as its node supports that node at that epoch it is *bound*: it does not campaign, votes for
//! nobody but that leader, and does not enter the term of a request that it refuses. One candidate
//! is excepted: whom a leader has asked to campaign, in the term after that leader's, since such a
//! leader begins no reads for the rest of its term. The bond outlives terms, crashes and elections;
//! only hearing a leader of its own term or a later one replaces it, by a bond to that leader, or
//! by none if the leader is a later one and its node is not supported. Who is elected has heard
//! itself, and is bound to nobody.
//!
//! **Reads.** A leader that has committed an entry of its term begins a read by having its node ask
//! all peers' nodes, in a new round, whether they support it in its present run. They answer with
//! the epoch, knowing nothing of groups. The read is answered when nodes of a majority, the
//! leader's own among them, have answered that round with the very epoch at which their replicas
//! had bound themselves to this leader in its term.
//!
//! # What is checked
//! In every state: Raft's election safety and leader completeness; that a read which can be
//! answered misses no write that a majority held when it began, and no leader that had been
//! elected; that an epoch never comes back; that no bound replica has voted for anybody else. In
//! some state: that reads, failover, transfer, an overtaken leader that still tries to read, and
//! epochs above one happen at all. See [`properties`].
//!
//! Each [`Mistake`] breaks one rule, and a test asserts that the checker finds a read that misses a
//! write, or two leaders of a term, or a lost write. So there is no property that can't fail.
//!
//! # What is left out
//! - **Losing what no message had left for.** In the model a change is durable at once. A node that
//!   crashes before it was, and before anything that rests on it left, is a node to which the
//!   change never happened, which the model has as well. That takes one log for all of a node's
//!   changes, of which a crash leaves a beginning, or waiting for the disk between them.
//! - **Pre-votes**, which only keep campaigns from happening, and check-quorum, which only ends
//!   leaderships.
//! - **Terms that travel.** Instead of refusals and whatever else carries one, a replica may enter
//!   any term that another one is in.
//! - **Entries** other than the one that each new leader writes. A leader commits it as it commits
//!   all others, and it stands for the writes of its term.
//! - **A copy of what was received.** An answer that was sent may have arrived, whenever the sender
//!   of the question makes use of it: steps look for answers among all messages ever sent. That
//!   takes in loss, doubling, delay and every order of arrival.
//! - Steps and messages that can make no difference, with their reasons in `reduction`.
//!
//! Changes of members, snapshots, and groups beyond one are no part of it; of other groups there
//! remain rounds that no read of this one waits for.
//!
//! # Bounds
//! Three nodes; [`Bounds`] has the rest. `cargo test` goes through 2 terms, 2 grants of support,
//! one restart and one round. `LOGBOAT_MODEL_TERMS`, `LOGBOAT_MODEL_GRANTS`,
//! `LOGBOAT_MODEL_RESTARTS` and `LOGBOAT_MODEL_ROUNDS` take the same test further:
//!
//! ```text
//! LOGBOAT_MODEL_TERMS=3 cargo test --release -p logboat-model --test protocol -- --nocapture
//! ```
//!
//! What was explored so far, in a release build on one core of a shared virtual machine, without a
//! counterexample:
//!
//! | terms | grants | restarts | rounds | states | longest path | seconds | |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | 2 | 2 | 1 | 1 | 600,262 | 26 | 2 | |
//! | 2 | 2 | 1 | 2 | 1,089,262 | 28 | 4 | |
//! | 2 | 2 | 2 | 1 | 2,416,119 | 27 | 9 | |
//! | 2 | 3 | 1 | 1 | 2,461,608 | 30 | 11 | |
//! | 3 | 2 | 0 | 1 | 3,808,505 | 33 | 16 | |
//! | 3 | 2 | 0 | 2 | 8,526,252 | 34 | 37 | |
//! | 3 | 1 | 1 | 1 | 4,451,787 | 30 | 19 | |
//! | 3 | 2 | 1 | 1 | 33,925,771 | 34 | 299 | |
//! | 3 | 3 | 0 | 1 | 17,099,607 | 37 | 194 | |
//! | 4 | 1 | 0 | 1 | 18,428,120 | 35 | 94 | |
//! | 2 | 2 | 0 | 1 | 3,181,266 | 25 | 11 | nothing left out |
//! | 2 | 1 | 1 | 1 | 4,323,692 | 24 | 18 | nothing left out |

mod group;
mod model;
mod network;
mod node;
pub mod properties;
mod reads;
mod reduction;
mod state;

pub use model::{Action, Bounds, Liveness, Mistake};
pub use network::{Message, Network};
pub use state::{
    Bond, Grant, Log, MAJORITY, NODES, Node, PerNode, Read, Replica, Role, State, peers,
};
