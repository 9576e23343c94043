//! Hints from workers to the replicator: a file differs from the catalogue, or may be damaged.
//!
//! The folder watcher misses changes through another hard link of a file. They change the ctime,
//! and perhaps the content, without an event in the folder. A worker notices when a client reads
//! the file.

use std::os::fd::{BorrowedFd, OwnedFd};

use relais_os::ProcessMessage;
use relais_proto::{Decoder, Encoder, TreePath, Wire, limits, wire_enum};

wire_enum! {
    /// A hint about a path.
    ///
    /// If too many hints are unread, later ones are lost; the next reader of the file sends
    /// another.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Hint: "hint" {
        /// The file differs from the catalogue.
        0 => Different(TreePath),
        /// The content may not match its digest.
        1 => Suspect(TreePath),
    }
}

impl ProcessMessage for Hint {
    const MAX_LEN: usize = limits::PATH + 3;

    fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
        let mut bytes = Vec::new();
        Wire::encode(self, &mut Encoder::new(&mut bytes));
        (bytes, None)
    }

    fn decode(bytes: &[u8], _fd: Option<OwnedFd>) -> Option<Self> {
        Wire::decode(&mut Decoder::new(bytes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use relais_os::ProcessMailbox;

    use super::*;

    #[test]
    fn hints_carry_kind_and_path() {
        let hints = ProcessMailbox::new().unwrap();
        let path = TreePath::new("d/f").unwrap();
        for hint in [Hint::Different(path.clone()), Hint::Suspect(path)] {
            hints.send(&hint).unwrap();
            assert_eq!(hints.take().next(), Some(hint));
        }
        assert_eq!(hints.take().next(), None);
    }
}
