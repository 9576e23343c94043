//! Opening a regular file to send, and its identity.

use std::path::Path;

use relais_proto::{FolderId, Identity};
use relais_tree::{Folder, MetaKind, OpenFile, TreeError, UnservedKind};

use crate::local::openable;
use crate::{Failure, Result};

/// Opens the file that the user named.
///
/// Links are followed, as in `cp`. Only regular files are opened, because opening a device can have
/// effects.
pub fn named(path: &Path, shown: &str) -> Result<OpenFile> {
    let real = openable(path).canonicalize().map_err(|e| Failure::local(Path::new(shown), &e))?;
    let is_folder = || failure!(IsFolder, "{shown} is a folder; put -r sends folders");
    let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(is_folder());
    };
    match Folder::open(folder).and_then(|folder| regular(&folder, name)) {
        Ok(open) => Ok(open),
        Err(TreeError::IsFolder) => Err(is_folder()),
        Err(e) => Err(failure!(Local, "{shown}: {}", why(&e))),
    }
}

/// Opens a regular file directly in `folder`.
pub fn regular(folder: &Folder, name: impl AsRef<std::ffi::OsStr>) -> Result<OpenFile, TreeError> {
    use std::os::unix::ffi::OsStrExt;
    match folder.stat_part(name.as_ref().as_bytes())?.kind {
        MetaKind::File => folder.open_read(name),
        MetaKind::Folder => Err(TreeError::IsFolder),
        MetaKind::Link => Err(TreeError::NotServed(UnservedKind::Link)),
        MetaKind::Special => Err(TreeError::NotServed(UnservedKind::Special)),
    }
}

/// Returns the identity of a local file: its location and the time of its last change.
pub fn identity(local: &OpenFile) -> Identity {
    // Local files lie in no served folder.
    local.meta.identity(&FolderId([0; 16]))
}

fn why(error: &TreeError) -> String {
    match error {
        TreeError::NotServed(_) => {
            "it is not a regular file; only files and folders can be sent".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::ErrorCode;

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
            named(&at(name), name).map(|open| open.meta.size).map_err(|failure| failure.code)
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
        assert!(named(&at("folder"), "folder").unwrap_err().message.contains("put -r"));
        let folder = Folder::open(dir.path()).unwrap();
        assert!(matches!(regular(&folder, "to-file"), Err(TreeError::NotServed(_))));
    }

    #[test]
    fn changed_content_changes_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let now = || identity(&named(&path, "file").unwrap());
        std::fs::write(&path, "x").unwrap();
        let before = now();
        assert_eq!(now(), before);
        std::fs::write(&path, "xy").unwrap();
        assert_ne!(now(), before);
    }
}
