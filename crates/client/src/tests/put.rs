//! `put`: what is stored, under which name, what is told, and what a later run goes on with.

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
fn a_file_is_stored_whole_and_told_of() {
    let tree = empty();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
    bench.write("big.bin", &content(3_000_000));
    bench.run(0, &["put big.bin"]);
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(3_000_000));
    let object = bench.object();
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
    assert_eq!(bench.names(), ["big.bin"]);
}

#[test]
fn the_remote_name_is_where_it_was_asked_for() {
    let tree = empty();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    bench.write("a", b"a");
    bench.write("empty", b"");
    std::fs::create_dir(bench.dir.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("a", bench.dir.path().join("link")).unwrap();
    bench.run(
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
    bench.run(
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
    bench.run(2, &["put", "put a -o ''", "put -", "put - -r -o x", "put ''"]);
    let files: Vec<String> = tree.state().files.keys().cloned().collect();
    assert_eq!(files, ["docs/a", "docs/empty", "docs/x", "docs/y", "docs/z", "link"]);
    let told = bench.told();
    assert!(told.iter().any(|line| line.contains("put -r sends folders")), "{told:?}");
    assert!(bench.printed.take().contains("docs/a: 1 bytes in "));
}

#[test]
fn several_files_and_those_that_fail() {
    let tree = empty();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
    bench.write("a", b"a");
    bench.write("b", b"bb");
    bench.run(1, &["put a none b"]);
    let object = bench.object();
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
fn only_the_expected_version_is_replaced() {
    let tree = empty();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    bench.write("a", b"new");
    bench.run(1, &["put a -o docs/x --if-version 1-3"]);
    assert_eq!(stored(&tree, "docs/x").unwrap(), [1]);
    bench.run(0, &["put a -o docs/x --if-version 1-4"]);
    assert_eq!(stored(&tree, "docs/x").unwrap(), b"new");
    assert!(log_of(&bench.dir).is_empty());
}

#[test]
fn a_slave_that_goes_away_is_followed_by_the_next() {
    let tree = empty().cut_upload_after(2_000_000);
    let mut bench = TestClient::new(&[tree.clone(), tree.beside()], false);
    bench.write("big.bin", &content(3_000_000));
    bench.run(0, &["put big.bin"]);
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(3_000_000));
    let told = bench.told();
    assert!(
        told.len() == 1
            && told[0].contains("); resuming with 127.0.0.1:")
            && told[0].ends_with(" from the start"),
        "{told:?}"
    );
    assert_eq!(bench.printed.take().matches("127.0.0.1:").count(), 2);
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again() {
    let tree = empty();
    tree.lose_answer.store(true, Ordering::SeqCst);
    let mut bench = TestClient::new(&[tree.clone(), tree.beside()], false);
    bench.write("a", b"a");
    bench.run(0, &["put a"]);
    assert!(bench.printed.take().contains("version 1-5"));
    bench.run(0, &["put a"]);
    assert!(bench.printed.take().contains("version 1-6"));
}

#[test]
fn changes_that_are_not_possible_are_asked_for_again_for_a_while() {
    let tree = empty();
    tree.no_changes.store(1, Ordering::SeqCst);
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    bench.write("a", b"a");
    bench.run(0, &["put a"]);
    tree.no_changes.store(u64::MAX, Ordering::SeqCst);
    bench.run(1, &["put a"]);
    assert_eq!(log_of(&bench.dir).len(), 1);
}

/// A folder in which `put big.bin` was cut after 2 MiB, with no server left to go on.
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

/// A run in the same folder, with a second slave in front that has nothing of it.
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
    shell.prefer_holder();
    shell.session.connect().unwrap();
}

#[test]
fn what_was_cut_is_carried_on_at_the_start_through_the_slave_that_has_it() {
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
    let (mut bench, logins) = later(dir, &tree, true);
    connect(&mut bench.shell);
    assert_eq!(bench.shell.resume_all(), 0, "{:?}", bench.told());
    assert_eq!(logins.lock().unwrap()[0].prefer, Some(id(1)));
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(3_000_000));
    assert_eq!((bench.names(), bench.printed.take()), (vec!["big.bin".to_owned()], String::new()));
    let told = bench.told();
    assert!(
        told.len() == 2 && told[0].starts_with("resuming ") && told[1].contains("resumed from 20"),
        "{told:?}"
    );
    // A command that names it stores it as it is now.
    bench.run(0, &["put big.bin"]);
    assert_eq!(bench.object()["version"], "1-6");
}

#[test]
fn a_file_that_was_changed_is_sent_again_by_the_command_that_names_it() {
    let tree = empty();
    let (mut bench, _) = later(cut_off(&tree), &tree, false);
    connect(&mut bench.shell);
    assert_eq!(bench.shell.resume_all(), 0);
    bench.write("big.bin", b"other");
    bench.run(0, &["put big.bin"]);
    assert_eq!(stored(&tree, "big.bin").unwrap(), b"other");
}

#[test]
fn the_same_put_carries_it_on_and_leaves_another_slave_for_it() {
    let tree = empty();
    let (mut bench, logins) = later(cut_off(&tree), &tree, true);
    bench.shell.session.connect().unwrap();
    assert_eq!(bench.shell.session.current_slave().slave(), Some(id(2)));
    bench.run(0, &["put big.bin"]);
    let object = bench.object();
    assert!(object["resumed_from"].as_u64().unwrap() >= 2_000_000, "{object}");
    assert_eq!(logins.lock().unwrap()[1].prefer, Some(id(1)));
    assert!(log_of(&bench.dir).is_empty());
}

#[test]
fn a_local_file_that_was_changed_begins_again_under_a_new_id() {
    let tree = empty();
    let dir = cut_off(&tree);
    let TransferTask::Put(before) = log_of(&dir)[0].task else { panic!() };
    std::fs::write(dir.path().join("big.bin"), content(2_900_000)).unwrap();
    let (mut bench, _) = later(dir, &tree, true);
    connect(&mut bench.shell);
    assert_eq!(bench.shell.resume_all(), 0);
    assert!(bench.told()[1].contains("restarting"), "{:?}", bench.told());
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(2_900_000));
    assert!(
        tree.state()
            .asked
            .iter()
            .all(|r| !matches!(r, Request::Put(put) if put.id == before.id && put.offset > 0))
    );
}

#[test]
fn without_resuming_it_begins_again() {
    let tree = empty();
    let (mut bench, _) = later(cut_off(&tree), &tree, true);
    bench.shell.resume = false;
    connect(&mut bench.shell);
    assert_eq!(bench.shell.resume_all(), 0);
    bench.run(0, &["put big.bin"]);
    assert_eq!(bench.object()["resumed_from"], 0);
}

#[test]
fn what_somebody_else_put_there_meanwhile_is_not_replaced_unasked() {
    let tree = empty();
    let dir = cut_off(&tree);
    tree.state().files.insert("big.bin".into(), b"theirs".to_vec());
    let (mut bench, _) = later(dir, &tree, false);
    connect(&mut bench.shell);
    assert_eq!(bench.shell.resume_all(), 0);
    assert!(
        bench.told()[1].contains("the remote file was changed since this put began"),
        "{:?}",
        bench.told()
    );
    assert_eq!(stored(&tree, "big.bin").unwrap(), b"theirs");
    bench.run(0, &["put big.bin"]);
    assert_eq!(stored(&tree, "big.bin").unwrap(), content(3_000_000));
}

#[test]
fn at_the_start_it_is_told_and_dropped() {
    let tree = empty();
    let dir = cut_off(&tree);
    tree.state().files.insert("big.bin".into(), b"theirs".to_vec());
    let (mut bench, _) = later(dir, &tree, false);
    connect(&mut bench.shell);
    assert_eq!(bench.shell.resume_all(), 0);
    assert!(
        bench.told()[1].ends_with("; removed from the .log") && log_of(&bench.dir).is_empty(),
        "{:?}",
        bench.told()
    );

    let dir = cut_off(&empty());
    std::fs::remove_file(dir.path().join("big.bin")).unwrap();
    let (mut bench, _) = later(dir, &empty(), false);
    connect(&mut bench.shell);
    assert_eq!(bench.shell.resume_all(), 0);
    assert!(
        bench.told()[0].contains("no longer exists") && bench.names().is_empty(),
        "{:?}",
        bench.told()
    );
}

#[test]
fn a_line_that_leads_elsewhere_is_never_sent_by_itself() {
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
        let mut log = crate::transfer_log::LogHandle::open(home, log_of(&dir)[0].clone()).unwrap();
        log.finish().unwrap();
        let task = entry.task.clone();
        crate::transfer_log::LogHandle::open(home, entry).unwrap().write(task).unwrap();
        let before = tree.state().asked.len();
        let (mut bench, _) = later(dir, &tree, false);
        connect(&mut bench.shell);
        assert_eq!(bench.shell.resume_all(), 0);
        let sent = tree.state().asked[before..]
            .iter()
            .any(|r| matches!(r, Request::Put(_) | Request::Resume { .. }));
        assert!(!sent, "{place}");
        assert!(
            bench.told()[0].contains("is not resumed automatically"),
            "{place}: {:?}",
            bench.told()
        );
    }
}

#[test]
fn a_file_that_another_client_is_sending_is_left_alone() {
    let tree = empty();
    let dir = cut_off(&tree);
    let (mut bench, _) = later(dir, &tree, false);
    let entry = log_of(&bench.dir)[0].clone();
    let folder = relais_tree::Folder::open(bench.dir.path()).unwrap();
    let held =
        folder.create_or_open_part(lock_name(&entry.remote, &entry.local, &entry.origin)).unwrap();
    connect(&mut bench.shell);
    assert_eq!(bench.shell.resume_all(), 0);
    bench.run(1, &["put big.bin"]);
    assert!(bench.told()[0].contains("another ftpclient is sending it"), "{:?}", bench.told());
    drop(held);
    bench.run(0, &["put big.bin"]);
    assert_eq!(bench.names(), ["big.bin"]);
}

#[test]
fn a_log_that_cannot_be_used_does_not_keep_a_file_from_being_sent() {
    let tree = empty();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    std::fs::create_dir(bench.dir.path().join(".log")).unwrap();
    bench.write("a", b"a");
    bench.run(0, &["put a"]);
    assert!(bench.told()[0].contains(".log") && stored(&tree, "a").is_some());
}

#[test]
fn content_of_unknown_length_is_sent_and_cannot_be_carried_on() {
    use std::io::Write;
    let tree = empty();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    let send = |bench: &mut TestClient, bytes: Vec<u8>, name: &str| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || writer.write_all(&bytes));
        let path = relais_proto::TreePath::new(name).unwrap();
        let result = bench.shell.send_stream(reader, &path, Expect::Any);
        drop(thread.join());
        result
    };
    let sent = send(&mut bench, content(5_000_000), "stream").unwrap();
    assert_eq!((sent.bytes, sent.local.as_str(), sent.resumed_from), (5_000_000, "-", 0));
    assert_eq!(stored(&tree, "stream").unwrap(), content(5_000_000));
    tree.take_until_cut.store(4_000_000, Ordering::SeqCst);
    let failure = send(&mut bench, content(50_000_000), "cut").unwrap_err();
    assert_eq!(failure.status(), 1, "{failure}");
    assert!(
        failure.message.contains("cannot be resumed") && stored(&tree, "cut").is_none(),
        "{failure}"
    );
    assert!(bench.names().is_empty());
    // Commands from standard input leave no place for content.
    bench.shell.input_is_commands = true;
    bench.run(2, &["put - -o x"]);
    bench.shell.input_is_commands = false;
    bench.run(1, &["put - -o docs", "put - -o new/"]);
}

#[test]
fn the_slave_of_a_line_is_preferred_only_until_it_fails() {
    let tree = empty();
    let (addr, logins) =
        master(vec![endpoint(1, super::fake::nobody()), endpoint(2, tree.slave(2))]);
    let dir = tempfile::tempdir().unwrap();
    let (mut shell, _) = shell(addr, dir.path().to_path_buf(), false);
    shell.session.prefer(Some(SlaveId([1; 16])));
    shell.session.connect().unwrap();
    assert_eq!(shell.session.current_slave().slave(), Some(id(2)));
    // It failed; going there again would only cost time.
    shell.session.prefer(Some(SlaveId([1; 16])));
    shell.session.connect().unwrap();
    assert_eq!(logins.lock().unwrap().len(), 1);
}
