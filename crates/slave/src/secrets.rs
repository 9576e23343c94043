//! Cluster key and accounts: the supervisor reads the files and sends them to the workers.
//!
//! Both files are in a state folder, where a master of the same host keeps secrets of its own. So
//! workers may not read that folder. A worker inherits what the supervisor has read when it forks,
//! and gets later changes over a socket pair of its own.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};
use parking_lot::Mutex;
use relais_auth::{Accounts, ClusterKey, LiveAccounts};
use relais_engine::SecretSource;
use relais_os::{ProcessMailbox, ProcessMessage};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::scoreboard::Scoreboard;

/// Time between two checks of the files by the supervisor.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The supervisor's side: reads the files and sends changes to the workers.
pub struct Secrets {
    key_file: Option<PathBuf>,
    accounts: Option<Arc<LiveAccounts>>,
    mailboxes: Vec<Arc<ProcessMailbox<Secret>>>,
    state: Mutex<SecretsState>,
}

#[derive(Default)]
struct SecretsState {
    key: Option<ClusterKey>,
    /// What tells two versions of the key's file apart: device, inode and ctime.
    stamp: Option<(u64, u64, i64, i64)>,
    /// The last error of reading the key, so that it is logged once.
    last_error: String,
    /// The accounts that were last sent to the workers.
    accounts: Option<Arc<Accounts>>,
    /// Whether each worker lacks the last key or accounts.
    unsent: Vec<bool>,
}

/// A message to a worker.
enum Secret {
    Key(ClusterKey),
    /// The accounts, in a file without a name that all workers share.
    Accounts(File),
}

impl ProcessMessage for Secret {
    const MAX_LEN: usize = 33;

    fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
        match self {
            Self::Key(key) => ([&[0], key.secret_bytes().as_slice()].concat(), None),
            Self::Accounts(file) => (vec![1], Some(file.as_fd())),
        }
    }

    fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> Option<Self> {
        match (bytes.split_first()?, fd) {
            ((0, key), None) => Some(Self::Key(ClusterKey::from_bytes(key.try_into().ok()?))),
            ((1, []), Some(fd)) => Some(Self::Accounts(fd.into())),
            _ => None,
        }
    }
}

impl Secrets {
    /// Reads the file for the first time, if it exists: the key of a cluster, or the accounts of a
    /// standalone slave.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(
        workers: usize,
        key_file: Option<PathBuf>,
        accounts: Option<Arc<LiveAccounts>>,
    ) -> io::Result<Self> {
        let mailboxes =
            (0..workers).map(|_| ProcessMailbox::new().map(Arc::new)).collect::<io::Result<_>>()?;
        let mut state = SecretsState {
            accounts: accounts.as_ref().and_then(|accounts| accounts.current()),
            unsent: vec![false; workers],
            ..SecretsState::default()
        };
        if let Some(path) = &key_file {
            state.reload_key(path);
        }
        Ok(Self { key_file, accounts, mailboxes, state: Mutex::new(state) })
    }

    /// Checks the files, and sends the workers what has changed.
    ///
    /// Only then does it raise the generation of the accounts on the scoreboard: a worker that sees
    /// a higher generation there finds the accounts in its channel.
    pub fn tick(&self, scoreboard: &Scoreboard) {
        let mut state = self.state.lock();
        let has_changed = match (&self.key_file, &self.accounts) {
            (Some(path), _) => state.reload_key(path),
            (None, Some(accounts)) => {
                let before = std::mem::replace(&mut state.accounts, accounts.current());
                before.as_ref().map(Arc::as_ptr) != state.accounts.as_ref().map(Arc::as_ptr)
            }
            (None, None) => false,
        };
        if has_changed {
            state.unsent.fill(true);
        }
        if let Err(e) = self.send_unsent(&mut state) {
            warn!("cannot send the changed accounts to the workers, will be retried: {e}");
            return;
        }
        if let Some(accounts) = &state.accounts {
            scoreboard.raise_generation(accounts.generation());
        }
    }

    /// Sends what is unsent.
    ///
    /// What does not fit into a worker's channel is sent later: that worker is not reading at the
    /// moment.
    fn send_unsent(&self, state: &mut SecretsState) -> io::Result<()> {
        if !state.unsent.contains(&true) {
            return Ok(());
        }
        let message = match (&state.key, &state.accounts) {
            (Some(key), _) => Secret::Key(key.clone()),
            (None, Some(accounts)) => Secret::Accounts(memory_file(accounts)?),
            (None, None) => return Ok(()),
        };
        for (mailbox, unsent) in self.mailboxes.iter().zip(&mut state.unsent) {
            if *unsent {
                match mailbox.send(&message) {
                    Ok(()) => *unsent = false,
                    Err(e) => debug!("a worker gets the key or the accounts later: {e}"),
                }
            }
        }
        Ok(())
    }

    /// Returns a worker's side. Call it in the worker, after the fork.
    pub fn of_worker(&self, worker: usize) -> WorkerSecrets {
        let state = self.state.lock();
        WorkerSecrets {
            mailbox: self.mailboxes[worker].clone(),
            key: Mutex::new(state.key.clone()),
            accounts: Arc::new(LiveAccounts::without_file(state.accounts.clone())),
        }
    }
}

impl SecretsState {
    /// Reads the key if its file has changed; true if it was read.
    ///
    /// If the file cannot be read the former key stays.
    fn reload_key(&mut self, path: &Path) -> bool {
        let meta = path.metadata().ok();
        let stamp = meta.map(|meta| (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()));
        if stamp.is_some() && stamp == self.stamp {
            return false;
        }
        match ClusterKey::load(path) {
            Ok(Some(key)) => {
                info!("the cluster key was read from {}", path.display());
                (self.key, self.stamp) = (Some(key), stamp);
                self.last_error.clear();
                true
            }
            // The link's thread logs that it waits for the key.
            Ok(None) => false,
            Err(e) => {
                let error = e.to_string();
                if error != self.last_error {
                    warn!("{error}");
                    self.last_error = error;
                }
                false
            }
        }
    }
}

/// Writes the accounts to a file without a name.
fn memory_file(accounts: &Accounts) -> io::Result<File> {
    let mut file = File::from(memfd_create("accounts", MemfdFlags::CLOEXEC)?);
    // Accounts of generation 0 could not be read. They admit no user, and have no text.
    if accounts.generation() > 0 {
        file.write_all(accounts.to_text().as_bytes())?;
    }
    Ok(file)
}

/// A worker's side: holds the key and the accounts, and receives changes.
pub struct WorkerSecrets {
    mailbox: Arc<ProcessMailbox<Secret>>,
    key: Mutex<Option<ClusterKey>>,
    accounts: Arc<LiveAccounts>,
}

impl WorkerSecrets {
    /// Returns the descriptor that is readable when the supervisor has sent something.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }

    /// Returns the accounts, to be shared with another thread.
    #[must_use]
    pub fn shared_accounts(&self) -> Arc<LiveAccounts> {
        self.accounts.clone()
    }
}

impl SecretSource for WorkerSecrets {
    fn accounts(&self) -> &LiveAccounts {
        &self.accounts
    }

    fn key(&self) -> Option<ClusterKey> {
        self.receive();
        self.key.lock().clone()
    }

    fn receive(&self) {
        for secret in self.mailbox.take() {
            match secret {
                Secret::Key(key) => *self.key.lock() = Some(key),
                Secret::Accounts(file) => match read_accounts(&file) {
                    Ok(accounts) => self.accounts.replace(accounts),
                    Err(e) => warn!("cannot read the changed accounts: {e}"),
                },
            }
        }
    }
}

/// Reads the accounts from the file that all workers share.
///
/// It reads at an explicit offset, because the workers share the file's position too.
fn read_accounts(file: &File) -> io::Result<Accounts> {
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    if bytes.is_empty() {
        return Ok(Accounts::default());
    }
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    Accounts::parse(&text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use relais_auth::{AccountsFile, Rights};

    use super::*;

    fn write_key(path: &std::path::Path, digit: &str) {
        // Replaced in one step, as by the program that makes the file.
        let new = path.with_extension("new");
        fs::write(&new, digit.repeat(64)).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, path).unwrap();
    }

    #[test]
    fn workers_receive_late_and_changed_keys() {
        let (temp, scoreboard) = (tempfile::tempdir().unwrap(), Scoreboard::of(2, 1, 1));
        let path = temp.path().join("cluster.key");
        let secrets = Secrets::new(2, Some(path.clone()), None).unwrap();
        let (early, other) = (secrets.of_worker(0), secrets.of_worker(1));
        secrets.tick(&scoreboard);
        assert_eq!(early.cluster_id(), None);
        let mut seen = Vec::new();
        for digit in ["1", "2"] {
            write_key(&path, digit);
            secrets.tick(&scoreboard);
            secrets.tick(&scoreboard);
            let id = early.cluster_id();
            assert!(id.is_some() && id == other.cluster_id());
            assert_eq!(secrets.of_worker(0).cluster_id(), id, "a worker that starts now");
            seen.push(id);
        }
        assert_ne!(seen[0], seen[1]);
        fs::write(&path, "damaged").unwrap();
        secrets.tick(&scoreboard);
        assert_eq!(early.cluster_id(), seen[1], "the former key stays");
    }

    #[test]
    fn slow_workers_receive_the_last_key() {
        let (temp, scoreboard) = (tempfile::tempdir().unwrap(), Scoreboard::of(1, 1, 1));
        let path = temp.path().join("cluster.key");
        let secrets = Secrets::new(1, Some(path.clone()), None).unwrap();
        let worker = secrets.of_worker(0);
        // More messages than a channel holds.
        for n in 0..2000 {
            write_key(&path, &format!("{:x}", n % 10));
            secrets.tick(&scoreboard);
        }
        write_key(&path, "f");
        secrets.tick(&scoreboard);
        worker.receive();
        secrets.tick(&scoreboard);
        assert_eq!(worker.cluster_id(), secrets.of_worker(0).cluster_id());
    }

    #[test]
    fn accounts_arrive_before_their_generation() {
        let (temp, scoreboard) = (tempfile::tempdir().unwrap(), Scoreboard::of(1, 1, 1));
        let file = AccountsFile::new(temp.path().join("accounts"));
        let live = Arc::new(LiveAccounts::open(file.clone()).unwrap());
        let secrets = Secrets::new(1, None, Some(live)).unwrap();
        let worker = secrets.of_worker(0);
        secrets.tick(&scoreboard);
        assert!(worker.accounts().current().is_none() && scoreboard.generation() == 0);
        let root = relais_proto::TreePath::root();
        let hash = relais_auth::PasswordHash::of(b"secret").unwrap();
        let account = relais_auth::Account { rights: Rights::Read, root, hash };
        file.change(|accounts| accounts.add("ann", account)).unwrap();
        let began = std::time::Instant::now();
        while scoreboard.generation() == 0 {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(CHECK_INTERVAL);
            secrets.tick(&scoreboard);
        }
        worker.receive();
        assert!(worker.accounts().current().unwrap().get("ann").is_some());
        assert_eq!(worker.accounts().generation(), 1);
    }
}
