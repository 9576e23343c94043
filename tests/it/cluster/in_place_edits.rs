//! Files that users or disks change in place, with unchanged size and modification time.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use relais_proto::PutRequest;

use super::helpers::{
    conflicts, open, operate, report, rot, tree, tree_of, wait_for, wait_quarantined, wait_settled,
};
use crate::harness::{
    Client, Cluster, SOON, content, eventually, make_folder, put, remove, rename,
};

/// Changes a byte of a file and restores its modification time.
fn edit(file: &Path) -> Vec<u8> {
    let opened = File::options().read(true).write(true).open(file).unwrap();
    let meta = opened.metadata().unwrap();
    let mut byte = [0];
    opened.read_exact_at(&mut byte, meta.len() / 2).unwrap();
    opened.write_all_at(&[byte[0] ^ 4], meta.len() / 2).unwrap();
    opened.set_modified(meta.modified().unwrap()).unwrap();
    drop(opened);
    let now = fs::metadata(file).unwrap();
    assert_eq!((now.len(), now.modified().unwrap()), (meta.len(), meta.modified().unwrap()));
    fs::read(file).unwrap()
}

#[test]
fn edits_with_size_and_time_kept_are_not_taken_for_copies() {
    // Only the change itself makes the slave read the file.
    let cluster = Cluster::of(2).slave_args(&["--watch", "off"]).start();
    let (good, other) = (content(1, 100_000), content(2, 50_000));
    let mut wire = open(&cluster, 0);
    wire.change(&make_folder("d")).unwrap();
    for name in ["same", "other", "gone", "d/f", "from"] {
        wire.put(name, &good).unwrap();
    }
    wait_settled(&cluster);
    let root = &cluster.slaves[1].root;
    let edited = edit(&root.join("same"));
    for name in ["other", "gone", "d/f", "from"] {
        assert!(edit(&root.join(name)) == edited);
    }
    // The same content again: the edited file does not count as the second copy.
    let twice = PutRequest { copies: 2, ..put("same", good.len()) };
    wire.upload(&twice, &good).unwrap();
    assert!(fs::read(root.join("same")).unwrap() == good, "acknowledged and missing");
    wire.put("other", &other).unwrap();
    wire.change(&remove("gone", false)).unwrap();
    wire.change(&remove("d", true)).unwrap();
    wire.change(&rename("from", "to")).unwrap();
    wait_for(&cluster, &tree_of(&[("same", &good), ("other", &other), ("to", &good)]));
    let aside = ["f", "from", "gone", "other", "same"].map(|name| (name, edited.as_slice()));
    wait_quarantined(root, &aside);
    assert_eq!(conflicts(&cluster.slaves[0].root), []);
}

#[test]
fn a_get_of_damaged_content_triggers_a_repair() {
    let mut cluster = Cluster::of(2).start();
    let good = content(1, 3 << 20);
    open(&cluster, 0).put("f", &good).unwrap();
    wait_for(&cluster, &tree_of(&[("f", &good)]));
    let bad = rot(&mut cluster, 1, "f");
    wait_settled(&cluster);
    // The only holder of good content is down.
    cluster.slaves[0].program.kill();
    let client = Client::new(cluster.addr);
    client.run(&["--retry", "3", "-c", "get f"]).fails(5);
    let root = cluster.slaves[1].root.clone();
    wait_quarantined(&root, &[("f", &bad)]);
    let id = cluster.slaves[1].public().to_string();
    eventually(SOON, "status counts the damage", || {
        let status = cluster.status_json()?;
        let all = status["slaves"].as_array()?.clone();
        all.iter().find(|slave| slave["addr"] == id.as_str() && slave["damaged"] == 1).map(drop)
    });
    let diff = operate(&cluster, &["diff"]);
    assert!(diff.stdout.contains("f"), "{}{}", diff.stdout, diff.stderr);
    cluster.restart_slave(0);
    eventually(SOON, "the file is repaired", || {
        (tree(&root) == tree_of(&[("f", &good)])).then_some(())
    });
    wait_settled(&cluster);
    eventually(SOON, "nothing is damaged", || (report(&cluster, 1)["damaged"] == 0).then_some(()));
    operate(&cluster, &["diff"]).ok();
    client.get("f");
    assert!(client.read("f") == good);
}

#[test]
fn a_slave_without_its_catalogue_adopts_equal_files() {
    let mut cluster = Cluster::of(2).start();
    let mut wire = open(&cluster, 0);
    let versions = [content(1, 40_000), content(2, 50_000), content(3, 60_000)];
    wire.change(&make_folder("d")).unwrap();
    for bytes in &versions {
        wire.put("d/f", bytes).unwrap();
    }
    wire.put("d/g", b"moved").unwrap();
    wire.change(&rename("d/g", "h")).unwrap();
    wire.put("gone", b"for a while").unwrap();
    wire.change(&remove("gone", false)).unwrap();
    wire.put("gone", b"and back").unwrap();
    let wanted = tree_of(&[("d/f", &versions[2]), ("h", b"moved"), ("gone", b"and back")]);
    wait_for(&cluster, &wanted);
    let root = cluster.slaves[1].root.clone();
    let inodes = || {
        use std::os::unix::fs::MetadataExt;
        ["d/f", "h", "gone"].map(|name| fs::metadata(root.join(name)).unwrap().ino())
    };
    let before = inodes();
    cluster.slaves[1].program.kill();
    remove_catalogue(&root);
    cluster.restart_slave(1);
    wait_settled(&cluster);
    wait_for(&cluster, &wanted);
    assert_eq!(conflicts(&root), []);
    assert_eq!(inodes(), before, "content was fetched again");
    assert_eq!(report(&cluster, 1)["quarantined"], 0);
}

fn remove_catalogue(root: &Path) {
    for end in ["", "-wal", "-shm"] {
        // After a clean end there is no log.
        let _ = fs::remove_file(root.join(format!(".relais/catalogue.db{end}")));
    }
}

/// A move while the slave is down, of which its folder shows nothing.
#[test]
fn moved_files_stay_moved_after_a_lost_catalogue() {
    let mut cluster = Cluster::of(2).start();
    let mut wire = open(&cluster, 0);
    let bytes = [content(11, 40_000), content(12, 50_000)];
    wire.change(&make_folder("d")).unwrap();
    wire.put("d/f", &bytes[0]).unwrap();
    wire.put("g", &bytes[1]).unwrap();
    wait_for(&cluster, &tree_of(&[("d/f", &bytes[0]), ("g", &bytes[1])]));
    let root = cluster.slaves[1].root.clone();
    assert_eq!(cluster.slaves[1].program.stop(nix::sys::signal::Signal::SIGTERM), 0);
    wire.change(&rename("d/f", "d/e")).unwrap();
    wire.change(&rename("g", "h")).unwrap();
    remove_catalogue(&root);
    // The record is in the journal, and in the state of a restarted master.
    cluster.master.kill();
    cluster.restart_master();
    cluster.restart_slave(1);
    wait_settled(&cluster);
    wait_for(&cluster, &tree_of(&[("d/e", &bytes[0]), ("h", &bytes[1])]));
    wait_quarantined(&root, &[("f", &bytes[0]), ("g", &bytes[1])]);
}
