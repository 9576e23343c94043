//! Paths blocked by folders, links, FIFOs, devices or mount points: a clear error and no change.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::{User, geteuid, mkfifo};
use relais_proto::ErrorCode;

use super::{open, tree, wait_published};
use crate::harness::{Standalone, TestDir, Volume, make_folder, remove, rename, wait_unstaged};

/// Error codes for a name that an entry outside the tree blocks.
const BLOCKED: [ErrorCode; 2] = [ErrorCode::NotServed, ErrorCode::Exists];

fn slave() -> Standalone {
    let dir = TestDir::new();
    let (root, aside) = (dir.folder("root"), dir.folder("aside"));
    fs::create_dir_all(root.join("folder/sub")).unwrap();
    fs::write(root.join("file"), "file").unwrap();
    fs::write(root.join("folder/inside"), "inside").unwrap();
    fs::write(aside.join("secret"), "secret").unwrap();
    symlink(aside.join("secret"), root.join("link-to-file")).unwrap();
    symlink(&aside, root.join("link-to-folder")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("folder", root.join("link-inside")).unwrap();
    mkfifo(&root.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    let slave = Standalone::start_in(dir, root, &[], &[]);
    wait_published(&slave, 2);
    slave
}

#[test]
fn a_folder_blocks_a_put() {
    let slave = slave();
    let before = tree(&slave.root);
    let mut wire = open(&slave);
    for (name, code) in [
        ("folder", ErrorCode::IsFolder),
        ("folder/sub", ErrorCode::IsFolder),
        ("file/x", ErrorCode::NotFolder),
    ] {
        assert_eq!(wire.put(name, b"new").unwrap_err().code, code, "{name}");
    }
    assert_eq!(tree(&slave.root), before);
    wait_unstaged(&slave.root);
}

#[test]
fn links_and_fifos_block_a_put() {
    let slave = slave();
    let before = tree(&slave.root);
    let mut wire = open(&slave);
    for name in ["link-to-file", "link-to-folder", "dangling", "link-inside", "fifo"] {
        let refusals = [
            wire.put(name, b"new").unwrap_err(),
            wire.change(&make_folder(name)).unwrap_err(),
            wire.change(&rename("file", name)).unwrap_err(),
        ];
        for refusal in refusals {
            assert!(BLOCKED.contains(&refusal.code), "{name}: {refusal:?}");
        }
        for refusal in [
            wire.change(&remove(name, true)).unwrap_err(),
            wire.change(&rename(name, "other")).unwrap_err(),
        ] {
            assert!(
                matches!(refusal.code, ErrorCode::NotServed | ErrorCode::NotFound),
                "{name}: {refusal:?}"
            );
        }
        // No change goes through the link either.
        let below = format!("{name}/x");
        let refusals =
            [wire.put(&below, b"new").unwrap_err(), wire.change(&make_folder(&below)).unwrap_err()];
        for refusal in refusals {
            assert!(
                matches!(
                    refusal.code,
                    ErrorCode::NotServed | ErrorCode::NotFound | ErrorCode::NotFolder
                ),
                "{below}: {refusal:?}"
            );
        }
    }
    assert_eq!(tree(&slave.root), before);
    assert!(fs::symlink_metadata(slave.root.join("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read(slave.dir.path().join("aside/secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(slave.dir.path().join("aside")).unwrap().count(), 1);
    wait_unstaged(&slave.root);
    // Such a refusal does not affect other requests.
    wire.put("file", b"new").unwrap();
    assert_eq!(wire.fetch("file").unwrap(), b"new");
}

#[test]
fn a_folder_with_unserved_entries_is_not_empty() {
    let slave = slave();
    symlink("x", slave.root.join("folder/sub/link")).unwrap();
    let mut wire = open(&slave);
    assert_eq!(wire.change(&remove("folder/sub", false)).unwrap_err().code, ErrorCode::NotEmpty);
    assert!(slave.root.join("folder/sub/link").is_symlink());
}

#[test]
fn a_new_local_folder_blocks_a_put() {
    // The catalogue may not have the entry yet; the disk decides.
    let slave = slave();
    let mut wire = open(&slave);
    for round in 0..10 {
        let name = format!("hand{round}");
        fs::create_dir(slave.root.join(&name)).unwrap();
        let refusal = wire.put(&name, b"new").unwrap_err();
        assert!(
            matches!(refusal.code, ErrorCode::IsFolder | ErrorCode::Exists | ErrorCode::Changed),
            "{refusal:?}"
        );
        assert!(slave.root.join(&name).is_dir());
    }
    wait_unstaged(&slave.root);
    wire.put("after", b"1").unwrap();
}

#[test]
fn a_mount_point_blocks_changes() {
    let volume = Volume::mount("size=4m");
    let (root, mount) = (volume.path().join("root"), volume.path().join("root/mount"));
    fs::create_dir_all(&mount).unwrap();
    let mounted = volume.mount_inside("root/mount");
    fs::write(mount.join("secret"), "secret").unwrap();
    let slave =
        Standalone::start_in(TestDir::new(), volume.inside().join("root"), &[], &volume.under());
    let mut wire = open(&slave);
    let refusals = [
        wire.put("mount", b"new").unwrap_err(),
        wire.put("mount/x", b"new").unwrap_err(),
        wire.put("mount/secret", b"new").unwrap_err(),
        wire.change(&make_folder("mount")).unwrap_err(),
        wire.change(&make_folder("mount/x")).unwrap_err(),
        wire.change(&remove("mount", true)).unwrap_err(),
        wire.change(&rename("mount", "other")).unwrap_err(),
    ];
    for (n, refusal) in refusals.iter().enumerate() {
        assert!(
            matches!(
                refusal.code,
                ErrorCode::NotServed
                    | ErrorCode::NotFound
                    | ErrorCode::Exists
                    | ErrorCode::IsFolder
            ),
            "{n}: {refusal:?}"
        );
    }
    assert_eq!(fs::read(mount.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&mount).unwrap().count(), 1);
    wire.put("f", b"1").unwrap();
    wait_unstaged(&root);
    drop((wire, slave, mounted));
}

/// Makes a folder inaccessible to the slave's user, or accessible again.
fn lock(folder: &Path, locked: bool) {
    if geteuid().is_root() {
        let unprivileged = User::from_name("nobody").unwrap().unwrap();
        let owner = if locked { 0 } else { unprivileged.uid.as_raw() };
        chown(folder, Some(owner), Some(owner)).unwrap();
    }
    let mode = if locked { 0o700 } else { 0o755 };
    let mode = if geteuid().is_root() { mode } else { mode & 0o077 };
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_unreadable_folder_is_a_permanent_error() {
    let dir = TestDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = dir.folder("root");
    fs::create_dir_all(root.join("d/secret")).unwrap();
    fs::create_dir_all(root.join("e/later")).unwrap();
    fs::write(root.join("d/secret/x"), "x").unwrap();
    fs::write(root.join("d/f"), "f").unwrap();
    for folder in ["", "d", "d/secret", "e", "e/later"] {
        lock(&root.join(folder), false);
    }
    lock(&root.join("d/secret"), true);
    let args: &[&str] = if geteuid().is_root() { &["--user", "nobody"] } else { &[] };
    let slave = Standalone::start_in(dir, root, args, &[]);
    wait_published(&slave, 1);
    let client = slave.client();
    // The folder was unreadable at the scan, or became unreadable later.
    lock(&slave.root.join("e/later"), true);
    for (top, below) in [("d", "/d/secret"), ("d/secret", "/d/secret"), ("e", "/e/later")] {
        let json = client.command(&format!("rm -r {top}")).fails(1).json();
        assert_eq!(json["error"]["code"], "not-served", "{json}");
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.contains(below) && message.contains("may not read"), "{message}");
        assert!(!message.contains("again"), "{message}");
    }
    for folder in ["d/secret", "e/later"] {
        lock(&slave.root.join(folder), false);
        assert!(slave.root.join(folder).exists());
    }
}
