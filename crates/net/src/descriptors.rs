//! How many connections a process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A waiting room is at least this large, however few descriptors there are.
const FEWEST: u64 = 16;

/// Raises the limit on descriptors as far as it goes; returns how many connections, up to `most`,
/// may wait for their login when `reserve` descriptors are kept back for everything else.
#[must_use]
pub fn raise_fd_limit(reserve: u64, most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        log::warn!("cannot raise the limit on open files: {error}");
    }
    let allowed =
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(reserve).max(FEWEST);
    usize::try_from(allowed).unwrap_or(usize::MAX).min(most)
}
