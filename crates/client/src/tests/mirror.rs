//! `mirror`: transfers, removals, skipped names, and messages.

use std::os::unix::fs::symlink;

use super::TestClient;
use super::recursive::{DOCS, gets, listed, puts, stored, tree};

#[test]
fn mirror_transfers_differences_and_removes_last() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), true);
    client.run(0, &["mirror docs a/b/copy"]);
    let copy = client.dir.path().join("a/b/copy");
    assert_eq!(listed(&copy), DOCS);
    let object = client.object();
    assert_eq!(
        (&object["files"], &object["folders"], &object["bytes"], &object["deleted"]),
        (&4.into(), &3.into(), &6.into(), &0.into())
    );
    gets(&tree);
    std::fs::create_dir_all(copy.join("extra/in")).unwrap();
    std::fs::write(copy.join("extra/in/f"), "f").unwrap();
    std::fs::write(copy.join("one"), "changed").unwrap();
    client.run(0, &["mirror docs a/b/copy"]);
    assert!(gets(&tree) == 1 && copy.join("extra/in/f").exists());
    client.printed.take();
    client.run(0, &["mirror --delete docs a/b/copy"]);
    assert_eq!(
        (listed(&copy), gets(&tree), client.object()["deleted"].clone()),
        (DOCS.map(str::to_owned).to_vec(), 0, 3.into())
    );
}

#[test]
fn dry_run_changes_nothing() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.run(0, &["mirror --dry-run docs/sub copy"]);
    let copy = client.dir.path().join("copy");
    assert_eq!(
        client.printed.take(),
        format!("make {}\nmake deep\nget deep/three\nget two words\n", copy.display())
    );
    assert!(client.names().is_empty());
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("deep"), "a file").unwrap();
    std::fs::write(copy.join("old"), "").unwrap();
    client.run(0, &["mirror --dry-run --delete docs/sub copy"]);
    assert_eq!(
        client.printed.take(),
        "get two words\ndelete old\ndelete deep\nmake deep\nget deep/three\n"
    );
    assert_eq!(
        (listed(&copy), gets(&tree)),
        (vec!["deep=a file".to_owned(), "old=".to_owned()], 0)
    );
    client.run(0, &["mirror -R --dry-run copy new/er"]);
    assert_eq!(client.printed.take(), "make /new\nmake /new/er\nput deep\nput old\n");
    assert!(!stored(&tree).iter().any(|name| name.starts_with("new")));
}

#[test]
fn other_kind_is_replaced_only_with_delete() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    let copy = client.dir.path().join("copy");
    std::fs::create_dir_all(copy.join("one/in")).unwrap();
    std::fs::write(copy.join("sub"), "a file").unwrap();
    client.run(1, &["mirror docs copy"]);
    assert_eq!(listed(&copy), ["empty/", "one/", "one/in/", "sub-=", "sub=a file"]);
    assert_eq!(
        client.messages(),
        [
            "mirror: /docs/one: a folder has that name",
            "mirror: /docs/sub: a file has that name; 3 names below it are skipped"
        ]
    );
    client.run(0, &["mirror --delete docs copy"]);
    assert_eq!(listed(&copy), DOCS);
    let up = client.dir.path().join("up");
    std::fs::create_dir_all(up.join("one")).unwrap();
    std::fs::write(up.join("sub"), "file").unwrap();
    client.run(0, &["mirror -R --delete up docs"]);
    let docs: Vec<_> = stored(&tree).into_iter().filter(|name| name.starts_with("docs/")).collect();
    assert_eq!(docs, ["docs/", "docs/one/", "docs/sub=file"]);
}

#[test]
fn failures_and_mistakes_prevent_removal() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    let copy = client.dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("extra"), "").unwrap();
    client.run(
        1,
        &[
            "mirror --delete nothing copy",
            "mirror --delete docs/empty copy",
            "mirror --delete top.txt copy",
        ],
    );
    client.run(2, &["mirror docs", "mirror a b c"]);
    assert_eq!(listed(&copy), ["extra="]);
    // A folder that contains a link blocks a file.
    std::fs::create_dir(copy.join("one")).unwrap();
    symlink("/nowhere", copy.join("one/link")).unwrap();
    client.run(1, &["mirror --delete docs copy"]);
    assert!(copy.join("extra").exists() && copy.join("one/link").symlink_metadata().is_ok());
    assert!(
        client.messages().contains(&"nothing is removed: some transfers failed".to_owned()),
        "{:?}",
        client.messages()
    );
    std::fs::remove_dir_all(copy.join("one")).unwrap();
    client.run(0, &["mirror --delete --force docs/empty copy"]);
    assert!(listed(&copy).is_empty());
}

#[test]
fn protected_names_are_reported() {
    let mut client = TestClient::new(&[tree()], true);
    let copy = client.dir.path().join("copy");
    std::fs::create_dir_all(copy.join("old")).unwrap();
    for name in ["old/.log", "old/f", ".relais-0.part"] {
        std::fs::write(copy.join(name), "").unwrap();
    }
    symlink("one", copy.join("link")).unwrap();
    client.run(0, &["mirror --delete docs copy"]);
    let left: Vec<_> =
        [".relais-0.part=", "link ->", "old/", "old/.log="].into_iter().chain(DOCS).collect();
    let mut wanted: Vec<String> = left.iter().map(ToString::to_string).collect();
    wanted.sort();
    assert_eq!(listed(&copy), wanted);
    assert!(
        client.messages()[0].ends_with(
            "copy/old is not removed: it contains old/.log, a name that ftpclient uses itself"
        ),
        "{:?}",
        client.messages()
    );
    let object = client.object();
    assert_eq!(
        (object["deleted"].clone(), object["skipped"].as_array().unwrap().len()),
        (1.into(), 1)
    );
}

#[test]
fn mirror_to_the_server() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.run(0, &["get -r docs"]);
    tree.state().files.insert("docs/extra/f".into(), vec![]);
    tree.state().files.insert("docs/extra/.log".into(), vec![]);
    tree.state().files.remove("docs/one");
    client.run(0, &["mirror -R docs docs"]);
    assert_eq!(puts(&tree), 1);
    symlink("x", client.dir.path().join("docs/extra2")).unwrap();
    tree.state().files.insert("docs/extra2".into(), vec![]);
    client.run(0, &["mirror -R --delete docs docs"]);
    let left = stored(&tree);
    assert!(
        left.contains(&"docs/extra/.log=".to_owned())
            && !left.contains(&"docs/extra/f=".to_owned())
    );
    assert!(
        left.contains(&"docs/extra2=".to_owned()),
        "what the source skipped keeps its name there"
    );
    client.run(0, &["mirror -R docs/sub new/place"]);
    assert!(stored(&tree).contains(&"new/place/deep/three=333".to_owned()));
    client.run(1, &["mirror -R nothing docs", "mirror -R docs top.txt"]);
}

#[test]
fn checksum_finds_what_times_hide() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    client.run(0, &["mirror docs copy"]);
    let one = client.dir.path().join("copy/one");
    let time = one.metadata().unwrap().modified().unwrap();
    std::fs::write(&one, "2").unwrap();
    std::fs::File::options().write(true).open(&one).unwrap().set_modified(time).unwrap();
    gets(&tree);
    client.run(0, &["mirror docs copy"]);
    assert_eq!((gets(&tree), std::fs::read(&one).unwrap()), (0, b"2".to_vec()));
    client.run(0, &["mirror --checksum docs copy"]);
    assert_eq!((gets(&tree), std::fs::read(&one).unwrap()), (1, b"1".to_vec()));
    std::fs::File::options()
        .write(true)
        .open(&one)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    client.run(0, &["mirror --checksum docs copy"]);
    assert_eq!(gets(&tree), 0, "content is what counts");
}
