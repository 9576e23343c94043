//! Freshness: a client never sees less than was acknowledged, than its redirect says, or than
//! before.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use relais_proto::{ErrorCode, Lsn, Reply, Request};

use super::helpers::open;
use super::tree_equality::wait_equal;
use crate::harness::{
    Client, Cluster, Program, RawClient, SOON, digest, eventually, get, path, process_of,
    session_with, stop, ticket,
};

/// Stops the replicator of a slave repeatedly until `over`, so that the slave falls behind.
fn hold_up(cluster: &Cluster, slave: usize, over: &AtomicBool) {
    let held = process_of(&cluster.slaves[slave].program, "Replicator");
    while !over.load(Ordering::SeqCst) {
        stop(held);
        std::thread::sleep(Duration::from_millis(250));
        kill(held, Signal::SIGCONT).unwrap();
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Sets the flag when dropped, also if the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn new_clients_see_the_puts_through_every_slave() {
    let cluster = Cluster::of(3).start();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hold_up(&cluster, 2, &over));
        let _over = StopOnDrop(&over);
        let (mut wire, mut slowest) = (open(&cluster, 0), Duration::ZERO);
        for n in 0..100 {
            // A name that is replaced, and a new one.
            let (bytes, fresh) = (format!("value {n} ").repeat(n + 1), format!("new{n}"));
            wire.put("same", bytes.as_bytes()).unwrap();
            wire.put(&fresh, bytes.as_bytes()).unwrap();
            let client = cluster.client();
            let began = Instant::now();
            client.run(&["--json", "-c", "get same", "-c", &format!("get {fresh}")]).ok();
            slowest = slowest.max(began.elapsed());
            assert_eq!(String::from_utf8_lossy(&client.read("same")), bytes, "round {n}");
            assert_eq!(String::from_utf8_lossy(&client.read(&fresh)), bytes, "round {n}");
        }
        assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    });
    wait_equal(&cluster);
}

/// Returns the slave of a running client's last command.
#[track_caller]
fn slave_in_use(cluster: &Cluster, client: &Program) -> usize {
    eventually(SOON, "a command has ended", || {
        let text = client.stdout.text();
        let last: serde_json::Value = serde_json::from_str(text.lines().next_back()?).ok()?;
        Some(cluster.slave_at(last["slaves"].as_array()?.last()?.as_str()?))
    })
}

/// A client that puts a rising counter, and one that gets it, each in one session.
struct CounterClients {
    writer: Client,
    reader: Client,
    writing: Program,
    reading: Program,
    count: usize,
}

impl CounterClients {
    fn start(cluster: &Cluster) -> Self {
        let (writer, reader) = (cluster.client(), cluster.client());
        fs::write(writer.folder().join("v0"), "0").unwrap();
        writer.command("put v0 -o v").ok();
        let start = |client: &Client| {
            client.setup(&["--json", "--keep-going", "--retry", "30"]).with_stdin().start()
        };
        let (writing, reading) = (start(&writer), start(&reader));
        Self { writer, reader, writing, reading, count: 0 }
    }

    /// Puts and gets the counter `times` more.
    fn continue_for(&mut self, times: usize) {
        for _ in 0..times {
            self.count += 1;
            fs::write(
                self.writer.folder().join(format!("v{}", self.count)),
                self.count.to_string(),
            )
            .unwrap();
            self.writing.type_in(&format!("put v{} -o v\n", self.count));
            self.reading.type_in(&format!("get v -o read{}\n", self.count));
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Ends both clients and returns the values that were read, in order.
    #[track_caller]
    fn end(mut self) -> Vec<usize> {
        for program in [&mut self.writing, &mut self.reading] {
            program.close_stdin();
            Client::finish(program).ok();
        }
        let value =
            |n| String::from_utf8(self.reader.read(&format!("read{n}"))).unwrap().parse().unwrap();
        (1..=self.count).map(value).collect()
    }
}

#[test]
fn reads_of_a_session_never_go_back_while_slaves_die() {
    let mut cluster = Cluster::of(3).start();
    let mut counting = CounterClients::start(&cluster);
    for _ in 0..4 {
        counting.continue_for(15);
        // The slave in use dies while another slave, not the writer's, is behind.
        let (used, written) =
            (slave_in_use(&cluster, &counting.reading), slave_in_use(&cluster, &counting.writing));
        let behind = (0..3).find(|n| *n != used && *n != written).unwrap();
        let held = process_of(&cluster.slaves[behind].program, "Replicator");
        stop(held);
        counting.continue_for(15);
        cluster.slaves[used].program.kill();
        counting.continue_for(40);
        kill(held, Signal::SIGCONT).unwrap();
        cluster.restart_slave_on_same_port(used);
        cluster.wait_in_service(3);
    }
    let count = counting.count;
    let values = counting.end();
    assert!(values.is_sorted(), "{values:?}");
    assert!(values[values.len() - 1] > values[0], "the value never changed: {values:?}");
    let nodes = wait_equal(&cluster);
    let last = digest(count.to_string().as_bytes());
    assert!(
        matches!(
            &nodes["v"],
            super::tree_equality::TreeEntry::File { digest, .. }
                if *digest == last
        ),
        "{nodes:?}"
    );
}

/// Asks the slave at `addr` about a path as a client that has seen `lsn`.
///
/// Returns the version at the path; `None` if the slave answers that it is behind.
#[track_caller]
fn ask_having_seen(
    addr: SocketAddr,
    ticket: &[u8],
    lsn: Lsn,
    in_ticket: bool,
    name: &str,
) -> Option<Lsn> {
    let mut wire: RawClient =
        session_with(addr, ticket, if in_ticket { lsn } else { Lsn::default() });
    if !in_ticket {
        wire.send(&[Request::Seen { lsn }]);
    }
    match wire.ask(&Request::Stat(path(name))) {
        Reply::Details { entry, lsn: at, .. } => {
            assert!(at >= lsn, "the answer is at {at}, the client has seen {lsn}");
            entry.version
        }
        Reply::Error(refusal) if refusal.code == ErrorCode::Behind => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slave_shows_what_was_seen_elsewhere_or_is_behind() {
    let cluster = Cluster::of(3).start();
    let (ticket, _) = ticket(cluster.addr);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hold_up(&cluster, 1, &over));
        let _over = StopOnDrop(&over);
        let mut wire = open(&cluster, 0);
        for n in 0..30 {
            let version = wire.put("f", format!("{n}").as_bytes()).unwrap();
            for slave in [1, 2] {
                let found =
                    ask_having_seen(cluster.slaves[slave].addr, &ticket, version, n % 2 == 0, "f");
                assert_eq!(
                    found,
                    Some(version),
                    "at slave {slave}; `None`: it was behind for seconds"
                );
            }
        }
    });
    // A stopped replicator: the slave answers `behind`, in time, only to clients that have seen
    // more.
    let held = process_of(&cluster.slaves[1].program, "Replicator");
    stop(held);
    let version = open(&cluster, 0).put("f", b"last").unwrap();
    let addr = cluster.slaves[1].addr;
    for in_ticket in [true, false] {
        let began = Instant::now();
        assert_eq!(ask_having_seen(addr, &ticket, version, in_ticket, "f"), None);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    }
    let before = Lsn { number: version.number - 1, ..version };
    assert_eq!(ask_having_seen(addr, &ticket, before, true, "f"), Some(before));
    kill(held, Signal::SIGCONT).unwrap();
    assert_eq!(ask_having_seen(addr, &ticket, version, true, "f"), Some(version));
    wait_equal(&cluster);
    let mut wire = session_with(addr, &ticket, version);
    wire.send(&[get("f")]);
    assert_eq!(wire.content().unwrap().1, b"last");
}

#[test]
fn a_later_run_never_sees_less_than_an_earlier_one() {
    let mut cluster = Cluster::of(2).start();
    let client = cluster.client();
    let mut wire = open(&cluster, 0);
    wire.put("f", b"old").unwrap();
    wait_equal(&cluster);
    // One slave falls behind, the other dies, and the client is sent to the former.
    let held = process_of(&cluster.slaves[1].program, "Replicator");
    stop(held);
    wire.put("f", b"new").unwrap();
    client.run(&["--retry", "30", "-c", "get f"]).ok();
    assert_eq!(client.read("f"), b"new");
    cluster.slaves[0].program.kill();
    cluster.master.kill();
    let output = client.run(&["--json", "--retry", "2", "-c", "cat f"]);
    assert!(output.status != 0 && !output.stdout.contains("old"), "{output:?}");
    kill(held, Signal::SIGCONT).unwrap();
    cluster.restart_master();
    cluster.restart_slave(0);
    client.run(&["--retry", "30", "-c", "get f"]).ok();
    assert_eq!(client.read("f"), b"new");
    wait_equal(&cluster);
}
