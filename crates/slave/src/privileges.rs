//! Giving up root's rights before anybody is served.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

use nix::unistd::{User, initgroups, setresgid, setresuid};
use thiserror::Error;

use crate::sys::descriptors;

/// Why the rights of a user are not taken.
#[derive(Debug, Error)]
pub enum DropError {
    /// There is none of that name.
    #[error("there is no user {0}")]
    Unknown(String),
    /// The user is root.
    #[error("{0} has all rights: name another user")]
    Root(String),
    /// Only root can become somebody else.
    #[error("only root can run this as another user")]
    NotRoot,
    /// The system refused.
    #[error("cannot become {user}: {cause}")]
    Refused {
        /// Whom.
        user: String,
        /// What the system said.
        cause: io::Error,
    },
}

/// What was open when this program was started, beside the three descriptors that every program has.
#[derive(Debug)]
pub struct Inherited(Vec<RawFd>);

impl Inherited {
    /// To be asked before this program opens anything.
    ///
    /// # Errors
    /// Those of reading `/proc`.
    pub fn find() -> io::Result<Self> {
        descriptors::inherited().map(Self)
    }

    /// Closes it: it may be what only root can open. What is named like `/dev/fd/63` has to be open by then, and cannot be opened again.
    pub fn close(self) {
        descriptors::close(self.0);
    }
}

/// Whether this process could become one of `user`: there is such a user, and it is not root.
///
/// # Errors
/// Why not.
pub fn check_user(user: &str) -> Result<(), DropError> {
    find_user(user).map(|_| ())
}

fn find_user(user: &str) -> Result<User, DropError> {
    let found = User::from_name(user)
        .map_err(|e| DropError::Refused { user: user.to_owned(), cause: e.into() })?
        .ok_or_else(|| DropError::Unknown(user.to_owned()))?;
    if found.uid.is_root() { Err(DropError::Root(user.to_owned())) } else { Ok(found) }
}

/// Makes this process one of `user`, with the user's groups and no others, for good. For a user who runs it already nothing is to be done.
/// The process must have one thread.
///
/// # Errors
/// Why it is not.
pub fn become_user(user: &str) -> Result<(), DropError> {
    let refused = |cause: io::Error| DropError::Refused { user: user.to_owned(), cause };
    let found = find_user(user)?;
    let own = nix::unistd::geteuid();
    if own == found.uid {
        return Ok(());
    }
    if !own.is_root() {
        return Err(DropError::NotRoot);
    }
    let name = CString::new(user).map_err(|e| refused(e.into()))?;
    initgroups(&name, found.gid).map_err(|e| refused(e.into()))?;
    setresgid(found.gid, found.gid, found.gid).map_err(|e| refused(e.into()))?;
    setresuid(found.uid, found.uid, found.uid).map_err(|e| refused(e.into()))?;
    // Nothing may lead back.
    match setresuid(
        nix::unistd::Uid::from_raw(0),
        nix::unistd::Uid::from_raw(0),
        nix::unistd::Uid::from_raw(0),
    ) {
        Err(_) => Ok(()),
        Ok(()) => Err(refused(io::Error::other("root's rights could be taken back"))),
    }
}
