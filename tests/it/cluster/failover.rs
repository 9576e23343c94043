//! Failover: the slave in use fails during a transfer, and then the next one; the command succeeds.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::helpers::wait_settled;
use super::tree_equality::{TreeEntry, same_as, wait_equal, wait_equal_but_uploads};
use crate::harness::{Client, Cluster, Fault, Program, Proxy, SOON, content, digest, eventually};

/// A fault of a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlaveFault {
    /// All its processes are killed.
    Kill,
    /// All its processes are stopped; its connections stay open.
    Stop,
    /// No byte passes between the slave and its clients, and no connection is closed.
    Cut,
}

impl SlaveFault {
    /// Time limit for the first bytes from the next slave.
    ///
    /// The failover takes 2 s after a kill and 10 s after silence; the rest is for a loaded
    /// machine.
    fn bound(self) -> Duration {
        Duration::from_secs(if self == Self::Kill { 18 } else { 90 })
    }

    fn inject(self, cluster: &mut Cluster, n: usize) {
        let slave = &mut cluster.slaves[n];
        let proxy = slave.proxy.as_ref().unwrap();
        match self {
            Self::Kill => slave.program.kill(),
            Self::Stop => slave.program.signal_group(Signal::SIGSTOP),
            Self::Cut => return proxy.freeze(),
        }
        proxy.release();
    }

    fn heal(self, cluster: &mut Cluster, n: usize) {
        match self {
            Self::Kill => cluster.restart_slave(n),
            Self::Stop => cluster.slaves[n].program.signal_group(Signal::SIGCONT),
            Self::Cut => cluster.slaves[n].proxy.as_ref().unwrap().thaw(),
        }
    }
}

/// Arms a stall in the direction of the content.
type Arm = fn(&Proxy, u64);

fn fetching(proxy: &Proxy, bytes: u64) {
    proxy.fault_at_content(bytes, Fault::Stall);
}

fn sending(proxy: &Proxy, bytes: u64) {
    proxy.fault_at_data(bytes, Fault::Stall);
}

/// Waits until the armed stall freezes the transfer; returns the slave that has it.
#[track_caller]
fn frozen(cluster: &Cluster, among: &[usize], what: &str, program: &mut Program) -> usize {
    let proxy = |n: usize| cluster.slaves[n].proxy.as_ref().unwrap();
    let serving = eventually(4 * SOON, what, || {
        assert_eq!(
            program.try_status(),
            None,
            "the command ended before the fault: {}{}",
            program.stdout.text(),
            program.stderr.text()
        );
        among.iter().copied().find(|n| proxy(*n).struck())
    });
    among.iter().for_each(|n| proxy(*n).disarm());
    serving
}

fn arm(cluster: &Cluster, among: &[usize], how: Arm, bytes: u64) {
    among.iter().for_each(|n| how(cluster.slaves[*n].proxy.as_ref().unwrap(), bytes));
}

/// Runs a command; injects the fault at the slave in use after `at` bytes, and at the next one
/// after `at` more.
fn survives(
    cluster: &mut Cluster,
    client: &Client,
    command: &str,
    how: Arm,
    at: u64,
    fault: SlaveFault,
) {
    arm(cluster, &[0, 1, 2], how, at);
    // With several streams the other slaves would complete a get without a failover.
    let mut program = client.start(&["--json", "--streams", "1", "-c", command]);
    let first = frozen(cluster, &[0, 1, 2], "the transfer is frozen", &mut program);
    let others: Vec<usize> = (0..3).filter(|n| *n != first).collect();
    arm(cluster, &others, how, at);
    fault.inject(cluster, first);
    let struck = Instant::now();
    let second = frozen(cluster, &others, "the transfer resumes at another slave", &mut program);
    let took = struck.elapsed();
    assert!(took < fault.bound(), "{fault:?}: the transfer resumed after {took:?}");
    fault.inject(cluster, second);
    let output = Client::finish(&mut program).ok();
    assert!(output.objects().iter().all(|object| object["ok"] == true), "{output:?}");
    [first, second].into_iter().for_each(|n| fault.heal(cluster, n));
}

/// Starts three empty slaves.
fn empty() -> Cluster {
    Cluster::of(3).proxied().start()
}

/// Returns many times more than all buffers between client and slave hold.
fn large() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| content(1, 300_000_000))
}

const FAR: u64 = 90_000_000;

fn gets_large(fault: SlaveFault) {
    let mut cluster = Cluster::of(3).proxied().file("f", large()).start();
    wait_settled(&cluster);
    let client = cluster.client();
    survives(&mut cluster, &client, "get f", fetching, FAR, fault);
    assert!(client.read("f") == large());
}

fn puts_large(fault: SlaveFault) {
    let mut cluster = empty();
    let client = cluster.client();
    fs::write(client.folder().join("f"), large()).unwrap();
    survives(&mut cluster, &client, "put f", sending, FAR, fault);
    let nodes = wait_equal_but_uploads(&cluster);
    assert!(
        matches!(&nodes["f"], TreeEntry::File { digest: found, .. } if *found == digest(large())),
        "{nodes:?}"
    );
}

/// Number of small files below `top`, and the byte at which the fault strikes.
const FILES: usize = 200;
const AMONG_FILES: u64 = 1_000_000;

fn write_files(client: &Client, top: &str, step: usize) {
    for n in 0..FILES {
        let file = client.folder().join(format!("{top}/d{}/f{n}", n % 7));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content(n as u64, 5000 + n * step)).unwrap();
    }
}

fn gets_tree(fault: SlaveFault) {
    let mut cluster = empty();
    let (owner, client) = (cluster.client(), cluster.client());
    // More than all buffers between client and slave hold.
    write_files(&owner, "tree", 2000);
    owner.command("put -r tree").ok();
    let there = wait_equal(&cluster);
    survives(&mut cluster, &client, "get -r tree", fetching, AMONG_FILES, fault);
    same_as(&there, &client.folder());
}

fn sends_tree(command: &str, fault: SlaveFault) {
    let mut cluster = empty();
    let client = cluster.client();
    write_files(&client, "tree", 200);
    survives(&mut cluster, &client, command, sending, AMONG_FILES, fault);
    same_as(&wait_equal_but_uploads(&cluster), &client.folder());
}

#[test]
pub fn a_large_get_while_slaves_are_killed() {
    gets_large(SlaveFault::Kill);
}

#[test]
fn a_large_get_while_slaves_are_stopped() {
    gets_large(SlaveFault::Stop);
}

#[test]
pub fn a_large_get_while_connections_are_cut() {
    gets_large(SlaveFault::Cut);
}

#[test]
pub fn a_large_put_while_slaves_are_killed() {
    puts_large(SlaveFault::Kill);
}

#[test]
pub fn a_large_put_while_slaves_are_stopped() {
    puts_large(SlaveFault::Stop);
}

#[test]
fn a_large_put_while_connections_are_cut() {
    puts_large(SlaveFault::Cut);
}

#[test]
pub fn a_tree_is_fetched_while_slaves_are_killed() {
    gets_tree(SlaveFault::Kill);
}

#[test]
fn a_tree_is_fetched_while_slaves_are_stopped() {
    gets_tree(SlaveFault::Stop);
}

#[test]
fn a_tree_is_fetched_while_connections_are_cut() {
    gets_tree(SlaveFault::Cut);
}

#[test]
pub fn a_tree_is_put_while_slaves_are_killed() {
    sends_tree("put -r tree", SlaveFault::Kill);
}

#[test]
fn a_tree_is_put_while_slaves_are_stopped() {
    sends_tree("put -r tree", SlaveFault::Stop);
}

#[test]
fn a_tree_is_mirrored_while_slaves_are_killed() {
    sends_tree("mirror -R tree /tree", SlaveFault::Kill);
}

#[test]
pub fn a_tree_is_mirrored_while_connections_are_cut() {
    sends_tree("mirror -R tree /tree", SlaveFault::Cut);
}
