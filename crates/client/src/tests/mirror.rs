//! `mirror`: what is transferred, removed, left alone and told.

use std::os::unix::fs::symlink;

use super::TestClient;
use super::recursive::{DOCS, gets, listed, puts, stored, tree};

#[test]
fn a_mirror_transfers_what_differs_and_removes_last() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), true);
    bench.run(0, &["mirror docs a/b/copy"]);
    let copy = bench.dir.path().join("a/b/copy");
    assert_eq!(listed(&copy), DOCS);
    let object = bench.object();
    assert_eq!(
        (&object["files"], &object["folders"], &object["bytes"], &object["deleted"]),
        (&4.into(), &3.into(), &6.into(), &0.into())
    );
    gets(&tree);
    std::fs::create_dir_all(copy.join("extra/in")).unwrap();
    std::fs::write(copy.join("extra/in/f"), "f").unwrap();
    std::fs::write(copy.join("one"), "changed").unwrap();
    bench.run(0, &["mirror docs a/b/copy"]);
    assert!(gets(&tree) == 1 && copy.join("extra/in/f").exists());
    bench.printed.take();
    bench.run(0, &["mirror --delete docs a/b/copy"]);
    assert_eq!(
        (listed(&copy), gets(&tree), bench.object()["deleted"].clone()),
        (DOCS.map(str::to_owned).to_vec(), 0, 3.into())
    );
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    bench.run(0, &["mirror --dry-run docs/sub copy"]);
    let copy = bench.dir.path().join("copy");
    assert_eq!(
        bench.printed.take(),
        format!("make {}\nmake deep\nget deep/three\nget two words\n", copy.display())
    );
    assert!(bench.names().is_empty());
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("deep"), "a file").unwrap();
    std::fs::write(copy.join("old"), "").unwrap();
    bench.run(0, &["mirror --dry-run --delete docs/sub copy"]);
    assert_eq!(
        bench.printed.take(),
        "get two words\ndelete old\ndelete deep\nmake deep\nget deep/three\n"
    );
    assert_eq!(
        (listed(&copy), gets(&tree)),
        (vec!["deep=a file".to_owned(), "old=".to_owned()], 0)
    );
    bench.run(0, &["mirror -R --dry-run copy new/er"]);
    assert_eq!(bench.printed.take(), "make /new\nmake /new/er\nput deep\nput old\n");
    assert!(!stored(&tree).iter().any(|name| name.starts_with("new")));
}

#[test]
fn another_kind_gives_way_with_delete_alone() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    let copy = bench.dir.path().join("copy");
    std::fs::create_dir_all(copy.join("one/in")).unwrap();
    std::fs::write(copy.join("sub"), "a file").unwrap();
    bench.run(1, &["mirror docs copy"]);
    assert_eq!(listed(&copy), ["empty/", "one/", "one/in/", "sub-=", "sub=a file"]);
    assert_eq!(
        bench.told(),
        [
            "mirror: /docs/one: a folder has that name",
            "mirror: /docs/sub: a file has that name; 3 names below it are skipped"
        ]
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
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    let copy = bench.dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("extra"), "").unwrap();
    bench.run(
        1,
        &[
            "mirror --delete nothing copy",
            "mirror --delete docs/empty copy",
            "mirror --delete top.txt copy",
        ],
    );
    bench.run(2, &["mirror docs", "mirror a b c"]);
    assert_eq!(listed(&copy), ["extra="]);
    // A folder that holds a link is in the way of a file.
    std::fs::create_dir(copy.join("one")).unwrap();
    symlink("/nowhere", copy.join("one/link")).unwrap();
    bench.run(1, &["mirror --delete docs copy"]);
    assert!(copy.join("extra").exists() && copy.join("one/link").symlink_metadata().is_ok());
    assert!(
        bench.told().contains(&"nothing is removed: some transfers failed".to_owned()),
        "{:?}",
        bench.told()
    );
    std::fs::remove_dir_all(copy.join("one")).unwrap();
    bench.run(0, &["mirror --delete --force docs/empty copy"]);
    assert!(listed(&copy).is_empty());
}

#[test]
fn what_is_never_removed_is_told() {
    let mut bench = TestClient::new(&[tree()], true);
    let copy = bench.dir.path().join("copy");
    std::fs::create_dir_all(copy.join("old")).unwrap();
    for name in ["old/.log", "old/f", ".relais-0.part"] {
        std::fs::write(copy.join(name), "").unwrap();
    }
    symlink("one", copy.join("link")).unwrap();
    bench.run(0, &["mirror --delete docs copy"]);
    let left: Vec<_> =
        [".relais-0.part=", "link ->", "old/", "old/.log="].into_iter().chain(DOCS).collect();
    let mut wanted: Vec<String> = left.iter().map(ToString::to_string).collect();
    wanted.sort();
    assert_eq!(listed(&copy), wanted);
    assert!(
        bench.told()[0].ends_with(
            "copy/old is not removed: it contains old/.log, a name that ftpclient uses itself"
        ),
        "{:?}",
        bench.told()
    );
    let object = bench.object();
    assert_eq!(
        (object["deleted"].clone(), object["skipped"].as_array().unwrap().len()),
        (1.into(), 1)
    );
}

#[test]
fn a_mirror_the_other_way_round() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
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
    assert!(
        left.contains(&"docs/extra/.log=".to_owned())
            && !left.contains(&"docs/extra/f=".to_owned())
    );
    assert!(
        left.contains(&"docs/extra2=".to_owned()),
        "what the source skipped keeps its name there"
    );
    bench.run(0, &["mirror -R docs/sub new/place"]);
    assert!(stored(&tree).contains(&"new/place/deep/three=333".to_owned()));
    bench.run(1, &["mirror -R nothing docs", "mirror -R docs top.txt"]);
}

#[test]
fn digests_find_what_times_do_not() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
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
    std::fs::File::options()
        .write(true)
        .open(&one)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    bench.run(0, &["mirror --checksum docs copy"]);
    assert_eq!(gets(&tree), 0, "content is what counts");
}
