//! The pinned tree: storing, reading, removing, and that no link is followed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use relais_proto::{FileTime, Identity, Mode};
use tempfile::TempDir;

use super::*;

fn tree() -> (TempDir, LocalTree) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("top")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    let top = Folder::open(&dir.path().join("top")).unwrap();
    let tree = LocalTree::new(top, Path::new("top"));
    (dir, tree)
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn header(executable: bool) -> ContentHeader {
    let mode = Mode::new(if executable { 0o750 } else { 0o640 });
    let (mtime, identity) = (FileTime { seconds: 5, nanos: 7 }, Identity([0; 16]));
    ContentHeader {
        size: 1,
        offset: 0,
        length: 1,
        block_size: 1,
        mtime,
        mode,
        version: None,
        digest: None,
        identity,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        dir.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn stored_content_has_name_time_and_mode() {
    let (dir, mut tree) = tree();
    tree.make(&path("a")).unwrap();
    tree.make(&path("a")).unwrap();
    tree.make(&path("a/b")).unwrap();
    tree.store(&path("a/b/f"), &header(true), b"first").unwrap();
    tree.store(&path("a/b/f"), &header(false), b"second").unwrap();
    tree.store(&path("g"), &header(true), b"").unwrap();
    let meta = dir.path().join("top/a/b/f").metadata().unwrap();
    let mode = |meta: &fs::Metadata| meta.permissions().mode() & 0o7777;
    assert_eq!((meta.mtime(), meta.mtime_nsec(), mode(&meta)), (5, 7, 0o750), "it keeps its mode");
    tree.store(&path("h"), &header(false), b"").unwrap();
    assert_eq!(mode(&dir.path().join("top/h").metadata().unwrap()), 0o640);
    assert_eq!(fs::read(dir.path().join("top/a/b/f")).unwrap(), b"second");
    assert_eq!(names(&dir.path().join("top/a/b")), ["f"]);
    assert_eq!(tree.shown(&path("a/b/f")), "top/a/b/f");
}

#[test]
fn links_are_not_followed() {
    let (dir, mut tree) = tree();
    let top = dir.path().join("top");
    fs::write(dir.path().join("outside/victim"), "precious").unwrap();
    symlink(dir.path().join("outside"), top.join("folder")).unwrap();
    symlink(dir.path().join("outside/victim"), top.join("file")).unwrap();
    symlink(dir.path().join("outside/victim"), top.join(temporary("planted"))).unwrap();
    assert!(tree.store(&path("folder/victim"), &header(false), b"x").is_err());
    assert!(tree.make(&path("folder")).is_err() && tree.make(&path("folder/new")).is_err());
    assert!(tree.store(&path("planted"), &header(false), b"x").is_err());
    assert!(tree.open(&path("file")).is_err() && tree.read(&path("folder/victim"), 100).is_err());
    for kind in [Kind::File, Kind::Folder] {
        assert!(
            tree.remove(&path("file"), kind).is_err()
                && tree.remove(&path("folder"), kind).is_err()
        );
        assert!(tree.remove(&path("folder/victim"), kind).is_err());
    }
    tree.store(&path("file"), &header(false), b"x").unwrap();
    assert!(fs::symlink_metadata(top.join("file")).unwrap().is_file());
    assert_eq!(
        (fs::read(dir.path().join("outside/victim")).unwrap(), names(&dir.path().join("outside"))),
        (b"precious".to_vec(), vec!["victim".to_owned()])
    );
}

#[test]
fn folder_replaced_by_a_link_is_not_entered() {
    let (dir, mut tree) = tree();
    tree.make(&path("a")).unwrap();
    tree.store(&path("a/f"), &header(false), b"1").unwrap();
    fs::rename(dir.path().join("top/a"), dir.path().join("moved")).unwrap();
    symlink(dir.path().join("outside"), dir.path().join("top/a")).unwrap();
    // The open handle still leads to the folder that it was opened on.
    tree.store(&path("a/g"), &header(false), b"2").unwrap();
    tree.store(&path("h"), &header(false), b"2").unwrap();
    assert!(names(&dir.path().join("outside")).is_empty());
    tree.last = None;
    assert!(tree.store(&path("a/g"), &header(false), b"2").is_err());
}

#[test]
fn removal_checks_the_listed_kind() {
    let (dir, mut tree) = tree();
    tree.make(&path("a")).unwrap();
    tree.store(&path("a/f"), &header(false), b"1").unwrap();
    assert!(matches!(tree.remove(&path("a"), Kind::Folder), Err(TreeError::NotEmpty)));
    assert!(matches!(tree.remove(&path("a"), Kind::File), Err(TreeError::IsFolder)));
    assert!(matches!(tree.remove(&path("a/f"), Kind::Folder), Err(TreeError::NotFolder)));
    tree.remove(&path("a/f"), Kind::File).unwrap();
    tree.remove(&path("a"), Kind::Folder).unwrap();
    assert!(matches!(tree.remove(&path("a"), Kind::Folder), Err(TreeError::NotFound)));
    assert!(names(&dir.path().join("top")).is_empty());
}

#[test]
fn only_small_files_are_read_into_memory() {
    let (dir, mut tree) = tree();
    fs::write(dir.path().join("top/f"), "12345").unwrap();
    let (content, meta) = tree.read(&path("f"), 5).unwrap().unwrap();
    assert_eq!((content.as_slice(), meta.size), (&b"12345"[..], 5));
    assert!(tree.read(&path("f"), 4).unwrap().is_none());
}

#[test]
fn temporary_file_of_a_killed_run_is_reused() {
    let (dir, mut tree) = tree();
    fs::write(dir.path().join("top").join(temporary("f")), "longer than what comes").unwrap();
    tree.store(&path("f"), &header(false), b"new").unwrap();
    assert_eq!(fs::read(dir.path().join("top/f")).unwrap(), b"new");
    let held = tree.top.create_or_open_part(temporary("f")).unwrap();
    assert!(matches!(tree.store(&path("f"), &header(false), b"newer"), Err(TreeError::InUse)));
    drop(held);
}
