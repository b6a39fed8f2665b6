//! A replica as an actix actor: its inbox, and the glue between mailbox and [`Group`].

use crate::group::{Attention, Group, GroupEvent};
use crate::turn::Turn;
use crate::view::GroupView;
use crate::worker::{Flush, Flusher};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use logboat_raft::{Mark, NodeId, RoleKind};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// "Your inbox is no longer empty." Sent once a turn, however much arrives.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// What the worker keeps of a replica: enough to know whether to wake it.
pub(crate) struct Seat {
    address: Addr<GroupActor>,
    inbox: RefCell<Vec<GroupEvent>>,
    woken: Cell<bool>,
    pub(crate) durable: Cell<Mark>,
    pub(crate) attention: Cell<Attention>,
    pub(crate) view: Arc<GroupView>,
    pub(crate) peers: Box<[NodeId]>,
    pub(crate) preferred: bool,
}

impl Seat {
    pub(crate) fn new(
        address: Addr<GroupActor>,
        attention: Attention,
        view: Arc<GroupView>,
        peers: Box<[NodeId]>,
        preferred: bool,
    ) -> Rc<Self> {
        Rc::new(Self {
            address,
            inbox: RefCell::default(),
            woken: Cell::new(false),
            durable: Cell::default(),
            attention: Cell::new(attention),
            view,
            peers,
            preferred,
        })
    }

    /// Whether this replica is the first to campaign and nobody leads. Asking again every interval
    /// costs little and disturbs nobody, since a campaign begins with a pre-vote; one that is past
    /// that takes its course.
    pub(crate) fn may_campaign(&self) -> bool {
        self.preferred
            && self.view.leader().is_none()
            && matches!(self.view.role(), RoleKind::Follower | RoleKind::PreCandidate)
    }

    /// Puts `event` into the replica's inbox and wakes it.
    pub(crate) fn post(&self, event: GroupEvent) {
        self.inbox.borrow_mut().push(event);
        self.wake();
    }

    /// Has the replica run in this turn.
    pub(crate) fn wake(&self) {
        if !self.woken.replace(true) {
            self.address.do_send(Wake);
        }
    }
}

/// The actor of one replica.
pub(crate) struct GroupActor {
    group: Group,
    seat: Rc<Seat>,
    turn: Rc<RefCell<Turn>>,
    flusher: Addr<Flusher>,
}

impl GroupActor {
    /// Starts the actor on this thread's arbiter; `seat` makes its seat once its address is known.
    pub(crate) fn start_in(
        group: Group,
        turn: Rc<RefCell<Turn>>,
        flusher: Addr<Flusher>,
        seat: impl FnOnce(Addr<Self>) -> Rc<Seat>,
    ) -> Rc<Seat> {
        let mut made = None;
        Self::create(|context| {
            context.set_mailbox_capacity(1);
            let seat = seat(context.address());
            made = Some(Rc::clone(&seat));
            Self { group, seat, turn, flusher }
        });
        made.expect("actix calls the constructor at once")
    }
}

impl Actor for GroupActor {
    type Context = Context<Self>;
}

impl Handler<Wake> for GroupActor {
    type Result = ();

    fn handle(&mut self, Wake: Wake, _context: &mut Context<Self>) {
        self.seat.woken.set(false);
        let events = self.seat.inbox.take();
        let mut turn = self.turn.borrow_mut();
        self.group.run(&mut turn, self.seat.durable.get(), events.into_iter());
        self.seat.attention.set(self.group.attention());
        if !turn.is_empty() && !turn.flush_requested {
            turn.flush_requested = true;
            self.flusher.do_send(Flush { done: None });
        }
    }
}
