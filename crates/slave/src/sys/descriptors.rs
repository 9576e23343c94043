//! Descriptors that this program inherited from its parent.

use std::io;
use std::os::fd::RawFd;

/// The descriptors that this program inherited, beside the three standard ones.
#[derive(Debug)]
pub struct Inherited(Vec<RawFd>);

impl Inherited {
    /// Finds them. Call it before this program opens anything.
    ///
    /// # Errors
    /// Those of reading `/proc`.
    pub fn find() -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let fd = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            found.extend(fd.filter(|fd: &RawFd| *fd > 2));
        }
        // The descriptor of the folder that was read is closed again.
        found.retain(|fd| is_open(*fd));
        Ok(Self(found))
    }

    /// Closes them, because they may refer to files that only root may open.
    ///
    /// A file that is named like `/dev/fd/63` has to be opened before that, and cannot be reopened.
    pub fn close(self) {
        for fd in self.0 {
            // SAFETY: the descriptor was open before this program opened anything, so no value in
            // it owns the number, and it was not closed since.
            unsafe { libc::close(fd) };
        }
    }
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointer, and changes nothing.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}
