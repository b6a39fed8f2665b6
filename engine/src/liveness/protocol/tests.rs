//! Support between two nodes: how long it lasts, and what a lease may count on.

use super::*;
use logboat_raft::Round;

const TIMING: LivenessTiming = LivenessTiming {
    heartbeat_interval: Duration::from_millis(100),
    support_timeout: Duration::from_millis(1_000),
    leases: true,
    max_clock_drift: 0.1,
};

/// The node that is supported, and the one that supports it.
const LEADER: NodeId = NodeId(1);
const SUPPORTER: NodeId = NodeId(2);

/// A node and its disk, which takes everything at once.
struct Host {
    own: NodeId,
    liveness: Liveness,
    grants: BTreeMap<NodeId, Grant>,
    lease: Option<Lease>,
    /// The boot counts that it did not believe.
    disbelieved: Vec<BootCount>,
}

impl Host {
    fn new(own: NodeId, timing: LivenessTiming) -> Self {
        Self::restart(own, BTreeMap::new(), timing, Time(0))
    }

    fn restart(
        own: NodeId,
        grants: BTreeMap<NodeId, Grant>,
        timing: LivenessTiming,
        now: Time,
    ) -> Self {
        let boot = BootCount(1);
        let liveness = Liveness::new(own, [LEADER, SUPPORTER], boot, true, &grants, timing, now);
        Self { own, liveness, grants, lease: None, disbelieved: Vec::new() }
    }

    /// Does something; answers what it sends, and the settings of which it complains.
    fn step(
        &mut self,
        run: impl FnOnce(&mut Liveness, &mut Vec<Effect>),
    ) -> (Vec<SupportMessage>, Vec<SupportSettings>) {
        let (mut effects, mut sent, mut differing) = (Vec::new(), Vec::new(), Vec::new());
        run(&mut self.liveness, &mut effects);
        for effect in effects {
            match effect {
                Effect::Persist(node, grant) => {
                    self.grants.insert(node, grant);
                    self.liveness.persisted(node, grant);
                }
                Effect::Send(_, message) | Effect::SendWhenDurable(_, message) => {
                    sent.push(message);
                }
                Effect::Lease(_, lease) => self.lease = Some(lease),
                Effect::SettingsDiffer(_, settings) => differing.push(settings),
                Effect::Implausible(_, boot) => self.disbelieved.push(boot),
                Effect::SupportForChanged(..) | Effect::SupportFromChanged(..) => {}
            }
        }
        (sent, differing)
    }

    fn supports(&self, node: NodeId) -> bool {
        self.liveness.support_for().any(|(supported, _)| supported == node)
    }
}

/// A node asks another at `now`, and gets its answer at once. Answers the settings that the other
/// complains of.
fn ask(asking: &mut Host, asked: &mut Host, now: Time) -> Vec<SupportSettings> {
    let (from, to) = (asking.own, asked.own);
    let (requests, _) =
        asking.step(|liveness, effects| liveness.tick(now, LogPosition::default(), effects));
    let mut differing = Vec::new();
    for request in requests {
        let (answers, named) =
            asked.step(|liveness, effects| liveness.receive(from, request, now, effects));
        differing.extend(named);
        for answer in answers {
            asking.step(|liveness, effects| liveness.receive(to, answer, now, effects));
        }
    }
    differing
}

/// The supporter is told that the leader's process has ended, and time goes on. Answers until when
/// it goes on supporting the leader's node.
fn supported_until(supporter: &mut Host, told: Time) -> Time {
    supporter.step(|liveness, effects| liveness.peer_ended(LEADER, told, effects));
    let mut now = told;
    while supporter.supports(LEADER) {
        now = supporter.liveness.next_deadline().max(now);
        supporter.step(|liveness, effects| liveness.tick(now, LogPosition::default(), effects));
    }
    now
}

const fn ms(ms: u64) -> Time {
    Time::from_millis(ms)
}

#[test]
fn without_leases_the_end_of_a_process_ends_its_support_at_once() {
    let timing = LivenessTiming { leases: false, ..TIMING };
    let (mut leader, mut supporter) = (Host::new(LEADER, timing), Host::new(SUPPORTER, timing));
    ask(&mut leader, &mut supporter, ms(0));
    assert!(supporter.supports(LEADER));
    assert_eq!(leader.lease, None, "none is promised");
    assert_eq!(supported_until(&mut supporter, ms(10)), ms(10));
    // It lives after all.
    ask(&mut leader, &mut supporter, ms(100));
    assert!(supporter.supports(LEADER));
}

#[test]
fn with_leases_the_withdrawal_waits_for_the_last_one() {
    let (mut leader, mut supporter) = (Host::new(LEADER, TIMING), Host::new(SUPPORTER, TIMING));
    ask(&mut leader, &mut supporter, ms(0));
    ask(&mut leader, &mut supporter, ms(100));
    let lease = leader.lease.unwrap();
    let until = supported_until(&mut supporter, ms(110));
    assert!(lease.until < until && until == ms(1_100), "{lease:?}, {until:?}");
}

#[test]
fn a_lease_is_what_the_supporter_promised() {
    let short = LivenessTiming { support_timeout: Duration::from_millis(400), ..TIMING };
    let (mut leader, mut supporter) = (Host::new(LEADER, TIMING), Host::new(SUPPORTER, short));
    let named = ask(&mut leader, &mut supporter, ms(0));
    let lease = leader.lease.unwrap();
    assert!(lease.until <= ms(400), "{lease:?}");
    assert!(lease.until < supported_until(&mut supporter, ms(1)));
    assert_eq!(named, [TIMING.settings()], "the difference is named");

    let none = LivenessTiming { leases: false, ..TIMING };
    let (mut leader, mut supporter) = (Host::new(LEADER, TIMING), Host::new(SUPPORTER, none));
    ask(&mut leader, &mut supporter, ms(0));
    assert_eq!(leader.lease, None);
    let named: Vec<_> = supporter.liveness.differing_settings().collect();
    assert_eq!(named, [(LEADER, TIMING.settings())]);
    assert!(ask(&mut leader, &mut supporter, ms(100)).is_empty(), "once");
}

#[test]
fn a_restart_with_other_settings_keeps_to_a_lease_that_was_promised() {
    let (mut leader, mut supporter) = (Host::new(LEADER, TIMING), Host::new(SUPPORTER, TIMING));
    ask(&mut leader, &mut supporter, ms(0));
    ask(&mut leader, &mut supporter, ms(100));
    let lease = leader.lease.unwrap();
    let short = Duration::from_millis(300);
    let other = LivenessTiming { support_timeout: short, leases: false, ..TIMING };
    let mut supporter = Host::restart(SUPPORTER, supporter.grants, other, ms(150));
    assert!(supported_until(&mut supporter, ms(160)) > lease.until);
}

#[test]
fn a_lease_is_promised_once_a_restart_would_keep_to_it() {
    let none = LivenessTiming { leases: false, ..TIMING };
    let (mut leader, mut supporter) = (Host::new(LEADER, TIMING), Host::new(SUPPORTER, none));
    ask(&mut leader, &mut supporter, ms(0));
    let mut supporter = Host::restart(SUPPORTER, supporter.grants, TIMING, ms(50));
    ask(&mut leader, &mut supporter, ms(100));
    ask(&mut leader, &mut supporter, ms(200));
    assert!(leader.lease.is_some_and(|lease| lease.until > ms(1_000)), "{:?}", leader.lease);
    assert_eq!(supporter.grants[&LEADER].lease, TIMING.support_timeout);
    assert_eq!(supporter.grants[&LEADER].epoch, Epoch(1), "nobody has to fortify anew");
}

#[test]
fn answers_of_a_process_that_has_ended_count_no_more() {
    let (mut leader, mut supporter) = (Host::new(LEADER, TIMING), Host::new(SUPPORTER, TIMING));
    let (requests, _) =
        leader.step(|liveness, effects| liveness.tick(ms(0), LogPosition::default(), effects));
    let (answers, _) =
        supporter.step(|liveness, effects| liveness.receive(LEADER, requests[0], ms(1), effects));
    leader.step(|liveness, effects| liveness.peer_ended(SUPPORTER, ms(2), effects));
    leader.step(|liveness, effects| liveness.receive(SUPPORTER, answers[0], ms(3), effects));
    assert!(!leader.liveness.reaches(SUPPORTER));
    ask(&mut leader, &mut supporter, ms(100));
    assert!(leader.liveness.reaches(SUPPORTER));
}

#[test]
fn a_node_that_is_not_founded_asks_for_nothing_and_promises_nothing() {
    let (own, peer, boot) = (NodeId(1), NodeId(2), BootCount(1));
    let grants = BTreeMap::new();
    let mut liveness = Liveness::new(own, [own, peer], boot, false, &grants, TIMING, Time(0));
    let (seq, settings) = (RequestSeq(1), TIMING.settings());
    let request = SupportMessage::Request {
        boot,
        seq,
        heard: true,
        settings,
        log_end: LogPosition::default(),
        leaving: false,
    };
    let question = SupportMessage::Confirm { boot, worker: 0, round: Round(1) };
    let mut effects = Vec::new();
    for message in [request, question] {
        liveness.receive(peer, message, Time(1_000), &mut effects);
    }
    liveness.tick(Time(2_000_000), LogPosition::default(), &mut effects);
    assert_eq!(effects, []);
    liveness.found(Time(3_000_000));
    liveness.tick(Time(3_000_000), LogPosition::default(), &mut effects);
    assert!(matches!(effects[..], [Effect::Persist(..), Effect::SendWhenDurable(..)]));
}

/// A request for support by `LEADER`, whose log is durable up to `log_end`.
fn request_of(seq: u64, log_end: LogPosition) -> SupportMessage {
    let (boot, seq, settings) = (BootCount(1), RequestSeq(seq), TIMING.settings());
    SupportMessage::Request { boot, seq, heard: true, settings, log_end, leaving: false }
}

#[test]
fn a_boot_count_that_no_restarts_led_to_is_refused_and_named() {
    let mut host = Host::new(SUPPORTER, TIMING);
    let mut claims = |boot| {
        let settings = TIMING.settings();
        let log_end = LogPosition::default();
        let (heard, leaving, boot) = (true, false, BootCount(boot));
        let request =
            SupportMessage::Request { boot, seq: RequestSeq(1), heard, settings, log_end, leaving };
        host.step(|liveness, effects| liveness.receive(LEADER, request, ms(1), effects)).0.len()
    };
    assert_eq!(claims(7), 1);
    for absurd in [8 + MAX_BOOT_STEP, 1 << 56] {
        assert_eq!(claims(absurd), 0);
    }
    assert_eq!(claims(7), 1, "the true count still holds");
    assert_eq!(claims(8), 1);
    assert_eq!(host.grants[&LEADER].boot, BootCount(8));
    assert_eq!(host.disbelieved, [8 + MAX_BOOT_STEP, 1 << 56].map(BootCount));
}

#[test]
fn what_peers_say_of_their_logs_is_written_with_the_next_request_and_outlives_a_start() {
    let at = |segment| LogPosition { segment, offset: 8 };
    let mut host = Host::new(SUPPORTER, TIMING);
    for (seq, log_end) in [(1, at(3)), (2, at(5)), (3, at(4))] {
        let request = request_of(seq, log_end);
        host.step(|liveness, effects| liveness.receive(LEADER, request, Time(1_000), effects));
    }
    assert_eq!(host.liveness.log_end(LEADER), at(5));
    assert_eq!(host.grants[&LEADER].log_end, at(3));
    host.step(|liveness, effects| liveness.tick(Time(200_000), at(1), effects));
    assert_eq!((host.grants[&LEADER].log_end, host.grants[&LEADER].live), (at(5), true));
    let again = Host::restart(SUPPORTER, host.grants.clone(), TIMING, Time(0));
    assert_eq!(again.liveness.log_end(LEADER), at(5));
    // Once is enough.
    host.grants.clear();
    host.step(|liveness, effects| liveness.tick(Time(400_000), at(1), effects));
    assert!(!host.grants.contains_key(&LEADER));
}

#[test]
fn a_node_that_leaves_is_supported_but_not_counted_on() {
    let (mut leader, mut supporter) = (Host::new(LEADER, TIMING), Host::new(SUPPORTER, TIMING));
    ask(&mut supporter, &mut leader, ms(0));
    ask(&mut leader, &mut supporter, ms(0));
    let (requests, _) =
        leader.step(|liveness, effects| liveness.leave(ms(10), LogPosition::default(), effects));
    for request in requests {
        supporter.step(|liveness, effects| liveness.receive(LEADER, request, ms(10), effects));
    }
    assert!(supporter.supports(LEADER), "it hands over what it leads");
    assert!(!supporter.liveness.reaches(LEADER) && !supporter.liveness.has_quorum());
}

#[test]
fn a_peer_that_comes_back_gets_a_later_epoch_than_it_had() {
    let mut leader = Host::new(LEADER, TIMING);
    let mut supporter = Host::new(SUPPORTER, TIMING);
    ask(&mut leader, &mut supporter, Time(0));
    let epoch = supporter.grants[&LEADER].epoch;
    assert!(supporter.supports(LEADER));
    supporter.step(|liveness, effects| liveness.remove_peer(LEADER, effects));
    assert!(!supporter.supports(LEADER));
    assert!(!supporter.grants[&LEADER].live, "the log says so");
    // A stranger gets nothing, over a restart too.
    let later = Time(0) + TIMING.heartbeat_interval;
    ask(&mut leader, &mut supporter, later);
    assert!(!supporter.supports(LEADER));
    let grants = supporter.grants.clone();
    let mut liveness = Liveness::new(SUPPORTER, [], BootCount(2), true, &grants, TIMING, later);
    for node in [SUPPORTER, LEADER, LEADER] {
        liveness.add_peer(node, later);
    }
    assert_eq!(liveness.peers.len(), 1);
    supporter.liveness = liveness;
    ask(&mut leader, &mut supporter, later + TIMING.heartbeat_interval);
    assert!(supporter.supports(LEADER));
    assert!(supporter.grants[&LEADER].epoch > epoch);
}

/// A node that supported another starts without knowing it as a peer.
fn restarted_without_the_peer(timing: LivenessTiming) -> (Host, Host, Epoch) {
    let (mut leader, mut supporter) = (Host::new(LEADER, timing), Host::new(SUPPORTER, timing));
    ask(&mut leader, &mut supporter, ms(0));
    let epoch = supporter.grants[&LEADER].epoch;
    let grants = supporter.grants.clone();
    supporter.liveness = Liveness::new(SUPPORTER, [], BootCount(2), true, &grants, timing, ms(100));
    (leader, supporter, epoch)
}

/// What the supporter answers to a round of the leader at `now`.
fn confirmed(supporter: &mut Host, now: Time) -> Option<Epoch> {
    let question = SupportMessage::Confirm { boot: BootCount(1), worker: 0, round: Round(1) };
    let (answers, _) =
        supporter.step(|liveness, effects| liveness.receive(LEADER, question, now, effects));
    match answers[..] {
        [SupportMessage::Confirmed { epoch, .. }] => epoch,
        _ => panic!("one answer: {answers:?}"),
    }
}

#[test]
fn support_stands_on_over_a_start_without_the_peer() {
    let (_, mut supporter, epoch) = restarted_without_the_peer(TIMING);
    assert!(supporter.supports(LEADER), "its replicas keep to their bonds");
    supporter.liveness.add_peer(LEADER, ms(200));
    assert!(supporter.supports(LEADER));
    assert_eq!(confirmed(&mut supporter, ms(200)), Some(epoch));
}

#[test]
fn support_that_ended_before_the_peer_was_known_again_is_not_taken_up() {
    for leases in [false, true] {
        let timing = LivenessTiming { leases, ..TIMING };
        let (mut leader, mut supporter, epoch) = restarted_without_the_peer(timing);
        let until = supporter.liveness.next_deadline().max(ms(100) + timing.support_timeout);
        supporter.step(|liveness, effects| liveness.tick(until, LogPosition::default(), effects));
        assert!(!supporter.supports(LEADER), "others may be elected from now on");
        assert!(!supporter.grants[&LEADER].live, "and the log says so");
        supporter.liveness.add_peer(LEADER, until);
        assert!(!supporter.supports(LEADER));
        assert_eq!(confirmed(&mut supporter, until), None);
        ask(&mut leader, &mut supporter, until);
        assert_eq!(supporter.grants[&LEADER].epoch, Epoch(epoch.0 + 1));
    }
}
