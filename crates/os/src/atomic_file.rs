//! Atomic replacement of files: a reader finds the old or the new bytes, even after a crash.

use std::ffi::{OsStr, OsString};
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::random::random;

/// Suffix of temporary files, after a dot, the name of the file and 16 random hexadecimal digits.
const TEMPORARY: &str = ".new";

/// Replaces the file at `path` by `bytes`, with mode 0600; on disk when this returns.
///
/// It writes a file of a unique name beside it, syncs it, renames it and syncs the folder. Of
/// concurrent writers the last one wins.
///
/// # Errors
/// Errors of the system calls. The old file is still there, unless only the last sync failed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomically_as(path, bytes, None)
}

/// Replaces a file as [`write_atomically`] does; `owner` sets its user and group.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_atomically_as(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    publish(path, &[bytes], owner, |temp| std::fs::rename(temp, path))
}

/// Replaces a file as [`write_atomically`] does, by parts one after another.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_parts_atomically(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    publish(path, parts, None, |temp| std::fs::rename(temp, path))
}

/// Creates the file at `path` with `bytes` and mode 0600, unless it is there already.
///
/// # Errors
/// Errors of the system calls.
pub fn create_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    publish(path, &[bytes], None, |temp| {
        match std::fs::hard_link(temp, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
        std::fs::remove_file(temp)
    })
}

/// Writes a file of a unique name beside `path`, which `place` gives its name, and syncs the
/// folder.
fn publish(
    path: &Path,
    parts: &[&[u8]],
    owner: Option<(u32, u32)>,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))?;
    let mut temp = OsString::from(".");
    temp.push(name);
    temp.push(format!(".{:016x}{TEMPORARY}", u64::from_le_bytes(random()?)));
    let temp = path.with_file_name(temp);
    let written = write_new(&temp, parts, owner).and_then(|_locked| place(&temp));
    if written.is_err() {
        // It may not have been created.
        let _ = std::fs::remove_file(&temp);
    }
    written?;
    sync_folder_of(path)
}

/// Creates a temporary file with mode 0600 and syncs it.
///
/// The result holds the file's lock. Keep it until the file is renamed or removed.
///
/// # Errors
/// Errors of the system calls.
fn write_new(temp: &Path, parts: &[&[u8]], owner: Option<(u32, u32)>) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temp)?;
    // Without locks in this file system a temporary file is never removed.
    let _ = file.try_lock();
    parts.iter().try_for_each(|part| file.write_all(part))?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Removes temporary files that killed writers have left in a folder. Failures are logged.
///
/// A writer locks its file until the rename, so a file without a lock has no writer.
pub fn remove_temporary_files(folder: &Path) {
    let remove = |entry: DirEntry| {
        if is_temporary(&entry.file_name()) && entry.file_type()?.is_file() {
            File::open(entry.path())?.try_lock()?;
            std::fs::remove_file(entry.path())?;
        }
        Ok(())
    };
    let swept = std::fs::read_dir(folder)
        .and_then(|mut entries| entries.try_for_each(|entry| entry.and_then(remove)));
    if let Err(e) = swept {
        let folder = display_path(&folder.join("."));
        log::warn!("cannot remove all temporary files in {}: {e}", folder.display());
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let unique = || name.to_str()?.strip_prefix('.')?.strip_suffix(TEMPORARY)?.rsplit_once('.');
    unique().is_some_and(|(_, unique)| {
        unique.len() == 16 && unique.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Returns the path to show in messages.
///
/// A path through a descriptor, such as `/proc/self/fd/7/journal`, is replaced by the present path
/// of that descriptor.
#[must_use]
pub fn display_path(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if folder.starts_with("/proc/self/fd") => {
            std::fs::read_link(folder).map_or_else(|_| path.to_owned(), |folder| folder.join(name))
        }
        _ => path.to_owned(),
    }
}

/// Syncs the folder of `path`, so that its names are on disk.
///
/// # Errors
/// Errors of the system calls.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn temporary_files_without_a_writer_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        let written = path(".file.00112233445566aa.new");
        let locked = write_new(&written, &[b"x"], None).unwrap();
        let others = [".file.new", "file.00112233445566aa.new", ".file.0011.new", ".file"];
        for name in
            others.into_iter().chain([".file.00112233445566bb.new", ".a.b.0000000000000000.new"])
        {
            std::fs::write(path(name), name).unwrap();
        }
        remove_temporary_files(temp.path());
        let mut names: Vec<_> = std::fs::read_dir(temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut wanted = others.map(str::to_owned).to_vec();
        wanted.push(".file.00112233445566aa.new".to_owned());
        wanted.sort();
        assert_eq!(names, wanted, "the writer is at work");
        drop(locked);
        remove_temporary_files(temp.path());
        assert!(!written.exists());
    }

    #[test]
    fn replaces_a_file_and_leaves_no_temporary_one() {
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
