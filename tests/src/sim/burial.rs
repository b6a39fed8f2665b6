//! Replicas that their groups are without: they are destroyed, and another one waits in their place
//! to be added under a later id.

use super::host::Hardware;
use super::options::Fault;
use super::process::{Process, group_place};
use super::scene::{Event, Scene};
use logboat::internals::{Absent, GoneReplica, GroupEvent};
use logboat_raft::{
    GroupId, LogWrite, Message, NodeId, Persist, ReplicaAddress, Restored, WriteSeq,
};

impl Process {
    /// Ends the replicas of a worker that are gone. Their tombstones are written after all that
    /// they wrote.
    pub(super) fn bury(&mut self, hardware: &Hardware, number: usize, scene: &mut Scene) {
        let worker = &mut self.workers[number];
        for gone in std::mem::take(&mut worker.turn.gone) {
            worker.departed.add(&mut worker.turn, &gone);
            let GoneReplica { group, slot, floor, .. } = gone;
            let (now, node) = (scene.now, hardware.id());
            let text = format_args!("{node} buries its replica of group {group} below {floor}");
            scene.trace.note(now, &[group.0, floor.0.index.0], text);
            let cell = &mut self.cells[slot.index.0 as usize];
            cell.failed = true;
            let address = ReplicaAddress::new(node, cell.group.raft().id());
            scene.checks.destroyed(group_place(group), address);
            self.by_group.remove(&group);
            let log = LogWrite::Tombstone(floor);
            let persist = Persist { seq: WriteSeq::default(), hard_state: None, log };
            scene.checks.writing(hardware.place, group_place(group), &persist);
            worker.turn.writes.push((group, persist));
            worker.buried.push(group);
            // Whoever wants it removed may not know that it is gone.
            if scene.may(Fault::Removal) && scene.random.per_mille(300) {
                scene.count(Fault::Removal);
                let (place, soon) =
                    (slot.index.0 as usize, scene.random.between(1, scene.plan.sync_us));
                scene.after(soon, hardware.target(), Event::Remove { place });
            }
        }
    }

    /// The tombstone of a replica is durable: nothing is left of it, and another one may come.
    pub(super) fn replace(&mut self, hardware: &Hardware, group: GroupId, scene: &mut Scene) {
        self.incoming.forget(group);
        scene.elastic.damaged.remove(&(hardware.place, group));
        if self.storage.snapshots.remove(group).is_err() {
            return assert!(hardware.snapshots.is_cut(), "a snapshot can be removed");
        }
        self.start_group(hardware, group_place(group), Restored::default(), scene);
    }

    /// Hands a message to its replica. For one that is not here, the node answers.
    pub(super) fn hand_over_message(&mut self, from: NodeId, group: GroupId, message: Message) {
        let number = group_place(group) % self.workers.len();
        self.workers[number].departed.receive(from, group, &message);
        if self.by_group.contains_key(&group) {
            return self.post_to_group(group, GroupEvent::Message { from, message });
        }
        // What damage has cost a node stays lost there, and no replica is added again.
        let (tombstone, is_known) = (self.storage.wal.lock().log().tombstone(group), true);
        let turn = &mut self.workers[number].turn;
        Absent { group, tombstone, is_known }.answer(turn, from, &message);
    }
}
