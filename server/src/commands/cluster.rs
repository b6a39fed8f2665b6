//! CLUSTER, READONLY, READWRITE, ASKING: for clients that go to the leader of a slot by themselves.
//!
//! Any node takes any key. So a client is told that a slot is elsewhere only if it has asked for
//! the topology on this connection, and only if one group has the whole slot.

use super::arguments;
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::introspection::help;
use super::list;
use super::pages::PageMemory;
use super::scan::{KEYS_A_QUERY, page_bytes};
use super::table::{Cluster, Name, Spec};
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, Query};
use crate::layout::{CLUSTER_SLOTS, Partition, cluster_slot, in_slot};
use crate::resp::Reply;
use crate::topology::{SlotSpan, Topology, TopologyNode};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Carries out a subcommand.
pub(super) async fn execute<B: Backend>(
    context: &mut Context<'_, B>,
    command: Cluster,
    arguments: &[Bytes],
) -> Outcome {
    if !context.backend.has_topology() {
        return Err(CommandError::NoCluster);
    }
    match command {
        Cluster::CountKeysInSlot => return count_keys(context, arguments).await,
        Cluster::GetKeysInSlot => return get_keys(context, arguments).await,
        Cluster::Help => return Ok(help("cluster")),
        Cluster::KeySlot => return Ok(Reply::Integer(cluster_slot(&arguments[0]).into())),
        Cluster::Nodes | Cluster::Shards | Cluster::Slots => context.session.follows_slots = true,
        Cluster::Info | Cluster::MyId | Cluster::MyShardId | Cluster::Replicas => {}
    }
    let topology = context.backend.topology().await.ok_or(CommandError::NoCluster)?;
    match command {
        Cluster::Info => Ok(info(&topology)),
        Cluster::MyId | Cluster::MyShardId => Ok(Reply::text(name_of(topology.me))),
        Cluster::Nodes => Ok(nodes(&topology)),
        Cluster::Replicas => replicas(&topology, &arguments[0]),
        Cluster::Shards => Ok(shards(&topology)),
        _ => Ok(slots(&topology)),
    }
}

/// READONLY, READWRITE and ASKING. A read is linearizable wherever it is sent.
pub(super) fn mode<B: Backend>(context: &mut Context<'_, B>, name: Name) -> Outcome {
    if !context.backend.has_topology() {
        return Err(CommandError::NoCluster);
    }
    match name {
        Name::ReadOnly => context.session.read_anywhere(true),
        Name::ReadWrite => context.session.read_anywhere(false),
        _ => {}
    }
    Ok(Reply::OK)
}

/// Tells a client that follows the slots where the keys of its command are.
pub(super) fn check_slot<B: Backend>(
    context: &Context<'_, B>,
    spec: &Spec,
    request: &[Bytes],
) -> Result<(), CommandError> {
    let (backend, session) = (context.backend, &*context.session);
    if backend.partition() != Partition::Slots || session.reads_anywhere && spec.is_readonly() {
        return Ok(());
    }
    let mut keys = spec.keys.of(request);
    let Some(first) = keys.next() else { return Ok(()) };
    let (range, stored) = context.locate(first);
    let slot = Partition::Slots.stored_slot(&stored) >> 2;
    let is_whole = || {
        let (start, end) = backend.bounds(range);
        let next = (slot + 1 < CLUSTER_SLOTS).then(|| in_slot((slot + 1) << 2, b""));
        start <= in_slot(slot << 2, b"")
            && end.is_none_or(|end| next.is_some_and(|next| next <= end))
    };
    match backend.led_elsewhere(range) {
        Some(address) if is_whole() && keys.all(|key| context.locate(key).0 == range) => {
            Err(CommandError::Moved { slot, host: address.host, port: address.port })
        }
        _ => Ok(()),
    }
}

/// The name of a node, of the form that clients expect.
fn name_of(node: u64) -> String {
    format!("{node:040x}")
}

fn node_of(topology: &Topology, id: u64) -> Option<&TopologyNode> {
    topology.nodes.iter().find(|node| node.id == id)
}

/// CLUSTER SLOTS
fn slots(topology: &Topology) -> Reply {
    let node = |id: &u64| {
        let TopologyNode { id, address, .. } = node_of(topology, *id)?;
        Some(Reply::Array(vec![
            Reply::text(&*address.host),
            Reply::Integer(address.port.into()),
            Reply::text(name_of(*id)),
            Reply::Array(Vec::new()),
        ]))
    };
    let span = |SlotSpan { slots, leader, others }: &SlotSpan| {
        let bounds = [*slots.start(), *slots.end()].map(|slot| Reply::Integer(slot.into()));
        let nodes = std::iter::once(leader).chain(others).filter_map(node);
        Reply::Array(bounds.into_iter().chain(nodes).collect())
    };
    Reply::Array(topology.spans.iter().map(span).collect())
}

/// CLUSTER SHARDS: those with the same leader and the same replicas are one
fn shards(topology: &Topology) -> Reply {
    let mut shards: BTreeMap<(u64, &[u64]), Vec<Reply>> = BTreeMap::new();
    for SlotSpan { slots, leader, others } in &topology.spans {
        let bounds = [*slots.start(), *slots.end()].map(|slot| Reply::Integer(slot.into()));
        shards.entry((*leader, others)).or_default().extend(bounds);
    }
    let entry = |key: &str, value| (Reply::text(key), value);
    let node = |id: u64, role: &str| {
        let TopologyNode { id, address, is_reached } = node_of(topology, id)?;
        let health = if *is_reached { "online" } else { "failed" };
        Some(Reply::Map(vec![
            entry("id", Reply::text(name_of(*id))),
            entry("port", Reply::Integer(address.port.into())),
            entry("ip", Reply::text(&*address.host)),
            entry("endpoint", Reply::text(&*address.host)),
            entry("role", Reply::text(role)),
            entry("replication-offset", Reply::Integer(0)),
            entry("health", Reply::text(health)),
        ]))
    };
    let shard = |((leader, others), slots): ((u64, &[u64]), Vec<Reply>)| {
        let replicas = others.iter().filter_map(|id| node(*id, "replica"));
        let nodes = node(leader, "master").into_iter().chain(replicas);
        Reply::Map(vec![
            entry("slots", Reply::Array(slots)),
            entry("nodes", Reply::Array(nodes.collect())),
        ])
    };
    Reply::Array(shards.into_iter().map(shard).collect())
}

/// CLUSTER NODES: every node as a master with the slots that it leads
fn nodes(topology: &Topology) -> Reply {
    let mut text = String::new();
    for TopologyNode { id, address, is_reached } in &topology.nodes {
        let myself = if *id == topology.me { "myself," } else { "" };
        let failed = if *is_reached { "" } else { ",fail" };
        let link = if *is_reached { "connected" } else { "disconnected" };
        let (name, host, port) = (name_of(*id), &address.host, address.port);
        // Writing to a string cannot fail.
        let _ =
            write!(text, "{name} {host}:{port}@{port} {myself}master{failed} - 0 0 {id} {link}");
        for span in topology.spans.iter().filter(|span| span.leader == *id) {
            let (first, last) = (span.slots.start(), span.slots.end());
            let _ = match first == last {
                true => write!(text, " {first}"),
                false => write!(text, " {first}-{last}"),
            };
        }
        text.push('\n');
    }
    Reply::Verbatim(Bytes::from(text))
}

/// CLUSTER INFO
fn info(topology: &Topology) -> Reply {
    let is_led = |id: u64| node_of(topology, id).is_some_and(|node| node.is_reached);
    let count = |span: &SlotSpan| usize::from(span.slots.end() - span.slots.start()) + 1;
    let led = topology.spans.iter().filter(|span| is_led(span.leader));
    let led: usize = led.map(count).sum();
    let all = usize::from(CLUSTER_SLOTS);
    let state = if led == all { "ok" } else { "fail" };
    let known = topology.nodes.len();
    let text = format!(
        "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{all}\r\n\
         cluster_slots_ok:{led}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\n\
         cluster_known_nodes:{known}\r\ncluster_size:{known}\r\ncluster_current_epoch:{known}\r\n\
         cluster_my_epoch:{}\r\ncluster_stats_messages_sent:0\r\n\
         cluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n",
        all - led,
        topology.me,
    );
    Reply::Verbatim(Bytes::from(text))
}

/// CLUSTER REPLICAS node-id
fn replicas(topology: &Topology, name: &[u8]) -> Outcome {
    match topology.nodes.iter().any(|node| name_of(node.id).as_bytes() == name) {
        true => Ok(Reply::Array(Vec::new())),
        false => {
            let name = arguments::text(name);
            Err(CommandError::Other(format!("Unknown node {name}")))
        }
    }
}

/// CLUSTER COUNTKEYSINSLOT slot
async fn count_keys<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (mut memory, mut count) = (PageMemory::new(context)?, 0);
    let mut stretches = stretches_of(context, slot(&arguments[0])?);
    while !stretches.is_empty() {
        let queries = stretches.iter().map(|it| it.query(KEYS_A_QUERY, false)).collect();
        let page_bytes = context.backend.limits().max_key_bytes;
        let mut rest = Vec::new();
        for (stretch, answer) in
            stretches.into_iter().zip(memory.read_each(context, queries, page_bytes).await?)
        {
            let Answer::Stretch { count: more, last, .. } = answer else {
                return Err(CommandError::Mismatch);
            };
            count += more;
            rest.extend(stretch.behind(last));
        }
        stretches = rest;
    }
    Ok(Reply::Integer(count as i64))
}

/// CLUSTER GETKEYSINSLOT slot count
async fn get_keys<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let slot = slot(&arguments[0])?;
    let invalid = || CommandError::Other("Invalid number of keys".into());
    let wanted = usize::try_from(arguments::integer(&arguments[1])?).map_err(|_| invalid())?;
    let (mut memory, mut found, mut bytes) = (PageMemory::new(context)?, Vec::new(), 0);
    for stretch in stretches_of(context, slot) {
        let mut rest = Some(stretch);
        while let Some(stretch) = rest.take_if(|_| found.len() < wanted) {
            let missing = (wanted - found.len()) as u64;
            let query = stretch.query(KEYS_A_QUERY.min(missing), true);
            let answers = memory.read_each(context, vec![query], page_bytes(context)).await?;
            let Some(Answer::Stretch { keys, last, .. }) = answers.into_iter().next() else {
                return Err(CommandError::Mismatch);
            };
            bytes += keys.iter().map(Bytes::len).sum::<usize>();
            let limit = context.reply_limit();
            if bytes > limit {
                return Err(CommandError::ReplyTooLong { limit });
            }
            found.extend(keys);
            rest = stretch.behind(last);
        }
    }
    list::reply_of(context, found, memory.into_reservation())
}

fn slot(argument: &[u8]) -> Result<u16, CommandError> {
    let slot = u16::try_from(arguments::integer(argument)?).ok();
    let invalid = || CommandError::Other("Invalid slot".into());
    slot.filter(|slot| *slot < CLUSTER_SLOTS).ok_or_else(invalid)
}

/// What a range may have of the keys of a slot.
struct Stretch {
    range: RangeId,
    partition: Partition,
    start: Bytes,
    after_start: bool,
    end: Option<Bytes>,
}

impl Stretch {
    fn query(&self, limit_keys: u64, with_names: bool) -> (RangeId, Query) {
        let Self { range, partition, ref start, after_start, ref end } = *self;
        let (start, end) = (start.clone(), end.clone());
        (range, Query::Stretch { partition, start, after_start, end, limit_keys, with_names })
    }

    /// What is left of it behind the last key that was looked at.
    fn behind(self, last: Option<Bytes>) -> Option<Self> {
        last.map(|start| Self { start, after_start: true, ..self })
    }
}

/// Where the keys of a slot are.
fn stretches_of<B: Backend>(context: &Context<'_, B>, slot: u16) -> Vec<Stretch> {
    let (backend, partition) = (context.backend, context.backend.partition());
    let mut stretches = Vec::new();
    for stretch in partition.stretches_of(slot) {
        let edge = |prefix: u32| u16::try_from(prefix).ok().map(|prefix| in_slot(prefix, b""));
        let (start, end) = (edge(stretch.start).unwrap_or_default(), edge(stretch.end));
        let first = backend.range_of(&start).0;
        let ranges = (first..backend.ranges()).map(RangeId).take_while(|range| {
            let begin = backend.bounds(*range).0;
            range.0 == first || end.as_ref().is_none_or(|end| begin < *end)
        });
        stretches.extend(ranges.map(|range| {
            let (start, end) = (start.clone(), end.clone());
            Stretch { range, partition, start, after_start: false, end }
        }));
    }
    stretches
}
