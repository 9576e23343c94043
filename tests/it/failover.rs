//! Failover of downloads: the client resumes at the next byte from another slave and prints one
//! line.

use nix::sys::signal::Signal;

use crate::cluster::helpers::report;
use crate::harness::{
    Client, Cluster, Fault, Output, Program, SOON, content, eventually, is_over_tls, leftovers,
};

/// More than all buffers between slave and client hold.
const SIZE: usize = 48 << 20;
/// One stream: another one would fetch the rest while the first one is frozen.
const GET: &[&str] = &["--json", "--streams", "1", "-c", "get f"];

/// Starts two slaves behind proxies that freeze a transfer after 3 MiB.
fn cluster(bytes: &[u8]) -> Cluster {
    let cluster = Cluster::of(2).proxied().file("f", bytes).start();
    cluster.wait_hashed();
    cluster
}

/// Starts a get and returns the slave that serves it, once the transfer is frozen.
fn frozen(cluster: &Cluster, client: &Client) -> (Program, usize) {
    for slave in &cluster.slaves {
        slave.proxy.as_ref().unwrap().fault_at_content(3 << 20, Fault::Stall);
    }
    let program = client.start(GET);
    let serving = eventually(SOON, "the transfer is frozen", || {
        cluster.slaves.iter().position(|slave| slave.proxy.as_ref().unwrap().struck())
    });
    cluster.slaves.iter().for_each(|slave| slave.proxy.as_ref().unwrap().disarm());
    (program, serving)
}

#[track_caller]
fn assert_resumed(client: &Client, output: Output, bytes: &[u8]) {
    let output = output.ok();
    let json = output.json();
    assert!(client.read("f") == bytes);
    assert_eq!(json["slaves"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["verified"], true, "{json}");
    let lines = output.stderr.lines().filter(|line| !line.starts_with("first encrypted meeting"));
    assert_eq!(lines.count(), 1, "one line about the failover: {output:?}");
    assert_eq!(leftovers(&client.folder(), &["f"]), [] as [std::path::PathBuf; 0]);
}

#[test]
pub fn the_slave_is_killed() {
    let bytes = content(1, SIZE);
    let mut cluster = cluster(&bytes);
    let client = cluster.client();
    let (mut program, serving) = frozen(&cluster, &client);
    let slave = &mut cluster.slaves[serving];
    slave.program.kill();
    let proxy = slave.proxy.as_ref().unwrap();
    proxy.release();
    let output = Client::finish(&mut program);
    assert_resumed(&client, output, &bytes);
    let other = cluster.slaves[1 - serving].proxy.as_ref().unwrap();
    // TLS adds bytes, and all of them count.
    let most = (SIZE - (3 << 20)) as u64 + if is_over_tls() { 256 << 10 } else { 0 };
    assert!(other.take_content_bytes() <= most, "received content was fetched again");
    eventually(SOON, "the failover and the resume are counted", || {
        let counted = report(&cluster, 1 - serving);
        (counted["failovers"] == 1 && counted["resumes"] == 1).then_some(())
    });
    assert_eq!(report(&cluster, serving)["failovers"], 0);
}

#[test]
pub fn the_slave_is_stopped() {
    let bytes = content(2, SIZE);
    let cluster = cluster(&bytes);
    let client = cluster.client();
    let (mut program, serving) = frozen(&cluster, &client);
    cluster.slaves[serving].program.signal_group(Signal::SIGSTOP);
    cluster.slaves[serving].proxy.as_ref().unwrap().release();
    let output = Client::finish(&mut program);
    cluster.slaves[serving].program.signal_group(Signal::SIGCONT);
    assert_resumed(&client, output, &bytes);
}

#[test]
pub fn the_connection_is_cut() {
    let bytes = content(3, SIZE);
    let cluster = cluster(&bytes);
    let client = cluster.client();
    for n in [0, 1, 65_536, 5_000_000] {
        // Only the connection of the slave in use is cut.
        let (mut program, serving) = frozen(&cluster, &client);
        let proxy = cluster.slaves[serving].proxy.as_ref().unwrap();
        proxy.refuse(true);
        proxy.cut_all();
        let output = Client::finish(&mut program);
        proxy.refuse(false);
        assert_resumed(&client, output, &bytes);
        // A cut at byte n, after which the client may use the same slave again.
        proxy.fault_at_content(n, Fault::Cut);
        cluster.slaves[1 - serving].proxy.as_ref().unwrap().fault_at_content(n, Fault::Cut);
        client.run(GET).ok();
        assert!(client.read("f") == bytes);
        proxy.disarm();
        cluster.slaves[1 - serving].proxy.as_ref().unwrap().disarm();
    }
}

#[test]
pub fn the_connection_hangs() {
    let bytes = content(4, SIZE);
    let cluster = cluster(&bytes);
    let client = cluster.client();
    let (mut program, _) = frozen(&cluster, &client);
    let output = Client::finish(&mut program);
    assert_resumed(&client, output, &bytes);
}

#[test]
pub fn the_slave_stops_cleanly() {
    let bytes = content(5, SIZE);
    let mut cluster =
        Cluster::of(2).proxied().slave_args(&["--grace", "0"]).file("f", &bytes).start();
    cluster.wait_hashed();
    let client = cluster.client();
    let (mut program, serving) = frozen(&cluster, &client);
    assert_eq!(cluster.slaves[serving].program.stop(Signal::SIGTERM), 0);
    cluster.slaves[serving].proxy.as_ref().unwrap().release();
    let output = Client::finish(&mut program);
    assert_resumed(&client, output, &bytes);
}

#[test]
pub fn the_master_is_down_too() {
    let bytes = content(6, SIZE);
    let mut cluster = cluster(&bytes);
    let client = cluster.client();
    let (mut program, serving) = frozen(&cluster, &client);
    cluster.master.kill();
    cluster.slaves[serving].program.kill();
    cluster.slaves[serving].proxy.as_ref().unwrap().release();
    Client::finish(&mut program).ok();
    assert!(client.read("f") == bytes);
}

#[test]
pub fn the_other_slave_has_other_content() {
    let (ours, theirs) = (content(7, SIZE), content(8, SIZE));
    let mut cluster = Cluster::of(2).proxied().file("f", &ours).start();
    std::fs::write(cluster.slaves[1].root.join("f"), &theirs).unwrap();
    cluster.wait_hashed();
    let client = cluster.client();
    let (mut program, serving) = frozen(&cluster, &client);
    cluster.slaves[serving].program.kill();
    cluster.slaves[serving].proxy.as_ref().unwrap().release();
    let output = Client::finish(&mut program);
    if output.status == 0 {
        let got = client.read("f");
        assert!(got == ours || got == theirs, "a mixture of two versions");
    } else {
        output.fails(5);
        assert!(!client.folder().join("f").exists());
    }
}

#[test]
pub fn no_other_slave_is_left() {
    let bytes = content(9, SIZE);
    let mut cluster = Cluster::of(1).proxied().file("f", &bytes).start();
    cluster.wait_hashed();
    let client = cluster.client();
    let (mut program, _) = frozen(&cluster, &client);
    cluster.slaves[0].program.kill();
    cluster.slaves[0].proxy.as_ref().unwrap().release();
    let json = Client::finish(&mut program).fails(5).json();
    assert_eq!(json["ok"], false, "{json}");
    assert!(!client.folder().join("f").exists());
    cluster.restart_slave(0);
    cluster.wait_in_service(1);
    client.run(GET).ok();
    assert!(client.read("f") == bytes);
}
