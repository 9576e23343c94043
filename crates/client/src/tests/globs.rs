//! `mget` and `mput`: what patterns stand for.

use std::os::unix::fs::symlink;

use super::TestClient;
use super::recursive::{listed, stored, tree};
use super::tree::Tree;

#[test]
fn patterns_fetch_what_they_match() {
    let mut bench = TestClient::new(&[tree()], true);
    bench.run(0, &["mget 'top.*' docs/{one,none}"]);
    assert_eq!(listed(bench.dir.path()), ["one=1", "top.bin=bin", "top.txt=top"]);
    let object = bench.object();
    assert_eq!((&object["files"], &object["bytes"]), (&3.into(), &7.into()));
    std::fs::create_dir(bench.dir.path().join("into")).unwrap();
    bench.run(
        0,
        &[
            "mget 'docs/*' -o into",
            "cd docs/sub",
            "mget '../../*.txt' -o into",
            "mget '*/thr[e]e' -o into",
        ],
    );
    assert_eq!(
        listed(&bench.dir.path().join("into")),
        ["one=1", "sub-=", "three=333", "top.txt=top"]
    );
    bench.run(0, &["cd", "mget -r 'docs/{s*,e}' -o into"]);
    assert!(listed(&bench.dir.path().join("into")).contains(&"sub/deep/three=333".to_owned()));
}

#[test]
fn patterns_that_match_nothing_fail_alone() {
    let tree = Tree::new(&[
        ("a/x", b"1".to_vec()),
        ("b/x", b"2".to_vec()),
        ("y", vec![]),
        ("d/z", vec![]),
    ]);
    let mut bench = TestClient::new(&[tree], false);
    bench.run(1, &["mget 'no?e' y", "mget '?/x'", "mget 'd*'", "mget y -o none"]);
    assert_eq!(listed(bench.dir.path()), ["x=1", "y="]);
    let told = bench.told();
    assert_eq!(told[0], "mget: nothing matches 'no?e'");
    assert!(told[1].starts_with("mget: /b/x: another file of the same name"), "{told:?}");
    assert_eq!(told[2], "mget: only folders match 'd*'; -r transfers them with their content");
    bench.run(2, &["mget", "mget '[a'", "mget '{a'"]);
}

#[test]
fn patterns_send_what_they_match() {
    let tree = tree();
    let mut bench = TestClient::new(std::slice::from_ref(&tree), false);
    std::fs::create_dir_all(bench.dir.path().join("up/sub")).unwrap();
    for name in ["up/a.x", "up/b.x", "up/c.y", "up/.hidden.x", "up/sub/d.x", "up/.log"] {
        bench.write(name, name.as_bytes());
    }
    symlink("a.x", bench.dir.path().join("up/l.x")).unwrap();
    bench
        .run(0, &["mput 'up/*.x' -o docs", "lcd up", "mput '*/d.x'", "mput -r 's*' -o docs/empty"]);
    let names = format!(" {}", stored(&tree).join(" "));
    for name in ["docs/a.x=", "docs/b.x=", " d.x=", "docs/empty/sub/d.x="] {
        assert!(names.contains(name), "{name}: {names}");
    }
    assert!(!names.contains("c.y") && !names.contains("hidden") && !names.contains("l.x"));
    assert!(bench.told()[0].contains("up/l.x: a symbolic link"), "{:?}", bench.told());
    bench.run(1, &["mput 'none*'", "mput '*' -o nothing", "mput '*' -o top.txt"]);
}
