//! Downloads by several streams: shared between slaves, and slaves that fail during them.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{
    Client, Cluster, Fault, Program, Proxy, SOON, content, eventually, session, ticket,
};

const MIB: u64 = 1 << 20;
/// A content that takes some seconds at [`RATE`].
const SIZE: u64 = 64 * MIB;
/// Bytes a second of each slave: several of them are faster than one.
const RATE: u64 = 16 * MIB;

fn bytes() -> Vec<u8> {
    content(7, usize::try_from(SIZE).unwrap())
}

fn proxy(cluster: &Cluster, n: usize) -> &Proxy {
    cluster.slaves[n].proxy.as_ref().unwrap()
}

/// Starts slow slaves that all have the file `f`.
fn cluster(slaves: usize, bytes: &[u8]) -> Cluster {
    let cluster = Cluster::of(slaves).proxied().file("f", bytes).start();
    cluster.wait_hashed();
    (0..slaves).for_each(|n| proxy(&cluster, n).throttle(Some(RATE)));
    cluster
}

/// Starts a get, and returns once this many slaves have sent content, with these slaves.
fn started(cluster: &Cluster, client: &Client, sending: usize) -> (Program, Vec<usize>) {
    let program = client.start(&["--json", "-c", "get f"]);
    let slaves = eventually(SOON, "several slaves send content", || {
        let all = 0..cluster.slaves.len();
        let some: Vec<usize> = all.filter(|n| proxy(cluster, *n).content_bytes() > MIB).collect();
        (some.len() >= sending).then_some(some)
    });
    (program, slaves)
}

fn total(cluster: &Cluster) -> u64 {
    (0..cluster.slaves.len()).map(|n| proxy(cluster, n).take_content_bytes()).sum()
}

#[test]
fn several_slaves_serve_one_get() {
    let bytes = bytes();
    let cluster = cluster(3, &bytes);
    let client = cluster.client();
    let (mut program, _) = started(&cluster, &client, 3);
    let json = Client::finish(&mut program).ok().json();
    assert_eq!(json["slaves"].as_array().unwrap().len(), 3, "{json}");
    assert!(client.read("f") == bytes);
    // What was requested twice is what a slow stream lost to a faster one.
    assert!(total(&cluster) < SIZE + SIZE / 4, "content was fetched twice");
}

#[test]
fn one_stream_uses_one_slave() {
    let bytes = bytes();
    let cluster = cluster(2, &bytes);
    let client = cluster.client();
    let json = client.run(&["--json", "--streams", "1", "-c", "get f"]).ok().json();
    assert_eq!(json["slaves"].as_array().unwrap().len(), 1, "{json}");
    assert!(client.read("f") == bytes);
    for bad in ["0", "65", "x"] {
        client.run(&["--streams", bad, "-c", "get f"]).fails(2);
    }
}

/// Has one of three slaves fail during a get, as `fail` does.
fn one_fails(fail: impl Fn(&mut Cluster, usize)) {
    let bytes = bytes();
    let mut cluster = cluster(3, &bytes);
    let client = cluster.client();
    for n in 0..2 {
        let (mut program, sending) = started(&cluster, &client, 2);
        // Each slave in turn: the one of the session is among them.
        let victim = sending[n % sending.len()];
        fail(&mut cluster, victim);
        let json = Client::finish(&mut program).ok().json();
        assert_eq!(json["verified"], true, "{json}");
        assert!(client.read("f") == bytes);
        proxy(&cluster, victim).thaw();
        cluster.slaves[victim].program.signal_group(Signal::SIGCONT);
        total(&cluster);
    }
}

#[test]
fn a_slave_is_killed_during_a_striped_get() {
    one_fails(|cluster, n| {
        cluster.slaves[n].program.kill();
        cluster.restart_slave(n);
    });
}

#[test]
fn a_slave_is_stopped_during_a_striped_get() {
    one_fails(|cluster, n| cluster.slaves[n].program.signal_group(Signal::SIGSTOP));
}

#[test]
fn a_line_is_cut_during_a_striped_get() {
    one_fails(|cluster, n| proxy(cluster, n).freeze());
}

#[test]
fn a_slave_without_a_free_slot_is_not_waited_for() {
    let bytes = bytes();
    let one_slot = ["--workers", "1", "--sessions-per-worker", "1"];
    let cluster = Cluster::of(2).proxied().slave_args(&one_slot).file("f", &bytes);
    let cluster = cluster.file("small", b"1").start();
    cluster.wait_hashed();
    (0..2).for_each(|n| proxy(&cluster, n).throttle(Some(RATE)));
    let client = cluster.client();
    // The turns: the client, the ticket of the session that keeps the slot, the client.
    let free = cluster.slave_at(&client.serving_slave("small"));
    let (ticket, _) = ticket(cluster.addr);
    let mut kept = session(cluster.slaves[1 - free].addr, &ticket);
    total(&cluster);
    let json = client.get("f");
    assert_eq!(json["slaves"].as_array().unwrap().len(), 1, "{json}");
    assert!(client.read("f") == bytes);
    assert_eq!(proxy(&cluster, 1 - free).content_bytes(), 0);
    kept.ping();
}

#[test]
fn a_slave_that_sends_damaged_bytes_is_named() {
    let bytes = bytes();
    let cluster = cluster(2, &bytes);
    let client = cluster.client();
    for n in 0..2 {
        proxy(&cluster, n).fault_at_content(2 * MIB, Fault::FlipBit);
    }
    let mut program = client.start(&["--json", "-c", "get f"]);
    let output = Client::finish(&mut program).ok();
    assert!(client.read("f") == bytes);
    for slave in &cluster.slaves {
        let warning = format!("warning: {} sent 1 damaged piece", slave.public());
        assert!(output.stderr.contains(&warning), "{output:?}");
    }
}

#[test]
fn a_killed_client_resumes_a_striped_get() {
    let bytes = bytes();
    let cluster = cluster(3, &bytes);
    // Slow enough that the client is killed long before the end.
    (0..3).for_each(|n| proxy(&cluster, n).throttle(Some(RATE / 4)));
    let client = cluster.client();
    let (mut program, _) = started(&cluster, &client, 2);
    // The `.log` is written once a second.
    std::thread::sleep(Duration::from_millis(1500));
    program.kill();
    let received = total(&cluster);
    assert!((8 * MIB..SIZE).contains(&received), "{received} bytes before the kill");
    let json = client.get("f");
    assert!(client.read("f") == bytes);
    let resumed = json["resumed_from"].as_u64().unwrap();
    assert!(resumed > 0, "{json}");
    let fetched = total(&cluster);
    assert!(fetched < SIZE - resumed + 16 * MIB, "{fetched} bytes after {resumed}");
}

/// Starts two slow slaves with the file `f`, and a third one that has missed its put.
///
/// Returns once both send it to the third one.
fn fetching(bytes: &[u8]) -> Cluster {
    let mut cluster = Cluster::of(3).proxied().start();
    cluster.wait_in_service(3);
    cluster.slaves[2].program.kill();
    let client = cluster.client();
    fs::write(client.folder().join("f"), bytes).unwrap();
    client.run(&["--copies", "2", "-c", "put f"]).ok();
    (0..2).for_each(|n| proxy(&cluster, n).throttle(Some(RATE)));
    total(&cluster);
    cluster.restart_slave(2);
    eventually(SOON, "both slaves send content", || {
        (0..2).all(|n| proxy(&cluster, n).content_bytes() > MIB).then_some(())
    });
    cluster
}

/// Waits until the third slave has the file.
#[track_caller]
fn wait_fetched(cluster: &Cluster, bytes: &[u8]) {
    let file = cluster.slaves[2].root.join("f");
    let is_there = || fs::metadata(&file).is_ok().then_some(());
    eventually(SOON, "the third slave has the file", is_there);
    assert!(fs::read(&file).unwrap() == bytes);
}

#[test]
fn several_slaves_serve_one_fetch() {
    let bytes = bytes();
    let cluster = fetching(&bytes);
    wait_fetched(&cluster, &bytes);
    assert!(total(&cluster) < SIZE + SIZE / 4, "content was fetched twice");
}

#[test]
fn a_holder_is_killed_during_a_striped_fetch() {
    let bytes = bytes();
    for n in 0..2 {
        let mut cluster = fetching(&bytes);
        cluster.slaves[n].program.kill();
        wait_fetched(&cluster, &bytes);
    }
}

#[test]
fn a_holder_is_stopped_during_a_striped_fetch() {
    let bytes = bytes();
    for n in 0..2 {
        let cluster = fetching(&bytes);
        cluster.slaves[n].program.signal_group(Signal::SIGSTOP);
        wait_fetched(&cluster, &bytes);
        cluster.slaves[n].program.signal_group(Signal::SIGCONT);
    }
}

#[test]
fn a_holder_that_sends_damaged_bytes_is_named() {
    let bytes = bytes();
    let cluster = fetching(&bytes);
    // A bit of each connection that is open has to come.
    for n in 0..2 {
        let sent = proxy(&cluster, n).content_bytes();
        proxy(&cluster, n).fault_at_content(sent + 2 * MIB, Fault::FlipBit);
    }
    wait_fetched(&cluster, &bytes);
    let log = cluster.slaves[2].program.stderr.text();
    for slave in &cluster.slaves[..2] {
        let warning = format!("{} sent 1 damaged piece", slave.public());
        assert!(log.contains(&warning), "{log}");
    }
}

/// Writes `f` to a file by `cat`. While one slave sends the first segments, `prepare` is called for
/// the two others; `fail` is called for one of them once it sends, too.
#[track_caller]
fn cat(prepare: impl Fn(&Proxy), fail: impl Fn(&mut Cluster, usize)) -> String {
    let bytes = bytes();
    let mut cluster = cluster(3, &bytes);
    (0..3).for_each(|n| proxy(&cluster, n).throttle(Some(RATE / 2)));
    let client = cluster.client();
    let out = client.folder().join("out");
    let to_file = Stdio::from(fs::File::create(&out).unwrap());
    let mut program = client.setup(&["-c", "cat f"]).stdout(to_file).start();
    let sends = |cluster: &Cluster, n: usize| proxy(cluster, n).content_bytes() > MIB;
    let first = eventually(SOON, "a slave sends content", || (0..3).find(|n| sends(&cluster, *n)));
    let others = [(first + 1) % 3, (first + 2) % 3];
    others.iter().for_each(|n| prepare(proxy(&cluster, *n)));
    let victim = eventually(SOON, "another slave sends content", || {
        others.into_iter().find(|n| sends(&cluster, *n))
    });
    fail(&mut cluster, victim);
    let status = program.wait(2 * SOON);
    assert!(program.stderr.ends_within(SOON));
    let messages = program.stderr.text();
    assert_eq!(status, 0, "{messages}");
    assert!(fs::read(&out).unwrap() == bytes);
    messages
}

#[test]
fn several_slaves_serve_one_cat() {
    cat(|_| {}, |_, _| {});
}

#[test]
fn a_slave_is_killed_during_a_striped_cat() {
    cat(|_| {}, |cluster, n| cluster.slaves[n].program.kill());
}

#[test]
fn a_slave_is_stopped_during_a_striped_cat() {
    cat(|_| {}, |cluster, n| cluster.slaves[n].program.signal_group(Signal::SIGSTOP));
}

#[test]
fn a_slave_that_sends_damaged_bytes_to_cat_is_named() {
    // The other slaves send long after the first one has begun.
    let messages = cat(|proxy| proxy.fault_at_content(2 * MIB, Fault::FlipBit), |_, _| {});
    assert!(messages.contains("sent 1 damaged piece"), "{messages}");
}
