//! What a replica repeats until it is answered: that it leads no more, and that others are gone.
//! And whether it is gone itself.

use crate::{Payload, ReplicaAddress, ReplicaId, Resignation, Support, Term, Time};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

/// The most removed replicas that are reminded at a time. Who is forgotten learns that it is gone
/// when it says something.
const MOST_REMOVED: usize = 16;

/// What a replica has to say until it is answered.
#[derive(Debug)]
pub(crate) struct Parting {
    /// The last term in which this replica may have led, since its node started. Zero if in none.
    led: Term,
    /// Whether it has resigned from that term.
    has_resigned: bool,
    /// What is still to be said. Boxed, since most replicas have nothing to say.
    words: Option<Box<Words>>,
}

/// What is still to be said.
#[derive(Debug, Default)]
struct Words {
    /// The resignation from the last term in which this replica led.
    resignation: Option<Resignation>,
    /// The replicas that this one, as a leader, saw removed from the group, and what they are told.
    removed: Vec<(ReplicaAddress, Payload)>,
    /// When to repeat all that.
    repeat_at: Time,
    /// The smallest id that may live in the place of this replica, if the group is without it for
    /// good. It takes no further step then.
    gone: Option<ReplicaId>,
    /// Whether the caller knows that.
    is_gone_told: bool,
}

impl Parting {
    /// Of a replica that starts. It may have led in `led` in the same run of its node.
    pub(super) const fn new(led: Term) -> Self {
        Self { led, has_resigned: false, words: None }
    }

    /// The last term in which this replica may have led.
    pub(crate) const fn led(&self) -> Term {
        self.led
    }

    /// This replica leads.
    pub(crate) fn leads(&mut self, term: Term) {
        (self.led, self.has_resigned) = (term, false);
        if let Some(words) = &mut self.words {
            words.resignation = None;
        }
        self.settle();
    }

    /// Whether this replica has yet to say that it leads no more.
    pub(crate) fn owes_resignation(&self) -> bool {
        self.led > Term(0) && !self.has_resigned
    }

    /// Notes a resignation that was sent.
    pub(crate) fn resign(&mut self, resignation: Resignation) {
        self.has_resigned = true;
        self.words().resignation = Some(resignation);
        self.settle();
    }

    /// Resigns to these as well: they got to know this replica as their leader by a configuration
    /// that is no more.
    pub(super) fn resign_to(&mut self, id: ReplicaId, term: Term, dropped: Vec<ReplicaAddress>) {
        if self.led > Term(0) && !dropped.is_empty() {
            let led = self.led;
            let words = self.words();
            let before = words.resignation.take().map(Resignation::into_peers);
            let peers = before.into_iter().flatten().chain(dropped);
            words.resignation = Some(Resignation::new(id, led, term, peers));
        }
    }

    /// A replica answers that it leads nothing by this one any more.
    pub(crate) fn resigned(&mut self, from: ReplicaAddress, term: Term) {
        if let Some(words) = &mut self.words {
            if let Some(resignation) = &mut words.resignation {
                resignation.answered(from, term);
            }
            self.settle();
        }
    }

    /// Notes a replica that is gone and has to be told so.
    pub(crate) fn removed(&mut self, address: ReplicaAddress, word: Payload) {
        let removed = &mut self.words().removed;
        removed.retain(|(it, _)| it.node != address.node);
        if removed.len() == MOST_REMOVED {
            removed.remove(0);
        }
        removed.push((address, word));
    }

    /// A replica is no more, by the word of its tombstone.
    pub(crate) fn left(&mut self, from: ReplicaAddress) {
        if let Some(words) = &mut self.words {
            words.removed.retain(|(it, _)| *it != from);
            self.settle();
        }
    }

    /// The group is without this replica for good.
    pub(crate) fn go(&mut self, floor: ReplicaId) {
        self.words().gone.get_or_insert(floor);
    }

    /// Whether the group is without this replica for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.words.as_ref().is_some_and(|words| words.gone.is_some())
    }

    /// The smallest id that may live in the place of this replica, if that is news.
    pub(crate) fn tell_gone(&mut self) -> Option<ReplicaId> {
        let words = self.words.as_mut().filter(|words| words.gone.is_some())?;
        let is_told = mem::replace(&mut words.is_gone_told, true);
        words.gone.filter(|_| !is_told)
    }

    /// When to say again what was not answered. Nobody is told anything whose node does not support
    /// this one.
    pub(crate) fn deadline(&self, support: &Support) -> Option<Time> {
        let words = self.words.as_ref()?;
        words.payloads(support).next().map(|_| words.repeat_at)
    }

    /// If it is time to repeat what was not answered, that.
    pub(crate) fn due(
        &mut self,
        support: &Support,
        now: Time,
        timeout: Duration,
    ) -> Vec<(ReplicaAddress, Payload)> {
        match &mut self.words {
            Some(words) if words.repeat_at <= now => {
                words.repeat_at = now + timeout;
                words.payloads(support).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Notes that something was said just now.
    pub(crate) fn said(&mut self, now: Time, timeout: Duration) {
        if let Some(words) = &mut self.words {
            words.repeat_at = now + timeout;
        }
    }

    /// Whether there is something to say to anybody, reachable or not.
    pub(crate) const fn has_words(&self) -> bool {
        self.words.is_some()
    }

    fn words(&mut self) -> &mut Words {
        self.words.get_or_insert_default()
    }

    /// Drops what was said and answered.
    fn settle(&mut self) {
        if let Some(words) = &mut self.words {
            words.resignation.take_if(|resignation| resignation.is_over());
            let is_over = words.resignation.is_none() && words.removed.is_empty();
            self.words.take_if(|words| is_over && words.gone.is_none());
        }
    }
}

impl Words {
    fn payloads(&self, support: &Support) -> impl Iterator<Item = (ReplicaAddress, Payload)> {
        let resignation = self.resignation.iter().flat_map(|it| it.payloads(support));
        let lives = |(it, _): &&(ReplicaAddress, _)| support.support_from(it.node).is_some();
        resignation.chain(self.removed.iter().filter(lives).cloned())
    }
}
