//! The admin pages, the commands beside `serve`, and chaos itself.

use crate::support::{TestResult, program, set, shared_cluster, spec};
use logboat_tests::process::{Cluster, eventually, free_ports};
use std::io::Write;
use std::net::TcpStream;

#[test]
fn the_admin_pages_tell_how_a_node_is() -> TestResult {
    let cluster = shared_cluster()?;
    let node = cluster.node(2);
    set(&mut node.client()?, "pages", "x")?;
    for page in ["/healthz", "/readyz", "/livez"] {
        assert_eq!(node.page(page)?, (200, r#"{"ok":true,"problems":[]}"#.to_owned()));
    }
    assert_eq!(node.page("/nowhere")?.0, 404);

    let status = node.status()?;
    assert_eq!(status["node_id"], 2);
    assert_eq!(status["groups"], 9);
    assert_eq!(status["peers"].as_array().map(Vec::len), Some(2));
    for field in ["leaders", "groups_without_leader", "apply_lag", "pending_bytes"] {
        assert!(status[field].is_u64(), "{field} in {status}");
    }
    assert!(status["wal"]["syncs"].as_u64().is_some_and(|syncs| syncs > 0), "{status}");
    assert_eq!(status["peers"][0]["connected"], true);

    let names = [
        "logboat_proposals_total",
        "logboat_applied_entries_total",
        "logboat_elections_won_total",
        "logboat_leaders",
        "logboat_groups",
        "logboat_groups_without_leader",
        "logboat_pending_bytes",
        "logboat_apply_lag_entries",
        "logboat_propose_seconds_bucket",
        "logboat_read_seconds_bucket",
        "logboat_committed_entries_total",
        "logboat_wal_syncs_total",
        "logboat_wal_sync_seconds_bucket",
        "logboat_wal_entries_per_sync_bucket",
        "logboat_wal_queued_bytes",
        "logboat_transport_messages_sent_total",
        "logboat_transport_bytes_sent_total",
        "logboat_transport_messages_received_total",
        "logboat_transport_bytes_received_total",
        "logboat_transport_queued_bytes",
    ];
    for name in names {
        node.metric(name)?;
    }
    assert!(node.metric("logboat_transport_bytes_received_total")? > 0.0);
    Ok(())
}

#[test]
fn status_prints_a_table() -> TestResult {
    let cluster = shared_cluster()?;
    let admin = format!("127.0.0.1:{}", cluster.node(3).spec().admin_port);
    let output = program().command().args(["status", "--admin", &admin]).output()?;
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout)?;
    let row = |name: &str| table.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(row("node"), Some("3"), "{table}");
    assert_eq!(row("state"), Some("ready"));
    assert_eq!(row("groups"), Some("9"));
    assert!(row("peer 1").is_some_and(|peer| peer.contains("connected")));

    let port = free_ports(1)?;
    let mut command = program().command();
    let output = command.args(["status", "--admin", &format!("127.0.0.1:{port}")]).output()?;
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    Ok(())
}

#[test]
fn a_log_can_be_looked_into_and_verified_while_in_use_and_after() -> TestResult {
    let mut cluster = Cluster::start(&spec(1, &["--groups", "3"]))?;
    let mut client = cluster.node(1).client()?;
    for number in 0..20 {
        set(&mut client, &format!("key:{number}"), "value")?;
    }
    let dir = cluster.node(1).spec().data_dir.display().to_string();
    let run = |what: &str| program().command().args(["wal", what, &dir]).output();
    for _ in 0..2 {
        let inspected = run("inspect")?;
        assert!(inspected.status.success());
        let text = String::from_utf8(inspected.stdout)?;
        assert!(text.contains("0000000001.wal") && text.contains("active"), "{text}");
        let groups = text.lines().skip_while(|line| !line.trim_start().starts_with("group"));
        assert_eq!(groups.count(), 1 + 4, "three groups and that of the map in\n{text}");
        let verified = run("verify")?;
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        assert!(String::from_utf8(verified.stdout)?.contains("every checksum is right"));
        if cluster.node(1).is_started() {
            cluster.node_mut(1).terminate()?;
            assert!(cluster.node_mut(1).wait()?.success());
        }
    }
    Ok(())
}

#[test]
fn the_demo_runs_and_prints_what_it_did() -> TestResult {
    demo(&[])
}

#[test]
fn the_demo_runs_with_tls() -> TestResult {
    demo(&["--tls"])
}

fn demo(options: &[&str]) -> TestResult {
    let port = free_ports(9)?;
    let mut command = program().command();
    command.args(["demo", "--exit", "--nodes", "3", "--groups", "20", "--seconds", "1"]);
    command.args(options);
    for (option, offset) in
        [("--client-port-base", 0), ("--peer-port-base", 3), ("--admin-port-base", 6)]
    {
        command.args([option, &(port + offset).to_string()]);
    }
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let table = String::from_utf8(output.stdout)?;
    for name in ["a second", "p50 ms", "p99 ms", "max ms", "entries a sync", "leaders a node"] {
        assert!(table.lines().any(|line| line.starts_with(name)), "no {name} in\n{table}");
    }
    Ok(())
}

/// Over the best links that this machine allows, which it names.
#[test]
fn chaos_finds_what_clients_saw_linearizable() -> TestResult {
    let said = chaos(&["--links", "auto"])?;
    assert!(said.contains("links: "), "{said}");
    Ok(())
}

#[test]
fn chaos_does_with_proxies() -> TestResult {
    let said = chaos(&["--links", "proxy"])?;
    assert!(said.contains("links: proxies"), "{said}");
    Ok(())
}

#[test]
fn chaos_does_with_tls() -> TestResult {
    chaos(&["--links", "proxy", "--tls"])?;
    Ok(())
}

#[test]
fn chaos_does_with_nodes_that_come_and_go_and_lose_what_they_have() -> TestResult {
    let faults = ["--nodes", "4", "--faults", "join,decommission,wipe,flip"];
    chaos(&[&["--links", "auto"][..], &faults].concat())?;
    Ok(())
}

/// Runs it for a short time; what it said.
fn chaos(options: &[&str]) -> TestResult<String> {
    let dir = tempfile::tempdir()?;
    let history = dir.path().join("history");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(["--seconds", "3", "--groups", "8", "--clients", "15"]).args(options);
    if !options.contains(&"--faults") {
        command.args(["--faults", "kill,pause,partition"]);
    }
    command.arg("--history").arg(&history);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("linearizable"), "{said}");
    let operations = std::fs::read_to_string(&history)?.lines().count();
    assert!(operations > 100, "{operations} operations");
    Ok(said)
}

#[test]
fn a_node_without_a_majority_says_what_is_wrong_and_asks_for_no_restart() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "8"]))?;
    cluster.node_mut(1).kill()?;
    cluster.node_mut(2).kill()?;
    eventually("node 3 to say that it is alone", || {
        let (code, health) = cluster.node(3).page("/healthz")?;
        let told = health.contains("no_quorum") && health.contains("no_leader");
        Ok((code == 503 && told).then_some(()))
    })?;
    let (code, readiness) = cluster.node(3).page("/readyz")?;
    assert!(code == 503 && readiness.contains("no_quorum"), "{readiness}");
    assert_eq!(cluster.node(3).page("/livez")?.0, 200);
    Ok(())
}

#[test]
fn half_a_request_to_the_admin_port_does_not_hold_up_the_exit() -> TestResult {
    let mut cluster = Cluster::start(&spec(1, &["--groups", "1"]))?;
    let mut half = TcpStream::connect(cluster.node(1).admin_address())?;
    half.write_all(b"GET /met")?;
    cluster.node_mut(1).terminate()?;
    assert!(cluster.node_mut(1).wait()?.success());
    Ok(())
}
