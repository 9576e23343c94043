//! Permission bits and times of new files and folders, which are never open to other users.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use relais_proto::{ErrorCode, FileTime, Mode, PutRequest, Reply, Request};

use super::{open, wait_published};
use crate::harness::{
    SOON, Standalone, TestDir, eventually, make_folder, path, put, staged_files, upload,
};

/// A group without members.
const GROUP: u32 = 47_110;

/// Returns all permission bits, with setuid, setgid and sticky.
#[track_caller]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).mode() & 0o7777
}

fn with_mode(name: &str, mode: u32) -> PutRequest {
    PutRequest { mode: Some(Mode::new(mode)), ..put(name, 2) }
}

#[test]
fn new_files_and_folders_obey_the_umask() {
    let slave = Standalone::start(&["--umask", "027"], &[]);
    let mut wire = open(&slave);
    for (name, sent, wanted) in [("a", 0o777, 0o750), ("b", 0o600, 0o600), ("c", 0o044, 0o440)] {
        wire.upload(&with_mode(name, sent), b"ab").unwrap();
        assert_eq!(mode(&slave.root.join(name)), wanted, "{name}");
    }
    wire.put("d", b"ab").unwrap();
    assert_eq!(mode(&slave.root.join("d")), 0o640, "a file without a mode in the request");
    wire.change(&make_folder("e")).unwrap();
    assert_eq!(mode(&slave.root.join("e")), 0o750);
}

#[test]
fn a_put_over_a_file_keeps_its_mode() {
    let slave = Standalone::start(&[], &[]);
    fs::write(slave.root.join("secret"), "old").unwrap();
    fs::set_permissions(slave.root.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    wait_published(&slave, 1);
    let mut wire = open(&slave);
    let requests = [with_mode("secret", 0o777), put("secret", 2)];
    for request in requests {
        eventually(SOON, "the put succeeds", || wire.upload(&request, b"ab").ok());
        assert_eq!(mode(&slave.root.join("secret")), 0o600);
        match wire.ask(&Request::Stat(path("secret"))) {
            Reply::Details { entry, .. } => assert_eq!(entry.mode, Mode::new(0o600)),
            other => panic!("{other:?}"),
        }
    }
    // Two puts in one batch: the second replaces the first.
    wire.raw(
        &[
            &upload(&with_mode("new", 0o640), b"ab", 2)[..],
            &upload(&with_mode("new", 0o666), b"cd", 2),
        ]
        .concat(),
    );
    wire.committed().unwrap();
    wire.committed().unwrap();
    assert_eq!(mode(&slave.root.join("new")), 0o640);
}

#[test]
fn new_entries_of_a_setgid_folder_get_its_group() {
    let slave = Standalone::start(&[], &[]);
    let team = slave.root.join("team");
    fs::create_dir(&team).unwrap();
    chown(&team, None, Some(GROUP)).unwrap();
    fs::set_permissions(&team, fs::Permissions::from_mode(0o2770)).unwrap();
    slave.wait_listed("team", true);
    let mut wire = open(&slave);
    wire.change(&make_folder("team/sub")).unwrap();
    wire.upload(&with_mode("team/sub/f", 0o640), b"ab").unwrap();
    assert_eq!(mode(&team), 0o2770);
    let sub = fs::metadata(team.join("sub")).unwrap();
    assert_eq!((sub.mode() & 0o7777, sub.gid()), (0o2755, GROUP));
    let file = fs::metadata(team.join("sub/f")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.gid()), (0o640, GROUP));
}

#[test]
fn incoming_files_are_private_until_complete() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = open(&slave);
    let bytes = upload(&with_mode("f", 0o644), b"ab", 1);
    wire.raw(&bytes[..bytes.len() - 38]);
    let staged = eventually(SOON, "a byte is staged", || {
        staged_files(&slave.root)
            .into_iter()
            .find(|file| fs::metadata(file).is_ok_and(|m| m.len() > 0))
    });
    assert_eq!(mode(&staged), 0o600);
    assert_eq!(mode(&slave.root.join(".relais")), 0o700);
}

#[test]
fn a_time_that_the_disk_cannot_hold_is_refused() {
    // Most file systems have a latest time; one without stores the time exactly.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let slave = Standalone::start_in(TestDir::new(), dir.path().to_owned(), &[], &[]);
    let mut wire = open(&slave);
    // The last five are a second or two beyond the limits of ext4 and of older file systems.
    for (name, seconds) in [
        ("late", 253_402_300_800),
        ("never", i64::MAX),
        ("early", i64::MIN / 4),
        ("ext4", 15_032_385_536),
        ("ext4-odd", 15_032_385_537),
        ("ext4-early", -2_147_483_649),
        ("old", 2_147_483_648),
        ("xfs", 16_299_260_425),
    ] {
        let request = PutRequest { mtime: Some(FileTime { seconds, nanos: 0 }), ..put(name, 2) };
        match wire.upload(&request, b"ab") {
            Ok(_) => assert_eq!(fs::metadata(slave.root.join(name)).unwrap().mtime(), seconds),
            Err(refusal) => {
                assert_eq!(refusal.code, ErrorCode::BadRequest, "{refusal}");
                assert!(refusal.message.contains("cannot store its time"), "{refusal}");
                assert!(!slave.root.join(name).exists());
            }
        }
        assert_eq!(staged_files(&slave.root), [] as [std::path::PathBuf; 0]);
    }
    wire.put("now", b"ab").unwrap();
}
