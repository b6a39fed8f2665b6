//! What can be wrong with the protocol.

/// A deliberate mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A restarted replica has forgotten its vote.
    VoteForgotten,
    /// A vote goes to a candidate whose log is behind.
    VoteForShorterLog,
    /// A restarted node has forgotten the support that it gave.
    SupportForgotten,
    /// A restarted replica has forgotten its bond.
    BondForgotten,
    /// Support that has ended is given again at the same epoch.
    EpochUsedAgain,
    /// The end of support never reaches the disk, so that a restart brings it back.
    WithdrawalNotWritten,
    /// A vote leaves before it is durable.
    VoteBeforeSync,
    /// A follower says that it is bound before that is durable.
    FortifiedBeforeSync,
    /// A follower acknowledges an entry before that is durable.
    AppendedBeforeSync,
    /// A request for a pre-vote leaves before the sender's term is durable.
    PreVoteBeforeSync,
    /// A bound replica votes like any other.
    VoteWhileBound,
    /// A bound replica campaigns like any other.
    CampaignWhileBound,
    /// A replica that enters a later term gives up its bond.
    BondEndsWithTerm,
    /// A replica that binds itself to a leader has not voted by that.
    BindWithoutVote,
    /// A restarted replica tells its leader of its bond in a later term than the bond's.
    PresentInLaterTerm,
    /// A request for a pre-vote ends a bond that was made in its own term or a later one.
    PreVoteEndsLaterBond,
    /// A request for a vote ends a bond that was made in its own term or a later one.
    RequestEndsLaterBond,
    /// A resignation ends a bond that was made in a later term.
    ResignEndsLaterBond,
    /// A replica that resigns goes on leading, or standing for election.
    ResignKeepsRole,
    /// A replica that asks for pre-votes goes on leading, or standing for election.
    PreVoteKeepsRole,
    /// Support at whatever epoch confirms a read.
    AnyEpochConfirms,
    /// A leader that has asked another to campaign goes on beginning reads.
    ReadAfterAbdication,
    /// An answer to the node's earlier boot confirms a read.
    EarlierBootConfirms,
    /// An answer to an earlier round confirms a read.
    EarlierRoundConfirms,
    /// A read waits for a round that was opened before it began.
    OpenRoundConfirms,
    /// A candidate that was asked to campaign says so in its next campaign too.
    TransferOutlivesTerm,
    /// A replica campaigns for a leader of an earlier term than its own.
    EarlierTimeoutNow,
}

impl Mistake {
    /// Whether it brings support back that has ended.
    pub(crate) const fn revives_support(self) -> bool {
        matches!(self, Self::SupportForgotten | Self::EpochUsedAgain | Self::WithdrawalNotWritten)
    }

    /// Whether it is about what a replica says of its leadership's end.
    pub(crate) const fn is_of_ends(self) -> bool {
        matches!(
            self,
            Self::PreVoteEndsLaterBond
                | Self::RequestEndsLaterBond
                | Self::ResignEndsLaterBond
                | Self::ResignKeepsRole
                | Self::PreVoteKeepsRole
                | Self::PreVoteBeforeSync
        )
    }
}
