//! The output of `ls`: the current content of the folder, no incomplete files, no stale digests.

use relais_proto::metric;
use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{SOON, Standalone, digest, eventually, sessions, write_old};

/// Longer than the interval between a slave's scans.
const NOTICED: Duration = Duration::from_secs(30);

fn names(json: &serde_json::Value) -> Vec<String> {
    json["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn files_and_folders_in_order_of_their_names() {
    let slave = Standalone::start(&[], &[("b", b"12"), ("a/x", b"1"), ("c c", b""), ("é", b"")]);
    slave.wait_listed("é", true);
    let client = slave.client();
    let json = client.command("ls").ok().json();
    assert_eq!(names(&json), ["a", "b", "c c", "é"], "{json}");
    let kinds: Vec<&str> =
        json["entries"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["folder", "file", "file", "file"]);
    assert_eq!(json["entries"][1]["size"], 2);
    assert_eq!(names(&client.command("ls a").ok().json()), ["x"]);
    let text = client.run(&["-c", "ls -l"]).ok().stdout;
    assert_eq!(text.lines().count(), 4, "{text:?}");
}

#[test]
fn local_additions_and_removals_are_listed() {
    let slave = Standalone::start(&[], &[("first", b"1")]);
    slave.wait_listed("first", true);
    fs::write(slave.root.join("second"), "2").unwrap();
    slave.wait_listed("second", true);
    fs::create_dir_all(slave.root.join("x/y")).unwrap();
    fs::write(slave.root.join("x/y/z"), "3").unwrap();
    let client = slave.client();
    eventually(NOTICED, "a file in a new folder", || {
        (client.command("get x/y/z").status == 0).then_some(())
    });
    fs::rename(slave.root.join("second"), slave.root.join("third")).unwrap();
    slave.wait_listed("third", true);
    slave.wait_listed("second", false);
    fs::remove_file(slave.root.join("first")).unwrap();
    slave.wait_listed("first", false);
    fs::remove_dir_all(slave.root.join("x")).unwrap();
    slave.wait_listed("x", false);
    client.command("get first").fails(1);
}

#[test]
fn changes_during_a_downtime_are_seen_at_the_start() {
    let mut slave = Standalone::start(&[], &[("stays", b"1"), ("goes", b"2"), ("changes", b"3")]);
    slave.wait_listed("changes", true);
    slave.program.kill();
    fs::remove_file(slave.root.join("goes")).unwrap();
    slave.write("comes", b"4");
    slave.write("changes", b"thirty-three");
    slave.restart();
    slave.wait_listed("comes", true);
    slave.wait_listed("goes", false);
    let client = slave.client();
    client.get("changes");
    assert_eq!(client.read("changes"), b"thirty-three");
}

#[test]
fn files_being_written_are_not_listed() {
    let slave = Standalone::start(&[], &[("first", b"1")]);
    slave.wait_listed("first", true);
    let client = slave.client();
    let mut file = File::create(slave.root.join("growing")).unwrap();
    // A second file, written and closed meanwhile, proves that the slave has scanned.
    for n in 0..3 {
        file.write_all(b"some more").unwrap();
        let marker = format!("marker{n}");
        fs::write(slave.root.join(&marker), "m").unwrap();
        slave.wait_listed(&marker, true);
        let listed = names(&client.command("ls").ok().json());
        assert!(!listed.contains(&"growing".to_owned()), "{listed:?}");
    }
    drop(file);
    slave.wait_listed("growing", true);
    client.get("growing");
    assert_eq!(client.read("growing"), b"some moresome moresome more");
}

#[test]
fn a_replaced_file_with_equal_metadata_shows_no_old_digest() {
    let slave = Standalone::start(&[], &[("f", b"content number 0")]);
    let client = slave.client();
    let path = slave.root.join("f");
    let old = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(
        client.command("hash f").ok().json()["entries"][0]["digest"],
        digest(b"content number 0")
    );
    for n in 1..8 {
        let bytes = format!("content number {n}");
        if n % 2 == 0 {
            // Written in place: the inode stays.
            fs::write(&path, &bytes).unwrap();
        } else {
            fs::write(slave.dir.path().join("new"), &bytes).unwrap();
            fs::rename(slave.dir.path().join("new"), &path).unwrap();
        }
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        // Without a wait: the old digest must never show. An error is allowed until the slave has
        // seen the change.
        eventually(SOON, "the new digest", || {
            let hash = client.command("hash f");
            let stat = client.command("stat f").json();
            for json in [hash.json(), stat] {
                let shown = json["entries"][0]["digest"].as_str().unwrap_or("none").to_owned();
                assert_ne!(shown, digest(format!("content number {}", n - 1).as_bytes()), "{json}");
            }
            (hash.status == 0).then_some(())
        });
        client.get("f");
        assert_eq!(client.read("f"), bytes.as_bytes());
    }
}

#[test]
fn unserved_entries_are_counted() {
    use std::os::unix::ffi::OsStrExt;
    let slave = Standalone::start(&[], &[("f", b"1")]);
    std::os::unix::fs::symlink("f", slave.root.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc", slave.root.join("linked-folder")).unwrap();
    slave.wait_listed("f", true);
    mkfifo(&slave.root.join("fifo"), Mode::S_IRUSR).unwrap();
    fs::write(slave.root.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")), "x").unwrap();
    fs::write(slave.root.join("control\u{1}"), "x").unwrap();
    let (_, metrics) = eventually(NOTICED, "all skipped names are counted", || {
        let found = sessions(slave.addr, 1)[0].status();
        (found.1.skipped() == 5).then_some(found)
    });
    assert_eq!(
        (
            metrics.get(metric::SKIPPED_LINKS),
            metrics.get(metric::SKIPPED_SPECIAL),
            metrics.get(metric::SKIPPED_NAMES)
        ),
        (2, 1, 2),
        "{metrics:?}"
    );
    let client = slave.client();
    assert_eq!(names(&client.command("ls").ok().json()), ["f"]);
    for command in ["get link", "get linked-folder/passwd", "get fifo", "ls linked-folder"] {
        client.command(command).fails(1);
    }
    let status = client.run(&["-c", "status"]).ok();
    assert!(status.stdout.contains("skipped"), "{status:?}");
}

#[test]
fn a_link_swapped_in_a_loop_never_leads_out() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let slave = Standalone::start(&[], &[("d/secret", b"inside")]);
    let outside = slave.dir.folder("outside");
    fs::write(outside.join("secret"), "outside!").unwrap();
    let (d, aside, stop) = (slave.root.join("d"), slave.root.join("aside"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                fs::rename(&d, &aside).unwrap();
                std::os::unix::fs::symlink(&outside, &d).unwrap();
                fs::remove_file(&d).unwrap();
                fs::rename(&aside, &d).unwrap();
            }
        });
        let readers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut wire = sessions(slave.addr, 1).remove(0);
                    let mut served = 0;
                    for _ in 0..150 {
                        wire.send(&[crate::harness::get("d/secret")]);
                        if let Ok((_, bytes)) = wire.content() {
                            assert_eq!(bytes, b"inside");
                            served += 1;
                        }
                    }
                    served
                })
            })
            .collect();
        let results: Vec<_> =
            readers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::SeqCst);
        for served in results {
            served.unwrap();
        }
    });
}

#[test]
fn two_slaves_on_one_folder_show_the_same() {
    let mut cluster = crate::harness::Cluster::of(2).shared().file("f", b"1").start();
    let client = cluster.client();
    write_old(&cluster.slaves[0].root.join("dropped"), b"2");
    let dropped = |n: usize| {
        for _ in 0..n {
            eventually(NOTICED, "the dropped file on each slave", || {
                (client.command("get dropped").status == 0).then_some(())
            });
        }
    };
    dropped(4);
    // When the slave that writes the catalogue stops, the other one takes over.
    for gone in [0, 1] {
        cluster.slaves[gone].program.kill();
        cluster.wait_in_service(1);
        let name = format!("after{gone}");
        write_old(&cluster.slaves[0].root.join(&name), b"3");
        eventually(NOTICED, "the catalogue is updated", || {
            (client.command(&format!("get {name}")).status == 0).then_some(())
        });
        cluster.restart_slave(gone);
        cluster.wait_in_service(2);
    }
}

#[test]
#[ignore = "writes 100,000 files: a minute on a small machine"]
fn a_folder_with_100_000_files_lists_at_once() {
    use crate::harness::{anonymous_memory, children};
    let slave = Standalone::start(&[], &[("first", b"1")]);
    let many = slave.root.join("many");
    fs::create_dir(&many).unwrap();
    for n in 0..100_000 {
        fs::write(many.join(format!("file-{n:06}")), "x").unwrap();
    }
    let last = "file-099999";
    eventually(Duration::from_secs(300), "all files known", || {
        let (_, metrics) = sessions(slave.addr, 1)[0].status();
        (metrics.get(metric::FILES) >= 100_001).then_some(())
    });
    let memory = || children(slave.program.pid()).into_iter().map(anonymous_memory).max().unwrap();
    let before = memory();
    let mut wire = sessions(slave.addr, 1).remove(0);
    let began = std::time::Instant::now();
    let path = relais_proto::TreePath::new("many").unwrap();
    wire.send(&[relais_proto::Request::List { path, after: String::new(), most: 0 }]);
    let mut listed = 0;
    let mut at_last = String::new();
    loop {
        match wire.reply() {
            relais_proto::Reply::Entries(page) => {
                if listed == 0 {
                    assert!(
                        began.elapsed() < Duration::from_secs(1),
                        "the first names came after {:?}",
                        began.elapsed()
                    );
                }
                listed += page.iter().count();
                at_last = page.iter().last().unwrap().name;
            }
            relais_proto::Reply::Done { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((listed, at_last.as_str()), (100_000, last));
    let grown = memory().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown} bytes");
    let json = slave.client().command("ls many").ok().json();
    assert_eq!(json["entries"].as_array().unwrap().len(), 100_000);
}
