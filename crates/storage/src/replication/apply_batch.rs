//! Applies committed entries of the master to the disk and the catalogue.
//!
//! A batch can be applied again after a crash: steps that were already applied are recognised.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::{CatalogError, CatalogRow, CatalogStore, Commit, RetainedContent, StagedName};
use log::{debug, error, warn};
use relais_cluster::replica::{Event, MissingContent};
use relais_cluster::{CommittedEntry, Entry, FileContent, ReplicaPosition};
use relais_proto::{Attributes, Change, ChangeId, EventKind, Kind, Lsn, Mode, TreePath};
use relais_tree::{Meta, MetaKind};

use super::apply_error::ApplyError;
use super::disk_transaction::DiskTransaction;
use super::state::{ReplicaDriver, roll_back_catalog};
use super::unapplied::{self, RefusedContents};

/// Result of a batch.
#[derive(Debug, Default)]
struct BatchResult {
    /// Contents that are missing here.
    missing: Vec<Lsn>,
    /// Contents that were staged here and could not be published.
    failed: Vec<Lsn>,
    /// Contents that should have been here and were lost.
    lost: Vec<MissingContent>,
    /// Changes whose staged content is not needed any more.
    used: Vec<ChangeId>,
    /// Staged files that were published, so that they are not in the staging folder any more.
    published: HashSet<StagedName>,
    /// Entries with a local mode that is not decided.
    chmods: Vec<(TreePath, Meta)>,
    /// Contents that the disk refuses.
    refused: RefusedContents,
    /// Paths where a user has put something else. They are scanned again.
    rescans: Vec<TreePath>,
}

impl BatchResult {
    fn join(&mut self, mut other: Self) {
        self.missing.append(&mut other.missing);
        self.failed.append(&mut other.failed);
        self.lost.append(&mut other.lost);
        self.used.append(&mut other.used);
        self.published.extend(other.published);
        self.chmods.append(&mut other.chmods);
        self.refused.puts.append(&mut other.refused.puts);
        self.refused.lost.append(&mut other.refused.lost);
        self.rescans.append(&mut other.rescans);
    }
}

/// Folders that could not be synced, with the reason. Changes in them are not tried again in this
/// batch.
type Unsynced = BTreeMap<TreePath, String>;

impl ReplicaDriver {
    /// Applies a batch and reports the result to the replica.
    ///
    /// A change that the disk refuses at its path is recorded and counts as applied, so that later
    /// changes can continue.
    pub(super) fn apply_batch(
        &mut self,
        changes: &[CommittedEntry],
        position: &ReplicaPosition,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let staged = self.staged_for_all(changes);
        let mut unsynced = Unsynced::new();
        let out = loop {
            // Commits the rows of a scan that is running.
            store.commit()?;
            store.begin()?;
            let mut disk =
                DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine);
            let mut out = BatchResult::default();
            let result = changes
                .iter()
                .zip(&staged)
                .try_for_each(|(committed, staged)| {
                    let id = committed.entry.id;
                    // After a crash only the id shows that a change of a sole folder is local.
                    let is_local = self.local_changes.has(id) || self.is_sole && id.account() == 0;
                    let context = EntryContext {
                        is_local,
                        is_sole: self.is_sole,
                        staged: staged.as_ref(),
                        unsynced: &unsynced,
                    };
                    apply_entry(&mut disk, store, committed, &context, &mut out)
                })
                .and_then(|()| disk.sync())
                .and_then(|()| {
                    self.progress.announce(position.applied);
                    store.set_position(position)?;
                    Ok(store.commit()?)
                });
            match result {
                Ok(()) => {
                    self.litter |= disk.finish();
                    break out;
                }
                Err(e) => {
                    roll_back_catalog(store);
                    disk.roll_back();
                    // A second failure of the same folder has another cause than these changes.
                    if let ApplyError::Disk(path, _) = &e
                        && e.is_path_specific()
                        && unsynced.insert(path.clone(), e.reason(path)).is_none()
                    {
                        continue;
                    }
                    error!("cannot apply changes up to {}; retrying: {e}", position.applied);
                    store.set_last_error(&e.to_string())?;
                    events.push_back(Event::ApplyFailed);
                    return Ok(());
                }
            }
        };
        // A crash may have left files that one of these changes has removed.
        let removes = |committed: &CommittedEntry| {
            matches!(committed.entry.change, Change::Remove { .. } | Change::Move { .. })
        };
        self.litter |= changes.iter().any(removes);
        self.progress.set_applied(position.applied);
        for id in &out.used {
            self.staged.remove(id);
            self.checked.remove(id);
        }
        for committed in changes {
            self.local_changes.drop_superseded_edits(&committed.entry.change);
        }
        self.local_changes.add_edited(out.chmods);
        self.local_changes.rescan(out.rescans);
        self.discard_committed_staged(changes, &out.published);
        // This event comes first, because refused contents are not fetched.
        events.extend(unapplied::refusals(store, &out.refused.puts)?);
        events.push_back(Event::Applied { lacks: out.missing, failed: out.failed });
        events.extend(out.lost.into_iter().chain(out.refused.lost).map(Event::Missing));
        Ok(())
    }

    /// Discards staged content of changes that were committed through another slave or connection.
    fn discard_committed_staged(
        &self,
        changes: &[CommittedEntry],
        published: &HashSet<StagedName>,
    ) {
        // Content that this process needs is discarded with its change.
        let made: HashSet<ChangeId> = changes
            .iter()
            .map(|committed| committed.entry.id)
            .filter(|id| !self.staged.contains_key(id))
            .collect();
        for name in self.uploads.names_of(&made) {
            // Another connection may be sending the same upload again.
            if published.contains(&name.sealed()) && !self.staging.contains(&name.unsealed()) {
                self.uploads.end(&name);
                continue;
            }
            self.staging.discard(&name.sealed());
            // A file that a connection still writes is locked.
            if self.staging.reopen(&name).is_ok() {
                self.staging.discard(&name);
            }
            self.uploads.release(&name, &self.staging);
        }
    }

    /// Returns the staged file of each change, if there is one.
    fn staged_for_all(&self, changes: &[CommittedEntry]) -> Vec<Option<StagedName>> {
        let of = |committed: &CommittedEntry| {
            let content = content_of(&committed.entry.change, committed.entry.version)?;
            self.staged_for(committed.entry.id, &content)
        };
        changes.iter().map(of).collect()
    }
}

/// Returns the content of a put.
pub(super) fn content_of(change: &Change, version: Lsn) -> Option<FileContent> {
    match change {
        Change::Put { size, digest, mtime, .. } => {
            Some(FileContent { put: version, digest: *digest, size: *size, mtime: *mtime })
        }
        _ => None,
    }
}

/// What is known about a change beside its entry in the log.
#[derive(Clone, Copy)]
struct EntryContext<'a> {
    /// Whether the change was made in this slave's folder.
    is_local: bool,
    /// See [`ReplicaDriver::is_sole`].
    is_sole: bool,
    staged: Option<&'a StagedName>,
    unsynced: &'a Unsynced,
}

/// Applies one change, or records that the disk refuses it.
fn apply_entry(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    committed: &CommittedEntry,
    context: &EntryContext<'_>,
    out: &mut BatchResult,
) -> Result<(), ApplyError> {
    let (version, id, change) =
        (committed.entry.version, committed.entry.id, &committed.entry.change);
    debug!(
        "applying change {version}: {change:?}{}",
        if context.staged.is_some() { ", staged" } else { "" }
    );
    if let Change::Withdraw { of } = change {
        store.forget_change(*of)?;
        for (path, entry) in &committed.restored {
            let kind = match entry {
                Some(_) => created_or_changed(store, path)?,
                None => EventKind::Removed,
            };
            store.record_event(version, &kind, path)?;
            let work = |batch: &mut Batch<'_, '_>| batch.restore(path, entry.as_ref(), version);
            if let Err(reason) = attempt(disk, store, &[path], context, out, work)? {
                warn_unapplied(version, path, &reason);
                record_restored(store, path, entry.as_ref(), version, &reason, out)?;
            }
        }
        return Ok(store.record_change(id, Commit::from(&committed.entry))?);
    }
    let paths: Vec<&TreePath> = match change {
        Change::Put { path, .. }
        | Change::MakeFolder { path, .. }
        | Change::SetAttributes { path, .. }
        | Change::Remove { path, .. } => {
            vec![path]
        }
        Change::Move { from, to } => vec![to, from],
        Change::Withdraw { .. } => Vec::new(),
    };
    if let Some((kind, path)) = event_of(store, change)? {
        store.record_event(version, &kind, path)?;
    }
    let work = |batch: &mut Batch<'_, '_>| batch.apply(committed);
    if let Err(reason) = attempt(disk, store, &paths, context, out, work)? {
        paths.first().iter().for_each(|path| warn_unapplied(version, path, &reason));
        record(store, committed, context.staged.is_some(), &reason, out)?;
    }
    Ok(store.record_change(id, Commit::from(&committed.entry))?)
}

/// Returns what a change is about to do at which path; `None` for a withdrawal.
fn event_of<'a>(
    store: &CatalogStore,
    change: &'a Change,
) -> Result<Option<(EventKind, &'a TreePath)>, CatalogError> {
    Ok(match change {
        Change::Put { path, .. } | Change::MakeFolder { path, .. } => {
            Some((created_or_changed(store, path)?, path))
        }
        Change::SetAttributes { path, .. } => Some((EventKind::Changed, path)),
        Change::Remove { path, .. } => Some((EventKind::Removed, path)),
        Change::Move { from, to } if from == to => Some((EventKind::Changed, to)),
        Change::Move { from, to } => Some((EventKind::Moved(from.clone()), to)),
        Change::Withdraw { .. } => None,
    })
}

fn created_or_changed(store: &CatalogStore, path: &TreePath) -> Result<EventKind, CatalogError> {
    // A file that a scan has found is new until its change is applied.
    let is_committed = store.row(path)?.is_some_and(|row| row.entry.version.is_some());
    Ok(if is_committed { EventKind::Changed } else { EventKind::Created })
}

fn warn_unapplied(version: Lsn, path: &TreePath, reason: &str) {
    warn!("change {version} is not applied here at {path}: {reason}; it is retried");
}

/// Runs `work` for a change of `paths`; the first path names the step. The inner result is the
/// reason of the disk.
fn attempt(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    paths: &[&TreePath],
    context: &EntryContext<'_>,
    out: &mut BatchResult,
    work: impl FnOnce(&mut Batch<'_, '_>) -> Result<(), ApplyError>,
) -> Result<Result<(), String>, ApplyError> {
    let parents = paths.iter().filter_map(|path| path.split_last());
    let failed = parents.into_iter().find_map(|(parent, _)| {
        context.unsynced.get(&parent).map(|reason| format!("{parent}: {reason}"))
    });
    if let Some(reason) = failed {
        return Ok(Err(reason));
    }
    let Some(first) = paths.first() else { return Ok(Ok(())) };
    let tried = disk.attempt(store, first, |disk| {
        let mut batch = Batch { disk, store, context: *context, out: BatchResult::default() };
        work(&mut batch)?;
        Ok(batch.out)
    })?;
    Ok(tried.map(|one| out.join(one)))
}

/// Records a change that the disk refuses.
fn record(
    store: &CatalogStore,
    committed: &CommittedEntry,
    staged: bool,
    reason: &str,
    out: &mut BatchResult,
) -> Result<(), ApplyError> {
    let version = committed.entry.version;
    match &committed.entry.change {
        change @ Change::Put { path, mode, .. } => {
            let entry = Entry { version, mode: *mode, content: content_of(change, version) };
            unapplied::put(store, path, &entry, &committed.holders, reason, &mut out.refused)?;
            out.missing.push(version);
            if staged {
                out.failed.push(version);
            }
        }
        Change::MakeFolder { path, mode } => {
            unapplied::folder(store, path, version, *mode, reason)?
        }
        Change::SetAttributes { path, attributes } => {
            unapplied::attributes(store, path, version, attributes, reason)?
        }
        Change::Remove { path, .. } => unapplied::removal(store, path, version, reason)?,
        Change::Move { from, to } => {
            unapplied::move_to(store, from, to, version, reason, &mut out.refused)?
        }
        Change::Withdraw { .. } => {}
    }
    Ok(())
}

fn record_restored(
    store: &CatalogStore,
    path: &TreePath,
    entry: Option<&Entry>,
    version: Lsn,
    reason: &str,
    out: &mut BatchResult,
) -> Result<(), ApplyError> {
    let Some(entry) = entry else { return Ok(unapplied::removal(store, path, version, reason)?) };
    let Some(content) = entry.content else {
        return Ok(unapplied::folder(store, path, entry.version, entry.mode, reason)?);
    };
    unapplied::put(store, path, entry, &[], reason, &mut out.refused)?;
    out.missing.push(content.put);
    Ok(())
}

/// Returns an error if an entry at or below the path waits to be moved elsewhere.
pub(super) fn check_not_source(store: &CatalogStore, path: &TreePath) -> Result<(), ApplyError> {
    if store.is_source(path)? {
        return Err(ApplyError::Refused(format!("{path}: an entry there must be moved first")));
    }
    Ok(())
}

struct Batch<'a, 'b> {
    disk: &'a mut DiskTransaction<'b>,
    store: &'a CatalogStore,
    context: EntryContext<'a>,
    out: BatchResult,
}

impl Batch<'_, '_> {
    fn apply(&mut self, committed: &CommittedEntry) -> Result<(), ApplyError> {
        let (version, id) = (committed.entry.version, committed.entry.id);
        match &committed.entry.change {
            Change::Put { path, mode, .. } => {
                if let Some(content) = content_of(&committed.entry.change, version) {
                    let entry = Entry { version, mode: *mode, content: Some(content) };
                    self.put(path, &entry, content, id, committed)?;
                }
            }
            Change::MakeFolder { path, mode } => self.make_folder(path, version, *mode)?,
            Change::SetAttributes { path, attributes } => {
                self.set_attributes(path, version, attributes)?
            }
            Change::Remove { path, recursive } => self.remove(path, version, *recursive)?,
            Change::Move { from, to } if from == to => self.store.set_lsn(to, version)?,
            Change::Move { from, to } => self.relocate(from, to, version)?,
            // A withdrawal is applied path by path.
            Change::Withdraw { .. } => {}
        }
        Ok(())
    }

    fn put(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        content: FileContent,
        id: ChangeId,
        committed: &CommittedEntry,
    ) -> Result<(), ApplyError> {
        let staged = self.context.staged;
        check_not_source(self.store, path)?;
        self.ensure_unblocked(path)?;
        let (mut row, mut retained) = self.disk.load_rows(self.store, path)?;
        if row.as_ref().is_some_and(|row| row.entry.kind == Kind::Folder) {
            // A user has created this folder, and only this slave has it.
            self.disk.quarantine_unknown(path, None, None)?;
            self.store.remove(path)?;
            (row, retained) = (None, None);
        }
        // An earlier process may have been killed right after it published the content, and the
        // client may have sent it again.
        let unknown = match self.disk.stat(path)? {
            Some(meta) => !self.disk.is_known(path, &meta, row.as_ref(), retained.as_ref())?,
            None => false,
        };
        if (unknown || staged.is_none())
            && let Some(meta) = self.disk.claim_existing(
                path,
                &content,
                entry.mode,
                row.as_ref(),
                retained.as_ref(),
            )?
        {
            self.out.used.push(id);
            return Ok(self.store.settle_entry(path, entry, Some(&meta))?);
        }
        if let Some(staged) = staged {
            if unknown {
                self.disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
            }
            let meta = self.disk.put(path, entry.mode, staged)?;
            self.store.settle_entry(path, entry, Some(&meta))?;
            self.out.used.push(id);
            self.out.published.insert(staged.clone());
            return Ok(());
        }
        if self.context.is_sole {
            return self.leave_to_scan(path, entry);
        }
        // The present content stays until the new content arrives.
        let there = self.disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
        let former = row.as_ref().and_then(CatalogRow::to_retained).or(retained).filter(|_| there);
        self.store.clear_unapplied(path)?;
        self.store.put_entry(path, entry, None, &committed.holders)?;
        self.store.set_retained(path, former.as_ref())?;
        self.out.missing.push(content.put);
        Ok(())
    }

    /// Records an entry of a sole folder without a look at the disk.
    ///
    /// No other replica has the content. What is there instead is a local edit, or a removal.
    fn leave_to_scan(&mut self, path: &TreePath, entry: &Entry) -> Result<(), ApplyError> {
        self.store.clear_unapplied(path)?;
        self.store.set_retained(path, None)?;
        self.out.rescans.push(path.clone());
        Ok(self.store.put_unverified(path, entry)?)
    }

    /// Returns the error of an unapplied folder above a path, if it still exists. Content is not
    /// fetched for such a path, and the content that the folder hides stays known.
    fn ensure_unblocked(&mut self, path: &TreePath) -> Result<(), ApplyError> {
        match path.split_last() {
            Some((parent, _)) if self.store.unapplied_above(path)?.is_some() => {
                self.disk.ensure_folder(&parent)
            }
            _ => Ok(()),
        }
    }

    /// Sets attributes of an entry, or the mode of its retained content.
    ///
    /// A local chmod that is not proposed yet was made to an older version of the entry. So it is
    /// undone, unless the change itself is an earlier chmod in this folder.
    fn set_attributes(
        &mut self,
        path: &TreePath,
        version: Lsn,
        attributes: &Attributes,
    ) -> Result<(), ApplyError> {
        let is_local = self.context.is_local;
        let (row, retained) = self.disk.load_rows(self.store, path)?;
        self.store.set_lsn(path, version)?;
        self.store.set_attributes(path, attributes)?;
        let (Some(row), Some(meta)) = (row, self.disk.stat(path)?) else { return Ok(()) };
        let ours = match row.entry.kind {
            Kind::Folder => meta.served_kind() == Some(Kind::Folder),
            Kind::File => self.disk.is_known(path, &meta, Some(&row), retained.as_ref())?,
        };
        // The change does not concern a user's file at the path. The file's mode is older than the
        // change, so the file is proposed with the mode of the tree.
        if !ours {
            if row.here && !is_local {
                self.store.set_disk_mode(path, meta.mode)?;
            }
            return Ok(());
        }
        let kind = row.entry.kind;
        if row.here
            && let Some(mode) = attributes.mode
            && meta.mode.with_owner_access(kind) != mode.with_owner_access(kind)
            && meta.mode != row.on_disk.mode
        {
            // The user has changed the mode twice. The second one is proposed on top of the first.
            if is_local {
                self.out.chmods.push((path.clone(), meta));
                return Ok(());
            }
            warn!(
                "the local mode {} of {path} was set without change {version}, which sets mode \
                 {mode}; it is replaced by {mode}",
                meta.mode
            );
        }
        // Retained content is older than the entry, and keeps its own time.
        let on_disk = Attributes { mtime: attributes.mtime.filter(|_| row.here), ..*attributes };
        let now = self.disk.set_attributes(path, &on_disk)?;
        // A user may have replaced the entry meanwhile. Its time may be the new one.
        let is_same = |now: &Meta| match on_disk.mtime {
            Some(_) => now.same_but_renamed(&Meta { mtime: now.mtime, ..meta }),
            None => now.same_but_renamed(&meta),
        };
        let Some(meta) = now.filter(is_same) else { return Ok(()) };
        if row.here {
            self.store.update_disk_meta(path, &meta)?;
        } else if let Some(retained) = retained {
            self.store
                .set_retained(path, Some(&RetainedContent { ctime: meta.ctime, ..retained }))?;
        }
        Ok(())
    }

    fn make_folder(&mut self, path: &TreePath, version: Lsn, mode: Mode) -> Result<(), ApplyError> {
        check_not_source(self.store, path)?;
        let row = self.store.row(path)?;
        if row.is_some_and(|row| row.entry.kind == Kind::File) {
            self.disk.quarantine_unknown(path, None, None)?;
            self.store.remove(path)?;
        }
        // The disk may still have an entry that was removed earlier.
        if self.store.unapplied(path)?.is_some_and(|found| found.removal) {
            remove_leftover(self.disk, self.store, path, version)?;
            self.store.remove(path)?;
        }
        self.disk.ensure_folder_as(path, mode)?;
        let meta = self.disk.set_attributes(path, &Attributes::mode(mode))?;
        self.store.clear_unapplied(path)?;
        let entry = Entry { version, mode, content: None };
        Ok(self.store.put_entry(path, &entry, meta.as_ref(), &[])?)
    }

    fn remove(&mut self, path: &TreePath, version: Lsn, recursive: bool) -> Result<(), ApplyError> {
        check_not_source(self.store, path)?;
        if let Some(reason) = unapplied::hidden_below(self.store, path)? {
            return Err(ApplyError::Refused(reason));
        }
        let (row, retained) = self.disk.load_rows(self.store, path)?;
        if self.context.is_sole && (self.context.is_local || self.is_replaced(path, recursive)?) {
            // What is there now was put there by a user, and becomes a change of its own.
            self.out.rescans.push(path.clone());
            return Ok(self.store.remove(path)?);
        }
        if row.as_ref().is_some_and(|row| row.entry.kind == Kind::Folder) {
            self.disk.remove_folder(path, version)?;
        } else if self.disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())? {
            self.disk.remove(path, version)?;
        }
        Ok(self.store.remove(path)?)
    }

    /// Returns whether a user has replaced the entry at a path, or has added to a folder that was
    /// empty.
    fn is_replaced(&mut self, path: &TreePath, recursive: bool) -> Result<bool, ApplyError> {
        let Some(meta) = self.disk.stat(path)? else { return Ok(false) };
        let (row, retained) = (self.store.row(path)?, self.store.retained(path)?);
        if !self.disk.is_known(path, &meta, row.as_ref(), retained.as_ref())? {
            return Ok(true);
        }
        if recursive || meta.kind != MetaKind::Folder {
            return Ok(false);
        }
        let mut names = self
            .disk
            .root
            .open_folder(path)
            .and_then(|folder| folder.list())
            .map_err(ApplyError::at(path))?;
        Ok(names.next().is_some())
    }

    fn relocate(&mut self, from: &TreePath, to: &TreePath, version: Lsn) -> Result<(), ApplyError> {
        check_not_source(self.store, from)?;
        check_not_source(self.store, to)?;
        if let Some(reason) = unapplied::hidden_below(self.store, from)? {
            return Err(ApplyError::Refused(reason));
        }
        let (row, retained) = self.disk.load_rows(self.store, from)?;
        let folder = row.as_ref().is_some_and(|row| row.entry.kind == Kind::Folder);
        let (target, target_retained) = self.disk.load_rows(self.store, to)?;
        let content = row.as_ref().and_then(CatalogRow::tree_entry).and_then(|entry| entry.content);
        if let Some((parent, _)) = to.split_last() {
            self.disk.ensure_folder(&parent)?;
        }
        let mode = row.as_ref().map_or(Mode::new(0o700), |row| row.entry.mode);
        let there = if folder {
            self.disk.stat(from)?.is_some()
        } else {
            self.disk.quarantine_unknown(from, row.as_ref(), retained.as_ref())?
        };
        // After a crash between rename and commit the entry has its new name already. The inode or
        // the content shows that.
        let same = |meta: &Meta| {
            let is_row = row.as_ref().is_some_and(|row| {
                row.matches_except_ctime(meta)
                    || folder && (row.dev, row.ino) == (meta.dev, meta.ino)
            });
            is_row || retained.as_ref().is_some_and(|retained| retained.matches_except_ctime(meta))
        };
        // The rename changed the ctime, so the content is read.
        let trusted = |batch: &mut Self| -> Result<bool, ApplyError> {
            match &content {
                Some(content) if row.as_ref().is_some_and(|row| row.here) => {
                    Ok(batch.disk.claim_existing(to, content, mode, None, None)?.is_some())
                }
                _ => Ok(true),
            }
        };
        if let Some(meta) = self.disk.stat(to)?.filter(|meta| same(meta))
            && trusted(self)?
        {
            self.store.remove(to)?;
            self.store.relocate(from, to, version)?;
            if row.is_some_and(|row| row.here) {
                self.store.clear_unapplied(to)?;
                self.store.update_disk_meta(to, &meta)?;
            }
            return Ok(());
        }
        let moved = match &content {
            Some(content) if !there && row.as_ref().is_some_and(|row| row.here) => {
                self.disk.claim_existing(to, content, mode, None, None)?
            }
            _ => None,
        };
        if moved.is_none()
            && self.disk.quarantine_unknown(to, target.as_ref(), target_retained.as_ref())?
        {
            self.disk.remove(to, version)?;
        }
        self.store.remove(to)?;
        let mut meta = moved;
        if there {
            meta = self.disk.move_to(from, to, version)?;
        } else if folder {
            self.disk.ensure_folder_as(to, mode)?;
            meta = self.disk.stat(to)?;
        }
        self.store.relocate(from, to, version)?;
        let Some(row) = row else { return Ok(()) };
        match meta {
            Some(meta) if row.here => {
                self.store.clear_unapplied(to)?;
                self.store.update_disk_meta(to, &meta)?;
            }
            Some(_) => {}
            None if row.here && !folder => {
                if let Some(content) = content.filter(|_| self.context.is_sole) {
                    let entry = Entry { version, mode, content: Some(content) };
                    self.store.put_unverified(to, &entry)?;
                    self.out.rescans.push(to.clone());
                } else if let Some(content) = content {
                    let entry = Entry { version, mode, content: Some(content) };
                    self.store.put_entry(to, &entry, None, &[])?;
                    self.out.lost.extend(relais_cluster::replica::lack_of_entry(to, &entry));
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Applies a withdrawal: restores the former entry of a path.
    fn restore(
        &mut self,
        path: &TreePath,
        entry: Option<&Entry>,
        version: Lsn,
    ) -> Result<(), ApplyError> {
        let Some(entry) = entry else { return self.remove(path, version, true) };
        let Some(content) = entry.content else {
            return self.make_folder(path, entry.version, entry.mode);
        };
        check_not_source(self.store, path)?;
        self.ensure_unblocked(path)?;
        let (row, retained) = self.disk.load_rows(self.store, path)?;
        if self.context.is_sole {
            let is_known = match self.disk.stat(path)? {
                Some(meta) => self.disk.is_known(path, &meta, row.as_ref(), retained.as_ref())?,
                None => false,
            };
            if !is_known {
                return self.leave_to_scan(path, entry);
            }
        }
        let there = self.disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
        let has = |put: Option<Lsn>| there && put == Some(content.put);
        if row.as_ref().is_some_and(|row| row.here && has(row.content))
            || retained.as_ref().is_some_and(|retained| has(Some(retained.content.put)))
        {
            let mut meta = self.disk.stat(path)?.filter(|meta| {
                DiskTransaction::is_same_file(meta, row.as_ref(), retained.as_ref())
            });
            if meta.is_some() {
                meta =
                    self.disk.set_attributes(path, &Attributes::mode(entry.mode))?.filter(|meta| {
                        DiskTransaction::is_same_file(meta, row.as_ref(), retained.as_ref())
                    });
            }
            if meta.is_none() {
                self.out.missing.push(content.put);
            }
            return Ok(self.store.settle_entry(path, entry, meta.as_ref())?);
        }
        // The withdrawn content is not needed, and the former content is missing.
        if there {
            self.disk.remove(path, version)?;
        }
        self.store.settle_entry(path, entry, None)?;
        self.out.missing.push(content.put);
        Ok(())
    }
}

/// Removes the leftover of a removed entry. Unknown files are quarantined.
pub(super) fn remove_leftover(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    path: &TreePath,
    version: Lsn,
) -> Result<(), ApplyError> {
    let Some(meta) = disk.stat(path)? else { return Ok(()) };
    if meta.kind == MetaKind::Folder {
        return disk.remove_folder(path, version);
    }
    let retained = store.retained(path)?;
    if disk.quarantine_unknown(path, None, retained.as_ref())? {
        disk.remove(path, version)?;
    }
    Ok(())
}
