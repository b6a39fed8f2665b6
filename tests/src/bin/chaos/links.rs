//! The ways between nodes, whatever they are made of.

use crate::bridge::Bridge;
use crate::link::{Link, State};
use clap::ValueEnum;
use logboat_tests::process::{Cluster, NetworkNamespace, free_ports};
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// What the links between nodes are to be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinkKind {
    /// A proxy in front of each node's port for each of its peers.
    Proxy,
    /// Network namespaces that are joined by a bridge, which takes root and the program `ip`.
    Namespaces,
    /// Namespaces if this machine allows them, else proxies.
    Auto,
}

/// The links between the nodes of a cluster.
pub(crate) enum Links {
    /// From which node to which, counted from 0 on.
    Proxies(BTreeMap<(usize, usize), Link>),
    /// With so many nodes, and places to spare behind theirs.
    Bridge { bridge: Bridge, nodes: usize },
}

impl Links {
    /// Has the nodes of a cluster, of which none runs yet, reach each other through links, and says
    /// which. With namespaces, only the calling thread and those that it starts from now on reach
    /// the nodes, and there are places to spare for others.
    pub(crate) fn put(
        cluster: &mut Cluster,
        kind: LinkKind,
        spare_places: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let places = cluster.nodes.len() + spare_places;
        let bridge = match kind {
            LinkKind::Proxy => None,
            LinkKind::Namespaces => Some(Bridge::build(places)?),
            LinkKind::Auto => Bridge::build(places)
                .inspect_err(|error| println!("no network namespaces: {error}"))
                .ok(),
        };
        if let Some(bridge) = bridge {
            println!("links: network namespaces on a bridge");
            join(cluster, &bridge, spare_places > 0)?;
            return Ok(Self::Bridge { bridge, nodes: cluster.nodes.len() });
        }
        println!("links: proxies");
        Ok(Self::Proxies(put_proxies(cluster)?))
    }

    /// Changes how the link from one node to another is.
    pub(crate) fn set(&mut self, from: usize, to: usize, state: State) -> io::Result<()> {
        match self {
            Self::Proxies(links) => links[&(from, to)].set(state),
            Self::Bridge { bridge, .. } => bridge.set(from, to, state)?,
        }
        Ok(())
    }

    /// Opens all links.
    pub(crate) fn open_all(&mut self) -> io::Result<()> {
        match self {
            Self::Proxies(links) => links.values().for_each(|link| link.set(State::Open)),
            Self::Bridge { bridge, .. } => bridge.open_all()?,
        }
        Ok(())
    }

    /// Where a node is to run that joins, counted from 0 on. None where all do in one place.
    pub(crate) fn spare_place(&self, spare: usize) -> Option<(Arc<NetworkNamespace>, Ipv4Addr)> {
        match self {
            Self::Proxies(_) => None,
            Self::Bridge { bridge, nodes } => Some(bridge.place(nodes + spare)),
        }
    }
}

/// Puts every node into its place on the bridge. Who is to order its admin pages about reaches them
/// in the network of the node alone.
fn join(cluster: &mut Cluster, bridge: &Bridge, takes_orders: bool) -> Result<(), Box<dyn Error>> {
    let addresses = members(cluster)?.into_iter().enumerate();
    let members = addresses
        .map(|(node, address)| format!("{}={}:{}", node + 1, bridge.place(node).1, address.port()))
        .collect::<Vec<_>>()
        .join(",");
    for (place, node) in cluster.nodes.iter_mut().enumerate() {
        let (namespace, host) = bridge.place(place);
        let spec = node.spec_mut();
        spec.cluster.clone_from(&members);
        spec.host = host;
        spec.admin_host = if takes_orders { Ipv4Addr::LOCALHOST } else { host };
        spec.namespace = Some(namespace);
    }
    Ok(bridge.enter_as_client()?)
}

/// Has every node reach every other through a proxy of its own.
fn put_proxies(cluster: &mut Cluster) -> Result<BTreeMap<(usize, usize), Link>, Box<dyn Error>> {
    let members = members(cluster)?;
    let mut links = BTreeMap::new();
    for from in 0..members.len() {
        let mut seen = Vec::new();
        for (to, target) in members.iter().enumerate() {
            let address = if from == to {
                *target
            } else {
                let port = free_ports(1)?;
                links.insert((from, to), Link::open(port, *target)?);
                (Ipv4Addr::LOCALHOST, port).into()
            };
            seen.push(format!("{}={address}", to + 1));
        }
        cluster.nodes[from].spec_mut().cluster = seen.join(",");
    }
    Ok(links)
}

/// Where the nodes listen for each other, node 1 first.
fn members(cluster: &Cluster) -> Result<Vec<SocketAddr>, std::net::AddrParseError> {
    let members = cluster.node(1).spec().cluster.split(',');
    members.filter_map(|each| each.split_once('=')).map(|(_, address)| address.parse()).collect()
}
