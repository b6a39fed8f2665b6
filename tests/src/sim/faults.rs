//! What goes wrong, and how it ends.

use super::cells::ReplicaCell;
use super::elastic;
use super::forgeries;
use super::host::{CrashPoint, Hardware, Host};
use super::introduction::pose_as;
use super::machine::Breakage;
use super::members;
use super::options::Fault;
use super::process::group_place;
use super::scene::{Event, Heal, Resignation, Scene, Target};
use super::stand_in;
use super::strangers;
use logboat::internals::GroupEvent;
use logboat_raft::{
    BootCount, BootNonce, Incarnation, Introduction, NodeId, ReplicaAddress, RoleKind, Start,
};
use logboat_storage::simulation::Disk;

/// Begins a fault of a random kind on a random node, and puts the next one on the list.
pub(super) fn strike(hosts: &mut [Host], scene: &mut Scene) {
    let wait = scene.random.between(1_000, scene.plan.fault_us);
    scene.after(wait, Target::World, Event::Fault);
    if scene.options.faults.is_empty() {
        return;
    }
    let fault = scene.options.faults[scene.random.place(scene.options.faults.len())];
    let place = pick_place(hosts, scene);
    let numbers = [fault as u64, place as u64];
    scene.trace.note(scene.now, &numbers, format_args!("fault: {fault} at {}", place + 1));
    let lasts = scene.random.between(1_000, 10 * scene.plan.election_us());
    let host = &mut hosts[place];
    let begun = match fault {
        Fault::Crash => crash(host, scene),
        Fault::Pause => {
            host.paused_until = scene.now + lasts;
            true
        }
        Fault::Partition
        | Fault::OneWay
        | Fault::Bridge
        | Fault::Loss
        | Fault::Duplicate
        | Fault::Reorder
        | Fault::SlowLink => {
            disturb_network(fault, place, scene);
            scene.after(lasts, Target::World, Event::Heal(Heal::Network));
            true
        }
        Fault::Disconnect => {
            let peer = scene.random.place(hosts.len());
            scene.disconnect(place, peer);
            peer != place
        }
        Fault::Echo => echo(hosts, scene),
        Fault::Skew | Fault::Jump => disturb_clock(fault, host, lasts, scene),
        Fault::Withdraw => withdraw(host, lasts, scene),
        Fault::BusyWorker => occupy(host, lasts, scene),
        Fault::SlowDisk | Fault::SyncFailure | Fault::DiskFull => {
            disturb_disk(fault, host, lasts, scene)
        }
        Fault::BitFlip => flip(hosts, place, scene),
        // Drawn where a snapshot is written, before the first event, after the last, and where a
        // message arrives.
        Fault::SnapshotFailure | Fault::Settings | Fault::Isolation | Fault::Forgery => false,
        // Counted when the replica comes to it.
        Fault::ReplicaFailure => {
            break_replica(host, scene);
            false
        }
        Fault::Lie => forgeries::lie(hosts, place, scene),
        Fault::Peers => strangers::remove_peer(host, scene),
        Fault::Removal => remove(host, scene),
        Fault::Members => members::change(hosts, scene),
        // Counted when the copy is put back.
        Fault::OldCopy => {
            stand_in::copy(host, scene);
            false
        }
        Fault::Wipe => stand_in::wipe(place, hosts, scene),
        Fault::Impostor => pose(host, scene),
        Fault::Compact => tell(host, GroupEvent::Compact, |_| true, scene),
        Fault::Transfer => {
            let to = NodeId(scene.random.between(1, scene.plan.nodes as u64));
            let leads = |cell: &ReplicaCell| cell.group.raft().role() == RoleKind::Leader;
            tell(host, GroupEvent::Transfer(to), leads, scene)
        }
        _ => elastic::strike(fault, (place, lasts), hosts, scene),
    };
    if begun {
        scene.count(fault);
    }
}

/// A random node. An elastic cluster has places for more than there are.
fn pick_place(hosts: &[Host], scene: &mut Scene) -> usize {
    let is_there = |place: &usize| !scene.plan.elastic || hosts[*place].dead.is_none();
    let places: Vec<usize> = (0..hosts.len()).filter(is_there).collect();
    if places.is_empty() { 0 } else { places[scene.random.place(places.len())] }
}

/// Ends a fault.
pub(super) fn heal(heal: &Heal, hosts: &mut [Host], scene: &mut Scene) {
    match heal {
        // What lasts does not end with what went before.
        Heal::Network if scene.bridged => {}
        Heal::Network => scene.heal_network(),
        Heal::Clock(host) => hosts[*host].hardware.pace(scene.now, 1_000_000),
        Heal::Disk(host) => hosts[*host].hardware.slow_us = 0,
        Heal::Room(host) => {
            hosts[*host].hardware.disk.limit(None);
            hosts[*host].hardware.snapshots.fill(false);
        }
    }
}

/// Ends all faults for good. Nodes that can start again do.
pub(super) fn heal_all(hosts: &mut [Host], scene: &mut Scene) {
    (scene.stormy, scene.bridged) = (false, false);
    scene.heal_network();
    for (place, host) in hosts.iter_mut().enumerate() {
        stand_in::bring_back(host, scene);
        host.hardware.pace(scene.now, 1_000_000);
        host.hardware.slow_us = 0;
        host.hardware.crash_at = None;
        host.hardware.disk.limit(None);
        host.hardware.snapshots.fill(false);
        host.hardware.snapshots.cut_at(None);
        if host.hardware.failing_sync {
            // One that has not come to pass never will.
            host.hardware.disk.fail_sync(u64::MAX / 2);
        }
        host.paused_until = host.paused_until.min(scene.now);
        if let Some(process) = &mut host.process {
            process.unsupported.clear();
            process.know_stranger(&host.hardware, scene);
            process.free_workers(&host.hardware, scene);
            let mut failed = false;
            for cell in &process.cells {
                let mut journal = cell.journal.lock();
                let fails = cell.failed || journal.has_broken;
                journal.breaks = journal.breaks.filter(|_| fails);
                failed |= fails;
            }
            // One whose log failed is started again, or of which a replica did.
            host.hardware.doomed |= process.has_failed() || failed;
        }
        scene.after(1, Target::Host(place), Event::Restart);
    }
}

/// Cuts a minority of the nodes off from the others, in one of several ways, if that was asked for.
/// Returns which nodes are left.
pub(super) fn isolate(scene: &mut Scene) -> Option<Vec<bool>> {
    if !scene.options.faults.contains(&Fault::Isolation) {
        return None;
    }
    scene.count(Fault::Isolation);
    scene.bridged = true;
    let nodes = scene.plan.nodes;
    let lost = scene.random.between(1, (nodes as u64 - 1) / 2) as usize;
    let first = scene.random.place(nodes);
    let is_left = |node: usize| (node + nodes - first) % nodes >= lost;
    let way = scene.random.place(3);
    for from in 0..nodes {
        for to in (0..nodes).filter(|to| is_left(from) != is_left(*to)) {
            let blocked = match way {
                1 => is_left(from),
                2 => is_left(to),
                _ => true,
            };
            scene.link(from, to).blocked = blocked;
            // What is lost in one direction only breaks no connection.
            if way == 0 {
                scene.disconnect(from, to);
            }
        }
    }
    let (now, numbers) = (scene.now, [first as u64, lost as u64, way as u64]);
    scene.trace.note(now, &numbers, format_args!("{lost} from {} on are cut off", first + 1));
    Some((0..nodes).map(is_left).collect())
}

/// Has a replica of a node fail at the next occasion.
fn break_replica(host: &Host, scene: &mut Scene) {
    let Some(process) = host.process.as_ref().filter(|process| !process.cells.is_empty()) else {
        return;
    };
    let cell = &process.cells[scene.random.place(process.cells.len())];
    let breakage = Breakage::ALL[scene.random.place(Breakage::ALL.len())];
    cell.journal.lock().breaks.get_or_insert(breakage);
}

/// A resignation comes once more, to a follower that is bound to the leader anew, in a later term.
fn echo(hosts: &[Host], scene: &mut Scene) -> bool {
    let is_late = |it: &&Resignation| {
        let cell = hosts[it.to].process.as_ref().and_then(|process| process.cell_of(it.group));
        let bond = cell.and_then(|cell| cell.group.raft().fortified());
        bond.is_some_and(|bond| bond.leader == NodeId(it.from as u64 + 1) && bond.term > it.term)
    };
    let late: Vec<_> = scene.resignations.iter().filter(is_late).cloned().collect();
    if late.is_empty() {
        return false;
    }
    let Resignation { from, to, frame: bytes, .. } = late[scene.random.place(late.len())].clone();
    let soon = scene.random.between(1, 100_000);
    scene.after(soon, Target::Host(to), Event::Frame { from, bytes, connection: None });
    true
}

/// A stranger dials a node under the id of another one.
fn pose(at: &Host, scene: &mut Scene) -> bool {
    let claimed = NodeId(scene.random.between(1, scene.plan.nodes as u64));
    let (count, nonce) = (BootCount(scene.random.between(1, 5)), BootNonce(scene.random.next()));
    let incarnation = Incarnation(scene.random.next());
    let newest = Start { count, nonce };
    pose_as(claimed, Introduction { incarnation, newest, ..Introduction::default() }, at)
}

fn crash(host: &mut Host, scene: &mut Scene) -> bool {
    if host.process.is_none() {
        return false;
    }
    let points = CrashPoint::ALL;
    match scene.random.place(points.len() + 2) {
        place if place < points.len() => {
            host.hardware.crash_at = Some(points[place]);
            if points[place] == CrashPoint::SnapshotFile {
                host.hardware.snapshots.cut_at(Some(scene.random.between(1, 12)));
            }
        }
        _ => host.hardware.doomed = true,
    }
    true
}

fn disturb_clock(fault: Fault, host: &mut Host, micros: u64, scene: &mut Scene) -> bool {
    if fault == Fault::Jump {
        if !scene.plan.leases {
            host.hardware.jump(micros);
        }
        return !scene.plan.leases;
    }
    let most = if scene.plan.leases { 40_000 } else { 250_000 };
    let pace = scene.random.between(1_000_000 - most * 4 / 5, 1_000_000 + most);
    host.hardware.pace(scene.now, pace);
    scene.after(micros, Target::World, Event::Heal(Heal::Clock(host.hardware.place)));
    true
}

/// A node takes another for one that has ended, which may be wrong. How long it supports that one
/// is its own affair, but for a lease that it has promised.
fn withdraw(host: &mut Host, lasts: u64, scene: &mut Scene) -> bool {
    let peer = NodeId(scene.random.between(1, scene.plan.nodes as u64));
    match &mut host.process {
        Some(process) if peer != host.hardware.id() => {
            process.withdraw(&mut host.hardware, peer, lasts, scene);
            true
        }
        _ => false,
    }
}

fn occupy(host: &mut Host, lasts: u64, scene: &mut Scene) -> bool {
    let Some(process) = &mut host.process else {
        return false;
    };
    process.occupy(scene.random.place(scene.plan.workers), scene.now + lasts);
    true
}

/// All workers of a node stand still for a while.
pub(super) fn stall(host: usize, lasts: u64, hosts: &mut [Host], scene: &mut Scene) {
    if let Some(process) = &mut hosts[host].process {
        scene.count(Fault::BusyWorker);
        (0..scene.plan.workers).for_each(|worker| process.occupy(worker, scene.now + lasts));
    }
}

/// A sync that is to fail is counted when it does.
fn disturb_disk(fault: Fault, host: &mut Host, lasts: u64, scene: &mut Scene) -> bool {
    let hardware = &mut host.hardware;
    match fault {
        Fault::SyncFailure if hardware.failing_sync => return false,
        Fault::SyncFailure => {
            hardware.failing_sync = true;
            hardware.disk.fail_sync(scene.random.between(1, 20));
            return false;
        }
        Fault::SlowDisk => {
            hardware.slow_us = scene.random.below(3 * scene.plan.election_us());
            scene.after(lasts, Target::World, Event::Heal(Heal::Disk(hardware.place)));
        }
        _ => {
            hardware.disk.limit(Some(0));
            hardware.snapshots.fill(true);
            scene.after(lasts, Target::World, Event::Heal(Heal::Room(hardware.place)));
        }
    }
    true
}

fn disturb_network(fault: Fault, host: usize, scene: &mut Scene) {
    let nodes = scene.plan.nodes;
    let peer = (host + 1 + scene.random.place(nodes - 1)) % nodes;
    let breaks = scene.random.per_mille(500);
    let side = scene.random.next();
    for from in 0..nodes {
        for to in (0..nodes).filter(|to| *to != from) {
            let hit = match fault {
                // Which nodes are on which side; at times only one is alone.
                Fault::Partition if side & 1 == 0 => (from == host) != (to == host),
                Fault::Partition => (side >> (from + 1)) & 1 != (side >> (to + 1)) & 1,
                Fault::OneWay => from == host && (to == peer || side & 1 == 0),
                Fault::Bridge => (from, to) == (host, peer) || (to, from) == (host, peer),
                _ => from == host && (to == peer || side & 1 == 0),
            };
            if !hit {
                continue;
            }
            let (amount, slow) = (scene.random.between(20, 500), scene.random.below(2_000_000));
            let link = scene.link(from, to);
            match fault {
                Fault::Partition | Fault::OneWay | Fault::Bridge => link.blocked = true,
                Fault::Loss => link.loss = amount,
                Fault::Duplicate => link.duplicate = amount,
                Fault::Reorder => link.reorder = true,
                _ => link.slow_us = slow,
            }
            if link.blocked && breaks {
                scene.disconnect(from, to);
            }
        }
    }
}

/// Flips a bit below the durable mark of a node's log, of so few nodes that every group keeps a
/// majority. Which ones do so is not known where members change.
fn flip(hosts: &mut [Host], host: usize, scene: &mut Scene) -> bool {
    // A node that never starts again records nobody.
    if !hosts.iter().all(|host| host.hardware.boot.founded) {
        return false;
    }
    let damaged = hosts.iter().filter(|host| host.hardware.damaged).count();
    let most = (scene.plan.replicas - 1) / 2;
    let Hardware { damaged: is_damaged, original, .. } = &hosts[host].hardware;
    let is_spared = *is_damaged || original.is_some() || scene.plan.members_change;
    if damaged >= most || is_spared {
        return false;
    }
    let Some(process) = &hosts[host].process else {
        return false;
    };
    let wal = process.storage.wal.lock();
    // Until the mark of the last batch is recorded, damage to it passes for a torn tail.
    if wal.log().wants_mark() || wal.log().unsynced().is_some() {
        return false;
    }
    drop(wal);
    let disk = &hosts[host].hardware.disk;
    let mut names = disk.list().expect("a simulated disk lists its files");
    names.retain(|name| name.ends_with(".wal"));
    if names.is_empty() {
        return false;
    }
    let name = &names[scene.random.place(names.len())];
    let content = disk.durable(name);
    let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return false;
    }
    let (offset, bit) = (scene.random.below(used as u64), scene.random.below(8) as u8);
    disk.flip(name, offset, bit);
    hosts[host].hardware.damaged = true;
    scene.trace.note(scene.now, &[offset], format_args!("bit {bit} of {name}:{offset} flips"));
    true
}

/// Has a node remove a replica that its group is without. It may know that or not.
fn remove(host: &mut Host, scene: &mut Scene) -> bool {
    let Some(process) = &host.process else { return false };
    let is_gone = |cell: &&ReplicaCell| {
        let raft = cell.group.raft();
        let address = ReplicaAddress::new(host.hardware.id(), raft.id());
        // One that waits to be added has no true id yet, and is not gone.
        let waits = raft.configuration().members().is_empty();
        !waits && !cell.failed && scene.checks.is_gone(group_place(cell.id), address)
    };
    let gone = process.cells.iter().position(|cell| is_gone(&cell));
    if let Some(place) = gone {
        scene.after(1, host.hardware.target(), Event::Remove { place });
    }
    gone.is_some()
}

/// Tells something to a random replica of a node, of those that `fits`.
fn tell(
    host: &mut Host,
    event: GroupEvent,
    fits: fn(&ReplicaCell) -> bool,
    scene: &mut Scene,
) -> bool {
    let Some(process) = &mut host.process else {
        return false;
    };
    let fitting = (0..process.cells.len()).filter(|place| fits(&process.cells[*place]));
    let fitting: Vec<usize> = fitting.collect();
    if fitting.is_empty() {
        return false;
    }
    process.post(fitting[scene.random.place(fitting.len())], event);
    process.schedule_turns(&host.hardware, scene);
    true
}
