//! Accounts of a slave that stands alone: all its workers slow whoever guesses together, and hash few passwords at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use log::warn;
use relais_proto::{ErrorCode, Refusal};
use relais_state::{
    AccountsError, AccountsFile, Common, FailedLogins, LiveAccounts, PasswordVerifier,
};
use rustix::fs::{FlockOperation, MemfdFlags, fcntl_lock, memfd_create};

use crate::board::Board;
use crate::secrets::WorkerSecrets;

/// What all workers have of the accounts from before they were forked.
pub struct Passwords {
    accounts: Arc<LiveAccounts>,
    guesses: FailedLogins,
    turns: Arc<Turns>,
}

/// A file for each core, locked by the process that hashes on it. The lock of a process that dies is free.
struct Turns {
    files: Vec<OwnedFd>,
    last: AtomicUsize,
}

/// What the workers share.
struct Shared {
    board: Arc<Board>,
    turns: Arc<Turns>,
}

impl Common for Shared {
    fn places(&self) -> &[AtomicU64] {
        self.board.guesses()
    }

    fn in_turn(&self, hash: &mut dyn FnMut()) {
        let Some(file) = self.turns.take() else { return hash() };
        hash();
        if let Err(e) = fcntl_lock(file, FlockOperation::Unlock) {
            warn!("a turn for a password is not given back: {e}");
        }
    }
}

impl Turns {
    fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let files: io::Result<Vec<OwnedFd>> =
            (0..cores).map(|_| Ok(memfd_create("turn", MemfdFlags::CLOEXEC)?)).collect();
        Ok(Self { files: files?, last: AtomicUsize::new(0) })
    }

    /// A core's file, locked: one that is free, or else the next one once it is.
    fn take(&self) -> Option<&OwnedFd> {
        let free = self
            .files
            .iter()
            .find(|file| fcntl_lock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        free.or_else(|| {
            let next = &self.files[self.last.fetch_add(1, Ordering::Relaxed) % self.files.len()];
            fcntl_lock(next, FlockOperation::LockExclusive)
                .inspect_err(|e| warn!("no turn for a password: {e}"))
                .is_ok()
                .then_some(next)
        })
    }
}

impl Passwords {
    /// Reads the accounts.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(file: AccountsFile) -> Result<Self, AccountsError> {
        let path = file.path().to_owned();
        let io_error = |cause| AccountsError::Io { path: path.clone(), cause };
        let accounts = Arc::new(LiveAccounts::open(file)?);
        let guesses = FailedLogins::new().map_err(io_error)?;
        Ok(Self { accounts, guesses, turns: Arc::new(Turns::new().map_err(io_error)?) })
    }

    /// The desk of one worker, after it was forked: one thread in each is enough for all cores.
    ///
    /// # Errors
    /// Those of starting the thread.
    pub fn desk(&self, board: Arc<Board>, secrets: WorkerSecrets) -> io::Result<Desk> {
        let common = Box::new(Shared { board, turns: Arc::clone(&self.turns) });
        let accounts = Arc::clone(secrets.accounts());
        let desk = PasswordVerifier::open(accounts, self.guesses.clone(), common, 1)?;
        Ok(Desk { secrets, desk })
    }

    /// The accounts, as the supervisor reads them.
    #[must_use]
    pub fn accounts(&self) -> &Arc<LiveAccounts> {
        &self.accounts
    }
}

/// Where a worker looks at passwords.
pub struct Desk {
    /// Brings the accounts.
    pub secrets: WorkerSecrets,
    /// The thread that hashes.
    pub desk: PasswordVerifier,
}

impl Desk {
    /// Whether anybody needs an account.
    ///
    /// # Errors
    /// Where this worker does not have the accounts that the supervisor has read: then nobody gets in here.
    pub fn is_needed(&self, board: &Board) -> Result<bool, Refusal> {
        let accounts = || {
            let accounts = self.secrets.accounts().now();
            let generation = accounts.as_ref().map_or(0, |accounts| accounts.generation());
            (generation >= board.generation()).then_some(accounts)
        };
        let newest = accounts().or_else(|| {
            // They were handed over before their generation was on the board.
            self.secrets.take();
            accounts()
        });
        match newest {
            Some(accounts) => Ok(accounts.is_some()),
            None => Err(Refusal::new(ErrorCode::Storage, "the accounts cannot be read now")),
        }
    }
}
