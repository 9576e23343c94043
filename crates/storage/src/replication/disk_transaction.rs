//! Disk steps of a batch, which are synced or rolled back together.

use std::collections::BTreeSet;

use crate::{CatalogRow, CatalogStore, RetainedContent, StagedName, Staging};
use log::{debug, error, warn};
use relais_cluster::FileContent;
use relais_proto::{Attributes, Digest, Kind, Lsn, Mode, TreePath};
use relais_tree::{
    Folder, Meta, MetaKind, OpenFile, TreeError, UnservedKind, hash_file, set_mode, set_times,
};

use super::apply_error::ApplyError;
use super::state::ReplicaDriver;
use crate::apply::{Applied, Applier, FolderCache, set_attributes_of};
use crate::parallel::parallel_map;
use crate::quarantine::{Displaced, Quarantine};

/// Why a displaced file was quarantined.
const DISPLACED: &str = "the tree has another entry at its path";
/// Error for a mount point at a path of the tree.
const MOUNTED: TreeError = TreeError::NotServed(UnservedKind::Mount);

/// Disk steps that belong together. They are durable after [`Self::sync`], or can be rolled back.
pub(super) struct DiskTransaction<'a> {
    pub root: &'a Folder,
    store: &'a CatalogStore,
    pub staging: &'a Staging,
    pub quarantine: &'a mut Quarantine,
    parents: FolderCache<'a>,
    done: Vec<Applied>,
    /// Folders to sync beside those of [`Self::done`].
    touched: BTreeSet<TreePath>,
}

impl<'a> DiskTransaction<'a> {
    pub fn new(
        root: &'a Folder,
        store: &'a CatalogStore,
        staging: &'a Staging,
        quarantine: &'a mut Quarantine,
    ) -> Self {
        Self {
            root,
            store,
            staging,
            quarantine,
            parents: FolderCache::new(root),
            done: Vec::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Returns the metadata at a path; `None` if nothing is there or a folder above is missing.
    ///
    /// A mount at or above the path is an error, because it may hide an entry.
    pub fn stat(&mut self, path: &TreePath) -> Result<Option<Meta>, ApplyError> {
        let Some((parent, name)) = path.split_last() else { return Ok(None) };
        let looked = self.parents.get(&parent).and_then(|parent| parent.survey(name.as_bytes()));
        match looked {
            Ok(survey) if survey.mount_point => Err(ApplyError::at(path)(MOUNTED)),
            Ok(survey) => Ok(Some(survey.meta)),
            Err(TreeError::NotServed(UnservedKind::Mount)) => Err(ApplyError::at(path)(MOUNTED)),
            Err(TreeError::NotFound | TreeError::NotFolder | TreeError::NotServed(_)) => Ok(None),
            Err(e) => Err(ApplyError::at(path)(e)),
        }
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
        if path.is_root() || self.root.open_folder(path).is_ok() {
            return Ok(());
        }
        let Some((parent, name)) = path.split_last() else { return Ok(()) };
        self.ensure_folder(&parent)?;
        let folder = self.root.open_folder(&parent).map_err(ApplyError::at(&parent))?;
        match folder.make_folder_as(name, mode.with_owner_access(Kind::Folder)) {
            Ok(()) => {}
            Err(TreeError::Taken) => {
                // A folder that exists and cannot be used is left alone.
                if self.stat(path)?.is_some_and(|there| there.kind == MetaKind::Folder) {
                    return self.root.open_folder(path).map(drop).map_err(ApplyError::at(path));
                }
                self.parents.clear();
                self.quarantine.take(path, DISPLACED).map_err(ApplyError::at(path))?;
                folder
                    .make_folder_as(name, mode.with_owner_access(Kind::Folder))
                    .map_err(ApplyError::at(path))?;
            }
            Err(e) => return Err(ApplyError::at(path)(e)),
        }
        self.touched.insert(parent);
        Ok(())
    }

    /// Returns whether a file or folder is the one that the catalogue knows, or its retained
    /// content.
    ///
    /// If only the ctime differs the content is read, because a program may have edited it and
    /// restored the times.
    pub fn is_known(
        &self,
        path: &TreePath,
        meta: &Meta,
        row: Option<&CatalogRow>,
        retained: Option<&RetainedContent>,
    ) -> Result<bool, ApplyError> {
        let Some((parent, name)) = path.split_last() else { return Ok(false) };
        let open = || self.root.open_folder(&parent)?.open_read(name);
        is_known(meta, row, retained, open).map_err(ApplyError::at(path))
    }

    /// Returns whether a file or folder is the one that the catalogue knows. Its content may have
    /// changed.
    pub fn is_same_file(
        meta: &Meta,
        row: Option<&CatalogRow>,
        retained: Option<&RetainedContent>,
    ) -> bool {
        let committed =
            row.is_some_and(|row| row.entry.version.is_some() && row.matches_except_ctime(meta));
        committed || retained.is_some_and(|retained| retained.matches_except_ctime(meta))
    }

    /// Quarantines the entry at a path, unless the catalogue knows it. Returns whether a known
    /// entry is there.
    pub fn quarantine_unknown(
        &mut self,
        path: &TreePath,
        row: Option<&CatalogRow>,
        retained: Option<&RetainedContent>,
    ) -> Result<bool, ApplyError> {
        match self.stat(path)? {
            None => Ok(false),
            Some(meta) if self.is_known(path, &meta, row, retained)? => Ok(true),
            Some(meta) => {
                debug!("{path} is {meta:?}; the catalogue has {row:?} and retains {retained:?}");
                self.parents.clear();
                self.quarantine.take(path, DISPLACED).map_err(ApplyError::at(path))?;
                Ok(false)
            }
        }
    }

    /// Moves an entry, as a step that can be rolled back. Returns its metadata.
    pub fn move_to(
        &mut self,
        from: &TreePath,
        to: &TreePath,
        version: Lsn,
    ) -> Result<Option<Meta>, ApplyError> {
        let applied = self
            .with_applier(|applier| applier.move_to(from, to, version))
            .map_err(ApplyError::at(to))?;
        let meta = applied.meta;
        self.done.push(applied);
        self.parents.clear();
        Ok(meta)
    }

    /// Runs `work` with an applier that quarantines unknown files. The change is not refused,
    /// because other slaves have it already.
    fn with_applier<T>(
        &mut self,
        work: impl FnOnce(&mut Applier<'_, 'a>) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        let store = self.store;
        let known = &mut |displaced: &Displaced<'_>| {
            belongs(store, displaced)
                .map_err(|e| TreeError::Io("look up", std::io::Error::other(e)))
        };
        work(&mut Applier {
            parents: &mut self.parents,
            staging: self.staging,
            quarantine: self.quarantine,
            known,
        })
    }

    /// Moves a file to a staged name. Returns `false` if the file is unknown; it is then
    /// quarantined.
    pub fn hold(&mut self, path: &TreePath, name: &StagedName) -> Result<bool, ApplyError> {
        let held =
            self.with_applier(|applier| applier.hold(path, name)).map_err(ApplyError::at(path))?;
        let is_held = held.is_some();
        self.done.extend(held);
        Ok(is_held)
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

    /// Publishes staged content at a path, over the retained content there.
    pub fn put(
        &mut self,
        path: &TreePath,
        mode: Mode,
        staged: &StagedName,
    ) -> Result<Meta, ApplyError> {
        if let Some((parent, _)) = path.split_last() {
            self.ensure_folder(&parent)?;
        }
        let applied = self
            .with_applier(|applier| applier.put(path, mode, staged))
            .map_err(ApplyError::at(path))?;
        let meta = applied.meta;
        self.done.push(applied);
        meta.ok_or(ApplyError::Tree(TreeError::NotFound))
    }

    /// Sets mode and time of staged content. A file with the same bytes on another slave may have
    /// had others.
    pub fn fix_attributes(
        &self,
        content: &FileContent,
        mode: Mode,
        staged: &StagedName,
    ) -> Result<(), ApplyError> {
        let meta = self.staging.staged.stat_part(staged.as_str().as_bytes())?;
        if (meta.mtime, meta.mode) == (content.mtime, mode.with_owner_access(Kind::File)) {
            return Ok(());
        }
        let file = self.staging.staged.open_read(staged.as_str())?.file;
        set_mode(&file, mode.with_owner_access(Kind::File))?;
        set_times(&file, content.mtime)?;
        Ok(file.sync_all().map_err(|e| TreeError::Io("sync the file", e))?)
    }

    /// Removes a known file. The step can be rolled back.
    pub fn remove(&mut self, path: &TreePath, version: Lsn) -> Result<(), ApplyError> {
        let applied = self
            .with_applier(|applier| applier.remove(path, version))
            .map_err(ApplyError::at(path))?;
        self.done.push(applied);
        self.parents.clear();
        Ok(())
    }

    /// Removes a folder and its known entries; unknown ones are quarantined.
    ///
    /// The folder stays if it holds a mount point or an unreadable folder, because their files are
    /// no part of the tree and would be lost.
    pub fn remove_folder(&mut self, path: &TreePath, version: Lsn) -> Result<(), ApplyError> {
        if self.stat(path)?.is_none() {
            return Ok(());
        }
        let mut open = vec![path.clone()];
        while let Some(path) = open.pop() {
            let folder = match self.root.open_folder(&path) {
                Ok(folder) => folder,
                Err(TreeError::NotFound | TreeError::NotFolder) => continue,
                Err(e) => return Err(ApplyError::at(&path)(e)),
            };
            for listed in folder.list().map_err(ApplyError::at(&path))? {
                let listed = listed.map_err(ApplyError::at(&path))?;
                let survey = match folder.survey(listed.name()) {
                    Ok(survey) => survey,
                    Err(TreeError::NotFound) => continue,
                    Err(e) => return Err(ApplyError::at(&path)(e)),
                };
                let below =
                    std::str::from_utf8(listed.name()).ok().and_then(|name| path.join(name).ok());
                if survey.mount_point {
                    return Err(ApplyError::at(&below.unwrap_or(path))(MOUNTED));
                }
                open.extend(below.filter(|_| survey.meta.kind == MetaKind::Folder));
            }
        }
        self.remove(path, version)
    }

    /// Returns the metadata of a file that already has this content, though the catalogue does not
    /// know it. The file gets the mode and the time of the tree.
    pub fn claim_existing(
        &mut self,
        path: &TreePath,
        content: &FileContent,
        mode: Mode,
        row: Option<&CatalogRow>,
        retained: Option<&RetainedContent>,
    ) -> Result<Option<Meta>, ApplyError> {
        if self.stat(path)?.is_none_or(|there| !may_have(&there, content)) {
            return Ok(None);
        }
        let Some((parent, name)) = path.split_last() else { return Ok(None) };
        let file = match self.root.open_folder(&parent).and_then(|parent| parent.open_read(name)) {
            Ok(file) => file,
            Err(e) => {
                warn!("cannot read {path}: {e}");
                return Ok(None);
            }
        };
        let known = row
            .filter(|row| row.entry.kind == Kind::File && row.matches(&file.meta))
            .and_then(|row| row.digest);
        let known = known.or(retained
            .filter(|retained| retained.matches(&file.meta))
            .map(|retained| retained.content.digest));
        if !has_content(&file, content, known).map_err(ApplyError::at(path))? {
            return Ok(None);
        }
        let wanted = mode.with_owner_access(Kind::File);
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
        file.file
            .sync_all()
            .map_err(|e| ApplyError::at(path)(TreeError::Io("sync the file", e)))?;
        if let Some((parent, _)) = path.split_last() {
            self.touched.insert(parent);
        }
        file.meta_now().map(Some).map_err(ApplyError::at(path))
    }

    /// Returns the row and the retained content of a path.
    ///
    /// A crash may have come between the rename and the commit. Such content is recorded first, so
    /// that it does not count as a user's file.
    pub fn load_rows(
        &mut self,
        store: &CatalogStore,
        path: &TreePath,
    ) -> Result<(Option<CatalogRow>, Option<RetainedContent>), ApplyError> {
        let (row, retained) = (store.row(path)?, store.retained(path)?);
        let Some((entry, content)) = row
            .as_ref()
            .filter(|row| !row.here)
            .and_then(CatalogRow::tree_entry)
            .and_then(|e| Some((e, e.content?)))
        else {
            return Ok((row, retained));
        };
        let ours = match self.stat(path)? {
            Some(meta) => self.is_known(path, &meta, row.as_ref(), retained.as_ref())?,
            None => true,
        };
        if ours {
            return Ok((row, retained));
        }
        let Some(meta) = self.claim_existing(path, &content, entry.mode, None, None)? else {
            return Ok((row, retained));
        };
        store.set_retained(path, None)?;
        store.put_entry(path, &entry, Some(&meta), &[])?;
        Ok((store.row(path)?, None))
    }

    /// Syncs all folders concerned.
    pub fn sync(&mut self) -> Result<(), ApplyError> {
        let mut concerned: BTreeSet<TreePath> =
            self.done.iter().flat_map(|applied| applied.parents.iter().cloned()).collect();
        concerned.append(&mut self.touched);
        let concerned: Vec<TreePath> = concerned.into_iter().collect();
        let results = parallel_map(&concerned, |path| match self.root.open_folder(path) {
            // A folder that was removed since is synced with the folder above it.
            Err(TreeError::NotFound | TreeError::NotFolder) => Ok(()),
            opened => opened.and_then(|folder| folder.sync()),
        });
        concerned
            .iter()
            .zip(results)
            .try_for_each(|(path, result)| result.map_err(ApplyError::at(path)))
    }

    /// Deletes replaced and removed files. Returns whether the sweeper has something to do.
    pub fn finish(self) -> bool {
        let Self { done, staging, quarantine, .. } = self;
        done.iter().filter(|applied| applied.finish(staging, quarantine)).count() > 0
    }

    /// Rolls back all steps.
    pub fn roll_back(mut self) {
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
        store: &CatalogStore,
        path: &TreePath,
        work: impl FnOnce(&mut Self) -> Result<T, ApplyError>,
    ) -> Result<Result<T, String>, ApplyError> {
        let before = self.done.len();
        store.begin_savepoint()?;
        match work(self) {
            Ok(done) => {
                store.end_savepoint(true)?;
                Ok(Ok(done))
            }
            Err(e) if e.is_path_specific() => {
                self.roll_back_to(before);
                store.end_savepoint(false)?;
                Ok(Err(e.reason(path)))
            }
            Err(e) => Err(e),
        }
    }
}

impl ReplicaDriver {
    /// Returns the staged file with exactly this content.
    pub(super) fn staged_for(
        &self,
        id: relais_proto::ChangeId,
        content: &FileContent,
    ) -> Option<StagedName> {
        let name = self.staged.get(&id)?;
        if let Some(digest) = self.checked.get(&id) {
            return (*digest == content.digest).then(|| name.clone());
        }
        // The file was staged before this process started.
        let open = || -> Result<bool, TreeError> {
            let file = self.staging.staged.open_read(name.as_str())?;
            if (file.meta.size, file.meta.mtime) != (content.size, content.mtime) {
                return Ok(false);
            }
            let hashed =
                hash_file(&file.file, file.meta.size, &mut |_| std::ops::ControlFlow::Continue(()));
            let (digest, _) = hashed.map_err(|e| TreeError::Io("read the file", e))?;
            file.file.sync_all().map_err(|e| TreeError::Io("sync the file", e))?;
            Ok(digest == content.digest)
        };
        match open() {
            Ok(fits) => fits.then(|| name.clone()),
            Err(e) => {
                error!("cannot read a staged file: {e}");
                None
            }
        }
    }
}

/// Returns whether a file may have this content, by kind and size.
fn may_have(there: &Meta, content: &FileContent) -> bool {
    there.kind == MetaKind::File && there.size == content.size
}

/// Returns whether a file has this content. Computes the digest if it is not known.
fn has_content(
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
    let hashed =
        hash_file(&file.file, file.meta.size, &mut |_| std::ops::ControlFlow::Continue(()));
    match hashed {
        Ok((digest, _)) => Ok(file.is_unchanged()?.then_some(digest)),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(TreeError::Io("read the file", e)),
    }
}

/// Returns whether a file or folder is the one that the catalogue knows, or its retained content.
/// If only the ctime differs the content is read.
fn is_known(
    meta: &Meta,
    row: Option<&CatalogRow>,
    retained: Option<&RetainedContent>,
    open: impl FnOnce() -> Result<OpenFile, TreeError>,
) -> Result<bool, TreeError> {
    if !DiskTransaction::is_same_file(meta, row, retained) {
        return Ok(false);
    }
    // An entry without an LSN belongs to a user.
    let row = row.filter(|row| row.entry.version.is_some() && row.matches_except_ctime(meta));
    let retained = retained.filter(|retained| retained.matches_except_ctime(meta));
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
    let (row, retained) = (store.row(displaced.path)?, store.retained(displaced.path)?);
    // The file was checked, with its ctime, right before the rename.
    if displaced.renamed
        && DiskTransaction::is_same_file(displaced.meta, row.as_ref(), retained.as_ref())
    {
        return Ok(true);
    }
    let open = || match std::str::from_utf8(displaced.name) {
        Ok(name) => displaced.folder.open_read(name),
        Err(_) => Err(TreeError::NotFound),
    };
    if is_known(displaced.meta, row.as_ref(), retained.as_ref(), open)
        .map_err(ApplyError::at(displaced.path))?
    {
        return Ok(true);
    }
    // The file may have got its name right before a crash.
    let content = row
        .filter(|row| !row.here)
        .and_then(|row| row.tree_entry())
        .and_then(|entry| entry.content);
    match content {
        Some(content) if may_have(displaced.meta, &content) => {
            let file = open().map_err(ApplyError::at(displaced.path))?;
            has_content(&file, &content, None).map_err(ApplyError::at(displaced.path))
        }
        _ => Ok(false),
    }
}
