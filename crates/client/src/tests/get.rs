//! `get`: downloads, their names, and their messages.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use relais_proto::ServerRole;

use super::fake::{endpoint, master_of, opening, redirect, send, serve, welcome};
use super::tree::{BLOCK, MTIME, Tree};
use super::{CapturedOutput, TestClient, content, shell};
use crate::shell::Shell;
use crate::transfer_log::{TransferEntry, TransferLog, TransferTask};

fn big() -> Tree {
    Tree::new(&[
        ("big.bin", content(10 * BLOCK as usize + 7)),
        ("empty", vec![]),
        ("docs/x", vec![1]),
    ])
}

#[test]
fn get_keeps_time_and_mode() {
    let mut client = TestClient::new(&[big()], true);
    assert_eq!(client.shell.execute("get big.bin").status, 0);
    assert_eq!(client.local("big.bin"), content(10_007));
    let metadata = client.dir.path().join("big.bin").metadata().unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (MTIME.seconds, i64::from(MTIME.nanos)));
    assert!(metadata.permissions().mode() & 0o100 != 0);
    assert_eq!(client.names(), ["big.bin"]);
    let object: serde_json::Value = serde_json::from_str(&client.printed.take()).unwrap();
    let local = client.dir.path().join("big.bin");
    assert_eq!(
        (&object["remote"], &object["local"]),
        (&"/big.bin".into(), &local.to_str().unwrap().into())
    );
    assert_eq!(
        (&object["bytes"], &object["resumed_from"], &object["verified"]),
        (&10_007.into(), &0.into(), &true.into())
    );
    assert_eq!(object["slaves"].as_array().unwrap().len(), 1);
}

#[test]
fn failed_names_do_not_stop_the_others() {
    let mut client = TestClient::new(&[big()], true);
    assert_eq!(client.shell.execute("get big.bin nothing docs empty").status, 1);
    assert_eq!(client.names(), ["big.bin", "empty"]);
    let object: serde_json::Value = serde_json::from_str(&client.printed.take()).unwrap();
    assert_eq!(
        (&object["ok"], &object["files"], &object["bytes"]),
        (&false.into(), &2.into(), &10_007.into())
    );
    let failed: Vec<_> = object["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["remote"].clone(), f["error"]["code"].clone()))
        .collect();
    assert_eq!(
        failed,
        [("/nothing".into(), "not-found".into()), ("/docs".into(), "is-folder".into())]
    );
}

#[test]
fn get_o_decides_the_local_name() {
    let mut client = TestClient::new(&[big()], false);
    std::fs::create_dir(client.dir.path().join("sub")).unwrap();
    for (line, status) in [
        ("get empty -o sub", 0),
        ("get empty -o sub/", 0),
        ("get docs/x -o sub/y", 0),
        ("get -o z -- docs/x", 0),
        ("get empty big.bin -o none", 1),
        ("get empty -o none/", 1),
        ("get empty -o none/x", 1),
        ("get docs/", 1),
        ("get /", 1),
        ("get empty -o .log", 1),
    ] {
        assert_eq!(
            client.shell.execute(line).status,
            status,
            "{line}: {:?}",
            client.shell.notices.collected()
        );
    }
    assert_eq!(client.names(), ["sub", "z"]);
    assert_eq!((client.local("sub/y"), client.local("sub/empty")), (vec![1], vec![]));
}

#[test]
fn blocking_folder_is_reported_before_the_download() {
    let mut client = TestClient::new(&[big()], false);
    std::fs::create_dir(client.dir.path().join("big.bin")).unwrap();
    assert_eq!(client.shell.execute("get docs/x -o big.bin/../big.bin").status, 0, "into it");
    std::fs::create_dir(client.dir.path().join("big.bin/big.bin")).unwrap();
    assert_eq!(client.shell.execute("get big.bin -o big.bin").status, 1);
    assert!(client.shell.notices.collected()[0].contains("a folder has that name"));
}

#[test]
fn missing_name_suggests_similar_ones() {
    let mut client = TestClient::new(&[big()], false);
    assert_eq!(client.shell.execute("get bgi.bin").status, 1);
    assert_eq!(
        client.shell.notices.collected(),
        ["get: /bgi.bin does not exist; in / there is: big.bin, docs/, empty"]
    );
    assert!(client.names().is_empty());
}

#[test]
fn transfer_resumes_on_the_next_slave() {
    let mut client = TestClient::new(&[big().cut_after(4), big()], false);
    assert_eq!(client.shell.execute("get big.bin").status, 0);
    assert_eq!(client.local("big.bin"), content(10_007));
    let messages = client.shell.notices.collected();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("); resuming at byte 4000 with 127.0.0.1:"), "{messages:?}");
    let printed = client.printed.take();
    assert_eq!(printed.matches("127.0.0.1:").count(), 2, "{printed}");
}

/// Returns a folder in which `line` was cut after four blocks, without another server.
fn cut_off(line: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let slave = big().cut_after(4).slave(1);
    // Master and slave answer once; then both only close.
    let dying = serve(move |connection, number| {
        if number == 0 {
            opening(connection);
            send(
                connection,
                &[welcome(ServerRole::Master), redirect(vec![endpoint(1, once(slave))])],
            );
        }
    });
    let (mut shell, _) = shell(dying, dir.path().to_path_buf(), false);
    assert_eq!(shell.execute(line).status, 5, "{:?}", shell.notices.collected());
    dir
}

/// Forwards one connection to `addr`, and closes all later ones.
pub fn once(addr: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let door = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let server = std::net::TcpStream::connect(addr).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut &server, &mut &client);
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
    door
}

/// Returns a shell on a working server, in a folder with an unfinished transfer.
fn later(dir: &tempfile::TempDir, tree: &Tree, json: bool) -> (Shell, CapturedOutput) {
    let (mut shell, printed) =
        shell(master_of(tree, vec![endpoint(1, tree.slave(1))]).0, dir.path().to_path_buf(), json);
    shell.session.connect().unwrap();
    (shell, printed)
}

fn entries(dir: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<_> = dir
        .path()
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn prompt_resumes_download_without_refetching() {
    let dir = cut_off("get big.bin");
    assert!(
        entries(&dir).contains(&".log".to_owned())
            && !entries(&dir).contains(&"big.bin".to_owned())
    );
    let (mut shell, printed) = later(&dir, &big(), true);
    assert_eq!(shell.resume_all(), 0);
    assert_eq!(std::fs::read(dir.path().join("big.bin")).unwrap(), content(10_007));
    assert_eq!((entries(&dir), printed.take()), (vec!["big.bin".to_owned()], String::new()));
    let messages = shell.notices.collected();
    assert!(
        messages[0] == "resuming /big.bin" && messages[1].contains("resumed from 4000, verified"),
        "{messages:?}"
    );
    // A command that names the file fetches its current version.
    let modified = || dir.path().join("big.bin").metadata().unwrap().ino();
    let before = modified();
    assert_eq!(shell.execute("get big.bin").status, 0);
    let object: serde_json::Value = serde_json::from_str(&printed.take()).unwrap();
    assert_eq!(object["resumed_from"], 0);
    assert_ne!(modified(), before);
}

#[test]
fn same_get_resumes() {
    let dir = cut_off("get big.bin -o other");
    let (mut shell, printed) = later(&dir, &big(), false);
    assert_eq!(shell.execute("get big.bin -o other").status, 0);
    assert!(printed.take().contains("resumed from 4000"));
    assert_eq!(entries(&dir), ["other"]);
}

#[test]
fn no_resume_restarts_the_transfer() {
    let dir = cut_off("get big.bin");
    let (mut shell, printed) = later(&dir, &big(), false);
    shell.resume = false;
    assert_eq!(shell.resume_all(), 0);
    assert_eq!(shell.execute("get big.bin").status, 0);
    assert!(!printed.take().contains("resumed"));
    assert_eq!(entries(&dir), ["big.bin"]);
}

#[test]
fn missing_remote_file_drops_the_download() {
    let dir = cut_off("get big.bin");
    let (mut shell, _) = later(&dir, &Tree::new(&[("else", vec![])]), false);
    assert_eq!(shell.resume_all(), 0);
    assert!(
        shell.notices.collected()[1].ends_with("removed from the .log"),
        "{:?}",
        shell.notices.collected()
    );
    assert!(entries(&dir).is_empty(), "{:?}", entries(&dir));
}

#[test]
fn replaced_content_restarts_the_download() {
    let dir = cut_off("get big.bin");
    let new: Vec<u8> = content(10_007).into_iter().rev().collect();
    let (mut shell, printed) = later(&dir, &Tree::new(&[("big.bin", new.clone())]), false);
    assert_eq!(shell.execute("get big.bin").status, 0);
    assert_eq!(std::fs::read(dir.path().join("big.bin")).unwrap(), new);
    assert!(!printed.take().contains("resumed"));
    assert!(
        shell.notices.collected()[0].starts_with("/big.bin: restarting"),
        "{:?}",
        shell.notices.collected()
    );
}

#[test]
fn log_entry_outside_folder_needs_the_command() {
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = cut_off(&format!("get big.bin -o {}/", elsewhere.path().display()));
    let (mut shell, _) = later(&dir, &big(), false);
    assert_eq!(shell.resume_all(), 0);
    assert!(!entries(&elsewhere).contains(&"big.bin".to_owned()));
    assert!(
        shell.notices.collected()[0].contains("is not resumed automatically"),
        "{:?}",
        shell.notices.collected()
    );
    assert_eq!(shell.execute(&format!("get big.bin -o {}", elsewhere.path().display())).status, 0);
    assert_eq!((entries(&elsewhere), entries(&dir)), (vec!["big.bin".to_owned()], vec![]));
}

#[test]
fn prompt_does_not_follow_a_swapped_link() {
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let unfinished = {
        let tree = big();
        let (shell, _) = later(&dir, &tree, false);
        let remote = relais_proto::TreePath::new("big.bin").unwrap();
        let origin = shell.session.origin.clone().unwrap();
        let entry = TransferEntry {
            remote,
            local: "sub/x".into(),
            origin,
            since: 1,
            signature: None,
            task: TransferTask::Get(None),
        };
        TransferLog::open(dir.path()).unwrap().put(entry).unwrap();
        tree
    };
    std::fs::remove_dir(dir.path().join("sub")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("sub")).unwrap();
    let (mut shell, _) = later(&dir, &unfinished, false);
    assert_eq!(shell.resume_all(), 0);
    assert!(entries(&elsewhere).is_empty());
}

#[test]
fn download_of_another_client_is_left() {
    let dir = cut_off("get big.bin");
    let folder = relais_tree::Folder::open(dir.path()).unwrap();
    let held = folder.create_or_open_part(crate::transfer_log::part_name("big.bin")).unwrap();
    let (mut shell, _) = later(&dir, &big(), false);
    assert_eq!(shell.resume_all(), 0);
    assert_eq!(shell.execute("get big.bin").status, 1);
    assert!(
        shell.notices.collected()[0].contains("another ftpclient"),
        "{:?}",
        shell.notices.collected()
    );
    drop(held);
    assert_eq!(shell.execute("get big.bin").status, 0);
}

#[test]
fn get_works_without_a_log() {
    let mut client = TestClient::new(&[big()], false);
    std::fs::create_dir(client.dir.path().join(".log")).unwrap();
    assert_eq!(client.shell.execute("get big.bin").status, 0);
    assert_eq!(client.local("big.bin"), content(10_007));
    assert!(client.shell.notices.collected()[0].contains(".log"));
}
