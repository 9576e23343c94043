//! The accounts file: checked on each read, and replaced atomically.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::warn;
use relais_os::write_atomically_as;
use thiserror::Error;

use super::table::{AccountError, Accounts};
use crate::secret_file::{SecretFile, SecretFileError};

/// Cap on the size of the file: some hundred thousand users.
const MAX_SIZE: u64 = 64 << 20;

/// The reason why the accounts file cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum AccountsError {
    /// The file is unsafe, malformed or unreadable.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// There were accounts, and their file is missing.
    #[error(
        "the accounts file {path} is gone, and there were accounts: restore it, or add users; \
         for anonymous access remove {former} as well"
    )]
    Gone { path: PathBuf, former: PathBuf },
    /// The change itself was refused.
    #[error(transparent)]
    Account(#[from] AccountError),
}

/// Device, inode, size and ctime of the file, to detect changes.
pub(super) type FileStamp = (u64, u64, u64, i64, i64);

/// The path of an accounts file, and the operations on it.
#[derive(Debug, Clone)]
pub struct AccountsFile(SecretFile);

impl AccountsFile {
    /// Names the file; nothing is read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(SecretFile { what: "accounts file", path, cap: MAX_SIZE })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Reads the accounts; none if there is no file, which means anonymous access.
    ///
    /// # Errors
    /// The file is unsafe, malformed or unreadable.
    pub fn load(&self) -> Result<Option<Accounts>, AccountsError> {
        Ok(self.load_stamped()?.map(|(accounts, _)| accounts))
    }

    pub(super) fn load_stamped(&self) -> Result<Option<(Accounts, FileStamp)>, AccountsError> {
        let Some((text, meta)) = self.0.read()? else { return Ok(None) };
        let accounts =
            Accounts::parse(&text).map_err(|bad| self.0.malformed(format!("is damaged: {bad}")))?;
        Ok(Some((accounts, stamp(&meta))))
    }

    /// The present stamp of the file; none if there is no file.
    pub(super) fn stamp(&self) -> io::Result<Option<FileStamp>> {
        match self.path().metadata() {
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
        let folder = self.0.folder().metadata().map_err(|e| self.0.io(e))?;
        let is_root = rustix::process::geteuid().is_root();
        let owner = is_root.then(|| (folder.uid(), folder.gid()));
        let _lock = self.lock(owner).map_err(|e| self.0.io(e))?;
        let mut accounts = self.load()?.unwrap_or_default();
        let former = self.highest_generation()?;
        if accounts.generation() < former {
            // The file is missing or was replaced by an older one: revoked rights stay revoked.
            accounts.raise_above(former);
        }
        let result = change(&mut accounts)?;
        self.write(&accounts, former, owner)?;
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
        let mut loaded = self.load_stamped()?;
        let former = self.highest_generation()?;
        if loaded.is_none() && former > 0 {
            // A lost file must not restore anonymous access. A file that another process has just
            // created is there at the second attempt.
            loaded = self.load_stamped()?;
            if loaded.is_none() {
                let (path, former) = (self.path().to_owned(), self.generation_path());
                return Err(AccountsError::Gone { path, former });
            }
        }
        if loaded.as_ref().is_none_or(|(accounts, _)| accounts.generation() >= former) {
            return Ok(loaded);
        }
        warn!(
            "the accounts file {} is older than the accounts in force before; \
             all users must log in again",
            self.path().display()
        );
        self.change(|_| Ok(()))?;
        self.load_stamped()
    }

    /// The path of the file with the highest generation that was ever in force.
    #[must_use]
    pub fn generation_path(&self) -> PathBuf {
        self.beside(".generation")
    }

    fn highest_generation(&self) -> Result<u64, AccountsError> {
        let (what, path) = ("file of the accounts' generation", self.generation_path());
        let file = SecretFile { what, path, cap: 32 };
        match std::fs::read_to_string(&file.path) {
            Ok(text) => Ok(text.trim().parse().map_err(|_| file.malformed("holds no number"))?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(file.io(e).into()),
        }
    }

    fn lock(&self, owner: Option<(u32, u32)>) -> io::Result<File> {
        let mut lock = OpenOptions::new();
        lock.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(self.beside(".lock"))?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::fchown(&lock, Some(user), Some(group))?;
        }
        lock.lock()?;
        Ok(lock)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path().as_os_str().to_owned();
        path.push(suffix);
        path.into()
    }

    fn write(
        &self,
        accounts: &Accounts,
        former: u64,
        owner: Option<(u32, u32)>,
    ) -> Result<(), AccountsError> {
        let generation = accounts.generation();
        let note = || {
            if former >= generation {
                return Ok(());
            }
            let text = format!("{generation}\n");
            write_atomically_as(&self.generation_path(), text.as_bytes(), owner)
        };
        let write = || write_atomically_as(self.path(), accounts.to_text().as_bytes(), owner);
        // The generation is written first: a crash between the two only forces new logins. The
        // first accounts are written before the generation, which tells that there were some.
        let written =
            if former == 0 { write().and_then(|()| note()) } else { note().and_then(|()| write()) };
        Ok(written.map_err(|e| self.0.io(e))?)
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

    use super::super::{table::Account, tests};
    use super::*;
    use crate::{Rights, SecretFileFault};

    fn file() -> (tempfile::TempDir, AccountsFile) {
        let temp = tempfile::tempdir().unwrap();
        let file = AccountsFile::new(temp.path().join("accounts"));
        (temp, file)
    }

    fn add(file: &AccountsFile, name: &str) -> Result<(), AccountsError> {
        file.change(|accounts| {
            accounts.add(
                name,
                Account { rights: Rights::Read, root: TreePath::root(), hash: tests::cheap_hash() },
            )
        })
    }

    fn fault<T>(result: Result<T, AccountsError>) -> SecretFileFault {
        match result {
            Err(AccountsError::File(error)) => error.fault,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was accepted"),
        }
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
            assert!(matches!(fault(file.load()), SecretFileFault::Exposed(found) if found == mode));
            assert!(matches!(fault(add(&file, "bob")), SecretFileFault::Exposed(_)));
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(file.path(), Some(4711), None).unwrap();
            assert!(matches!(fault(file.load()), SecretFileFault::ForeignOwner(4711)));
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
        assert!(matches!(fault(file.load()), SecretFileFault::NotRegular));
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
