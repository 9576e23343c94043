//! The accounts file: checked on each read, and replaced atomically.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::warn;
use rustix::fs::{Mode, OFlags};
use thiserror::Error;

use super::{AccountError, Accounts, BadLine};
use relais_os::write_atomically_as;

/// Cap on the size of the file: some hundred thousand users.
const MAX_SIZE: u64 = 64 << 20;

/// The reason why the accounts file cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum AccountsError {
    /// A line is malformed.
    #[error("the accounts file {}: {bad}", path.display())]
    BadLine { path: PathBuf, bad: BadLine },
    /// The file is not text.
    #[error("the accounts file {} is not text in UTF-8", .0.display())]
    NotText(PathBuf),
    /// The group or others have permissions on the file.
    #[error(
        "the accounts file {} has mode {mode:04o}: other users can access it; \
         change the mode to 0600",
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    /// The file belongs to another user.
    #[error(
        "the accounts file {} belongs to user id {owner}, which is neither the owner of its \
         folder nor the user of this process",
        path.display()
    )]
    ForeignOwner { path: PathBuf, owner: u32 },
    /// The path is a folder, a pipe or the like.
    #[error("the accounts file {} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// There were accounts, and their file is missing.
    #[error(
        "the accounts file {} is gone, and there were accounts: restore it, or add users; \
         for anonymous access remove {} as well",
        path.display(), former.display()
    )]
    Gone { path: PathBuf, former: PathBuf },
    /// The file is above the size cap.
    #[error("the accounts file {} has more than {} MiB", .0.display(), MAX_SIZE >> 20)]
    TooLarge(PathBuf),
    /// A system call failed.
    #[error(
        "cannot use the accounts file {}: {}",
        path.display(), relais_proto::system_error_text(cause)
    )]
    Io { path: PathBuf, cause: io::Error },
    /// The change itself was refused.
    #[error(transparent)]
    Account(#[from] AccountError),
}

/// Device, inode, size and ctime of the file, to detect changes.
pub(super) type FileStamp = (u64, u64, u64, i64, i64);

/// The path of an accounts file, and the operations on it.
#[derive(Debug, Clone)]
pub struct AccountsFile {
    path: PathBuf,
}

impl AccountsFile {
    /// Names the file; nothing is read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, cause: io::Error) -> AccountsError {
        AccountsError::Io { path: self.path.clone(), cause }
    }

    /// Reads the accounts; none if there is no file, which means anonymous access.
    ///
    /// # Errors
    /// The file is unsafe, malformed or unreadable.
    pub fn load(&self) -> Result<Option<Accounts>, AccountsError> {
        Ok(self.load_stamped()?.map(|(accounts, _)| accounts))
    }

    pub(super) fn load_stamped(&self) -> Result<Option<(Accounts, FileStamp)>, AccountsError> {
        // Without NONBLOCK a pipe at this path would block the process.
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
        file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(|e| self.io(e))?;
        if bytes.len() as u64 > MAX_SIZE {
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

    /// User and group of the file's folder.
    fn folder_owner(&self) -> Result<(u32, u32), AccountsError> {
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let meta = folder.metadata().map_err(|e| self.io(e))?;
        Ok((meta.uid(), meta.gid()))
    }

    /// The present stamp of the file; none if there is no file.
    pub(super) fn stamp(&self) -> io::Result<Option<FileStamp>> {
        match self.path.metadata() {
            Ok(meta) => Ok(Some(stamp(&meta))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Changes the accounts under a lock, and replaces the file atomically.
    ///
    /// The file is created with the first account. If root changes it, it belongs to the owner of
    /// its folder, so that a server of that user can read it.
    ///
    /// # Errors
    /// The file is invalid, or `change` failed; nothing is changed then.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Accounts) -> Result<T, AccountError>,
    ) -> Result<T, AccountsError> {
        let owner = Some(self.folder_owner()?).filter(|_| rustix::process::geteuid().is_root());
        let _lock = self.lock(owner)?;
        let mut accounts = self.load()?.unwrap_or_default();
        let (before, former) = (accounts.generation(), self.highest_generation()?);
        if before < former {
            // The file is missing or was replaced by an older one: revoked rights stay revoked.
            accounts.raise_above(former);
        }
        let result = change(&mut accounts)?;
        self.write(&accounts, owner)?;
        Ok(result)
    }

    /// Reads the accounts at the start of a server.
    ///
    /// If the file is older than accounts that were in force before, its generation is raised, so
    /// that earlier tickets are invalid.
    ///
    /// # Errors
    /// As [`Self::load`]; errors of writing; [`AccountsError::Gone`].
    pub(super) fn load_to_serve(&self) -> Result<Option<(Accounts, FileStamp)>, AccountsError> {
        let Some(loaded) = self.load_stamped()? else {
            // A lost file must not restore anonymous access. A file that another process has just
            // created is there at the second attempt.
            return match self.highest_generation()? {
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
        if loaded.0.generation() >= self.highest_generation()? {
            return Ok(Some(loaded));
        }
        warn!(
            "the accounts file {} is older than the accounts in force before; \
             all users must log in again",
            self.path.display()
        );
        self.change(|_| Ok(()))?;
        self.load_stamped()
    }

    /// The path of the file with the highest generation that was ever in force.
    #[must_use]
    pub fn generation_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".generation");
        path.into()
    }

    fn highest_generation(&self) -> Result<u64, AccountsError> {
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
        let former = self.highest_generation()?;
        let note = || {
            let text = format!("{}\n", accounts.generation());
            if former < accounts.generation() {
                write_atomically_as(&self.generation_path(), text.as_bytes(), owner)
            } else {
                Ok(())
            }
        };
        let write = || write_atomically_as(&self.path, accounts.to_text().as_bytes(), owner);
        // The generation is written first: a crash between the two only forces new logins. The
        // first accounts are written before the generation, which tells that there were some.
        let written =
            if former == 0 { write().and_then(|()| note()) } else { note().and_then(|()| write()) };
        written.map_err(|e| self.io(e))
    }
}

fn stamp(meta: &Metadata) -> FileStamp {
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
    fn the_first_user_creates_the_file_and_the_last_keeps_it() {
        let (_temp, file) = file();
        assert!(file.load().unwrap().is_none());
        add(&file, "ann").unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(add(&file, "ann").is_err());
        file.change(|accounts| accounts.remove("ann")).unwrap();
        assert_eq!(file.load().unwrap().unwrap().iter().count(), 0);
    }

    #[test]
    fn an_unsafe_file_is_rejected() {
        let (temp, file) = file();
        add(&file, "ann").unwrap();
        for mode in [0o644, 0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(
                file.load(),
                Err(AccountsError::Exposed { mode: found, .. }) if found == mode
            ));
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
                "root writes it for the owner of the folder"
            );
        }
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert!(matches!(file.load(), Err(AccountsError::NotRegular(_))));
    }

    #[test]
    fn an_older_file_restores_no_rights() {
        let (_temp, file) = file();
        add(&file, "ann").unwrap();
        let old = fs::read(file.path()).unwrap();
        add(&file, "bob").unwrap();
        file.change(|accounts| accounts.remove("bob")).unwrap();
        let generation = file.load().unwrap().unwrap().generation();
        // An old file, loaded at the start of a server: earlier tickets are invalid.
        write_atomically_as(file.path(), &old, None).unwrap();
        let (served, _) = file.load_to_serve().unwrap().unwrap();
        assert!(served.generation() > generation && served.get("ann").is_some());
        assert_eq!(
            file.load_to_serve().unwrap().unwrap().0.generation(),
            served.generation(),
            "once"
        );
        // Lost, and created again.
        fs::remove_file(file.path()).unwrap();
        assert!(matches!(file.load_to_serve(), Err(AccountsError::Gone { .. })));
        add(&file, "eve").unwrap();
        assert!(file.load_to_serve().unwrap().unwrap().0.generation() > served.generation());
        // Anonymous access needs the removal of both files.
        fs::remove_file(file.path()).unwrap();
        fs::remove_file(file.generation_path()).unwrap();
        assert!(file.load_to_serve().unwrap().is_none());
    }

    #[test]
    fn an_invalid_file_is_not_changed() {
        let (_temp, file) = file();
        for bad in [&b"relais-accounts 1 1\nann\n"[..], b"\xff", b""] {
            fs::write(file.path(), bad).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
            assert!(add(&file, "bob").is_err());
            assert_eq!(fs::read(file.path()).unwrap(), bad);
        }
    }

    #[test]
    fn concurrent_changes_are_all_kept() {
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
