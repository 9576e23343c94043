//! Trees: `get -r` and `put -r`, which metadata is kept, and which entries are skipped.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

use super::{CommandFixture, bound_by_rights, mode, set_mode, set_time, time, tree};
use crate::harness::{Client, Cluster, Fault, content};

const SECOND: u64 = 1_000_000_000;

/// Creates a tree with all metadata that should be kept.
fn grow(top: &std::path::Path) {
    for (n, name) in ["a", "tool", "d/b", "d/e/f/g", "z/last"].iter().enumerate() {
        let path = top.join(name);
        super::write(&path, &content(n as u64, 1000 * n));
        set_time(&path, 1_500_000_000 * SECOND + 123_456_789 * (n as u64 + 1));
    }
    fs::create_dir_all(top.join("empty/er")).unwrap();
    super::write(&top.join("large"), &content(77, 5 << 20));
    set_mode(&top.join("tool"), 0o755);
    set_mode(&top.join("d/b"), 0o6755);
    set_mode(&top.join("z"), 0o1777);
}

/// Requires that two trees have equal names, content, times and executable bits, and no special
/// bits.
#[track_caller]
fn assert_equal_trees(from: &std::path::Path, to: &std::path::Path) {
    assert_eq!(tree(from), tree(to));
    for name in tree(from) {
        let (a, b) = (from.join(&name), to.join(&name));
        if !name.ends_with('/') {
            assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap(), "{name}: content");
            assert_eq!(time(&a), time(&b), "{name}: time");
            assert_eq!(mode(&a) & 0o100, mode(&b) & 0o100, "{name}: executable");
        }
        assert_eq!(mode(&b) & 0o7000, 0, "{name}: a special bit was kept");
    }
}

#[test]
fn a_tree_survives_a_round_trip() {
    let fixture = CommandFixture::new(&[]);
    let folder = fixture.client.folder();
    grow(&folder.join("t"));
    let json = fixture.says("put -r t");
    assert_eq!((&json["files"], &json["failed"]), (&6.into(), &serde_json::json!([])), "{json}");
    let bytes: u64 = tree(&folder.join("t"))
        .iter()
        .filter(|n| !n.ends_with('/'))
        .map(|n| fs::metadata(folder.join("t").join(n)).unwrap().len())
        .sum();
    assert_eq!(json["bytes"], bytes, "{json}");
    assert_equal_trees(&folder.join("t"), &fixture.slave.root.join("t"));
    let json = fixture.says("get -r t -o back");
    assert_eq!((&json["files"], &json["bytes"]), (&6.into(), &bytes.into()), "{json}");
    assert_equal_trees(&fixture.slave.root.join("t"), &folder.join("back"));
    assert!(!folder.join(".log").exists());
}

#[test]
fn a_get_ignores_special_bits_and_modes_of_the_slave() {
    let fixture = CommandFixture::new(&[]);
    grow(&fixture.slave.root.join("t"));
    fixture.wait_published(6);
    fixture.says("get -r t");
    assert_equal_trees(&fixture.slave.root.join("t"), &fixture.client.folder().join("t"));
}

#[test]
fn tree_commands_resolve_their_targets() {
    let fixture = CommandFixture::new(&[
        ("t/a", b"1"),
        ("t/d/b", b"2"),
        ("there/x", b"3"),
        ("u/c", b"4"),
        ("file", b"5"),
    ]);
    let folder = fixture.client.folder();
    fs::create_dir(folder.join("there")).unwrap();
    for (command, top) in [
        ("get -r t", "t"),
        ("get -r t -o new", "new"),
        ("get -r t -o there", "there/t"),
        ("get -r -o deep/er t", "deep/er"),
    ] {
        let output = fixture.client.command(command);
        if command.contains("deep") && output.status != 0 {
            // Parent folders are not created.
            continue;
        }
        output.ok();
        assert_eq!(tree(&folder.join(top)), ["a", "d/", "d/b"], "{command}");
    }
    fixture.says("get -r t u file -o there");
    assert_eq!(fixture.client.read("there/u/c"), b"4");
    assert_eq!(fixture.client.read("there/file"), b"5");
    fixture.says("put -r new -o there");
    assert_eq!(
        tree(&fixture.slave.root.join("there")),
        ["new/", "new/a", "new/d/", "new/d/b", "x"]
    );
    fixture.says("put -r new -o put");
    assert_eq!(tree(&fixture.slave.root.join("put")), ["a", "d/", "d/b"]);
    fixture.run(&["cd there", "lcd new", "put -r d"]).ok();
    assert_eq!(fixture.served("there/d/b"), b"2");
    // Without `-r` a folder is an error without an effect; so is a folder onto a file.
    fixture.fails("get t -o plain", "is-folder");
    fixture.fails("put new", "is-folder");
    fixture.client.command("get -r nothing").fails(1);
    fixture.client.command("put -r nothing").fails(1);
    fixture.local("in-the-way", b"");
    fixture.client.command("get -r t -o in-the-way").fails(1);
    fixture.client.command("put -r new -o file").fails(1);
    assert_eq!(fixture.served("file"), b"5");
    assert_eq!(fixture.client.read("in-the-way"), b"");
    // The whole root of the slave, without `.relais`.
    fixture.says("get -r / -o everything");
    assert!(
        folder.join("everything/t/d/b").exists() && !folder.join("everything/.relais").exists()
    );
}

#[test]
fn special_files_are_skipped_and_reported() {
    let fixture = CommandFixture::new(&[]);
    let top = fixture.client.folder().join("t");
    fixture.local("t/good", b"1");
    fixture.local("t/d/good", b"2");
    fixture.local("outside/secret", b"never");
    symlink("good", top.join("link")).unwrap();
    symlink("../outside", top.join("linked-folder")).unwrap();
    symlink("nothing", top.join("dangling")).unwrap();
    symlink("/etc/passwd", top.join("d/passwd")).unwrap();
    mkfifo(&top.join("fifo"), Mode::S_IRUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    let mut skipped = 6;
    if mknod(&top.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, nix::sys::stat::makedev(1, 3))
        .is_ok()
    {
        skipped += 1;
    }
    let json = fixture.says("put -r t");
    assert_eq!(json["skipped"].as_array().unwrap().len(), skipped, "{json}");
    assert_eq!(tree(&fixture.slave.root), ["t/", "t/d/", "t/d/good", "t/good"]);
    let output = fixture.run(&["put -r t -o again"]).ok();
    for name in ["link", "linked-folder", "dangling", "passwd", "fifo", "socket"] {
        assert!(
            output.stderr.contains(name) || output.stdout.contains(name),
            "{name} is not listed: {output:?}"
        );
    }
    // A link named as an argument is followed or refused, without a loop.
    symlink(".", top.join("d/here")).unwrap();
    fixture.client.command("put -r t -o third").ok();
    assert!(!fixture.serves("third/d/here"));
}

#[test]
fn an_unreadable_local_file_is_reported_and_skipped() {
    let fixture = CommandFixture::new(&[]);
    for name in ["t/a", "t/b", "t/d/c", "t/shut/x", "t/z"] {
        fixture.local(name, name.as_bytes());
    }
    let folder = fixture.client.folder();
    set_mode(&folder.join("t/b"), 0);
    set_mode(&folder.join("t/shut"), 0);
    let mut program = bound_by_rights(fixture.client.setup(&["--json", "-c", "put -r t"])).start();
    let output = Client::finish(&mut program).fails(1);
    let json = output.json();
    let failed: Vec<String> = json["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["remote"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        failed.iter().any(|f| f.ends_with("t/b")) && failed.iter().any(|f| f.ends_with("t/shut")),
        "{json}"
    );
    assert_eq!(json["files"], 3, "{json}");
    set_mode(&folder.join("t/shut"), 0o700);
    let there = tree(&fixture.slave.root);
    for name in ["t/a", "t/d/c", "t/z"] {
        assert!(there.contains(&name.to_owned()), "{there:?}");
    }
    assert!(!fixture.serves("t/b"));
    assert!(!folder.join(".log").exists(), "an unreadable file is not resumable");
}

#[test]
fn many_small_files_and_a_few_large_ones() {
    let fixture = CommandFixture::new(&[]);
    for n in 0..600 {
        fixture.local(&format!("t/{}/{}/{n}", n % 7, n % 3), &content(n, (n * 13 % 3000) as usize));
    }
    for n in 0..3 {
        fixture.local(&format!("t/large{n}"), &content(1000 + n, 2_500_000));
    }
    let json = fixture.says("put -r t");
    assert_eq!(json["files"], 603, "{json}");
    assert_equal_trees(&fixture.client.folder().join("t"), &fixture.slave.root.join("t"));
    fixture.says("get -r t -o back");
    assert_equal_trees(&fixture.slave.root.join("t"), &fixture.client.folder().join("back"));
    // A second run over the existing files gives the same result.
    fixture.says("get -r t -o back");
    fixture.says("put -r t");
    assert_equal_trees(&fixture.slave.root.join("t"), &fixture.client.folder().join("t"));
}

#[test]
fn a_tree_arrives_whole_despite_dying_slaves() {
    let mut builder = Cluster::of(3).shared().proxied();
    for n in 0..200 {
        builder = builder.file(&format!("t/{}/{n}", n % 9), &content(n, 5000));
    }
    let cluster = builder.file("t/large", &content(999, 6 << 20)).start();
    cluster.wait_hashed();
    // The serving slave is killed after the first megabytes, in small and large files.
    for slave in &cluster.slaves[..2] {
        slave.proxy.as_ref().unwrap().fault_at_content(700_000, Fault::Cut);
    }
    let client = cluster.client();
    let json = client.command("get -r t").ok().json();
    assert_eq!((&json["files"], &json["failed"]), (&201.into(), &serde_json::json!([])), "{json}");
    assert_equal_trees(&cluster.slaves[0].root.join("t"), &client.folder().join("t"));
    assert!(!client.folder().join(".log").exists());
}

#[test]
fn one_inode_is_one_file_each_time() {
    let fixture = CommandFixture::new(&[]);
    fixture.local("t/a", b"linked hard");
    fs::hard_link(fixture.client.folder().join("t/a"), fixture.client.folder().join("t/b"))
        .unwrap();
    fixture.says("put -r t");
    assert_ne!(
        fs::metadata(fixture.slave.root.join("t/a")).unwrap().ino(),
        fs::metadata(fixture.slave.root.join("t/b")).unwrap().ino()
    );
    assert_eq!(fixture.served("t/b"), b"linked hard");
}
