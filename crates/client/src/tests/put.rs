//! `put`: uploads, their names, their messages, and their resumption.

use std::sync::atomic::Ordering;

use relais_proto::{Expect, Request, SlaveId};

use super::fake::{endpoint, id, master, master_of, opening, redirect, send, serve, welcome};
use super::tree::Tree;
use super::{TestClient, content, shell};
use crate::shell::Shell;
use crate::transfer_log::{TransferEntry, TransferTask, UploadRecord, lock_name, read_log};

fn empty() -> Tree {
    Tree::new(&[("docs/x", vec![1])])
}

fn stored(tree: &Tree, path: &str) -> Option<Vec<u8>> {
    tree.state().files.get(path).cloned()
}

fn log_of(dir: &tempfile::TempDir) -> Vec<TransferEntry> {
    read_log(dir.path()).unwrap().entries
}

#[test]
fn put_stores_a_file_and_reports_it() {
    let tree = empty();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.write("big.bin", &content(3_000_000));
    client.run(0, &["put big.bin"]);
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(3_000_000));
    let object = client.object();
    let keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 11, "{keys:?}");
    assert_eq!(
        (&object["command"], &object["ok"], &object["remote"]),
        (&"put".into(), &true.into(), &"/big.bin".into())
    );
    assert_eq!(
        (&object["bytes"], &object["resumed_from"], &object["verified"]),
        (&3_000_000.into(), &0.into(), &true.into())
    );
    assert_eq!((&object["version"], &object["copies"]), (&"1-5".into(), &1.into()));
    assert_eq!(object["slaves"].as_array().unwrap().len(), 1);
    assert_eq!(client.names(), ["big.bin"]);
}

#[test]
fn put_o_decides_the_remote_name() {
    let tree = empty();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.write("a", b"a");
    client.write("empty", b"");
    std::fs::create_dir(client.dir.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("a", client.dir.path().join("link")).unwrap();
    client.run(
        0,
        &[
            "put a -o docs",
            "put a -o docs/y",
            "put empty -o docs/",
            "put link",
            "cd docs",
            "put a -o z",
            "put a empty -o /docs/",
        ],
    );
    client.run(
        1,
        &[
            "put a -o none/",
            "put a -o none/x",
            "put a empty -o y",
            "put a empty -o none",
            "put a -o /docs/x/",
            "put folder",
            "put none",
        ],
    );
    client.run(2, &["put", "put a -o ''", "put -", "put - -r -o x", "put ''"]);
    let files: Vec<String> = tree.state().files.keys().cloned().collect();
    assert_eq!(files, ["docs/a", "docs/empty", "docs/x", "docs/y", "docs/z", "link"]);
    let messages = client.messages();
    assert!(messages.iter().any(|line| line.contains("put -r sends folders")), "{messages:?}");
    assert!(client.printed.take().contains("docs/a: 1 bytes in "));
}

#[test]
fn failed_names_do_not_stop_the_others() {
    let tree = empty();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.write("a", b"a");
    client.write("b", b"bb");
    client.run(1, &["put a none b"]);
    let object = client.object();
    assert_eq!(
        (&object["ok"], &object["files"], &object["bytes"]),
        (&false.into(), &2.into(), &3.into())
    );
    assert_eq!(
        (&object["failed"][0]["remote"], &object["failed"][0]["error"]["code"]),
        (&"/none".into(), &"local".into())
    );
    assert!(stored(&tree, "b").is_some());
}

#[test]
fn if_version_guards_replacement() {
    let tree = empty();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.write("a", b"new");
    client.run(1, &["put a -o docs/x --if-version 1-3"]);
    assert_eq!(stored(&tree, "docs/x").unwrap(), [1]);
    client.run(0, &["put a -o docs/x --if-version 1-4"]);
    assert_eq!(stored(&tree, "docs/x").unwrap(), b"new");
    assert!(log_of(&client.dir).is_empty());
}

#[test]
fn transfer_resumes_on_the_next_slave() {
    let tree = empty().cut_upload_after(2_000_000);
    let mut client = TestClient::new(&[tree.clone(), tree.beside()], false);
    client.write("big.bin", &content(3_000_000));
    client.run(0, &["put big.bin"]);
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(3_000_000));
    let messages = client.messages();
    assert!(
        messages.len() == 1 && messages[0].contains("); resuming at byte 0 with 127.0.0.1:"),
        "{messages:?}"
    );
    assert_eq!(client.printed.take().matches("127.0.0.1:").count(), 2);
}

#[test]
fn lost_answer_of_a_put_is_requested_again() {
    let tree = empty();
    tree.lose_answer.store(true, Ordering::SeqCst);
    let mut client = TestClient::new(&[tree.clone(), tree.beside()], false);
    client.write("a", b"a");
    client.run(0, &["put a"]);
    assert!(client.printed.take().contains("version 1-5"));
    client.run(0, &["put a"]);
    assert!(client.printed.take().contains("version 1-6"));
}

#[test]
fn no_changes_is_retried_for_a_while() {
    let tree = empty();
    tree.no_changes.store(1, Ordering::SeqCst);
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.write("a", b"a");
    client.run(0, &["put a"]);
    tree.no_changes.store(u64::MAX, Ordering::SeqCst);
    client.run(1, &["put a"]);
    assert_eq!(log_of(&client.dir).len(), 1);
}

/// Returns a folder in which `put big.bin` was cut after 2 MiB, without another server.
fn cut_off(tree: &Tree) -> tempfile::TempDir {
    let slave = tree.clone().cut_upload_after(2 << 20).slave(1);
    let dying = serve(move |connection, number| {
        if number == 0 {
            opening(connection);
            send(
                connection,
                &[
                    welcome(relais_proto::ServerRole::Master),
                    redirect(vec![endpoint(1, super::get::once(slave))]),
                ],
            );
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let (mut shell, _) = shell(dying, dir.path().to_path_buf(), false);
    std::fs::write(dir.path().join("big.bin"), content(3_000_000)).unwrap();
    let ended = shell.execute("put big.bin");
    assert_eq!(ended.status, 5, "{:?}", shell.notices.collected());
    assert!(
        shell.notices.collected()[0].contains("run the same put again"),
        "{:?}",
        shell.notices.collected()
    );
    dir
}

/// Returns a later run in the same folder, with a second slave in front that has no bytes.
fn later(
    dir: tempfile::TempDir,
    tree: &Tree,
    json: bool,
) -> (TestClient, std::sync::Arc<std::sync::Mutex<Vec<relais_proto::Login>>>) {
    let slaves = vec![endpoint(2, tree.slave(2)), endpoint(1, tree.slave(1))];
    let (addr, logins) = master_of(tree, slaves);
    let (shell, printed) = shell(addr, dir.path().to_path_buf(), json);
    (TestClient { dir, shell, printed }, logins)
}

fn connect(shell: &mut Shell) {
    crate::send::prefer_holder(shell, None);
    shell.session.connect().unwrap();
}

#[test]
fn prompt_resumes_upload_through_its_holder() {
    let tree = empty();
    let dir = cut_off(&tree);
    let [
        TransferEntry {
            task: TransferTask::Put(UploadRecord { slave, expect, size, sent, .. }),
            remote,
            local,
            origin,
            ..
        },
    ] = &log_of(&dir)[..]
    else {
        panic!()
    };
    assert_eq!(
        (*slave, *expect, *size, local.as_str()),
        (Some(id(1)), Expect::Absent, 3_000_000, "big.bin")
    );
    assert!(*sent <= *size);
    assert!(!dir.path().join(lock_name(remote, local, origin)).exists());
    let (mut client, logins) = later(dir, &tree, true);
    connect(&mut client.shell);
    assert_eq!(client.shell.resume_all(), 0, "{:?}", client.messages());
    assert_eq!(logins.lock().unwrap()[0].prefer, Some(id(1)));
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(3_000_000));
    assert_eq!(
        (client.names(), client.printed.take()),
        (vec!["big.bin".to_owned()], String::new())
    );
    let messages = client.messages();
    assert!(
        messages.len() == 2
            && messages[0].starts_with("resuming ")
            && messages[1].contains("resumed from 20"),
        "{messages:?}"
    );
    // A command that names the file stores its current version.
    client.run(0, &["put big.bin"]);
    assert_eq!(client.object()["version"], "1-6");
}

#[test]
fn put_sends_a_changed_file_again() {
    let tree = empty();
    let (mut client, _) = later(cut_off(&tree), &tree, false);
    connect(&mut client.shell);
    assert_eq!(client.shell.resume_all(), 0);
    client.write("big.bin", b"other");
    client.run(0, &["put big.bin"]);
    assert_eq!(stored(&tree, "big.bin").unwrap(), b"other");
}

#[test]
fn same_put_resumes_at_the_holder() {
    let tree = empty();
    let (mut client, logins) = later(cut_off(&tree), &tree, true);
    client.shell.session.connect().unwrap();
    assert_eq!(client.shell.session.observed.slave(), Some(id(2)));
    client.run(0, &["put big.bin"]);
    let object = client.object();
    assert!(object["resumed_from"].as_u64().unwrap() >= 2_000_000, "{object}");
    assert_eq!(logins.lock().unwrap()[1].prefer, Some(id(1)));
    assert!(log_of(&client.dir).is_empty());
}

#[test]
fn changed_local_file_restarts_with_new_id() {
    let tree = empty();
    let dir = cut_off(&tree);
    let TransferTask::Put(before) = log_of(&dir)[0].task else { panic!() };
    std::fs::write(dir.path().join("big.bin"), content(2_900_000)).unwrap();
    let (mut client, _) = later(dir, &tree, true);
    connect(&mut client.shell);
    assert_eq!(client.shell.resume_all(), 0);
    assert!(client.messages()[1].contains("restarting"), "{:?}", client.messages());
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(2_900_000));
    assert!(
        tree.state()
            .requests
            .iter()
            .all(|r| !matches!(r, Request::Put(put) if put.id == before.id && put.offset > 0))
    );
}

#[test]
fn no_resume_restarts_the_transfer() {
    let tree = empty();
    let (mut client, _) = later(cut_off(&tree), &tree, true);
    client.shell.resume = false;
    connect(&mut client.shell);
    assert_eq!(client.shell.resume_all(), 0);
    client.run(0, &["put big.bin"]);
    assert_eq!(client.object()["resumed_from"], 0);
}

#[test]
fn prompt_does_not_replace_a_newer_remote_file() {
    let tree = empty();
    let dir = cut_off(&tree);
    tree.state().files.insert("big.bin".into(), b"theirs".to_vec());
    let (mut client, _) = later(dir, &tree, false);
    connect(&mut client.shell);
    assert_eq!(client.shell.resume_all(), 0);
    assert!(
        client.messages()[1].contains("the remote file was changed since this put began"),
        "{:?}",
        client.messages()
    );
    assert_eq!(stored(&tree, "big.bin").unwrap(), b"theirs");
    client.run(0, &["put big.bin"]);
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(3_000_000));
}

#[test]
fn missing_local_file_drops_the_upload() {
    let tree = empty();
    let dir = cut_off(&tree);
    tree.state().files.insert("big.bin".into(), b"theirs".to_vec());
    let (mut client, _) = later(dir, &tree, false);
    connect(&mut client.shell);
    assert_eq!(client.shell.resume_all(), 0);
    assert!(
        client.messages()[1].ends_with("; removed from the .log") && log_of(&client.dir).is_empty(),
        "{:?}",
        client.messages()
    );

    let dir = cut_off(&empty());
    std::fs::remove_file(dir.path().join("big.bin")).unwrap();
    let (mut client, _) = later(dir, &empty(), false);
    connect(&mut client.shell);
    assert_eq!(client.shell.resume_all(), 0);
    assert!(
        client.messages()[0].contains("no longer exists") && client.names().is_empty(),
        "{:?}",
        client.messages()
    );
}

#[test]
fn log_entry_outside_folder_is_never_sent() {
    let tree = empty();
    let secret = tempfile::NamedTempFile::new().unwrap();
    let name = secret.path().file_name().unwrap().to_str().unwrap();
    for place in [
        "/etc/hostname",
        "../secret",
        &format!("sub/{name}"),
        &format!("./sub/{name}"),
        "link",
        "fifo",
    ] {
        let dir = cut_off(&tree);
        let home = dir.path();
        std::os::unix::fs::symlink(secret.path(), home.join("link")).unwrap();
        std::os::unix::fs::symlink(secret.path().parent().unwrap(), home.join("sub")).unwrap();
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            home.join("fifo"),
            rustix::fs::Mode::from_raw_mode(0o600),
        )
        .unwrap();
        let entry = TransferEntry { local: place.into(), ..log_of(&dir)[0].clone() };
        let mut log = crate::transfer_log::TransferLog::open(home).unwrap();
        log.remove(&log_of(&dir)[..1]).unwrap();
        log.put(entry).unwrap();
        let before = tree.state().requests.len();
        let (mut client, _) = later(dir, &tree, false);
        connect(&mut client.shell);
        assert_eq!(client.shell.resume_all(), 0);
        let sent = tree.state().requests[before..]
            .iter()
            .any(|r| matches!(r, Request::Put(_) | Request::Resume { .. }));
        assert!(!sent, "{place}");
        assert!(
            client.messages()[0].contains("is not resumed automatically"),
            "{place}: {:?}",
            client.messages()
        );
    }
}

#[test]
fn upload_of_another_client_is_left() {
    let tree = empty();
    let dir = cut_off(&tree);
    let (mut client, _) = later(dir, &tree, false);
    let entry = log_of(&client.dir)[0].clone();
    let folder = relais_tree::Folder::open(client.dir.path()).unwrap();
    let held =
        folder.create_or_open_part(lock_name(&entry.remote, &entry.local, &entry.origin)).unwrap();
    connect(&mut client.shell);
    assert_eq!(client.shell.resume_all(), 0);
    client.run(1, &["put big.bin"]);
    assert!(
        client.messages()[0].contains("another ftpclient is sending it"),
        "{:?}",
        client.messages()
    );
    drop(held);
    client.run(0, &["put big.bin"]);
    assert_eq!(client.names(), ["big.bin"]);
}

#[test]
fn put_works_without_a_log() {
    let tree = empty();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    std::fs::create_dir(client.dir.path().join(".log")).unwrap();
    client.write("a", b"a");
    client.run(0, &["put a"]);
    assert!(client.messages()[0].contains(".log") && stored(&tree, "a").is_some());
}

#[test]
fn stdin_upload_cannot_be_resumed() {
    use std::io::Write;
    let tree = empty();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    let send = |client: &mut TestClient, bytes: Vec<u8>, name: &str| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || writer.write_all(&bytes));
        let path = relais_proto::TreePath::new(name).unwrap();
        let result = crate::send::send_stream(&mut client.shell, reader, &path, Expect::Any);
        drop(thread.join());
        result
    };
    let sent = send(&mut client, content(5_000_000), "stream").unwrap();
    assert_eq!((sent.bytes, sent.local.as_str(), sent.resumed_from), (5_000_000, "-", 0));
    assert_eq!(stored(&tree, "stream").unwrap(), content(5_000_000));
    tree.take_until_cut.store(4_000_000, Ordering::SeqCst);
    let failure = send(&mut client, content(50_000_000), "cut").unwrap_err();
    assert_eq!(failure.status(), 1, "{failure}");
    assert!(
        failure.message.contains("cannot be resumed") && stored(&tree, "cut").is_none(),
        "{failure}"
    );
    assert!(client.names().is_empty());
    // If standard input holds commands, it cannot hold content.
    client.shell.input_is_commands = true;
    client.run(2, &["put - -o x"]);
    client.shell.input_is_commands = false;
    client.run(1, &["put - -o docs", "put - -o new/"]);
}

#[test]
fn holder_is_preferred_until_it_fails() {
    let tree = empty();
    let (addr, logins) =
        master(vec![endpoint(1, super::fake::closed_addr()), endpoint(2, tree.slave(2))]);
    let dir = tempfile::tempdir().unwrap();
    let (mut shell, _) = shell(addr, dir.path().to_path_buf(), false);
    shell.session.prefer(Some(SlaveId([1; 16])));
    shell.session.connect().unwrap();
    assert_eq!(shell.session.observed.slave(), Some(id(2)));
    // The preferred slave has failed; another attempt would only take time.
    shell.session.prefer(Some(SlaveId([1; 16])));
    shell.session.connect().unwrap();
    assert_eq!(logins.lock().unwrap().len(), 1);
}
