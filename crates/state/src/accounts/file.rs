//! The file of the accounts: read with care, written whole.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::warn;
use rustix::fs::{Mode, OFlags};
use thiserror::Error;

use super::{AccountError, Accounts, BadLine};
use crate::atomic_file::write_atomically_as;

/// Most bytes that the file may have: some hundred thousand users.
const MOST: u64 = 64 << 20;

/// Why the accounts cannot be used.
#[derive(Debug, Error)]
pub enum AccountsError {
    /// A line is wrong.
    #[error("the accounts file {}: {bad}", path.display())]
    BadLine {
        /// Which file.
        path: PathBuf,
        /// Which line.
        bad: BadLine,
    },
    /// It is not text.
    #[error("the accounts file {} is not text in UTF-8", .0.display())]
    NotText(PathBuf),
    /// Group or others have rights to the file.
    #[error("the accounts file {} has mode {mode:04o}: others than its owner can use it; change the mode to 0600", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody owns it who has no business here.
    #[error("the accounts file {} belongs to user id {owner}, who is neither the owner of its folder nor the one who runs this", path.display())]
    ForeignOwner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It is a folder, a pipe or the like.
    #[error("the accounts file {} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// There were accounts, and the file is not there.
    #[error("the accounts file {} is gone, and there were accounts: put it back, or add users; where everybody shall read again remove {} as well", path.display(), former.display())]
    Gone {
        /// Which file.
        path: PathBuf,
        /// What tells that there were some.
        former: PathBuf,
    },
    /// It has too many bytes.
    #[error("the accounts file {} has more than {} MiB", .0.display(), MOST >> 20)]
    TooLarge(PathBuf),
    /// The system refused.
    #[error("cannot use the accounts file {}: {}", path.display(), relais_proto::system_error_text(cause))]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// What was to be done cannot be done.
    #[error(transparent)]
    Account(#[from] AccountError),
}

/// Tells two states of the file apart.
pub(super) type Stamp = (u64, u64, u64, i64, i64);

/// Where the accounts lie.
#[derive(Debug, Clone)]
pub struct AccountsFile {
    path: PathBuf,
}

impl AccountsFile {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, cause: io::Error) -> AccountsError {
        AccountsError::Io { path: self.path.clone(), cause }
    }

    /// Reads the accounts; none where there is no file, which means that nobody needs one.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(&self) -> Result<Option<Accounts>, AccountsError> {
        Ok(self.load_stamped()?.map(|(accounts, _)| accounts))
    }

    pub(super) fn load_stamped(&self) -> Result<Option<(Accounts, Stamp)>, AccountsError> {
        // Without NONBLOCK a pipe in this place would hold us for ever.
        let file = match rustix::fs::open(
            &self.path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.io(error.into())),
        };
        let meta = file.metadata().map_err(|e| self.io(e))?;
        self.check(&meta)?;
        let mut bytes = Vec::new();
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(|e| self.io(e))?;
        if bytes.len() as u64 > MOST {
            return Err(AccountsError::TooLarge(self.path.clone()));
        }
        let text =
            String::from_utf8(bytes).map_err(|_| AccountsError::NotText(self.path.clone()))?;
        let accounts = Accounts::parse(&text)
            .map_err(|bad| AccountsError::BadLine { path: self.path.clone(), bad })?;
        Ok(Some((accounts, stamp(&meta))))
    }

    fn check(&self, meta: &Metadata) -> Result<(), AccountsError> {
        let path = || self.path.clone();
        if !meta.is_file() {
            return Err(AccountsError::NotRegular(path()));
        }
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AccountsError::Exposed { path: path(), mode });
        }
        let owner = meta.uid();
        let may = [0, rustix::process::geteuid().as_raw(), self.folder_owner()?.0];
        if !may.contains(&owner) {
            return Err(AccountsError::ForeignOwner { path: path(), owner });
        }
        Ok(())
    }

    /// User and group of the folder that the file is in.
    fn folder_owner(&self) -> Result<(u32, u32), AccountsError> {
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let meta = folder.metadata().map_err(|e| self.io(e))?;
        Ok((meta.uid(), meta.gid()))
    }

    /// What the file is like now; none where there is none.
    pub(super) fn stamp(&self) -> io::Result<Option<Stamp>> {
        match self.path.metadata() {
            Ok(meta) => Ok(Some(stamp(&meta))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Changes the accounts, made with the first one: one command after the other, and the file is the former or the new one at any
    /// moment. Where root does this for a server that runs as somebody else the file belongs to the owner of its folder.
    ///
    /// # Errors
    /// What is wrong with the file, or what `change` said; then nothing is changed.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Accounts) -> Result<T, AccountError>,
    ) -> Result<T, AccountsError> {
        let owner = Some(self.folder_owner()?).filter(|_| rustix::process::geteuid().is_root());
        let _lock = self.lock(owner)?;
        let mut accounts = self.load()?.unwrap_or_default();
        let (before, former) = (accounts.generation(), self.former()?);
        if before < former {
            // The file is gone, or an older one was put in its place: what was taken away since is not given back.
            accounts.raise_above(former);
        }
        let result = change(&mut accounts)?;
        self.write(&accounts, owner)?;
        Ok(result)
    }

    /// As [`Self::load`], by a server that begins: where the file is older than what was in force before, it is made newer, so that
    /// no ticket from before counts.
    ///
    /// # Errors
    /// As there, those of writing, and [`AccountsError::Gone`].
    pub(super) fn load_to_serve(&self) -> Result<Option<(Accounts, Stamp)>, AccountsError> {
        let Some(loaded) = self.load_stamped()? else {
            // A file that was lost must not open to everybody what it closed; one that was just made for the first time is there by now.
            return match self.former()? {
                0 => Ok(None),
                _ => match self.load_stamped()? {
                    None => Err(AccountsError::Gone {
                        path: self.path.clone(),
                        former: self.generation_path(),
                    }),
                    loaded => Ok(loaded),
                },
            };
        };
        if loaded.0.generation() >= self.former()? {
            return Ok(Some(loaded));
        }
        warn!(
            "the accounts file {} is older than what was in force before: all have to log in again",
            self.path.display()
        );
        self.change(|_| Ok(()))?;
        self.load_stamped()
    }

    /// Where the highest generation is kept that was ever in force.
    #[must_use]
    pub fn generation_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".generation");
        path.into()
    }

    fn former(&self) -> Result<u64, AccountsError> {
        let path = self.generation_path();
        let io = |cause| AccountsError::Io { path: path.clone(), cause };
        match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| io(io::Error::other("it holds no number"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(io(e)),
        }
    }

    fn lock(&self, owner: Option<(u32, u32)>) -> Result<File, AccountsError> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| self.io(e))?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::fchown(&lock, Some(user), Some(group)).map_err(|e| self.io(e))?;
        }
        lock.lock().map_err(|e| self.io(e))?;
        Ok(lock)
    }

    fn write(&self, accounts: &Accounts, owner: Option<(u32, u32)>) -> Result<(), AccountsError> {
        let former = self.former()?;
        let note = || {
            let text = format!("{}\n", accounts.generation());
            if former < accounts.generation() {
                write_atomically_as(&self.generation_path(), text.as_bytes(), owner)
            } else {
                Ok(())
            }
        };
        let write = || write_atomically_as(&self.path, accounts.to_text().as_bytes(), owner);
        // First what counts for good: a crash between the two only has all log in again. The first accounts come before what tells
        // that there were some.
        let written =
            if former == 0 { write().and_then(|()| note()) } else { note().and_then(|()| write()) };
        written.map_err(|e| self.io(e))
    }
}

fn stamp(meta: &Metadata) -> Stamp {
    (meta.dev(), meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use relais_proto::TreePath;

    use super::super::{Account, password};
    use super::*;
    use crate::Rights;

    fn file() -> (tempfile::TempDir, AccountsFile) {
        let temp = tempfile::tempdir().unwrap();
        let file = AccountsFile::new(temp.path().join("accounts"));
        (temp, file)
    }

    fn add(file: &AccountsFile, name: &str) -> Result<(), AccountsError> {
        file.change(|accounts| {
            accounts.add(
                name,
                Account {
                    rights: Rights::Read,
                    root: TreePath::root(),
                    hash: password::of_tests(),
                },
            )
        })
    }

    #[test]
    fn the_first_user_makes_the_file_and_the_last_one_leaves_it() {
        let (_temp, file) = file();
        assert!(file.load().unwrap().is_none());
        add(&file, "ann").unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(add(&file, "ann").is_err());
        file.change(|accounts| accounts.remove("ann")).unwrap();
        assert_eq!(file.load().unwrap().unwrap().iter().count(), 0);
    }

    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
        let (temp, file) = file();
        add(&file, "ann").unwrap();
        for mode in [0o644, 0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(file.load(), Err(AccountsError::Exposed { mode: found, .. }) if found == mode)
            );
            assert!(matches!(add(&file, "bob"), Err(AccountsError::Exposed { .. })));
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(file.path(), Some(4711), None).unwrap();
            assert!(matches!(file.load(), Err(AccountsError::ForeignOwner { owner: 4711, .. })));
            std::os::unix::fs::chown(temp.path(), Some(4711), Some(4712)).unwrap();
            file.load().unwrap();
            add(&file, "bob").unwrap();
            let meta = fs::metadata(file.path()).unwrap();
            assert_eq!(
                (meta.uid(), meta.gid()),
                (4711, 4712),
                "root writes it for whoever runs the server"
            );
        }
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert!(matches!(file.load(), Err(AccountsError::NotRegular(_))));
    }

    #[test]
    fn an_older_file_gives_nothing_back() {
        let (_temp, file) = file();
        add(&file, "ann").unwrap();
        let old = fs::read(file.path()).unwrap();
        add(&file, "bob").unwrap();
        file.change(|accounts| accounts.remove("bob")).unwrap();
        let generation = file.load().unwrap().unwrap().generation();
        // Put back, and taken up by a server that begins: tickets from before do not count.
        write_atomically_as(file.path(), &old, None).unwrap();
        let (served, _) = file.load_to_serve().unwrap().unwrap();
        assert!(served.generation() > generation && served.get("ann").is_some());
        assert_eq!(
            file.load_to_serve().unwrap().unwrap().0.generation(),
            served.generation(),
            "once"
        );
        // Gone, and begun anew.
        fs::remove_file(file.path()).unwrap();
        assert!(matches!(file.load_to_serve(), Err(AccountsError::Gone { .. })));
        add(&file, "eve").unwrap();
        assert!(file.load_to_serve().unwrap().unwrap().0.generation() > served.generation());
        // Only without both files nobody needs an account.
        fs::remove_file(file.path()).unwrap();
        fs::remove_file(file.generation_path()).unwrap();
        assert!(file.load_to_serve().unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let (_temp, file) = file();
        for bad in [&b"relais-accounts 1 1\nann\n"[..], b"\xff", b""] {
            fs::write(file.path(), bad).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
            assert!(add(&file, "bob").is_err());
            assert_eq!(fs::read(file.path()).unwrap(), bad);
        }
    }

    #[test]
    fn many_who_change_it_at_once_lose_nothing() {
        let (_temp, file) = file();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    (0..8).for_each(|m| add(file, &format!("user{n}-{m}")).unwrap())
                });
            }
        });
        assert_eq!(file.load().unwrap().unwrap().iter().count(), 64);
    }
}
