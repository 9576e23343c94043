//! Descriptors that whoever started this program has left open.

use std::io;
use std::os::fd::RawFd;

/// The open descriptors beside the three that every program has. To be asked before this process opens anything.
///
/// # Errors
/// Those of reading `/proc`.
pub fn inherited() -> io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        found.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                .filter(|fd: &RawFd| *fd > 2),
        );
    }
    // What the folder was read through is closed again.
    found.retain(|fd| is_open(*fd));
    Ok(found)
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointer, and changes nothing.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Closes what [`inherited`] has found.
pub fn close(found: Vec<RawFd>) {
    for fd in found {
        // SAFETY: it was open before this program opened anything, so nothing in it owns the number, and it was not closed since.
        unsafe { libc::close(fd) };
    }
}
