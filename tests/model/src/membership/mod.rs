//! A model of changes of members, of which a checker visits every state within bounds.
//!
//! The model of [`Liveness`](crate::Liveness) has fixed members, and every detail of support, of
//! rounds and of crashes. This one leaves these out, and has logs with configurations in them
//! instead. Both have the same rules of bonds.
//!
//! Each rule names the [`Mistake`]s that break it. A test goes wrong with each of them on purpose,
//! and asserts that the checker notices.
//!
//! # The rules
//! ## Configurations
//! A configuration is an entry of the log. It names *voters*, *learners*, and in a *joint*
//! configuration the *outgoing* voters as well, who voted before (Raft thesis, section 4.3). It is
//! in force at a replica from the moment on at which the replica appends it (`ActiveOnCommit`),
//! until the replica truncates it (`ConfigurationNotReverted`) or appends the next one.
//!
//! A majority of each half is needed to elect a leader (`HalfElects`), to commit an entry
//! (`HalfCommits`), and to confirm a read (`HalfConfirms`). Votes are counted over the candidate's
//! newest configuration; acknowledgements and confirmations over that of the leader, anew each time
//! (`EarlierConfigurationConfirms`). Nobody else counts: no replica that is no member
//! (`RemovedVoteCounts`), no learner (`LearnerVoteCounts`, `LearnerAcknowledgementCounts`), and not
//! the leader itself where it does not vote (`OutsiderCountsItself`).
//!
//! ## Changes
//! Only learners come and go. Voters change by way of a joint configuration, any number of them at
//! once, and whoever votes no more is a learner. A leader proposes a configuration when it has
//! committed the one before (`ChangeWhileUncommitted`) and an entry of its own term
//! (`ChangeBeforeOwnTermCommit`). A leader that does not vote in its newest configuration proposes
//! nothing.
//!
//! ## Who campaigns, and who votes
//! - Voters campaign, those of the outgoing half too (`OutgoingNeverCampaigns`). Otherwise a joint
//!   configuration could be stuck that its incoming voters have not heard of.
//! - Any replica that is asked for its vote gives it by the rules of Raft, a learner as well
//!   (`LearnerRefusesVote`): it may be a voter and not know it yet.
//! - A learner campaigns if a replica takes it for a voter and can't win against its log
//!   (`LearnerNeverCampaigns`). Its own vote does not count in that election, since it goes by its
//!   own configuration. See [below](#what-the-model-has-shown).
//!
//! ## Replicas
//! A replica is known by its node and by the entry that added it, the [`LogId`] of which is the
//! *replica id*. Every message names its sender so, and says for which replica it is. An answer
//! counts if it is from the very replica that the configuration names, be it a vote
//! (`FormerVoteCounts`), an acknowledgement (`FormerAcknowledgementCounts`), or a bond
//! (`FormerBondCounts`). The stored vote names a replica as well (`VoteNamesNode`).
//!
//! A node has one replica of the group at a time, and a *tombstone*: the smallest id that may live
//! there, which never decreases (`TombstoneRegresses`). A message for a smaller id is dropped. A
//! message for a larger id than that of the replica there says that the replica is gone (see
//! [below](#what-the-model-has-shown) for who is believed). A replica
//! is also told so on a committed configuration (`GoneByUncommitted`) that is not older than the
//! replica and lacks it (`GoneByEarlier`).
//!
//! ## Bonds
//! They are as in the other model, and name the leader's replica id too. A replica that goes
//! resigns as it goes, in its term (`GoneWithoutResign`). It may have led, and its node lives on,
//! so that support for it never ends. A resignation ends bonds to that replica alone
//! (`ResignOfFormerEndsBond`). The terms do not tell a former replica from the next one: a replica
//! may have gone in a later term than that in which the next one leads.
//!
//! The tombstone repeats the resignation until it has an answer from each replica that may be
//! bound. Who answers has entered the next term, so that no late append binds it again
//! (`ResignedInTerm`). The answer counts for the very replica that gave it
//! (`FormerResignedCounts`), and a node without a replica gives none.
//!
//! # What the model has shown
//! These things are not in the Raft thesis in this way, or not at all.
//!
//! **A learner has to campaign.** Without that, a group can be stuck for ever with all of its nodes
//! alive. A leader that is demoted appends the configuration in which it is a learner. Then it
//! loses its role before it has sent that entry to anybody. The others are in the joint
//! configuration still. Where they need its vote, they don't get it, since its log is longer. With
//! voters 1 and 2, of which 2 leads and is demoted:
//!
//! ```text
//! 1: [.., joint {1} from {1, 2}]                          needs the vote of 2, whose log is longer
//! 2: [.., joint {1} from {1, 2}, {1} learners {2}]        is a learner, and does not campaign
//! ```
//!
//! That a demoted voter campaigns until its demotion is committed does not suffice. In the group of
//! 1, 2 and 3 with the learner 4, leader 1 appends a joint configuration that makes 4 the only
//! voter, and only 1 has it. A later leader 3 writes an entry to 4 alone, and dies. Now 1 needs the
//! vote of 4, whose log is newer. 4 is a learner in its own log. 2 needs the vote of 1. So 1, 2 and
//! 4 elect nobody, though 1 and 2 are a majority of what is committed.
//!
//! Whoever refuses a vote because of its log knows that it was asked as a voter, and that is
//! when it has to campaign. In both cases it is elected by the votes of the others, commits what it
//! has, and steps down if it does not vote then.
//!
//! **An answer to a resignation is that of one replica.** The term that a replica enters before it
//! answers goes with the replica. The next one on its node begins without a term. A late append
//! that names it makes it, and binds it to a leader that is gone. If the former replica's answer
//! counted, or that of a node without a replica, nobody would tell the new one. It is free again
//! when it hears a later leader, but its own vote may be what that one needs.
//!
//! **Two rules are precautions.** Broken alone, they do no harm within the bounds that were gone
//! through, and there are reasons for that. They stay: each is cheap, and the other rules would
//! have to be without any fault for it to be superfluous.
//!
//! - *A change waits for an entry of the leader's own term.* This is the bug of 2015 in Raft's
//!   single-server changes, which the checker finds where [`Steps::Single`] are taken. Single steps
//!   of two leaders can lead to configurations that have disjoint majorities. Joint configurations
//!   of two leaders have the same outgoing half, of which each of the two needs a majority. But a
//!   leader must know that the configuration before is committed, and it knows that by its commit
//!   index alone: who counts replicas that hold an entry of an earlier term may be wrong.
//! - *A vote names the candidate's replica id.* The candidate's next replica begins with the term
//!   and the log of the leader that added it. Suppose that a voter has voted for the former one in
//!   a later term. It acknowledges nothing to that leader afterwards. So it has nothing that the
//!   next replica lacks, unless a leader of that later term exists, whose majority votes for nobody
//!   else there.
//!
//! **A candidate must not be believed that calls a later replica.** Within the bounds that were
//! gone through that does no harm, and the model lets any message of any term do so. With four
//! terms it would. The leader of term 1 adds a replica by an entry that is not committed. That of
//! term 2 lacks the entry and adds a later replica there, also in vain. That of term 3 has the
//! first entry, and makes its replica a voter. The leader of term 2 then asks the later one for its
//! vote, in term 4. The voter must not take itself for gone. So Logboat's replicas believe only a
//! leader of the current or a later term, which has all that is committed.
//!
//! **A repeated vote ends no bond.** A replica that has voted for a candidate, follows it, and
//! receives its request for that vote again must not take the second vote as a reason to end the
//! bond.
//!
//! # What is checked
//! In every state: election safety, leader completeness and state machine safety. A leader that may
//! serve reads was not overtaken. The bonds that it counts on stand. Nobody is bound for ever to a
//! replica that is gone. And nobody gets stuck ([`properties::ELECTABLE`]): whichever nodes die, if
//! the others are majorities of what is committed and of all configurations that any replica has,
//! then one of them can win an election. In some state: that all this is not in vain. See
//! [`properties`].
//!
//! # What is left out
//! - **Epochs, boots and rounds.** Each node supports each other one from the start on or never,
//!   and ends that once. Peers answer a round in the same moment.
//! - **Crashes.** A step is durable at once, with its tombstone. A crash would leave a follower,
//!   which is a leader that does nothing.
//! - **Requests for pre-votes**, and terms that travel alone. A replica learns of a term by the
//!   requests and appends of that term.
//! - **Parts of a log.** A leader sends all of its log up to some entry, so snapshots are no
//!   different.
//! - **Whether a learner has caught up** and is bound before it is promoted. That is for speed; no
//!   property needs it.
//! - **The order in which replicas campaign.** Anybody who may campaign may do so at any moment.
//! - **A commit index of followers.** What they may learn of it, they know at once.
//! - Messages that can make no difference any more. A test goes through small bounds without
//!   leaving them out, and finds the same.
//!
//! # Bounds
//! [`Bounds`] has them. `LOGBOAT_MODEL_TERMS`, `LOGBOAT_MODEL_CHANGES` and
//! `LOGBOAT_MODEL_WITHDRAWALS` take a test further:
//!
//! ```text
//! LOGBOAT_MODEL_TERMS=3 cargo test --release -p logboat-model --test membership \
//!     three_voters_of_three_nodes_change -- --nocapture
//! ```
//!
//! This was explored so far without a counterexample. States that differ by the nodes' names alone
//! are counted once. "Support" is whether there is any, and "ended" is how often it ends. "Added
//! again" begins with a learner that was removed and added again, and has not heard of that. In
//! "replaced" it has been promoted since. With support, three terms were not gone through to the
//! end.
//!
//! | nodes | voters | terms | changes | support | ended | states | |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | 3 | 1, 2 | 2 | 4 | no | | 21,596 | |
//! | 3 | 1, 2 | 3 | 4 | no | | 474,822 | |
//! | 3 | all | 2 | 3 | no | | 31,874 | |
//! | 3 | all | 3 | 2 | no | | 134,875 | |
//! | 3 | all | 2 | 2 | yes | 1 | 69,283 | |
//! | 3 | all | 2 | 3 | yes | 1 | 321,713 | |
//! | 3 | all | 2 | 1 | no | | 6,471 | replaced |
//! | 3 | all | 2 | 1 | yes | 1 | 82,503 | replaced |
//! | 3 | all | 2 | 2 | yes | 1 | 150,311 | replaced |
//! | 3 | 1, 2 | 2 | 3 | yes | 0 | 124,101 | added again |
//! | 4 | 1, 2, 3 | 2 | 2 | no | | 115,439 | |
//! | 4 | 1, 2, 3 | 2 | 3 | no | | 321,593 | |
//! | 4 | all | 3 | 1 | no | | 449,236 | single steps |
//! | 5 | 1, 4, 5 from 1, 2, 3 | 2 | 0 | no | | 142,308 | |
//! | 5 | 1, 4, 5 from 1, 2, 3 | 1 | 1 | no | | 2,579 | |

mod configuration;
mod election;
mod follower;
mod leader;
mod life;
mod log;
mod message;
mod mistake;
mod model;
pub mod properties;
mod quorum;
mod reduction;
mod state;
mod symmetry;

pub use configuration::{Configuration, Nodes};
pub use log::{Log, LogId, Member};
pub use message::{Message, Messages};
pub use mistake::Mistake;
pub use model::{Action, Bounds, Membership, Steps};
pub use state::{Bond, History, Node, Replica, Role, State};
pub use symmetry::representative;
