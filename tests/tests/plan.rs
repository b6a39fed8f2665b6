//! The plan of large clusters, on a small one.

use logboat_tests::plan::{Plan, Report, draw, run};

fn small(groups: usize) -> Plan {
    Plan { nodes: 5, groups, seed: 7, deaths: vec![1, 2] }
}

fn report() -> Report {
    run(&small(300))
}

#[test]
fn a_seed_always_tells_the_same() {
    let report = report();
    assert_eq!(report, run(&small(300)));
    assert_ne!(report, run(&Plan { seed: 8, ..small(300) }));
}

#[test]
fn all_groups_that_have_a_majority_get_a_leader_soon_after_the_loss_is_noticed() {
    let report = report();
    let [one, two] = &report.failovers[..] else { panic!("two failovers were asked for") };
    assert_eq!(one.without_majority, 0);
    assert!(two.without_majority > 0, "some groups have replicas on both of two nodes");
    for failover in [one, two] {
        assert!(failover.affected > 30, "{failover}");
        assert_eq!(failover.unled, 0, "{failover}");
        assert!(failover.elections >= failover.affected as u64, "{failover}");
        // The election timeout, less the interval in which the dead may have been silent anyway.
        assert!(failover.first_detected_ms >= 2_250.0, "{failover}");
        assert!(failover.last_detected_ms < 2_700.0, "{failover}");
        assert!(failover.p50_ms >= failover.first_detected_ms, "{failover}");
        assert!(failover.p50_ms <= failover.p99_ms && failover.p99_ms <= failover.all_ms);
        assert_eq!(failover.curve.last().map(|(_, share)| *share), Some(1.0));
    }
    // 300 groups less those without a majority, on the nodes that are left.
    assert!(one.fewest_leaders * 4 <= 300 && one.most_leaders * 4 >= 300);
}

#[test]
fn two_survivors_share_what_the_third_led_although_one_learns_of_the_loss_later() {
    for seed in 1..=5 {
        let plan = Plan { nodes: 3, groups: 600, seed, deaths: vec![1] };
        let failover = &run(&plan).failovers[0];
        assert!(failover.last_detected_ms > failover.first_detected_ms);
        assert!(failover.fewest_leaders > 250, "seed {seed}: {failover}");
    }
}

#[test]
fn messages_at_rest_are_two_a_pair_and_interval_whatever_the_groups() {
    // Two intervals a second.
    let pairs = 5.0 * 4.0;
    for groups in [1, 300] {
        let rest = run(&Plan { deaths: Vec::new(), ..small(groups) }).rest;
        assert_eq!(rest.messages_per_s, 2.0 * pairs * 2.0);
        assert_eq!(rest.syncs_per_s, 5.0 * 2.0);
    }
}

#[test]
fn each_failover_is_a_curve_of_the_picture() {
    let svg = draw(&report());
    assert_eq!(svg.matches("<polyline").count(), 2);
    assert!(svg.contains("2 nodes die: "), "{svg}");
    assert!(!svg.contains("NaN"));
}
