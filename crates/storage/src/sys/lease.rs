//! File leases, which tell whether a file is open for writing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Returns whether a process has the file open for writing, as far as the file system tells.
///
/// This takes a read lease and gives it back at once. The kernel grants the lease only while no
/// process has the file open for writing. `file` must be open for reading only. This process must
/// ignore SIGIO, because another one may open the file while the lease is held.
pub fn has_writer(file: &File) -> bool {
    match set_lease(file, libc::F_RDLCK) {
        Ok(()) => {
            if let Err(e) = set_lease(file, libc::F_UNLCK) {
                log::warn!("cannot release a file lease: {e}");
            }
            false
        }
        Err(e) => e.raw_os_error() == Some(libc::EAGAIN),
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

/// Makes this process ignore SIGIO, which a broken file lease sends and which would end it.
///
/// # Errors
/// Those of the system call.
pub fn ignore_sigio() -> io::Result<()> {
    // SAFETY: SIG_IGN installs no code of ours, so nothing can run in signal context.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }?;
    Ok(())
}
