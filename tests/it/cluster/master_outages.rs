//! Outages of the master, and a rolling restart of all programs.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::tree_equality::wait_equal;
use crate::harness::{Client, Cluster, Program, SOON, content, eventually};

/// Returns the objects that a client has printed, once there are `count`.
#[track_caller]
fn printed(program: &Program, count: usize) -> Vec<Value> {
    let lines = || program.stdout.text().lines().map(str::to_owned).collect::<Vec<_>>();
    let lines = eventually(SOON, "the client answers", || {
        Some(lines()).filter(|lines| lines.len() >= count)
    });
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
pub fn without_the_master_downloads_work_and_changes_are_refused() {
    let mut cluster = Cluster::of(2).start();
    let (known, open, new) = (cluster.client(), cluster.client(), cluster.client());
    for client in [&known, &open, &new] {
        fs::write(client.folder().join("x"), b"changed").unwrap();
    }
    fs::write(known.folder().join("f"), content(1, 100_000)).unwrap();
    known.command("put f").ok();
    wait_equal(&cluster);
    let mut session = open.setup(&["--json", "--keep-going", "--retry", "2"]).with_stdin().start();
    session.type_in("get f\n");
    assert_eq!(printed(&session, 1)[0]["ok"], true);

    cluster.master.kill();
    // An open session.
    session.type_in("get f -o g\nput x\n");
    let began = Instant::now();
    let answers = printed(&session, 3);
    assert_eq!(answers[1]["ok"], true, "{answers:?}");
    assert_eq!(
        (&answers[2]["ok"], &answers[2]["error"]["code"]),
        (&false.into(), &"no-changes".into()),
        "{answers:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(open.read("g") == content(1, 100_000));
    // A client that has used the cluster before.
    known.run(&["--json", "--retry", "2", "-c", "get f -o h"]).ok();
    assert!(known.read("h") == content(1, 100_000));
    let json = known.run(&["--json", "--retry", "2", "-c", "put x"]).fails(1).json();
    assert_eq!(json["error"]["code"], "no-changes", "{json}");
    // A new client.
    new.run(&["--json", "--retry", "1", "-c", "get f"]).fails(3);

    cluster.restart_master();
    cluster.wait_in_service(2);
    session.type_in("put x\nget x -o y\n");
    let answers = printed(&session, 5);
    assert_eq!((&answers[3]["ok"], &answers[4]["ok"]), (&true.into(), &true.into()), "{answers:?}");
    assert_eq!(open.read("y"), b"changed");
    session.close_stdin();
    Client::finish(&mut session);
    wait_equal(&cluster);
}

#[test]
fn a_put_waits_for_a_master_that_comes_back_in_time() {
    let mut cluster = Cluster::of(2).start();
    let client = cluster.client();
    fs::write(client.folder().join("f"), b"1").unwrap();
    client.command("put f").ok();
    wait_equal(&cluster);
    cluster.master.kill();
    fs::write(client.folder().join("f"), b"2").unwrap();
    let mut program =
        client.setup(&["--json", "--retry", "30", "-c", "put f"]).env("RUST_LOG", "debug").start();
    program
        .stderr
        .wait_for(SOON, "the client retries", |text| text.contains("failover]").then_some(()));
    assert_eq!(program.try_status(), None, "{}", program.stdout.text());
    cluster.restart_master();
    Client::finish(&mut program).ok();
    wait_equal(&cluster);
    assert_eq!(fs::read(cluster.slaves[0].root.join("f")).unwrap(), b"2");
}

#[test]
pub fn a_rolling_restart_of_all_programs_fails_no_command() {
    let mut cluster = Cluster::of(3).start();
    let clients: Vec<Client> = (0..3).map(|_| cluster.client()).collect();
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for (k, client) in clients.iter().enumerate() {
            let (over, done) = (&over, &done);
            scope.spawn(move || {
                let mut n = 0;
                while !over.load(Ordering::SeqCst) {
                    n += 1;
                    let bytes = content(n, 500 + usize::try_from(n).unwrap() * 100);
                    fs::write(client.folder().join("f"), &bytes).unwrap();
                    let get = format!("get own{k} -o back");
                    let output = client.run(&[
                        "--json",
                        "--retry",
                        "15",
                        "-c",
                        &format!("put f -o own{k}"),
                        "-c",
                        &get,
                    ]);
                    if output.status != 0 || client.read("back") != bytes {
                        // The other threads can stop.
                        over.store(true, Ordering::SeqCst);
                        panic!("round {n}: {output:?}");
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _over = StopOnDrop(&over);
        let progress = |done: &AtomicUsize| {
            let wanted = done.load(Ordering::SeqCst) + 6;
            eventually(SOON, "the clients continue", || {
                (done.load(Ordering::SeqCst) >= wanted || over.load(Ordering::SeqCst)).then_some(())
            });
        };
        for n in 0..3 {
            progress(&done);
            assert_eq!(cluster.slaves[n].program.stop(Signal::SIGTERM), 0);
            cluster.restart_slave_on_same_port(n);
            cluster.wait_in_service(3);
        }
        progress(&done);
        assert_eq!(cluster.master.stop(Signal::SIGTERM), 0);
        cluster.restart_master();
        cluster.wait_in_service(3);
        progress(&done);
    });
    wait_equal(&cluster);
}

/// Sets the flag when dropped, also if the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
