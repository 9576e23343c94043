//! Resolves a path from a pinned folder. No other code turns a name into a descriptor.
//!
//! The kernel resolves it in one step if it supports `openat2`. Otherwise, or if a filter forbids
//! the call, the path is walked part by part. Neither method follows a link or leaves the device.
//! forbids it, the path is walked part by part. Neither follows a link nor leaves the device.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat};
use rustix::io::Errno;

use crate::error::{TreeError, UnservedKind};
use crate::meta::{Meta, MetaKind};

/// Flags of every descriptor.
///
/// Opening must not wait for the other end of a FIFO, must not make a terminal the controlling one,
/// and must not leak to another program.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// Attempts during concurrent renames.
const TRIES: usize = 64;

/// Method of path resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResolveMethod {
    /// Resolves with `openat2`.
    Kernel,
    /// Resolves part by part.
    Walk,
}

impl ResolveMethod {
    /// Returns the better method on this system; determined once per process.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<ResolveMethod> = OnceLock::new();
        *BEST.get_or_init(|| {
            match openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), rules()) {
                // A system call filter answers EPERM. Other errors are about the folder.
                Err(Errno::NOSYS | Errno::PERM) => Self::Walk,
                _ => Self::Kernel,
            }
        })
    }

    /// Opens `path`, which has no empty part, no `.` and no `..`; empty means the folder itself.
    pub(crate) fn open(
        self,
        top: BorrowedFd<'_>,
        path: &str,
        flags: OFlags,
    ) -> Result<OwnedFd, TreeError> {
        match self {
            Self::Kernel => by_kernel(top, path, flags),
            Self::Walk => by_walk(top, path, flags),
        }
    }
}

fn rules() -> ResolveFlags {
    ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV
}

fn by_kernel(top: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, TreeError> {
    let path = if path.is_empty() { "." } else { path };
    let mut last = Errno::AGAIN;
    for _ in 0..TRIES {
        match openat2(top, path, fitting(flags), Mode::empty(), rules()) {
            Ok(fd) => return Ok(fd),
            Err(e @ (Errno::AGAIN | Errno::INTR)) => last = e,
            Err(e) => return Err(TreeError::from_errno("open", e)),
        }
    }
    Err(TreeError::Io("open", last.into()))
}

/// Removes the flags that `openat2` rejects for a path-only descriptor.
fn fitting(flags: OFlags) -> OFlags {
    if flags.contains(OFlags::PATH) { flags | OFlags::CLOEXEC } else { flags | ALWAYS }
}

fn by_walk(top: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, TreeError> {
    let device = device_of(top)?;
    let (folders, last) =
        path.rsplit_once('/').unwrap_or(("", if path.is_empty() { "." } else { path }));
    let mut at: Option<OwnedFd> = None;
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        at = Some(step(
            at.as_ref().map_or(top, |fd| rustix::fd::AsFd::as_fd(fd)),
            part,
            OFlags::PATH | OFlags::DIRECTORY,
            device,
        )?);
    }
    step(at.as_ref().map_or(top, |fd| rustix::fd::AsFd::as_fd(fd)), last, flags, device)
}

/// Opens one part without following a link or leaving the device.
fn step(at: BorrowedFd<'_>, part: &str, flags: OFlags, device: u64) -> Result<OwnedFd, TreeError> {
    let fd = match openat(at, part, fitting(flags) | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(fd) => fd,
        // A link gives this error as well as a file.
        Err(Errno::NOTDIR) => return Err(why_no_folder(at, part)),
        Err(e) => return Err(TreeError::from_errno("open", e)),
    };
    if device_of(rustix::fd::AsFd::as_fd(&fd))? != device {
        return Err(TreeError::NotServed(UnservedKind::Mount));
    }
    Ok(fd)
}

fn why_no_folder(at: BorrowedFd<'_>, part: &str) -> TreeError {
    match statat(at, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if Meta::from_stat(&stat).kind == MetaKind::Link => {
            TreeError::NotServed(UnservedKind::Link)
        }
        Ok(_) => TreeError::NotFolder,
        Err(e) => TreeError::from_errno("look at", e),
    }
}

fn device_of(fd: BorrowedFd<'_>) -> Result<u64, TreeError> {
    Ok(fstat(fd).map_err(|e| TreeError::from_errno("look at", e))?.st_dev)
}
