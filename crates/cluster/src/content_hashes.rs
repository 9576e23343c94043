//! SHA-256 hashes of contents, by the put that stored the content.
//!
//! They can be computed again at any time, so the table has a limit: the oldest contents lose
//! their hashes first.

use std::collections::BTreeMap;
use std::sync::Arc;

use relais_proto::{ContentHashes, Lsn, limits};

/// Bytes that an entry takes beside its hashes, about.
const OVERHEAD: usize = 64;

/// Hashes of the contents for which they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentHashTable {
    by_put: BTreeMap<Lsn, Arc<ContentHashes>>,
    memory: usize,
}

impl ContentHashTable {
    /// Makes a table of these hashes.
    #[must_use]
    pub fn listed(hashes: impl IntoIterator<Item = (Lsn, ContentHashes)>) -> Self {
        let mut table = Self::default();
        hashes.into_iter().for_each(|(put, hashes)| table.record(put, hashes));
        table
    }

    /// Returns the hashes of the content that a put stored.
    #[must_use]
    pub fn of(&self, put: Lsn) -> Option<&ContentHashes> {
        self.by_put.get(&put).map(Arc::as_ref)
    }

    /// Iterates over all hashes, oldest content first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Lsn, &Arc<ContentHashes>)> {
        self.by_put.iter().map(|(put, hashes)| (*put, hashes))
    }

    /// Records hashes.
    pub fn record(&mut self, put: Lsn, hashes: ContentHashes) {
        self.forget(put);
        self.memory += memory_of(&hashes);
        self.by_put.insert(put, Arc::new(hashes));
        while self.memory > limits::SHA256_OF_TREE
            && let Some(oldest) = self.by_put.first_key_value().map(|(put, _)| *put)
        {
            self.forget(oldest);
        }
    }

    /// Forgets the hashes of a content that has left the tree.
    pub fn forget(&mut self, put: Lsn) {
        if let Some(hashes) = self.by_put.remove(&put) {
            self.memory -= memory_of(&hashes);
        }
    }
}

fn memory_of(hashes: &ContentHashes) -> usize {
    hashes.bytes() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::Sha256;

    #[test]
    fn the_oldest_hashes_go_above_the_limit() {
        let pieces = vec![Sha256([1; 32]); limits::SHA256_PIECES];
        let hashes = ContentHashes { sha256: Sha256([2; 32]), piece_size: limits::PIECE, pieces };
        let most = u64::try_from(limits::SHA256_OF_TREE / memory_of(&hashes)).unwrap();
        let put = |number| Lsn { epoch: 1, number };
        let mut table = ContentHashTable::default();
        (1..=most + 3).for_each(|number| table.record(put(number), hashes.clone()));
        assert_eq!(table.iter().next().map(|(oldest, _)| oldest), Some(put(4)));
        table.record(put(4), hashes.clone());
        assert_eq!(table.of(put(4)), Some(&hashes));
        (1..=most + 3).for_each(|number| table.forget(put(number)));
        assert_eq!(table, ContentHashTable::default(), "the count of bytes is 0 again");
    }
}
