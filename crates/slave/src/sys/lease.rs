//! File leases: how to learn whether somebody has a file open for writing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Who has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nobody.
    None,
    /// Somebody.
    Some,
    /// The file system does not say, or not to us.
    Unknown,
}

/// Asks by taking a read lease, which the kernel grants only while nobody has the file open
/// for writing, and giving it back at once. `file` must be open for reading only, and this
/// process must ignore SIGIO: somebody may open the file in between.
pub fn writers(file: &File) -> Writers {
    match set_lease(file, libc::F_RDLCK) {
        Ok(()) => {
            if let Err(e) = set_lease(file, libc::F_UNLCK) {
                log::warn!("a file lease cannot be given back: {e}");
            }
            Writers::None
        }
        Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    }
}

fn set_lease(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and F_SETLEASE takes an
    // integer, no pointer.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
