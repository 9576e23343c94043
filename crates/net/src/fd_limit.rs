//! The limit on open descriptors, and the number of connections that it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Smallest capacity of a pre-authentication pool, however few descriptors there are.
const MIN_CONNECTIONS: u64 = 16;

/// Raises the soft limit on descriptors to the hard limit, and returns the capacity for logins.
///
/// The capacity is the number of connections that may wait for their login, at most `most`.
/// `reserve` descriptors are kept for everything else.
#[must_use]
pub fn raise_fd_limit(reserve: u64, most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        log::warn!("cannot raise the limit on open files: {error}");
    }
    let allowed = getrlimit(Resource::Nofile)
        .current
        .unwrap_or(u64::MAX)
        .saturating_sub(reserve)
        .max(MIN_CONNECTIONS);
    usize::try_from(allowed).unwrap_or(usize::MAX).min(most)
}
