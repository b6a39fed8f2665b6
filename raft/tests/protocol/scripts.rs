//! Transcripts of the protocol, one behaviour a file: the scripts in `tests/scripts` command a
//! small cluster, and what it does stands below each command. `UPDATE_GOLDENFILES=1` rewrites them;
//! every line that changes has to be checked against the Raft paper, not against the code.

use crate::cluster::Cluster;
use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use logboat_raft::{Change, Input, NodeId, ReadFrom, ReadMode, Term, Tuning, WriteSeq};
use std::error::Error;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Script {
    cluster: Option<Cluster>,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String> {
        if command.name == "cluster" {
            return self.build(command);
        }
        let cluster = self.cluster.as_mut().ok_or("no cluster yet")?;
        let text = run(cluster, command)?;
        let mut events: String = cluster.take_events().map(|event| event + "\n").collect();
        events.push_str(&text);
        Ok(events)
    }
}

impl Script {
    /// `cluster nodes=N [voters=N] [preferred=NODE] [election_ms] [stagger_ms] [commit_delay_ms]
    /// [retransmit_ms]
    /// [append_bytes] [inflight_messages] [inflight_bytes] [uncommitted_bytes]
    /// [unapplied_entries] [unwritten_commits]`: a new cluster.
    fn build(&mut self, command: &Command) -> Result<String> {
        let mut args = command.consume_args();
        let nodes = number(args.take_key("nodes"), 3)?;
        let voters = number(args.take_key("voters"), nodes)?;
        let tuning = Tuning {
            election_timeout: Duration::from_millis(number(args.take_key("election_ms"), 1000)?),
            campaign_stagger: Duration::from_millis(number(args.take_key("stagger_ms"), 100)?),
            commit_delay: Duration::from_millis(number(args.take_key("commit_delay_ms"), 100)?),
            retransmit_timeout: Duration::from_millis(number(args.take_key("retransmit_ms"), 500)?),
            max_append_bytes: number(args.take_key("append_bytes"), 1024)?,
            max_inflight_messages: number(args.take_key("inflight_messages"), 8)?,
            max_inflight_bytes: number(args.take_key("inflight_bytes"), 4096)?,
            max_uncommitted_bytes: number(args.take_key("uncommitted_bytes"), 4096)?,
            max_unapplied_entries: number(args.take_key("unapplied_entries"), 1024)?,
            max_unwritten_commits: number(args.take_key("unwritten_commits"), 0)?,
        };
        let preferred = number(args.take_key("preferred"), 1)?;
        args.reject_next()?;
        let mut cluster = Cluster::new(nodes, voters, preferred, tuning, 7);
        cluster.events = Some(Vec::new());
        self.cluster = Some(cluster);
        Ok(String::new())
    }
}

/// Carries a command out. Events of the cluster are printed anyway; the returned text is what the
/// command shows besides.
fn run(cluster: &mut Cluster, command: &Command) -> Result<String> {
    let mut args = command.consume_args();
    let mut text = String::new();
    match command.name.as_str() {
        "log" | "disk" | "sync" | "load" | "load-nothing" | "crash" | "start" | "restart"
        | "compact" => {
            run_on_disk(cluster, &command.name, &mut args)?;
        }
        "tick" | "tick-one" | "wait" | "timeout" => run_time(cluster, &command.name, &mut args)?,
        "deliver" | "settle" | "drop" | "duplicate" | "hold" | "release" | "partition" | "cut"
        | "heal" => run_network(cluster, &command.name, &mut args)?,
        "fail" | "support" | "withdraw" | "lapse" | "lease" | "expire" | "renew" | "confirm"
        | "open" | "answer" | "hear" => run_liveness(cluster, &command.name, &mut args)?,
        // in-flight: what is under way. status: every node in a line, and what leaders know of
        // the others. logs: every node's log. deadlines: when each has something to do. grants: who
        // supports whom.
        "in-flight" => text = cluster.show_in_flight(),
        "status" => text = cluster.show_status(),
        "logs" => text = cluster.show_logs(),
        "deadlines" => text = cluster.show_deadlines(),
        "grants" => text = cluster.show_support(),
        _ => run_input(cluster, &command.name, &mut args)?,
    }
    args.reject_next()?;
    Ok(text)
}

/// What users ask of a node, and what its driver tells it.
fn run_input(cluster: &mut Cluster, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<()> {
    let at = node(args)?;
    match name {
        // unfounded NODE: it may promise nothing yet. found NODE: now it may.
        "unfounded" => cluster.host(at).support.founded = false,
        "found" => {
            cluster.host(at).support.founded = true;
            cluster.step(at, Input::Founded);
        }
        // campaign NODE: without waiting for the timeout.
        "campaign" => cluster.step(at, Input::Campaign),
        // may-lead NODE BOOL: whether the replica may lead from now on.
        "may-lead" => cluster.step(at, Input::MayLead(number(args.next_pos(), true)?)),
        // propose NODE COMMAND..: one batch; bytes=N makes each command that long.
        "propose" => {
            let bytes = number(args.take_key("bytes"), 0)?;
            let pad = |text: &str| format!("{text:-<bytes$}");
            let commands = std::iter::from_fn(|| args.next_pos()).map(pad);
            cluster.propose(at, commands.map(Bytes::from).collect());
        }
        // change NODE CHANGE..: each is add-N, promote-N, demote-N, remove-N or prefer-N, and all
        // take effect together.
        "change" => {
            let changes = std::iter::from_fn(|| args.next_pos()).map(change);
            cluster.change(at, changes.collect::<Result<_>>()?);
        }
        // read NODE TOKEN [from=any] [lease=true]
        "read" => {
            let token = number(args.next_pos(), 1)?;
            let any = args.take_key("from").is_some_and(|from| from == "any");
            let from = if any { ReadFrom::Any } else { ReadFrom::Leader };
            let lease = number(args.take_key("lease"), false)?;
            cluster.read(at, token, ReadMode { from, lease });
        }
        // transfer NODE TO
        "transfer" => cluster.step(at, Input::Transfer { to: node(args)? }),
        // unreachable NODE OTHER: the node's connection to the other broke.
        "unreachable" => cluster.step(at, Input::Unreachable { node: node(args)? }),
        _ => return Err(format!("unknown command {name}").into()),
    }
    Ok(())
}

/// What happens to disks, and to nodes as a whole.
fn run_on_disk(cluster: &mut Cluster, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<()> {
    let at = node(args)?;
    match name {
        // log NODE TERM..: restarts a node with entries of these terms; term=T if it saw a later.
        "log" => {
            let term = args.take_key("term").map(str::parse).transpose()?;
            let terms = std::iter::from_fn(|| args.next_pos()).map(str::parse);
            let terms: Vec<u64> = terms.collect::<std::result::Result<_, _>>()?;
            let term = term.or(terms.last().copied()).ok_or("a term is missing")?;
            cluster.preset(at, Term(term), &terms);
        }
        // disk NODE slow|fast: whether writes are durable, and reads answered, at once.
        "disk" => cluster.host(at).sync = args.next_pos().ok_or("slow or fast")? == "fast",
        // sync NODE [MARK]: all writes, or those up to the mark, become durable.
        "sync" => {
            let newest = cluster.host(at).newest.0;
            cluster.sync_to(at, WriteSeq(number(args.next_pos(), newest)?));
        }
        // load NODE: answers what the node wants to read from its disk.
        "load" => cluster.answer_loads(at),
        // load-nothing NODE: as if its disk did not have it.
        "load-nothing" => cluster.lack_load(at),
        // compact NODE: snapshot of all that is applied.
        "compact" => cluster.compact(at),
        "crash" => cluster.crash(at, 0),
        "start" => cluster.start(at),
        "restart" => {
            cluster.crash(at, 0);
            cluster.start(at);
        }
        _ => unreachable!("{name} is no command of a disk"),
    }
    Ok(())
}

fn run_time(cluster: &mut Cluster, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<()> {
    match name {
        // tick [MS]: lets time pass, then ticks all nodes.
        "tick" => cluster.tick(Duration::from_millis(number(args.next_pos(), 100)?)),
        // tick-one NODE: ticks a node without letting time pass.
        "tick-one" => cluster.step(node(args)?, Input::Tick),
        // wait MS: lets time pass.
        "wait" => {
            let ms = number(args.next_pos(), 100)?;
            cluster.now = cluster.now + Duration::from_millis(ms);
        }
        // timeout NODE: lets time pass until the node's deadline, and ticks it alone.
        "timeout" => {
            let at = node(args)?;
            let raft = cluster.raft(at).ok_or("the node is down")?;
            let deadline = raft.next_deadline(&cluster.hosts[&at].support).ok_or("no deadline")?;
            cluster.now = cluster.now.max(deadline);
            cluster.step(at, Input::Tick);
        }
        _ => unreachable!("{name} is no command of time"),
    }
    Ok(())
}

fn run_network(cluster: &mut Cluster, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<()> {
    match name {
        // deliver [FROM TO [PLACE]]: the packet at that place of the link's queue, the oldest
        // unless told; without arguments, all that are in flight now.
        "deliver" => match node(args) {
            Ok(from) => cluster.deliver(from, node(args)?, number(args.next_pos(), 0)?),
            Err(_) => cluster.deliver_round(),
        },
        // settle: delivers until nothing is in flight.
        "settle" => cluster.settle(),
        // drop FROM TO [PLACE]: loses a packet.
        "drop" => cluster.lose(node(args)?, node(args)?, number(args.next_pos(), 0)?),
        // duplicate FROM TO: doubles the oldest packet of a link, at the end of the queue.
        "duplicate" => {
            let queue = cluster.network.entry((node(args)?, node(args)?)).or_default();
            queue.extend(queue.front().cloned());
        }
        // hold FROM TO: delays what is in flight until release FROM TO.
        "hold" => cluster.hold(node(args)?, node(args)?),
        "release" => cluster.release(node(args)?, node(args)?),
        // partition NODE..: cuts these nodes off from the others, not from each other.
        "partition" => {
            let side: Vec<NodeId> = std::iter::from_fn(|| node(args).ok()).collect();
            cluster.partition(&side);
        }
        // cut FROM TO: one direction of a link loses everything.
        "cut" => {
            cluster.cut.insert((node(args)?, node(args)?));
        }
        // heal: all links work again.
        "heal" => cluster.cut.clear(),
        _ => unreachable!("{name} is no command of the network"),
    }
    Ok(())
}

/// What nodes promise each other.
fn run_liveness(cluster: &mut Cluster, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<()> {
    match name {
        // support NODE PEER: the node supports the peer, at the next epoch if it had withdrawn, and
        // the peer learns of it.
        "support" => cluster.support(node(args)?, node(args)?),
        // fail NODE: its replica stops for good, and says so; the node lives on.
        "fail" => cluster.fail(node(args)?),
        // withdraw NODE PEER: the node supports the peer no longer.
        "withdraw" => cluster.withdraw(node(args)?, node(args)?),
        // lapse NODE PEER: the node has not heard for too long that the peer supports it.
        "lapse" => cluster.lapse(node(args)?, node(args)?),
        // lease NODE PEER MS: the node may rely on the peer's support for so long, by its clock.
        "lease" => {
            let (at, peer) = (node(args)?, node(args)?);
            cluster.lease(at, peer, Duration::from_millis(number(args.next_pos(), 100)?));
        }
        // expire: over links that are cut either way, and to nodes that are down, all support
        // lapses and is withdrawn. renew: all others support each other.
        "expire" => cluster.expire(),
        "renew" => cluster.renew(),
        // confirm NODE [PEER..]: the node opens a round, and these answer it; without peers, all
        // that are up and reachable both ways.
        "confirm" | "open" => {
            let at = node(args)?;
            let named: Vec<_> = std::iter::from_fn(|| node(args).ok()).collect();
            let peers = if named.is_empty() { cluster.linked(at) } else { named };
            match name {
                "confirm" => cluster.confirm(at, &peers),
                // open NODE [PEER..]: the same, but they have yet to answer.
                _ => cluster.open_round(at, &peers),
            }
        }
        // answer NODE PEER: the node answers the oldest question of the peer. hear NODE PEER: the
        // oldest answer of the peer arrives.
        "answer" => cluster.answer_round(node(args)?, node(args)?),
        "hear" => cluster.hear_round(node(args)?, node(args)?),
        _ => unreachable!("{name} is no command of liveness"),
    }
    Ok(())
}

fn node(args: &mut ArgumentConsumer<'_>) -> Result<NodeId> {
    Ok(NodeId(args.next_pos().ok_or("a node is missing")?.parse()?))
}

fn change(text: impl AsRef<str>) -> Result<Change> {
    let (kind, node) = text.as_ref().split_once('-').ok_or("a node is missing")?;
    let node = NodeId(node.parse()?);
    match kind {
        "add" => Ok(Change::AddLearner(node)),
        "promote" => Ok(Change::Promote(node)),
        "demote" => Ok(Change::Demote(node)),
        "remove" => Ok(Change::Remove(node)),
        "prefer" => Ok(Change::Prefer(node)),
        other => Err(format!("{other} is no change").into()),
    }
}

fn number<T: std::str::FromStr>(text: Option<&str>, default: T) -> Result<T>
where
    T::Err: Error + 'static,
{
    Ok(text.map(str::parse).transpose()?.unwrap_or(default))
}

/// Makes a test of each script.
macro_rules! scripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let path = concat!("tests/scripts/", stringify!($name));
            goldenscript::run(&mut Script::default(), path).expect("the script runs");
        }
    )*

        #[test]
        fn every_script_is_run() {
            let known = [$(stringify!($name)),*];
            for file in std::fs::read_dir("tests/scripts").expect("the scripts are here") {
                let name = file.expect("readable").file_name();
                assert!(known.iter().any(|known| *known == name), "{name:?} has no test");
            }
        }
    };
}

scripts! {
    backup_known_term
    backup_short_log
    backup_unknown_term
    bond_of_old_run
    bond_outlives_term
    bond_restart
    bond_told_in_term
    bridge
    broken_links
    busy
    check_quorum
    commit_word
    commits_unwritten
    dead_follower
    defended_leader
    durability
    early_candidate
    election
    figure_7
    figure_8
    fortify
    inflight_limits
    late_messages
    late_refusal
    late_transfer_vote
    load_compacted
    load_nothing
    loss
    may_lead
    members_all_replaced
    members_before_noop
    members_gone
    members_joint_counts
    members_leader_dies
    members_leader_goes
    members_leader_stays_joint
    members_learner_asked
    members_learner_votes
    members_no_quorum
    members_not_caught_up
    members_only_voter_bound
    members_outgoing
    members_prefer
    members_readded
    members_refused
    members_removed_leader
    members_replace
    members_restart_joint
    members_snapshot
    members_truncated
    old_leader
    pipelining
    pre_vote
    pre_vote_late
    pre_vote_of_lost_term
    read_abdicated
    read_before_noop
    read_deposed
    read_follower
    read_lease
    read_round
    resign
    resign_late
    resign_later_epoch
    restart
    restart_applied
    single_voter
    snapshot
    snapshot_late_ack
    snapshot_lost
    snapshot_restart
    snapshot_stale
    split_vote
    stranded_terms
    support_lost
    support_renewed
    transfer
    transfer_gives_up
    transfer_successor_ends
    unapplied
    unfounded
    vote_once
    vote_while_bound
}
