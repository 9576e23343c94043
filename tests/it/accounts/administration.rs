//! Accounts: the operator's commands, and their effect on clients.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{TestServer, add, password, password_file, user, wait_revoked};
use crate::harness::{Client, Cluster, ProgramBuilder, SOON, TestDir, eventually};

#[test]
fn users_are_added_listed_changed_and_removed() {
    let dir = TestDir::new();
    let state = dir.path().join("not there yet");
    let none = user(&dir, &state, &["list"]).ok();
    assert!(none.stdout.is_empty() && none.stderr.contains("no users"), "{none:?}");
    // The reader of standard output may have gone.
    let closed = r#"{ sleep 0.2; "$@"; echo "status $?" >&2; } | true"#;
    let mut listing = ProgramBuilder::new("ftpmaster", dir.path())
        .args(["user", "list", "--json"])
        .under(&["sh", "-c", closed, "sh"])
        .start();
    assert_eq!(Client::finish(&mut listing).stderr, "status 0\n");
    user(&dir, &state, &["remove", "ann"]).fails(1);
    assert!(!state.exists(), "a reading command created the folder");
    add(&dir, &state, "ann", "write", "/");
    add(&dir, &state, "bob", "read", "/home/bob");
    let json = user(&dir, &state, &["list", "--json"]).ok().json();
    let bob = &json.as_array().unwrap()[1];
    assert_eq!(
        (&bob["name"], &bob["rights"], &bob["root"]),
        (&"bob".into(), &"read".into(), &"/home/bob".into())
    );
    assert_eq!(user(&dir, &state, &["list"]).ok().stdout, "ann  write  /\nbob  read   /home/bob\n");
    user(&dir, &state, &["set", "ann", "--rights", "admin"]).ok();
    let listed = user(&dir, &state, &["list", "--json"]).ok().json();
    assert_eq!(listed.as_array().unwrap()[0]["rights"], "admin");
    user(&dir, &state, &["set", "ann", "--rights", "write"]).ok();
    let accounts = state.join("accounts");
    assert_eq!(fs::metadata(&accounts).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o7777, 0o700);
    let before = fs::read(&accounts).unwrap();
    let file = password_file(&dir, "secret");
    let given = ["--password-file", file.to_str().unwrap()];
    for (words, status, why) in [
        (vec!["add", "ann"], 1, "already"),
        (vec!["add", "a b"], 2, "name"),
        (vec!["add", "x", "--root", "../up"], 2, "--root"),
        (vec!["add", "x", "--root", ""], 2, "--root"),
        (vec!["passwd", "nobody"], 1, "no user"),
    ] {
        let output = user(&dir, &state, &[&words[..], &given].concat()).fails(status);
        assert!(output.stderr.contains(why), "{words:?}: {}", output.stderr);
    }
    for words in [
        vec!["remove", "nobody"],
        vec!["add", "x", "--password-file", "/dev/null"],
        vec!["add", "x", "--password-file", "/nowhere"],
    ] {
        user(&dir, &state, &words).fails(1);
    }
    user(&dir, &state, &["add", "x", "--rights", "all"]).fails(2);
    // Commands without an effect are refused.
    for words in [
        vec!["add", "x", "--master", "127.0.0.1:1"],
        vec!["remove", "ann", "--cluster-key", "key"],
        vec!["list", "--tls", "always"],
    ] {
        user(&dir, &state, &words).fails(2);
    }
    let nothing = user(&dir, &state, &["set", "ann"]).fails(2);
    assert!(nothing.stderr.contains("--rights or --root"), "{nothing:?}");
    user(&dir, &state, &["set", "ann", "--root", "../up"]).fails(2);
    assert_eq!(fs::read(&accounts).unwrap(), before);
    user(&dir, &state, &["set", "nobody", "--rights", "read"]).fails(1);
    let said = user(&dir, &state, &["set", "bob", "--rights", "write", "--root", "/"]).ok();
    assert!(said.stdout.contains(accounts.to_str().unwrap()), "{said:?}");
    user(&dir, &state, &["set", "ann", "--root", "/home"]).ok();
    let listed = user(&dir, &state, &["list"]).ok().stdout;
    assert_eq!(listed, "ann  write  /home\nbob  write  /\n");
    user(&dir, &state, &["remove", "ann"]).ok();
    let last = user(&dir, &state, &["remove", "bob"]).ok();
    assert!(last.stderr.contains("no login is possible"), "{}", last.stderr);
    // A password may come on standard input, as from a password generator.
    let mut program = ProgramBuilder::new("ftpmaster", dir.path())
        .args(["user", "add", "eve", "--state"])
        .args([&state])
        .with_stdin()
        .start();
    program.type_in("piped in\n");
    program.close_stdin();
    Client::finish(&mut program).ok();
    assert_eq!(user(&dir, &state, &["list"]).ok().stdout, "eve  read   /\n");
}

#[test]
fn the_first_user_says_that_anonymous_access_ends() {
    let dir = TestDir::new();
    let state = dir.folder("state");
    let given = password_file(&dir, "secret");
    let given = ["--password-file", given.to_str().unwrap()];
    let first = user(&dir, &state, &[&["add", "ann"][..], &given].concat()).ok();
    assert!(first.stderr.contains("anonymous access ends"), "{first:?}");
    assert!(first.stdout.contains(state.join("accounts").to_str().unwrap()), "{first:?}");
    let second = user(&dir, &state, &[&["add", "bob"][..], &given].concat()).ok();
    assert!(!second.stderr.contains("anonymous"), "{second:?}");
}

#[test]
fn changed_rights_and_roots_apply_to_open_sessions() {
    for server in TestServer::both(&[("ann", "read", "/")]) {
        let login = password_file(server.dir(), &password("ann"));
        let client = Client::new(server.addr());
        let run = |command: &str| {
            client.run(&["-u", "ann", "--password-file", login.to_str().unwrap(), "-c", command])
        };
        run("get f").ok();
        assert_ne!(run("mkdir new").status, 0, "ann may only read");
        let words = ["set", "ann", "--rights", "write", "--root", "/home"];
        user(server.dir(), &server.state(), &words).ok();
        eventually(SOON, "the new rights and the new root are in force", || {
            (run("mkdir new").status == 0 && run("get x").status == 0).then_some(())
        });
        assert_ne!(run("get f").status, 0, "f is outside of ann's folder");
    }
}

#[test]
fn a_server_does_not_start_with_accounts_that_it_cannot_trust() {
    let dir = TestDir::new();
    let state = dir.folder("state");
    add(&dir, &state, "ann", "write", "/");
    let accounts = state.join("accounts");
    let good = fs::read_to_string(&accounts).unwrap();
    let root = dir.folder("root");
    let fails = |why: &str| {
        let master = ProgramBuilder::new("ftpmaster", dir.path())
            .args(["--listen", "127.0.0.1:0", "--state"])
            .args([&state]);
        let slave = ProgramBuilder::new("ftpslave", dir.path())
            .args(["0", "--standalone", "--root"])
            .args([&root, &"--state".into(), &state]);
        for setup in [master, slave] {
            let output = Client::finish(&mut setup.start()).fails(1);
            assert!(
                output.stderr.contains(why) && output.stderr.contains("accounts"),
                "{why}: {}",
                output.stderr
            );
        }
    };
    let set = |text: &str, mode: u32| {
        fs::write(&accounts, text).unwrap();
        fs::set_permissions(&accounts, fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&good, 0o640);
    fails("0640");
    set(&format!("{good}ann\n"), 0o600);
    fails("line 3");
    set("", 0o600);
    fails("line 1");
    // A lost accounts file differs from none; so does a link to a folder that is not mounted yet.
    fs::remove_file(&accounts).unwrap();
    fails("is gone");
    std::os::unix::fs::symlink("nowhere/accounts", &accounts).unwrap();
    fails("is gone");
    fs::remove_file(&accounts).unwrap();
    set(&good, 0o600);
    if fs::metadata(&accounts).unwrap().uid() == 0 {
        std::os::unix::fs::chown(&accounts, Some(4711), None).unwrap();
        fails("4711");
    }
}

#[test]
fn damaged_accounts_of_a_running_server_change_no_access() {
    for server in TestServer::both(&[("ann", "write", "/")]) {
        let accounts = server.state().join("accounts");
        let good = fs::read(&accounts).unwrap();
        let noticed = || server.log().matches("the former accounts stay in force").count();
        for damage in [Some(&b"nonsense\n"[..]), Some(b""), None] {
            let before = noticed();
            match damage {
                Some(bytes) => fs::write(&accounts, bytes).unwrap(),
                None => fs::remove_file(&accounts).unwrap(),
            }
            eventually(SOON, "the server notices", || (noticed() > before).then_some(()));
            server.open("ann").unwrap().ping();
            assert!(server.log_in("", "").is_err() && server.log_in("ann", "wrong").is_err());
        }
        fs::write(&accounts, &good).unwrap();
        fs::set_permissions(&accounts, fs::Permissions::from_mode(0o600)).unwrap();
        add(server.dir(), &server.state(), "bob", "read", "/");
        eventually(SOON, "the repaired accounts are in force", || server.open("bob").ok());
    }
}

#[test]
fn the_client_logs_in_again_by_itself_and_says_when_it_cannot() {
    let server = Cluster::of(2).file("f", b"content").start();
    let (dir, state) = (&server.dir, server.dir.folder("master"));
    add(dir, &state, "ann", "write", "/");
    let file = password_file(dir, &password("ann"));
    let client = server.client();
    eventually(SOON, "the account is in force", || {
        (client.run(&["-c", "ls"]).status == 4).then_some(())
    });
    let login = ["-u", "ann", "--password-file", file.to_str().unwrap(), "--json"];
    let mut program = client.setup(&login).with_stdin().start();
    let mut asked = 0;
    let mut says = |program: &mut crate::harness::Program, line: &str| {
        program.type_in(&format!("{line}\n"));
        asked += 1;
        let wanted = asked;
        program.stdout.wait_for(SOON, line, |text| {
            (text.lines().count() == wanted).then(|| text.lines().last().unwrap().to_owned())
        })
    };
    assert!(says(&mut program, "ls").contains("\"ok\":true"));
    // Another account changes: all clients log in again, unnoticed.
    add(dir, &state, "bob", "read", "/");
    user(dir, &state, &["remove", "bob"]).ok();
    wait_revoked(&server);
    for line in ["ls", "stat f", "get f", "put f -o g"] {
        fs::write(client.folder().join("f"), b"content").unwrap();
        let said = says(&mut program, line);
        assert!(said.contains("\"ok\":true"), "{said}");
        add(dir, &state, "bob", "read", "/");
        user(dir, &state, &["remove", "bob"]).ok();
        wait_revoked(&server);
    }
    user(dir, &state, &["remove", "ann"]).ok();
    wait_revoked(&server);
    let said = says(&mut program, "rm g");
    assert!(said.contains("\"ok\":false") && said.contains("login-refused"), "{said}");
    assert!(server.slaves[0].root.join("g").exists());
    program.close_stdin();
    program.wait(SOON);
}

#[test]
fn with_a_ticket_sessions_work_without_the_master() {
    let mut server = Cluster::of(2).file("f", b"content").start();
    let state = server.dir.folder("master");
    add(&server.dir, &state, "ann", "write", "/");
    let file = password_file(&server.dir, &password("ann"));
    let client = server.client();
    let login = ["-u", "ann", "--password-file", file.to_str().unwrap(), "-c", "get f"];
    eventually(SOON, "the account is in force", || (client.run(&login).status == 0).then_some(()));
    server.master.kill();
    fs::remove_file(client.folder().join("f")).unwrap();
    client.run(&login).ok();
    assert_eq!(client.read("f"), b"content");
    // Also with one slave less.
    server.slaves[0].program.kill();
    client.run(&login).ok();
    // A restarted slave still knows the removed users from the master, which is away now.
    server.restart_master();
    server.restart_slave(0);
    server.wait_in_service(2);
    let old = client.run(&login).ok();
    drop(old);
    user(&server.dir, &state, &["remove", "ann"]).ok();
    wait_revoked(&server);
    server.master.kill();
    for n in 0..2 {
        server.slaves[n].program.kill();
        server.restart_slave_on_same_port(n);
    }
    let refused = client.run(&login);
    assert_ne!(refused.status, 0, "{refused:?}");
    // A ticket of another user is of no use.
    client
        .run(&[
            "-u",
            "bob",
            "--password-file",
            file.to_str().unwrap(),
            "--retry",
            "0",
            "-c",
            "get f",
        ])
        .fails(3);
}
