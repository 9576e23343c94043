//! What a client keeps for its next run: what was seen, and the slaves that its master named.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relais_proto::{Endpoint, ErrorCode, Lsn, Request, ServerRole};

use super::fake::{
    CLUSTER, endpoint, master, master_of, nobody, opening, redirect, send, serve, welcome,
};
use super::tree::Tree;
use super::{CapturedOutput, content, shell};
use crate::notices::Notices;
use crate::saved_state::{SavedState, StateFolder};
use crate::shell::Shell;

fn tree() -> Tree {
    Tree::new(&[("big.bin", content(10_007)), ("docs/x", vec![1]), ("docs/y", vec![2, 3])])
}

/// A shell in `folder` that talks to `addr` and keeps things in `kept`.
fn shell_with_memory(addr: SocketAddr, folder: &Path, kept: &Path) -> (Shell, CapturedOutput) {
    let (mut shell, printed) = shell(addr, folder.to_path_buf(), false);
    let session = std::mem::replace(&mut shell.session, super::fake::session(addr, Duration::ZERO));
    let saved = SavedState::new(StateFolder::at(kept), session.host(), "", shell.notices.clone());
    shell.session = session.with_saved_state(Some(saved));
    (shell, printed)
}

fn seen(tree: &Tree) -> Vec<Lsn> {
    tree.state()
        .asked
        .iter()
        .filter_map(|request| if let Request::Seen { lsn } = request { Some(*lsn) } else { None })
        .collect()
}

fn lsn(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

#[test]
fn where_all_are_behind_that_is_told_with_what_to_do() {
    let tree = tree();
    *tree.refuse.lock().unwrap() = vec![ErrorCode::Behind; 10_000].into();
    let dir = tempfile::tempdir().unwrap();
    let (mut shell, _) = shell_with_memory(
        master(vec![endpoint(1, tree.slave(1))]).0,
        dir.path(),
        &dir.path().join("kept"),
    );
    let begun = Instant::now();
    assert_eq!(shell.execute("ls").status, 1);
    let told = shell.notices.collected();
    assert!(
        told.len() == 1
            && told[0].contains("behind")
            && told[0].contains(&format!("remove {}", dir.path().display())),
        "{told:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_an_earlier_run_has_seen_is_told_only_where_it_is_news() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let kept = dir.path().join("kept");
    // One that stands alone, which shows whose it is only with its first answer.
    let alone = tree.slave(1);
    let (mut first, _) = shell_with_memory(alone, dir.path(), &kept);
    for line in ["ls", "mkdir m", "ls", "get docs/x"] {
        assert_eq!(first.execute(line).status, 0);
    }
    assert!(seen(&tree).is_empty(), "all that was seen came on this connection");
    let (mut second, _) = shell_with_memory(alone, dir.path(), &kept);
    assert_eq!((second.execute("ls").status, second.execute("ls").status), (0, 0));
    assert!(seen(&tree).is_empty(), "the server's latest is as high");
    // What another run has seen in the meantime is told to a session that is open.
    assert_eq!(
        (second.execute("mkdir n").status, first.execute("ls").status, first.execute("ls").status),
        (0, 0, 0)
    );
    assert_eq!(seen(&tree), [lsn(6)]);
    assert!(first.notices.collected().is_empty() && second.notices.collected().is_empty());
}

#[test]
fn an_impossible_mark_is_dropped_with_a_warning() {
    for alone in [true, false] {
        let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
        let kept = dir.path().join("kept");
        let slave = tree.slave(1);
        let addr = if alone { slave } else { master_of(&tree, vec![endpoint(1, slave)]).0 };
        let (mut first, _) = shell_with_memory(addr, dir.path(), &kept);
        assert_eq!(first.execute("mkdir m").status, 0);
        let origin = super::origin(&first);
        let saved = || {
            SavedState::new(StateFolder::at(&kept), first.session.host(), "", Notices::collecting())
        };
        for forged in [Lsn { epoch: u32::MAX, number: u64::MAX }, lsn(6)] {
            saved().save(&origin, forged);
            let (mut second, _) = shell_with_memory(addr, dir.path(), &kept);
            assert_eq!((second.execute("ls").status, second.execute("ls").status), (0, 0));
            let told = second.notices.collected();
            assert!(
                told.len() == 1
                    && told[0].starts_with(&format!("warning: change {forged} was seen"))
                    && told[0].contains("whose latest is 1-5"),
                "{told:?}"
            );
            assert_eq!(saved().lsn(&origin), Some(lsn(5)));
        }
    }
}

#[test]
fn what_is_kept_of_one_host_is_not_used_for_another() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let kept = dir.path().join("kept");
    let (addr, _) = master_of(&tree, vec![endpoint(1, tree.slave(1))]);
    let (mut first, _) = shell_with_memory(addr, dir.path(), &kept);
    assert_eq!(first.execute("mkdir m").status, 0);
    // Another server that claims the cluster's id.
    let (other, logins) = master(vec![endpoint(1, tree.slave(1))]);
    let (mut second, _) = shell_with_memory(other, dir.path(), &kept);
    assert_eq!(second.execute("ls").status, 0);
    assert!(second.notices.collected().is_empty(), "{:?}", second.notices.collected());
    assert_eq!(logins.lock().unwrap()[0].lsn, Lsn::default());
}

#[test]
fn a_ticket_carries_what_an_earlier_run_has_seen() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let kept = dir.path().join("kept");
    let tickets: Arc<Mutex<Vec<Lsn>>> = Arc::default();
    let (shown, inner) = (tickets.clone(), tree.slave(1));
    let slave = serve(move |connection, _| {
        let Some(Request::Ticket { lsn, .. }) = opening(connection) else { return };
        shown.lock().unwrap().push(lsn);
        let mut behind = relais_net::Connection::connect(inner, Duration::from_secs(1)).unwrap();
        behind.queue(&Request::Hello(relais_proto::Hello {
            role: relais_proto::Role::Client,
            versions: relais_proto::VERSIONS,
            agent: String::new(),
        }));
        behind.queue(&Request::Ticket { ticket: b"ticket".to_vec(), lsn });
        behind.flush().unwrap();
        while let Ok(Some(reply)) = behind.read_reply() {
            let opened = matches!(reply, relais_proto::Reply::Opened { .. });
            send(connection, &[reply]);
            if opened {
                break;
            }
        }
        while let Ok(Some(request)) = connection.read_request() {
            behind.queue(&request);
            if behind.flush().is_err() {
                return;
            }
            let Ok(Some(reply)) = behind.read_reply() else { return };
            send(connection, &[reply]);
        }
    });
    let (addr, _) = master_of(&tree, vec![endpoint(1, slave)]);
    for line in ["mkdir m", "stat docs"] {
        let (mut shell, _) = shell_with_memory(addr, dir.path(), &kept);
        assert_eq!(shell.execute(line).status, 0, "{:?}", shell.notices.collected());
    }
    assert_eq!(*tickets.lock().unwrap(), [lsn(0), lsn(5)]);
    assert!(seen(&tree).is_empty());
}

/// A master that answers its first `times` callers only.
fn passing_master(slaves: Vec<Endpoint>, times: usize) -> SocketAddr {
    serve(move |connection, number| {
        if number < times {
            opening(connection);
            send(connection, &[welcome(ServerRole::Master), redirect(slaves.clone())]);
        }
    })
}

#[test]
fn without_its_master_a_client_finds_the_slaves_that_an_earlier_run_knew() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let kept = dir.path().join("kept");
    let addr = passing_master(vec![endpoint(1, nobody()), endpoint(2, tree.slave(2))], 1);
    // Nothing is kept yet.
    let (mut unknown, _) = shell_with_memory(nobody(), dir.path(), &kept);
    assert_eq!(unknown.execute("ls").status, 3);
    let (mut first, _) = shell_with_memory(addr, dir.path(), &kept);
    assert_eq!(first.execute("mkdir m").status, 0);
    let (mut later, _) = shell_with_memory(addr, dir.path(), &kept);
    let lines = ["get big.bin", "ls", "put big.bin -o copy"];
    assert_eq!(lines.map(|line| later.execute(line).status), [0; 3]);
    let line = format!(
        "the master at {addr} cannot be reached; continuing with the slaves that it named before"
    );
    assert_eq!(later.notices.collected(), [line.as_str()]);
    assert_eq!(later.session.origin().map(|origin| origin.cluster), Some(CLUSTER));
    // Where those are gone as well, the master's absence is what is told.
    let gone = passing_master(vec![endpoint(1, nobody())], 1);
    let (mut shell, _) = shell_with_memory(gone, dir.path(), &kept);
    assert_eq!(shell.execute("ls").status, 3);
    shell.session.save();
    let (mut shell, _) = shell_with_memory(gone, dir.path(), &kept);
    assert_eq!(shell.execute("ls").status, 3);
    let told = shell.notices.collected();
    assert!(told.last().unwrap().contains(&format!("{gone} cannot be reached")), "{told:?}");
}

#[test]
fn a_file_of_an_earlier_run_that_is_no_good_is_told_of_and_replaced() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let kept = dir.path().join("kept");
    let slaves = vec![endpoint(1, tree.slave(1))];
    let (addr, _) = master_of(&tree, slaves.clone());
    let (mut first, _) = shell_with_memory(addr, dir.path(), &kept);
    assert_eq!(first.execute("mkdir m").status, 0);
    for entry in kept.read_dir().unwrap() {
        std::fs::write(entry.unwrap().path(), b"\0garbage").unwrap();
    }
    let (mut second, _) = shell_with_memory(addr, dir.path(), &kept);
    assert_eq!((second.execute("mkdir n").status, second.execute("ls").status), (0, 0));
    assert_eq!(second.notices.collected().len(), 1, "{:?}", second.notices.collected());
    let notices = Notices::collecting();
    let saved = SavedState::new(StateFolder::at(&kept), second.session.host(), "", notices.clone());
    let origin = super::origin(&second);
    assert_eq!((saved.lsn(&origin), notices.collected()), (Some(lsn(6)), vec![]));
}
