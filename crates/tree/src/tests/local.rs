//! Making, replacing and removing files by single names.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use relais_proto::FileTime;
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use crate::{Folder, TreeError, UnservedKind, set_mode, set_times};

fn place() -> (TempDir, Folder) {
    let dir = TempDir::new().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    (dir, folder)
}

#[test]
fn a_part_has_one_user_at_a_time() {
    let (dir, folder) = place();
    let mut first = folder.create_or_open_part("p").unwrap();
    first.write_all(b"kept").unwrap();
    assert!(matches!(folder.create_or_open_part("p"), Err(TreeError::InUse)));
    drop(first);
    let mut text = String::new();
    folder.create_or_open_part("p").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "kept");
    let held = folder.create_or_open_part("p").unwrap();
    folder.rename("p", "done").unwrap();
    assert!(folder.create_or_open_part("p").is_ok(), "the name is free for another file");
    drop(held);
    assert_eq!(fs::read_to_string(dir.path().join("done")).unwrap(), "kept");
}

#[test]
fn what_is_no_file_of_ours_is_never_opened_for_writing() {
    let (dir, folder) = place();
    fs::write(dir.path().join("victim"), "precious").unwrap();
    fs::hard_link(dir.path().join("victim"), dir.path().join("second")).unwrap();
    symlink("victim", dir.path().join("link")).unwrap();
    symlink("missing", dir.path().join("dangling")).unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    mkfifoat(CWD, dir.path().join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    assert!(matches!(folder.create_or_open_part("second"), Err(TreeError::Io(..))));
    assert!(matches!(
        folder.create_or_open_part("link"),
        Err(TreeError::NotServed(UnservedKind::Link))
    ));
    assert!(matches!(
        folder.create_or_open_part("dangling"),
        Err(TreeError::NotServed(UnservedKind::Link))
    ));
    assert!(matches!(folder.create_or_open_part("folder"), Err(TreeError::IsFolder)));
    assert!(matches!(
        folder.create_or_open_part("fifo"),
        Err(TreeError::NotServed(UnservedKind::Special))
    ));
    for name in ["victim", "link", "dangling", "folder", "fifo"] {
        assert!(matches!(folder.create_new(name), Err(TreeError::Taken)), "{name}");
    }
    assert!(!dir.path().join("missing").exists());
    assert_eq!(fs::read_to_string(dir.path().join("victim")).unwrap(), "precious");
}

#[test]
fn renames_replace_files_and_links_but_no_folder() {
    let (dir, folder) = place();
    fs::write(dir.path().join("victim"), "precious").unwrap();
    symlink("victim", dir.path().join("link")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    folder.create_new("new").unwrap().write_all(b"new").unwrap();
    assert!(matches!(folder.rename("new", "empty"), Err(TreeError::IsFolder)));
    assert!(matches!(folder.rename("other", "empty"), Err(TreeError::IsFolder)));
    assert!(matches!(folder.move_new("new", &folder, "link"), Err(TreeError::Taken)));
    folder.rename("new", "link").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("victim")).unwrap(), "precious");
    assert!(fs::symlink_metadata(dir.path().join("link")).unwrap().is_file());
    folder.move_new("link", &folder, "fresh").unwrap();
    assert!(matches!(folder.unlink("empty"), Err(TreeError::IsFolder)));
    assert!(matches!(folder.unlink("none"), Err(TreeError::NotFound)));
    folder.unlink("fresh").unwrap();
    folder.make_folder("sub", true).unwrap();
    assert_eq!(fs::metadata(dir.path().join("sub")).unwrap().mode() & 0o777, 0o700);
    folder.sync().unwrap();
}

#[test]
fn sets_time_and_rights() {
    let (dir, folder) = place();
    let file = folder.create_new("f").unwrap();
    set_times(&file, FileTime { seconds: -5, nanos: 7 }).unwrap();
    let now = || fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!((now().mtime(), now().mtime_nsec()), (-5, 7));
    assert_eq!(now().mode() & 0o7777, 0o600, "only the owner reads it before it is complete");
    for (before, mode, after) in
        [(0o644, 0o755, 0o755), (0o4755, 0o755, 0o755), (0o777, 0o1600, 0o600)]
    {
        fs::set_permissions(dir.path().join("f"), fs::Permissions::from_mode(before)).unwrap();
        set_mode(&file, relais_proto::Mode::new(mode)).unwrap();
        assert_eq!(now().mode() & 0o7777, after, "{before:o}");
    }
}

#[test]
fn keeps_group_and_setgid_of_the_parent() {
    let (dir, folder) = place();
    let group = 4711;
    std::os::unix::fs::chown(dir.path(), None, Some(group)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2770)).unwrap();
    folder.make_folder_as("sub", relais_proto::Mode::new(0o775)).unwrap();
    let sub = fs::metadata(dir.path().join("sub")).unwrap();
    assert_eq!((sub.mode() & 0o7777, sub.gid()), (0o2775, group));
    set_mode(folder.sub("sub").unwrap(), relais_proto::Mode::new(0o750)).unwrap();
    assert_eq!(fs::metadata(dir.path().join("sub")).unwrap().mode() & 0o7777, 0o2750);
    let elsewhere = tempfile::TempDir::new().unwrap();
    let file = Folder::open(elsewhere.path()).unwrap().create_new("f").unwrap();
    assert!(folder.prepare(&file, relais_proto::Mode::new(0o640)).unwrap());
    let meta = file.metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o640, group));
    assert!(!folder.prepare(&file, relais_proto::Mode::new(0o640)).unwrap());
}

#[test]
fn a_file_replaces_a_file_or_a_link_and_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("victim"), "precious").unwrap();
    std::os::unix::fs::symlink("victim", dir.path().join("link")).unwrap();
    fs::write(dir.path().join("new"), "new").unwrap();
    assert!(matches!(folder.rename_file("new", "folder"), Err(TreeError::IsFolder)));
    assert!(folder.rename_file("new", "../out").is_err());
    folder.rename_file("new", "link").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("victim")).unwrap(), "precious");
    assert_eq!(fs::read_to_string(dir.path().join("link")).unwrap(), "new");
    assert!(matches!(folder.rename_file("new", "x"), Err(TreeError::NotFound)));
}
