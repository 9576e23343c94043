//! Accounts of a slave that stands alone: all its workers slow whoever failed_logins together, and hash few passwords at a time.

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

use crate::scoreboard::Scoreboard;
use crate::secrets::WorkerSecrets;

/// What all workers have of the accounts from before they were forked.
pub struct SharedPasswords {
    accounts: Arc<LiveAccounts>,
    failed_logins: FailedLogins,
    slots: Arc<HashSlots>,
}

/// A file for each core, locked by the process that hashes on it. The lock of a process that dies is free.
struct HashSlots {
    files: Vec<OwnedFd>,
    last: AtomicUsize,
}

/// What the workers share.
struct WorkerLoginState {
    scoreboard: Arc<Scoreboard>,
    slots: Arc<HashSlots>,
}

impl Common for WorkerLoginState {
    fn places(&self) -> &[AtomicU64] {
        self.scoreboard.failed_logins()
    }

    fn in_turn(&self, hash: &mut dyn FnMut()) {
        let Some(file) = self.slots.take() else { return hash() };
        hash();
        if let Err(e) = fcntl_lock(file, FlockOperation::Unlock) {
            warn!("a turn for a password is not given back: {e}");
        }
    }
}

impl HashSlots {
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

impl SharedPasswords {
    /// Reads the accounts.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(file: AccountsFile) -> Result<Self, AccountsError> {
        let path = file.path().to_owned();
        let io_error = |cause| AccountsError::Io { path: path.clone(), cause };
        let accounts = Arc::new(LiveAccounts::open(file)?);
        let failed_logins = FailedLogins::new().map_err(io_error)?;
        Ok(Self { accounts, failed_logins, slots: Arc::new(HashSlots::new().map_err(io_error)?) })
    }

    /// The desk of one worker, after it was forked: one thread in each is enough for all cores.
    ///
    /// # Errors
    /// Those of starting the thread.
    pub fn desk(
        &self,
        scoreboard: Arc<Scoreboard>,
        secrets: WorkerSecrets,
    ) -> io::Result<WorkerPasswords> {
        let common = Box::new(WorkerLoginState { scoreboard, slots: Arc::clone(&self.slots) });
        let accounts = Arc::clone(secrets.accounts());
        let desk = PasswordVerifier::open(accounts, self.failed_logins.clone(), common, 1)?;
        Ok(WorkerPasswords { secrets, desk })
    }

    /// The accounts, as the supervisor reads them.
    #[must_use]
    pub fn accounts(&self) -> &Arc<LiveAccounts> {
        &self.accounts
    }
}

/// Where a worker looks at passwords.
pub struct WorkerPasswords {
    /// Brings the accounts.
    pub secrets: WorkerSecrets,
    /// The thread that hashes.
    pub desk: PasswordVerifier,
}

impl WorkerPasswords {
    /// Whether anybody needs an account.
    ///
    /// # Errors
    /// Where this worker does not have the accounts that the supervisor has read: then nobody gets in here.
    pub fn is_needed(&self, scoreboard: &Scoreboard) -> Result<bool, Refusal> {
        let accounts = || {
            let accounts = self.secrets.accounts().now();
            let generation = accounts.as_ref().map_or(0, |accounts| accounts.generation());
            (generation >= scoreboard.generation()).then_some(accounts)
        };
        let newest = accounts().or_else(|| {
            // They were handed over before their generation was on the scoreboard.
            self.secrets.take();
            accounts()
        });
        match newest {
            Some(accounts) => Ok(accounts.is_some()),
            None => Err(Refusal::new(ErrorCode::Storage, "the accounts cannot be read now")),
        }
    }
}
