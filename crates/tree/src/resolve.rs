//! Resolves a path from a pinned folder. No other code turns a path of several names into a
//! descriptor.
//!
//! The kernel resolves the path in one step. It follows no link, leaves no device, and reaches
//! nothing outside the folder.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::error::TreeError;

/// Attempts during concurrent renames.
const TRIES: usize = 64;

/// Opens `path`, which has no empty part, no `.` and no `..`; empty means the folder itself.
pub(crate) fn resolve(
    top: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
) -> Result<OwnedFd, TreeError> {
    let path = if path.is_empty() { "." } else { path };
    let rules = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let mut always = OFlags::CLOEXEC;
    if !flags.contains(OFlags::PATH) {
        // Opening must not wait for the other end of a FIFO, and must not make a terminal the
        // controlling one. A path-only descriptor cannot have these flags.
        always |= OFlags::NONBLOCK | OFlags::NOCTTY;
    }
    let mut last = Errno::AGAIN;
    for _ in 0..TRIES {
        match openat2(top, path, flags | always, Mode::empty(), rules) {
            Err(e @ (Errno::AGAIN | Errno::INTR)) => last = e,
            opened => return opened.map_err(|e| TreeError::from_errno("open", e)),
        }
    }
    Err(TreeError::Io("open", last.into()))
}
