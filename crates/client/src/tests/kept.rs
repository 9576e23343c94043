//! State saved for the next run: the highest LSN, and the slaves of the redirect.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relais_proto::{Endpoint, ErrorCode, Lsn, Request, ServerRole};

use super::fake::{
    CLUSTER, closed_addr, endpoint, master, master_at, master_of, opening, redirect, send, serve,
    welcome,
};
use super::tree::Tree;
use super::{CapturedOutput, content, shell};
use crate::notices::Notices;
use crate::saved_state::{SavedState, StateFolder};
use crate::shell::Shell;

fn tree() -> Tree {
    Tree::new(&[("big.bin", content(10_007)), ("docs/x", vec![1]), ("docs/y", vec![2, 3])])
}

/// Returns a shell in `folder` that talks to `addr` and saves its state in `state_dir`.
fn shell_with_state(addr: SocketAddr, folder: &Path, state_dir: &Path) -> (Shell, CapturedOutput) {
    let (mut shell, printed) = shell(addr, folder.to_path_buf(), false);
    let saved = SavedState::new(
        StateFolder::at(state_dir),
        &shell.session.settings.host,
        "",
        shell.notices.clone(),
    );
    shell.session.saved = Some(saved);
    (shell, printed)
}

fn seen(tree: &Tree) -> Vec<Lsn> {
    tree.state()
        .requests
        .iter()
        .filter_map(|request| if let Request::Seen { lsn } = request { Some(*lsn) } else { None })
        .collect()
}

fn lsn(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

#[test]
fn stale_cluster_is_explained() {
    let tree = tree();
    *tree.refuse.lock().unwrap() = vec![ErrorCode::Behind; 10_000].into();
    let dir = tempfile::tempdir().unwrap();
    let (mut shell, _) = shell_with_state(
        master(vec![endpoint(1, tree.slave(1))]).0,
        dir.path(),
        &dir.path().join("kept"),
    );
    let begun = Instant::now();
    assert_eq!(shell.execute("ls").status, 1);
    let messages = shell.notices.collected();
    assert!(
        messages.len() == 1
            && messages[0].contains("behind")
            && messages[0].contains(&format!("remove {}", dir.path().display())),
        "{messages:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn seen_lsn_is_sent_only_if_newer() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let state_dir = dir.path().join("kept");
    // A standalone slave shows its cluster only with its first reply.
    let standalone = tree.slave(1);
    let (mut first, _) = shell_with_state(standalone, dir.path(), &state_dir);
    for line in ["ls", "mkdir m", "ls", "get docs/x"] {
        assert_eq!(first.execute(line).status, 0);
    }
    assert!(seen(&tree).is_empty(), "all that was seen came on this connection");
    let (mut second, _) = shell_with_state(standalone, dir.path(), &state_dir);
    assert_eq!((second.execute("ls").status, second.execute("ls").status), (0, 0));
    assert!(seen(&tree).is_empty(), "the server's latest is as high");
    // An open session learns the LSN that another run has seen meanwhile.
    assert_eq!(
        (second.execute("mkdir n").status, first.execute("ls").status, first.execute("ls").status),
        (0, 0, 0)
    );
    assert_eq!(seen(&tree), [lsn(6)]);
    assert!(first.notices.collected().is_empty() && second.notices.collected().is_empty());
}

#[test]
fn impossible_lsn_is_dropped_with_a_warning() {
    for standalone in [true, false] {
        let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
        let state_dir = dir.path().join("kept");
        let slave = tree.slave(1);
        let addr = if standalone { slave } else { master_of(&tree, vec![endpoint(1, slave)]).0 };
        let (mut first, _) = shell_with_state(addr, dir.path(), &state_dir);
        assert_eq!(first.execute("mkdir m").status, 0);
        let origin = super::origin(&first);
        let saved = || {
            SavedState::new(
                StateFolder::at(&state_dir),
                &first.session.settings.host,
                "",
                Notices::collecting(),
            )
        };
        for forged in [Lsn { epoch: u32::MAX, number: u64::MAX }, lsn(6)] {
            saved().save(&origin, forged);
            let (mut second, _) = shell_with_state(addr, dir.path(), &state_dir);
            assert_eq!((second.execute("ls").status, second.execute("ls").status), (0, 0));
            let messages = second.notices.collected();
            assert!(
                messages.len() == 1
                    && messages[0].starts_with(&format!("warning: change {forged} was seen"))
                    && messages[0].contains("whose latest change is 1-5"),
                "{messages:?}"
            );
            assert_eq!(saved().lsn(&origin), Some(lsn(5)));
        }
    }
}

#[test]
fn lsn_seen_by_another_client_meanwhile_is_kept() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let state_dir = dir.path().join("kept");
    let slaves = vec![endpoint(1, tree.slave(1))];
    let saved = Arc::new(Mutex::new(None));
    let is_first = AtomicBool::new(true);
    let (kept, latest) = (Arc::clone(&saved), tree.clone());
    let (addr, logins) = master_at(
        move || {
            let Some((mut saved, origin)) = kept.lock().unwrap().take() else {
                return if is_first.swap(false, Ordering::Relaxed) {
                    latest.latest()
                } else {
                    lsn(6)
                };
            };
            // Another client makes a change while this reply is on its way.
            SavedState::save(&mut saved, &origin, lsn(6));
            lsn(5)
        },
        slaves,
    );
    let (mut first, _) = shell_with_state(addr, dir.path(), &state_dir);
    assert_eq!(first.execute("mkdir m").status, 0);
    let host = first.session.settings.host.clone();
    let state = || SavedState::new(StateFolder::at(&state_dir), &host, "", Notices::collecting());
    let origin = super::origin(&first);
    *saved.lock().unwrap() = Some((state(), origin.clone()));
    let (mut second, _) = shell_with_state(addr, dir.path(), &state_dir);
    second.execute("ls");
    assert!(second.notices.collected().iter().all(|text| !text.contains("dropped")));
    assert_eq!(state().lsn(&origin), Some(lsn(6)));
    assert_eq!(logins.lock().unwrap().len(), 3, "the second client asks once more");
}

#[test]
fn saved_state_is_bound_to_its_host() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let state_dir = dir.path().join("kept");
    let (addr, _) = master_of(&tree, vec![endpoint(1, tree.slave(1))]);
    let (mut first, _) = shell_with_state(addr, dir.path(), &state_dir);
    assert_eq!(first.execute("mkdir m").status, 0);
    // Another server that claims the cluster's id.
    let (other, logins) = master(vec![endpoint(1, tree.slave(1))]);
    let (mut second, _) = shell_with_state(other, dir.path(), &state_dir);
    assert_eq!(second.execute("ls").status, 0);
    assert!(second.notices.collected().is_empty(), "{:?}", second.notices.collected());
    assert_eq!(logins.lock().unwrap()[0].lsn, Lsn::default());
}

#[test]
fn ticket_carries_the_seen_lsn() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let state_dir = dir.path().join("kept");
    let tickets: Arc<Mutex<Vec<Lsn>>> = Arc::default();
    let (shown, inner) = (tickets.clone(), tree.slave(1));
    let slave = serve(move |connection, _| {
        let Some(Request::Ticket { lsn, .. }) = opening(connection) else { return };
        shown.lock().unwrap().push(lsn);
        let mut behind = relais_net::Connection::connect(inner, Duration::from_secs(1)).unwrap();
        behind.queue(&Request::Hello(relais_proto::Hello::new(relais_proto::Role::Client, "")));
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
        let (mut shell, _) = shell_with_state(addr, dir.path(), &state_dir);
        assert_eq!(shell.execute(line).status, 0, "{:?}", shell.notices.collected());
    }
    assert_eq!(*tickets.lock().unwrap(), [lsn(0), lsn(5)]);
    assert!(seen(&tree).is_empty());
}

/// Starts a master that answers only its first `times` clients.
fn passing_master(slaves: Vec<Endpoint>, times: usize) -> SocketAddr {
    serve(move |connection, number| {
        if number < times {
            opening(connection);
            send(connection, &[welcome(ServerRole::Master), redirect(slaves.clone())]);
        }
    })
}

#[test]
fn saved_route_works_without_master() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let state_dir = dir.path().join("kept");
    let addr = passing_master(vec![endpoint(1, closed_addr()), endpoint(2, tree.slave(2))], 1);
    // No state is saved yet.
    let (mut unknown, _) = shell_with_state(closed_addr(), dir.path(), &state_dir);
    assert_eq!(unknown.execute("ls").status, 3);
    let (mut first, _) = shell_with_state(addr, dir.path(), &state_dir);
    assert_eq!(first.execute("mkdir m").status, 0);
    let (mut later, _) = shell_with_state(addr, dir.path(), &state_dir);
    let lines = ["get big.bin", "ls", "put big.bin -o copy"];
    assert_eq!(lines.map(|line| later.execute(line).status), [0; 3]);
    let line = format!(
        "the master at {addr} cannot be reached; continuing with the slaves that it named before"
    );
    assert_eq!(later.notices.collected(), [line.as_str()]);
    assert_eq!(later.session.origin.as_ref().map(|origin| origin.cluster), Some(CLUSTER));
    // If the slaves are gone too, the message names the unreachable master.
    let gone = passing_master(vec![endpoint(1, closed_addr())], 1);
    let (mut shell, _) = shell_with_state(gone, dir.path(), &state_dir);
    assert_eq!(shell.execute("ls").status, 3);
    shell.session.save();
    let (mut shell, _) = shell_with_state(gone, dir.path(), &state_dir);
    assert_eq!(shell.execute("ls").status, 3);
    let messages = shell.notices.collected();
    assert!(
        messages.last().unwrap().contains(&format!("{gone} cannot be reached")),
        "{messages:?}"
    );
}

#[test]
fn bad_state_file_is_reported_and_replaced() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tree());
    let state_dir = dir.path().join("kept");
    let slaves = vec![endpoint(1, tree.slave(1))];
    let (addr, _) = master_of(&tree, slaves.clone());
    let (mut first, _) = shell_with_state(addr, dir.path(), &state_dir);
    assert_eq!(first.execute("mkdir m").status, 0);
    for entry in state_dir.read_dir().unwrap() {
        std::fs::write(entry.unwrap().path(), b"\0garbage").unwrap();
    }
    let (mut second, _) = shell_with_state(addr, dir.path(), &state_dir);
    assert_eq!((second.execute("mkdir n").status, second.execute("ls").status), (0, 0));
    assert_eq!(second.notices.collected().len(), 1, "{:?}", second.notices.collected());
    let notices = Notices::collecting();
    let saved = SavedState::new(
        StateFolder::at(&state_dir),
        &second.session.settings.host,
        "",
        notices.clone(),
    );
    let origin = super::origin(&second);
    assert_eq!((saved.lsn(&origin), notices.collected()), (Some(lsn(6)), vec![]));
}
