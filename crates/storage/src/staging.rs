//! Staging: the bytes of uploads in `.relais/staging` until they are published.
//!
//! The name of a staged file is `ID-BINDING`: the id of the change, and a hash over user, path and
//! size. So an upload cannot be resumed with another user, path or size. The writer of a staged
//! file holds its lock. A complete file is sealed by a rename, and never opened for writing again,
//! because it may soon be published. Files that changes have removed lie in `.relais/removed` until
//! the sweeper deletes them.
//!
//! An upload by path has no id of a change before it is complete. Its file has a name of its own,
//! see [`StagedName::for_path`], and is sealed under the id of a new change.

use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{debug, warn};
use relais_proto::{ChangeId, Lsn, TreePath, limits, wire_struct};
use relais_tree::{Folder, MetaKind, TreeError};

use crate::metadata_folder::{FOLDER, open_or_create};

const STAGING: &str = "staging";
/// Suffix of a sealed file.
const SEALED: &str = ".whole";
/// Suffix of former content, on file systems that cannot exchange two names in one step.
const FORMER: &str = relais_tree::FORMER;
/// Suffix of the base of an upload by path.
const BASE: &str = ".base";
/// Binding of the uploads by path.
const BY_PATH: u64 = u64::MAX;
/// Binding of the files that say that a content is being hashed.
const HASHING: u64 = u64::MAX - 1;
/// Bindings below this one are those of fetched contents.
const FETCHES: u64 = 1 << 16;
/// Name of the folder of removed files.
const REMOVED: &str = "removed";

wire_struct! {
    /// Name of a staged file.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct StagedName {
        /// Id of the change; of an upload by path its key.
        pub id: ChangeId,
        /// Hash over user, path and size; below [`FETCHES`] for content that is fetched from
        /// another slave.
        pub binding: u64,
        /// Whether the file is complete and sealed.
        pub is_sealed: bool,
    }
}

impl fmt::Display for StagedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.is_sealed { SEALED } else { "" };
        write!(f, "{}-{:016x}{suffix}", self.id, self.binding)
    }
}

impl StagedName {
    /// Returns the name for an upload that is bound to user, path and size.
    #[must_use]
    pub fn new(id: ChangeId, user: &str, path: &TreePath, size: Option<u64>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("relais 2026-11 upload binding 1");
        for text in [user, path.as_str()] {
            hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
        }
        hasher.update(&size.map_or([0xff; 8], u64::to_be_bytes));
        let mut binding = [0; 8];
        hasher.finalize_xof().fill(&mut binding);
        Self { id, binding: u64::from_be_bytes(binding).max(FETCHES), is_sealed: false }
    }

    /// Returns the name for an upload that is found by its path, without an id or a size.
    ///
    /// `account` is the tag with which the ids of the user's changes begin. Uploads of users that
    /// share a name are told apart by the client's `address`.
    #[must_use]
    pub fn for_path(account: u32, user: &str, address: Option<IpAddr>, path: &TreePath) -> Self {
        let mut hasher =
            blake3::Hasher::new_derive_key("relais 2026-11 key of an upload by path 1");
        let address = address.map(|address| address.to_canonical().to_string());
        for text in [user, address.as_deref().unwrap_or_default(), path.as_str()] {
            hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
        }
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        key[..4].copy_from_slice(&account.to_be_bytes());
        Self::of_key(key)
    }

    /// Returns the name for an upload with this key.
    #[must_use]
    pub fn of_key(key: [u8; 16]) -> Self {
        Self { id: ChangeId(key), binding: BY_PATH, is_sealed: false }
    }

    /// Returns whether this is the name of an upload by path that is not complete.
    #[must_use]
    pub fn is_by_path(&self) -> bool {
        self.binding == BY_PATH && !self.is_sealed
    }

    /// Returns the name for content of a put that is fetched from another slave.
    #[must_use]
    pub fn for_put(put: Lsn) -> Self {
        let mut id = *b"put.............";
        id[4..8].copy_from_slice(&put.epoch.to_be_bytes());
        id[8..16].copy_from_slice(&put.number.to_be_bytes());
        Self { id: ChangeId(id), binding: 0, is_sealed: false }
    }

    /// Returns a name for content of a put that is fetched at once.
    ///
    /// Attempts with other numbers have other names, so none writes into a file that another one
    /// has completed.
    #[must_use]
    pub fn for_attempt(put: Lsn, attempt: u16) -> Self {
        Self { binding: u64::from(attempt), ..Self::for_put(put) }
    }

    /// Returns the name of the empty file that is locked while the content of a put is hashed.
    #[must_use]
    pub fn for_hashing(put: Lsn) -> Self {
        Self { binding: HASHING, ..Self::for_put(put) }
    }

    /// Returns whether the file belongs to an upload.
    fn is_of_upload(&self) -> bool {
        !self.is_fetched() && self.binding != HASHING
    }

    /// Returns the put of fetched content, or of content that is held for another path.
    #[must_use]
    pub fn put_lsn(&self) -> Option<Lsn> {
        let (epoch, number) = (self.id.0[4..8].try_into().ok()?, self.id.0[8..].try_into().ok()?);
        self.is_fetched()
            .then(|| Lsn { epoch: u32::from_be_bytes(epoch), number: u64::from_be_bytes(number) })
    }

    /// Returns whether the file is fetched from another slave.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        self.binding < FETCHES && !self.is_sealed
    }

    /// Returns the name of the sealed file.
    #[must_use]
    pub fn sealed(&self) -> Self {
        Self { is_sealed: true, ..*self }
    }

    /// Returns the name of the file before it is sealed.
    #[must_use]
    pub fn unsealed(&self) -> Self {
        Self { is_sealed: false, ..*self }
    }

    /// Returns the name of the base of an upload by path.
    #[must_use]
    pub(crate) fn base(&self) -> String {
        format!("{self}{BASE}")
    }

    /// Parses a name. Returns `None` for other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, binding) = text.strip_suffix(SEALED).unwrap_or(text).split_once('-')?;
        let binding = u64::from_str_radix(binding, 16).ok()?;
        let name = Self { id: id.parse().ok()?, binding, is_sealed: text.ends_with(SEALED) };
        (name.to_string() == text).then_some(name)
    }
}

/// A staged file of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedUpload {
    /// Name of the file.
    pub name: StagedName,
    /// Size in bytes.
    pub bytes: u64,
    /// Time since the last write, in milliseconds.
    pub age_ms: u64,
}

/// The folders of staged and removed files.
#[derive(Debug)]
pub struct Staging {
    /// Files of uploads and fetched contents.
    pub staged: Folder,
    /// Files that changes have removed from the tree.
    pub removed: Folder,
}

impl Staging {
    /// Opens both folders, and creates them if they are missing.
    ///
    /// # Errors
    /// Returns the errors of the folder.
    pub fn open(root: &Folder) -> Result<Self, TreeError> {
        let own = root.sub(FOLDER)?;
        Ok(Self { staged: open_or_create(&own, STAGING)?, removed: open_or_create(&own, REMOVED)? })
    }

    /// Opens a staged file, creates it if it is missing, and takes its lock.
    ///
    /// # Errors
    /// Returns [`TreeError::InUse`] if another connection has the lock.
    pub fn claim(&self, name: &StagedName) -> Result<File, TreeError> {
        let name = name.to_string();
        match self.staged.create_new_locked(&name) {
            Err(TreeError::Taken) => self.staged.create_or_open_part(name),
            other => other,
        }
    }

    /// Creates a staged file that does not exist, without a lock.
    ///
    /// # Errors
    /// Returns [`TreeError::Taken`] if it exists.
    pub fn create(&self, name: &StagedName) -> Result<File, TreeError> {
        self.staged.create_new(name.to_string())
    }

    /// Same as [`Self::claim`], for a file that exists.
    ///
    /// # Errors
    /// Returns [`TreeError::NotFound`], or the errors of [`Self::claim`].
    pub fn reopen(&self, name: &StagedName) -> Result<File, TreeError> {
        self.staged.open_part_locked(name.to_string())
    }

    /// Returns whether a staged file exists.
    #[must_use]
    pub fn contains(&self, name: &StagedName) -> bool {
        self.staged.stat_part(name.to_string().as_bytes()).is_ok()
    }

    /// Syncs all staged files, with all others of the file system.
    ///
    /// The kernel reports an error of any file once for each opened folder. So threads that sync at
    /// the same time open the folder each for itself.
    ///
    /// # Errors
    /// Returns the errors of the system call. Which file has failed is not known.
    pub fn sync_all(&self) -> Result<(), TreeError> {
        self.staged.sync_file_system()
    }

    /// Seals a staged file under the name `sealed`.
    ///
    /// # Errors
    /// Returns the error of the rename.
    pub fn seal(&self, name: &StagedName, sealed: &StagedName) -> Result<(), TreeError> {
        self.staged.move_new(name.to_string(), &self.staged, sealed.to_string())
    }

    /// Deletes a staged file. A missing file is no error.
    pub fn discard(&self, name: &StagedName) {
        match self.staged.unlink(name.to_string()) {
            Ok(()) | Err(TreeError::NotFound) => {}
            Err(e) => warn!("cannot delete a staged file yet: {e}"),
        }
        if name.is_by_path() {
            self.remove_base(name);
        }
    }

    /// Deletes the base of an upload by path. A missing file is no error.
    pub fn remove_base(&self, name: &StagedName) {
        match self.staged.unlink(name.base()) {
            Ok(()) | Err(TreeError::NotFound) => {}
            Err(e) => warn!("cannot delete the base of a staged file yet: {e}"),
        }
    }

    /// Deletes a staged file unless a connection still writes it. Returns whether it is gone.
    pub fn discard_unlocked(&self, name: &StagedName) -> bool {
        match self.reopen(name) {
            Ok(_locked) => {
                self.discard(name);
                true
            }
            Err(e) => matches!(e, TreeError::NotFound),
        }
    }

    /// Deletes a staged file of an abandoned upload.
    fn discard_abandoned(&self, name: &[u8]) {
        let Ok(text) = std::str::from_utf8(name) else { return };
        if let Some(name) =
            StagedName::parse(text).filter(|name| name.is_sealed || self.claim(name).is_ok())
        {
            debug!("deleting the staged file of an abandoned upload");
            self.discard(&name);
        } else if self.is_left_over(text)
            && let Err(e) = self.staged.unlink(text)
        {
            debug!("cannot delete a file in staging: {e}");
        }
    }

    /// Whether an old file in staging belongs to no upload: former content, or the base of an
    /// upload that has gone.
    fn is_left_over(&self, text: &str) -> bool {
        text.ends_with(FORMER)
            || text
                .strip_suffix(BASE)
                .and_then(StagedName::parse)
                .is_some_and(|name| !self.contains(&name))
    }

    /// Deletes removed files. Files of changes after `settled` may still be restored, so they stay.
    /// Another process may use the folder at the same time.
    pub fn sweep_removed(&self, settled: Lsn, stop: &dyn Fn() -> bool) {
        delete_all(&self.removed, &|name| is_settled(name, settled), stop);
    }

    /// Returns the names of all uploads by path that are not complete.
    #[must_use]
    pub fn path_uploads(&self) -> Vec<StagedName> {
        let Ok(listing) = self.staged.list() else { return Vec::new() };
        let name = |name: &[u8]| std::str::from_utf8(name).ok().and_then(StagedName::parse);
        let names = listing.flatten().filter_map(|listed| name(listed.name()));
        names.filter(StagedName::is_by_path).collect()
    }

    /// Deletes staged files that were not written for [`limits::STAGED_TIME`], and parts of uploads
    /// whose change `is_committed`: their clients have finished them elsewhere. Returns the other
    /// files of uploads, for [`UploadTable::reconcile`](crate::upload_table::UploadTable). Another
    /// process may use the folder at the same time.
    #[must_use]
    pub fn sweep_staged(
        &self,
        mut is_committed: impl FnMut(ChangeId) -> bool,
    ) -> Vec<UnfinishedUpload> {
        let mut unfinished = Vec::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Ok(listing) = self.staged.list() else { return unfinished };
        for listed in listing.flatten() {
            let name = listed.name();
            // The ctime counts, because clients choose the modification time.
            let Ok(meta) = self.staged.stat_part(name) else { continue };
            let age = now.as_secs().saturating_sub(meta.ctime.seconds.max(0).cast_unsigned());
            if age > limits::STAGED_TIME.as_secs() {
                self.discard_abandoned(name);
            } else if let Some(name) = std::str::from_utf8(name).ok().and_then(StagedName::parse)
                && name.is_of_upload()
                // The driver discards sealed files with their changes.
                && (name.is_sealed || !is_committed(name.id) || !self.discard_unlocked(&name))
            {
                unfinished.push(UnfinishedUpload {
                    name,
                    bytes: meta.size,
                    age_ms: age.saturating_mul(1000),
                });
            }
        }
        unfinished
    }
}

/// Returns whether a removed file belongs to a change up to `settled`. Such a change cannot be
/// rolled back any more.
fn is_settled(name: &[u8], settled: Lsn) -> bool {
    let version = std::str::from_utf8(name).ok().and_then(|name| {
        // One change may have removed several files.
        name.split('.').next()?.parse::<Lsn>().ok()
    });
    version.is_none_or(|version| version <= settled)
}

/// Deletes everything in a folder of the metadata folder.
fn delete_all(folder: &Folder, may_delete: &dyn Fn(&[u8]) -> bool, stop: &dyn Fn() -> bool) {
    let Ok(listing) = folder.list() else { return };
    for listed in listing.flatten() {
        if stop() {
            return;
        }
        if !may_delete(listed.name()) {
            continue;
        }
        let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(listed.name());
        let removed = match folder.survey(listed.name()) {
            // Files under a mount point are foreign.
            Ok(found) if found.mount_point => continue,
            Ok(found) if found.meta.kind == MetaKind::Folder => {
                if let Ok(below) = folder.sub_of_bytes(listed.name()) {
                    delete_all(&below, &|_| true, stop);
                }
                folder.remove_folder(name)
            }
            Ok(_) => folder.unlink(name),
            Err(e) => Err(e),
        };
        match removed {
            Ok(()) | Err(TreeError::NotFound) => {}
            Err(e) => debug!("cannot delete a removed file yet: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn staged_name_is_bound_to_user_path_and_size() {
        let path = |text: &str| TreePath::new(text).unwrap();
        let id = ChangeId([7; 16]);
        let name = StagedName::new(id, "ann", &path("a/b"), Some(5));
        assert_eq!(StagedName::parse(&name.to_string()), Some(name));
        for other in [
            StagedName::new(ChangeId([8; 16]), "ann", &path("a/b"), Some(5)),
            StagedName::new(id, "bob", &path("a/b"), Some(5)),
            StagedName::new(id, "ann", &path("a/c"), Some(5)),
            StagedName::new(id, "ann", &path("a/b"), Some(6)),
            StagedName::new(id, "ann", &path("a/b"), None),
            StagedName::new(id, "anna", &path("b"), Some(5)),
        ] {
            assert_ne!(other, name);
        }
        for bad in ["", "x-y", "../../x", &format!("{id}-"), &format!("{id}-zzzzzzzzzzzzzzzz")] {
            assert_eq!(StagedName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_of_uploads_by_path_depend_on_user_address_and_path() {
        let path = |text: &str| TreePath::new(text).unwrap();
        let address = |text: &str| Some(text.parse().unwrap());
        let name = StagedName::for_path(7, "", address("192.0.2.1"), &path("a/b"));
        assert!(name.is_by_path() && !name.is_fetched() && !name.sealed().is_by_path());
        assert_eq!(StagedName::parse(&name.to_string()), Some(name));
        assert_eq!(name.id.account(), 7);
        assert_eq!(name, StagedName::for_path(7, "", address("::ffff:192.0.2.1"), &path("a/b")));
        for other in [
            StagedName::for_path(7, "", address("192.0.2.2"), &path("a/b")),
            StagedName::for_path(7, "", None, &path("a/b")),
            StagedName::for_path(7, "", address("192.0.2.1"), &path("a/c")),
            StagedName::for_path(7, "ann", address("192.0.2.1"), &path("a/b")),
        ] {
            assert_ne!(other, name);
        }
    }

    #[test]
    fn sweep_deletes_settled_removals_and_keeps_fresh_uploads() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let staging = Staging::open(&Folder::open(dir.path()).unwrap()).unwrap();
        let removed = dir.path().join(FOLDER).join(REMOVED);
        std::fs::create_dir_all(removed.join("7/a/b")).unwrap();
        std::fs::write(removed.join("7/a/b/c"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", removed.join("7/link")).unwrap();
        let name = StagedName::new(ChangeId([1; 16]), "", &TreePath::new("f").unwrap(), None);
        drop(staging.claim(&name).unwrap());
        let made = ChangeId([2; 16]);
        let [gone, locked] =
            ["g", "h"].map(|path| StagedName::new(made, "", &TreePath::new(path).unwrap(), None));
        drop(staging.claim(&gone).unwrap());
        let lock = staging.claim(&locked).unwrap();
        std::fs::create_dir_all(removed.join("1-9")).unwrap();
        staging.sweep_removed(Lsn { epoch: 1, number: 8 }, &|| false);
        assert!(removed.join("1-9").exists(), "it may still be restored");
        staging.sweep_removed(Lsn { epoch: 1, number: 9 }, &|| false);
        let unfinished = || -> HashSet<_> {
            staging.sweep_staged(|id| id == made).into_iter().map(|file| file.name).collect()
        };
        assert_eq!(unfinished(), HashSet::from([name, locked]));
        assert!(!staging.contains(&gone), "its change is made");
        drop(lock);
        assert_eq!(unfinished(), HashSet::from([name]));
        assert!(std::fs::read_dir(&removed).unwrap().next().is_none());
        assert!(staging.contains(&name));
        assert!(std::path::Path::new("/etc/passwd").exists());
    }
}
