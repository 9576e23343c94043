//! Changes that a crash interrupted, and local files created just before a removal.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::helpers::report;
use super::tree_equality::wait_equal;
use crate::harness::{Cluster, SOON, eventually};

/// Lists all quarantined files, without the notes.
fn quarantined(root: &Path) -> Vec<PathBuf> {
    let Ok(places) = fs::read_dir(root.join(".relais/conflicts")) else { return Vec::new() };
    let files = places
        .flat_map(|place| fs::read_dir(place.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path());
    files.filter(|path| path.file_name().is_some_and(|name| name != "why.txt")).collect()
}

#[test]
fn an_interrupted_move_loses_nothing() {
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
    // The state that the slave would have left: the names are changed, and the catalogue is not.
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
    assert_eq!(["e/x", "e/sub/y", "g"].map(inode), before, "existing content was fetched again");
    assert_eq!(quarantined(&root), Vec::<PathBuf>::new());
}

#[test]
fn an_interrupted_removal_is_completed() {
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
    eventually(SOON, "the removed entries are gone", || {
        fs::read_dir(&removed).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn a_new_local_file_survives_the_removal_of_its_folder() {
    let cluster = Cluster::of(1).start();
    let client = cluster.client();
    client.run(&["-c", "mkdir d"]).ok();
    let root = &cluster.slaves[0].root;
    fs::write(root.join("d/mine"), b"the only copy").unwrap();
    client.run(&["-c", "rm -r d"]).ok();
    let aside = quarantined(root);
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read(&aside[0]).unwrap(), b"the only copy");
}

#[test]
fn content_renamed_just_before_a_crash_is_no_local_edit() {
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
    // One slave learns of content that no running slave holds.
    cluster.slaves[1].program.kill();
    cluster.wait_in_service(1);
    put_all("content");
    cluster.slaves[0].program.kill();
    cluster.restart_slave(1);
    eventually(SOON, "the slave knows the missing content", || {
        (report(&cluster, 1)["missing"] == NAMES.len()).then_some(())
    });
    cluster.slaves[1].program.kill();
    // The state that it would have left: fetched content has its name, and the catalogue has no row
    // of it.
    for name in FETCHED {
        let fetched = root.join(".relais/fetched-by-hand");
        fs::write(&fetched, fs::read(there.join(name)).unwrap()).unwrap();
        let modified = fs::metadata(there.join(name)).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&fetched).unwrap().set_modified(modified).unwrap();
        fs::rename(&fetched, root.join(name)).unwrap();
    }
    // The file that waits for its content has been moved already.
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
    assert_eq!(quarantined(&root), Vec::<PathBuf>::new());
}
