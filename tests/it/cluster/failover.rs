//! The slave in use goes while something is fetched or put, and then the next one: the command ends well, and soon.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::helpers::wait_settled;
use super::tree_equality::{TreeEntry, same_as, wait_equal, wait_equal_but_uploads};
use crate::harness::{Client, Cluster, Fault, Program, Proxy, SOON, content, digest, eventually};

/// What happens to a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlaveFault {
    /// All its processes are killed.
    Kill,
    /// All its processes are stopped; the connections to it stay.
    Stop,
    /// Nothing passes any more between it and its clients, and no connection is closed.
    Cut,
}

impl SlaveFault {
    /// How soon something has to come from the next slave: 2 s after a kill and 10 s where everything is silent, and the time that tests
    /// beside this one take from it.
    fn bound(self) -> Duration {
        Duration::from_secs(if self == Self::Kill { 6 } else { 30 })
    }

    fn strike(self, cluster: &mut Cluster, n: usize) {
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

/// Which way the bytes go that count.
type Arm = fn(&Proxy, u64);

fn fetching(proxy: &Proxy, bytes: u64) {
    proxy.fault_at_content(bytes, Fault::Stall);
}

fn sending(proxy: &Proxy, bytes: u64) {
    proxy.fault_at_data(bytes, Fault::Stall);
}

/// Freezes the transfer behind so many bytes at whichever of these slaves has it; which one that is.
#[track_caller]
fn frozen(cluster: &Cluster, among: &[usize], what: &str, program: &mut Program) -> usize {
    let proxy = |n: usize| cluster.slaves[n].proxy.as_ref().unwrap();
    let serving = eventually(2 * SOON, what, || {
        assert_eq!(
            program.try_status(),
            None,
            "it ended first: {}{}",
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

/// Runs a command, and strikes the slave in use behind `at` bytes, and the next one behind `at` more.
fn survives(
    cluster: &mut Cluster,
    client: &Client,
    command: &str,
    how: Arm,
    at: u64,
    fault: SlaveFault,
) {
    arm(cluster, &[0, 1, 2], how, at);
    let mut program = client.start(&["--json", "-c", command]);
    let first = frozen(cluster, &[0, 1, 2], "the transfer is frozen", &mut program);
    let others: Vec<usize> = (0..3).filter(|n| *n != first).collect();
    arm(cluster, &others, how, at);
    fault.strike(cluster, first);
    let struck = Instant::now();
    let second = frozen(cluster, &others, "the transfer goes on at another slave", &mut program);
    let took = struck.elapsed();
    assert!(took < fault.bound(), "{fault:?}: it went on after {took:?}");
    fault.strike(cluster, second);
    let output = Client::finish(&mut program).ok();
    assert!(output.objects().iter().all(|object| object["ok"] == true), "{output:?}");
    [first, second].into_iter().for_each(|n| fault.heal(cluster, n));
}

/// Three slaves with nothing in them.
fn empty() -> Cluster {
    Cluster::of(3).proxied().start()
}

/// More than all buffers on the way hold, many times over.
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

/// So many small files in folders, below `top`, and where the slaves are struck.
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
    // More than all buffers on the way hold.
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
pub fn a_large_get_while_lines_are_cut() {
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
fn a_large_put_while_lines_are_cut() {
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
fn a_tree_is_fetched_while_lines_are_cut() {
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
pub fn a_tree_is_mirrored_while_lines_are_cut() {
    sends_tree("mirror -R tree /tree", SlaveFault::Cut);
}
