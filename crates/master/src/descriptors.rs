//! How many connections the process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept back for links, files and what libraries open.
const RESERVE: u64 = 384;
/// The waiting room is at least this large, however few descriptors there are.
const FEWEST: u64 = 16;

/// Raises the limit on descriptors as far as it goes; returns how many
/// connections, up to `most`, may wait for their login.
pub(crate) fn room(most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log::warn!("cannot raise the limit on open files: {error}");
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(RESERVE).max(FEWEST);
    usize::try_from(allowed).unwrap_or(usize::MAX).min(most)
}
