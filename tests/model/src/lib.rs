//! Two models, of which a checker visits every state within bounds. [`Liveness`] is of node
//! liveness and fortified leaders, [`membership`] of changes of members. What follows is about the
//! first one.
//!
//! Tests of real code run it in many ways, but never in all. A model leaves out all but the rules,
//! so that there are few enough ways to try them all. Below are these rules in words, and then what
//! the model leaves out. The model shares no code with the consensus core, so that it can
//! contradict it.
//!
//! Each rule names the [`Mistake`]s that break it. A test goes wrong with each of them on purpose,
//! and asserts that the checker finds a stale read, two leaders of a term, or a lost write.
//!
//! # The rules
//! ## Durability
//! A node has one log for everything that it must keep, and a crash leaves a prefix of it. Before a
//! message leaves, everything that it rests on is durable:
//!
//! - A vote, also a candidate's vote for itself (`VoteBeforeSync`, `VoteForgotten`).
//! - An acknowledgement of an entry (`AppendedBeforeSync`). The appends of a leader need not wait
//!   for the leader's own disk.
//! - A follower's report that it is bound, with the bond (`FortifiedBeforeSync`, `BondForgotten`).
//! - An answer that names an epoch, with the support at that epoch (`SupportForgotten`).
//! - A vote against a bond whose support has ended, with that end. Both go to the same log in this
//!   order (`WithdrawalNotWritten`).
//! - A request for a pre-vote, with its sender's term (`PreVoteBeforeSync`). The request says that
//!   the sender does not lead in that term any more. A node that loses the term in a crash may lead
//!   in it after all. The sender's vote and bond need not be durable for that.
//!
//! ## Support
//! A node may ask any other for its support, naming its boot, the count of its starts. The other
//! gives it at an *epoch*, which it counts for each peer and never sets back. It ends its support
//! whenever it likes, and gives it again at the next epoch (`EpochUsedAgain`). A later boot needs a
//! new epoch, and a request of an earlier boot is ignored. A restarted node keeps the support that
//! it has given, and has forgotten the support that it was given.
//!
//! ## Bonds
//! A leader fortifies itself with its followers, by every append or without one. A follower whose
//! node supports the leader's then stores a *bond*: the leader's node, the epoch, and the leader's
//! term. The bond includes a vote: a follower that has not voted in that term stores a vote for the
//! leader. Otherwise a late request for votes of the same term would end the bond unseen
//! (`BindWithoutVote`).
//!
//! A bond *stands* while the follower's node supports the leader's at the epoch. A replica with a
//! standing bond does not campaign (`CampaignWhileBound`), and votes for nobody but that leader. It
//! does not even enter the term of a request that it refuses (`VoteWhileBound`). The bond outlives
//! terms, which the replica may learn of by other messages (`BondEndsWithTerm`), and restarts.
//!
//! A follower tells a leader of its bond in the term of the bond only. After a restart in a later
//! term it reports nothing until it hears the leader again (`PresentInLaterTerm`). Its report could
//! arrive when the leader leads in that later term, and would be counted there. But the bond ended
//! with the request for the vote that made the leader lead again.
//!
//! ## What ends a bond
//! Apart from the end of the support, four things do.
//!
//! 1. **A leader of the bond's term or a later one is heard.** A bond to that leader takes its
//!    place, or none if its node is not supported. A later leader was elected by a majority, so the
//!    earlier one can't have been confirmed by one since.
//! 2. **The leader says that it leads no more in the bond's term or before.** There are three ways
//!    to say so, and each proves a term. A request for a pre-vote of term `p`, or for a vote in
//!    term `p`, ends bonds made before `p`. A resignation in term `t` ends bonds made in `t` or
//!    before. They may arrive late, when their sender leads again and the follower is bound again
//!    at the same epoch. So the terms must be compared (`PreVoteEndsLaterBond`,
//!    `RequestEndsLaterBond`, `ResignEndsLaterBond`). The sender has indeed given up: it neither
//!    leads on nor wins the election of that term any more (`PreVoteKeepsRole`, `ResignKeepsRole`).
//! 3. **A candidate asks for a vote on behalf of a leader** of the term before its own, which has
//!    asked it to campaign. That leader begins no reads for the rest of its term
//!    (`ReadAfterAbdication`). The request to campaign holds for one campaign
//!    (`TransferOutlivesTerm`), and a request of an earlier term than the replica's is void
//!    (`EarlierTimeoutNow`).
//! 4. **The replica votes, or campaigns.** No bond stood in the way then, or one of the above ended
//!    it. The bond is removed along with the vote, in one write.
//!
//! A resignation also makes its receiver enter the next term. Otherwise a late append would bind
//! the receiver again, to a leader that never resigns again.
//!
//! ## Reads
//! A read needs a leader that has committed an entry of its term. The leader's node asks all peers'
//! nodes whether they support it in its present boot, in a round that is opened after the read
//! began (`OpenRoundConfirms`). They answer with the epoch, knowing nothing of groups. The read is
//! answered when nodes of a majority, the leader's own among them, have answered that very round
//! (`EarlierRoundConfirms`, `EarlierBootConfirms`). The epoch of each answer must be the one at
//! which the replica there reported its bond, in the leader's term (`AnyEpochConfirms`).
//!
//! ## Why that is enough
//! The invariant behind this is [`properties::BOND_STANDS`]. Suppose that a leader L of term t
//! serves reads: it leads, has not abdicated, and nobody leads a later term. F has told L in t that
//! it is bound at epoch e, and F's node still supports L's at e. Then F's bond is on F's disk, for
//! two reasons:
//!
//! - F reported the bond when it had stored it, with a vote of t. So it votes for nobody in t
//!   afterwards.
//! - None of the things that end a bond has happened. The support stands, and an epoch does not
//!   come back, so it never ended. There is no later leader. L has not abdicated, so nobody
//!   campaigns on behalf of L. A campaign on behalf of a leader of another term is for a term up to
//!   t, or there is a later leader. What L said before it led in t does not concern a bond of t. In
//!   t, L has not given up, on disk or in memory.
//!
//! Now suppose that L answers a read that began at moment T, so that F answered its round after T.
//! Suppose further that a later leader was elected before T, and take the first such leader. Some F
//! of L's majority voted for it before T. F voted after it was bound, since terms only grow. It
//! voted while its bond stood, since the support outlived T. That is a contradiction. So L's commit
//! index at T covers everything acknowledged before T.
//!
//! # What is checked
//! In every state: Raft's election safety and leader completeness. A read that can be answered
//! misses no write that a majority held when it began, and no leader that had been elected. An
//! epoch never comes back. No bound replica has voted for anybody else since. The bonds that a
//! serving leader counts on stand. In some state: reads, failover, transfer, an overtaken leader
//! that still tries to read, and epochs above one, so that nothing is checked in vain. See
//! [`properties`].
//!
//! # What is left out
//! - **Clocks**: leases, timeouts, and who campaigns first. Anybody may campaign at any moment.
//! - **Waiting for the disk**, where [`Syncs`] says so. A test goes through small bounds with
//!   crashes at every moment, and finds the same.
//! - **The answers to pre-votes**, which only keep campaigns from happening, and check-quorum,
//!   which only ends leaderships, which may end at any time here.
//! - **Terms that travel.** Instead of refusals and whatever else carries one, a replica may enter
//!   any term that another one is in.
//! - **Entries** other than the one that each new leader writes. A leader commits it as it commits
//!   all others, and it stands for the writes of its term.
//! - **A copy of what was received.** Steps look for answers among all messages ever sent. So an
//!   answer counts as arrived whenever it is used. That covers loss, doubling, delay and every
//!   order of arrival.
//! - **A replica that learns of its node's support late.** It is bound for longer than it need be.
//! - Steps and messages that can make no difference, with their reasons in `reduction`. A test goes
//!   through small bounds without leaving them out, and finds the same.
//!
//! Snapshots and further groups are no part of the model, and the members are fixed. Other groups
//! show only as rounds that no read of this group waits for.
//!
//! # Bounds
//! [`Bounds`] has them. `LOGBOAT_MODEL_TERMS`, `LOGBOAT_MODEL_GRANTS`, `LOGBOAT_MODEL_RESTARTS` and
//! `LOGBOAT_MODEL_ROUNDS` take a test further:
//!
//! ```text
//! LOGBOAT_MODEL_TERMS=3 cargo test --release -p logboat-model --test protocol \
//!     three_nodes_hold -- --nocapture
//! ```
//!
//! This was explored so far without a counterexample. States that differ by the nodes' names alone
//! are counted once. "Empty" starts from nothing. "Led" starts with a leader of term 1 that has the
//! support and a bond of everybody.
//!
//! | nodes | start | terms | grants | restarts | rounds | states | |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | 3 | empty | 2 | 2 | 0 | 1 | 70,077 | |
//! | 3 | empty | 2 | 1 | 1 | 1 | 129,887 | |
//! | 3 | empty | 2 | 2 | 1 | 1 | 602,849 | |
//! | 3 | empty | 3 | 2 | 0 | 1 | 2,122,642 | |
//! | 3 | empty | 3 | 1 | 1 | 1 | 4,055,409 | |
//! | 3 | led | 2 | 1 | 1 | 1 | 79,467 | |
//! | 3 | led | 3 | 0 | 1 | 1 | 389,310 | |
//! | 3 | led | 3 | 1 | 1 | 0 | 1,205,543 | |
//! | 3 | led | 2 | 0 | 1 | 1 | 166,586 | crashes before any sync |
//! | 3 | led | 2 | 0 | 0 | 1 | 384,392 | nothing left out |
//! | 5 | led | 2 | 0 | 0 | 1 | 138,510 | |
//! | 5 | led | 2 | 0 | 1 | 1 | 860,500 | |
//! | 5 | led | 2 | 1 | 0 | 1 | 1,645,577 | |
//!
//! With crashes before any sync, three terms were not gone through to the end.

mod election;
mod follower;
mod ids;
pub mod membership;
mod mistake;
mod model;
mod network;
mod node;
pub mod properties;
mod reads;
mod reduction;
mod state;
mod symmetry;

pub use ids::{BootCount, Epoch, NodeId, Round, Term};
pub use mistake::Mistake;
pub use model::{Action, Bounds, Liveness, Start, Syncs};
pub use network::{Message, Network};
pub use state::{Bond, Grant, Log, Node, PerNode, Read, Role, State, Stored};
pub use symmetry::representative;
