//! Clusters whose slaves lack content, are behind, lose their master or hang; and copies.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use relais_proto::{Endpoint, ErrorCode, Request, ServerRole};

use super::fake::{closed_addr, endpoint, id, master, opening, redirect, send, serve, welcome};
use super::tree::Tree;
use super::{TestClient, content, shell};
use crate::transfer_log::read_log;

fn tree() -> Tree {
    Tree::new(&[("big.bin", content(10_007)), ("docs/x", vec![1]), ("docs/y", vec![2, 3])])
}

/// Returns a shell in `folder` that talks to `addr`.
fn client(addr: SocketAddr, json: bool) -> TestClient {
    let dir = tempfile::tempdir().unwrap();
    let (shell, printed) = shell(addr, dir.path().to_path_buf(), json);
    TestClient { dir, shell, printed }
}

/// Starts a server that accepts connections and never sends a byte.
fn hung() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::mem::forget(listener);
    addr
}

#[test]
fn missing_content_comes_silently_from_a_holder() {
    for line in ["get big.bin", "cat big.bin", "hash big.bin", "get -r docs"] {
        // The holder has an address, an id that the redirect knows, or an id that only the master
        // knows.
        for way in 0..3 {
            let (lacking, good) = (tree(), tree());
            let addr = good.slave(2);
            let named =
                if way == 0 { endpoint(2, addr) } else { Endpoint { id: id(2), addrs: vec![] } };
            *lacking.lacking.lock().unwrap() = Some(vec![endpoint(1, closed_addr()), named]);
            let first = endpoint(1, lacking.slave(1));
            let both = vec![first.clone(), endpoint(2, addr)];
            let addr = if way < 2 {
                master(both).0
            } else {
                serve(move |connection, _| {
                    let Some(Request::Login(login)) = opening(connection) else {
                        panic!("no login")
                    };
                    let slaves = if login.prefer == Some(id(2)) {
                        both[1..].to_vec()
                    } else {
                        vec![first.clone()]
                    };
                    send(connection, &[welcome(ServerRole::Master), redirect(slaves)]);
                })
            };
            let mut client = client(addr, false);
            client.run(0, &[line]);
            assert!(client.messages().is_empty(), "{line}, {way}: {:?}", client.messages());
            // The session stays there.
            lacking.state().requests.clear();
            client.run(0, &["ls"]);
            assert!(lacking.state().requests.is_empty(), "{line}, {way}");
        }
    }
}

#[test]
fn content_without_holder_can_be_resumed() {
    let lacking = tree();
    *lacking.lacking.lock().unwrap() = Some(vec![endpoint(2, closed_addr())]);
    let mut client = TestClient::new(std::slice::from_ref(&lacking), true);
    let begun = Instant::now();
    client.run(5, &["get big.bin"]);
    let object = client.object();
    assert_eq!(object["error"]["code"], "no-content", "{object}");
    assert!(object["error"]["message"].as_str().unwrap().contains("again to resume"), "{object}");
    assert!(begun.elapsed() >= Duration::from_secs(5) && begun.elapsed() < Duration::from_secs(10));
    assert_eq!(read_log(client.dir.path()).unwrap().entries.len(), 1);
    // Later the content has arrived.
    *lacking.lacking.lock().unwrap() = None;
    client.run(0, &["get big.bin"]);
    assert_eq!(client.local("big.bin"), content(10_007));
}

#[test]
fn isolated_slave_is_reported_once() {
    for line in [
        "ls",
        "get big.bin",
        "cat big.bin",
        "get -r docs",
        "put docs -r -o new",
        "put file",
        "mkdir m",
        "hash big.bin",
        "status",
    ] {
        let tree = tree();
        tree.master_unreachable_ms.store(4000, Ordering::SeqCst);
        let mut client = TestClient::new(std::slice::from_ref(&tree), false);
        std::fs::create_dir(client.dir.path().join("docs")).unwrap();
        client.write("docs/new", b"n");
        client.write("file", b"f");
        client.run(0, &[line, "ls", "stat big.bin"]);
        let messages = client.messages();
        assert!(
            messages.len() == 1
                && messages[0]
                    .ends_with(" has not reached its master for 4 s; its data may be old"),
            "{line}: {messages:?}"
        );
        tree.master_unreachable_ms.store(1000, Ordering::SeqCst);
        client.run(0, &["ls"]);
        assert_eq!(client.messages().len(), 2, "a new time alone");
    }
}

#[test]
fn changes_go_to_a_slave_that_reaches_its_master() {
    for line in ["put file", "put -r dir", "mkdir m", "rm docs/x", "mv docs/x z"] {
        let (cut_off, good) = (tree(), tree());
        cut_off.master_unreachable_ms.store(9000, Ordering::SeqCst);
        cut_off.no_changes.store(u64::MAX, Ordering::SeqCst);
        let (addr, logins) =
            master(vec![endpoint(1, cut_off.slave(1)), endpoint(2, good.slave(2))]);
        let mut client = client(addr, false);
        client.shell.session.settings.retry = Duration::from_secs(5);
        std::fs::create_dir(client.dir.path().join("dir")).unwrap();
        client.write("dir/f", b"f");
        client.write("file", b"f");
        client.run(0, &[line]);
        assert!(
            client.messages().iter().all(|messages| !messages.contains("lost 127")),
            "{line}: {:?}",
            client.messages()
        );
        assert!(logins.lock().unwrap().last().unwrap().avoid.contains(&id(1)), "{line}");
    }
}

#[test]
fn a_put_goes_back_to_the_slave_that_has_its_bytes() {
    let tree = tree();
    let other = tree.beside();
    tree.no_changes.store(1, Ordering::SeqCst);
    other.no_changes.store(u64::MAX, Ordering::SeqCst);
    let mut client = TestClient::new(&[tree.clone(), other], true);
    client.shell.session.settings.retry = Duration::from_secs(10);
    client.write("file", &content(3_000_000));
    client.run(0, &["put file"]);
    let state = tree.state();
    let last =
        state.requests.iter().rev().find_map(|request| {
            if let Request::Put(put) = request { Some(put.offset) } else { None }
        });
    assert_eq!((state.files["file"].len(), last), (3_000_000, Some(3_000_000)));
}

#[test]
fn impossible_changes_are_refused_clearly() {
    for line in ["put file", "mkdir m", "rm docs/x", "put -r dir"] {
        let tree = tree();
        tree.master_unreachable_ms.store(9000, Ordering::SeqCst);
        tree.no_changes.store(u64::MAX, Ordering::SeqCst);
        let mut client = TestClient::new(std::slice::from_ref(&tree), true);
        std::fs::create_dir(client.dir.path().join("dir")).unwrap();
        client.write("dir/f", b"f");
        client.write("file", b"f");
        client.run(1, &[line]);
        let object = client.object();
        assert_eq!(object["error"]["code"], "no-changes", "{line}: {object}");
        assert!(
            object.to_string().contains("has not reached its master for 9 s"),
            "{line}: {object}"
        );
    }
}

#[test]
fn slave_that_is_behind_is_avoided_briefly() {
    for line in ["ls", "get big.bin", "cat big.bin", "get -r docs", "put file", "mkdir m"] {
        let behind = tree();
        let good = behind.beside();
        *behind.refuse.lock().unwrap() = vec![ErrorCode::Behind; 100].into();
        let (addr, logins) = master(vec![endpoint(1, behind.slave(1)), endpoint(2, good.slave(2))]);
        let mut client = client(addr, false);
        client.write("file", b"f");
        client.run(0, &[line]);
        assert!(client.messages().is_empty(), "{line}: {:?}", client.messages());
        assert!(logins.lock().unwrap()[1].avoid.contains(&id(1)));
        let begun = Instant::now();
        while client.shell.session.avoids(id(1)) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{line}: it is avoided for long");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn draining_slave_is_left_at_once() {
    for line in ["ls", "get big.bin", "cat big.bin", "get -r docs", "mkdir m"] {
        let drained = tree();
        let good = drained.beside();
        *drained.refuse.lock().unwrap() = vec![ErrorCode::Draining; 10].into();
        let mut client = TestClient::new(&[drained, good], false);
        let begun = Instant::now();
        client.run(0, &[line]);
        assert!(begun.elapsed() < Duration::from_millis(900), "{line}: {:?}", begun.elapsed());
    }
}

#[test]
fn copies_option_is_sent() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.shell.copies = 3;
    std::fs::create_dir(client.dir.path().join("dir")).unwrap();
    client.write("dir/small", b"s");
    client.write("dir/large", &content(2_000_000));
    client.run(0, &["put dir/small", "put dir/large", "put -r dir"]);
    let copies: Vec<u16> = tree
        .state()
        .requests
        .iter()
        .filter_map(|request| if let Request::Put(put) = request { Some(put.copies) } else { None })
        .collect();
    assert_eq!(copies, [3; 4]);
}

#[test]
fn too_few_copies_keep_the_change() {
    let tree = tree();
    tree.too_few.store(true, Ordering::SeqCst);
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.shell.copies = 64;
    std::fs::create_dir(client.dir.path().join("dir")).unwrap();
    client.write("dir/small", b"s");
    client.write("file", &content(3_000_000));
    for line in ["put file", "put -r dir"] {
        client.run(1, &[line]);
        let object = client.object();
        assert_eq!(object["error"]["code"], "too-few-copies", "{object}");
        assert!(
            object["error"]["message"].as_str().unwrap().contains("the change stands"),
            "{object}"
        );
    }
    assert!(
        tree.state().files.contains_key("file") && tree.state().files.contains_key("dir/small")
    );
    assert!(read_log(client.dir.path()).unwrap().entries.is_empty(), "there is nothing to resume");
}

#[test]
fn hanging_slave_is_left_within_ten_seconds() {
    let threads = ["get big.bin", "cat big.bin", "get -r docs", "put file", "put -r dir", "ls"]
        .map(|line| {
            std::thread::spawn(move || {
                let tree = tree();
                // Opens the session and never answers.
                let silent = super::fake::slave(1, |_| (vec![], false));
                let mut client = client(
                    master(vec![
                        endpoint(1, silent),
                        endpoint(2, hung()),
                        endpoint(3, tree.slave(3)),
                    ])
                    .0,
                    false,
                );
                std::fs::create_dir(client.dir.path().join("dir")).unwrap();
                client.write("dir/f", b"f");
                client.write("file", &content(3_000_000));
                let begun = Instant::now();
                client.run(0, &[line]);
                assert!(begun.elapsed() < Duration::from_secs(10), "{line}: {:?}", begun.elapsed());
            })
        });
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn slave_hanging_at_all_addresses_costs_one_timeout() {
    let tree = tree();
    let stuck = Endpoint { id: id(1), addrs: vec![hung(), hung(), hung(), hung()] };
    let mut client = client(master(vec![stuck, endpoint(2, tree.slave(2))]).0, false);
    let begun = Instant::now();
    client.run(0, &["ls"]);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn hanging_master_costs_one_timeout() {
    let tree = tree();
    let dying = |n| super::fake::slave(n, |request| (super::fake::one_file(request).0, true));
    let slaves = vec![endpoint(1, dying(1)), endpoint(2, dying(2)), endpoint(3, tree.slave(3))];
    let addr = serve(move |connection, number| {
        opening(connection);
        if number == 0 {
            send(connection, &[welcome(ServerRole::Master), redirect(slaves.clone())]);
        } else {
            std::thread::sleep(Duration::from_secs(60));
        }
    });
    let mut client = client(addr, false);
    let begun = Instant::now();
    client.run(0, &["stat docs", "stat docs", "stat docs", "stat docs"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
