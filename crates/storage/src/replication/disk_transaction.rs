//! Disk steps of a batch, which are synced or rolled back together.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{CatalogError, CatalogStore, StagedName, Staging};
use log::{debug, error, warn};
use relais_cluster::{Entry, FileContent};
use relais_proto::{Attributes, Digest, FolderId, Kind, Lsn, Mode, TreePath};
use relais_tree::{
    Folder, Meta, MetaKind, OpenFile, TreeError, UnservedKind, hash_file, set_mode, set_times,
};

use super::apply_error::{ApplyError, At};
use super::known_entry::KnownEntry;
use crate::apply::{Applied, Applier, FolderCache, set_attributes_of};
use crate::parallel::parallel_map;
use crate::quarantine::{Displaced, Quarantine};

/// Why a displaced file was quarantined.
const DISPLACED: &str = "the tree has another entry at its path";
/// Error for a mount point at a path of the tree.
const MOUNTED: TreeError = TreeError::NotServed(UnservedKind::Mount);

/// The served folder, and the folders of the replica in it.
pub(super) struct ReplicaDisk {
    pub root: Arc<Folder>,
    pub staging: Staging,
    pub quarantine: Quarantine,
}

impl ReplicaDisk {
    pub fn open(root: Folder) -> Result<Self, TreeError> {
        let (staging, quarantine) = (Staging::open(&root)?, Quarantine::open(&root)?);
        Ok(Self { staging, quarantine, root: Arc::new(root) })
    }

    /// Handles a fetched or held file that an earlier process left. Content from other slaves is
    /// discarded and fetched again.
    ///
    /// A file that was held for another path returns to its own path, or is quarantined if that is
    /// taken. It may be the only copy.
    pub fn restore_held(
        &mut self,
        name: &StagedName,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let (staged, file) = (&self.staging.staged, name.to_string());
        let row = name.put_lsn().map(|put| store.row_of_put(put)).transpose()?.flatten();
        let held = row.filter(|(_, row)| {
            let meta = staged.stat_part(file.as_bytes());
            meta.is_ok_and(|meta| row.matches_except_ctime(&meta))
        });
        let Some((path, _)) = held else {
            self.staging.discard(name);
            return Ok(());
        };
        let Some((parent, own)) = path.split_last() else { return Ok(()) };
        let placed = self.root.open_folder(&parent).and_then(|parent| {
            staged.move_new(&file, &parent, own)?;
            parent.sync()
        });
        match placed {
            Err(TreeError::Taken | TreeError::NotFound | TreeError::NotFolder) => {
                self.quarantine.take_removed(staged, &file, &path, "its path was taken")?;
            }
            placed => placed?,
        }
        Ok(())
    }

    /// Same as [`DiskTransaction::stat`].
    pub fn stat(&self, path: &TreePath) -> Result<Option<Meta>, ApplyError> {
        stat(&mut FolderCache::new(&self.root), path)
    }

    /// Returns a transaction without steps. `lsn` is that of a change which is not applied yet.
    pub fn transaction<'a>(&'a mut self, store: &'a CatalogStore, lsn: Lsn) -> DiskTransaction<'a> {
        DiskTransaction {
            root: &self.root,
            store,
            staging: &self.staging,
            quarantine: &mut self.quarantine,
            parents: FolderCache::new(&self.root),
            done: Vec::new(),
            lsn,
            touched: BTreeSet::new(),
        }
    }

    /// Begins a transaction of disk and catalogue. Commits the rows of a scan that is running.
    pub fn begin<'a>(
        &'a mut self,
        store: &'a CatalogStore,
        lsn: Lsn,
    ) -> Result<DiskTransaction<'a>, CatalogError> {
        store.commit()?;
        store.begin()?;
        Ok(self.transaction(store, lsn))
    }
}

/// Disk steps that belong together. They are durable after [`Self::sync`], or can be rolled back.
pub(super) struct DiskTransaction<'a> {
    pub root: &'a Folder,
    pub store: &'a CatalogStore,
    pub staging: &'a Staging,
    quarantine: &'a mut Quarantine,
    parents: FolderCache<'a>,
    done: Vec<Applied>,
    /// Names the removed files. The sweeper deletes those up to the last applied change, so this is
    /// a
    /// later one until the transaction has ended.
    pub lsn: Lsn,
    /// Folders to sync beside those of [`Self::done`].
    touched: BTreeSet<TreePath>,
}

fn stat(parents: &mut FolderCache<'_>, path: &TreePath) -> Result<Option<Meta>, ApplyError> {
    let Some((parent, name)) = path.split_last() else { return Ok(None) };
    match parents.get(&parent).and_then(|parent| parent.survey(name.as_bytes())) {
        Ok(survey) if survey.mount_point => Err(MOUNTED).at(path),
        Ok(survey) => Ok(Some(survey.meta)),
        Err(TreeError::NotServed(UnservedKind::Mount)) => Err(MOUNTED).at(path),
        Err(TreeError::NotFound | TreeError::NotFolder | TreeError::NotServed(_)) => Ok(None),
        Err(e) => Err(e).at(path),
    }
}

impl<'a> DiskTransaction<'a> {
    /// Returns the metadata at a path; `None` if nothing is there or a folder above is missing.
    ///
    /// A mount at or above the path is an error, because it may hide an entry.
    pub fn stat(&mut self, path: &TreePath) -> Result<Option<Meta>, ApplyError> {
        stat(&mut self.parents, path)
    }

    /// Creates the folder at a path and those above it, each with its mode in the tree.
    pub fn ensure_folder(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        if self.parents.has(path) {
            return Ok(());
        }
        let row = self.store.row(path)?.filter(|row| row.entry.kind == Kind::Folder);
        // A folder that is not in the tree yet stays private until it is.
        let mode = row.map_or(Mode::new(0o700), |row| row.entry.mode);
        self.ensure_folder_as(path, mode)
    }

    /// Same as [`Self::ensure_folder`]; a new folder gets this mode.
    pub fn ensure_folder_as(&mut self, path: &TreePath, mode: Mode) -> Result<(), ApplyError> {
        let Some((parent, name)) = path.split_last() else { return Ok(()) };
        if self.root.open_folder(path).is_ok() {
            return Ok(());
        }
        self.ensure_folder(&parent)?;
        let folder = self.root.open_folder(&parent).at(&parent)?;
        let make = || folder.make_folder_as(name, mode.with_owner_access(Kind::Folder));
        let mut made = make();
        if matches!(made, Err(TreeError::Taken)) {
            // A folder that exists and cannot be used is left alone.
            if self.stat(path)?.is_some_and(|there| there.kind == MetaKind::Folder) {
                return self.root.open_folder(path).map(drop).at(path);
            }
            self.quarantine(path, DISPLACED, "")?;
            made = make();
        }
        made.at(path)?;
        self.touched.insert(parent);
        Ok(())
    }

    /// Creates the folder above a path, and those above that.
    pub fn ensure_parent(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        path.split_last().map_or(Ok(()), |(parent, _)| self.ensure_folder(&parent))
    }

    /// Returns the error of an unapplied folder above a path, if it still exists. Content is not
    /// fetched for such a path, and the content that the folder hides stays known.
    pub fn ensure_unblocked(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        if self.store.unapplied_above(path)?.is_some() { self.ensure_parent(path) } else { Ok(()) }
    }

    /// Returns an error if an entry at or below the path waits to be moved elsewhere.
    pub fn check_not_source(&self, path: &TreePath) -> Result<(), ApplyError> {
        if self.store.is_source(path)? {
            return Err(ApplyError::Refused(format!("{path}: an entry there must be moved first")));
        }
        Ok(())
    }

    /// Creates the folder at a path, or sets the mode of the present one. Returns its metadata.
    pub fn create_folder(
        &mut self,
        path: &TreePath,
        mode: Mode,
    ) -> Result<Option<Meta>, ApplyError> {
        self.ensure_folder_as(path, mode)?;
        self.set_attributes(path, &Attributes::mode(mode))
    }

    /// Creates and records a folder of the tree.
    pub fn add_folder(&mut self, path: &TreePath, entry: &Entry) -> Result<(), ApplyError> {
        self.check_not_source(path)?;
        let store = self.store;
        if store.row(path)?.is_some_and(|row| row.entry.kind == Kind::File) {
            self.quarantine_unknown(path, &KnownEntry::default())?;
            store.remove(path)?;
        }
        // The disk may still have an entry that was removed earlier.
        if store.unapplied(path)?.is_some_and(|found| found.removal) {
            self.remove_leftover(path)?;
            store.remove(path)?;
        }
        let meta = self.create_folder(path, entry.mode)?;
        store.clear_unapplied(path)?;
        Ok(store.put_entry(path, entry, meta.as_ref(), &[])?)
    }

    /// Returns the metadata at a path, and whether the catalogue knows the file or folder there, or
    /// retains its content.
    ///
    /// If only the ctime differs the content is read, because a program may have edited it and
    /// restored the times.
    pub fn examine(
        &mut self,
        path: &TreePath,
        known: &KnownEntry,
    ) -> Result<Option<(Meta, bool)>, ApplyError> {
        let Some(meta) = self.stat(path)? else { return Ok(None) };
        let is_known = has_known_content(&meta, known, || self.root.open_file(path));
        Ok(Some((meta, is_known.at(path)?)))
    }

    /// Quarantines the entry at a path, unless the catalogue knows it. Returns whether a known
    /// entry is there.
    pub fn quarantine_unknown(
        &mut self,
        path: &TreePath,
        known: &KnownEntry,
    ) -> Result<bool, ApplyError> {
        let found = self.examine(path, known)?;
        if let Some((meta, false)) = found {
            debug!("{path} is {meta:?}; the catalogue has {known:?}");
            self.quarantine(path, DISPLACED, "")?;
        }
        Ok(found.is_some_and(|(_, is_known)| is_known))
    }

    /// Quarantines the entry at a path. `details` are more lines for the note.
    pub fn quarantine(
        &mut self,
        path: &TreePath,
        reason: &str,
        details: &str,
    ) -> Result<(), ApplyError> {
        self.parents.clear();
        let taken = self.quarantine.take(path, reason, details);
        taken.map(drop).at(path)
    }

    /// Applies a step that quarantines unknown files. Returns the metadata of the entry at its new
    /// path, if there is one.
    ///
    /// The change is not refused, because other slaves have it already.
    fn step(
        &mut self,
        path: &TreePath,
        work: impl FnOnce(&mut Applier<'_, 'a>) -> Result<Option<Applied>, TreeError>,
    ) -> Result<Option<Meta>, ApplyError> {
        let store = self.store;
        let known = &mut |displaced: &Displaced<'_>| {
            belongs(store, displaced)
                .map_err(|e| TreeError::Io("look up", std::io::Error::other(e)))
        };
        let applied = work(&mut Applier {
            parents: &mut self.parents,
            staging: self.staging,
            quarantine: self.quarantine,
            known,
        })
        .at(path)?;
        let meta = applied.as_ref().and_then(|applied| applied.meta);
        self.done.extend(applied);
        Ok(meta)
    }

    /// Moves an entry, as a step that can be rolled back. Returns its metadata.
    pub fn move_to(&mut self, from: &TreePath, to: &TreePath) -> Result<Option<Meta>, ApplyError> {
        let lsn = self.lsn;
        let meta = self.step(to, |applier| applier.move_to(from, to, lsn).map(Some))?;
        self.parents.clear();
        Ok(meta)
    }

    /// Moves a file to a staged name. Returns `false` if the file is unknown; it is then
    /// quarantined.
    pub fn hold(&mut self, path: &TreePath, name: &StagedName) -> Result<bool, ApplyError> {
        let before = self.done.len();
        self.step(path, |applier| applier.hold(path, name))?;
        Ok(self.done.len() > before)
    }

    /// Sets attributes at a path and returns the new metadata, if an entry is there. If the disk
    /// refuses them, the tree has them all the same.
    pub fn set_attributes(
        &mut self,
        path: &TreePath,
        attributes: &Attributes,
    ) -> Result<Option<Meta>, ApplyError> {
        match set_attributes_of(self.root, path, attributes) {
            Ok(meta) => Ok(Some(meta)),
            Err(TreeError::NotFound | TreeError::NotFolder) => Ok(None),
            Err(e) => {
                warn!("cannot set the attributes of {path} on this disk: {e}");
                self.stat(path)
            }
        }
    }

    /// Sets the mode of a file if it is the known one. Returns its new metadata.
    pub fn set_known_mode(
        &mut self,
        path: &TreePath,
        mode: Mode,
        known: &KnownEntry,
    ) -> Result<Option<Meta>, ApplyError> {
        let is_same = |meta: &Meta| known.is_same_file(meta);
        match self.stat(path)?.filter(is_same) {
            Some(_) => Ok(self.set_attributes(path, &Attributes::mode(mode))?.filter(is_same)),
            None => Ok(None),
        }
    }

    /// Publishes staged content at a path, over known content there, and records the entry.
    pub fn publish(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        staged: &StagedName,
        known: &KnownEntry,
    ) -> Result<(), ApplyError> {
        self.ensure_parent(path)?;
        let meta = self.step(path, |applier| applier.put(path, entry.mode, staged).map(Some))?;
        let meta = meta.ok_or(ApplyError::Tree(TreeError::NotFound))?;
        match known.row {
            Some(_) => self.store.settle_entry(path, entry, Some(&meta))?,
            None => self.store.settle_new_entry(path, entry, &meta)?,
        }
        Ok(())
    }

    /// Records an entry whose content is missing. The present content stays until that arrives.
    pub fn await_content(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        holders: &[FolderId],
        known: &KnownEntry,
    ) -> Result<(), ApplyError> {
        let is_there = self.quarantine_unknown(path, known)?;
        self.store.clear_unapplied(path)?;
        self.store.put_entry(path, entry, None, holders)?;
        let former = known.content().filter(|_| is_there);
        Ok(self.store.set_retained(path, former.as_ref())?)
    }

    /// Records a file of the tree whose path is new to catalogue and disk. Its content is missing.
    ///
    /// Returns `false`, and changes nothing, if the path needs the steps for entries that exist.
    pub fn record_new_file(
        &mut self,
        path: &TreePath,
        entry: &Entry,
    ) -> Result<bool, CatalogError> {
        let is_new = entry.content.is_some()
            && self.store.has_nothing_unusual()?
            && matches!(self.stat(path), Ok(None));
        Ok(is_new && self.store.insert_missing(path, entry)?)
    }

    /// Publishes content that was staged for an entry of the tree, and records the entry.
    pub fn publish_fetched(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        staged: &StagedName,
        known: KnownEntry,
    ) -> Result<(), ApplyError> {
        self.check_not_source(path)?;
        let known = self.settle_known(path, known)?;
        self.fix_attributes(entry, staged)?;
        self.quarantine_unknown(path, &known)?;
        self.publish(path, entry, staged, &known)
    }

    /// Publishes content that was fetched for an entry of the tree, at a path where nothing is. The
    /// file is complete, as `meta` describes it.
    ///
    /// Returns `false`, and changes nothing, if it needs the steps of [`Self::publish_fetched`].
    pub fn publish_new(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        staged: &StagedName,
        meta: &Meta,
    ) -> Result<bool, CatalogError> {
        let Some(content) = entry.content else { return Ok(false) };
        let mode = entry.mode.with_owner_access(Kind::File);
        if (meta.size, meta.mtime, meta.mode) != (content.size, content.mtime, mode)
            || self.store.is_source(path)?
        {
            return Ok(false);
        }
        // The other steps find an error again, and handle it.
        match self.step(path, |applier| applier.put_new(path, staged, *meta)) {
            Ok(Some(meta)) => {
                self.store.record_arrival(path, entry, &content, &meta)?;
                Ok(true)
            }
            Ok(None) | Err(_) => Ok(false),
        }
    }

    /// Sets mode and time of staged content. A file with the same bytes on another slave may have
    /// had others.
    fn fix_attributes(&self, entry: &Entry, staged: &StagedName) -> Result<(), ApplyError> {
        let Some(content) = entry.content else { return Ok(()) };
        let mode = entry.mode.with_owner_access(Kind::File);
        let meta = self.staging.staged.stat_part(staged.to_string().as_bytes())?;
        if (meta.mtime, meta.mode) == (content.mtime, mode) {
            return Ok(());
        }
        let file = self.staging.staged.open_read(staged.to_string())?.file;
        set_mode(&file, mode)?;
        set_times(&file, content.mtime)?;
        Ok(file.sync_all().map_err(|e| TreeError::Io("sync the file", e))?)
    }

    /// Removes a known file. The step can be rolled back.
    pub fn remove(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        let lsn = self.lsn;
        self.step(path, |applier| applier.remove(path, lsn).map(Some))?;
        self.parents.clear();
        Ok(())
    }

    /// Removes a file if the catalogue knows it, and quarantines it otherwise.
    pub fn remove_known(&mut self, path: &TreePath, known: &KnownEntry) -> Result<(), ApplyError> {
        if self.quarantine_unknown(path, known)? {
            self.remove(path)?;
        }
        Ok(())
    }

    /// Removes a folder and its known entries; unknown ones are quarantined.
    ///
    /// The folder stays if it holds a mount point or an unreadable folder, because their files are
    /// no part of the tree and would be lost.
    pub fn remove_folder(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        if self.stat(path)?.is_none() {
            return Ok(());
        }
        let mut open = vec![path.clone()];
        while let Some(path) = open.pop() {
            let entries = match self.root.open_folder(&path).and_then(|folder| folder.survey_all())
            {
                Err(TreeError::NotFound | TreeError::NotFolder) => continue,
                entries => entries.at(&path)?,
            };
            for (name, survey) in entries {
                let below = path.join_bytes(&name);
                if survey.mount_point {
                    return Err(MOUNTED).at(&below.unwrap_or(path));
                }
                open.extend(below.filter(|_| survey.meta.kind == MetaKind::Folder));
            }
        }
        self.remove(path)
    }

    /// Removes the leftover of a removed entry. Unknown files are quarantined.
    pub fn remove_leftover(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        let Some(meta) = self.stat(path)? else { return Ok(()) };
        if meta.kind == MetaKind::Folder {
            return self.remove_folder(path);
        }
        let known = KnownEntry { row: None, retained: self.store.retained(path)? };
        self.remove_known(path, &known)
    }

    /// Returns the metadata of a file that already has the content of an entry, though the
    /// catalogue
    /// does not know it. The file gets the mode and the time of the tree.
    pub fn claim_existing(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        known: &KnownEntry,
    ) -> Result<Option<Meta>, ApplyError> {
        let (Some(content), mode) = (&entry.content, entry.mode) else { return Ok(None) };
        let Some(there) = self.stat(path)?.filter(|there| may_have(there, content)) else {
            return Ok(None);
        };
        let wanted = mode.with_owner_access(Kind::File);
        // The digest of a known file was recorded after a sync of the file.
        if known.digest_of(&there) == Some(content.digest)
            && there.mode.with_owner_access(Kind::File) == wanted
            && there.mtime == content.mtime
        {
            self.touched.extend(path.split_last().map(|(parent, _)| parent));
            return Ok(Some(there));
        }
        let file = match self.root.open_file(path) {
            Ok(file) => file,
            Err(e) => {
                warn!("cannot read {path}: {e}");
                return Ok(None);
            }
        };
        let digest = known.digest_of(&file.meta);
        if !has_content(&file, content, digest).at(path)? {
            return Ok(None);
        }
        if file.meta.mode.with_owner_access(Kind::File) != wanted
            && let Err(e) = set_mode(&file.file, wanted)
        {
            warn!("cannot set mode {mode} of {path} on this disk: {e}");
        }
        // A file of another user cannot get the time. Our own copy replaces it.
        if file.meta.mtime != content.mtime
            && let Err(e) = set_times(&file.file, content.mtime)
        {
            warn!("cannot set the time of {path}; it is replaced by a copy: {}", e.reason());
            return Ok(None);
        }
        let synced = file.file.sync_all().map_err(|e| TreeError::Io("sync the file", e));
        let meta = synced.and_then(|()| file.meta_now()).at(path)?;
        self.touched.extend(path.split_last().map(|(parent, _)| parent));
        Ok(Some(meta))
    }

    /// Records a file that already has the content of an entry. Returns `false` if there is none.
    pub fn adopt_existing(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        known: &KnownEntry,
    ) -> Result<bool, ApplyError> {
        let Some(meta) = self.claim_existing(path, entry, known)? else { return Ok(false) };
        self.store.settle_entry(path, entry, Some(&meta))?;
        Ok(true)
    }

    /// Returns what the catalogue knows about the entry at a path.
    ///
    /// A crash may have come between the rename and the commit. Such content is recorded first, so
    /// that it does not count as a user's file.
    pub fn load(&mut self, path: &TreePath) -> Result<KnownEntry, ApplyError> {
        let known = KnownEntry::load(self.store, path)?;
        self.settle_known(path, known)
    }

    fn settle_known(
        &mut self,
        path: &TreePath,
        known: KnownEntry,
    ) -> Result<KnownEntry, ApplyError> {
        if let Some((entry, _)) = known.missing()
            && self.examine(path, &known)?.is_some_and(|(_, is_known)| !is_known)
            && let Some(meta) = self.claim_existing(path, &entry, &KnownEntry::default())?
        {
            self.store.set_retained(path, None)?;
            self.store.put_entry(path, &entry, Some(&meta), &[])?;
            return Ok(KnownEntry { row: self.store.row(path)?, retained: None });
        }
        Ok(known)
    }

    /// Same as [`Self::load`]. A folder at the path makes room for a file: the cluster does not
    /// know it, so a user has created it.
    pub fn load_for_file(&mut self, path: &TreePath) -> Result<KnownEntry, ApplyError> {
        let known = self.load(path)?;
        if !known.is(Kind::Folder) {
            return Ok(known);
        }
        self.quarantine_unknown(path, &KnownEntry::default())?;
        self.store.remove(path)?;
        Ok(KnownEntry::default())
    }

    /// Syncs all folders concerned.
    pub fn sync(&mut self) -> Result<(), ApplyError> {
        self.touched.extend(self.done.iter().flat_map(|applied| applied.parents.iter().cloned()));
        let concerned: Vec<TreePath> = std::mem::take(&mut self.touched).into_iter().collect();
        let results = parallel_map(&concerned, |path| match self.root.open_folder(path) {
            // A folder that was removed since is synced with the folder above it.
            Err(TreeError::NotFound | TreeError::NotFolder) => Ok(()),
            opened => opened.and_then(|folder| folder.sync()),
        });
        concerned.iter().zip(results).try_for_each(|(path, result)| result.at(path))
    }

    /// Returns the files that were published, as the catalogue has them.
    pub fn published(&self) -> impl Iterator<Item = (TreePath, Meta)> {
        self.done.iter().filter_map(Applied::published)
    }

    /// Deletes replaced and removed files. Returns whether the sweeper has something to do.
    pub fn finish(self) -> bool {
        let Self { done, staging, quarantine, .. } = self;
        done.iter().filter(|applied| applied.finish(staging, quarantine)).count() > 0
    }

    /// Rolls back the transaction of the catalogue and all steps.
    pub fn roll_back(mut self) {
        if let Err(e) = self.store.rollback() {
            error!("cannot roll back the catalogue: {e}");
        }
        self.roll_back_to(0);
    }

    /// Rolls back the steps after the first `count`.
    fn roll_back_to(&mut self, count: usize) {
        while self.done.len() > count
            && let Some(applied) = self.done.pop()
        {
            self.parents.clear();
            applied.roll_back(&mut self.parents, self.staging, self.quarantine);
        }
        self.parents.clear();
    }

    /// Runs `work`, which the disk may refuse for a reason that concerns the path.
    ///
    /// In that case its steps and rows are rolled back, and the inner result is the reason.
    pub fn attempt<T>(
        &mut self,
        path: &TreePath,
        work: impl FnOnce(&mut Self) -> Result<T, ApplyError>,
    ) -> Result<Result<T, String>, ApplyError> {
        let before = self.begin_attempt()?;
        let result = work(self);
        self.end_attempt(before, path, result)
    }

    /// Begins what [`Self::attempt`] does. Returns the number of earlier steps.
    pub fn begin_attempt(&self) -> Result<usize, CatalogError> {
        self.store.begin_savepoint()?;
        Ok(self.done.len())
    }

    /// Ends what [`Self::begin_attempt`] has begun.
    pub fn end_attempt<T>(
        &mut self,
        before: usize,
        path: &TreePath,
        result: Result<T, ApplyError>,
    ) -> Result<Result<T, String>, ApplyError> {
        let result = match result {
            Err(e) if e.is_path_specific() => {
                self.roll_back_to(before);
                Err(e.reason(path))
            }
            result => Ok(result?),
        };
        self.store.end_savepoint(result.is_ok())?;
        Ok(result)
    }
}

/// Returns an LSN after one.
pub(super) fn next(lsn: Lsn) -> Lsn {
    Lsn { number: lsn.number + 1, ..lsn }
}

/// Returns whether a file may have this content, by kind and size.
fn may_have(there: &Meta, content: &FileContent) -> bool {
    there.kind == MetaKind::File && there.size == content.size
}

/// Returns whether a file has this content. Computes the digest if it is not known.
pub(super) fn has_content(
    file: &OpenFile,
    content: &FileContent,
    known: Option<Digest>,
) -> Result<bool, TreeError> {
    if !may_have(&file.meta, content) {
        return Ok(false);
    }
    match known {
        Some(digest) => Ok(digest == content.digest),
        None => Ok(digest_of(file)? == Some(content.digest)),
    }
}

/// Returns the digest of a file; `None` if the file changes meanwhile.
fn digest_of(file: &OpenFile) -> Result<Option<Digest>, TreeError> {
    match hash_file(&file.file, file.meta.size, &mut |_| Ok(())) {
        Ok((digest, _)) => Ok(file.is_unchanged()?.then_some(digest)),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(TreeError::Io("read the file", e)),
    }
}

/// Returns whether a file or folder is the one that the catalogue knows, or its retained content.
/// If only the ctime differs the content is read.
fn has_known_content(
    meta: &Meta,
    known: &KnownEntry,
    open: impl FnOnce() -> Result<OpenFile, TreeError>,
) -> Result<bool, TreeError> {
    let (row, retained) = known.of_file(meta);
    if row.is_none() && retained.is_none() {
        return Ok(false);
    }
    if meta.kind == MetaKind::Folder
        || row.is_some_and(|row| row.matches(meta))
        || retained.is_some_and(|retained| retained.matches(meta))
    {
        return Ok(true);
    }
    let file = match open() {
        Ok(file) => file,
        Err(TreeError::NotFound) => return Ok(false),
        Err(e) => return Err(e),
    };
    let Some(digest) = digest_of(&file)? else { return Ok(false) };
    let wanted = [row.and_then(|row| row.digest), retained.map(|retained| retained.content.digest)];
    Ok(wanted.contains(&Some(digest)))
}

/// Returns whether a displaced file is part of the tree at its path.
fn belongs(store: &CatalogStore, displaced: &Displaced<'_>) -> Result<bool, ApplyError> {
    let known = KnownEntry::load(store, displaced.path)?;
    // The file was checked, with its ctime, right before the rename.
    if displaced.renamed && known.is_same_file(displaced.meta) {
        return Ok(true);
    }
    let open = || match std::str::from_utf8(displaced.name) {
        Ok(name) => displaced.folder.open_read(name),
        Err(_) => Err(TreeError::NotFound),
    };
    // The file may have got its name right before a crash.
    let has_missing = || match known.missing() {
        Some((_, content)) if may_have(displaced.meta, &content) => {
            has_content(&open()?, &content, None)
        }
        _ => Ok(false),
    };
    has_known_content(displaced.meta, &known, open)
        .and_then(|is_known| if is_known { Ok(true) } else { has_missing() })
        .at(displaced.path)
}
