//! Tests of the options.

use super::*;

fn options() -> ServeOptions {
    ServeOptions {
        node_id: Some(1),
        cluster: Some("1=127.0.0.1:7401,2=127.0.0.1:7402".to_owned()),
        data_dir: Some("data".into()),
        client_listen: Some(([127, 0, 0, 1], 6401).into()),
        ..ServeOptions::default()
    }
}

fn error_of(options: ServeOptions) -> String {
    options.resolve().unwrap_err().to_string()
}

#[test]
fn the_least_options_are_enough() {
    let resolved = options().resolve().unwrap();
    assert_eq!(resolved.node.listen, ([127, 0, 0, 1], 7401).into());
    let plan = resolved.plan.unwrap();
    assert_eq!((&*plan.layout, plan.edge_bits), ("slots", 14));
    assert!(plan.keeps_layout);
    assert_eq!(resolved.node.founding, Founding::All);
    let settings = resolved.placement.of_new_cluster();
    assert_eq!(settings.lost_after.unwrap().as_secs(), 300);
    assert_eq!(settings.move_mib_per_s, 128);
    for (time, secs) in [("10s", 10), ("2min", 120), ("3m", 180), ("2h", 7_200)] {
        let options = ServeOptions { lost_after: Some(time.into()), ..options() };
        let given = options.resolve().unwrap().placement;
        assert_eq!(given.lost_after.unwrap().as_secs(), secs);
    }
}

#[test]
fn what_joins_makes_no_cluster() {
    let joins = || ServeOptions {
        node_id: None,
        cluster: None,
        join: Some(vec!["127.0.0.1:7401".to_owned()]),
        peer_listen: Some(([127, 0, 0, 1], 7404).into()),
        ..options()
    };
    let joining = joins().joining().unwrap().unwrap();
    assert_eq!(joining.card.peers, "127.0.0.1:7404");
    assert_eq!(joining.card.clients, "127.0.0.1:6401");
    assert!(options().joining().unwrap().is_none());
    let error = |options: ServeOptions| options.joining().unwrap_err().to_string();
    assert!(error(ServeOptions { cluster: options().cluster, ..joins() }).contains("--cluster"));
    assert!(error(ServeOptions { replicas: Some(3), ..joins() }).contains("--replicas"));
    let nowhere = ServeOptions { peer_listen: None, ..joins() };
    assert!(error(nowhere).contains("--peer-listen"));
    let everywhere = ServeOptions { peer_listen: Some(([0; 4], 7404).into()), ..joins() };
    assert!(error(everywhere).contains("--peer-listen 0.0.0.0:7404"));
    assert!(error(ServeOptions { join: Some(vec!["x".to_owned()]), ..joins() }).contains("--join"));
    let founder = ServeOptions { peer_listen: joins().peer_listen, ..options() };
    assert!(error_of(founder).contains("--peer-listen goes with --join"));
}

#[test]
fn nodes_to_be_founded_without_come_from_either_place() {
    let expected = Founding::Without([NodeId(2), NodeId(3)].into());
    let found_without = Some(vec![3, 2]);
    let resolved = ServeOptions { found_without, ..options() }.resolve().unwrap();
    assert_eq!(resolved.node.founding, expected);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, "found-without = [2, 3]\n").unwrap();
    let resolved = ServeOptions { config: Some(path), ..options() }.resolve().unwrap();
    assert_eq!(resolved.node.founding, expected);
}

#[test]
fn every_missing_or_wrong_option_is_named() {
    let base = options;
    assert!(error_of(ServeOptions { node_id: None, ..base() }).contains("--node-id"));
    assert!(error_of(ServeOptions { node_id: Some(9), ..base() }).contains("node 9"));
    for cluster in ["", "1", "1=", "x=127.0.0.1:1", "1=127.0.0.1", "1=a:1,1=b:2", "0=a:1"] {
        let options = ServeOptions { cluster: Some(cluster.to_owned()), ..base() };
        assert!(error_of(options).contains("--cluster"), "{cluster}");
    }
    let options = ServeOptions { max_clients: Some(0), ..base() };
    assert!(error_of(options).contains("--max-clients"));
    let options = ServeOptions { replicas: Some(0), ..base() };
    assert!(error_of(options).contains("--replicas"));
    let options = ServeOptions { wal_max_bytes: Some(LogSize::Bytes(4096)), ..base() };
    assert!(error_of(options).contains("--wal-max-bytes 4096"));
    for address in ["", "host", "host:", ":1", "host:x"] {
        let options = ServeOptions { client_advertise: Some(address.into()), ..base() };
        assert!(error_of(options).contains("--client-advertise"), "{address}");
    }
    let options = ServeOptions { split_keys: Some("keys".into()), ..base() };
    assert!(error_of(options).contains("--partition range"));
    for time in ["", "5", "s", "0s", "-1s", "5 min", "1y", "99999999999999999999h"] {
        let options = ServeOptions { lost_after: Some(time.into()), ..base() };
        assert!(error_of(options).contains("--lost-after"), "{time}");
    }
    for mib in [0, u64::MAX] {
        let options = ServeOptions { move_mib_per_s: Some(mib), ..base() };
        assert!(error_of(options).contains("--move-mib-per-s"), "{mib}");
    }
    let options =
        ServeOptions { heartbeat_ms: Some(900), election_timeout_ms: Some(1_000), ..base() };
    assert!(error_of(options).contains("--heartbeat-ms"));
}

#[test]
fn ports_are_not_opened_by_mistake() {
    let base = || ServeOptions { admin_listen: Some(([10, 0, 0, 1], 8401).into()), ..options() };
    let admin_of = |options: ServeOptions| options.resolve().unwrap().security.admin;
    assert!(admin_of(options()).warning().is_none());
    assert!(admin_of(base()).warning().unwrap().contains("open to everybody"));
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a secret that is long enough to be one\n").unwrap();
    let guarded = ServeOptions { requirepass_file: Some(secret.path().into()), ..base() };
    assert!(admin_of(guarded).warning().unwrap().contains("closed to everybody"));
    let none_open = ServeOptions { admin_open: Some(Vec::new()), ..base() };
    assert!(admin_of(none_open).warning().unwrap().contains("closed to everybody"));
    let open = ServeOptions { admin_open: Some(vec![Page::Healthz]), ..base() };
    let open = admin_of(open);
    assert!(!open.local && open.warning().is_none());
    let local = ServeOptions { admin_listen: Some(([127, 0, 0, 1], 8401).into()), ..options() };
    assert!(admin_of(local).local);
    let without_files = ServeOptions { tls_peers: Some(TlsMode::Optional), ..options() };
    assert!(error_of(without_files).contains("--tls-peers needs --tls-cert"));
    let half = ServeOptions { tls_cert: Some("node.crt".into()), ..options() };
    assert!(error_of(half).contains("go together"));
    let strict = ServeOptions { require_secure: true, ..options() };
    assert!(error_of(strict).contains("--require-secure"));
    let auth = ServeOptions { tls_client_auth: Some(ClientAuth::Optional), ..options() };
    assert!(error_of(auth).contains("goes with --tls-clients"));
}

#[test]
fn the_command_line_comes_before_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, "node-id = 2\ngroups = 7\npartition = \"range\"\n").unwrap();
    let resolved = ServeOptions { config: Some(path.clone()), ..options() }.resolve().unwrap();
    assert_eq!(resolved.node.node, NodeId(1));
    let plan = resolved.plan.unwrap();
    assert_eq!((plan.groups, &*plan.layout, plan.keeps_layout), (Some(7), "range", false));
    std::fs::write(&path, "nodeid = 2\n").unwrap();
    let error = error_of(ServeOptions { config: Some(path), ..options() });
    assert!(error.contains("nodeid"), "{error}");
}
