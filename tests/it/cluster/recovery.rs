//! Recovery of a master whose state is lost, damaged or older than a slave's.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::helpers::{
    conflicts, exported, healthy, last_change, open, operate, put, tree, tree_of, wait_for,
    wait_settled,
};
use crate::harness::{
    Client, Cluster, ProgramBuilder, SOON, content, eventually, leftovers, make_folder, remove,
};

/// Returns the master's state folder.
pub fn state(cluster: &Cluster) -> PathBuf {
    cluster.dir.folder("master")
}

/// Returns the reason in `status` why the master accepts no changes.
pub fn halted(cluster: &Cluster) -> Option<String> {
    cluster.status_json()?["halted"].as_str().map(str::to_owned)
}

#[track_caller]
pub fn wait_halted(cluster: &Cluster) {
    eventually(SOON, "the master accepts no changes", || halted(cluster));
}

/// Starts three slaves with files on all of them.
fn filled() -> (Cluster, Vec<(String, Vec<u8>)>) {
    let cluster = Cluster::of(3).start();
    let mut wire = open(&cluster, 0);
    wire.change(&make_folder("d")).unwrap();
    let mut files = Vec::new();
    for n in 0..20_u64 {
        let (name, bytes) =
            (format!("{}f{n}", if n % 2 == 0 { "d/" } else { "" }), content(n, 5000));
        wire.put(&name, &bytes).unwrap();
        files.push((name, bytes));
    }
    wire.put("gone", b"removed").unwrap();
    wire.change(&remove("gone", false)).unwrap();
    wait_settled(&cluster);
    (cluster, files)
}

fn named(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect()
}

/// Stops the master, removes the state files that `goes` selects, and restarts it.
fn without(cluster: &mut Cluster, goes: impl Fn(&str) -> bool) {
    cluster.master.kill();
    for name in leftovers(&state(cluster), &[]) {
        if goes(name.to_str().unwrap()) {
            fs::remove_file(state(cluster).join(name)).unwrap();
        }
    }
    cluster.restart_master();
}

/// Lists the files of the master's state, except the key, the authority and the lock.
fn names(cluster: &Cluster) -> Vec<PathBuf> {
    leftovers(&state(cluster), &["cluster.key", "authority.key", "authority.pem", "lock"])
}

/// Reads the files of the master's state.
pub fn saved(cluster: &Cluster) -> Vec<(PathBuf, Vec<u8>)> {
    names(cluster)
        .into_iter()
        .map(|name| (name.clone(), fs::read(state(cluster).join(name)).unwrap()))
        .collect()
}

/// Replaces the master's state by these files.
pub fn lay(cluster: &Cluster, files: &[(PathBuf, Vec<u8>)]) {
    names(cluster).iter().for_each(|name| fs::remove_file(state(cluster).join(name)).unwrap());
    files.iter().for_each(|(name, bytes)| fs::write(state(cluster).join(name), bytes).unwrap());
}

/// Requires that reads and redirects work, and that changes are refused with advice.
#[track_caller]
fn reads_only(cluster: &Cluster, files: &[(String, Vec<u8>)]) {
    cluster.wait_in_service(cluster.slaves.len());
    let client = cluster.client();
    for (name, bytes) in &files[..3] {
        client.get(name);
        assert!(client.read(name.rsplit('/').next().unwrap()) == *bytes);
    }
    for command in ["put f1 -o new", "mkdir new", "rm f1"] {
        let json = client.run(&["--json", "--retry", "0", "-c", command]).fails(1).json();
        assert_eq!(json["error"]["code"], "no-changes", "{json}");
        assert!(json["error"]["message"].as_str().unwrap().contains("ftpmaster recover"), "{json}");
    }
    cluster.slaves.iter().for_each(|slave| assert_eq!(tree(&slave.root), tree_of(&named(files))));
}

/// Removes the journal and more; an operator checks the recovery and then runs it.
fn recovers(goes: impl Fn(&str) -> bool) {
    let (mut cluster, mut files) = filled();
    let before = last_change(&cluster);
    without(&mut cluster, goes);
    wait_halted(&cluster);
    // The slaves reconnect one after the other.
    let shown = eventually(SOON, "all slaves have reported their positions", || {
        let shown = operate(&cluster, &["recover"]).ok().stdout;
        (shown.matches(&format!("last change {}-{}", before.0, before.1)).count() == 3)
            .then_some(shown)
    });
    assert!(shown.contains("--yes"), "{shown}");
    assert!(halted(&cluster).is_some(), "the dry run changed the state");
    reads_only(&cluster, &files);
    let done = operate(&cluster, &["recover", "--yes"]).ok().stdout;
    assert!(done.contains("epoch 2"), "{done}");
    eventually(SOON, "changes are accepted", || {
        cluster.status_json()?["halted"].is_null().then_some(())
    });
    wait_settled(&cluster);
    let after = last_change(&cluster);
    assert!(after.0 > before.0, "{before:?} and then {after:?}");
    put(&cluster.client(), "new", b"new");
    files.push(("new".to_owned(), b"new".to_vec()));
    wait_for(&cluster, &tree_of(&named(&files)));
    cluster.slaves.iter().for_each(|slave| assert_eq!(conflicts(&slave.root), []));
    operate(&cluster, &["diff"]).ok();
    // A second recovery has no effect.
    let shown = operate(&cluster, &["recover"]).ok().stdout;
    assert!(shown.contains("there is nothing to recover"), "{shown}");
    assert_eq!(operate(&cluster, &["recover", "--yes"]).ok().stdout, shown);
    // Earlier removals are still known after the recovery, also after a restart.
    cluster.master.kill();
    cluster.restart_master();
    wait_settled(&cluster);
    assert_eq!(halted(&cluster), None);
    assert!(last_change(&cluster) > after);
    healthy(&cluster);
}

#[test]
fn a_master_without_its_journal_is_recovered() {
    recovers(|name| ["journal", "snapshot"].contains(&name));
}

#[test]
fn a_master_with_nothing_but_its_key_is_recovered() {
    recovers(|name| name != "cluster.key");
}

#[test]
fn a_master_with_an_older_disk_is_recovered() {
    let (mut cluster, mut files) = filled();
    let backup = fs::read(state(&cluster).join("journal")).unwrap();
    open(&cluster, 1).put("f1", b"after the backup").unwrap();
    files.iter_mut().find(|(name, _)| name == "f1").unwrap().1 = b"after the backup".to_vec();
    wait_for(&cluster, &tree_of(&named(&files)));
    let before = last_change(&cluster);
    cluster.master.kill();
    fs::write(state(&cluster).join("journal"), backup).unwrap();
    cluster.restart_master();
    wait_halted(&cluster);
    reads_only(&cluster, &files);
    operate(&cluster, &["recover", "--yes"]).ok();
    eventually(SOON, "changes are accepted", || {
        cluster.status_json()?["halted"].is_null().then_some(())
    });
    wait_for(&cluster, &tree_of(&named(&files)));
    assert!(last_change(&cluster) > before);
    healthy(&cluster);
}

#[test]
fn a_late_slave_proposes_its_changes_after_a_recovery() {
    let mut cluster = Cluster::of(2).start();
    let mut wire = open(&cluster, 0);
    for name in ["same", "edited", "both"] {
        wire.put(name, b"at first").unwrap();
    }
    wait_settled(&cluster);
    // Only the first slave has the next changes.
    cluster.slaves[1].program.kill();
    wire.put("edited", b"only the first slave has this").unwrap();
    wire.put("both", b"the first slave's").unwrap();
    wire.put("new", b"new, and only there").unwrap();
    drop(wire);
    cluster.slaves[0].program.kill();
    without(&mut cluster, |name| name != "cluster.key");
    cluster.restart_slave(1);
    eventually(SOON, "the recovery is possible", || {
        let shown = operate(&cluster, &["recover"]);
        shown.stdout.contains("last change 1-3").then_some(())
    });
    eventually(SOON, "the master is recovered", || {
        (operate(&cluster, &["recover", "--yes"]).status == 0).then_some(())
    });
    cluster.wait_in_service(1);
    eventually(SOON, "a change succeeds", || {
        open(&cluster, 1).put("both", b"the second slave's").ok()
    });
    cluster.restart_slave(0);
    wait_settled(&cluster);
    let root = cluster.slaves[0].root.clone();
    // Each of its contents is in the tree if there is none newer, else in the quarantine.
    for (name, bytes) in [
        ("edited", &b"only the first slave has this"[..]),
        ("both", b"the first slave's"),
        ("new", b"new, and only there"),
    ] {
        eventually(SOON, "nothing is lost", || {
            let in_tree = cluster
                .slaves
                .iter()
                .all(|slave| fs::read(slave.root.join(name)).is_ok_and(|there| there == bytes));
            (in_tree || conflicts(&root).contains(&(name.to_owned(), bytes.to_vec()))).then_some(())
        });
    }
    wait_settled(&cluster);
    let found = tree(&root);
    assert_eq!(
        found.get("new"),
        tree_of(&[("new", b"new, and only there")]).get("new"),
        "a free path was quarantined"
    );
    assert_eq!(
        found.get("both"),
        tree_of(&[("both", b"the second slave's")]).get("both"),
        "the newer content was replaced"
    );
    wait_for(&cluster, &found);
    healthy(&cluster);
}

#[test]
fn damage_in_the_middle_of_the_journal_stops_the_start() {
    let (mut cluster, files) = filled();
    assert_eq!(cluster.master.stop(Signal::SIGTERM), 0);
    let journal = state(&cluster).join("journal");
    let good = fs::read(&journal).unwrap();
    let file = File::options().write(true).open(&journal).unwrap();
    for at in [good.len() / 4, good.len() / 2] {
        file.write_all_at(&[good[at] ^ 1], at as u64).unwrap();
        let mut master = ProgramBuilder::new("ftpmaster", cluster.dir.path())
            .args(["--listen", &cluster.addr.to_string(), "--state"])
            .args([state(&cluster)])
            .start();
        assert_eq!(Client::finish(&mut master).status, 1);
        let said = master.stderr.text();
        assert!(said.contains(journal.to_str().unwrap()), "{said}");
        // The reported offset is that of the damaged batch: not after the byte, and not far before.
        let named =
            said.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<usize>().ok());
        assert!(
            named.into_iter().any(|offset| offset <= at && at - offset < 4096),
            "damaged at {at}: {said}"
        );
        file.write_all_at(&good[at..=at], at as u64).unwrap();
    }
    assert!(fs::read(&journal).unwrap() == good, "the journal was modified");
    cluster.restart_master();
    wait_for(&cluster, &tree_of(&named(&files)));
    healthy(&cluster);
}

#[test]
fn a_torn_end_of_the_journal_is_dropped() {
    let (mut cluster, mut files) = filled();
    for (n, torn) in [vec![0; 1], vec![0; 4096], vec![0xff; 7], content(1, 100), content(2, 5000)]
        .iter()
        .enumerate()
    {
        let before = last_change(&cluster);
        cluster.master.kill();
        File::options()
            .append(true)
            .open(state(&cluster).join("journal"))
            .unwrap()
            .write_all(torn)
            .unwrap();
        cluster.restart_master();
        wait_settled(&cluster);
        assert_eq!(last_change(&cluster), before);
        let name = format!("after{n}");
        let version = eventually(SOON, "a change succeeds", || {
            open(&cluster, 0).put(&name, name.as_bytes()).ok()
        });
        assert_eq!((u64::from(version.epoch), version.number), (before.0, before.1 + 1));
        files.push((name.clone(), name.into_bytes()));
    }
    wait_for(&cluster, &tree_of(&named(&files)));
    let numbers: Vec<String> = exported(&cluster)
        .iter()
        .map(|change| change["number"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(numbers, (1..=numbers.len()).map(|n| format!("1-{n}")).collect::<Vec<_>>());
}

#[test]
fn a_master_of_a_lower_epoch_is_rejected() {
    let (mut cluster, mut files) = filled();
    // The state of a master that is restarted later by mistake.
    let old = saved(&cluster);
    without(&mut cluster, |name| name != "cluster.key");
    wait_halted(&cluster);
    cluster.wait_in_service(3);
    eventually(SOON, "the master is recovered", || {
        (operate(&cluster, &["recover", "--yes"]).status == 0).then_some(())
    });
    wait_settled(&cluster);
    eventually(SOON, "a change succeeds", || {
        open(&cluster, 0).put("later", b"in the second epoch").ok()
    });
    files.push(("later".to_owned(), b"in the second epoch".to_vec()));
    wait_for(&cluster, &tree_of(&named(&files)));
    let (now, wanted) = (last_change(&cluster), tree_of(&named(&files)));
    cluster.master.kill();
    let newer = saved(&cluster);
    lay(&cluster, &old);
    cluster.restart_master();
    // The old master detects the higher epoch, and no slave accepts changes from it.
    wait_halted(&cluster);
    let client = cluster.client();
    fs::write(client.folder().join("f"), b"1").unwrap();
    let json = client.run(&["--json", "--retry", "0", "-c", "put f"]);
    assert_ne!(json.status, 0, "{json:?}");
    cluster.slaves.iter().for_each(|slave| assert_eq!(tree(&slave.root), wanted));
    cluster.master.kill();
    lay(&cluster, &newer);
    cluster.restart_master();
    wait_for(&cluster, &wanted);
    assert_eq!(last_change(&cluster), now);
    healthy(&cluster);
}
