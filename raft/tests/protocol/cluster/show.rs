//! How transcripts write things: entries as `index@term=command`, messages as `name(what matters)`.

use super::host::configurations;
use super::{Cluster, Packet};
use logboat_raft::{
    Entry, EntryKind, Fortification, LogId, LogReadTarget, LogWrite, Message, NodeId, Output,
    Payload, Refusal, ReplicaId, SnapshotMeta, Term,
};
use std::slice;

impl Cluster {
    /// What is in flight, in a line for each link.
    pub(crate) fn show_in_flight(&self) -> String {
        let mut text = String::new();
        for ((from, to), queue) in &self.network {
            let packets: Vec<_> = queue.iter().map(packet).collect();
            if !packets.is_empty() {
                text += &format!("{from}=>{to} {}\n", packets.join(" "));
            }
        }
        text
    }

    /// Every node in a line, and what leaders know of the others.
    pub(crate) fn show_status(&self) -> String {
        let mut text = String::new();
        for (name, host) in &self.hosts {
            let Some(raft) = &host.raft else {
                text += &format!("{name} is down\n");
                continue;
            };
            let status = raft.status();
            text += &format!(
                "{name} {:?} term={} leader={} snapshot={} last={} durable={} commit={} applied={}{}\n",
                status.role,
                status.term,
                node(status.leader),
                status.snapshot,
                status.last,
                status.durable,
                status.commit,
                status.applied,
                bond(status.fortified, status.term),
            );
            for peer in status.peers {
                let bound =
                    peer.fortified.map_or("not bound".into(), |epoch| format!("bound at {epoch}"));
                text += &format!(
                    "  {} {:?} match={} next={} in flight: {} messages, {} bytes, {bound}\n",
                    peer.node,
                    peer.flow,
                    peer.matched,
                    peer.next,
                    peer.inflight_messages,
                    peer.inflight_bytes,
                );
            }
        }
        text
    }

    /// When each node has something to do next, and which round its reads wait for.
    pub(crate) fn show_deadlines(&self) -> String {
        let mut text = String::new();
        for (name, host) in &self.hosts {
            let Some(raft) = &host.raft else { continue };
            let deadline = raft.next_deadline(&host.support);
            let wait = deadline.map_or("rests".into(), |deadline| {
                format!("waits for {} ms", deadline.since(self.now).as_millis())
            });
            let round = raft.awaited_round();
            let round = round.map_or(String::new(), |round| format!(", reads for round {round}"));
            text += &format!("{name} {wait}{round}\n");
        }
        text
    }

    /// What each node promised to each other, and what that one knows of it.
    pub(crate) fn show_support(&self) -> String {
        let mut text = String::new();
        for (name, host) in &self.hosts {
            for (peer, grant) in &host.grants {
                let given = if grant.live { "supports" } else { "withdrew from" };
                let known = self.hosts[peer].support.of(*name).support_from;
                let known = known.map_or("nothing".into(), |epoch| epoch.to_string());
                text +=
                    &format!("{name} {given} {peer} at {}, which knows of {known}\n", grant.epoch);
            }
        }
        text
    }

    /// Every node's log as it is in memory, with what a snapshot covers before the bar.
    pub(crate) fn show_logs(&self) -> String {
        let mut text = String::new();
        for (name, host) in &self.hosts {
            let log = &host.view;
            text += &format!("{name} {} | {}\n", log.start, entries(&log.entries));
        }
        text
    }
}

pub(crate) fn output(output: &Output) -> String {
    match output {
        Output::Persist(persist) => {
            let mut text = format!("persist #{}", persist.seq.0);
            if let Some(hard) = &persist.hard_state {
                if hard.replica != ReplicaId::FOUNDER {
                    text += &format!(" replica={}", hard.replica);
                }
                let vote = hard.vote.map_or("none".into(), |vote| vote.to_string());
                text += &format!(" term={} vote={vote} commit={}", hard.term, hard.commit);
                text += &bond(hard.fortified, hard.term);
            }
            match &persist.log {
                LogWrite::Keep | LogWrite::Founding(_) | LogWrite::Tombstone(_) => {}
                LogWrite::Append(list) => text += &format!(" append {}", entries(list)),
                LogWrite::Compact(meta) => text += &format!(" compact {}", self::meta(meta)),
                LogWrite::Reset(meta) => text += &format!(" reset {}", self::meta(meta)),
            }
            text
        }
        Output::Send { to, message } => format!("-> {to} {}", self::message(message)),
        Output::SendAfter { after, to, message } => {
            format!("-> {to} after #{} {}", after.0, self::message(message))
        }
        Output::Apply { entries: list } => format!("apply {}", entries(list)),
        Output::Proposed { first } => format!("proposed {first}"),
        Output::Refused { reason } => format!("refused: {}", refusal(*reason)),
        Output::ReadReady { token } => format!("read {} ready", token.0),
        Output::ReadRefused { token, reason } => {
            format!("read {} refused: {}", token.0, refusal(*reason))
        }
        Output::ReadLog { target, first, last, max_bytes } => {
            let target = match target {
                LogReadTarget::Peer(node) => format!("node {node}"),
                LogReadTarget::Apply => "apply".into(),
            };
            format!("load {first}..={last} for {target}, {max_bytes} bytes at most")
        }
        Output::SendSnapshot { to } => format!("send snapshot to {to}"),
        Output::OtherVoters { from, leads: _ } => format!("other voters at {from}"),
        Output::Gone { floor } => format!("is gone, only {floor} or later may live here"),
        Output::Violated { from, violation } => format!("node {from} sent {violation}"),
        Output::RestoreSnapshot { meta } => format!("restore snapshot {}", self::meta(meta)),
        Output::ChangeProposed { id } => format!("change proposed {id}"),
        Output::ChangeRefused { error } => format!("change refused: {error}"),
        Output::Configured { configuration, is_committed } => {
            let state = if *is_committed { "committed" } else { "in force" };
            format!("configuration {} {state}: {configuration}", configuration.id())
        }
        Output::RoleChanged { role, term, leader } => {
            format!("is {role:?} in term {term}, leader {}", node(*leader))
        }
    }
}

pub(crate) fn packet(packet: &Packet) -> String {
    match packet {
        Packet::Message(message) => self::message(message),
        Packet::Snapshot(_, term, snapshot) => {
            format!("snapshot(t{term} {})", meta(&snapshot.meta))
        }
    }
}

/// Which replicas say it to which, if they are no founders.
pub(crate) fn message(message: &Message) -> String {
    let id = |what: &str, id: ReplicaId| match id {
        ReplicaId::FOUNDER => String::new(),
        id => format!(" {what} #{id}"),
    };
    payload(message) + &id("by", message.from) + &id("for", message.to)
}

fn payload(message: &Message) -> String {
    let t = message.term;
    match &message.payload {
        Payload::PreVote { last, .. } => format!("pre-vote(t{t} last={last})"),
        Payload::PreVoteReply { granted } => format!("pre-vote-reply(t{t} {})", verdict(*granted)),
        Payload::Vote { last, transfer, .. } => {
            let transfer = if *transfer { " transfer" } else { "" };
            format!("vote(t{t} last={last}{transfer})")
        }
        Payload::VoteReply { granted } => format!("vote-reply(t{t} {})", verdict(*granted)),
        Payload::AppendEntries { prev, entries: list, commit, .. } => {
            format!("append(t{t} prev={prev} [{}] commit={commit})", entries(list))
        }
        Payload::Appended { through, .. } => format!("appended(t{t} {through})"),
        Payload::Rejected { prev, conflict } => {
            let x_term = conflict.x_term.map_or("none".into(), |term| term.to_string());
            let (x_index, x_len) = (conflict.x_index, conflict.x_len);
            format!("rejected(t{t} prev={prev} xterm={x_term} xindex={x_index} xlen={x_len})")
        }
        Payload::Fortify { commit, .. } => format!("fortify(t{t} commit={commit})"),
        Payload::Fortified { epoch, applied } => {
            let epoch = epoch.map_or("not".into(), |epoch| format!("at {epoch}"));
            format!("fortified(t{t} {epoch} applied={applied})")
        }
        Payload::ReadIndex { token, lease } => {
            let lease = if *lease { " lease" } else { "" };
            format!("read-index(t{t} {}{lease})", token.0)
        }
        Payload::ReadIndexReply { token, index, commit } => {
            let index = index.map_or("refused".into(), |index| format!("index={index}"));
            format!("read-index-reply(t{t} {} {index} commit={commit})", token.0)
        }
        Payload::Snapshot { meta } => format!("snapshot(t{t} {})", self::meta(meta)),
        Payload::TimeoutNow => format!("timeout-now(t{t})"),
        Payload::Resign { epoch, term } => format!("resign(t{t} from t{term} epoch={epoch})"),
        Payload::Resigned { term } => format!("resigned(t{t} from t{term})"),
        Payload::Gone { floor, .. } => format!("gone(t{t} only {floor} or later)"),
        Payload::Left => "left".into(),
    }
}

pub(crate) fn entries(entries: &[Entry]) -> String {
    let one = |entry: &Entry| {
        let data = match entry.kind {
            EntryKind::Configuration => configurations(slice::from_ref(entry))
                .map(|configuration| format!("({configuration})"))
                .collect(),
            EntryKind::Noop | EntryKind::Command => command(&entry.data),
        };
        let equals = if entry.data.is_empty() { "" } else { "=" };
        format!("{}{equals}{data}", entry.id())
    };
    entries.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn command(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    if text.len() > 12 { format!("<{} bytes>", text.len()) } else { text.into_owned() }
}

/// The last entry, and the configuration there if it is not the founding one.
fn meta(meta: &SnapshotMeta) -> String {
    let SnapshotMeta { last, configuration } = meta;
    if configuration.id() == LogId::default() {
        return last.to_string();
    }
    format!("{last} ({configuration})")
}

pub(crate) fn ids(ids: &[LogId]) -> String {
    ids.iter().map(LogId::to_string).collect::<Vec<_>>().join(" ")
}

pub(crate) fn node(node: Option<NodeId>) -> String {
    node.map_or("none".into(), |node| node.to_string())
}

/// The leader and the epoch of a bond, if there is one.
/// A fortification, with its term if a replica in `term` made it in an earlier one.
fn bond(bond: Option<Fortification>, term: Term) -> String {
    bond.map_or(String::new(), |bond| {
        let earlier = (bond.term < term).then(|| format!(" of term {}", bond.term));
        format!(" bond={}@{}{}", bond.address(), bond.epoch, earlier.unwrap_or_default())
    })
}

fn refusal(refusal: Refusal) -> String {
    match refusal {
        Refusal::NotLeader { leader } => format!("not leader, leader {}", node(leader)),
        Refusal::Busy => "busy".into(),
    }
}

fn verdict(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}
