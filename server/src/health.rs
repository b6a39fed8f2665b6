//! How a node is, for orchestrators: what is wrong, and what they had better do about it.

use logboat::NodeStatus;
use serde::Serialize;
use std::time::Duration;

/// How many groups a problem names.
const MAX_GROUPS: usize = 32;

/// What a page about the node's health says.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    /// Whether there is no problem.
    ok: bool,
    problems: Vec<Problem>,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Problem {
    kind: Kind,
    /// The same in a sentence.
    reason: String,
    /// How many groups it concerns, if it concerns some only.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_count: Option<usize>,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<u64>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The log can't be written any more, until a restart.
    LogFailed,
    /// The node is new, and promises nothing before others have recorded it.
    NotFounded,
    /// The map of ranges is not known yet.
    Starting,
    /// Writes wait: for space on the disk, or for descriptors.
    WritesWait,
    /// The disk takes no writes.
    DiskStandsStill,
    /// Too few nodes answer.
    NoQuorum,
    /// Groups have no leader that this node knows.
    NoLeader,
    /// Replicas have stopped for good.
    FailedReplicas,
    /// The state machines of replicas don't answer.
    StuckReplicas,
}

impl Kind {
    /// Whether a restart of the process may help. Nothing else should have one restart it.
    const fn asks_for_restart(self) -> bool {
        matches!(self, Self::LogFailed)
    }

    /// Whether clients should go elsewhere. That some groups fare badly is the same there.
    const fn keeps_clients_away(self) -> bool {
        match self {
            Self::LogFailed
            | Self::NotFounded
            | Self::Starting
            | Self::WritesWait
            | Self::DiskStandsStill
            | Self::NoQuorum => true,
            Self::NoLeader | Self::FailedReplicas | Self::StuckReplicas => false,
        }
    }
}

impl Health {
    /// Everything that is wrong with a node. `ready` says that it knows the map of ranges. A disk
    /// is late when it has taken nothing for `patience`.
    pub(crate) fn of(status: &NodeStatus, ready: bool, patience: Duration) -> Self {
        let mut problems = Vec::new();
        let mut add = |kind, reason: String| problems.push(Problem::of_node(kind, reason));
        let founded = status.waiting_for.is_empty();
        if let Some(failure) = &status.failure {
            add(Kind::LogFailed, failure.clone());
        }
        if !founded {
            let waiting: Vec<_> = status.waiting_for.iter().map(ToString::to_string).collect();
            let waiting = waiting.join(", ");
            add(
                Kind::NotFounded,
                format!("this node is new and waits to be recorded by {waiting}"),
            );
        }
        if !ready {
            let reason = "waiting for a majority of the nodes to agree on the map of ranges";
            add(Kind::Starting, reason.to_owned());
        }
        let silence = status.disk_silence;
        if let Some(reason) = &status.wal.stall_reason {
            add(Kind::WritesWait, format!("{reason}: writes wait"));
        } else if founded && silence >= patience {
            let seconds = silence.as_secs_f64();
            add(Kind::DiskStandsStill, format!("the disk has taken no write for {seconds:.1} s"));
        }
        if founded && !status.has_quorum {
            add(Kind::NoQuorum, "fewer than a majority of the nodes answer".to_owned());
        }
        let leaderless: Vec<_> = status.leaderless.iter().map(|group| group.0).collect();
        if !leaderless.is_empty() {
            problems.push(Problem::of_groups(Kind::NoLeader, "groups have no leader", &leaderless));
        }
        let failed: Vec<_> = status.failed.iter().map(|replica| replica.group.0).collect();
        if let Some(first) = status.failed.first() {
            let reason = format!("replicas have stopped, the first because {}", first.reason);
            problems.push(Problem::of_groups(Kind::FailedReplicas, &reason, &failed));
        }
        let stuck: Vec<_> = status.stuck.iter().map(|replica| replica.group.0).collect();
        if let Some(first) = status.stuck.first() {
            let seconds = first.elapsed.as_secs_f64();
            let reason =
                format!("replicas are stuck: {} has not returned for {seconds:.1} s", first.code);
            problems.push(Problem::of_groups(Kind::StuckReplicas, &reason, &stuck));
        }
        Self::from(problems)
    }

    /// What of it a restart may help.
    pub(crate) fn liveness(self) -> Self {
        self.only(Kind::asks_for_restart)
    }

    /// What of it should keep clients away.
    pub(crate) fn readiness(self) -> Self {
        self.only(Kind::keeps_clients_away)
    }

    /// Whether nothing is wrong.
    pub(crate) const fn is_ok(&self) -> bool {
        self.ok
    }

    fn only(mut self, counts: fn(Kind) -> bool) -> Self {
        self.problems.retain(|problem| counts(problem.kind));
        Self::from(self.problems)
    }
}

impl From<Vec<Problem>> for Health {
    fn from(problems: Vec<Problem>) -> Self {
        Self { ok: problems.is_empty(), problems }
    }
}

impl Problem {
    const fn of_node(kind: Kind, reason: String) -> Self {
        Self { kind, reason, group_count: None, groups: Vec::new() }
    }

    fn of_groups(kind: Kind, reason: &str, groups: &[u64]) -> Self {
        let named = groups.iter().copied().take(MAX_GROUPS).collect();
        let reason = format!("{} {reason}", groups.len());
        Self { kind, reason, group_count: Some(groups.len()), groups: named }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use logboat::{FailedReplica, GroupId, StuckReplica, UserCode, WalStatus};

    /// A node with nothing wrong.
    pub(crate) fn well() -> NodeStatus {
        NodeStatus {
            node_id: 1,
            cluster_id: "c0ffee".to_owned(),
            waiting_for: Vec::new(),
            groups: 3,
            leaders: 1,
            groups_without_leader: 0,
            leaderless: Vec::new(),
            has_quorum: true,
            disk_silence: Duration::ZERO,
            pending_bytes: 0,
            apply_lag: 0,
            failed: Vec::new(),
            mended: Vec::new(),
            stuck: Vec::new(),
            other_voters: Vec::new(),
            failure: None,
            wal: WalStatus {
                queued_bytes: 0,
                stalled: false,
                stall_reason: None,
                syncs: 0,
                entries: 0,
                written_bytes: 0,
                payload_bytes: 0,
                segments: 1,
            },
            peers: Vec::new(),
            differing_settings: Vec::new(),
        }
    }

    #[test]
    fn failed_replicas_are_named_and_neither_keep_clients_away_nor_ask_for_a_restart() {
        let health = |status: &NodeStatus| Health::of(status, true, Duration::from_secs(1));
        assert!(health(&well()).is_ok());
        let failed =
            |group: u64| FailedReplica { group: GroupId(group), reason: "of x".to_owned() };
        let status = NodeStatus { failed: (1..=40).map(failed).collect(), ..well() };
        let page = serde_json::to_value(health(&status)).unwrap();
        let groups: Vec<_> = (1..=MAX_GROUPS as u64).collect();
        let problem = serde_json::json!({
            "kind": "failed_replicas",
            "reason": "40 replicas have stopped, the first because of x",
            "group_count": 40,
            "groups": groups,
        });
        assert_eq!(page, serde_json::json!({ "ok": false, "problems": [problem] }));
        assert!(health(&status).readiness().is_ok() && health(&status).liveness().is_ok());
    }

    #[test]
    fn replicas_that_are_stuck_are_named_and_concern_nobody_else() {
        let stuck = StuckReplica {
            group: GroupId(7),
            code: UserCode::StateMachine,
            elapsed: Duration::from_millis(1_500),
            blocks_others: false,
        };
        let status = NodeStatus { stuck: vec![stuck], ..well() };
        let health = || Health::of(&status, true, Duration::from_secs(1));
        let problem = serde_json::json!({
            "kind": "stuck_replicas",
            "reason": "1 replicas are stuck: a call of the state machine has not returned for 1.5 s",
            "group_count": 1,
            "groups": [7],
        });
        let page = serde_json::to_value(health()).unwrap();
        assert_eq!(page, serde_json::json!({ "ok": false, "problems": [problem] }));
        assert!(health().readiness().is_ok() && health().liveness().is_ok());
    }
}
