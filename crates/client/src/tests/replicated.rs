//! A cluster whose slaves lack content, fall behind, lose their master or hang, and how many copies are asked for.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use relais_proto::{Endpoint, ErrorCode, Request, ServerRole};

use super::fake::{endpoint, id, master, nobody, opening, redirect, send, serve, welcome};
use super::tree::Tree;
use super::{TestClient, content, shell};
use crate::transfer_log::read_log;

fn tree() -> Tree {
    Tree::new(&[("big.bin", content(10_007)), ("docs/x", vec![1]), ("docs/y", vec![2, 3])])
}

/// A shell in `folder` that talks to `addr`.
fn bench(addr: SocketAddr, json: bool) -> TestClient {
    let dir = tempfile::tempdir().unwrap();
    let (shell, printed) = shell(addr, dir.path().to_path_buf(), json);
    TestClient { dir, shell, printed }
}

/// Takes connections and never says a word.
fn hung() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::mem::forget(listener);
    addr
}

#[test]
fn content_that_a_slave_lacks_comes_from_a_holder_without_a_word() {
    for line in ["get big.bin", "cat big.bin", "hash big.bin", "get -r docs"] {
        // The holder is named with its address, by its id where the redirect has it, or not even that: then the master knows.
        for way in 0..3 {
            let (lacking, good) = (tree(), tree());
            let addr = good.slave(2);
            let named =
                if way == 0 { endpoint(2, addr) } else { Endpoint { id: id(2), addrs: vec![] } };
            *lacking.lacking.lock().unwrap() = Some(vec![endpoint(1, nobody()), named]);
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
            let mut bench = bench(addr, false);
            bench.run(0, &[line]);
            assert!(bench.told().is_empty(), "{line}, {way}: {:?}", bench.told());
            // It stays there.
            lacking.state().asked.clear();
            bench.run(0, &["ls"]);
            assert!(lacking.state().asked.is_empty(), "{line}, {way}");
        }
    }
}

#[test]
fn content_that_nobody_has_is_told_and_can_be_resumed() {
    let lacking = tree();
    *lacking.lacking.lock().unwrap() = Some(vec![endpoint(2, nobody())]);
    let mut bench = TestClient::new(std::slice::from_ref(&lacking), true);
    let begun = Instant::now();
    bench.run(5, &["get big.bin"]);
    let object = bench.object();
    assert_eq!(object["error"]["code"], "no-content", "{object}");
    assert!(object["error"]["message"].as_str().unwrap().contains("again to resume"), "{object}");
    assert!(begun.elapsed() >= Duration::from_secs(5) && begun.elapsed() < Duration::from_secs(10));
    assert_eq!(read_log(bench.dir.path()).unwrap().entries.len(), 1);
    // Later it is there.
    *lacking.lacking.lock().unwrap() = None;
    bench.run(0, &["get big.bin"]);
    assert_eq!(bench.local("big.bin"), content(10_007));
}

#[test]
fn that_a_slave_is_alone_is_told_once_whatever_is_asked() {
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
        tree.alone.store(4000, Ordering::SeqCst);
        let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
        std::fs::create_dir(bench.dir.path().join("docs")).unwrap();
        bench.write("docs/new", b"n");
        bench.write("file", b"f");
        bench.run(0, &[line, "ls", "stat big.bin"]);
        let told = bench.told();
        assert!(
            told.len() == 1
                && told[0].ends_with(" has not reached its master for 4 s; its data may be old"),
            "{line}: {told:?}"
        );
        tree.alone.store(1000, Ordering::SeqCst);
        bench.run(0, &["ls"]);
        assert_eq!(bench.told().len(), 2, "a new time alone");
    }
}

#[test]
fn changes_go_to_a_slave_that_reaches_its_master() {
    for line in ["put file", "put -r dir", "mkdir m", "rm docs/x", "mv docs/x z"] {
        let (cut_off, good) = (tree(), tree());
        cut_off.alone.store(9000, Ordering::SeqCst);
        cut_off.no_changes.store(u64::MAX, Ordering::SeqCst);
        let (addr, logins) =
            master(vec![endpoint(1, cut_off.slave(1)), endpoint(2, good.slave(2))]);
        let mut bench = bench(addr, false);
        bench.shell.session.set_retry(Duration::from_secs(5));
        std::fs::create_dir(bench.dir.path().join("dir")).unwrap();
        bench.write("dir/f", b"f");
        bench.write("file", b"f");
        bench.run(0, &[line]);
        assert!(
            bench.told().iter().all(|told| !told.contains("lost 127")),
            "{line}: {:?}",
            bench.told()
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
    let mut bench = TestClient::new(&[tree.clone(), other], true);
    bench.shell.session.set_retry(Duration::from_secs(10));
    bench.write("file", &content(3_000_000));
    bench.run(0, &["put file"]);
    let state = tree.state();
    let last =
        state.asked.iter().rev().find_map(|request| {
            if let Request::Put(put) = request { Some(put.offset) } else { None }
        });
    assert_eq!((state.files["file"].len(), last), (3_000_000, Some(3_000_000)));
}

#[test]
fn changes_that_no_slave_can_make_are_refused_plainly() {
    for line in ["put file", "mkdir m", "rm docs/x", "put -r dir"] {
        let tree = tree();
        tree.alone.store(9000, Ordering::SeqCst);
        tree.no_changes.store(u64::MAX, Ordering::SeqCst);
        let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
        std::fs::create_dir(bench.dir.path().join("dir")).unwrap();
        bench.write("dir/f", b"f");
        bench.write("file", b"f");
        bench.run(1, &[line]);
        let object = bench.object();
        assert_eq!(object["error"]["code"], "no-changes", "{line}: {object}");
        assert!(
            object.to_string().contains("has not reached its master for 9 s"),
            "{line}: {object}"
        );
    }
}

#[test]
fn a_slave_that_is_behind_is_passed_over_for_a_moment() {
    for line in ["ls", "get big.bin", "cat big.bin", "get -r docs", "put file", "mkdir m"] {
        let behind = tree();
        let good = behind.beside();
        *behind.refuse.lock().unwrap() = vec![ErrorCode::Behind; 100].into();
        let (addr, logins) = master(vec![endpoint(1, behind.slave(1)), endpoint(2, good.slave(2))]);
        let mut bench = bench(addr, false);
        bench.write("file", b"f");
        bench.run(0, &[line]);
        assert!(bench.told().is_empty(), "{line}: {:?}", bench.told());
        assert!(logins.lock().unwrap()[1].avoid.contains(&id(1)));
        std::thread::sleep(Duration::from_millis(1600));
        assert!(!bench.shell.session.avoids(id(1)), "a second later it is as good as any");
    }
}

#[test]
fn a_slave_that_is_drained_is_left_at_once() {
    for line in ["ls", "get big.bin", "cat big.bin", "get -r docs", "mkdir m"] {
        let drained = tree();
        let good = drained.beside();
        *drained.refuse.lock().unwrap() = vec![ErrorCode::Draining; 10].into();
        let mut bench = TestClient::new(&[drained, good], false);
        let begun = Instant::now();
        bench.run(0, &[line]);
        assert!(begun.elapsed() < Duration::from_millis(900), "{line}: {:?}", begun.elapsed());
    }
}

#[test]
fn as_many_copies_are_asked_for_as_the_user_wants() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
    bench.shell.copies = 3;
    std::fs::create_dir(bench.dir.path().join("dir")).unwrap();
    bench.write("dir/small", b"s");
    bench.write("dir/large", &content(2_000_000));
    bench.run(0, &["put dir/small", "put dir/large", "put -r dir"]);
    let copies: Vec<u16> = tree
        .state()
        .asked
        .iter()
        .filter_map(|request| if let Request::Put(put) = request { Some(put.copies) } else { None })
        .collect();
    assert_eq!(copies, [3; 4]);
}

#[test]
fn too_few_copies_are_an_error_that_takes_nothing_back() {
    let tree = tree();
    tree.too_few.store(true, Ordering::SeqCst);
    let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
    bench.shell.copies = 64;
    std::fs::create_dir(bench.dir.path().join("dir")).unwrap();
    bench.write("dir/small", b"s");
    bench.write("file", &content(3_000_000));
    for line in ["put file", "put -r dir"] {
        bench.run(1, &[line]);
        let object = bench.object();
        assert_eq!(object["error"]["code"], "too-few-copies", "{object}");
        assert!(
            object["error"]["message"].as_str().unwrap().contains("the change stands"),
            "{object}"
        );
    }
    assert!(
        tree.state().files.contains_key("file") && tree.state().files.contains_key("dir/small")
    );
    assert!(
        read_log(bench.dir.path()).unwrap().entries.is_empty(),
        "there is nothing to be carried on"
    );
}

#[test]
fn a_slave_that_hangs_is_left_within_ten_seconds() {
    let threads = ["get big.bin", "cat big.bin", "get -r docs", "put file", "put -r dir", "ls"]
        .map(|line| {
            std::thread::spawn(move || {
                let tree = tree();
                // Opens the session and never answers.
                let silent = super::fake::slave(1, |_| (vec![], false));
                let mut bench = bench(
                    master(vec![
                        endpoint(1, silent),
                        endpoint(2, hung()),
                        endpoint(3, tree.slave(3)),
                    ])
                    .0,
                    false,
                );
                std::fs::create_dir(bench.dir.path().join("dir")).unwrap();
                bench.write("dir/f", b"f");
                bench.write("file", &content(3_000_000));
                let begun = Instant::now();
                bench.run(0, &[line]);
                assert!(begun.elapsed() < Duration::from_secs(10), "{line}: {:?}", begun.elapsed());
            })
        });
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_slave_that_hangs_at_all_its_addresses_is_waited_for_once() {
    let tree = tree();
    let stuck = Endpoint { id: id(1), addrs: vec![hung(), hung(), hung(), hung()] };
    let mut bench = bench(master(vec![stuck, endpoint(2, tree.slave(2))]).0, false);
    let begun = Instant::now();
    bench.run(0, &["ls"]);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn a_master_that_hangs_is_waited_for_once() {
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
    let mut bench = bench(addr, false);
    let begun = Instant::now();
    bench.run(0, &["stat docs", "stat docs", "stat docs", "stat docs"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
