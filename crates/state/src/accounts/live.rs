//! The accounts of a running server, read again whenever the file has changed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::file::{AccountsFile, Stamp};
use super::{Accounts, AccountsError};

/// Time between two looks at the file.
const LOOK: Duration = Duration::from_millis(250);

/// Accounts that many threads ask for.
#[derive(Debug)]
pub struct LiveAccounts {
    /// None where another process reads the file and hands the accounts over.
    file: Option<AccountsFile>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    accounts: Option<Arc<Accounts>>,
    /// The file as it was when it was read last, also where that went wrong.
    stamp: Option<Stamp>,
    looked: Instant,
}

impl LiveAccounts {
    /// Reads the accounts for the first time.
    ///
    /// # Errors
    /// What is wrong with the file: a server does not start with accounts that it cannot read.
    pub fn open(file: AccountsFile) -> Result<Self, AccountsError> {
        let (accounts, stamp) = file
            .load_to_serve()?
            .map_or((None, None), |(accounts, stamp)| (Some(Arc::new(accounts)), Some(stamp)));
        let state = Mutex::new(State { accounts, stamp, looked: Instant::now() });
        Ok(Self { file: Some(file), state })
    }

    /// Accounts that another process reads: they change by [`Self::replace`] alone.
    #[must_use]
    pub fn without_file(accounts: Option<Arc<Accounts>>) -> Self {
        let state = Mutex::new(State { accounts, stamp: None, looked: Instant::now() });
        Self { file: None, state }
    }

    /// Takes accounts that another process has read. Older ones than these are dropped.
    pub fn replace(&self, accounts: Accounts) {
        let mut state = self.state();
        if state.accounts.as_ref().is_none_or(|old| old.generation() <= accounts.generation()) {
            state.accounts = Some(Arc::new(accounts));
        }
    }

    /// The accounts; none where none was ever made. They are at most a quarter of a second old. A file that cannot be read, or is gone,
    /// leaves them as they were.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Accounts>> {
        let mut state = self.state();
        if let Some(file) = &self.file
            && state.looked.elapsed() >= LOOK
        {
            state.looked = Instant::now();
            look(file, &mut state);
        }
        state.accounts.clone()
    }

    /// Reads the file again at once where it has changed.
    pub fn reload(&self) {
        let mut state = self.state();
        if let Some(file) = &self.file {
            state.looked = Instant::now();
            look(file, &mut state);
        }
    }

    /// The generation that tickets must have; 0 where there are no accounts.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current().map_or(0, |accounts| accounts.generation())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the file again where it has changed.
fn look(file: &AccountsFile, state: &mut State) {
    let path = file.path().display();
    let stamp = match file.stamp() {
        Ok(stamp) => stamp,
        Err(e) => {
            return error!(
                "the accounts file {path} cannot be looked at, the former accounts count: {e}"
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
                // An old copy must not give back what was taken away; tickets of it would be refused by every slave.
                return error!(
                    "the accounts file {path} is older than the accounts that were read before, which count still"
                );
            }
            info!("the accounts were read: {} users", accounts.iter().count());
            state.accounts = Some(Arc::new(accounts));
        }
        Ok(None) if state.accounts.is_some() => {
            warn!("the accounts file {path} is gone: the former accounts count until the end")
        }
        Ok(None) => {}
        Err(e) if state.accounts.is_none() => {
            error!("{e}: nobody is let in");
            state.accounts = Some(Arc::default());
        }
        Err(e) => error!("{e}: the former accounts count"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use relais_proto::TreePath;

    use super::super::{Account, password};
    use super::*;
    use crate::Rights;

    fn users(live: &LiveAccounts) -> Option<usize> {
        std::thread::sleep(LOOK);
        live.current().map(|accounts| accounts.iter().count())
    }

    #[test]
    fn changes_are_taken_up_and_damage_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let file = AccountsFile::new(temp.path().join("accounts"));
        let add = |name: &str| {
            let account = Account {
                rights: Rights::Read,
                root: TreePath::root(),
                hash: password::of_tests(),
            };
            file.change(|accounts| accounts.add(name, account)).unwrap();
        };
        let live = LiveAccounts::open(file.clone()).unwrap();
        assert_eq!((users(&live), live.generation()), (None, 0));
        fs::write(file.path(), "nonsense").unwrap();
        assert_eq!(
            users(&live),
            Some(0),
            "whoever made this wants accounts: nobody is let in until it can be read"
        );
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
        crate::write_atomically(file.path(), &two).unwrap();
        file.change(|accounts| accounts.remove("ann")).unwrap();
        assert_eq!((users(&live), live.generation()), (Some(1), 2));
        crate::write_atomically(file.path(), &two).unwrap();
        assert_eq!(
            (users(&live), live.generation()),
            (Some(1), 2),
            "an old copy gives nobody back"
        );
    }
}
