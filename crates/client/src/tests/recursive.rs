//! `get -r`, `put -r`, `mirror`, `mget` and `mput`: what is transferred, removed, left alone and told.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering;

use relais_proto::Request;

use super::fake::{endpoint, opening, redirect, send, serve, welcome};
use super::get::once;
use super::tree::{MTIME, Tree};
use super::{Bench, content, shell};

/// A few folders, one of them empty, and a name that the client uses itself.
fn tree() -> Tree {
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

/// All names below a folder with their content; folders have a `/` behind.
fn listed(folder: &Path) -> Vec<String> {
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
                names.push(format!("{name}={}", String::from_utf8_lossy(&bytes[..bytes.len().min(10)])));
            }
        }
    }
    names.sort();
    names
}

/// The same of a server's files and folders.
fn stored(tree: &Tree) -> Vec<String> {
    let state = tree.state();
    let files = state.files.iter().map(|(name, bytes)| format!("{name}={}", String::from_utf8_lossy(&bytes[..bytes.len().min(10)])));
    let mut names: Vec<String> = files.chain(state.folders.iter().map(|name| format!("{name}/"))).collect();
    names.sort();
    names
}

fn count(tree: &Tree, wanted: fn(&Request) -> bool) -> usize {
    let mut state = tree.state();
    let found = state.asked.iter().filter(|request| wanted(request)).count();
    state.asked.clear();
    found
}

fn gets(tree: &Tree) -> usize {
    count(tree, |request| matches!(request, Request::Get(_)))
}

fn puts(tree: &Tree) -> usize {
    count(tree, |request| matches!(request, Request::Put(_)))
}

const DOCS: [&str; 7] = ["empty/", "one=1", "sub-=", "sub/", "sub/deep/", "sub/deep/three=333", "sub/two words=22"];

#[test]
fn a_folder_is_fetched_whole_with_times_and_rights() {
    let mut bench = Bench::new(&[tree()], true);
    bench.run(0, &["get -r docs"]);
    assert_eq!(listed(&bench.dir.path().join("docs")), DOCS);
    assert_eq!(bench.names(), ["docs"]);
    let meta = bench.dir.path().join("docs/sub/deep/three").metadata().unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec(), meta.permissions().mode() & 0o100), (MTIME.seconds, MTIME.nanos.into(), 0o100));
    let object = bench.object();
    assert_eq!((&object["ok"], &object["files"], &object["folders"], &object["bytes"]), (&true.into(), &4.into(), &3.into(), &6.into()));
    assert_eq!((object["slaves"].as_array().unwrap().len(), object["failed"].as_array().unwrap().len()), (1, 0));
}

#[test]
fn the_copy_is_where_cp_would_make_it() {
    let mut bench = Bench::new(&[tree()], false);
    bench.run(0, &["get -r docs/sub -o copy", "get -r docs/sub -o copy", "get -r docs/sub/deep -o copy/", "get -r top.txt -o copy/"]);
    let deep = ["copy/deep/", "copy/deep/three=333"];
    let sub = ["copy/sub/", "copy/sub/deep/", "copy/sub/deep/three=333", "copy/sub/two words=22", "copy/top.txt=top", "copy/two words=22"];
    assert_eq!(listed(bench.dir.path()), ["copy/"].into_iter().chain(deep).chain(sub).collect::<Vec<_>>());
    bench.run(1, &["get -r docs -o none/", "get -r docs -o .log", "get -r nothing"]);
    bench.run(0, &["get -r docs docs/sub -o copy", "get -r docs/sub/deep docs/empty"]);
    assert!(listed(bench.dir.path()).contains(&"copy/docs/sub/deep/".to_owned()) && bench.names() == ["copy", "deep", "empty"]);
}

#[test]
fn the_top_goes_into_the_folder_itself() {
    let mut bench = Bench::new(&[tree()], false);
    bench.run(0, &["get -r /"]);
    assert_eq!(bench.names(), ["docs", "top.bin", "top.txt"]);
    bench.run(0, &["get -r / -o all", "get -r / -o all"]);
    assert_eq!(listed(&bench.dir.path().join("all")).iter().filter(|name| !name.contains('/')).count(), 2);
    assert!(bench.printed.take().lines().all(|line| line.starts_with("6 files, 4 folders, 12 bytes in ")), "{:?}", bench.told());
}

#[test]
fn names_that_have_no_place_here_fail_alone() {
    let tree = Tree::new(&[("d/.log", b"x".to_vec()), ("d/.relais-0.part", vec![]), ("d/.relais/x", vec![]), ("d/ok", b"ok".to_vec())]);
    let mut bench = Bench::new(&[tree], true);
    bench.run(1, &["get -r d"]);
    assert_eq!(listed(bench.dir.path()), ["d/", "d/ok=ok"]);
    let failed = bench.object()["failed"].clone();
    let mut names: Vec<_> = failed.as_array().unwrap().iter().map(|f| f["remote"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["/d/.log", "/d/.relais", "/d/.relais-0.part"]);
    assert!(!bench.names().contains(&".log".to_owned()), "nothing is left to do");
}

#[test]
fn links_in_the_way_are_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("victim"), "precious").unwrap();
    let mut bench = Bench::new(&[tree()], false);
    let docs = bench.dir.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    symlink(outside.path().join("victim"), docs.join("one")).unwrap();
    symlink(outside.path(), docs.join("sub")).unwrap();
    bench.run(1, &["get -r docs"]);
    assert_eq!(listed(outside.path()), ["victim=precious"]);
    assert_eq!(listed(&docs), ["empty/", "one=1", "sub ->", "sub-="]);
    assert_eq!(bench.told(), ["get: /docs/sub: a symbolic link has that name; 3 names below it are left out"]);
    std::fs::remove_dir_all(&docs).unwrap();
    symlink(outside.path(), &docs).unwrap();
    bench.run(1, &["get -r docs"]);
    assert_eq!(listed(outside.path()), ["victim=precious"]);
}

#[test]
fn large_files_are_fetched_and_sent_on_their_own() {
    let tree = Tree::new(&[("d/large", content(1_100_000)), ("d/small", b"s".to_vec())]);
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    bench.run(0, &["get -r d", "put -r d -o back"]);
    assert!(bench.local("d/large") == content(1_100_000) && tree.state().files["back/large"] == content(1_100_000));
    assert_eq!(bench.names(), ["d"]);
    assert_eq!(bench.printed.take().matches("2 files, 1100001 bytes in ").count(), 2);
}

#[test]
fn a_folder_is_sent_whole_and_links_are_left_out() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), true);
    std::fs::create_dir_all(bench.dir.path().join("up/in/empty")).unwrap();
    bench.write("up/a", b"aaa");
    bench.write("up/in/b", b"b");
    bench.write("up/.log", b"ours");
    symlink("/etc/passwd", bench.dir.path().join("up/link")).unwrap();
    bench.run(0, &["put -r up -o docs"]);
    assert_eq!(
        stored(&tree).into_iter().filter(|name| name.contains("up")).collect::<Vec<_>>(),
        ["docs/up/", "docs/up/a=aaa", "docs/up/in/", "docs/up/in/b=b", "docs/up/in/empty/"]
    );
    let object = bench.object();
    assert_eq!((&object["files"], &object["folders"], &object["bytes"]), (&2.into(), &2.into(), &4.into()));
    assert!(object["skipped"][0].as_str().unwrap().ends_with("up/link"), "{object}");
    assert!(bench.told()[0].ends_with("up/link: a symbolic link"), "{:?}", bench.told());
    bench.run(0, &["put -r up -o new", "put -r up -o new", "put -r up", "put -r up/in/. -o /docs/empty"]);
    let names = stored(&tree).join(" ");
    for name in ["new/a=aaa", "new/up/a=aaa", " up/in/b=b", "docs/empty/b=b"] {
        assert!(names.contains(name), "{name}: {names}");
    }
    bench.run(1, &["put -r up -o top.txt", "put -r up -o none/x", "put -r nothing"]);
}

#[test]
fn changes_that_are_not_possible_at_the_moment_are_asked_for_again() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    std::fs::create_dir_all(bench.dir.path().join("up/in/deep")).unwrap();
    bench.write("up/in/deep/b", b"b");
    tree.no_changes.store(1, Ordering::SeqCst);
    bench.run(0, &["put -r up"]);
    bench.write("up/in/c", b"c");
    tree.no_changes.store(1, Ordering::SeqCst);
    bench.run(0, &["mirror -R up up"]);
    assert!(stored(&tree).contains(&"up/in/deep/b=b".to_owned()) && stored(&tree).contains(&"up/in/c=c".to_owned()));
}

/// A folder in which `get -r docs` was cut after so many blocks, with no server left to go on.
fn cut_off(tree: &Tree, blocks: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let slave = tree.clone().cut_after(blocks).slave(1);
    let dying = serve(move |connection, number| {
        if number == 0 {
            opening(connection);
            send(connection, &[welcome(relais_proto::ServerRole::Master), redirect(vec![endpoint(1, once(slave))])]);
        }
    });
    let (mut shell, _) = shell(dying, dir.path().to_path_buf(), false);
    assert_eq!(shell.execute("get -r docs").status, 5, "{:?}", shell.notices.collected());
    assert!(dir.path().join(".log").exists());
    dir
}

#[test]
fn what_was_cut_is_carried_on_at_the_start_without_what_is_there() {
    let tree = tree();
    let dir = cut_off(&tree, 2);
    assert_eq!(gets(&tree), 4, "all were asked for ahead");
    let mut bench = Bench::in_folder(dir, std::slice::from_ref(&tree), false);
    bench.shell.session.connect().unwrap();
    assert_eq!(bench.shell.carry_on(), 0, "{:?}", bench.told());
    assert_eq!(
        listed(bench.dir.path()),
        ["docs/".to_owned()].into_iter().chain(DOCS.map(|name| format!("docs/{name}"))).collect::<Vec<_>>()
    );
    let fetched = gets(&tree);
    assert!((1..4).contains(&fetched), "{fetched}");
    // The command that names it does nothing more, once.
    bench.run(0, &["get -r docs"]);
    assert_eq!(gets(&tree), 0);
    bench.run(0, &["get -r docs"]);
    assert_eq!(gets(&tree), 4);
}

#[test]
fn the_same_command_carries_it_on() {
    let tree = tree();
    let dir = cut_off(&tree, 2);
    gets(&tree);
    let mut bench = Bench::in_folder(dir, std::slice::from_ref(&tree), false);
    bench.run(0, &["get -r docs"]);
    assert!((1..4).contains(&gets(&tree)));
    assert_eq!(bench.names(), ["docs"]);
}

#[test]
fn what_is_gone_is_dropped() {
    let dir = cut_off(&tree(), 2);
    let mut bench = Bench::in_folder(dir, &[Tree::new(&[("else", vec![])])], false);
    bench.shell.session.connect().unwrap();
    assert_eq!(bench.shell.carry_on(), 0);
    assert!(bench.told().last().unwrap().ends_with("it is dropped"), "{:?}", bench.told());
    assert!(!bench.names().contains(&".log".to_owned()));
}

#[test]
fn a_line_whose_folder_became_a_link_is_not_carried_on() {
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = cut_off(&tree(), 2);
    std::fs::remove_dir_all(dir.path().join("docs")).unwrap();
    symlink(elsewhere.path(), dir.path().join("docs")).unwrap();
    let mut bench = Bench::in_folder(dir, &[tree()], false);
    bench.shell.session.connect().unwrap();
    assert_eq!(bench.shell.carry_on(), 0);
    assert!(listed(elsewhere.path()).is_empty() && !bench.names().contains(&".log".to_owned()), "{:?}", bench.told());
}

#[test]
fn an_upload_is_carried_on_without_what_is_there() {
    let tree = Tree::new(&[("x", vec![])]);
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    bench.run(0, &["mkdir up"]);
    for name in ["a", "b", "c"] {
        tree.state().files.insert(format!("up/{name}"), name.as_bytes().to_vec());
    }
    // Fetched, so that the times are those of the server.
    bench.run(0, &["get -r up"]);
    tree.state().files.remove("up/b");
    let entry = crate::log::Entry {
        remote: relais_proto::TreePath::new("up").unwrap(),
        local: "up".into(),
        cluster: super::fake::CLUSTER,
        work: crate::log::Work::PutTree,
    };
    crate::log::Ledger::open(bench.dir.path(), entry).unwrap().write(crate::log::Work::PutTree).unwrap();
    assert_eq!(bench.shell.carry_on(), 0, "{:?}", bench.told());
    assert_eq!((puts(&tree), bench.names()), (1, vec!["up".to_owned()]));
    bench.run(0, &["put -r up"]);
    assert_eq!(puts(&tree), 0, "it has just finished");
}

#[test]
fn a_mirror_transfers_what_differs_and_removes_last() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), true);
    bench.run(0, &["mirror docs a/b/copy"]);
    let copy = bench.dir.path().join("a/b/copy");
    assert_eq!(listed(&copy), DOCS);
    let object = bench.object();
    assert_eq!((&object["files"], &object["folders"], &object["bytes"], &object["deleted"]), (&4.into(), &3.into(), &6.into(), &0.into()));
    gets(&tree);
    std::fs::create_dir_all(copy.join("extra/in")).unwrap();
    std::fs::write(copy.join("extra/in/f"), "f").unwrap();
    std::fs::write(copy.join("one"), "changed").unwrap();
    bench.run(0, &["mirror docs a/b/copy"]);
    assert!(gets(&tree) == 1 && copy.join("extra/in/f").exists());
    bench.printed.take();
    bench.run(0, &["mirror --delete docs a/b/copy"]);
    assert_eq!((listed(&copy), gets(&tree), bench.object()["deleted"].clone()), (DOCS.map(str::to_owned).to_vec(), 0, 3.into()));
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    bench.run(0, &["mirror --dry-run docs/sub copy"]);
    let copy = bench.dir.path().join("copy");
    assert_eq!(
        bench.printed.take(),
        format!("make {}\nmake deep\nget deep/three\nget two words\n", copy.display())
            .replace("get deep/three\nget two words", "get deep/three\nget two words")
    );
    assert!(bench.names().is_empty());
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("deep"), "a file").unwrap();
    std::fs::write(copy.join("old"), "").unwrap();
    bench.run(0, &["mirror --dry-run --delete docs/sub copy"]);
    assert_eq!(bench.printed.take(), "get two words\ndelete old\ndelete deep\nmake deep\nget deep/three\n");
    assert_eq!((listed(&copy), gets(&tree)), (vec!["deep=a file".to_owned(), "old=".to_owned()], 0));
    bench.run(0, &["mirror -R --dry-run copy new/er"]);
    assert_eq!(bench.printed.take(), "make /new\nmake /new/er\nput deep\nput old\n");
    assert!(!stored(&tree).iter().any(|name| name.starts_with("new")));
}

#[test]
fn another_kind_gives_way_with_delete_alone() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    let copy = bench.dir.path().join("copy");
    std::fs::create_dir_all(copy.join("one/in")).unwrap();
    std::fs::write(copy.join("sub"), "a file").unwrap();
    bench.run(1, &["mirror docs copy"]);
    assert_eq!(listed(&copy), ["empty/", "one/", "one/in/", "sub-=", "sub=a file"]);
    assert_eq!(
        bench.told(),
        ["mirror: /docs/one: a folder has that name", "mirror: /docs/sub: a file has that name; 3 names below it are left out"]
    );
    bench.run(0, &["mirror --delete docs copy"]);
    assert_eq!(listed(&copy), DOCS);
    let up = bench.dir.path().join("up");
    std::fs::create_dir_all(up.join("one")).unwrap();
    std::fs::write(up.join("sub"), "file").unwrap();
    bench.run(0, &["mirror -R --delete up docs"]);
    let docs: Vec<_> = stored(&tree).into_iter().filter(|name| name.starts_with("docs/")).collect();
    assert_eq!(docs, ["docs/", "docs/one/", "docs/sub=file"]);
}

#[test]
fn nothing_is_removed_after_a_failure_or_on_a_mistake() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    let copy = bench.dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("extra"), "").unwrap();
    bench.run(1, &["mirror --delete nothing copy", "mirror --delete docs/empty copy", "mirror --delete top.txt copy"]);
    bench.run(2, &["mirror docs", "mirror a b c"]);
    assert_eq!(listed(&copy), ["extra="]);
    // One file cannot be written: a folder that is made meanwhile cannot be told from this.
    std::fs::create_dir(copy.join("one")).unwrap();
    symlink("/nowhere", copy.join("one/link")).unwrap();
    bench.run(1, &["mirror --delete docs copy"]);
    assert!(copy.join("extra").exists() && copy.join("one/link").symlink_metadata().is_ok());
    assert!(bench.told().contains(&"nothing is removed: not everything could be transferred".to_owned()), "{:?}", bench.told());
    std::fs::remove_dir_all(copy.join("one")).unwrap();
    bench.run(0, &["mirror --delete --force docs/empty copy"]);
    assert!(listed(&copy).is_empty());
}

#[test]
fn what_is_never_removed_is_told() {
    let mut bench = Bench::new(&[tree()], true);
    let copy = bench.dir.path().join("copy");
    std::fs::create_dir_all(copy.join("old")).unwrap();
    for name in ["old/.log", "old/f", ".relais-0.part"] {
        std::fs::write(copy.join(name), "").unwrap();
    }
    symlink("one", copy.join("link")).unwrap();
    bench.run(0, &["mirror --delete docs copy"]);
    let left: Vec<_> = [".relais-0.part=", "link ->", "old/", "old/.log="].into_iter().chain(DOCS).collect();
    let mut wanted: Vec<String> = left.iter().map(ToString::to_string).collect();
    wanted.sort();
    assert_eq!(listed(&copy), wanted);
    assert!(
        bench.told()[0].ends_with("copy/old is not removed: it holds old/.log, a name that ftpclient uses itself"),
        "{:?}",
        bench.told()
    );
    let object = bench.object();
    assert_eq!((object["deleted"].clone(), object["skipped"].as_array().unwrap().len()), (1.into(), 1));
}

#[test]
fn a_mirror_the_other_way_round() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    bench.run(0, &["get -r docs"]);
    tree.state().files.insert("docs/extra/f".into(), vec![]);
    tree.state().files.insert("docs/extra/.log".into(), vec![]);
    tree.state().files.remove("docs/one");
    bench.run(0, &["mirror -R docs docs"]);
    assert_eq!(puts(&tree), 1);
    symlink("x", bench.dir.path().join("docs/extra2")).unwrap();
    tree.state().files.insert("docs/extra2".into(), vec![]);
    bench.run(0, &["mirror -R --delete docs docs"]);
    let left = stored(&tree);
    assert!(left.contains(&"docs/extra/.log=".to_owned()) && !left.contains(&"docs/extra/f=".to_owned()));
    assert!(left.contains(&"docs/extra2=".to_owned()), "what the source skipped keeps its name there");
    bench.run(0, &["mirror -R docs/sub new/place"]);
    assert!(stored(&tree).contains(&"new/place/deep/three=333".to_owned()));
    bench.run(1, &["mirror -R nothing docs", "mirror -R docs top.txt"]);
}

#[test]
fn digests_find_what_times_do_not() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    bench.run(0, &["mirror docs copy"]);
    let one = bench.dir.path().join("copy/one");
    let time = one.metadata().unwrap().modified().unwrap();
    std::fs::write(&one, "2").unwrap();
    std::fs::File::options().write(true).open(&one).unwrap().set_modified(time).unwrap();
    gets(&tree);
    bench.run(0, &["mirror docs copy"]);
    assert_eq!((gets(&tree), std::fs::read(&one).unwrap()), (0, b"2".to_vec()));
    bench.run(0, &["mirror --checksum docs copy"]);
    assert_eq!((gets(&tree), std::fs::read(&one).unwrap()), (1, b"1".to_vec()));
    std::fs::File::options().write(true).open(&one).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    bench.run(0, &["mirror --checksum docs copy"]);
    assert_eq!(gets(&tree), 0, "content is what counts");
}

#[test]
fn patterns_fetch_what_they_match() {
    let mut bench = Bench::new(&[tree()], true);
    bench.run(0, &["mget 'top.*' docs/{one,none}"]);
    assert_eq!(listed(bench.dir.path()), ["one=1", "top.bin=bin", "top.txt=top"]);
    let object = bench.object();
    assert_eq!((&object["files"], &object["bytes"]), (&3.into(), &7.into()));
    std::fs::create_dir(bench.dir.path().join("into")).unwrap();
    bench.run(0, &["mget 'docs/*' -o into", "cd docs/sub", "mget '../../*.txt' -o into", "mget '*/thr[e]e' -o into"]);
    assert_eq!(listed(&bench.dir.path().join("into")), ["one=1", "sub-=", "three=333", "top.txt=top"]);
    bench.run(0, &["cd", "mget -r 'docs/{s*,e}' -o into"]);
    assert!(listed(&bench.dir.path().join("into")).contains(&"sub/deep/three=333".to_owned()));
}

#[test]
fn patterns_that_match_nothing_fail_alone() {
    let tree = Tree::new(&[("a/x", b"1".to_vec()), ("b/x", b"2".to_vec()), ("y", vec![]), ("d/z", vec![])]);
    let mut bench = Bench::new(&[tree], false);
    bench.run(1, &["mget 'no?e' y", "mget '?/x'", "mget 'd*'", "mget y -o none"]);
    assert_eq!(listed(bench.dir.path()), ["x=1", "y="]);
    let told = bench.told();
    assert_eq!(told[0], "mget: nothing matches 'no?e'");
    assert!(told[1].starts_with("mget: /b/x: another file of the same name"), "{told:?}");
    assert_eq!(told[2], "mget: only folders match 'd*'; -r takes them with all that is in them");
    bench.run(2, &["mget", "mget '[a'", "mget '{a'"]);
}

#[test]
fn patterns_send_what_they_match() {
    let tree = tree();
    let mut bench = Bench::new(std::slice::from_ref(&tree), false);
    std::fs::create_dir_all(bench.dir.path().join("up/sub")).unwrap();
    for name in ["up/a.x", "up/b.x", "up/c.y", "up/.hidden.x", "up/sub/d.x", "up/.log"] {
        bench.write(name, name.as_bytes());
    }
    symlink("a.x", bench.dir.path().join("up/l.x")).unwrap();
    bench.run(0, &["mput 'up/*.x' -o docs", "lcd up", "mput '*/d.x'", "mput -r 's*' -o docs/empty"]);
    let names = format!(" {}", stored(&tree).join(" "));
    for name in ["docs/a.x=", "docs/b.x=", " d.x=", "docs/empty/sub/d.x="] {
        assert!(names.contains(name), "{name}: {names}");
    }
    assert!(!names.contains("c.y") && !names.contains("hidden") && !names.contains("l.x"));
    assert!(bench.told()[0].contains("up/l.x: a symbolic link"), "{:?}", bench.told());
    bench.run(1, &["mput 'none*'", "mput '*' -o nothing", "mput '*' -o top.txt"]);
}
