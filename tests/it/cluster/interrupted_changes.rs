//! What a crash has left half done, and what somebody does in a folder right before it goes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::helpers::report;
use super::tree_equality::wait_equal;
use crate::harness::{Cluster, SOON, eventually};

/// All files that were set aside, but for the notes.
fn set_aside(root: &Path) -> Vec<PathBuf> {
    let Ok(places) = fs::read_dir(root.join(".relais/conflicts")) else { return Vec::new() };
    let files = places
        .flat_map(|place| fs::read_dir(place.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path());
    files.filter(|path| path.file_name().is_some_and(|name| name != "why.txt")).collect()
}

#[test]
fn a_move_that_a_crash_cut_off_behind_the_folder_loses_nothing() {
    let mut cluster = Cluster::of(2).start();
    let client = cluster.client();
    fs::write(client.folder().join("x"), b"content").unwrap();
    client
        .run(&[
            "-c",
            "mkdir d",
            "-c",
            "mkdir d/sub",
            "-c",
            "put x -o d/x",
            "-c",
            "put x -o d/sub/y",
            "-c",
            "put x -o f",
        ])
        .ok();
    wait_equal(&cluster);
    cluster.slaves[1].program.kill();
    let root = cluster.slaves[1].root.clone();
    // As the slave would have left it: the names are changed, and the catalogue knows nothing of it.
    fs::rename(root.join("d"), root.join("e")).unwrap();
    fs::rename(root.join("f"), root.join("g")).unwrap();
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    let before = ["e/x", "e/sub/y", "g"].map(inode);
    cluster.wait_in_service(1);
    client.run(&["--retry", "15", "-c", "mv d e", "-c", "mv f g"]).ok();
    cluster.restart_slave(1);
    cluster.wait_in_service(2);
    let nodes = wait_equal(&cluster);
    assert_eq!(nodes.len(), 5, "{nodes:?}");
    assert_eq!(
        ["e/x", "e/sub/y", "g"].map(inode),
        before,
        "what was there already is not fetched again"
    );
    assert_eq!(set_aside(&root), Vec::<PathBuf>::new());
}

#[test]
fn a_removal_that_a_crash_cut_off_is_carried_out_again() {
    let mut cluster = Cluster::of(2).start();
    let client = cluster.client();
    fs::write(client.folder().join("x"), b"content").unwrap();
    client.run(&["-c", "mkdir d", "-c", "put x -o d/x", "-c", "put x -o f"]).ok();
    wait_equal(&cluster);
    cluster.slaves[1].program.kill();
    let root = cluster.slaves[1].root.clone();
    let removed = root.join(".relais/removed");
    fs::rename(root.join("d"), removed.join("1-4")).unwrap();
    cluster.wait_in_service(1);
    client.run(&["--retry", "15", "-c", "rm -r d"]).ok();
    cluster.restart_slave(1);
    cluster.wait_in_service(2);
    assert_eq!(wait_equal(&cluster).len(), 1);
    eventually(SOON, "what was removed is gone", || {
        fs::read_dir(&removed).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn what_was_just_put_into_a_folder_by_hand_does_not_go_with_it() {
    let cluster = Cluster::of(1).start();
    let client = cluster.client();
    client.run(&["-c", "mkdir d"]).ok();
    let root = &cluster.slaves[0].root;
    fs::write(root.join("d/mine"), b"the only copy").unwrap();
    client.run(&["-c", "rm -r d"]).ok();
    let aside = set_aside(root);
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read(&aside[0]).unwrap(), b"the only copy");
}

#[test]
fn content_that_got_its_name_right_before_a_crash_is_nobodys_edit() {
    const FETCHED: [&str; 5] = ["put", "removed", "moved", "d/below", "left"];
    const NAMES: [&str; 6] =
        [FETCHED[0], FETCHED[1], FETCHED[2], FETCHED[3], FETCHED[4], "waiting"];
    let mut cluster = Cluster::of(2).start();
    let client = cluster.client();
    client.run(&["-c", "mkdir d"]).ok();
    let put_all = |text: &str| {
        fs::write(client.folder().join("x"), text).unwrap();
        let lines = NAMES.map(|name| format!("put x -o {name}"));
        let words: Vec<&str> = ["--retry", "15"]
            .into_iter()
            .chain(lines.iter().flat_map(|line| ["-c", line.as_str()]))
            .collect();
        client.run(&words).ok();
    };
    put_all("former");
    wait_equal(&cluster);
    let [there, root] = [0, 1].map(|n| cluster.slaves[n].root.clone());
    // One slave hears of content that nobody can give it.
    cluster.slaves[1].program.kill();
    cluster.wait_in_service(1);
    put_all("content");
    cluster.slaves[0].program.kill();
    cluster.restart_slave(1);
    eventually(SOON, "it knows what it lacks", || {
        (report(&cluster, 1)["lacking"] == NAMES.len()).then_some(())
    });
    cluster.slaves[1].program.kill();
    // As it would have left it: what it has fetched has its name, and the catalogue knows nothing of it.
    for name in FETCHED {
        let fetched = root.join(".relais/fetched-by-hand");
        fs::write(&fetched, fs::read(there.join(name)).unwrap()).unwrap();
        let modified = fs::metadata(there.join(name)).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&fetched).unwrap().set_modified(modified).unwrap();
        fs::rename(&fetched, root.join(name)).unwrap();
    }
    // And what waits for its content has been moved already.
    fs::rename(root.join("waiting"), root.join("waiting too")).unwrap();
    cluster.restart_slave(0);
    cluster.wait_in_service(1);
    let changes =
        ["put x -o put", "rm removed", "mv moved elsewhere", "rm -r d", "mv waiting 'waiting too'"];
    fs::write(client.folder().join("x"), "newer").unwrap();
    let words: Vec<&str> = ["--retry", "15"]
        .into_iter()
        .chain(changes.iter().flat_map(|line| ["-c", *line]))
        .collect();
    client.run(&words).ok();
    cluster.restart_slave(1);
    cluster.wait_in_service(2);
    let nodes = wait_equal(&cluster);
    assert_eq!(
        nodes.keys().map(String::as_str).collect::<Vec<_>>(),
        ["elsewhere", "left", "put", "waiting too"]
    );
    assert_eq!(set_aside(&root), Vec::<PathBuf>::new());
}
