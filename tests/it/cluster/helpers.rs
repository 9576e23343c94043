//! Helpers for cluster tests: compare folders, make changes, run the operator's commands.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relais_proto::{Lsn, Reply, Request};
use serde_json::Value;

use crate::harness::{
    Client, Cluster, Output, ProgramBuilder, RawClient, SOON, digest, eventually, path, session,
    ticket,
};

/// Entries of a folder by name: `folder`, or the digest of the content.
pub type Tree = BTreeMap<String, String>;

/// Reads a slave's root from the disk, without `.relais`.
pub fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        // The slave may be at work: entries that vanish meanwhile are left out.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().map(|entry| entry.path()) {
            let name = entry.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let Ok(meta) = fs::symlink_metadata(&entry) else { continue };
            if name == ".relais" {
                continue;
            }
            let what = match () {
                () if meta.is_dir() => {
                    open.push(entry);
                    "folder".to_owned()
                }
                () if meta.is_file() => {
                    fs::read(&entry).map_or_else(|_| "gone".to_owned(), |bytes| digest(&bytes))
                }
                () => "special".to_owned(),
            };
            found.insert(name, what);
        }
    }
    found
}

/// Builds a tree of these files and folders; folder names end in `/`, and parent folders are added.
pub fn tree_of(all: &[(&str, &[u8])]) -> Tree {
    let mut made = Tree::new();
    for (name, bytes) in all {
        name.match_indices('/')
            .for_each(|(at, _)| drop(made.insert(name[..at].to_owned(), "folder".to_owned())));
        if !name.ends_with('/') {
            made.insert((*name).to_owned(), digest(bytes));
        }
    }
    made
}

/// Waits until all running slaves have exactly this tree, and the master knows it.
#[track_caller]
pub fn wait_for(cluster: &Cluster, wanted: &Tree) {
    let mut last = Vec::new();
    let what = "the tree is the same in all folders";
    let began = std::time::Instant::now();
    loop {
        last.clear();
        last.extend(cluster.slaves.iter().map(|slave| tree(&slave.root)));
        if last.iter().all(|found| found == wanted) {
            break;
        }
        assert!(
            began.elapsed() < SOON,
            "not within {SOON:?}: {what}\n{}",
            describe_differences(wanted, &last)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_settled(cluster);
    let after: Vec<Tree> = cluster.slaves.iter().map(|slave| tree(&slave.root)).collect();
    assert!(
        after.iter().all(|found| found == wanted),
        "the trees changed again\n{}",
        describe_differences(wanted, &after)
    );
}

/// Describes the differences, for the message of a failed test.
fn describe_differences(wanted: &Tree, found: &[Tree]) -> String {
    let mut text = String::new();
    for (n, found) in found.iter().enumerate() {
        let lacks: Vec<_> =
            wanted.iter().filter(|(name, what)| found.get(*name) != Some(what)).take(10).collect();
        let extra: Vec<_> =
            found.iter().filter(|(name, what)| wanted.get(*name) != Some(what)).take(10).collect();
        text.push_str(&format!(
            "folder {n} has {} of {}: missing {lacks:?}, extra {extra:?}\n",
            found.len(),
            wanted.len()
        ));
    }
    text
}

/// Waits until all slaves are in service and have all changes and contents.
#[track_caller]
pub fn wait_settled(cluster: &Cluster) {
    let mut last = Value::Null;
    let began = std::time::Instant::now();
    loop {
        if let Some(status) = cluster.status_json() {
            let slaves = status["slaves"].as_array().unwrap();
            let done = |slave: &Value| {
                slave["state"] == "in-service"
                    && slave["lag"] == 0
                    && slave["missing"] == 0
                    && slave["unhashed"] == 0
            };
            if slaves.iter().filter(|slave| done(slave)).count() >= cluster.slaves.len() {
                return;
            }
            last = status;
        }
        assert!(began.elapsed() < SOON, "not settled within {SOON:?}: {last}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the last change in `status`: epoch and number.
#[track_caller]
pub fn last_change(cluster: &Cluster) -> (u64, u64) {
    let status = cluster.status_json().unwrap();
    (status["epoch"].as_u64().unwrap(), status["number"].as_u64().unwrap())
}

/// Returns the `status` of the `n`th slave.
#[track_caller]
pub fn report(cluster: &Cluster, n: usize) -> Value {
    report_at(cluster, &cluster.slaves[n].public().to_string())
}

/// Returns the `status` of the slave at this public address; a new slave registers a moment later.
#[track_caller]
pub fn report_at(cluster: &Cluster, addr: &str) -> Value {
    eventually(SOON, &format!("the master knows a slave at {addr}"), || {
        let status = cluster.status_json().expect("the master answers");
        status["slaves"].as_array().unwrap().iter().find(|slave| slave["addr"] == addr).cloned()
    })
}

/// Returns the quarantined files of a folder: names and contents; other entries have no content.
pub fn conflicts(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for place in list(&root.join(".relais/conflicts")) {
        for thing in
            list(&place).into_iter().filter(|thing| thing.file_name().unwrap() != "why.txt")
        {
            let is_file = fs::symlink_metadata(&thing).unwrap().is_file();
            let bytes = if is_file { fs::read(&thing).unwrap() } else { Vec::new() };
            found.push((thing.file_name().unwrap().to_str().unwrap().to_owned(), bytes));
        }
    }
    found.sort();
    found
}

/// Waits until exactly these files are quarantined in a folder.
#[track_caller]
pub fn wait_quarantined(root: &Path, wanted: &[(&str, &[u8])]) {
    let mut wanted: Vec<_> =
        wanted.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    wanted.sort();
    let names = |all: &[(String, Vec<u8>)]| {
        all.iter().map(|(name, bytes)| format!("{name} ({})", bytes.len())).collect::<Vec<_>>()
    };
    let what = format!("quarantined: {:?}", names(&wanted));
    eventually(SOON, &what, || (conflicts(root) == wanted).then_some(()));
}

fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect())
}

/// Opens a session at the `n`th slave.
#[track_caller]
pub fn open(cluster: &Cluster, n: usize) -> RawClient {
    session(cluster.slaves[n].addr, &ticket(cluster.addr).0)
}

/// Returns the LSN of a slave's version at a path.
#[track_caller]
pub fn version_at(cluster: &Cluster, n: usize, name: &str) -> Option<Lsn> {
    match open(cluster, n).ask(&Request::Stat(path(name))) {
        Reply::Details { entry, .. } => entry.version,
        other => panic!("{name}: {other:?}"),
    }
}

/// Returns the version at a path, on which all slaves must agree.
#[track_caller]
pub fn one_version(cluster: &Cluster, name: &str) -> Lsn {
    let all: Vec<_> = (0..cluster.slaves.len()).map(|n| version_at(cluster, n, name)).collect();
    assert!(all.iter().all(|version| version.is_some() && *version == all[0]), "{name}: {all:?}");
    all[0].unwrap()
}

/// Uploads a file with this client.
#[track_caller]
pub fn put(client: &Client, name: &str, bytes: &[u8]) {
    let local = Path::new(name).file_name().unwrap();
    fs::write(client.folder().join(local), bytes).unwrap();
    let json = client.command(&format!("put {} -o {name}", local.to_str().unwrap())).ok().json();
    assert_eq!(json["ok"], true, "{json}");
}

/// Builds an operator's command with the master's address, the key and an empty state folder.
#[track_caller]
pub fn operator(cluster: &Cluster, args: &[&str]) -> ProgramBuilder {
    ProgramBuilder::new("ftpmaster", cluster.dir.path())
        .args(args)
        .args(["--master", &cluster.addr.to_string(), "--cluster-key"])
        .args([cluster.key(), PathBuf::from("--state"), cluster.dir.folder("no-state")])
}

/// Runs an operator's command to its end.
#[track_caller]
pub fn operate(cluster: &Cluster, args: &[&str]) -> Output {
    Client::finish(&mut operator(cluster, args).start())
}

/// Returns the changes that `export` prints.
#[track_caller]
pub fn exported(cluster: &Cluster) -> Vec<Value> {
    operate(cluster, &["export"]).ok().objects()
}

/// Requires that all trees are equal, also by `diff`, and that the cluster accepts changes.
#[track_caller]
pub fn healthy(cluster: &Cluster) {
    wait_settled(cluster);
    let mut wire = open(cluster, 0);
    eventually(SOON, "a change succeeds", || wire.put("healthy", b"yes").ok());
    wait_settled(cluster);
    operate(cluster, &["diff"]).ok();
    let first = tree(&cluster.slaves[0].root);
    assert!(first.contains_key("healthy"));
    wait_for(cluster, &first);
}

/// Returns the version at a path; `None` if there is no entry or it has no version.
pub fn try_version(wire: &mut RawClient, name: &str) -> Option<Lsn> {
    match wire.ask(&Request::Stat(path(name))) {
        Reply::Details { entry, .. } => entry.version,
        _ => None,
    }
}

/// Flips a bit in the middle of a file, as a bad disk would, without a change of its metadata.
#[track_caller]
pub fn rot(cluster: &mut Cluster, n: usize, name: &str) -> Vec<u8> {
    const SCRIPT: &str = r#"
import os, sqlite3, sys
root, name = sys.argv[1:]
now = os.stat(os.path.join(root, name)).st_ctime_ns
database = sqlite3.connect(os.path.join(root, ".relais/catalogue.db"))
done = database.execute("UPDATE entry SET ctime_s = ?, ctime_ns = ? WHERE name = ?", (now // 10**9, now % 10**9, name))
assert done.rowcount == 1
database.commit()
"#;
    cluster.slaves[n].program.kill();
    let root = cluster.slaves[n].root.clone();
    let file = File::options().read(true).write(true).open(root.join(name)).unwrap();
    let (modified, middle) =
        (file.metadata().unwrap().modified().unwrap(), file.metadata().unwrap().len() / 2);
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 4], middle).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    // The inode's change time cannot be set, so the catalogue is updated to the new one.
    let done = std::process::Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(&root)
        .arg(name)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let bad = fs::read(root.join(name)).unwrap();
    cluster.restart_slave(n);
    bad
}
