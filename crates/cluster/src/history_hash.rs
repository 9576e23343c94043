//! Hash chain over all changes: equal for two servers only after the same changes.

use relais_proto::{ClusterId, Encoder, LogEntry, Wire};

pub use relais_proto::HistoryHash;

/// Returns the hash of a cluster's empty history. Each cluster has its own.
#[must_use]
pub fn first(cluster: ClusterId) -> HistoryHash {
    HistoryHash(blake3::derive_key("relais change chain 1", &cluster.0))
}

/// Returns the hash after the next change. It covers the previous hash, so it stands for all
/// changes.
#[must_use]
pub fn next(chain: HistoryHash, log_entry: &LogEntry) -> HistoryHash {
    let mut bytes = Vec::with_capacity(192);
    bytes.extend_from_slice(&chain.0);
    log_entry.encode(&mut Encoder::new(&mut bytes));
    HistoryHash(*blake3::hash(&bytes).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::{Change, ChangeId, Lsn, Mode, TreePath};

    #[test]
    fn it_tells_what_was_changed_and_in_which_order() {
        let log_entry = |number, id| LogEntry {
            version: Lsn { epoch: 1, number },
            id: ChangeId([id; 16]),
            time_ms: 0,
            change: Change::MakeFolder {
                path: TreePath::new("a").unwrap(),
                mode: Mode::new(0o755),
            },
        };
        let of = |ids: [u8; 2]| {
            next(next(HistoryHash::default(), &log_entry(1, ids[0])), &log_entry(2, ids[1]))
        };
        assert_eq!(of([1, 2]), of([1, 2]));
        assert!(
            of([1, 2]) != of([2, 1])
                && of([1, 2]) != of([1, 3])
                && of([1, 2]) != HistoryHash::default()
        );
    }
}
