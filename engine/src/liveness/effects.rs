//! How the effects of a node's liveness are carried out: in which order the log, the workers and
//! the peers hear of them.

use crate::liveness::protocol::Effect;
use logboat_raft::{BootCount, Epoch, Grant, Lease, NodeId, SupportMessage, SupportSettings};

/// Grants to write, each with the node that it is about.
pub type Grants = Vec<(NodeId, Grant)>;

/// Messages to send, each with its receiver.
pub type Sends = Vec<(NodeId, SupportMessage)>;

/// Who hears of the effects.
pub trait Surroundings {
    /// The log is to write `grants`. The `promises` are sent when all that was written up to now is
    /// durable.
    fn submit(&mut self, grants: Grants, promises: Sends);

    /// The workers learn that this node supports `peer` at this epoch from now on, or no longer.
    fn support_for_changed(&mut self, peer: NodeId, epoch: Option<Epoch>);

    /// The workers learn that `peer` supports this node at this epoch, or may no longer do so.
    fn support_from_changed(&mut self, peer: NodeId, epoch: Option<Epoch>);

    /// The support of `peer` lasts for so long.
    fn lease(&mut self, peer: NodeId, lease: Lease);

    /// `peer` has other settings than this node.
    fn settings_differ(&mut self, peer: NodeId, settings: SupportSettings);

    /// `peer` claims to have started so often, which is not believed.
    fn implausible(&mut self, peer: NodeId, boot: BootCount);
}

/// Carries out `effects` in their order, but for what is to be sent at once, which is returned.
///
/// A withdrawal is handed to the log before any worker hears of it. So no vote that rests on it is
/// durable before it is.
pub fn carry_out(
    effects: impl IntoIterator<Item = Effect>,
    surroundings: &mut impl Surroundings,
) -> Sends {
    let mut sends = Sends::new();
    let mut unwritten = Unwritten::default();
    for effect in effects {
        match effect {
            Effect::Persist(node, grant) => unwritten.grants.push((node, grant)),
            Effect::Send(to, message) => sends.push((to, message)),
            Effect::SendWhenDurable(to, message) => unwritten.promises.push((to, message)),
            Effect::SupportForChanged(peer, epoch) => {
                unwritten.submit(surroundings);
                surroundings.support_for_changed(peer, epoch);
            }
            Effect::SupportFromChanged(peer, epoch) => {
                surroundings.support_from_changed(peer, epoch);
            }
            Effect::Lease(peer, lease) => surroundings.lease(peer, lease),
            Effect::SettingsDiffer(peer, settings) => surroundings.settings_differ(peer, settings),
            Effect::Implausible(peer, boot) => surroundings.implausible(peer, boot),
        }
    }
    unwritten.submit(surroundings);
    sends
}

/// What the log has not been handed yet.
#[derive(Default)]
struct Unwritten {
    grants: Grants,
    promises: Sends,
}

impl Unwritten {
    fn submit(&mut self, surroundings: &mut impl Surroundings) {
        let Self { grants, promises } = std::mem::take(self);
        if !grants.is_empty() || !promises.is_empty() {
            surroundings.submit(grants, promises);
        }
    }
}
