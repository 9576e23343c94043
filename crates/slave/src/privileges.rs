//! Drops root's rights before the slave serves.

use std::ffi::CString;
use std::io;

use nix::unistd::{Uid, User, initgroups, setresgid, setresuid};
use thiserror::Error;

pub use crate::sys::descriptors::Inherited;

/// Errors of changing to another user.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// There is no user of that name.
    #[error("there is no user {0}")]
    Unknown(String),
    /// The user is root.
    #[error("user {0} is root; name another user")]
    Root(String),
    /// Only root can become another user.
    #[error("only root can run this as another user")]
    NotRoot,
    /// The system refused.
    #[error("cannot become {user}: {cause}")]
    #[allow(missing_docs, reason = "the fields' names and types say everything")]
    Refused { user: String, cause: io::Error },
}

/// Checks that `user` exists and is not root.
///
/// # Errors
/// The reason why it cannot be used.
pub fn check_user(user: &str) -> Result<(), PrivilegeError> {
    find_user(user).map(|_| ())
}

fn find_user(user: &str) -> Result<User, PrivilegeError> {
    let user_entry = User::from_name(user)
        .map_err(|e| PrivilegeError::Refused { user: user.to_owned(), cause: e.into() })?
        .ok_or_else(|| PrivilegeError::Unknown(user.to_owned()))?;
    if user_entry.uid.is_root() {
        Err(PrivilegeError::Root(user.to_owned()))
    } else {
        Ok(user_entry)
    }
}

/// Makes this process one of `user`, with the user's groups and no others, for good.
///
/// It does nothing if the process belongs to `user` already. The process must have one thread.
///
/// # Errors
/// The reason why the process keeps its user.
pub fn become_user(user: &str) -> Result<(), PrivilegeError> {
    let refused = |cause: io::Error| PrivilegeError::Refused { user: user.to_owned(), cause };
    let user_entry = find_user(user)?;
    let own = nix::unistd::geteuid();
    if own == user_entry.uid {
        return Ok(());
    }
    if !own.is_root() {
        return Err(PrivilegeError::NotRoot);
    }
    let name = CString::new(user).map_err(|e| refused(e.into()))?;
    initgroups(&name, user_entry.gid).map_err(|e| refused(e.into()))?;
    setresgid(user_entry.gid, user_entry.gid, user_entry.gid).map_err(|e| refused(e.into()))?;
    setresuid(user_entry.uid, user_entry.uid, user_entry.uid).map_err(|e| refused(e.into()))?;
    // Make sure that root's rights cannot come back.
    let root = Uid::from_raw(0);
    match setresuid(root, root, root) {
        Err(_) => Ok(()),
        Ok(()) => Err(refused(io::Error::other("root's rights could be regained"))),
    }
}
