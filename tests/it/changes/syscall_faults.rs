//! Failing system calls. A put gets an error, the old content stays, and nothing stays staged. Any
//! other numbered change is made as soon as the disk allows it.

use std::path::PathBuf;

use nix::unistd::Pid;
use relais_proto::{ErrorCode, Refusal, Request};

use super::{open, processes, tree, with_files};
use crate::harness::{
    RawClient, SOON, Standalone, Strace, content, eventually, make_folder, process_of, put, remove,
    rename, wait_unstaged,
};

/// A size that is synced in a batch, and one that is synced on its own.
const SIZES: [usize; 2] = [100, 3 << 20];

pub fn slave() -> Standalone {
    with_files(
        &["--workers", "1"],
        &[("f", b"old"), ("from", b"moved"), ("folder/x", b"1"), ("empty/x", b"1")],
    )
}

/// Makes system calls of the slave fail while `work` runs.
#[track_caller]
fn failing<T>(
    slave: &Standalone,
    inject: &str,
    on: Option<&PathBuf>,
    work: impl FnOnce() -> T,
) -> T {
    failing_in(&processes(slave), inject, on, work)
}

/// Makes system calls of some processes fail while `work` runs.
#[track_caller]
fn failing_in<T>(pids: &[Pid], inject: &str, on: Option<&PathBuf>, work: impl FnOnce() -> T) -> T {
    let calls = inject.split_once(':').unwrap().0;
    let (trace, inject) = (format!("trace={calls}"), format!("inject={inject}"));
    let mut args = vec!["-e", &trace, "-e", &inject];
    if let Some(path) = on {
        args.extend(["-P", path.to_str().unwrap()]);
    }
    let strace = Strace::attach(pids, &args);
    let result = work();
    let calls = strace.end();
    assert!(calls.iter().any(|call| call.text.contains("INJECTED")), "no call failed: {calls:?}");
    result
}

/// Requires that a refused change has no effect, and that the slave works, also after a restart.
#[track_caller]
fn assert_unchanged(
    slave: &mut Standalone,
    before: &[(String, Vec<u8>)],
    refusal: &Refusal,
    codes: &[ErrorCode],
) {
    assert!(codes.contains(&refusal.code), "{refusal:?}");
    assert_eq!(tree(&slave.root), before);
    wait_unstaged(&slave.root);
    let mut wire = open(slave);
    assert_eq!(wire.fetch("f").unwrap(), b"old");
    works(&mut wire);
    let after = tree(&slave.root);
    slave.program.kill();
    slave.restart();
    let mut wire = open(slave);
    assert_eq!(wire.fetch("f").unwrap(), b"old");
    assert_eq!(tree(&slave.root), after, "another tree after the restart");
    works(&mut wire);
    wait_unstaged(&slave.root);
}

/// Makes every kind of change and reverts it.
#[track_caller]
pub fn works(wire: &mut RawClient) {
    wire.change(&make_folder("works")).unwrap();
    for size in SIZES {
        let bytes = content(size as u64, size);
        wire.put("works/f", &bytes).unwrap();
        assert!(wire.fetch("works/f").unwrap() == bytes);
    }
    wire.change(&rename("works/f", "works/g")).unwrap();
    wire.change(&remove("works/g", false)).unwrap();
    wire.change(&remove("works", true)).unwrap();
}

/// Puts over a file and under a new name, in each size; each is refused with one of `codes`.
fn puts_fail(inject: &str, on: impl Fn(&Standalone) -> Option<PathBuf>, codes: &[ErrorCode]) {
    for size in SIZES {
        let mut slave = slave();
        let bytes = content(1, size);
        let (before, mut wire) = (tree(&slave.root), open(&slave));
        wire.ping();
        for name in ["f", "new"] {
            let refusal = failing(&slave, inject, on(&slave).as_ref(), || {
                wire.put(name, &bytes).unwrap_err()
            });
            assert!(codes.contains(&refusal.code), "{name}, {size} bytes: {refusal:?}");
            assert_eq!(tree(&slave.root), before);
        }
        wire.ping();
        let refusal =
            failing(&slave, inject, on(&slave).as_ref(), || wire.put("newer", &bytes).unwrap_err());
        assert_unchanged(&mut slave, &before, &refusal, codes);
    }
}

#[test]
fn the_staged_file_cannot_be_synced() {
    puts_fail("fsync,fdatasync,syncfs:error=EIO", |_| None, &[ErrorCode::Storage]);
}

#[test]
fn the_staging_folder_cannot_be_synced() {
    puts_fail(
        "fsync,fdatasync:error=EIO",
        |slave| Some(slave.root.join(".relais/staging")),
        &[ErrorCode::Storage],
    );
}

#[test]
fn the_rename_fails() {
    // A mount point at the path makes the rename fail with `EXDEV`.
    for error in ["EIO", "ENOSPC", "EXDEV"] {
        // Only the rename into place; renames in the staging folder are another step.
        puts_fail(
            &format!("rename,renameat,renameat2:error={error}"),
            |slave| Some(slave.root.clone()),
            &[ErrorCode::Storage],
        );
    }
}

#[test]
fn the_worker_cannot_seal_the_staged_file() {
    let mut slave = slave();
    let (before, mut wire) = (tree(&slave.root), open(&slave));
    let worker = process_of(&slave.program, "Worker(0)");
    let inject = "rename,renameat,renameat2:error=EIO";
    let refusal =
        failing_in(&[worker], inject, None, || wire.put("f", &content(1, 100_000)).unwrap_err());
    assert_unchanged(&mut slave, &before, &refusal, &[ErrorCode::Storage]);
}

/// Requires that a change other than a put, which the disk refuses once, is made soon afterwards.
fn change_is_retried(request: &Request, inject: &str, on: impl Fn(&Standalone) -> Option<PathBuf>) {
    let prepared = || {
        let slave = slave();
        let mut wire = open(&slave);
        wire.change(&remove("empty/x", false)).unwrap();
        (slave, wire)
    };
    let wanted = {
        let (slave, mut wire) = prepared();
        wire.change(request).unwrap();
        tree(&slave.root)
    };
    let (mut slave, mut wire) = prepared();
    failing(&slave, inject, on(&slave).as_ref(), || wire.change(request).unwrap());
    eventually(SOON, "the change is made", || (tree(&slave.root) == wanted).then_some(()));
    works(&mut wire);
    slave.program.kill();
    slave.restart();
    works(&mut open(&slave));
    assert_eq!(tree(&slave.root), wanted, "another tree after the restart");
    wait_unstaged(&slave.root);
}

#[test]
fn mkdir_fails() {
    for error in ["EIO", "ENOSPC"] {
        let inject = format!("mkdir,mkdirat:error={error}");
        change_is_retried(&make_folder("made"), &inject, |_| None);
    }
}

#[test]
fn a_removal_fails() {
    let inject = "unlink,unlinkat,rmdir,rename,renameat,renameat2:error=EIO";
    for (name, recursive) in [("from", false), ("empty", false), ("folder", true)] {
        change_is_retried(&remove(name, recursive), inject, |_| None);
    }
}

#[test]
fn a_move_fails() {
    for (from, to) in [("from", "to"), ("from", "f"), ("folder", "other")] {
        change_is_retried(&rename(from, to), "rename,renameat,renameat2:error=EIO", |_| None);
    }
}

#[test]
fn the_folder_cannot_be_synced_after_the_change() {
    let top = |slave: &Standalone| Some(slave.root.clone());
    let (inject, codes) = ("fsync,fdatasync:error=EIO", &[ErrorCode::Storage]);
    for size in SIZES {
        let mut slave = slave();
        let (before, bytes, mut wire) = (tree(&slave.root), content(1, size), open(&slave));
        for name in ["f", "new"] {
            let refusal = failing(&slave, inject, top(&slave).as_ref(), || {
                wire.put(name, &bytes).unwrap_err()
            });
            assert_eq!(refusal.code, ErrorCode::Storage, "{name}");
            assert_eq!(tree(&slave.root), before, "{name}");
        }
        let refusal =
            failing(&slave, inject, top(&slave).as_ref(), || wire.put("f", &bytes).unwrap_err());
        assert_unchanged(&mut slave, &before, &refusal, codes);
    }
    for request in [
        make_folder("made"),
        remove("from", false),
        remove("empty", false),
        remove("folder", true),
        rename("from", "to"),
        rename("from", "f"),
    ] {
        change_is_retried(&request, inject, top);
    }
    // Either folder of a move.
    for folder in ["folder", ""] {
        change_is_retried(&rename("from", "folder/to"), inject, |slave| {
            Some(slave.root.join(folder).components().collect())
        });
    }
}

#[test]
fn the_journal_cannot_be_synced() {
    let mut slave = slave();
    let bytes = content(2, 200_000);
    let before = tree(&slave.root);
    let mut wire = open(&slave);
    let request = put("f", bytes.len());
    let on = Some(super::journal_of(&slave));
    let refusal = failing(&slave, "fdatasync,fsync:error=EIO", on.as_ref(), || {
        wire.upload(&request, &bytes).unwrap_err()
    });
    assert_eq!(refusal.code, ErrorCode::NoChanges, "{refusal:?}");
    // No further change is made, although the disk works again; reads continue, in old and new
    // sessions.
    let other = put("g", 1);
    for refusal in [
        wire.upload(&other, b"1").unwrap_err(),
        wire.change(&make_folder("made")).unwrap_err(),
        open(&slave).change(&remove("from", false)).unwrap_err(),
    ] {
        assert_eq!(refusal.code, ErrorCode::NoChanges, "{refusal:?}");
    }
    assert_eq!(tree(&slave.root), before);
    assert_eq!(wire.fetch("f").unwrap(), b"old");
    assert_eq!(open(&slave).fetch("from").unwrap(), b"moved");
    // Only a restart of the slave ends this, not a new replicator.
    slave.program.kill();
    slave.restart();
    let mut wire = open(&slave);
    let now = wire.fetch("f").unwrap();
    assert!(
        now == b"old" || now == bytes,
        "neither the old content nor the new: {} bytes",
        now.len()
    );
    // A retry makes the change, whatever its first result was.
    wire.upload(&request, &bytes).unwrap();
    wire.upload(&other, b"1").unwrap();
    wire.change(&remove("g", false)).unwrap();
    assert!(wire.fetch("f").unwrap() == bytes);
    works(&mut wire);
    wait_unstaged(&slave.root);
}

#[test]
fn the_journal_cannot_be_written() {
    for (error, times, codes) in [
        ("ENOSPC", 2, &[ErrorCode::NoSpace, ErrorCode::NoChanges][..]),
        ("EIO", 1, &[ErrorCode::NoChanges, ErrorCode::Storage]),
    ] {
        let mut slave = slave();
        let before = tree(&slave.root);
        let mut wire = open(&slave);
        let on = Some(super::journal_of(&slave));
        let inject = format!("write,writev,pwrite64,pwritev,pwritev2:error={error}");
        for request in [make_folder("made"), remove("from", false)].iter().take(times) {
            let refusal =
                failing(&slave, &inject, on.as_ref(), || wire.change(request).unwrap_err());
            assert!(codes.contains(&refusal.code), "{error}: {refusal:?}");
        }
        assert_eq!(tree(&slave.root), before);
        assert_eq!(wire.fetch("f").unwrap(), b"old");
        if error != "ENOSPC" {
            assert_eq!(wire.change(&make_folder("made")).unwrap_err().code, ErrorCode::NoChanges);
            slave.program.kill();
            slave.restart();
            wire = open(&slave);
        }
        // If only space was missing, changes succeed without a restart.
        works(&mut wire);
        assert_eq!(tree(&slave.root), before);
    }
}

#[test]
fn the_worker_cannot_write_the_staged_file() {
    let mut slave = slave();
    let before = tree(&slave.root);
    let bytes = content(3, 2 << 20);
    let mut wire = open(&slave);
    wire.ping();
    // Workers use `pwrite` and `splice` only for staged files; answers use other calls.
    let worker = process_of(&slave.program, "Worker(0)");
    let strace = Strace::attach(
        &[worker],
        &["-e", "trace=pwrite64,pwritev,splice", "-e", "inject=pwrite64,pwritev,splice:error=EIO"],
    );
    let refusal = wire.put("f", &bytes).unwrap_err();
    drop(strace);
    assert_unchanged(&mut slave, &before, &refusal, &[ErrorCode::Storage]);
    let mut wire = open(&slave);
    wire.upload(&put("f", bytes.len()), &bytes).unwrap();
}
