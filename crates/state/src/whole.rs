//! Files that are written whole: whoever reads one finds the former bytes or the new ones, also after a crash at any moment.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts `bytes` in place of the file at `path`, with mode 0600: written beside it under its name and `.new`, synced, renamed, and
/// the folder synced. It is on disk once this returns.
///
/// # Errors
/// What the system said. The former file is there still, unless the last sync alone failed.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_of(path, bytes, None)
}

/// As [`replace_file`]; the file belongs to this user and group.
///
/// # Errors
/// As there.
pub(crate) fn replace_file_of(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))?;
    let mut temp = OsString::from(name);
    temp.push(".new");
    let temp = path.with_file_name(temp);
    // What a crash has left there goes: it may be a link or have another mode.
    match std::fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
    file.write_all(bytes)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
    }
    file.sync_all()?;
    std::fs::rename(&temp, path)?;
    sync_folder_of(path)
}

/// Waits until the names in the folder of `path` are on disk.
///
/// # Errors
/// What the system said.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_new_bytes_take_the_place_of_the_former_ones() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        std::os::unix::fs::symlink("/nowhere/else", temp.path().join("file.new")).unwrap();
        for bytes in [&b"one"[..], b"", b"three"] {
            replace_file(&path, bytes).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
        assert!(replace_file(&temp.path().join("no/folder"), b"x").is_err());
    }
}
