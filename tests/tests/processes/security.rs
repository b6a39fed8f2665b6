//! Who may speak to real processes, and how a running cluster is locked.

use crate::support::{Load, TestResult, get, program, refusal, set, spec, talk};
use logboat_security::{Role, TlsFiles};
use logboat_tests::process::{CLUSTER_NAME, Certificates, Cluster, ProcessError, eventually};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Starts a cluster of three nodes with certificates and these options.
fn locked(options: &[&str]) -> TestResult<(Cluster, Certificates)> {
    let mut cluster = Cluster::new(&spec(3, &["--groups", "8"]))?;
    let certificates = Certificates::new(cluster.dir().join("certificates"))?;
    certificates.hand_out(&mut cluster)?;
    for node in &mut cluster.nodes {
        node.spec_mut().options.extend(options.iter().map(ToString::to_string));
    }
    cluster.start_all()?;
    Ok((cluster, certificates))
}

fn write(dir: &Path, name: &str, text: &str) -> TestResult<String> {
    let path = dir.join(name);
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn await_log(cluster: &Cluster, node: usize, text: &str) -> Result<(), ProcessError> {
    eventually(&format!("{text:?} in the log of node {node}"), || {
        Ok(cluster.node(node).log().contains(text).then_some(()))
    })
}

/// Restarts the nodes one by one, each with this mode of TLS for peers.
fn switch_over(cluster: &mut Cluster, mode: &str, load: &Load) -> TestResult {
    for id in 1..=cluster.nodes.len() {
        load.await_progress(50)?;
        let node = cluster.node_mut(id);
        node.terminate()?;
        assert!(node.wait()?.success());
        let options = &mut node.spec_mut().options;
        let at = options.iter().position(|option| option == "--tls-peers");
        options[at.expect("the option") + 1] = mode.to_owned();
        node.start()?;
        node.ready()?;
    }
    Ok(())
}

#[test]
fn a_running_cluster_is_switched_over_to_tls_under_load() -> TestResult {
    let (mut cluster, _) = locked(&["--tls-peers", "off"])?;
    let load = Load::start(&cluster);
    for mode in ["optional", "required"] {
        switch_over(&mut cluster, mode, &load)?;
    }
    load.await_progress(50)?;
    let written = load.stop();
    for id in 1..=3 {
        let mut client = cluster.node(id).client()?;
        for written in &written {
            written.check(&mut client)?;
        }
        for peer in cluster.node(id).status()?["peers"].as_array().into_iter().flatten() {
            assert_eq!(peer["connected"], true, "{peer}");
        }
        assert_eq!(cluster.node(id).status()?["security_warnings"], serde_json::json!([]));
    }
    // A node of the plain kind is out now.
    let port = cluster.node(1).spec().cluster.split([':', ',']).nth(1).map(str::parse);
    assert_eq!(talk(port.expect("a port")?, b"LOGBOAT\n")?, "");
    await_log(&cluster, 1, "it speaks no TLS, which this port requires")?;
    Ok(())
}

#[test]
fn everything_is_encrypted_and_asks_who_it_is() -> TestResult {
    let dir = tempfile::tempdir()?;
    let token = write(dir.path(), "token", "a token of some length\n")?;
    let passwords = write(dir.path(), "passwords", "first password\nsecond password\n")?;
    let (cluster, certificates) = locked(&[
        "--tls-peers",
        "required",
        "--tls-clients",
        "required",
        "--tls-client-auth",
        "required",
        "--tls-admin",
        "optional",
        "--admin-token-file",
        &token,
        "--requirepass-file",
        &passwords,
        "--require-secure",
    ])?;
    let shown = certificates.issue("billing", Role::Client("billing".to_owned()), &[])?;
    let address = cluster.node(2).client_address();
    let mut client = certificates.client(address, Some(&shown))?.get_connection()?;
    assert_eq!(refusal(get(&mut client, "a")), "NOAUTH Authentication required.");
    let wrong: redis::RedisResult<()> = redis::cmd("AUTH").arg("wrong").query(&mut client);
    assert!(refusal(wrong).starts_with("WRONGPASS"));
    await_log(&cluster, 2, "login failed")?;
    redis::cmd("AUTH").arg("second password").query::<()>(&mut client)?;
    set(&mut client, "a", "1")?;
    assert_eq!(get(&mut client, "a")?.as_deref(), Some("1"));
    assert!(!cluster.node(2).log().contains("second password"));

    // Others do not even get that far.
    let node = certificates.issue("node", Role::Peer(None), &[])?;
    for shown in [None, Some(&node)] {
        let connected = certificates.client(address, shown)?.get_connection();
        let answered = connected.and_then(|mut it| redis::cmd("PING").query::<String>(&mut it));
        assert!(answered.is_err_and(|error| error.is_io_error()), "{shown:?}");
    }
    await_log(&cluster, 2, "certificate refused")?;
    assert!(cluster.node(2).metric("logboat_client_strangers_refused_total")? >= 2.0);
    assert!(cluster.node(2).metric("logboat_tls_certificate_expiry_seconds")? > 80_000.0);

    status_over_tls(&cluster, &certificates, &token)?;
    a_client_s_certificate_opens_no_peer_s_port(&cluster, &shown)
}

fn status_over_tls(cluster: &Cluster, certificates: &Certificates, token: &str) -> TestResult {
    let admin = cluster.node(3).admin_address().to_string();
    let files = certificates.issue("admin", Role::Admin, &[])?;
    let [cert, key, ca] =
        [&files.cert, &files.key, &files.ca].map(|path| path.display().to_string());
    let status = |shown: &[&str]| {
        let mut command = program().command();
        command.args(["status", "--admin", &admin, "--tls-ca", &ca]).args(shown).output()
    };
    for shown in [&["--token-file", token][..], &["--tls-cert", &cert, "--tls-key", &key]] {
        let output = status(shown)?;
        let table = String::from_utf8(output.stdout)?;
        assert!(table.contains("ready"), "{table}{}", String::from_utf8_lossy(&output.stderr));
    }
    let wrong = write(cluster.dir(), "wrong", "another token of length")?;
    let output = status(&["--token-file", &wrong])?;
    let error = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && error.contains("status 401"), "{error}");
    Ok(())
}

fn a_client_s_certificate_opens_no_peer_s_port(cluster: &Cluster, shown: &TlsFiles) -> TestResult {
    let openssl = |files: &TlsFiles| {
        let address = cluster.node(1).spec().cluster.split([',', '=']).nth(1).unwrap_or_default();
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", address, "-alpn", "logboat-peers"]);
        command.arg("-cert").arg(&files.cert).arg("-key").arg(&files.key);
        command.arg("-CAfile").arg(&files.ca).stdin(Stdio::null()).output()
    };
    if openssl(shown).is_err() {
        println!("not tested with openssl, which is not installed");
        return Ok(());
    }
    await_log(cluster, 1, "/client/billing, and this port is for peers")?;
    Ok(())
}

#[test]
fn nodes_know_each_other_by_a_secret() -> TestResult {
    let secret = |letter: &str| letter.repeat(40) + "\n";
    let mut cluster = Cluster::new(&spec(3, &["--groups", "8", "--require-secure"]))?;
    let mut paths = Vec::new();
    for node in &mut cluster.nodes {
        let name = format!("secret-{}", node.spec().id);
        let path = write(&node.spec().data_dir.with_file_name(""), &name, &secret("a"))?;
        node.spec_mut().options.extend(["--cluster-secret-file".to_owned(), path.clone()]);
        paths.push(path);
    }
    cluster.start_all()?;
    set(&mut cluster.node(1).client()?, "a", "1")?;
    // A node with another secret is out, and both sides say why.
    let node = cluster.node_mut(3);
    node.kill()?;
    fs::write(&paths[2], secret("b"))?;
    node.start()?;
    await_log(&cluster, 3, "the peer has another cluster's secret, or none")?;
    await_log(&cluster, 1, "it has another cluster's secret, or repeats what it heard")?;
    assert!(cluster.node(1).metric("logboat_transport_refused_handshakes_total")? > 0.0);
    // It comes in when the others accept its secret as well, which takes no restart.
    for (id, path) in [1, 2].into_iter().zip(&paths) {
        fs::write(path, secret("b") + &secret("a"))?;
        cluster.node_mut(id).hang_up()?;
    }
    cluster.node_mut(3).ready()?;
    assert_eq!(get(&mut cluster.node(3).client()?, "a")?.as_deref(), Some("1"));
    Ok(())
}

#[test]
fn a_node_that_lets_strangers_in_says_so_or_does_not_start() -> TestResult {
    let mut cluster = Cluster::start(&spec(1, &["--groups", "1"]))?;
    let warning = "the port for peers lets anybody in";
    await_log(&cluster, 1, warning)?;
    let status = cluster.node(1).status()?;
    assert!(status["security_warnings"][0].as_str().is_some_and(|it| it.contains(warning)));
    let info: String = redis::cmd("INFO").query(&mut cluster.node(1).client()?)?;
    assert!(info.contains(warning), "{info}");
    let node = cluster.node_mut(1);
    node.terminate()?;
    node.wait()?;
    node.spec_mut().options.push("--require-secure".to_owned());
    let said = node.start_refused()?;
    assert!(said.contains("--require-secure") && said.contains(warning), "{said}");
    // With TLS that others may do without it is no better.
    let certificates = Certificates::new(cluster.dir().join("certificates"))?;
    certificates.hand_out(&mut cluster)?;
    let node = cluster.node_mut(1);
    node.spec_mut().options.extend(["--tls-peers", "optional"].map(str::to_owned));
    assert!(node.start_refused()?.contains(warning));
    Ok(())
}

#[test]
fn certificates_are_replaced_while_the_cluster_runs() -> TestResult {
    let (mut cluster, certificates) = locked(&["--tls-peers", "required"])?;
    let load = Load::start(&cluster);
    load.await_progress(50)?;
    // Another authority: all trust both, then have its certificates, then forget the old one.
    let other = Certificates::new(cluster.dir().join("other"))?;
    let old_ca = fs::read_to_string(certificates.issue("x", Role::Admin, &[])?.ca)?;
    let new_ca = fs::read_to_string(other.issue("x", Role::Admin, &[])?.ca)?;
    let dir = |id: u64| cluster.dir().join("certificates").join(format!("certificate-{id}"));
    for id in 1..=3 {
        fs::write(dir(id).join("ca.crt"), old_ca.clone() + &new_ca)?;
    }
    let reloads = |cluster: &Cluster, id: usize| {
        cluster.node(id).log().matches("the files for TLS have been read again").count()
    };
    let await_reloads = |cluster: &mut Cluster, count: usize| -> TestResult {
        for id in 1..=3 {
            cluster.node_mut(id).hang_up()?;
            eventually("files to be read", || Ok((reloads(cluster, id) >= count).then_some(())))?;
        }
        Ok(())
    };
    let dirs = [1, 2, 3].map(dir);
    await_reloads(&mut cluster, 1)?;
    for (dir, id) in dirs.iter().zip(1..) {
        let issued = other.issue(&format!("node-{id}"), Role::Peer(Some(id)), &[])?;
        fs::copy(issued.cert, dir.join("tls.crt"))?;
        fs::copy(issued.key, dir.join("tls.key"))?;
    }
    await_reloads(&mut cluster, 2)?;
    for dir in &dirs {
        fs::write(dir.join("ca.crt"), &new_ca)?;
    }
    await_reloads(&mut cluster, 3)?;
    load.await_progress(50)?;
    // What stands goes on; new connections are made with what is there now.
    let node = cluster.node_mut(2);
    node.kill()?;
    node.start()?;
    node.ready()?;
    load.await_progress(50)?;
    for written in load.stop() {
        written.check(&mut cluster.node(2).client()?)?;
    }
    // A file of no use changes nothing.
    fs::write(dirs[0].join("tls.key"), "nothing")?;
    cluster.node_mut(1).hang_up()?;
    await_log(&cluster, 1, "the files for TLS are of no use")?;
    assert!(cluster.node(1).metric("logboat_tls_reload_failures_total")? >= 1.0);
    assert!(cluster.node(1).metric("logboat_tls_reload_failing")? >= 1.0);
    Ok(())
}

#[test]
fn other_clients_speak_tls() -> TestResult {
    let (cluster, certificates) = locked(&["--tls-clients", "required"])?;
    let ca = certificates.issue("x", Role::Admin, &[])?.ca.display().to_string();
    let port = cluster.node(1).client_address().port().to_string();
    let redis_cli = Command::new("redis-cli")
        .args(["-h", "localhost", "-p", &port, "--tls", "--cacert", &ca, "SET", "a", "1"])
        .output();
    match redis_cli {
        Ok(output) => assert_eq!(String::from_utf8(output.stdout)?.trim(), "OK"),
        Err(_) => println!("not tested with redis-cli, which is not installed"),
    }
    let script = "import sys, redis\n\
         client = redis.Redis(host='localhost', port=int(sys.argv[1]), ssl=True, \
         ssl_ca_certs=sys.argv[2], protocol=3)\n\
         pipeline = client.pipeline(transaction=False)\n\
         [pipeline.set(f'key:{i}', 'x' * 100_000) for i in range(20)]\n\
         assert all(pipeline.execute())\n\
         assert client.mget([f'key:{i}' for i in range(20)]) == [b'x' * 100_000] * 20\n\
         print('fine')\n";
    let has_redis = Command::new("python3").args(["-c", "import redis"]).output();
    if !has_redis.is_ok_and(|output| output.status.success()) {
        println!("not tested with Python, or its package redis, which is not installed");
        return Ok(());
    }
    let output = Command::new("python3").args(["-c", script, &port, &ca]).output()?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(String::from_utf8(output.stdout)?, "fine\n", "{error}");
    Ok(())
}

#[test]
fn a_cluster_s_certificates_are_made_by_three_commands() -> TestResult {
    let dir = tempfile::tempdir()?;
    let [ca, node, billing] = ["ca", "node", "billing"].map(|name| dir.path().join(name));
    let [ca, node, billing] = [ca, node, billing].map(|path| path.display().to_string());
    for arguments in [
        &["cert", "ca", "--out", &ca, "--cluster-name", CLUSTER_NAME][..],
        &["cert", "node", "--ca", &ca, "--host", "localhost", "--out", &node],
        &["cert", "client", "--ca", &ca, "--name", "billing", "--out", &billing],
    ] {
        let output = program().command().args(arguments).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let file = |name: &str| format!("{node}/{name}");
    let (cert, key, trusted) = (file("node.crt"), file("node.key"), file("ca.crt"));
    let mut cluster = Cluster::new(&spec(1, &["--groups", "1"]))?;
    cluster.node_mut(1).spec_mut().options.extend(
        [
            "--cluster-name",
            CLUSTER_NAME,
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--tls-ca",
            &trusted,
            "--tls-peers",
            "required",
        ]
        .map(str::to_owned),
    );
    cluster.start_all()?;
    assert!(Path::new(&billing).join("client.key").is_file());
    Ok(())
}

#[test]
fn admin_pages_that_others_reach_without_tls_are_closed_and_say_why() -> TestResult {
    let mut cluster = Cluster::new(&spec(1, &["--groups", "1"]))?;
    let token = write(cluster.dir(), "token", "a token of some length\n")?;
    let node = cluster.node_mut(1);
    node.spec_mut().admin_host = Ipv4Addr::UNSPECIFIED;
    // A node that guards nothing keeps nobody from reading.
    node.start()?;
    node.ready()?;
    node.terminate()?;
    node.wait()?;
    node.spec_mut().options.extend(["--admin-token-file".to_owned(), token]);
    node.start()?;
    let page = |cluster: &Cluster, path| {
        eventually("an admin page", || Ok(cluster.node(1).page(path).ok()))
    };
    for path in ["/healthz", "/livez", "/metrics", "/readyz", "/status", "/none"] {
        let (status, text) = page(&cluster, path)?;
        assert_eq!(status, 403, "{path}: {text}");
        assert!(["--tls-admin", "--admin-open"].iter().all(|it| text.contains(it)), "{text}");
    }
    let warning = "its pages are closed to everybody";
    await_log(&cluster, 1, warning)?;
    eventually("a warning in INFO", || {
        let Ok(mut client) = cluster.node(1).client() else { return Ok(None) };
        let info: String = redis::cmd("INFO").query(&mut client)?;
        Ok(info.contains(warning).then_some(()))
    })?;
    // Where some pages are open, the others are as closed as before.
    let node = cluster.node_mut(1);
    node.terminate()?;
    node.wait()?;
    node.spec_mut().options.extend(["--admin-open", "healthz"].map(str::to_owned));
    node.start()?;
    node.ready()?;
    assert_eq!(page(&cluster, "/status")?.0, 403);
    Ok(())
}
