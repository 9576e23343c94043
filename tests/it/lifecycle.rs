//! Start, stop, crash and restart of programs: no process outlives its parent, and other sessions
//! continue.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{
    Client, Cluster, Fault, Program, ProgramBuilder, Proxy, Pty, RawClient, SOON, Standalone,
    TestDir, alive, children, content, eventually, session, sessions, socket_owner, stop, ticket,
    write_old,
};

#[test]
fn each_stopping_signal_ends_a_slave_with_status_0() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut slave = Standalone::start(&[], &[("f", b"1")]);
        slave.client().get("f");
        assert_eq!(slave.program.stop(signal), 0, "{signal}");
        // A connection of another test may use the port for a moment.
        eventually(SOON, "the port is free again", || TcpListener::bind(slave.addr).ok());
    }
}

#[test]
fn each_stopping_signal_ends_master_and_slave_with_status_0() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut cluster = Cluster::of(1).file("f", b"1").start();
        cluster.client().get("f");
        assert_eq!(cluster.slaves[0].program.stop(signal), 0, "{signal}");
        assert_eq!(cluster.master.stop(signal), 0, "{signal}");
    }
}

#[test]
fn a_hangup_of_the_terminal_stops_a_server() {
    for (mut server, _pty, _dir) in servers(|setup| {
        let (pty, program) = Pty::start(setup);
        (program, Some(pty))
    }) {
        server.signal(Signal::SIGHUP);
        assert_eq!(server.wait(SOON), 0);
    }
}

#[test]
fn an_ignored_hangup_does_not_stop_a_server() {
    for (mut server, _pty, _dir) in servers(|setup| {
        let (pty, program) = Pty::start(setup.under(&["nohup"]));
        (program, Some(pty))
    }) {
        server.signal(Signal::SIGHUP);
        server.stderr.wait_for(SOON, "it reads its files again", |text| {
            text.contains("SIGHUP").then_some(())
        });
        assert_eq!(server.stop(Signal::SIGTERM), 0);
    }
}

#[test]
fn without_a_terminal_a_hangup_reloads() {
    for (mut server, _, _dir) in servers(|setup| (setup.without_terminal().start(), None)) {
        for _ in 0..2 {
            let before = server.stderr.text().matches("SIGHUP").count();
            server.signal(Signal::SIGHUP);
            server.stderr.wait_for(SOON, "the log says what is reloaded", |text| {
                (text.matches("SIGHUP").count() > before).then_some(())
            });
        }
        assert_eq!(server.stop(Signal::SIGTERM), 0);
    }
    // The transfer log was moved away; the slave opens a new one.
    let dir = TestDir::new();
    let (log, moved) = (dir.path().join("log"), dir.path().join("moved"));
    let mut slave = slave_builder(&dir)
        .args(["--transfer-log", log.to_str().unwrap()])
        .without_terminal()
        .start();
    let client = Client::new(slave.ready());
    client.run(&["-c", "mkdir a"]).ok();
    std::fs::rename(&log, &moved).unwrap();
    slave.signal(Signal::SIGHUP);
    eventually(SOON, "a new log exists", || log.exists().then_some(()));
    eventually(SOON, "the new log has lines", || {
        client.run(&["-c", "ls"]).ok();
        client.run(&["-c", "mkdir -p b/c"]).ok();
        client.run(&["-c", "rm -r b"]).ok();
        (std::fs::metadata(&log).unwrap().len() > 0).then_some(())
    });
}

fn slave_builder(dir: &TestDir) -> ProgramBuilder {
    ProgramBuilder::new("ftpslave", dir.path()).args(["0", "--standalone", "--root"]).args([
        dir.folder("root"),
        "--state".into(),
        dir.folder("state"),
    ])
}

/// Starts a master and a slave by `start` and waits until they serve.
fn servers(
    start: impl Fn(ProgramBuilder) -> (Program, Option<Pty>),
) -> [(Program, Option<Pty>, TestDir); 2] {
    let (master, slave) = (TestDir::new(), TestDir::new());
    let setup = ProgramBuilder::new("ftpmaster", master.path())
        .args(["--listen", "127.0.0.1:0", "--state"])
        .args([master.folder("state")]);
    [(setup, master), (slave_builder(&slave), slave)].map(|(setup, dir)| {
        let (program, pty) = start(setup);
        program.stderr.wait_for(SOON, "it serves", |text| {
            (text.contains(" serves ") || text.contains("] cluster ")).then_some(())
        });
        (program, pty, dir)
    })
}

#[test]
fn idle_sessions_do_not_delay_a_stop_beyond_the_grace() {
    let mut slave = Standalone::start(&["--grace", "1"], &[("f", b"1")]);
    let _idle = sessions(slave.addr, 3);
    let _silent = RawClient::connect(slave.addr);
    let began = Instant::now();
    assert_eq!(slave.program.stop(Signal::SIGTERM), 0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_transfer_may_end_within_the_grace() {
    let bytes = content(1, 48 << 20);
    let mut slave = Standalone::start(&["--grace", "60"], &[("f", &bytes)]);
    let proxy = Proxy::to(slave.addr);
    proxy.fault_at_content(1 << 20, Fault::Stall);
    let client = Client::new(proxy.addr());
    let mut program = client.start(&["--json", "-c", "get f"]);
    proxy.wait_struck();
    slave.program.signal(Signal::SIGTERM);
    // The slave accepts no new session …
    eventually(SOON, "the slave accepts no session", || {
        (slave.client().run(&["--retry", "0", "-c", "get f"]).status != 0).then_some(())
    });
    // … but the running transfer ends normally.
    proxy.release();
    Client::finish(&mut program).ok();
    assert!(client.read("f") == bytes);
    assert_eq!(slave.program.wait(SOON), 0);
}

#[test]
fn a_second_signal_ends_at_once() {
    let bytes = content(2, 48 << 20);
    let mut slave = Standalone::start(&["--grace", "600"], &[("f", &bytes)]);
    let proxy = Proxy::to(slave.addr);
    proxy.fault_at_content(1 << 20, Fault::Stall);
    let client = Client::new(proxy.addr());
    let _program = client.start(&["--json", "-c", "get f"]);
    proxy.wait_struck();
    slave.program.signal(Signal::SIGTERM);
    eventually(SOON, "the slave accepts no session", || {
        (slave.client().run(&["--retry", "0", "-c", "get f"]).status != 0).then_some(())
    });
    let began = Instant::now();
    slave.program.signal(Signal::SIGTERM);
    slave.program.wait(SOON);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(slave.program.stderr.ends_within(SOON), "a process was left");
}

#[test]
fn ctrl_c_at_a_terminal_ends_the_whole_group_cleanly() {
    let dir = TestDir::new();
    let root = dir.folder("root");
    let setup = ProgramBuilder::new("ftpslave", dir.path()).args([
        Path::new("0"),
        Path::new("--standalone"),
        Path::new("--root"),
        &root,
    ]);
    let (mut pty, mut slave) = Pty::start(setup);
    pty.screen.wait_for(SOON, "the ready line", |screen| {
        screen.contains("ready role=slave").then_some(())
    });
    pty.press("\x03");
    assert_eq!(slave.wait(SOON), 0);
    assert!(slave.stderr.ends_within(SOON), "a process was left");

    let setup = ProgramBuilder::new("ftpmaster", dir.path()).args([
        "--listen",
        "127.0.0.1:0",
        "--state",
        dir.folder("m").to_str().unwrap(),
    ]);
    let (mut pty, mut master) = Pty::start(setup);
    pty.screen.wait_for(SOON, "the ready line", |screen| {
        screen.contains("ready role=master").then_some(())
    });
    pty.press("\x03");
    assert_eq!(master.wait(SOON), 0);
    assert!(master.stderr.ends_within(SOON), "a process was left");
}

#[test]
fn killing_the_supervisor_ends_all_processes_in_2_s() {
    let mut slave = Standalone::start(&["--workers", "2"], &[("f", b"1")]);
    let mut open = sessions(slave.addr, 2);
    open[0].ping();
    let before = family(&slave);
    assert!(before.len() >= 2, "workers and a replicator: {before:?}");
    slave.program.signal(Signal::SIGKILL);
    slave.program.wait(SOON);
    eventually(Duration::from_secs(2), "the end of all processes", || {
        before.iter().all(|pid| !alive(*pid)).then_some(())
    });
    assert!(
        slave.program.stderr.ends_within(Duration::from_secs(2)),
        "a process outlived its supervisor"
    );
    // The slave id is free at the same moment.
    slave.restart_on_same_port();
    assert_eq!(
        std::fs::read_dir(slave.root.join(".relais/slaves")).unwrap().count(),
        1,
        "the slave id changed"
    );
    slave.client().get("f");
}

/// Opens two sessions in different workers; returns each with its worker.
fn in_two_workers(slave: &Standalone) -> ((RawClient, Pid), (RawClient, Pid)) {
    let processes = family(slave);
    let owner = |wire: &RawClient| {
        socket_owner(slave.addr, wire.local(), &processes).expect("a worker has the socket")
    };
    let first = sessions(slave.addr, 1).remove(0);
    let worker = owner(&first);
    // Sessions in the first worker stay open, so that another worker accepts the next one.
    let mut same = Vec::new();
    let other = eventually(SOON, "a session in another worker", || {
        let wire = sessions(slave.addr, 1).remove(0);
        let pid = owner(&wire);
        if pid == worker {
            same.push(wire);
            return None;
        }
        Some((wire, pid))
    });
    ((first, worker), other)
}

/// Returns the children of a slave with two workers, once all have started.
fn family(slave: &Standalone) -> Vec<Pid> {
    eventually(SOON, "all children are there", || {
        let children = children(slave.program.pid());
        (children.len() == 3).then_some(children)
    })
}

#[test]
fn a_killed_worker_is_replaced_and_other_sessions_continue() {
    let slave =
        Standalone::start(&["--workers", "2", "--sessions-per-worker", "64"], &[("f", b"1")]);
    let before = family(&slave);
    let ((mut lost, worker), (mut kept, _)) = in_two_workers(&slave);
    kill(worker, Signal::SIGKILL).unwrap();
    let began = Instant::now();
    eventually(SOON, "the worker is replaced", || {
        let now = children(slave.program.pid());
        (now.len() == before.len() && !now.contains(&worker)).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(3), "replaced after {:?}", began.elapsed());
    kept.ping();
    lost.closed_within(SOON);
    slave.client().get("f");
}

#[test]
fn any_child_may_die_and_the_slave_serves_on() {
    let slave = Standalone::start(&["--workers", "2"], &[("f", b"1")]);
    let before = family(&slave);
    for child in &before {
        kill(*child, Signal::SIGKILL).unwrap();
        eventually(SOON, "the process is replaced", || {
            let now = children(slave.program.pid());
            (now.len() == before.len() && !now.contains(child)).then_some(())
        });
        slave.client().get("f");
    }
    // The catalogue is updated too.
    write_old(&slave.root.join("later"), b"2");
    slave.wait_listed("later", true);
}

#[test]
fn a_stopped_supervisor_or_worker_does_not_stop_the_others() {
    let slave =
        Standalone::start(&["--workers", "2", "--sessions-per-worker", "64"], &[("f", b"1")]);
    let ((_lost, worker), (mut kept, _)) = in_two_workers(&slave);
    stop(worker);
    kept.ping();
    kill(worker, Signal::SIGCONT).unwrap();
    slave.program.signal(Signal::SIGSTOP);
    kept.ping();
    slave.client().get("f");
    slave.program.signal(Signal::SIGCONT);
}

#[test]
fn a_master_restarts_without_open_sessions_noticing() {
    let bytes = content(3, 48 << 20);
    let mut cluster = Cluster::of(2).proxied().file("f", &bytes).start();
    for slave in &cluster.slaves {
        slave.proxy.as_ref().unwrap().fault_at_content(1 << 20, Fault::Stall);
    }
    let client = cluster.client();
    let mut program = client.start(&["--json", "--streams", "1", "-c", "get f"]);
    let serving = eventually(SOON, "the transfer is frozen", || {
        cluster.slaves.iter().position(|slave| slave.proxy.as_ref().unwrap().struck())
    });
    let (ticket, _) = ticket(cluster.addr);
    let mut open = session(cluster.slaves[0].addr, &ticket);
    cluster.master.kill();
    open.ping();
    cluster.restart_master();
    cluster.slaves[serving].proxy.as_ref().unwrap().release();
    let json = Client::finish(&mut program).ok().json();
    assert_eq!(json["slaves"].as_array().unwrap().len(), 1, "{json}");
    assert!(client.read("f") == bytes);
    open.ping();
    cluster.slaves.iter().for_each(|slave| slave.proxy.as_ref().unwrap().disarm());
    cluster.wait_in_service(2);
    // The key was kept, so the old ticket still opens sessions.
    session(cluster.slaves[1].addr, &ticket).ping();
    client.get("f");
}

#[test]
fn a_slave_may_start_before_the_master_and_its_key() {
    let dir = TestDir::new();
    let (root, state) = (dir.folder("root"), dir.folder("state"));
    write_old(&root.join("f"), b"1");
    let addr = TcpListener::bind("127.0.0.77:0").unwrap().local_addr().unwrap();
    let mut slave = ProgramBuilder::new("ftpslave", dir.path())
        .args(["0", "--master", &addr.to_string(), "--root", root.to_str().unwrap()])
        .args(["--cluster-key", state.join("cluster.key").to_str().unwrap()])
        .start();
    slave.ready();
    // The slave waits and logs it.
    slave.stderr.wait_for(SOON, "the log mentions the missing key", |log| {
        log.contains("key").then_some(())
    });
    let mut master = ProgramBuilder::new("ftpmaster", dir.path())
        .args(["--listen", &addr.to_string(), "--state", state.to_str().unwrap()])
        .start();
    assert_eq!(master.ready(), addr);
    let client = Client::new(addr);
    client.run(&["--retry", "30", "-c", "get f"]).ok();
    assert_eq!(client.read("f"), b"1");
}

#[test]
fn a_slave_restarts_and_keeps_its_id() {
    let mut cluster = Cluster::of(1).file("f", b"1").start();
    let id = |cluster: &Cluster| cluster.status_json().unwrap()["slaves"][0]["id"].clone();
    let before = id(&cluster);
    cluster.slaves[0].program.kill();
    cluster.restart_slave(0);
    cluster.wait_in_service(1);
    assert_eq!(id(&cluster), before);
    assert_eq!(cluster.status_json().unwrap()["slaves"].as_array().unwrap().len(), 1);
    cluster.client().get("f");
}

#[test]
fn the_cluster_key_is_random_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let one = Cluster::of(0).start();
    let two = Cluster::of(0).start();
    let mode = std::fs::metadata(one.key()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_ne!(std::fs::read(one.key()).unwrap(), std::fs::read(two.key()).unwrap());
}

#[test]
fn a_port_in_use_is_status_3() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let dir = TestDir::new();
    let root = dir.folder("root");
    let mut slave = ProgramBuilder::new("ftpslave", dir.path())
        .args([&addr.port().to_string(), "--standalone", "--root", root.to_str().unwrap()])
        .start();
    assert_eq!(slave.wait(SOON), 3);
    let mut master = ProgramBuilder::new("ftpmaster", dir.path())
        .args(["--listen", &addr.to_string(), "--state", dir.folder("m").to_str().unwrap()])
        .start();
    assert_eq!(master.wait(SOON), 3);
}

#[test]
fn wrong_options_are_status_2() {
    let dir = TestDir::new();
    for (program, args) in [
        ("ftpslave", &["99999999", "--standalone"][..]),
        ("ftpslave", &["0", "--workers", "0", "--standalone"]),
        ("ftpslave", &["0", "--standalone", "--master", "127.0.0.1:1"]),
        ("ftpslave", &["0", "--master", "a:b"]),
        ("ftpslave", &["0", "--master", "127.0.0.1:0"]),
        ("ftpslave", &["0", "--advertise", "files.example"]),
        ("ftpslave", &["0", "--sessions-per-worker", "0"]),
        ("ftpslave", &["0", "--block-size", "4194305"]),
        ("ftpslave", &["0", "--grace", "18446744073709551615"]),
        ("ftpslave", &["0", "--user", "no-user-of-that-name"]),
        ("ftpslave", &["0", "--cluster-key", "/dev/stdin"]),
        ("ftpmaster", &["--listen", "nowhere"]),
        ("ftpmaster", &["no-such-command"]),
        ("ftpmaster", &["status", "--master", "127.0.0.1:99999"]),
        ("ftpmaster", &["status", "--master", "a b"]),
        ("ftpclient", &["127.0.0.1:99999"]),
    ] {
        let mut running = ProgramBuilder::new(program, dir.path()).args(args).start();
        assert_eq!(running.wait(SOON), 2, "{program} {args:?}");
        assert_eq!(running.stdout.text(), "", "{program} {args:?} listened");
    }
}

#[test]
fn a_master_without_a_port_is_at_2121() {
    let dir = TestDir::new();
    // No program listens on this address, so each program reports it as unreachable.
    let host = "127.99.99.99";
    let key = ["--cluster-key", "target/relais/cluster/cluster.key"];
    let mut master = ProgramBuilder::new("ftpmaster", dir.path())
        .args(["--listen", "127.0.0.1:0", "--state", "target/relais/cluster"])
        .start();
    master.ready();
    let words = [&["status", "--master", host][..], &key].concat();
    let status = ProgramBuilder::new("ftpmaster", dir.path()).args(words).start();
    let client = ProgramBuilder::new("ftpclient", dir.path())
        .args([host, "--retry", "0", "-c", "ls"])
        .start();
    for mut program in [status, client] {
        let output = Client::finish(&mut program);
        assert!(output.stderr.contains("127.99.99.99:2121"), "{output:?}");
    }
    let root = dir.folder("root");
    let mut slave = ProgramBuilder::new("ftpslave", dir.path())
        .args(["0", "--listen", "127.0.0.1", "--root"])
        .args([root.to_str().unwrap(), "--master", host])
        .args(key)
        .start();
    slave.ready();
    slave.stderr.wait_for(SOON, "the slave names the address", |text| {
        text.contains("127.99.99.99:2121").then_some(())
    });
}

#[test]
fn a_second_master_on_one_state_is_refused() {
    let cluster = Cluster::of(0).start();
    let mut second = ProgramBuilder::new("ftpmaster", cluster.dir.path())
        .args([
            "--listen",
            "127.0.0.1:0",
            "--state",
            cluster.dir.folder("master").to_str().unwrap(),
        ])
        .start();
    assert_eq!(second.wait(SOON), 1);
}

#[test]
fn the_prompt_gets_a_file_and_says_goodbye() {
    let slave = Standalone::start(&[], &[("hello.txt", b"some text")]);
    slave.wait_listed("hello.txt", true);
    let client = slave.client();
    let (mut pty, mut program) = Pty::start(client.setup(&[]));
    // At a terminal the client lists the folder after it connects.
    pty.screen.wait_for(SOON, "the listing", |screen| screen.contains("hello.txt").then_some(()));
    pty.press("get hello.txt\r");
    eventually(SOON, "the file arrives", || {
        client.folder().join("hello.txt").exists().then_some(())
    });
    assert_eq!(client.read("hello.txt"), b"some text");
    pty.press("bye\r");
    assert_eq!(program.wait(SOON), 0);
}

#[test]
fn a_prompt_ends_on_sigterm_and_sighup() {
    let slave = Standalone::start(&[], &[("hello.txt", b"some text")]);
    slave.wait_listed("hello.txt", true);
    // A closed terminal sends SIGHUP.
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let client = slave.client();
        let (pty, mut program) = Pty::start(client.setup(&[]));
        pty.screen.wait_for(SOON, "the prompt", |screen| screen.contains("> ").then_some(()));
        program.signal(signal);
        program.wait(SOON);
    }
}

#[test]
fn ctrl_c_stops_the_transfer_and_not_the_prompt() {
    let bytes = content(4, 48 << 20);
    let slave = Standalone::start(&[], &[("f", &bytes), ("small.txt", b"1")]);
    slave.wait_listed("small.txt", true);
    let proxy = Proxy::to(slave.addr);
    let client = Client::new(proxy.addr());
    let (mut pty, mut program) = Pty::start(client.setup(&[]));
    pty.screen.wait_for(SOON, "the listing", |screen| screen.contains("small.txt").then_some(()));
    proxy.fault_at_content(1 << 20, Fault::Stall);
    pty.press("get f\r");
    proxy.wait_struck();
    pty.press("\x03");
    program
        .stderr
        .wait_for(SOON, "it is stopped", |said| said.contains("interrupted").then_some(()));
    proxy.cut_all();
    pty.press("get small.txt\r");
    eventually(SOON, "the next file arrives", || {
        client.folder().join("small.txt").exists().then_some(())
    });
    assert!(!client.folder().join("f").exists());
    pty.press("bye\r");
    program.wait(SOON);
    // The next run resumes the interrupted transfer.
    client.run(&["-c", "get f"]).ok();
    assert!(client.read("f") == bytes);
}

#[test]
fn ctrl_c_on_a_slow_connection_ends_soon_and_saves() {
    let bytes = content(6, 8 << 20);
    for block in ["9", "4096", "1048576"] {
        let slave = Standalone::start(&["--block-size", block], &[("f", &bytes)]);
        let proxy = Proxy::to(slave.addr);
        // Slightly less than a piece a second, and never a whole number of blocks.
        proxy.throttle(Some(999_983));
        let client = Client::new(proxy.addr());
        let mut program = client.start(&["-c", "get f"]);
        eventually(SOON, "two pieces came", || (proxy.content_bytes() > 2_500_000).then_some(()));
        program.signal(Signal::SIGINT);
        let began = Instant::now();
        Client::finish(&mut program).fails(130);
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "blocks of {block}: ended after {:?}",
            began.elapsed()
        );
        proxy.cut_all();
        proxy.throttle(None);
        proxy.take_content_bytes();
        client.run(&["-c", "get f"]).ok();
        assert!(client.read("f") == bytes);
        let fetched = proxy.take_content_bytes();
        assert!(fetched < 8 << 20, "blocks of {block}: nothing was kept");
    }
}

#[test]
fn an_interrupted_get_is_status_130_with_its_log_written() {
    let bytes = content(5, 48 << 20);
    let slave = Standalone::start(&[], &[("f", &bytes)]);
    let proxy = Proxy::to(slave.addr);
    proxy.fault_at_content(10 << 20, Fault::Stall);
    let client = Client::new(proxy.addr());
    let mut program = client.start(&["-c", "get f"]);
    proxy.wait_struck();
    program.signal(Signal::SIGINT);
    Client::finish(&mut program).fails(130);
    let log = std::fs::metadata(client.folder().join(".log")).unwrap();
    assert!(log.len() > 0);
    proxy.cut_all();
    proxy.take_content_bytes();
    client.run(&["-c", "get f"]).ok();
    assert!(client.read("f") == bytes);
    let fetched = proxy.take_content_bytes();
    assert!(fetched <= 42 << 20, "{fetched} bytes were fetched where 38 MiB were missing");
}

#[test]
fn a_killed_slave_restarts_at_once_on_its_port() {
    let mut slave = Standalone::start(&[], &[("f", b"content")]);
    for _ in 0..5 {
        // Its other processes hold the port until they have exited.
        slave.program.signal(Signal::SIGKILL);
        slave.restart_on_same_port();
        slave.client().get("f");
    }
}
