//! `mget` and `mput`: the matches of patterns.

use std::os::unix::fs::symlink;

use super::TestClient;
use super::recursive::{listed, stored, tree};
use super::tree::Tree;

#[test]
fn patterns_fetch_what_they_match() {
    let mut client = TestClient::new(&[tree()], true);
    client.run(0, &["mget 'top.*' docs/{one,none}"]);
    assert_eq!(listed(client.dir.path()), ["one=1", "top.bin=bin", "top.txt=top"]);
    let object = client.object();
    assert_eq!((&object["files"], &object["bytes"]), (&3.into(), &7.into()));
    std::fs::create_dir(client.dir.path().join("into")).unwrap();
    client.run(
        0,
        &[
            "mget 'docs/*' -o into",
            "cd docs/sub",
            "mget '../../*.txt' -o into",
            "mget '*/thr[e]e' -o into",
        ],
    );
    assert_eq!(
        listed(&client.dir.path().join("into")),
        ["one=1", "sub-=", "three=333", "top.txt=top"]
    );
    client.run(0, &["cd", "mget -r 'docs/{s*,e}' -o into"]);
    assert!(listed(&client.dir.path().join("into")).contains(&"sub/deep/three=333".to_owned()));
}

#[test]
fn patterns_that_match_nothing_fail_alone() {
    let tree = Tree::new(&[
        ("a/x", b"1".to_vec()),
        ("b/x", b"2".to_vec()),
        ("y", vec![]),
        ("d/z", vec![]),
    ]);
    let mut client = TestClient::new(&[tree], false);
    client.run(1, &["mget 'no?e' y", "mget '?/x'", "mget 'd*'", "mget y -o none"]);
    assert_eq!(listed(client.dir.path()), ["x=1", "y="]);
    let messages = client.messages();
    assert_eq!(messages[0], "mget: nothing matches 'no?e'");
    assert!(messages[1].ends_with("transfers another file of the same name"), "{messages:?}");
    assert_eq!(messages[2], "mget: only folders match 'd*'; -r transfers them with their content");
    client.run(2, &["mget", "mget '[a'", "mget '{a'"]);
}

#[test]
fn patterns_send_what_they_match() {
    let tree = tree();
    let mut client = TestClient::new(std::slice::from_ref(&tree), false);
    std::fs::create_dir_all(client.dir.path().join("up/sub")).unwrap();
    for name in ["up/a.x", "up/b.x", "up/c.y", "up/.hidden.x", "up/sub/d.x", "up/.log"] {
        client.write(name, name.as_bytes());
    }
    symlink("a.x", client.dir.path().join("up/l.x")).unwrap();
    client
        .run(0, &["mput 'up/*.x' -o docs", "lcd up", "mput '*/d.x'", "mput -r 's*' -o docs/empty"]);
    let names = format!(" {}", stored(&tree).join(" "));
    for name in ["docs/a.x=", "docs/b.x=", " d.x=", "docs/empty/sub/d.x="] {
        assert!(names.contains(name), "{name}: {names}");
    }
    assert!(!names.contains("c.y") && !names.contains("hidden") && !names.contains("l.x"));
    assert!(client.messages()[0].contains("up/l.x: a symbolic link"), "{:?}", client.messages());
    client.run(1, &["mput 'none*'", "mput '*' -o nothing", "mput '*' -o top.txt"]);
}
