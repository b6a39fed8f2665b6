//! What can be wrong with the rules.

/// A deliberate mistake in the rules of membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A leader changes the configuration before an entry of its own term is committed.
    ChangeBeforeOwnTermCommit,
    /// A leader changes the configuration while the change before is not committed.
    ChangeWhileUncommitted,
    /// The outgoing half of a joint configuration is not asked in elections.
    HalfElects,
    /// The outgoing half of a joint configuration is not waited for in commits.
    HalfCommits,
    /// The outgoing half of a joint configuration does not count in rounds.
    HalfConfirms,
    /// Rounds are counted over the configuration that the leader was elected by.
    EarlierConfigurationConfirms,
    /// The vote of a replica that is no member counts.
    RemovedVoteCounts,
    /// The vote of a learner counts.
    LearnerVoteCounts,
    /// The acknowledgement of a learner counts.
    LearnerAcknowledgementCounts,
    /// A leader counts itself in halves that it is no part of.
    OutsiderCountsItself,
    /// The vote of a former replica counts as that of the present one on its node.
    FormerVoteCounts,
    /// The acknowledgement of a former replica counts as that of the present one on its node.
    FormerAcknowledgementCounts,
    /// The bond of a former replica counts as that of the present one on its node.
    FormerBondCounts,
    /// A vote names its candidate's node alone, and is repeated to a later replica there without
    /// another look at its log.
    VoteNamesNode,
    /// A destroyed replica leaves no tombstone, so that a late message makes it again, empty.
    TombstoneRegresses,
    /// A replica is told that it is gone by a configuration that is not committed.
    GoneByUncommitted,
    /// A replica is told that it is gone by a configuration that is older than the replica.
    GoneByEarlier,
    /// The configuration stays in force when its entry is truncated.
    ConfigurationNotReverted,
    /// A candidate goes by the configuration before the newest in its log, since it does not know
    /// whether that is committed.
    ActiveOnCommit,
    /// The resignation of a former replica ends bonds to a later one on its node.
    ResignOfFormerEndsBond,
    /// A replica that is gone does not resign.
    GoneWithoutResign,
    /// A replica answers a resignation and stays in its term.
    ResignedInTerm,
    /// The answer of a former replica to a resignation counts as that of the present one on its
    /// node.
    FormerResignedCounts,
    /// An outgoing voter does not campaign.
    OutgoingNeverCampaigns,
    /// A learner does not campaign, even if others take it for a voter and lack what it has.
    LearnerNeverCampaigns,
    /// A learner refuses to vote.
    LearnerRefusesVote,
}
