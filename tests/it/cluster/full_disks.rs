//! Full disks of a slave and of the master's journal: both recover without a restart.

use std::fs;
use std::path::PathBuf;

use relais_proto::ErrorCode;

use super::helpers::{
    healthy, last_change, open, operate, report_at, tree, tree_of, wait_for, wait_settled,
};
use crate::harness::{
    Cluster, Program, ProgramBuilder, SOON, Volume, content, eventually, leftovers, remove,
    staged_bytes,
};

#[test]
fn content_too_large_for_a_slave_is_read_elsewhere() {
    let cluster = Cluster::of(1).start();
    let volume = Volume::mount("size=12m");
    fs::create_dir(volume.path().join("root")).unwrap();
    let mut small = ProgramBuilder::new("ftpslave", cluster.dir.path())
        .args(["0", "--workers", "1", "--master", &cluster.addr.to_string()])
        .args([
            PathBuf::from("--root"),
            volume.inside().join("root"),
            PathBuf::from("--cluster-key"),
            cluster.key(),
        ])
        .under(&volume.under())
        .start();
    let addr = small.ready().to_string();
    cluster.wait_in_service(2);
    let mut wire = open(&cluster, 0);
    wire.put("fits", b"1").unwrap();
    for n in 0..4_u64 {
        wire.put(&format!("f{n}"), &content(n, 4 << 20)).unwrap();
    }
    eventually(SOON, "diff lists the missing content", || {
        let slave = report_at(&cluster, &addr);
        let lacks = slave["missing_bytes"].as_u64() >= Some(4 << 20) && slave["lag"] == 0;
        (lacks && slave["unapplied"] == slave["missing"]).then_some(())
    });
    let said = operate(&cluster, &["diff"]).fails(1).stdout;
    assert!(said.contains("not applied here") && said.contains("no space"), "{said}");
    // The slave stays in service, and no client notices.
    let client = cluster.client();
    for n in 0..4 {
        for _ in 0..2 {
            client.get(&format!("f{n}"));
        }
    }
    assert_eq!(report_at(&cluster, &addr)["state"], "in-service");
    // Once there is space, the slave fetches the missing content.
    for n in 0..3 {
        wire.change(&remove(&format!("f{n}"), false)).unwrap();
    }
    let wanted = tree(&cluster.slaves[0].root);
    operate(&cluster, &["ready", &addr]).ok();
    eventually(SOON, "the slave has all content", || {
        (tree(&volume.path().join("root")) == wanted).then_some(())
    });
    cluster.wait_in_service(2);
    eventually(SOON, "no content is missing", || {
        (report_at(&cluster, &addr)["missing"] == 0).then_some(())
    });
    drop(small);
}

#[test]
fn a_full_journal_refuses_changes_and_allows_reads() {
    let mut cluster = Cluster::of(2).start();
    let old = content(1, 100_000);
    open(&cluster, 0).put("f", &old).unwrap();
    wait_settled(&cluster);
    cluster.master.kill();
    let volume = Volume::mount("size=4m");
    let state = cluster.dir.folder("master");
    fs::create_dir(volume.path().join("state")).unwrap();
    for name in leftovers(&state, &[]) {
        fs::copy(state.join(&name), volume.path().join("state").join(&name)).unwrap();
    }
    cluster.master = ProgramBuilder::new("ftpmaster", cluster.dir.path())
        .args(["--listen", &cluster.addr.to_string(), "--state"])
        .args([volume.inside().join("state")])
        .under(&volume.under())
        .start();
    cluster.master.ready();
    wait_settled(&cluster);
    let filler = volume.path().join("filler");
    fs::write(&filler, vec![1; usize::try_from(volume.free()).unwrap()]).unwrap();
    let before = last_change(&cluster);
    let mut wire = open(&cluster, 0);
    // The last page of the journal may still have space.
    let mut made = Vec::new();
    let refusal = eventually(SOON, "the journal is full", || {
        let name = format!("a-name-that-takes-some-room-in-the-journal-{}", made.len());
        match wire.put(&name, name.as_bytes()) {
            Ok(_) => {
                made.push(name);
                None
            }
            Err(refusal) => Some(refusal),
        }
    });
    assert!([ErrorCode::NoSpace, ErrorCode::NoChanges].contains(&refusal.code), "{refusal:?}");
    assert!(refusal.message.contains("full"), "{refusal:?}");
    assert_eq!(last_change(&cluster).1, before.1 + made.len() as u64);
    let client = cluster.client();
    client.get("f");
    assert!(client.read("f") == old);
    fs::remove_file(&filler).unwrap();
    eventually(SOON, "changes are accepted again", || wire.put("after", b"room").ok());
    let mut wanted = tree_of(&[("f", &old), ("after", b"room")]);
    made.iter().for_each(|name| wanted.extend(tree_of(&[(name, name.as_bytes())])));
    wait_for(&cluster, &wanted);
    healthy(&cluster);
    // The master must stop before its disk is unmounted.
    cluster.master.kill();
}

/// Starts a slave of the cluster whose root lies on its own file system.
fn slave_on(cluster: &Cluster, volume: &Volume) -> (Program, String) {
    fs::create_dir(volume.path().join("root")).unwrap();
    let mut slave = ProgramBuilder::new("ftpslave", cluster.dir.path())
        .args(["0", "--workers", "1", "--master", &cluster.addr.to_string()])
        .args([
            PathBuf::from("--root"),
            volume.inside().join("root"),
            PathBuf::from("--cluster-key"),
            cluster.key(),
        ])
        .under(&volume.under())
        .start();
    let addr = slave.ready().to_string();
    (slave, addr)
}

/// Fills a file system until `leave` bytes are free.
fn fill(volume: &Volume, leave: u64) {
    let filler = volume.path().join("filler");
    let _ = fs::remove_file(&filler);
    fs::write(filler, vec![1; usize::try_from(volume.free() - leave).unwrap()]).unwrap();
}

#[test]
fn a_put_moves_from_a_full_slave_to_one_with_room() {
    let cluster = Cluster::of(0).start();
    let (one, other) = (Volume::mount("size=48m"), Volume::mount("size=48m"));
    let (_first, with_room) = slave_on(&cluster, &one);
    let (_second, full) = slave_on(&cluster, &other);
    cluster.wait_in_service(2);
    let client = cluster.client();
    let server = || client.command("status").ok().json()["server"].as_str().unwrap().to_owned();
    let staged = || [&one, &other].map(|volume| staged_bytes(&volume.path().join("root")));
    for (name, size) in [("big", 6 << 20), ("small", 700_000)] {
        fs::write(client.folder().join(name), content(1, size)).unwrap();
    }
    // Clients that may write are redirected elsewhere while the disk is nearly full.
    fill(&other, 300_000);
    eventually(SOON, "the full slave is left out", || {
        (0..4).all(|_| server() == with_room).then_some(())
    });
    // With no space on any slave the put fails at once and leaves no bytes.
    fill(&one, 3 << 20);
    fill(&other, 3 << 20);
    eventually(SOON, "the full slave is next in turn", || (server() == full).then_some(()));
    for command in ["put big", "mput b*"] {
        let output = client.command(command).fails(1);
        let json = output.json();
        let error = if command == "put big" { &json["error"] } else { &json["failed"][0]["error"] };
        assert_eq!(error["code"], "no-space", "{output:?}");
        assert_eq!(leftovers(&client.folder(), &["big", "small"]), [] as [PathBuf; 0]);
        eventually(SOON, "the space is freed", || (staged() == [0, 0]).then_some(()));
    }
    // A put that starts at the full slave continues at the other.
    fs::remove_file(one.path().join("filler")).unwrap();
    fill(&other, 1_200_000);
    eventually(SOON, "the full slave is next", || (server() == with_room).then_some(()));
    let output = client.command("put big").ok();
    let json = output.json();
    assert!(json["slaves"].as_array().unwrap().iter().any(|slave| *slave == with_room), "{json}");
    assert!(output.stderr.contains(&full), "the full slave was tried first: {output:?}");
    assert_eq!(leftovers(&client.folder(), &["big", "small"]), [] as [PathBuf; 0]);
    client.get("big");
}
