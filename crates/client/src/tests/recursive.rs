//! `get -r` and `put -r`: transfers, targets, and resumption.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering;

use relais_proto::Request;

use super::fake::{endpoint, opening, redirect, send, serve, welcome};
use super::get::once;
use super::tree::{MTIME, Tree};
use super::{TestClient, content, shell};

/// Returns a tree with a few folders, one of them empty, and a reserved name.
pub fn tree() -> Tree {
    let tree = Tree::new(&[
        ("docs/one", b"1".to_vec()),
        ("docs/sub/two words", b"22".to_vec()),
        ("docs/sub/deep/three", b"333".to_vec()),
        ("docs/sub-", vec![]),
        ("top.txt", b"top".to_vec()),
        ("top.bin", b"bin".to_vec()),
    ]);
    tree.state().folders.extend(["docs".to_owned(), "docs/empty".to_owned()]);
    tree
}

/// Returns all names below a folder with their content; folders end in `/`.
pub fn listed(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in at.read_dir().unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if kind.is_dir() {
                names.push(format!("{name}/"));
                folders.push(path);
            } else if kind.is_symlink() {
                names.push(format!("{name} ->"));
            } else {
                let bytes = std::fs::read(&path).unwrap();
                names.push(format!(
                    "{name}={}",
                    String::from_utf8_lossy(&bytes[..bytes.len().min(10)])
                ));
            }
        }
    }
    names.sort();
    names
}

/// Returns the same of a server's files and folders.
pub fn stored(tree: &Tree) -> Vec<String> {
    let state = tree.state();
    let files = state.files.iter().map(|(name, bytes)| {
        format!("{name}={}", String::from_utf8_lossy(&bytes[..bytes.len().min(10)]))
    });
    let mut names: Vec<String> =
        files.chain(state.folders.iter().map(|name| format!("{name}/"))).collect();
    names.sort();
    names
}

fn count(tree: &Tree, wanted: fn(&Request) -> bool) -> usize {
    let mut state = tree.state();
    let found = state.requests.iter().filter(|request| wanted(request)).count();
    state.requests.clear();
    found
}

pub fn gets(tree: &Tree) -> usize {
    count(tree, |request| matches!(request, Request::Get(_)))
}

pub fn puts(tree: &Tree) -> usize {
    count(tree, |request| matches!(request, Request::Put(_)))
}

pub const DOCS: [&str; 7] =
    ["empty/", "one=1", "sub-=", "sub/", "sub/deep/", "sub/deep/three=333", "sub/two words=22"];

#[test]
fn recursive_get_keeps_times_and_modes() {
    let mut client = TestClient::new(&[tree()], true);
    client.run(0, &["get -r docs"]);
    assert_eq!(listed(&client.dir.path().join("docs")), DOCS);
    assert_eq!(client.names(), ["docs"]);
    let meta = client.dir.path().join("docs/sub/deep/three").metadata().unwrap();
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec(), meta.permissions().mode() & 0o100),
        (MTIME.seconds, MTIME.nanos.into(), 0o100)
    );
    let object = client.object();
    assert_eq!(
        (&object["ok"], &object["files"], &object["folders"], &object["bytes"]),
        (&true.into(), &4.into(), &3.into(), &6.into())
    );
    assert_eq!(
        (object["slaves"].as_array().unwrap().len(), object["failed"].as_array().unwrap().len()),
        (1, 0)
    );
}

#[test]
fn copy_target_follows_cp() {
    let mut client = TestClient::new(&[tree()], false);
    client.run(
        0,
        &[
            "get -r docs/sub -o copy",
            "get -r docs/sub -o copy",
            "get -r docs/sub/deep -o copy/",
            "get -r top.txt -o copy/",
        ],
    );
    let deep = ["copy/deep/", "copy/deep/three=333"];
    let sub = [
        "copy/sub/",
        "copy/sub/deep/",
        "copy/sub/deep/three=333",
        "copy/sub/two words=22",
        "copy/top.txt=top",
        "copy/two words=22",
    ];
    assert_eq!(
        listed(client.dir.path()),
        ["copy/"].into_iter().chain(deep).chain(sub).collect::<Vec<_>>()
    );
    client.run(1, &["get -r docs -o none/", "get -r docs -o .log", "get -r nothing"]);
    client.run(0, &["get -r docs docs/sub -o copy", "get -r docs/sub/deep docs/empty"]);
    assert!(
        listed(client.dir.path()).contains(&"copy/docs/sub/deep/".to_owned())
            && client.names() == ["copy", "deep", "empty"]
    );
}

#[test]
fn root_is_copied_into_the_folder_itself() {
    let mut client = TestClient::new(&[tree()], false);
    client.run(0, &["get -r /"]);
    assert_eq!(client.names(), ["docs", "top.bin", "top.txt"]);
    client.run(0, &["get -r / -o all", "get -r / -o all"]);
    assert_eq!(
        listed(&client.dir.path().join("all")).iter().filter(|name| !name.contains('/')).count(),
        2
    );
    assert!(
        client
            .printed
            .take()
            .lines()
            .all(|line| line.starts_with("6 files, 4 folders, 12 bytes in ")),
        "{:?}",
        client.messages()
    );
}

#[test]
fn invalid_local_names_fail_alone() {
    let tree = Tree::new(&[
        ("d/.log", b"x".to_vec()),
        ("d/.relais-0.part", vec![]),
        ("d/.relais/x", vec![]),
        ("d/ok", b"ok".to_vec()),
    ]);
    let mut client = TestClient::new(&[tree], true);
    client.run(1, &["get -r d"]);
    assert_eq!(listed(client.dir.path()), ["d/", "d/ok=ok"]);
    let failed = client.object()["failed"].clone();
    let mut names: Vec<_> =
        failed.as_array().unwrap().iter().map(|f| f["remote"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["/d/.log", "/d/.relais", "/d/.relais-0.part"]);
    assert!(!client.names().contains(&".log".to_owned()), "nothing is left to do");
}

#[test]
fn blocking_links_are_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("victim"), "precious").unwrap();
    let mut client = TestClient::new(&[tree()], false);
    let docs = client.dir.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    symlink(outside.path().join("victim"), docs.join("one")).unwrap();
    symlink(outside.path(), docs.join("sub")).unwrap();
    client.run(1, &["get -r docs"]);
    assert_eq!(listed(outside.path()), ["victim=precious"]);
    assert_eq!(listed(&docs), ["empty/", "one=1", "sub ->", "sub-="]);
    assert_eq!(
        client.messages(),
        ["get: /docs/sub: a symbolic link has that name; 3 names below it are skipped"]
    );
    std::fs::remove_dir_all(&docs).unwrap();
    symlink(outside.path(), &docs).unwrap();
    client.run(1, &["get -r docs"]);
    assert_eq!(listed(outside.path()), ["victim=precious"]);
}

#[test]
fn large_files_are_transferred_individually() {
    let tree = Tree::new(&[("d/large", content(1_100_000)), ("d/small", b"s".to_vec())]);
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.run(0, &["get -r d", "put -r d -o back"]);
    assert!(
        client.local("d/large") == content(1_100_000)
            && tree.state().files["back/large"] == content(1_100_000)
    );
    assert_eq!(client.names(), ["d"]);
    assert_eq!(client.printed.take().matches("2 files, 1100001 bytes in ").count(), 2);
}

#[test]
fn recursive_put_skips_links() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    std::fs::create_dir_all(client.dir.path().join("up/in/empty")).unwrap();
    client.write("up/a", b"aaa");
    client.write("up/in/b", b"b");
    client.write("up/.log", b"ours");
    symlink("/etc/passwd", client.dir.path().join("up/link")).unwrap();
    client.run(0, &["put -r up -o docs"]);
    assert_eq!(
        stored(&tree).into_iter().filter(|name| name.contains("up")).collect::<Vec<_>>(),
        ["docs/up/", "docs/up/a=aaa", "docs/up/in/", "docs/up/in/b=b", "docs/up/in/empty/"]
    );
    let object = client.object();
    assert_eq!(
        (&object["files"], &object["folders"], &object["bytes"]),
        (&2.into(), &2.into(), &4.into())
    );
    assert!(object["skipped"][0].as_str().unwrap().ends_with("up/link"), "{object}");
    assert!(client.messages()[0].ends_with("up/link: a symbolic link"), "{:?}", client.messages());
    client.run(
        0,
        &["put -r up -o new", "put -r up -o new", "put -r up", "put -r up/in/. -o /docs/empty"],
    );
    let names = stored(&tree).join(" ");
    for name in ["new/a=aaa", "new/up/a=aaa", " up/in/b=b", "docs/empty/b=b"] {
        assert!(names.contains(name), "{name}: {names}");
    }
    client.run(1, &["put -r up -o top.txt", "put -r up -o none/x", "put -r nothing"]);
}

#[test]
fn recursive_put_retries_no_changes() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    std::fs::create_dir_all(client.dir.path().join("up/in/deep")).unwrap();
    client.write("up/in/deep/b", b"b");
    tree.no_changes.store(1, Ordering::SeqCst);
    client.run(0, &["put -r up"]);
    client.write("up/in/c", b"c");
    tree.no_changes.store(1, Ordering::SeqCst);
    client.run(0, &["mirror -R up up"]);
    assert!(
        stored(&tree).contains(&"up/in/deep/b=b".to_owned())
            && stored(&tree).contains(&"up/in/c=c".to_owned())
    );
}

/// Returns a folder in which `get -r docs` was cut after `blocks`, without another server.
fn cut_off(tree: &Tree, blocks: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let slave = tree.clone().cut_after(blocks).slave(1);
    let dying = serve(move |connection, number| {
        if number == 0 {
            opening(connection);
            send(
                connection,
                &[
                    welcome(relais_proto::ServerRole::Master),
                    redirect(vec![endpoint(1, once(slave))]),
                ],
            );
        }
    });
    let (mut shell, _) = shell(dying, dir.path().to_path_buf(), false);
    assert_eq!(shell.execute("get -r docs").status, 5, "{:?}", shell.notices.collected());
    assert!(dir.path().join(".log").exists());
    dir
}

#[test]
fn prompt_resumes_tree_without_equal_files() {
    let tree = tree();
    let dir = cut_off(&tree, 2);
    assert_eq!(gets(&tree), 4, "all files are requested ahead");
    let mut client = TestClient::in_folder(dir, std::slice::from_ref(&tree), false);
    client.shell.session.connect().unwrap();
    assert_eq!(client.shell.resume_all(), 0, "{:?}", client.messages());
    assert_eq!(
        listed(client.dir.path()),
        ["docs/".to_owned()]
            .into_iter()
            .chain(DOCS.map(|name| format!("docs/{name}")))
            .collect::<Vec<_>>()
    );
    let fetched = gets(&tree);
    assert!((1..4).contains(&fetched), "{fetched}");
    // A command that names the folder fetches all of it.
    client.run(0, &["get -r docs"]);
    assert_eq!(gets(&tree), 4);
}

#[test]
fn same_command_resumes_tree() {
    let tree = tree();
    let dir = cut_off(&tree, 2);
    gets(&tree);
    let mut client = TestClient::in_folder(dir, std::slice::from_ref(&tree), false);
    client.run(0, &["get -r docs"]);
    assert!((1..4).contains(&gets(&tree)));
    assert_eq!(client.names(), ["docs"]);
}

#[test]
fn missing_tree_is_dropped() {
    let dir = cut_off(&tree(), 2);
    let mut client = TestClient::in_folder(dir, &[Tree::new(&[("else", vec![])])], false);
    client.shell.session.connect().unwrap();
    assert_eq!(client.shell.resume_all(), 0);
    assert!(
        client.messages().last().unwrap().ends_with("removed from the .log"),
        "{:?}",
        client.messages()
    );
    assert!(!client.names().contains(&".log".to_owned()));
}

#[test]
fn folder_replaced_by_link_is_not_resumed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = cut_off(&tree(), 2);
    std::fs::remove_dir_all(dir.path().join("docs")).unwrap();
    symlink(elsewhere.path(), dir.path().join("docs")).unwrap();
    let mut client = TestClient::in_folder(dir, &[tree()], false);
    client.shell.session.connect().unwrap();
    assert_eq!(client.shell.resume_all(), 0);
    assert!(
        listed(elsewhere.path()).is_empty() && !client.names().contains(&".log".to_owned()),
        "{:?}",
        client.messages()
    );
}

#[test]
fn recursive_put_resumes_without_equal_files() {
    let tree = Tree::new(&[("x", vec![])]);
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.run(0, &["mkdir up"]);
    for name in ["a", "b", "c"] {
        tree.state().files.insert(format!("up/{name}"), name.as_bytes().to_vec());
    }
    // The fetched files have the server's times.
    client.run(0, &["get -r up"]);
    tree.state().files.remove("up/b");
    let entry = crate::transfer_log::TransferEntry {
        remote: relais_proto::TreePath::new("up").unwrap(),
        local: "up".into(),
        origin: super::origin(&client.shell),
        since: 1,
        signature: None,
        task: crate::transfer_log::TransferTask::PutTree,
    };
    crate::transfer_log::TransferLog::open(client.dir.path()).unwrap().put(entry).unwrap();
    assert_eq!(client.shell.resume_all(), 0, "{:?}", client.messages());
    assert_eq!((puts(&tree), client.names()), (1, vec!["up".to_owned()]));
}

/// Writes the entry that a killed run leaves in the `.log`.
fn left(client: &TestClient, remote: &str, local: &str, task: crate::transfer_log::TransferTask) {
    let remote = relais_proto::TreePath::new(remote).unwrap();
    let entry = crate::transfer_log::TransferEntry {
        remote,
        local: local.into(),
        origin: super::origin(&client.shell),
        since: 1,
        signature: None,
        task,
    };
    crate::transfer_log::TransferLog::open(client.dir.path()).unwrap().put(entry).unwrap();
}

#[test]
fn repeated_command_resumes_its_own_folder() {
    use crate::transfer_log::TransferTask;
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    std::fs::create_dir_all(client.dir.path().join("copy")).unwrap();
    std::fs::create_dir_all(client.dir.path().join("up")).unwrap();
    client.write("up/a", b"a");
    tree.state().folders.insert("new".into());
    client.shell.session.connect().unwrap();
    {
        left(&client, "docs", "copy", TransferTask::GetTree);
        left(&client, "new", "up", TransferTask::PutTree);
        client.run(0, &["get -r docs -o copy", "put -r up -o new"]);
        assert_eq!(listed(&client.dir.path().join("copy")), DOCS);
        assert_eq!(
            stored(&tree).into_iter().filter(|name| name.starts_with("new/")).collect::<Vec<_>>(),
            ["new/", "new/a=a"]
        );
    }
    // No entry is left: the folder is like any other.
    client.run(0, &["get -r docs/empty -o copy/", "get -r docs/sub -o copy", "put -r up -o new"]);
    assert!(stored(&tree).contains(&"new/up/a=a".to_owned()));
    client.run(0, &["get -r docs -o copy"]);
    assert!(listed(&client.dir.path().join("copy")).contains(&"docs/one=1".to_owned()));
}

#[test]
fn same_target_is_not_written_twice() {
    let tree = Tree::new(&[
        ("a/x", b"1".to_vec()),
        ("b/x", b"2".to_vec()),
        ("a/d/f", b"3".to_vec()),
        ("b/d/f", b"4".to_vec()),
    ]);
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.run(
        1,
        &[
            "get a/x b/x",
            "get -r a/x b/x",
            "get -r a/d b/d",
            "mget -r '?/d'",
            "get b/nothing a/x b/x",
        ],
    );
    assert_eq!((client.local("x"), client.local("d/f")), (b"1".to_vec(), b"3".to_vec()));
    assert!(
        client.messages()[0]
            .starts_with("get: /b/x: this command has already transferred /a/x to "),
        "{:?}",
        client.messages()
    );
    for name in ["p/x", "q/x"] {
        std::fs::create_dir(client.dir.path().join(&name[..1])).unwrap();
        client.write(name, name.as_bytes());
    }
    client.run(0, &["mkdir to"]);
    client.run(1, &["put p/x q/x -o to", "put -r p/x q/x -o to"]);
    assert_eq!(tree.state().files["to/x"], b"p/x");
    client.run(0, &["rm to/x", "get a/x a/x a/d/../x"]);
    client.run(1, &["mv a/x b/x to/"]);
    let state = tree.state();
    assert_eq!((&state.files["to/x"][..], &state.files["b/x"][..]), (&b"1"[..], &b"2"[..]));
}

#[test]
fn cut_tree_upload_resumes_on_another_slave() {
    let tree = tree();
    let cut = tree.beside().cut_upload_after(2);
    let mut client = TestClient::new(&[cut, tree.clone()], false);
    std::fs::create_dir_all(client.dir.path().join("up/in")).unwrap();
    for name in ["up/a", "up/b", "up/in/c"] {
        client.write(name, b"bytes");
    }
    client.run(0, &["put -r up"]);
    let sent: Vec<_> = stored(&tree).into_iter().filter(|name| name.starts_with("up")).collect();
    assert_eq!(sent, ["up/", "up/a=bytes", "up/b=bytes", "up/in/", "up/in/c=bytes"]);
    assert_eq!(client.messages().len(), 1, "{:?}", client.messages());
    assert!(
        client.messages()[0].contains("; continuing with 127.0.0.1:"),
        "{:?}",
        client.messages()
    );
    assert_eq!(client.names(), ["up"]);
}

#[test]
fn permanently_refused_tree_leaves_the_log() {
    let tree = tree();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("up")).unwrap();
    std::fs::write(dir.path().join("up/a"), "bytes").unwrap();
    let slave = tree.clone().cut_upload_after(2).slave(1);
    let dying = serve(move |connection, number| {
        if number == 0 {
            opening(connection);
            send(
                connection,
                &[
                    welcome(relais_proto::ServerRole::Master),
                    redirect(vec![endpoint(1, once(slave))]),
                ],
            );
        }
    });
    let (mut shell, printed) = shell(dying, dir.path().to_path_buf(), true);
    assert_eq!(shell.execute("put -r up").status, 5, "{:?}", shell.notices.collected());
    let object: serde_json::Value = serde_json::from_str(&printed.take()).unwrap();
    assert_eq!(
        (&object["failed"][0]["remote"], &object["error"]["code"]),
        (&"/up".into(), &"cut".into())
    );
    let mut client = TestClient::in_folder(dir, std::slice::from_ref(&tree), true);
    client.shell.session.connect().unwrap();
    assert_eq!(client.shell.resume_all(), 0, "{:?}", client.messages());
    assert!(stored(&tree).contains(&"up/a=bytes".to_owned()));
    assert_eq!((client.names(), client.printed.take()), (vec!["up".to_owned()], String::new()));
}

#[test]
fn refused_folder_skips_its_content() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    std::fs::create_dir_all(client.dir.path().join("up/one/deep")).unwrap();
    client.write("up/one/deep/f", b"f");
    client.write("up/two", b"2");
    client.run(1, &["put -r up/. -o docs"]);
    let object = client.object();
    assert_eq!(object["failed"].as_array().unwrap().len(), 1, "{object}");
    assert_eq!(object["failed"][0]["remote"], "/docs/one");
    assert!(stored(&tree).contains(&"docs/two=2".to_owned()));
}
