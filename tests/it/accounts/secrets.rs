//! Passwords and keys never appear in logs, errors, other processes or on the disk.

use std::fs;
use std::path::Path;

use relais_proto::{Reply, Request};

use super::{TestServer, password_file, user};
use crate::harness::{
    ProgramBuilder, Pty, SOON, eventually, get, make_folder, path, remove, rename,
};

/// Returns a file below a folder that contains these bytes, if there is one.
fn is_in_files(folder: &Path, needle: &[u8]) -> Option<std::path::PathBuf> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if fs::read(&path)
                .unwrap_or_default()
                .windows(needle.len())
                .any(|bytes| bytes == needle)
            {
                return Some(path);
            }
        }
    }
    None
}

#[test]
fn a_password_appears_in_no_output_or_file() {
    const SECRET: &str = "hunter2-and-more";
    for server in TestServer::both(&[("ann", "write", "/")]) {
        let file = password_file(server.dir(), SECRET);
        let named = file.to_str().unwrap();
        user(
            server.dir(),
            &server.state(),
            &["add", "sec", "--rights", "write", "--password-file", named],
        )
        .ok();
        eventually(SOON, "the account is in force", || server.log_in("sec", SECRET).ok());
        super::all_have_looked();
        let client = server.client();
        let given = password_file(server.dir(), SECRET);
        let mut program = client
            .setup(&["-u", "sec", "--password-file", given.to_str().unwrap()])
            .env("RUST_LOG", "trace")
            .with_stdin()
            .start();
        program.type_in("get f\n");
        eventually(SOON, "the client has logged in", || {
            client.folder().join("f").exists().then_some(())
        });
        for what in ["cmdline", "environ"] {
            let shown = fs::read(format!("/proc/{}/{what}", program.pid())).unwrap();
            assert!(!String::from_utf8_lossy(&shown).contains(SECRET), "{what}");
        }
        program.close_stdin();
        let output = crate::harness::Client::finish(&mut program);
        assert!(!output.stderr.contains(SECRET) && !output.stdout.contains(SECRET));
        // A wrong password is secret too: it is often the right one elsewhere.
        let wrong = password_file(server.dir(), "my-bank-password");
        let refused = client
            .run(&["-u", "sec", "--password-file", wrong.to_str().unwrap(), "-c", "ls"])
            .fails(4);
        assert!(!refused.stderr.contains("my-bank-password"));
        for file in [given, wrong] {
            let _ = fs::remove_file(file);
        }
        let logs = match &server {
            TestServer::Cluster(cluster) => {
                cluster.master.stderr.text() + &cluster.slaves[0].program.stderr.text()
            }
            TestServer::Standalone(slave) => slave.program.stderr.text(),
        };
        assert!(
            logs.contains("login failed for \"sec\" from 127.0.0.1"),
            "not one parseable line: {logs}"
        );
        for secret in [SECRET, "my-bank-password"] {
            assert!(!logs.contains(secret));
            for folder in [server.state(), server.dir().path().to_owned(), client.home().to_owned()]
            {
                assert_eq!(is_in_files(&folder, secret.as_bytes()), None);
            }
        }
        let hash = fs::read_to_string(server.state().join("accounts")).unwrap();
        assert!(hash.contains("$argon2id$") && !logs.contains("$argon2id$"));
    }
}

/// A slow terminal: a user who types as soon as the question appears must be served all the same.
const SLOW: [&str; 11] = [
    "strace",
    "-D",
    "-f",
    "-qqq",
    "-o",
    "/dev/null",
    "-e",
    "trace=ioctl",
    "-e",
    "inject=ioctl:delay_enter=100000",
    "--",
];

#[test]
fn a_new_password_that_is_typed_twice_at_once_is_not_shown() {
    let [server, _] = TestServer::both(&[("ann", "write", "/")]);
    let setup = ProgramBuilder::new("ftpmaster", server.dir().path())
        .args(["user", "add", "bob", "--state"])
        .args([server.state()]);
    let (mut pty, mut program) = Pty::start_with_stderr(setup.under(&SLOW));
    pty.screen.wait_for(SOON, "the question", |screen| {
        screen.contains("New password of bob").then_some(())
    });
    pty.press("typed ahead\rtyped ahead\r");
    assert_eq!(program.wait(SOON), 0, "{}", pty.screen.text());
    assert!(!pty.screen.text().contains("typed"), "{}", pty.screen.text());
    eventually(SOON, "the new password is in force", || server.log_in("bob", "typed ahead").ok());
}

#[test]
fn a_typed_password_is_not_shown_and_may_be_mistyped() {
    let [server, _] = TestServer::both(&[("ann", "write", "/")]);
    let client = server.client();
    let (mut pty, mut program) = Pty::start_with_stderr(client.setup(&["-u", "ann"]).under(&SLOW));
    let asks = |pty: &Pty, times: usize| {
        pty.screen.wait_for(SOON, "the question", |screen| {
            (screen.matches("Password of ann").count() == times).then_some(())
        });
    };
    asks(&pty, 1);
    pty.press("mistyped\r");
    asks(&pty, 2);
    pty.press(&format!("{}\r", super::password("ann")));
    pty.screen.wait_for(SOON, "the prompt", |screen| screen.contains("> ").then_some(()));
    pty.press("bye\r");
    assert_eq!(program.wait(SOON), 0);
    let screen = pty.screen.text();
    assert!(!screen.contains("mistyped") && !screen.contains("the password of"), "{screen}");
}

#[test]
fn a_password_prompt_exits_130_on_ctrl_c_and_4_unattended() {
    let [server, _] = TestServer::both(&[("ann", "write", "/")]);
    let client = server.client();
    let (mut pty, mut program) = Pty::start_with_stderr(client.setup(&["-u", "ann"]).under(&SLOW));
    pty.screen
        .wait_for(SOON, "the question", |screen| screen.contains("Password of ann").then_some(()));
    pty.press("\x03");
    assert_eq!(program.wait(SOON), 130);
    let mut program = client.setup(&["-u", "ann", "-c", "ls"]).under(&["setsid", "--wait"]).start();
    let output = crate::harness::Client::finish(&mut program).fails(4);
    assert!(output.stderr.contains("--password-file"), "{}", output.stderr);
}

#[test]
fn without_a_user_the_client_asks_for_name_and_password() {
    for server in TestServer::both(&[("ann", "write", "/")]) {
        let client = server.client();
        let (mut pty, mut program) = Pty::start_with_stderr(client.setup(&[]));
        let asks = |pty: &Pty, what: &str| {
            pty.screen.wait_for(SOON, what, |screen| screen.contains(what).then_some(()));
        };
        asks(&pty, "User: ");
        pty.press("ann\r");
        asks(&pty, "Password of ann");
        pty.press(&format!("{}\r", super::password("ann")));
        asks(&pty, "Connected to");
        pty.press("bye\r");
        assert_eq!(program.wait(SOON), 0);
        // Without a terminal the error names the option for a user.
        let mut program = client.setup(&["-c", "ls"]).under(&["setsid", "--wait"]).start();
        let output = crate::harness::Client::finish(&mut program).fails(4);
        assert!(output.stderr.contains("-u USER"), "{}", output.stderr);
    }
}

#[test]
fn no_error_reveals_paths_above_a_users_root() {
    const ROOT: &str = "home and all/ann b";
    let users = [("boss", "write", "/"), ("ann", "write", "/home and all/ann b")];
    for server in TestServer::both(&users) {
        let mut boss = server.open("boss").unwrap();
        for folder in ["home and all", ROOT, "home and all/ann b/sub dir"] {
            assert!(matches!(boss.ask(&make_folder(folder)), Reply::Committed { .. }), "{folder}");
        }
        let mut ann = server.open("ann").unwrap();
        assert!(matches!(ann.ask(&make_folder("sub dir/deep")), Reply::Committed { .. }));
        for (request, shown) in [
            (Request::Stat(path("no such")), "/no such: "),
            (get("no such"), "/no such: "),
            (get("sub dir"), "/sub dir: "),
            (Request::Hash(path("sub dir/none")), "/sub dir/none: "),
            (make_folder("sub dir"), "/sub dir: "),
            (make_folder("no such/x"), "/no such: "),
            (remove("no such", true), "/no such: "),
            (remove("sub dir", false), "/sub dir: "),
            (rename("no such", "x"), "/no such: "),
            (rename("sub dir", "sub dir/deep/in"), "/sub dir: "),
            (rename("sub dir/deep", "no such/x"), "/no such: "),
        ] {
            match ann.ask(&request) {
                Reply::Error(refusal) => {
                    let text = &refusal.message;
                    assert!(text.starts_with(shown), "{request:?}: {text}");
                    assert!(!text.contains("home") && !text.contains("ann b"), "{text}");
                }
                other => panic!("{request:?}: {other:?}"),
            }
        }
    }
}
