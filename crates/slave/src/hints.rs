//! Hints from workers to the replicator: a file differs from the catalogue, or may be damaged.
//!
//! The folder watcher misses changes through another hard link of a file. They change the ctime,
//! and perhaps the content, without an event in the folder. A worker notices when a client reads
//! the file.

use std::os::fd::{BorrowedFd, OwnedFd};

use relais_os::ProcessMessage;
use relais_proto::{TreePath, limits};

/// A hint about a path.
///
/// If too many hints are unread, later ones are lost; the next reader of the file sends another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The file differs from the catalogue.
    Different(TreePath),
    /// The content may not match its digest.
    Suspect(TreePath),
}

impl ProcessMessage for Hint {
    const MAX_LEN: usize = limits::PATH + 1;

    fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
        let (kind, path) = match self {
            Self::Different(path) => (0, path),
            Self::Suspect(path) => (1, path),
        };
        ([&[kind], path.as_str().as_bytes()].concat(), None)
    }

    fn decode(bytes: &[u8], _fd: Option<OwnedFd>) -> Option<Self> {
        let (kind, path) = bytes.split_first()?;
        let path = TreePath::from_bytes(path).ok()?;
        match kind {
            0 => Some(Self::Different(path)),
            1 => Some(Self::Suspect(path)),
            _ => None,
        }
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
            assert_eq!(hints.receive().unwrap(), Some(hint));
        }
        assert_eq!(hints.receive().unwrap(), None);
    }
}
