//! Names that try to lead out of the folder, and things in it that are no files. Each runs with
//! the kernel's way of resolving and with the walk.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use relais_proto::{ErrorCode, TreePath};
use rustix::fs::{CWD, FileType, Mode, makedev, mkfifoat, mknodat};
use tempfile::TempDir;

use crate::{Folder, MetaKind, TreeError, UnservedKind};

pub(super) fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

/// A served folder with `in/file`, and beside it a folder that shares its name as a prefix.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("root/in")).unwrap();
        fs::write(dir.path().join("root/in/file"), "inside").unwrap();
        fs::create_dir(dir.path().join("root-secret")).unwrap();
        fs::write(dir.path().join("root-secret/file"), "outside").unwrap();
        Self { dir }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    fn folder(&self) -> Folder {
        Folder::open(&self.root()).unwrap()
    }
}

fn read(folder: &Folder, name: &str) -> Result<String, TreeError> {
    let mut open = folder.open_file(&path(name))?;
    let mut text = String::new();
    open.file.read_to_string(&mut text).unwrap();
    assert_eq!(open.meta.size, text.len() as u64);
    assert!(open.is_unchanged().unwrap());
    Ok(text)
}

#[test]
fn opens_what_is_there() {
    let place = Place::new();
    let folder = place.folder();
    assert_eq!(read(&folder, "in/file").unwrap(), "inside");
    assert_eq!(read(&folder.open_folder(&path("in")).unwrap(), "file").unwrap(), "inside");
    assert_eq!(folder.stat(&path("in/file")).unwrap().kind, MetaKind::File);
    assert_eq!(folder.stat(&path("")).unwrap().kind, MetaKind::Folder);
    assert_eq!(folder.stat(&path("")).unwrap(), folder.meta().unwrap());
    assert_eq!(
        folder.open_folder(&path("")).unwrap().meta().unwrap().ino,
        folder.meta().unwrap().ino
    );
}

#[test]
fn says_what_is_there_instead() {
    let place = Place::new();
    let folder = place.folder();
    assert!(matches!(read(&folder, "in"), Err(TreeError::IsFolder)));
    assert!(matches!(read(&folder, ""), Err(TreeError::IsFolder)));
    assert!(matches!(read(&folder, "none"), Err(TreeError::NotFound)));
    assert!(matches!(read(&folder, "in/none/x"), Err(TreeError::NotFound)));
    assert!(matches!(read(&folder, "in/file/x"), Err(TreeError::NotFolder)));
    assert!(matches!(folder.open_folder(&path("in/file")), Err(TreeError::NotFolder)));
    assert!(matches!(folder.stat(&path("in/file/x")), Err(TreeError::NotFolder)));
}

#[test]
fn parts_never_lead_up_or_down() {
    let place = Place::new();
    let folder = place.folder();
    for part in ["..", ".", "", "/", "in/file", "/etc", "../root-secret", "\0"] {
        assert!(folder.sub(part).is_err(), "{part:?}");
        assert!(folder.open_read(part).is_err(), "{part:?}");
        assert!(folder.create_new(part).is_err(), "{part:?}");
        assert!(folder.create_or_open_part(part).is_err(), "{part:?}");
        assert!(
            folder.rename("in", part).is_err() && folder.rename(part, "x").is_err(),
            "{part:?}"
        );
        assert!(folder.unlink(part).is_err(), "{part:?}");
    }
    assert!(folder.stat_part(b"../root-secret").is_err());
}

#[test]
fn follows_no_link() {
    let place = Place::new();
    let outside = place.dir.path().join("root-secret");
    symlink(&outside, place.root().join("folder")).unwrap();
    symlink(outside.join("file"), place.root().join("file")).unwrap();
    symlink("in", place.root().join("inner")).unwrap();
    symlink("../root-secret", place.root().join("up")).unwrap();
    symlink("nowhere", place.root().join("dangling")).unwrap();
    symlink("loop", place.root().join("loop")).unwrap();
    symlink("/proc/self/root", place.root().join("magic")).unwrap();
    let folder = place.folder();
    for name in [
        "folder/file",
        "file",
        "inner/file",
        "up/file",
        "dangling",
        "loop",
        "loop/x",
        "magic",
        "magic/etc/passwd",
    ] {
        let error = read(&folder, name).unwrap_err();
        assert!(matches!(error, TreeError::NotServed(UnservedKind::Link)), "{name}: {error:?}");
        assert_eq!(error.code(), ErrorCode::NotServed);
    }
    for name in ["folder", "inner", "up", "loop", "magic"] {
        let error = folder.open_folder(&path(name)).unwrap_err();
        assert!(matches!(error, TreeError::NotServed(UnservedKind::Link)), "{name}: {error:?}");
        assert!(folder.sub(name).is_err());
        assert_eq!(folder.stat(&path(name)).unwrap().kind, MetaKind::Link);
    }
    assert!(matches!(folder.open_read("file"), Err(TreeError::NotServed(UnservedKind::Link))));
}

#[test]
fn opens_no_special_file() {
    let place = Place::new();
    mkfifoat(CWD, place.root().join("fifo"), Mode::RUSR).unwrap();
    let _listener = UnixListener::bind(place.root().join("socket")).unwrap();
    let device = mknodat(
        CWD,
        place.root().join("device"),
        FileType::CharacterDevice,
        Mode::RUSR,
        makedev(1, 5),
    );
    let mut names = vec!["fifo", "socket"];
    match device {
        Ok(()) => names.push("device"),
        Err(e) => eprintln!("SKIPPED the part with a device: mknod needs root ({e})"),
    }
    let folder = place.folder();
    for name in &names {
        let error = read(&folder, name).unwrap_err();
        // Who may make devices may also be kept from opening them.
        assert_eq!(error.code(), ErrorCode::NotServed, "{name}: {error:?}");
        assert_eq!(folder.stat(&path(name)).unwrap().kind, MetaKind::Special);
    }
}

#[test]
fn long_and_odd_names_work() {
    let place = Place::new();
    let long = "n".repeat(255);
    fs::write(place.root().join(&long), "long").unwrap();
    fs::write(place.root().join(OsStr::from_bytes(b"\xff\xfe")), "odd").unwrap();
    let folder = place.folder();
    assert_eq!(read(&folder, &long).unwrap(), "long");
    let mut names: Vec<_> = folder.list().unwrap().map(|l| l.unwrap().name().to_vec()).collect();
    names.sort();
    assert_eq!(names, [b"in".to_vec(), long.clone().into_bytes(), b"\xff\xfe".to_vec()]);
    assert_eq!(folder.stat_part(b"\xff\xfe").unwrap().size, 3);
}

#[test]
fn the_folder_stays_the_same_when_its_path_changes() {
    let place = Place::new();
    let folder = place.folder();
    let moved = place.dir.path().join("moved");
    fs::rename(place.root(), &moved).unwrap();
    symlink("root-secret", place.root()).unwrap();
    assert_eq!(read(&folder, "in/file").unwrap(), "inside");
    fs::remove_file(place.root()).unwrap();
    fs::rename(&moved, place.root()).unwrap();
}

#[test]
fn a_change_is_noticed() {
    let place = Place::new();
    let folder = place.folder();
    let open = folder.open_file(&path("in/file")).unwrap();
    fs::hard_link(place.root().join("in/file"), place.root().join("kept")).unwrap();
    let replaced = folder.open_file(&path("in/file")).unwrap();
    assert!(replaced.is_unchanged().unwrap());
    fs::remove_file(place.root().join("kept")).unwrap();
    assert!(replaced.is_unchanged().unwrap(), "only a name is gone");
    let time = fs::metadata(place.root().join("in/file")).unwrap().modified().unwrap();
    fs::write(place.root().join("in/file"), "INSIDE").unwrap();
    fs::File::options()
        .write(true)
        .open(place.root().join("in/file"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    assert!(!open.is_unchanged().unwrap(), "same size, same time, other content");
    let open = folder.open_file(&path("in/file")).unwrap();
    assert!(open.is_unchanged().unwrap());
    fs::write(place.root().join("in/file"), "longer than before").unwrap();
    assert!(!open.is_unchanged().unwrap());
    fs::write(place.root().join("in/file"), "inside").unwrap();
}

/// Mounts need rights and a name space of their own, so a child process has them.
#[test]
fn mount_points_are_not_served() {
    const INSIDE: &str = "RELAIS_TEST_MOUNTED";
    if let Some(root) = std::env::var_os(INSIDE) {
        let folder = Folder::open(root.as_ref()).unwrap();
        assert!(matches!(
            folder.open_folder(&path("tmpfs")),
            Err(TreeError::NotServed(UnservedKind::Mount))
        ));
        assert!(matches!(
            folder.stat(&path("tmpfs/x")),
            Err(TreeError::NotServed(UnservedKind::Mount))
        ));
        assert!(matches!(read(&folder, "tmpfs/x"), Err(TreeError::NotServed(UnservedKind::Mount))));
        assert!(matches!(folder.sub("tmpfs"), Err(TreeError::NotServed(UnservedKind::Mount))));
        // A bind mount has the same device.
        assert!(matches!(read(&folder, "in/file"), Err(TreeError::NotServed(UnservedKind::Mount))));
        return;
    }
    let place = Place::new();
    fs::create_dir(place.root().join("tmpfs")).unwrap();
    let script = "mount -t tmpfs none \"$1/tmpfs\" && echo x > \"$1/tmpfs/x\" && mount --bind \"$2/file\" \"$1/in/file\" || exit 77; \
                  exec \"$3\" --exact tests::tricks::mount_points_are_not_served";
    let outside = place.dir.path().join("root-secret");
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([
            place.root().as_os_str(),
            outside.as_os_str(),
            std::env::current_exe().unwrap().as_os_str(),
        ])
        .env(INSIDE, place.root())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output)
            if output.status.code() == Some(77)
                || !output.stderr.is_empty() && output.stdout.is_empty() =>
        {
            eprintln!(
                "SKIPPED: mounting needs root ({})",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output) => panic!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(e) => eprintln!("SKIPPED: no program `unshare` ({e})"),
    }
}
