//! New attributes of files and folders.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use relais_proto::{Attributes, Entry, ErrorCode, Expect, FileTime, Mode, PutRequest, Request};

use super::{open, stat, wait_version};
use crate::harness::{
    Cluster, SOON, Standalone, eventually, make_folder, new_id, path, put, sessions,
    set_attributes, set_mode,
};

const MTIME: FileTime = FileTime { seconds: 1_234_567_890, nanos: 987_654_321 };
const BOTH: Attributes = Attributes { mtime: Some(MTIME), mode: Some(Mode::new(0o604)) };

/// Returns mode and time of a file on the disk.
fn on_disk(path: &Path) -> Option<(u32, i64, i64)> {
    fs::metadata(path).ok().map(|meta| (meta.mode() & 0o777, meta.mtime(), meta.mtime_nsec()))
}

fn shown(entry: &Entry) -> (Mode, FileTime) {
    (entry.mode, entry.mtime)
}

#[test]
fn new_attributes_replicate_and_survive_restarts() {
    let mut cluster = Cluster::of(2).start();
    let mut one = open(&cluster, 0);
    one.upload(&PutRequest { copies: 2, ..put("f", 7) }, b"content").unwrap();
    one.change(&make_folder("d")).unwrap();
    let inodes = |cluster: &Cluster| {
        [0, 1].map(|n| fs::metadata(cluster.slaves[n].root.join("f")).unwrap().ino())
    };
    let before = inodes(&cluster);
    let set = one.change(&set_attributes("f", BOTH)).unwrap();
    let folder = one.change(&set_mode("d", 0o750)).unwrap();
    let check = |cluster: &Cluster| {
        for n in 0..2 {
            let mut wire = open(cluster, n);
            assert_eq!(shown(&wait_version(&mut wire, "f", set)), (Mode::new(0o604), MTIME));
            assert_eq!(wait_version(&mut wire, "d", folder).mode, Mode::new(0o750));
            let root = &cluster.slaves[n].root;
            let wanted = Some((0o604, MTIME.seconds, i64::from(MTIME.nanos)));
            eventually(SOON, "the disk has the attributes", || {
                (on_disk(&root.join("f")) == wanted).then_some(())
            });
            assert_eq!(on_disk(&root.join("d")).unwrap().0, 0o750);
            assert_eq!(wire.fetch("f").unwrap(), b"content");
        }
    };
    check(&cluster);
    assert_eq!(inodes(&cluster), before, "the content was copied");
    for n in 0..2 {
        cluster.slaves[n].program.kill();
        cluster.restart_slave(n);
    }
    cluster.wait_in_service(2);
    cluster.wait_hashed();
    check(&cluster);
    assert_eq!(inodes(&cluster), before);
}

#[test]
fn each_attribute_is_set_alone() {
    let mut slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    wire.put("f", b"content").unwrap();
    let digest = stat(&mut wire, "f").unwrap().1;
    let time = stat(&mut wire, "f").unwrap().0.mtime;
    wire.change(&set_mode("f", 0o040)).unwrap();
    // The slave must read the file.
    assert_eq!(shown(&stat(&mut wire, "f").unwrap().0), (Mode::new(0o440), time));
    let set = wire.change(&set_attributes("f", Attributes { mode: None, ..BOTH })).unwrap();
    assert_eq!(shown(&stat(&mut wire, "f").unwrap().0), (Mode::new(0o440), MTIME));
    slave.program.kill();
    slave.restart();
    let mut wire = sessions(slave.addr, 1).remove(0);
    let (entry, there) = stat(&mut wire, "f").unwrap();
    assert_eq!((shown(&entry), entry.version), ((Mode::new(0o440), MTIME), Some(set)));
    assert_eq!(there, digest, "the content has another digest");
    let wanted = (0o440, MTIME.seconds, i64::from(MTIME.nanos));
    assert_eq!(on_disk(&slave.root.join("f")), Some(wanted));
}

#[test]
fn refused_attributes_change_nothing() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    let old = wire.put("f", b"old").unwrap();
    let new = wire.put("f", b"new").unwrap();
    wire.change(&make_folder("d")).unwrap();
    let states = |wire: &mut _| ["f", "d"].map(|name| stat(wire, name).unwrap().0);
    let before = states(&mut wire);
    let expecting =
        |expect| Request::SetAttributes { id: new_id(), path: path("f"), expect, attributes: BOTH };
    for (request, code) in [
        (set_attributes("d", BOTH), ErrorCode::IsFolder),
        (set_attributes("d", Attributes { mode: None, ..BOTH }), ErrorCode::IsFolder),
        (set_attributes("none", BOTH), ErrorCode::NotFound),
        (set_mode("", 0o755), ErrorCode::Denied),
        (expecting(Expect::Lsn(old)), ErrorCode::Changed),
        (expecting(Expect::Absent), ErrorCode::Changed),
        (expecting(Expect::Unnumbered), ErrorCode::Changed),
    ] {
        assert_eq!(wire.change(&request).unwrap_err().code, code, "{request:?}");
        assert_eq!(states(&mut wire), before, "{request:?}");
    }
    let request = expecting(Expect::Lsn(new));
    let set = wire.change(&request).unwrap();
    assert_eq!(wire.change(&request).unwrap(), set, "the same id is the same change");
    assert_eq!(stat(&mut wire, "f").unwrap().0.version, Some(set));
}
