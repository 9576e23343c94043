//! The accounts of a running server, reloaded after each change of the file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use parking_lot::Mutex;

use super::file::{AccountsError, AccountsFile, FileStamp};
use super::table::Accounts;

/// Time between two checks of the file.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// The current accounts, shared by many threads.
#[derive(Debug)]
pub struct LiveAccounts {
    /// None if another process reads the file and passes the accounts on.
    file: Option<AccountsFile>,
    state: Mutex<LoadedAccounts>,
}

#[derive(Debug)]
struct LoadedAccounts {
    accounts: Option<Arc<Accounts>>,
    /// The state of the file at the last attempt to read it, successful or not.
    stamp: Option<FileStamp>,
    checked: Instant,
}

impl LiveAccounts {
    /// Reads the accounts at the start of a server.
    ///
    /// # Errors
    /// The file is invalid: a server does not start with accounts that it cannot read.
    pub fn open(file: AccountsFile) -> Result<Self, AccountsError> {
        let (accounts, stamp) = file.load_to_serve()?.unzip();
        let accounts = accounts.map(Arc::new);
        let state = Mutex::new(LoadedAccounts { accounts, stamp, checked: Instant::now() });
        Ok(Self { file: Some(file), state })
    }

    /// Makes accounts that another process reads; only [`Self::replace`] changes them.
    #[must_use]
    pub fn without_file(accounts: Option<Arc<Accounts>>) -> Self {
        let state = Mutex::new(LoadedAccounts { accounts, stamp: None, checked: Instant::now() });
        Self { file: None, state }
    }

    /// Replaces the accounts, unless the new ones have a lower generation.
    pub fn replace(&self, accounts: Accounts) {
        let mut state = self.state.lock();
        if state.accounts.as_ref().is_none_or(|old| old.generation() <= accounts.generation()) {
            state.accounts = Some(Arc::new(accounts));
        }
    }

    /// The current accounts, at most a quarter of a second old; none if none was ever created.
    ///
    /// An unreadable or missing file leaves the former accounts in force.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Accounts>> {
        let mut state = self.state.lock();
        if let Some(file) = &self.file
            && state.checked.elapsed() >= CHECK_EVERY
        {
            state.checked = Instant::now();
            reload(file, &mut state);
        }
        state.accounts.clone()
    }

    /// Reloads the file at once if it has changed.
    pub fn reload(&self) {
        let mut state = self.state.lock();
        if let Some(file) = &self.file {
            state.checked = Instant::now();
            reload(file, &mut state);
        }
    }

    /// The lowest valid generation of tickets; 0 without accounts.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current().map_or(0, |accounts| accounts.generation())
    }
}

/// Reloads the file if it has changed.
fn reload(file: &AccountsFile, state: &mut LoadedAccounts) {
    let path = file.path().display();
    let stamp = match file.stamp() {
        Ok(stamp) => stamp,
        Err(e) => {
            return error!(
                "cannot check the accounts file {path}: {e}; the former accounts stay in force"
            );
        }
    };
    if stamp == state.stamp {
        return;
    }
    state.stamp = stamp;
    match file.load_stamped() {
        Ok(Some((accounts, stamp))) => {
            state.stamp = Some(stamp);
            let former = state.accounts.as_ref().map_or(0, |accounts| accounts.generation());
            if accounts.generation() < former {
                // An old copy must not restore rights; every slave would reject its tickets.
                return error!(
                    "the accounts file {path} has an older generation; \
                     the former accounts stay in force"
                );
            }
            info!("accounts loaded: {} users", accounts.iter().count());
            state.accounts = Some(Arc::new(accounts));
        }
        Ok(None) if state.accounts.is_some() => {
            warn!("the accounts file {path} is gone; the former accounts stay in force")
        }
        Ok(None) => {}
        Err(e) if state.accounts.is_none() => {
            error!("{e}; all logins are refused");
            state.accounts = Some(Arc::default());
        }
        Err(e) => error!("{e}; the former accounts stay in force"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use relais_proto::TreePath;

    use super::super::{table::Account, tests};
    use super::*;
    use crate::Rights;

    fn users(live: &LiveAccounts) -> Option<usize> {
        std::thread::sleep(CHECK_EVERY);
        live.current().map(|accounts| accounts.iter().count())
    }

    #[test]
    fn valid_changes_are_loaded_and_damage_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let file = AccountsFile::new(temp.path().join("accounts"));
        let add = |name: &str| {
            let account =
                Account { rights: Rights::Read, root: TreePath::root(), hash: tests::cheap_hash() };
            file.change(|accounts| accounts.add(name, account)).unwrap();
        };
        let live = LiveAccounts::open(file.clone()).unwrap();
        assert_eq!((users(&live), live.generation()), (None, 0));
        fs::write(file.path(), "nonsense").unwrap();
        assert_eq!(users(&live), Some(0), "an unreadable first file refuses all logins");
        fs::remove_file(file.path()).unwrap();
        add("ann");
        assert_eq!((users(&live), live.generation()), (Some(1), 1));
        add("bob");
        let two = fs::read(file.path()).unwrap();
        assert_eq!(users(&live), Some(2));
        fs::write(file.path(), "nonsense").unwrap();
        assert_eq!(users(&live), Some(2), "damage");
        assert!(LiveAccounts::open(file.clone()).is_err(), "which keeps a server from starting");
        fs::remove_file(file.path()).unwrap();
        assert_eq!(users(&live), Some(2), "gone");
        relais_os::write_atomically(file.path(), &two).unwrap();
        file.change(|accounts| accounts.remove("ann")).unwrap();
        assert_eq!((users(&live), live.generation()), (Some(1), 2));
        relais_os::write_atomically(file.path(), &two).unwrap();
        assert_eq!((users(&live), live.generation()), (Some(1), 2), "an old copy restores no user");
    }
}
