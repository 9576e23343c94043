//! The operator's commands, each with only the master's address and the key.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::helpers::{
    conflicts, exported, healthy, last_change, one_version, open, operate, operator, put, report,
    rot, tree, tree_of, wait_for, wait_settled,
};
use crate::harness::{
    Client, Cluster, ProgramBuilder, SOON, content, digest, eventually, make_folder, remove,
    rename, write_old,
};

/// Time limit for a drained slave to end its sessions.
const DRAINED: Duration = Duration::from_secs(10);

#[test]
fn status_reports_all_problems() {
    let cluster = Cluster::of(2).start();
    open(&cluster, 0).put("f", &content(1, 10_000)).unwrap();
    wait_settled(&cluster);
    let status = cluster.status_json().unwrap();
    assert_eq!((status["epoch"].as_u64(), status["number"].as_u64()), (Some(1), Some(1)));
    assert!(status["halted"].is_null(), "{status}");
    assert_eq!(status["lost"], 0);
    for slave in status["slaves"].as_array().unwrap() {
        for (field, wanted) in [
            ("lag", 0),
            ("missing", 0),
            ("missing_bytes", 0),
            ("quarantined", 0),
            ("held", 0),
            ("number", 1),
            ("epoch", 1),
        ] {
            assert_eq!(slave[field], wanted, "{field} in {slave}");
        }
        assert!(slave["last_error"].is_null(), "{slave}");
        assert_eq!(slave["state"], "in-service");
    }
    // A stopped slave lags behind and leaves the service.
    cluster.slaves[1].program.signal_group(Signal::SIGSTOP);
    let mut wire = open(&cluster, 0);
    wire.put("g", b"1").unwrap();
    wire.put("h", b"2").unwrap();
    eventually(SOON, "the slave lags behind and is out of service", || {
        let slave = report(&cluster, 1);
        (slave["lag"] == 2 && slave["state"] != "in-service").then_some(())
    });
    cluster.slaves[1].program.signal_group(Signal::SIGCONT);
    wait_settled(&cluster);
    // The text table shows the same.
    let table = operate(&cluster, &["status"]).ok().stdout;
    assert!(table.contains(&cluster.slaves[0].addr.to_string()), "{table}");
}

#[test]
fn a_download_moves_when_its_slave_is_drained() {
    const SIZE: usize = 300 << 20;
    let bytes = content(1, SIZE);
    let mut cluster = Cluster::of(2).proxied().file("big", &bytes).start();
    wait_settled(&cluster);
    let proxy = |n: usize| cluster.slaves[n].proxy.as_ref().unwrap();
    (0..2).for_each(|n| proxy(n).throttle(Some(40 << 20)));
    let client = cluster.client();
    let mut program = client.start(&["--json", "-c", "get big"]);
    let serving = eventually(SOON, "the download has begun", || {
        (0..2).find(|n| proxy(*n).content_bytes() > 10 << 20)
    });
    proxy(1 - serving).throttle(None);
    let id = report(&cluster, serving)["id"].as_str().unwrap().to_owned();
    let mut drain = operator(&cluster, &["drain", &id[..8]]).start();
    eventually(DRAINED, "the slave has no sessions", || {
        let slave = report(&cluster, serving);
        (slave["sessions"] == 0 && slave["state"] == "draining").then_some(())
    });
    assert_eq!(Client::finish(&mut drain).status, 0);
    let json = Client::finish(&mut program).ok().json();
    assert_eq!(json["verified"], true, "{json}");
    assert_eq!(
        json["slaves"].as_array().unwrap().len(),
        2,
        "the download did not move to the other slave: {json}"
    );
    assert_eq!(digest(&client.read("big")), digest(&bytes));
    // The slave gets no sessions, also after a restart, until `ready`.
    let other = cluster.slaves[1 - serving].public().to_string();
    for _ in 0..4 {
        put(&client, "small", b"1");
        assert_eq!(client.serving_slave("small"), other);
    }
    cluster.slaves[serving].program.kill();
    cluster.restart_slave(serving);
    eventually(SOON, "the slave is back and draining", || {
        (report(&cluster, serving)["state"] == "draining").then_some(())
    });
    operate(&cluster, &["ready", &cluster.slaves[serving].public().to_string()]).ok();
    cluster.wait_in_service(2);
    // The slave itself learns of it with its next heartbeat and redirects clients until then.
    eventually(SOON, "both slaves are in turn", || {
        let turns: BTreeSet<String> = (0..2).map(|_| client.serving_slave("small")).collect();
        (turns.len() == 2).then_some(())
    });
    operate(&cluster, &["drain", "no such slave"]).fails(1);
}

#[test]
fn a_stopped_slave_can_be_forgotten() {
    let mut cluster = Cluster::of(3).start();
    open(&cluster, 0).put("f", b"1").unwrap();
    wait_settled(&cluster);
    let id = report(&cluster, 2)["id"].as_str().unwrap().to_owned();
    let said = operate(&cluster, &["forget", &id]).fails(1);
    assert!(said.stdout.contains("stop it first"), "{said:?}");
    cluster.slaves[2].program.kill();
    // Until the master has noticed the stop, it refuses.
    eventually(SOON, "the slave is forgotten", || {
        (operate(&cluster, &["forget", &id]).status == 0).then_some(())
    });
    let status = cluster.status_json().unwrap();
    assert_eq!(status["slaves"].as_array().unwrap().len(), 2, "{status}");
    assert_eq!(status["lost"], 0);
    // A restarted master does not wait for the forgotten slave.
    cluster.master.kill();
    cluster.restart_master();
    cluster.wait_in_service(2);
    open(&cluster, 0).put("g", b"2").unwrap();
    // If it returns, it is a normal slave.
    cluster.restart_slave(2);
    wait_for(&cluster, &tree_of(&[("f", b"1"), ("g", b"2")]));
}

#[test]
fn a_known_slave_that_is_down_stays_in_status_and_diff() {
    let mut cluster = Cluster::of(2).start();
    open(&cluster, 0).put("f", b"1").unwrap();
    wait_settled(&cluster);
    operate(&cluster, &["status"]).ok();
    let id = report(&cluster, 1)["id"].as_str().unwrap().to_owned();
    let addr = cluster.slaves[1].addr.to_string();
    cluster.slaves[1].program.kill();
    cluster.master.kill();
    cluster.restart_master();
    cluster.wait_in_service(1);
    let said = cluster.status(&["--json"]).fails(4).json();
    let down = said["slaves"].as_array().unwrap().iter().find(|slave| slave["id"] == *id).unwrap();
    assert_eq!((&down["state"], &down["addr"]), (&"down".into(), &addr.clone().into()), "{said}");
    assert!(down["silent_ms"].is_null() && down["lag"].is_null(), "{said}");
    let table = operate(&cluster, &["status"]).fails(4).stdout;
    assert!(table.contains(&addr) && table.contains("down"), "{table}");
    let differs = operate(&cluster, &["diff"]).fails(1);
    assert!(
        differs.stdout.contains(&format!("slave {id} at {addr}: cannot be asked")),
        "{differs:?}"
    );
    // A drained slave is out of service on purpose.
    cluster.restart_slave(1);
    cluster.wait_in_service(2);
    operate(&cluster, &["drain", &id]).ok();
    operate(&cluster, &["status"]).ok();
    // A forgotten slave stays forgotten.
    cluster.slaves[1].program.kill();
    eventually(SOON, "the slave is forgotten", || {
        (operate(&cluster, &["forget", &id]).status == 0).then_some(())
    });
    cluster.master.kill();
    cluster.restart_master();
    cluster.wait_in_service(1);
    assert_eq!(cluster.status(&["--json"]).ok().json()["slaves"].as_array().unwrap().len(), 1);
    operate(&cluster, &["diff"]).ok();
}

#[test]
fn content_of_only_a_forgotten_slave_is_reported_lost() {
    let mut cluster = Cluster::of(2).start();
    let mut wire = open(&cluster, 0);
    wire.put("both", b"1").unwrap();
    wait_settled(&cluster);
    // The other slave is down during the put and learns only the name.
    cluster.slaves[1].program.kill();
    wire.put("alone", b"2").unwrap();
    drop(wire);
    let id = report(&cluster, 0)["id"].as_str().unwrap().to_owned();
    cluster.slaves[0].program.kill();
    cluster.restart_slave(1);
    eventually(SOON, "the slave knows the name", || {
        let slave = report(&cluster, 1);
        (slave["lag"] == 0 && slave["missing"] == 1).then_some(())
    });
    assert_eq!(cluster.status_json().unwrap()["lost"], 0, "its holder may come back");
    let different = operate(&cluster, &["diff"]).fails(1);
    assert!(different.stdout.contains("/alone: content not there yet"), "{different:?}");
    eventually(SOON, "the slave is forgotten", || {
        (operate(&cluster, &["forget", &id]).status == 0).then_some(())
    });
    eventually(SOON, "the content is lost", || (cluster.status_json()?["lost"] == 1).then_some(()));
    assert!(cluster.master.stderr.text().contains("is lost"));
    // The name stays, because it was not removed. New content ends the loss.
    let client = cluster.client();
    eventually(SOON, "the file is put again", || {
        fs::write(client.folder().join("alone"), b"2").unwrap();
        (client.command("put alone -o alone").status == 0).then_some(())
    });
    eventually(SOON, "nothing is lost", || (cluster.status_json()?["lost"] == 0).then_some(()));
    client.get("both");
}

#[test]
fn diff_lists_differing_paths() {
    let mut cluster = Cluster::of(2).start();
    let mut wire = open(&cluster, 0);
    for name in ["f", "g"] {
        wire.put(name, name.as_bytes()).unwrap();
    }
    drop(wire);
    wait_settled(&cluster);
    let same = operate(&cluster, &["diff"]).ok();
    assert!(same.stdout.contains("2 slaves") && !same.stdout.contains("/f"), "{same:?}");
    // A file vanishes while its slave is down, and no other slave can send it.
    cluster.slaves[1].program.kill();
    fs::remove_file(cluster.slaves[1].root.join("f")).unwrap();
    cluster.slaves[0].program.kill();
    cluster.restart_slave(1);
    let different = eventually(SOON, "diff names the file", || {
        let said = operate(&cluster, &["diff"]);
        said.stdout.contains("/f").then_some(said)
    });
    assert_eq!(different.status, 1, "{different:?}");
    assert!(
        different.stdout.contains("/f: content not there yet") && !different.stdout.contains("/g"),
        "{different:?}"
    );
    assert!(
        different.stdout.contains(report(&cluster, 1)["id"].as_str().unwrap()),
        "{different:?}"
    );
    eventually(SOON, "status counts it", || (report(&cluster, 1)["missing"] == 1).then_some(()));
    cluster.restart_slave(0);
    wait_for(&cluster, &tree_of(&[("f", b"f"), ("g", b"g")]));
    operate(&cluster, &["diff"]).ok();
}

#[test]
fn scrub_finds_and_repairs_damage() {
    let mut cluster = Cluster::of(2).start();
    let good = content(1, 400_000);
    let mut wire = open(&cluster, 0);
    wire.put("f", &good).unwrap();
    wire.put("g", b"untouched").unwrap();
    drop(wire);
    let wanted = tree_of(&[("f", &good), ("g", b"untouched")]);
    wait_for(&cluster, &wanted);
    let before = (last_change(&cluster), one_version(&cluster, "f"));
    let bad = rot(&mut cluster, 1, "f");
    wait_settled(&cluster);
    assert!(
        fs::read(cluster.slaves[1].root.join("f")).unwrap() == bad,
        "damage is unknown before the file is read"
    );
    let said = operate(&cluster, &["scrub"]).ok().stdout;
    assert!(said.contains("2 of 2 files read, 1 damaged, 1 repaired"), "{said}");
    assert!(said.contains("2 of 2 files read, 0 damaged, 0 repaired"), "{said}");
    let root = cluster.slaves[1].root.clone();
    eventually(SOON, "the file is repaired", || (tree(&root) == wanted).then_some(()));
    assert_eq!(conflicts(&root), [("f".to_owned(), bad)]);
    wait_for(&cluster, &wanted);
    assert_eq!((last_change(&cluster), one_version(&cluster, "f")), before, "no change");
    assert_eq!(conflicts(&cluster.slaves[0].root), []);
    eventually(SOON, "status counts it", || {
        (report(&cluster, 1)["quarantined"] == 1).then_some(())
    });
}

#[test]
fn scrub_reports_remaining_damage() {
    let mut cluster = Cluster::of(1).start();
    open(&cluster, 0).put("f", &content(1, 100_000)).unwrap();
    wait_settled(&cluster);
    let good = operate(&cluster, &["scrub"]).ok().stdout;
    assert!(good.contains("1 of 1 files read, 0 damaged"), "{good}");
    rot(&mut cluster, 0, "f");
    wait_settled(&cluster);
    let said = operate(&cluster, &["scrub"]).fails(1).stdout;
    assert!(said.contains("1 of 1 files read, 1 damaged, 0 repaired"), "{said}");
    let ordered = operate(&cluster, &["scrub", "--no-wait"]).ok().stdout;
    assert!(!ordered.contains("files read"), "{ordered}");
}

#[test]
fn skipped_names_are_listed_with_their_reasons() {
    let cluster = Cluster::of(1).start();
    let root = &cluster.slaves[0].root;
    let bad: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"bad\xff\n");
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d").join(bad), "x").unwrap();
    std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
    nix::unistd::mkfifo(&root.join("d/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = eventually(SOON, "all skipped names are listed", || {
        let said = operate(&cluster, &["skipped"]).ok().stdout;
        said.contains("3 names skipped").then_some(said)
    });
    let id = report(&cluster, 0)["id"].as_str().unwrap().to_owned();
    for line in [
        format!("{id} /d/bad\\xff\\n: a name that cannot be served"),
        format!("{id} /d/fifo: a device, FIFO or socket"),
        format!("{id} /link: a symbolic link"),
    ] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
}

#[test]
fn export_prints_each_change_in_order() {
    let cluster = Cluster::of(2).start();
    let bytes = content(1, 1000);
    let mut wire = open(&cluster, 0);
    wire.change(&make_folder("d")).unwrap();
    wire.put("d/f", &bytes).unwrap();
    wire.change(&rename("d/f", "g")).unwrap();
    wire.change(&remove("d", true)).unwrap();
    write_old(&cluster.slaves[1].root.join("by-hand"), b"1");
    wait_for(&cluster, &tree_of(&[("g", &bytes), ("by-hand", b"1")]));
    let lines = exported(&cluster);
    let shown: Vec<(&str, &str, Option<&str>)> = lines
        .iter()
        .map(|line| {
            (
                line["number"].as_str().unwrap(),
                line["kind"].as_str().unwrap(),
                line["path"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("1-1", "mkdir", Some("/d")),
            ("1-2", "put", Some("/d/f")),
            ("1-3", "mv", Some("/d/f")),
            ("1-4", "rm", Some("/d")),
            ("1-5", "put", Some("/by-hand"))
        ]
    );
    assert_eq!(lines[1]["digest"], digest(&bytes).as_str());
    assert_eq!(lines[2]["to"], "/g");
    let ids: BTreeSet<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), lines.len());
}

#[test]
fn operator_commands_need_the_cluster_key() {
    let cluster = Cluster::of(1).start();
    open(&cluster, 0).put("f", b"1").unwrap();
    let wrong = cluster.dir.path().join("wrong.key");
    let other = Cluster::of(0).start();
    fs::copy(other.key(), &wrong).unwrap();
    for command in [
        &["status"][..],
        &["drain", "abcd"],
        &["forget", "abcd"],
        &["diff"],
        &["scrub"],
        &["recover", "--yes"],
        &["export"],
    ] {
        for key in [&wrong, &cluster.dir.path().join("no.key")] {
            let mut program = ProgramBuilder::new("ftpmaster", cluster.dir.path())
                .args(command)
                .args(["--master", &cluster.addr.to_string(), "--cluster-key"])
                .args([key])
                .start();
            let output = Client::finish(&mut program).fails(1);
            assert_eq!(output.stdout, "", "{command:?}");
            assert_ne!(output.stderr, "", "{command:?}");
        }
    }
    healthy(&cluster);
}
