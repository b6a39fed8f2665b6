//! The ticker of a node: drives its liveness, with a heartbeat to each peer, and wakes the workers
//! whose timers have come. While no worker has a timer, it sleeps from one heartbeat to the next:
//! groups at rest (quiesced, hibernating) have none.

use crate::admission::pacer::Pacer;
use crate::background::guard::Guard;
use crate::founding::Founder;
use crate::liveness::manager::LivenessManager;
use crate::worker::alarms::{Alarms, Wake};
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use actix::{Actor, AsyncContext, Context, Handler, SpawnHandle};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the clock is looked at in an interval of heartbeats while somebody has a deadline,
/// which is how finely timeouts are told apart.
const LOOKS_AN_INTERVAL: u32 = 10;

/// How often what is let in is paced, and leaderships are evened out a little.
const PACE_INTERVAL: Duration = Duration::from_millis(250);

/// The actor that looks at the clock.
pub(crate) struct Ticker {
    workers: Workers,
    alarms: Arc<Alarms>,
    liveness: Arc<LivenessManager>,
    founder: Arc<Founder>,
    heartbeat_interval: Duration,
    /// The next look.
    next: Option<SpawnHandle>,
    pacer: Pacer,
    guard: Guard,
    /// Whether the workers know that the log takes no more writes.
    ended: bool,
    /// When the pacer last took in what was answered.
    paced: Instant,
}

impl Actor for Ticker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.alarms.connect(context.address().recipient());
        self.look(context);
    }
}

impl Handler<Wake> for Ticker {
    type Result = ();

    fn handle(&mut self, Wake: Wake, context: &mut Context<Self>) {
        if let Some(next) = self.next.take() {
            context.cancel_future(next);
        }
        self.look_later(context);
    }
}

impl Ticker {
    pub(crate) fn new(
        workers: Workers,
        alarms: Arc<Alarms>,
        liveness: Arc<LivenessManager>,
        founder: Arc<Founder>,
        pacer: Pacer,
        guard: Guard,
        heartbeat_interval: Duration,
    ) -> Self {
        Self {
            workers,
            alarms,
            liveness,
            founder,
            heartbeat_interval,
            next: None,
            pacer,
            guard,
            ended: false,
            paced: Instant::now(),
        }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        let guard = self.guard.clone();
        guard.run("the ticker", || self.take_in());
        self.look_later(context);
    }

    fn take_in(&mut self) {
        self.liveness.tick();
        self.founder.tick();
        let now = self.liveness.now();
        for worker in self.alarms.take_due(now) {
            self.workers.number(worker).post(Event::Tick);
        }
        if self.paced.elapsed() >= PACE_INTERVAL {
            self.pace();
        }
    }

    fn pace(&mut self) {
        let now = Instant::now();
        self.pacer.pace(now.duration_since(self.paced));
        self.paced = now;
        // A worker that writes nothing does not hear it from the log.
        self.ended = self.ended || self.guard.spread();
        for worker in self.alarms.leading_for_others() {
            self.workers.number(worker).post(Event::Rebalance);
        }
    }

    fn step(&self) -> Duration {
        self.heartbeat_interval / LOOKS_AN_INTERVAL
    }

    fn look_later(&mut self, context: &mut Context<Self>) {
        let wait = if self.alarms.sleep_unless_set() {
            self.step()
        } else {
            let left = self.liveness.next_deadline().since(self.liveness.now());
            left.clamp(Duration::from_millis(1), self.heartbeat_interval)
        };
        self.next = Some(context.run_later(wait, |ticker, context| ticker.look(context)));
    }
}
