//! Failing connections, silent servers and read-only folders: the command ends with a clear result.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use relais_proto::{Expect, Reply, Request};

use super::{CommandFixture, bound_by_rights, set_mode, tree};
use crate::harness::{Client, FakeServer, FakeTree, Proxy, Pty, SOON, content, eventually};

/// Requires that two trees are equal, byte by byte.
#[track_caller]
fn assert_equal_trees(a: &std::path::Path, b: &std::path::Path) {
    assert_eq!(tree(a), tree(b));
    for name in tree(a).iter().filter(|name| !name.ends_with('/')) {
        assert!(fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn repeated_cuts_do_not_change_the_result() {
    let fixture = CommandFixture::new(&[]);
    for n in 0..300 {
        fixture.local(&format!("t/{}/{n}", n % 8), &content(n, 9000));
    }
    fixture.local("t/large", &content(999, 5 << 20));
    let proxy = Proxy::to(fixture.slave.addr);
    // Slow enough for answers to arrive between two cuts.
    proxy.throttle(Some(12 << 20));
    proxy.throttle_up(Some(12 << 20));
    let client = Client::new(proxy.addr());
    fs::rename(fixture.client.folder().join("t"), client.folder().join("t")).unwrap();
    for (command, moved) in [
        ("put -r t", Proxy::take_data_bytes as fn(&Proxy) -> u64),
        ("get -r t -o back", Proxy::take_content_bytes),
        ("mirror t m", Proxy::take_content_bytes),
        ("mirror -R t n", Proxy::take_data_bytes),
    ] {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut cuts, mut passed) = (0, 0);
                // After every megabyte, at any position in the stream.
                while !over.load(Ordering::SeqCst) && cuts < 12 {
                    passed += moved(&proxy);
                    if passed > 1 << 20 {
                        proxy.cut_all();
                        (cuts, passed) = (cuts + 1, 0);
                    }
                    std::thread::yield_now();
                }
            });
            let json = client.command(command);
            over.store(true, Ordering::SeqCst);
            let json = json.ok().json();
            assert_eq!(
                (&json["files"], &json["failed"]),
                (&301.into(), &serde_json::json!([])),
                "{command}: {json}"
            );
        });
        assert!(!client.folder().join(".log").exists(), "{command}");
    }
    let (here, there) = (client.folder(), &fixture.slave.root);
    for (a, b) in [
        (here.join("t"), there.join("t")),
        (here.join("t"), here.join("back")),
        (here.join("m"), there.join("n")),
    ] {
        assert_equal_trees(&a, &b);
    }
}

#[test]
fn lost_answers_are_retried_and_no_change_is_made_twice() {
    let fixture = CommandFixture::new(&[("old/f", b"1")]);
    let proxy = Proxy::to(fixture.slave.addr);
    let client = Client::new(proxy.addr());
    (0..20).for_each(|n| super::write(&client.folder().join(format!("t/{n}")), b"x"));
    let number = |fixture: &CommandFixture| {
        fixture.local("probe", b"p");
        fixture.says("put probe")["version"].as_str().unwrap()[2..].parse::<u64>().unwrap()
    };
    for (command, changes) in [
        ("mkdir d", 1),
        ("put t/0", 1),
        ("mv 0 one", 1),
        ("rm one", 1),
        ("rm -r old", 1),
        ("put -r t", 21),
        ("mkdir -p a/b/c", 3),
    ] {
        let before = number(&fixture);
        proxy.fault_at_answer(crate::harness::Fault::Cut);
        client.command(command).ok();
        assert!(proxy.struck(), "{command}");
        assert_eq!(
            number(&fixture) - before,
            changes + 1,
            "{command} made a wrong number of changes"
        );
    }
}

#[test]
fn read_only_local_folders_are_reported() {
    let fixture = CommandFixture::new(&[
        ("t/a", b"1"),
        ("t/shut/b", b"2"),
        ("t/shut/c/d", b"3"),
        ("t/z", b"4"),
    ]);
    for command in ["get -r t", "mirror t t", "mirror --delete t t"] {
        let client = fixture.slave.client();
        let shut = client.folder().join("t/shut");
        super::write(&shut.join("old"), b"old");
        set_mode(&shut, 0o555);
        let mut program = bound_by_rights(client.setup(&["--json", "-c", command])).start();
        let json = Client::finish(&mut program).fails(1).json();
        set_mode(&shut, 0o755);
        assert_eq!(
            (client.read("t/a"), client.read("t/z")),
            (b"1".to_vec(), b"4".to_vec()),
            "{command}: {json}"
        );
        assert!(json["failed"].to_string().contains("/t/shut/b"), "{command}: {json}");
        assert_eq!(client.read("t/shut/old"), b"old", "{command}: {json}");
    }
}

/// Starts a server that does not answer the selected requests.
fn silent_to(which: RequestFilter) -> FakeServer {
    FakeTree::new()
        .folder("t")
        .file("t/a", b"1")
        .file("t/z", b"2")
        .lying(move |request| which(request).then(Vec::new))
}

/// Selects requests.
type RequestFilter = fn(&Request) -> bool;

/// Commands and the requests that stay unanswered.
const SILENCES: [(&str, RequestFilter); 8] = [
    ("get -r t", |r| matches!(r, Request::List { .. })),
    ("get -r t", |r| matches!(r, Request::Get(_))),
    ("mirror --checksum t t", |r| matches!(r, Request::Hash(_) | Request::Get(_))),
    ("mget t/*", |r| matches!(r, Request::List { .. })),
    ("put -r u", |r| matches!(r, Request::MakeFolder { .. })),
    ("put -r u", |r| matches!(r, Request::PutEnd { .. })),
    ("put u/a", |r| matches!(r, Request::PutEnd { .. })),
    ("rm -r t", |r| matches!(r, Request::Remove { .. })),
];

#[test]
fn a_silent_server_is_left() {
    std::thread::scope(|scope| {
        for (command, which) in SILENCES {
            scope.spawn(move || {
                let server = silent_to(which);
                let client = Client::new(server.addr);
                super::write(&client.folder().join("u/a"), b"1");
                let began = Instant::now();
                let output = client.run(&["--retry", "0", "--json", "-c", command]);
                assert!([3, 5].contains(&output.status), "{command}: {output:?}");
                assert!(
                    began.elapsed() < Duration::from_secs(30),
                    "{command}: {:?}",
                    began.elapsed()
                );
                assert_eq!(output.json()["ok"], false, "{command}");
            });
        }
    });
}

#[test]
fn ctrl_c_ends_a_wait_for_a_silent_server() {
    std::thread::scope(|scope| {
        for (command, which) in SILENCES {
            scope.spawn(move || {
                let asked = std::sync::Arc::new(AtomicBool::new(false));
                let seen = std::sync::Arc::clone(&asked);
                let honest = FakeTree::new().folder("t").file("t/a", b"1");
                let server = honest.lying(move |request| {
                    which(request).then(|| {
                        seen.store(true, Ordering::SeqCst);
                        Vec::new()
                    })
                });
                let client = Client::new(server.addr);
                super::write(&client.folder().join("u/a"), b"1");
                super::write(&client.folder().join("t/a"), b"9");
                let mut program = client.start(&["--json", "-c", command]);
                eventually(SOON, "the server is asked", || {
                    asked.load(Ordering::SeqCst).then_some(())
                });
                let began = Instant::now();
                program.signal(Signal::SIGINT);
                let json = Client::finish(&mut program).fails(130).json();
                assert_eq!(json["error"]["code"], "interrupted", "{command}: {json}");
                assert!(
                    began.elapsed() < Duration::from_secs(3),
                    "{command}: {:?}",
                    began.elapsed()
                );
            });
        }
    });
}

#[test]
fn a_false_staged_size_does_no_harm() {
    let large = content(1, 3 << 20);
    for offset in [(3_u64 << 20) + 1, 1 << 40, i64::MAX as u64] {
        let server = FakeTree::new().folder("t").lying(move |request| match request {
            Request::Resume { .. } => {
                Some(FakeServer::encoded(&[Reply::Staged { offset, current: Expect::Absent }]))
            }
            _ => None,
        });
        for command in ["put large", "put -r t"] {
            let client = Client::new(server.addr);
            super::write(&client.folder().join("large"), &large);
            super::write(&client.folder().join("t/large"), &large);
            let output = client.run(&["--retry", "0", "--json", "-c", command]);
            // A first put need not ask for the staged size; if it does, the size is too large.
            assert!(
                output.status == 0 || output.json()["error"]["code"] == "bad-server",
                "{command}: {output:?}"
            );
        }
    }
}

#[test]
fn the_prompt_outlives_its_server() {
    let mut fixture = CommandFixture::new(&[("here", b"1")]);
    let proxy = Proxy::to(fixture.slave.addr);
    let client = Client::new(proxy.addr());
    let (mut pty, mut program) = Pty::start_with_stderr(client.setup(&["--retry", "0"]));
    pty.screen.wait_for(SOON, "the prompt", |screen| screen.contains("> ").then_some(()));
    // A connection that is lost between two commands is not reported.
    proxy.cut_all();
    let from = pty.screen.text().len();
    pty.press("mkdir after-a-cut\r");
    eventually(SOON, "the command succeeds", || fixture.serves("after-a-cut").then_some(()));
    assert!(!pty.screen.text()[from..].contains("closed"), "{:?}", &pty.screen.text()[from..]);
    fixture.slave.program.kill();
    let from = pty.screen.text().len();
    pty.press("ls\r");
    pty.screen
        .wait_for(SOON, "the failure", |screen| screen.get(from..)?.contains("ls: ").then_some(()));
    fixture.slave.restart();
    proxy.set_target(fixture.slave.addr);
    pty.press("mkdir after-a-death\r");
    eventually(SOON, "the next server", || fixture.serves("after-a-death").then_some(()));
    pty.press("bye\r");
    assert_eq!(program.wait(SOON), 0);
}

#[test]
fn a_slow_upload_is_not_restarted() {
    // Slower than the buffers: all bytes are sent long before they arrive.
    let rate = 256 << 10;
    std::thread::scope(|scope| {
        for command in ["put -r t", "put large", "put -r many"] {
            scope.spawn(move || {
                let fixture = CommandFixture::new(&[]);
                let proxy = Proxy::to(fixture.slave.addr);
                proxy.throttle_up(Some(rate));
                let client = Client::new(proxy.addr());
                super::write(&client.folder().join("large"), &content(1, 2 << 20));
                (0..20).for_each(|n| {
                    super::write(&client.folder().join(format!("t/{n}")), &content(n, 100_000))
                });
                (0..500).for_each(|n| {
                    super::write(&client.folder().join(format!("many/{n}")), &content(n, 4000))
                });
                let began = Instant::now();
                let output = client.command(command).ok();
                let bytes = proxy.take_data_bytes();
                assert!(
                    bytes < 5 << 19,
                    "{command}: {bytes} bytes were sent for 2 MiB: {output:?}"
                );
                assert!(
                    began.elapsed() < Duration::from_secs(25),
                    "{command}: {:?}",
                    began.elapsed()
                );
            });
        }
    });
}
