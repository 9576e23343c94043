//! Revoked access stays revoked after kills, restarts, damaged files and restored backups.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use relais_proto::{ErrorCode, Lsn, Reply, Request};

use super::{TestServer, add, login, password, password_file, try_session, user};
use crate::harness::{Cluster, ProgramBuilder, RawClient, SOON, children, eventually, hello};

/// Logs in at a master and returns the ticket.
#[track_caller]
fn ticket_of(cluster: &Cluster, name: &str) -> Vec<u8> {
    eventually(SOON, "a ticket", || {
        let mut wire = RawClient::connect(cluster.addr);
        wire.send(&[hello(), login(name, &password(name))]);
        assert!(matches!(wire.reply(), Reply::Welcome { .. }));
        match wire.reply() {
            Reply::Redirect { ticket, .. } => Some(ticket),
            _ => None,
        }
    })
}

fn set(path: &PathBuf, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_worker_started_with_damaged_accounts_refuses_logins() {
    let [_, server] = TestServer::both(&[("ann", "write", "/"), ("eve", "write", "/")]);
    let TestServer::Standalone(slave) = &server else { unreachable!() };
    user(server.dir(), &server.state(), &["remove", "eve"]).ok();
    eventually(SOON, "her access is revoked", || server.open("eve").is_err().then_some(()));
    let accounts = server.state().join("accounts");
    let good = fs::read(&accounts).unwrap();
    for damage in ["mode", "gone"] {
        match damage {
            "mode" => fs::set_permissions(&accounts, fs::Permissions::from_mode(0o644)).unwrap(),
            _ => fs::remove_file(&accounts).unwrap(),
        }
        let before = children(slave.program.pid());
        // The replicator is the first child.
        before[1..].iter().for_each(|worker| kill(*worker, Signal::SIGKILL).unwrap());
        eventually(SOON, "new workers have started", || {
            (children(slave.program.pid()).len() == before.len()).then_some(())
        });
        for _ in 0..20 {
            for (name, given) in [("eve", password("eve")), ("", String::new())] {
                let mut wire = RawClient::connect(server.addr());
                wire.send(&[hello(), login(name, &given)]);
                let answers = [wire.frame(), wire.frame()].map(|frame| frame.ok().flatten());
                let opened = answers.iter().flatten().any(|(kind, payload)| {
                    matches!(Reply::decode(*kind, payload), Ok(Reply::Opened { .. }))
                });
                assert!(!opened, "{damage}: {name:?}");
            }
        }
        set(&accounts, &good);
        eventually(SOON, "the repaired accounts are in force", || server.open("ann").ok());
        eventually(SOON, "every worker serves", || {
            (0..12).all(|_| server.open("ann").is_ok()).then_some(())
        });
    }
}

#[test]
fn an_older_accounts_file_revives_no_ticket() {
    let mut cluster = Cluster::of(1).file("f", b"content").start();
    let state = cluster.dir.folder("master");
    let accounts = state.join("accounts");
    add(&cluster.dir, &state, "ann", "write", "/");
    let old = fs::read(&accounts).unwrap();
    add(&cluster.dir, &state, "eve", "write", "/");
    let ticket = ticket_of(&cluster, "eve");
    let slave = cluster.slaves[0].addr;
    eventually(SOON, "the ticket is accepted", || try_session(slave, &ticket).ok());
    user(&cluster.dir, &state, &["remove", "eve"]).ok();
    eventually(SOON, "her access is revoked", || {
        try_session(slave, &ticket).is_err().then_some(())
    });
    for put_back in [Some(&old), None] {
        cluster.master.kill();
        match put_back {
            Some(bytes) => set(&accounts, bytes),
            None => {
                fs::remove_file(&accounts).unwrap();
                add(&cluster.dir, &state, "ann", "write", "/");
            }
        }
        cluster.restart_master();
        cluster.wait_in_service(1);
        for _ in 0..30 {
            assert_eq!(
                try_session(slave, &ticket).unwrap_err().code,
                ErrorCode::BadTicket,
                "{put_back:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        let good = ticket_of(&cluster, "ann");
        eventually(SOON, "a new ticket is accepted", || try_session(slave, &good).ok());
    }
}

#[test]
fn restarted_slaves_still_refuse_removed_users() {
    let mut cluster = Cluster::of(2).shared().file("f", b"content").start();
    let state = cluster.dir.folder("master");
    add(&cluster.dir, &state, "ann", "write", "/");
    add(&cluster.dir, &state, "eve", "write", "/");
    let ticket = ticket_of(&cluster, "eve");
    user(&cluster.dir, &state, &["remove", "eve"]).ok();
    for n in 0..2 {
        let slave = cluster.slaves[n].addr;
        eventually(SOON, "her access is revoked", || {
            try_session(slave, &ticket).is_err().then_some(())
        });
    }
    cluster.master.kill();
    for n in [0, 1, 0] {
        cluster.slaves[n].program.kill();
        cluster.restart_slave_on_same_port(n);
        let addr = cluster.slaves[n].addr;
        for _ in 0..20 {
            let mut wire = RawClient::connect(addr);
            wire.send(&[hello(), Request::Ticket { ticket: ticket.clone(), lsn: Lsn::default() }]);
            let answers = [wire.frame(), wire.frame()].map(|frame| frame.ok().flatten());
            let opened = answers.iter().flatten().any(|(kind, payload)| {
                matches!(Reply::decode(*kind, payload), Ok(Reply::Opened { .. }))
            });
            assert!(!opened, "slave {n}");
        }
    }
}

#[test]
fn accounts_behind_a_link_can_be_changed() {
    let dir = crate::harness::TestDir::new();
    let (real, state, root) = (dir.folder("real"), dir.folder("linked"), dir.folder("root"));
    add(&dir, &real, "ann", "write", "/");
    std::os::unix::fs::symlink(real.join("accounts"), state.join("accounts")).unwrap();
    let mut slave = ProgramBuilder::new("ftpslave", dir.path())
        .args(["0", "--standalone", "--root"])
        .args([&root, &"--state".into(), &state])
        .start();
    let addr = slave.ready();
    let opens = |secret: &str| {
        let mut wire = RawClient::connect(addr);
        wire.send(&[hello(), login("ann", secret)]);
        assert!(matches!(wire.reply(), Reply::Welcome { .. }));
        matches!(wire.reply(), Reply::Opened { .. })
    };
    assert!(opens(&password("ann")));
    let file = password_file(&dir, "another");
    user(&dir, &real, &["passwd", "ann", "--password-file", file.to_str().unwrap()]).ok();
    eventually(SOON, "the new password opens", || opens("another").then_some(()));
}

#[test]
fn with_a_ticket_the_client_asks_for_no_password() {
    let mut cluster = Cluster::of(1).file("f", b"content").start();
    let state = cluster.dir.folder("master");
    add(&cluster.dir, &state, "ann", "write", "/");
    let file = password_file(&cluster.dir, &password("ann"));
    let client = cluster.client();
    eventually(SOON, "the account is in force", || {
        (client
            .run(&["-u", "ann", "--password-file", file.to_str().unwrap(), "-c", "get f"])
            .status
            == 0)
            .then_some(())
    });
    cluster.master.kill();
    fs::remove_file(client.folder().join("f")).unwrap();
    let mut program =
        client.setup(&["-u", "ann", "-c", "get f"]).under(&["setsid", "--wait"]).start();
    crate::harness::Client::finish(&mut program).ok();
    assert_eq!(client.read("f"), b"content");
}

#[test]
fn tickets_of_a_replaced_cluster_key_are_refused() {
    let cluster = Cluster::of(1).file("f", b"content").start();
    let state = cluster.dir.folder("master");
    add(&cluster.dir, &state, "ann", "write", "/");
    let (ticket, slave) = (ticket_of(&cluster, "ann"), cluster.slaves[0].addr);
    eventually(SOON, "the ticket is accepted", || try_session(slave, &ticket).ok());
    let other = cluster.dir.path().join("other.key");
    relais_auth::ClusterKey::load_or_create(&other).unwrap();
    fs::rename(&other, cluster.key()).unwrap();
    eventually(Duration::from_secs(5), "no worker accepts the ticket", || {
        (0..8).all(|_| try_session(slave, &ticket).is_err()).then_some(())
    });
}
