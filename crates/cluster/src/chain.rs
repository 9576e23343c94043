//! A hash over all changes, in order: equal for two servers only where both have had the same changes.

use relais_proto::{Encoder, Numbered};

/// The hash after a change. It holds the hash before it, so it stands for all changes up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The hash behind the next change.
    #[must_use]
    pub fn next(self, numbered: &Numbered) -> Self {
        let mut bytes = Vec::with_capacity(192);
        bytes.extend_from_slice(&self.0);
        numbered.encode(&mut Encoder::new(&mut bytes));
        Self(*blake3::hash(&bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::{Change, ChangeId, TreePath, Version};

    #[test]
    fn it_tells_what_was_changed_and_in_which_order() {
        let numbered = |number, id| Numbered {
            version: Version { epoch: 1, number },
            id: ChangeId([id; 16]),
            time_ms: 0,
            change: Change::MakeFolder { path: TreePath::new("a").unwrap() },
        };
        let of = |ids: [u8; 2]| Chain::default().next(&numbered(1, ids[0])).next(&numbered(2, ids[1]));
        assert_eq!(of([1, 2]), of([1, 2]));
        assert!(of([1, 2]) != of([2, 1]) && of([1, 2]) != of([1, 3]) && of([1, 2]) != Chain::default());
    }
}
