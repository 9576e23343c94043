//! Round robin: the master redirects clients to its slaves in turn and reports their states.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Client, Cluster, RawClient, SOON, eventually};

#[test]
fn clients_1_2_3_get_slaves_1_2_1() {
    let cluster = Cluster::of(2).file("a.txt", b"some text").start();
    let client = cluster.client();
    let turns: Vec<String> = (0..4).map(|_| client.serving_slave("a.txt")).collect();
    assert_ne!(turns[0], turns[1]);
    assert_eq!(turns[0], turns[2]);
    assert_eq!(turns[1], turns[3]);
    let addrs: Vec<String> = cluster.slaves.iter().map(|s| s.addr.to_string()).collect();
    assert!(addrs.contains(&turns[0]) && addrs.contains(&turns[1]), "{turns:?} {addrs:?}");
}

#[test]
fn three_slaves_serve_nine_clients_three_each() {
    let cluster = Cluster::of(3).shared().file("a.txt", b"some text").start();
    let client = cluster.client();
    let mut served = [0; 3];
    for _ in 0..9 {
        served[cluster.slave_at(&client.serving_slave("a.txt"))] += 1;
    }
    assert_eq!(served, [3, 3, 3]);
}

#[test]
fn a_slave_that_is_down_gets_no_clients_until_it_returns() {
    let mut cluster = Cluster::of(2).file("a.txt", b"some text").start();
    let client = cluster.client();
    assert_eq!(cluster.slaves[0].program.stop(Signal::SIGTERM), 0);
    cluster.wait_in_service(1);
    for _ in 0..3 {
        assert_eq!(cluster.slave_at(&client.serving_slave("a.txt")), 1);
    }
    cluster.restart_slave(0);
    cluster.wait_in_service(2);
    let turns = [client.serving_slave("a.txt"), client.serving_slave("a.txt")];
    assert_ne!(turns[0], turns[1]);
}

#[test]
fn without_a_slave_in_service_the_client_exits_3_after_retry() {
    let cluster = Cluster::of(0).start();
    let client = cluster.client();
    let began = Instant::now();
    let output = client.run(&["--retry", "1", "--json", "-c", "get a.txt"]).fails(3);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900), "gave up after {took:?}");
    assert!(took < Duration::from_secs(10), "gave up after {took:?}");
    assert!(output.stderr.contains("slave") || output.stdout.contains("no-slave"), "{output:?}");
}

#[test]
fn with_nothing_at_the_address_the_client_exits_3() {
    // A port that other tests never get.
    let unused = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let output = Client::new(unused).run(&["--retry", "0", "-c", "get a.txt"]).fails(3);
    assert!(output.stderr.contains(&unused.to_string()), "{output:?}");
}

#[test]
fn a_waiting_client_continues_when_a_slave_registers() {
    let mut cluster = Cluster::of(0).file("a.txt", b"some text").start();
    let client = cluster.client();
    let mut waiting = client.start(&["--retry", "60", "--json", "-c", "get a.txt"]);
    cluster.add_slave();
    Client::finish(&mut waiting).ok();
    assert_eq!(client.read("a.txt"), b"some text");
}

#[test]
fn status_shows_the_slaves_and_exits_1_with_none_in_service() {
    let mut cluster = Cluster::of(0).file("a.txt", b"some text").start();
    let empty = cluster.status(&["--json"]).fails(1).json();
    assert_eq!(empty["slaves"].as_array().unwrap().len(), 0, "{empty}");
    assert_eq!(empty["epoch"], 1, "{empty}");
    assert!(empty["number"].is_u64(), "{empty}");

    cluster.add_slave();
    cluster.wait_in_service(1);
    let status = cluster.status(&["--json"]).ok().json();
    let slave = &status["slaves"][0];
    assert_eq!(slave["addr"], cluster.slaves[0].addr.to_string(), "{status}");
    assert_eq!(slave["state"], "in-service", "{status}");
    assert!(slave["id"].as_str().is_some_and(|id| id.len() == 32), "{status}");
    assert!(slave["number"].is_u64() && slave["sessions"].is_u64(), "{status}");
    let text = cluster.status(&[]).ok().stdout;
    assert!(
        text.contains("in-service") && text.contains(&cluster.slaves[0].addr.to_string()),
        "{text}"
    );

    cluster.slaves[0].program.kill();
    eventually(SOON, "the killed slave is down", || (cluster.count("down") == 1).then_some(()));
    cluster.status(&["--json"]).fails(1);
}

#[test]
fn a_stopped_slave_leaves_after_three_heartbeats_and_returns() {
    let cluster = Cluster::of(2).shared().file("a.txt", b"some text").start();
    cluster.slaves[0].program.signal_group(Signal::SIGSTOP);
    cluster.wait_in_service(1);
    assert_eq!(cluster.slave_at(&cluster.client().serving_slave("a.txt")), 1);
    cluster.slaves[0].program.signal_group(Signal::SIGCONT);
    cluster.wait_in_service(2);
}

#[test]
fn one_silent_client_does_not_delay_others() {
    let cluster = Cluster::of(1).file("a.txt", b"some text").start();
    let _silent: Vec<RawClient> = (0..10).map(|_| RawClient::connect(cluster.addr)).collect();
    let began = Instant::now();
    cluster.client().serving_slave("a.txt");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn twenty_clients_at_once_all_get_their_file() {
    let cluster = Cluster::of(2).shared().file("a.txt", b"some text").start();
    let clients: Vec<Client> = (0..20).map(|_| cluster.client()).collect();
    let mut running: Vec<_> =
        clients.iter().map(|c| c.start(&["--json", "-c", "get a.txt"])).collect();
    let mut served = [0; 2];
    for program in &mut running {
        let json = Client::finish(program).ok().json();
        served[cluster.slave_at(json["slaves"][0].as_str().unwrap())] += 1;
    }
    assert_eq!(served, [10, 10]);
}

#[test]
fn a_slave_redirects_a_client_without_a_ticket_to_the_master() {
    let cluster = Cluster::of(1).file("a.txt", b"some text").start();
    let client = Client::new(cluster.slaves[0].addr);
    client.get("a.txt");
    assert_eq!(client.read("a.txt"), b"some text");
}

#[test]
fn a_slave_with_a_wrong_key_is_refused() {
    let cluster = Cluster::of(1).file("a.txt", b"some text").start();
    let key = cluster.dir.path().join("other.key");
    std::fs::write(&key, "ab".repeat(32) + "\n").unwrap();
    let mut intruder = crate::harness::ProgramBuilder::new("ftpslave", cluster.dir.path())
        .args([
            "0",
            "--master",
            &cluster.addr.to_string(),
            "--root",
            cluster.dir.folder("elsewhere").to_str().unwrap(),
        ])
        .args(["--cluster-key", key.to_str().unwrap()])
        .start();
    intruder.ready();
    // The slave has been refused once its log mentions the key. It never enters the round robin.
    intruder.stderr.wait_for(SOON, "the slave logs the key error", |log| {
        let log = log.to_lowercase();
        (log.contains("key") || log.contains("proof")).then_some(())
    });
    let status = cluster.status_json().unwrap();
    assert_eq!(status["slaves"].as_array().unwrap().len(), 1, "{status}");
}
