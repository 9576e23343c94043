//! Files that hold a secret: mode 0600, checked on each read, and created atomically.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use relais_os::{sync_folder_of, write_new};

/// The reason why a secret file cannot be used.
#[derive(Debug)]
pub(crate) enum SecretFileError {
    /// The group or others have permissions: the mode.
    Exposed(u32),
    /// The owner is neither the user of this process nor the owner of the folder: the user id.
    ForeignOwner(u32),
    /// The path is a folder, a pipe or the like.
    NotRegular,
    /// A system call failed.
    Io(io::Error),
}

/// Reads at most `cap` bytes; none if there is no file.
pub(crate) fn read(path: &Path, cap: u64) -> Result<Option<Vec<u8>>, SecretFileError> {
    // Without NONBLOCK a pipe at this path would block the process.
    let file = match rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(SecretFileError::Io(error.into())),
    };
    let meta = file.metadata().map_err(SecretFileError::Io)?;
    if !meta.is_file() {
        return Err(SecretFileError::NotRegular);
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed(mode));
    }
    // The owner of a file can read and replace it.
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let may = [
        0,
        rustix::process::geteuid().as_raw(),
        fs::metadata(folder).map_err(SecretFileError::Io)?.uid(),
    ];
    if !may.contains(&meta.uid()) {
        return Err(SecretFileError::ForeignOwner(meta.uid()));
    }
    let mut bytes = Vec::new();
    file.take(cap).read_to_end(&mut bytes).map_err(SecretFileError::Io)?;
    Ok(Some(bytes))
}

/// Creates a file with mode 0600 at `path`, unless a file is there already.
///
/// The file gets its name after its content is complete, so no reader sees half a secret.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))?;
    let unique = u64::from_le_bytes(relais_os::random()?);
    let temp = path.with_file_name(format!(".{}.{unique:016x}.new", name.to_string_lossy()));
    let written = write_new(&temp, bytes, None).and_then(|()| match fs::hard_link(&temp, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&temp);
    written?;
    removed?;
    sync_folder_of(path)
}
