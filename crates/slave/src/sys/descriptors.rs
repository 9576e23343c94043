//! Descriptors that this program inherited from its parent.

use std::io;
use std::os::fd::RawFd;

/// Returns the open descriptors beside the three standard ones.
///
/// Call it before this process opens anything.
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
    // The descriptor of the folder that was read is closed again.
    found.retain(|fd| is_open(*fd));
    Ok(found)
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointer, and changes nothing.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Closes the descriptors that [`inherited`] has found.
pub fn close(found: Vec<RawFd>) {
    for fd in found {
        // SAFETY: the descriptor was open before this program opened anything, so no value in it
        // owns the number, and it was not closed since.
        unsafe { libc::close(fd) };
    }
}
