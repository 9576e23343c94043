//! What lies in the way of a put: folders, links, FIFOs, devices, mount points. A clear error, and it stays as it was.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use relais_proto::ErrorCode;

use super::{open, tree, wait_published};
use crate::harness::{Standalone, TestDir, Volume, make_folder, remove, rename, wait_unstaged};

/// What may be said of a name that something has which is not served.
const IN_THE_WAY: [ErrorCode; 2] = [ErrorCode::NotServed, ErrorCode::Exists];

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
fn a_folder() {
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
fn links_and_fifos() {
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
            assert!(IN_THE_WAY.contains(&refusal.code), "{name}: {refusal:?}");
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
        // Neither does anything go through it.
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
    // A refusal of these takes nobody's service away.
    wire.put("file", b"new").unwrap();
    assert_eq!(wire.fetch("file").unwrap(), b"new");
}

#[test]
fn a_folder_with_something_that_is_not_served_is_not_empty() {
    let slave = slave();
    symlink("x", slave.root.join("folder/sub/link")).unwrap();
    let mut wire = open(&slave);
    assert_eq!(wire.change(&remove("folder/sub", false)).unwrap_err().code, ErrorCode::NotEmpty);
    assert!(slave.root.join("folder/sub/link").is_symlink());
}

#[test]
fn a_name_that_was_made_by_hand_a_moment_ago() {
    // The catalogue may not know it yet; the disk decides.
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
fn a_mount_point() {
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
