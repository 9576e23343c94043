//! A pinned place: what gets a name, what is read and removed, and that no link is followed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use relais_proto::{FileTime, Identity, Mode};
use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, Place) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("top")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    let top = Folder::open(&dir.path().join("top")).unwrap();
    let place = Place::new(top, Path::new("top"));
    (dir, place)
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
fn content_gets_its_name_time_and_rights() {
    let (dir, mut place) = place();
    place.make(&path("a")).unwrap();
    place.make(&path("a")).unwrap();
    place.make(&path("a/b")).unwrap();
    place.store(&path("a/b/f"), &header(true), b"first").unwrap();
    place.store(&path("a/b/f"), &header(false), b"second").unwrap();
    place.store(&path("g"), &header(true), b"").unwrap();
    let meta = dir.path().join("top/a/b/f").metadata().unwrap();
    let mode = |meta: &fs::Metadata| meta.permissions().mode() & 0o7777;
    assert_eq!((meta.mtime(), meta.mtime_nsec(), mode(&meta)), (5, 7, 0o750), "it keeps its mode");
    place.store(&path("h"), &header(false), b"").unwrap();
    assert_eq!(mode(&dir.path().join("top/h").metadata().unwrap()), 0o640);
    assert_eq!(fs::read(dir.path().join("top/a/b/f")).unwrap(), b"second");
    assert_eq!(names(&dir.path().join("top/a/b")), ["f"]);
    assert_eq!(place.shown(&path("a/b/f")), "top/a/b/f");
}

#[test]
fn no_link_is_followed() {
    let (dir, mut place) = place();
    let top = dir.path().join("top");
    fs::write(dir.path().join("outside/victim"), "precious").unwrap();
    symlink(dir.path().join("outside"), top.join("folder")).unwrap();
    symlink(dir.path().join("outside/victim"), top.join("file")).unwrap();
    symlink(dir.path().join("outside/victim"), top.join(temporary("planted"))).unwrap();
    assert!(place.store(&path("folder/victim"), &header(false), b"x").is_err());
    assert!(place.make(&path("folder")).is_err() && place.make(&path("folder/new")).is_err());
    assert!(place.store(&path("planted"), &header(false), b"x").is_err());
    assert!(place.open(&path("file")).is_err() && place.read(&path("folder/victim"), 100).is_err());
    for kind in [Kind::File, Kind::Folder] {
        assert!(
            place.remove(&path("file"), kind).is_err()
                && place.remove(&path("folder"), kind).is_err()
        );
        assert!(place.remove(&path("folder/victim"), kind).is_err());
    }
    place.store(&path("file"), &header(false), b"x").unwrap();
    assert!(fs::symlink_metadata(top.join("file")).unwrap().is_file());
    assert_eq!(
        (fs::read(dir.path().join("outside/victim")).unwrap(), names(&dir.path().join("outside"))),
        (b"precious".to_vec(), vec!["victim".to_owned()])
    );
}

#[test]
fn a_folder_that_becomes_a_link_is_left() {
    let (dir, mut place) = place();
    place.make(&path("a")).unwrap();
    place.store(&path("a/f"), &header(false), b"1").unwrap();
    fs::rename(dir.path().join("top/a"), dir.path().join("moved")).unwrap();
    symlink(dir.path().join("outside"), dir.path().join("top/a")).unwrap();
    // The handle that is kept still leads to the folder that it was opened on.
    place.store(&path("a/g"), &header(false), b"2").unwrap();
    place.store(&path("h"), &header(false), b"2").unwrap();
    assert!(names(&dir.path().join("outside")).is_empty());
    place.last = None;
    assert!(place.store(&path("a/g"), &header(false), b"2").is_err());
}

#[test]
fn files_and_folders_are_removed_as_what_they_were() {
    let (dir, mut place) = place();
    place.make(&path("a")).unwrap();
    place.store(&path("a/f"), &header(false), b"1").unwrap();
    assert!(matches!(place.remove(&path("a"), Kind::Folder), Err(TreeError::NotEmpty)));
    assert!(matches!(place.remove(&path("a"), Kind::File), Err(TreeError::IsFolder)));
    assert!(matches!(place.remove(&path("a/f"), Kind::Folder), Err(TreeError::NotFolder)));
    place.remove(&path("a/f"), Kind::File).unwrap();
    place.remove(&path("a"), Kind::Folder).unwrap();
    assert!(matches!(place.remove(&path("a"), Kind::Folder), Err(TreeError::NotFound)));
    assert!(names(&dir.path().join("top")).is_empty());
}

#[test]
fn small_files_are_read_whole_and_long_ones_are_not() {
    let (dir, mut place) = place();
    fs::write(dir.path().join("top/f"), "12345").unwrap();
    let content = place.read(&path("f"), 5).unwrap().unwrap();
    assert_eq!((content.bytes.as_slice(), content.file.meta.size), (&b"12345"[..], 5));
    assert!(place.read(&path("f"), 4).unwrap().is_none());
}

#[test]
fn what_a_killed_run_left_is_taken_over() {
    let (dir, mut place) = place();
    fs::write(dir.path().join("top").join(temporary("f")), "longer than what comes").unwrap();
    place.store(&path("f"), &header(false), b"new").unwrap();
    assert_eq!(fs::read(dir.path().join("top/f")).unwrap(), b"new");
    let held = place.top().create_or_open_part(temporary("f")).unwrap();
    assert!(matches!(place.store(&path("f"), &header(false), b"newer"), Err(TreeError::InUse)));
    drop(held);
}
