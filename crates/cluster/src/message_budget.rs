//! How much of what a slave and its master say to each other goes into one message; the messages are `relais-proto`'s.

pub use relais_proto::{CommittedEntry, ReplicaPosition, ToMaster, ToSlave};
use relais_proto::{TreePath, limits};

/// Content from this size on is fetched few at a time, and its fetchers are told of new holders.
pub const LARGE: u64 = 8 * 1024 * 1024;
/// Most changes, entries or ids in one message.
pub const PAGE: usize = 256;
/// Bytes of a message beside its paths: more than any change or entry needs.
const REST: usize = 256;

/// Counts what goes into one message.
#[derive(Debug, Default)]
pub struct MessageBudget {
    taken: usize,
    bytes: usize,
}

impl MessageBudget {
    /// Whether something with these paths, and with so many other bytes, still fits; the first one always does.
    pub fn take<'a>(
        &mut self,
        paths: impl IntoIterator<Item = &'a TreePath>,
        other: usize,
    ) -> bool {
        let bytes = paths.into_iter().fold(REST + other, |sum, path| sum + path.as_str().len());
        let fits = self.taken == 0
            || self.taken < PAGE
                && self.bytes + bytes <= limits::CONTROL_FRAME as usize - PAGE * 32;
        if fits {
            self.taken += 1;
            self.bytes += bytes;
        }
        fits
    }
}
