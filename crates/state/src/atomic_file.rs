//! Files that are written whole: whoever reads one finds the former bytes or the new ones, also after a crash at any moment.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Puts `bytes` in place of the file at `path`, with mode 0600: written beside it under a name of its own, synced, renamed, and
/// the folder synced. Of several who do that at once one is the last. It is on disk once this returns.
///
/// # Errors
/// What the system said. The former file is there still, unless the last sync alone failed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomically_as(path, bytes, None)
}

/// As [`write_atomically`]; the file belongs to this user and group.
///
/// # Errors
/// As there.
pub(crate) fn write_atomically_as(
    path: &Path,
    bytes: &[u8],
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))?;
    let mut temp = OsString::from(".");
    temp.push(name);
    temp.push(format!(".{:016x}.new", u64::from_le_bytes(crate::random()?)));
    let temp = path.with_file_name(temp);
    let written = write_new(&temp, bytes, owner).and_then(|()| std::fs::rename(&temp, path));
    if written.is_err() {
        // Where it was made at all.
        let _ = std::fs::remove_file(&temp);
    }
    written?;
    sync_folder_of(path)
}

/// Writes a new file with mode 0600, and has it on the disk.
///
/// # Errors
/// What the system said.
pub(crate) fn write_new(temp: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temp)?;
    file.write_all(bytes)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
    }
    file.sync_all()
}

/// The path to show to people: a path by way of a descriptor, as `/proc/self/fd/7/journal`, is replaced by the one that
/// the descriptor has now.
#[must_use]
pub fn display_path(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if folder.starts_with("/proc/self/fd") => {
            std::fs::read_link(folder).map_or_else(|_| path.to_owned(), |folder| folder.join(name))
        }
        _ => path.to_owned(),
    }
}

/// Waits until the names in the folder of `path` are on disk.
///
/// # Errors
/// What the system said.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
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
        for bytes in [&b"one"[..], b"", b"three"] {
            write_atomically(&path, bytes).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
        assert!(write_atomically(&temp.path().join("no/folder"), b"x").is_err());
        std::thread::scope(|scope| {
            for n in 0..8_u8 {
                let path = &path;
                scope.spawn(move || write_atomically(path, &[n; 1000]).unwrap());
            }
        });
        let last = std::fs::read(&path).unwrap();
        assert_eq!(last, [last[0]; 1000]);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    }
}
