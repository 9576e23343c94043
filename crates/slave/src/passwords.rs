//! Accounts of a standalone slave, whose workers share the login limits and the hashing slots.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use log::warn;
use relais_auth::{FailedLogins, LiveAccounts, PasswordVerifier, SharedLoginState};
use rustix::fs::{FlockOperation, MemfdFlags, fcntl_lock, memfd_create};

/// Accounts and login limits, made before the fork for all workers.
pub struct SharedPasswords {
    /// The accounts, as the supervisor reads them.
    pub accounts: Arc<LiveAccounts>,
    failed_logins: FailedLogins,
    slots: Arc<HashSlots>,
}

/// One file for each core, locked by the process that hashes on that core.
///
/// If a process dies its lock is released.
struct HashSlots {
    files: Vec<OwnedFd>,
    last: AtomicUsize,
}

/// What a worker's password thread shares with the other workers.
struct WorkerLoginState {
    failed_logins: &'static [AtomicU64],
    slots: Arc<HashSlots>,
}

impl SharedLoginState for WorkerLoginState {
    fn slots(&self) -> &[AtomicU64] {
        self.failed_logins
    }

    fn with_hash_permit(&self, hash: &mut dyn FnMut()) {
        let Some(file) = self.slots.take() else { return hash() };
        hash();
        if let Err(e) = fcntl_lock(file, FlockOperation::Unlock) {
            warn!("cannot release a slot for hashing a password: {e}");
        }
    }
}

impl HashSlots {
    fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let files: io::Result<Vec<OwnedFd>> =
            (0..cores).map(|_| Ok(memfd_create("hash-slot", MemfdFlags::CLOEXEC)?)).collect();
        Ok(Self { files: files?, last: AtomicUsize::new(0) })
    }

    /// Locks a core's file: a free one, or the next one once it is free.
    fn take(&self) -> Option<&OwnedFd> {
        let free = self
            .files
            .iter()
            .find(|file| fcntl_lock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        free.or_else(|| {
            let next = &self.files[self.last.fetch_add(1, Ordering::Relaxed) % self.files.len()];
            fcntl_lock(next, FlockOperation::LockExclusive)
                .inspect_err(|e| warn!("cannot lock a slot for hashing a password: {e}"))
                .is_ok()
                .then_some(next)
        })
    }
}

impl SharedPasswords {
    /// Takes the accounts that the supervisor reads.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(accounts: LiveAccounts) -> io::Result<Self> {
        let (accounts, failed_logins) = (Arc::new(accounts), FailedLogins::new()?);
        Ok(Self { accounts, failed_logins, slots: Arc::new(HashSlots::new()?) })
    }

    /// Starts the password thread of one worker, after the fork; one in each serves all cores.
    ///
    /// # Errors
    /// Those of starting the thread.
    pub fn start_worker(
        &self,
        failed_logins: &'static [AtomicU64],
        accounts: Arc<LiveAccounts>,
    ) -> io::Result<PasswordVerifier> {
        let common = Box::new(WorkerLoginState { failed_logins, slots: self.slots.clone() });
        PasswordVerifier::start(accounts, self.failed_logins.clone(), common, 1)
    }
}
