//! Limits the size of one replication message; the messages are defined in `relais-proto`.

pub use relais_proto::{CommittedEntry, ReplicaPosition, ToMaster, ToSlave};
use relais_proto::{TreePath, limits};

/// Contents from this size on are fetched few at a time, and their fetchers learn of new holders.
pub const LARGE: u64 = 8 * 1024 * 1024;
/// Contents up to this size are fetched many at a time, over connections that they share.
pub const PIPELINED: u64 = 64 * 1024;
/// Highest number of changes, entries or ids in one message.
pub const PAGE: usize = 256;
/// Bytes of an item without its paths: more than any change or entry needs.
const REST: usize = 256;

/// Counts the items and bytes of one message.
#[derive(Debug, Default)]
pub struct MessageBudget {
    taken: usize,
    bytes: usize,
}

impl MessageBudget {
    /// Adds an item if it still fits; the first item always does.
    ///
    /// The item has these paths and `other` further bytes.
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
