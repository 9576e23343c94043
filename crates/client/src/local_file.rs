//! Opening, checking and finishing single local files.
//!
//! Files are opened, renamed and removed through a pinned folder only. Only regular files are
//! opened, because opening a device can have effects.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use relais_proto::{ErrorCode, FileTime, FolderId, Identity, Mode};
use relais_tree::{
    Folder, Meta, MetaKind, OpenFile, TreeError, UnservedKind, set_mode, set_times, umask,
};

use crate::local::openable;
use crate::transfer_log::is_reserved;
use crate::{Failure, Result};

/// Opens a folder that the user named.
///
/// # Errors
/// The folder cannot be opened.
pub fn open_folder(path: &Path) -> Result<Folder> {
    let path = openable(path);
    Folder::open(path).map_err(|e| tree_failure(&path.display().to_string(), &e))
}

/// Opens the file that the user named; links are followed, as in `cp`.
///
/// # Errors
/// It is not a regular file, or it cannot be opened.
pub fn open_named(path: &Path, shown: &str) -> Result<OpenFile> {
    let is_folder = || failure!(IsFolder, "{shown} is a folder; put -r sends folders");
    let real = openable(path).canonicalize().map_err(|e| Failure::local(Path::new(shown), &e))?;
    let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(is_folder());
    };
    Folder::open(folder).and_then(|folder| open_regular(&folder, name)).map_err(|e| match e {
        TreeError::IsFolder => is_folder(),
        TreeError::NotServed(_) => {
            failure!(Local, "{shown}: it is not a regular file; only files and folders can be sent")
        }
        other => tree_failure(shown, &other),
    })
}

/// Opens a regular file directly in `folder`.
///
/// # Errors
/// It is not a regular file, or it cannot be opened.
pub fn open_regular(folder: &Folder, name: impl AsRef<OsStr>) -> Result<OpenFile, TreeError> {
    let meta = folder.stat_part(name.as_ref().as_bytes())?;
    match unserved_kind(&meta) {
        Some(kind) => Err(TreeError::NotServed(kind)),
        None if meta.kind == MetaKind::Folder => Err(TreeError::IsFolder),
        None => folder.open_read(name),
    }
}

/// Returns what an entry is, if it is neither a file nor a folder.
pub fn unserved_kind(meta: &Meta) -> Option<UnservedKind> {
    match meta.kind {
        MetaKind::Link => Some(UnservedKind::Link),
        MetaKind::Special => Some(UnservedKind::Special),
        MetaKind::File | MetaKind::Folder => None,
    }
}

/// Returns the identity of a local file: its location and the time of its last change.
pub fn identity(local: &OpenFile) -> Identity {
    // Local files lie in no served folder.
    local.meta.identity(&FolderId([0; 16]))
}

/// Checks that a fetched file may get a name: it is not reserved, and no folder or device has it.
///
/// # Errors
/// The file cannot have the name.
pub fn check_target(folder: &Folder, name: &str, shown: &str) -> Result<()> {
    if is_reserved(name) {
        fail!(Local, "{shown}: ftpclient uses that name itself; choose another with -o");
    }
    let refused = match folder.stat_part(name.as_bytes()) {
        Ok(meta) if meta.kind == MetaKind::Folder => TreeError::IsFolder,
        Ok(meta) if meta.kind == MetaKind::Special => TreeError::NotServed(UnservedKind::Special),
        Ok(_) | Err(TreeError::NotFound) => return Ok(()),
        Err(e) => e,
    };
    Err(tree_failure(shown, &refused))
}

/// Sets mode and time of a fetched file before it gets its name.
///
/// The mode is that of the replaced file, else the server's mode without the umask's bits. The file
/// is not synced: like other download programs, the client leaves that to the system.
///
/// # Errors
/// A system call fails.
pub fn set_received(
    file: &File,
    folder: &Folder,
    name: &str,
    mode: Mode,
    mtime: FileTime,
) -> Result<(), TreeError> {
    let mode = match folder.stat_part(name.as_bytes()) {
        Ok(there) if there.kind == MetaKind::File => there.mode,
        Ok(_) | Err(TreeError::NotFound) => mode.masked(umask()),
        Err(e) => return Err(e),
    };
    set_mode(file, mode)?;
    set_times(file, mtime)
}

/// Converts an error into a failure that names the file.
pub fn tree_failure(shown: &str, error: &TreeError) -> Failure {
    let why = match error {
        TreeError::InUse => "another ftpclient is working on it".to_owned(),
        TreeError::NotServed(what) => format!("it is {what}, or its path contains one"),
        full if full.is_full() => {
            "the local disk is full; free some space, then run the same command again to resume"
                .to_owned()
        }
        other => other.to_string(),
    };
    let code = match error {
        TreeError::NotEmpty => ErrorCode::NotEmpty,
        full if full.is_full() => ErrorCode::NoSpace,
        _ => ErrorCode::Local,
    };
    Failure::new(code, format!("{shown}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for (link, to) in [
            ("to-file", "file"),
            ("to-folder", "folder"),
            ("to-nothing", "none"),
            ("to-device", "/dev/zero"),
        ] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::from_raw_mode(0o600))
            .unwrap();
        let code = |name: &str| {
            open_named(&at(name), name).map(|open| open.meta.size).map_err(|failure| failure.code)
        };
        assert_eq!((code("file"), code("to-file")), (Ok(1), Ok(1)));
        for (name, wanted) in [
            ("folder", ErrorCode::IsFolder),
            ("to-folder", ErrorCode::IsFolder),
            ("/", ErrorCode::IsFolder),
            ("none", ErrorCode::Local),
            ("to-nothing", ErrorCode::Local),
            ("file/", ErrorCode::Local),
            ("fifo", ErrorCode::Local),
            ("to-device", ErrorCode::Local),
        ] {
            assert_eq!(code(name), Err(wanted), "{name}");
        }
        assert!(open_named(&at("folder"), "folder").unwrap_err().message.contains("put -r"));
        let folder = Folder::open(dir.path()).unwrap();
        assert!(matches!(open_regular(&folder, "to-file"), Err(TreeError::NotServed(_))));
    }

    #[test]
    fn changed_content_changes_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let now = || identity(&open_named(&path, "file").unwrap());
        std::fs::write(&path, "x").unwrap();
        let before = now();
        assert_eq!(now(), before);
        std::fs::write(&path, "xy").unwrap();
        assert_ne!(now(), before);
    }
}
