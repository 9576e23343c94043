//! What the sessions of a worker share, and what they know of their user.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use log::{error, warn};
use relais_proto::{Counters, Digest, Endpoint, ErrorCode, FolderId, Refusal, SlaveId, TreePath};
use relais_tree::{Folder, Meta};

use crate::board::Board;
use crate::catalogue::{CatalogueError, Known, Reader};
use crate::hints::Hints;

/// Catalogue connections kept for the next session that asks.
const SPARE_READERS: usize = 4;

/// The folder, its catalogue and the settings that sessions need.
pub struct Serving {
    /// The served folder.
    pub folder: Folder,
    /// Which folder it is.
    pub folder_id: FolderId,
    /// Which slave this is.
    pub slave_id: SlaveId,
    /// Bytes in a block.
    pub block_size: u32,
    /// What the processes share.
    pub board: Arc<Board>,
    /// Where the folder lies, for the catalogue's file alone.
    root: PathBuf,
    hints: Arc<Hints>,
    /// Set when the worker winds down.
    stopping: AtomicBool,
    /// Catalogue connections that no session uses now. Opened after the fork, when first needed.
    readers: Mutex<Vec<Reader>>,
}

impl Serving {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(
        folder: Folder,
        root: PathBuf,
        (folder_id, slave_id): (FolderId, SlaveId),
        block_size: u32,
        board: Arc<Board>,
        hints: Arc<Hints>,
    ) -> Self {
        Self {
            folder,
            folder_id,
            slave_id,
            block_size,
            board,
            root,
            hints,
            stopping: AtomicBool::new(false),
            readers: Mutex::new(Vec::new()),
        }
    }

    /// From here on nobody waits for anything that may take long.
    pub fn wind_down(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the worker winds down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Lends a catalogue connection to `ask`.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] where the catalogue cannot be read.
    pub fn with_catalogue<T>(&self, ask: impl FnOnce(&mut Reader) -> Result<T, CatalogueError>) -> Result<T, Refusal> {
        let spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let failed = |e: CatalogueError| {
            error!("the catalogue cannot be read: {e}");
            Refusal::new(ErrorCode::Storage, "the slave cannot read its catalogue")
        };
        let mut reader = match spare {
            Some(reader) => reader,
            None => Reader::open(&self.root).map_err(failed)?,
        };
        let answer = ask(&mut reader).map_err(failed)?;
        let mut spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_READERS {
            spare.push(reader);
        }
        Ok(answer)
    }

    /// Whether the folder was read whole since the keeper's start.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn is_complete(&self) -> Result<bool, Refusal> {
        self.with_catalogue(Reader::is_complete)
    }

    /// The digest of the file that `meta` was read from, where the catalogue has it.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn known_digest(&self, path: &TreePath, meta: &Meta) -> Result<Option<Digest>, Refusal> {
        match self.with_catalogue(|reader| reader.digest_of(path, meta))? {
            Known::Digest(digest) => Ok(Some(digest)),
            Known::NotYet => Ok(None),
            Known::Other => {
                self.hints.tell(path);
                Ok(None)
            }
        }
    }

    /// Counters of folder and pool, and the last error.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub fn counters(&self) -> Result<(Counters, String), Refusal> {
        let (counters, last_error) = self.with_catalogue(|reader| Ok((reader.counters()?, reader.last_error()?)))?;
        Ok((with_pool(counters, &self.board), last_error))
    }

    /// This slave as a holder of content. Where it is, the client knows.
    #[must_use]
    pub fn as_holder(&self) -> Vec<Endpoint> {
        vec![Endpoint { id: self.slave_id, addrs: Vec::new() }]
    }

    /// The refusal for a failure of the disk, whose details go to the log.
    #[must_use]
    pub fn storage(path: &TreePath, error: &io::Error) -> Refusal {
        warn!("{path}: {error}");
        Refusal::new(ErrorCode::Storage, format!("{path}: the slave cannot read it"))
    }
}

/// Adds what the board knows of the pool.
#[must_use]
pub fn with_pool(counters: Counters, board: &Board) -> Counters {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Counters { sessions: small(board.sessions()), waiting: small(board.waiting()), workers: board.alive(), ..counters }
}

/// Who a session belongs to. All that it keeps on the slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Empty: no account.
    pub user: String,
    /// The folder that the user sees as the top.
    pub root: TreePath,
    /// Whether the user may change anything.
    pub writable: bool,
}

impl Session {
    /// For logs.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.user.is_empty() { "(no account)" } else { &self.user }
    }

    /// The path in the slave's folder that the user's `path` means. It can only lead further down.
    ///
    /// # Errors
    /// [`ErrorCode::BadName`] where the joined path is too long.
    pub fn resolve(&self, path: &TreePath) -> Result<TreePath, Refusal> {
        path.parts().try_fold(self.root.clone(), |at, part| at.join(part)).map_err(|e| Refusal::new(ErrorCode::BadName, e.to_string()))
    }
}
