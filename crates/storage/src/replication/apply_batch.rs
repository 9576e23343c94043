//! Applies committed entries of the master to the disk and the catalogue.
//!
//! A batch can be applied again after a crash: steps that were already applied are recognised.

use std::collections::{BTreeMap, HashSet};

use crate::{
    CatalogError, CatalogRow, CatalogStore, Commit, FileIdentity, RetainedContent, StagedName,
};
use log::{debug, error, warn};
use relais_cluster::replica::{Event, MissingContent, lack_of_entry};
use relais_cluster::{CommittedEntry, Entry, FileContent, ReplicaPosition};
use relais_proto::{Attributes, Change, ChangeId, EventKind, FolderId, Kind, Lsn, TreePath};
use relais_tree::{Meta, MetaKind};

use super::apply_error::ApplyError;
use super::disk_transaction::DiskTransaction;
use super::driver::ReplicaDriver;
use super::known_entry::KnownEntry;
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
    ) -> Result<(), CatalogError> {
        let staged: Vec<Option<StagedName>> = changes
            .iter()
            .map(|committed| {
                let content = content_of(&committed.entry.change, committed.entry.version)?;
                self.staged_for(committed.entry.id, &content)
            })
            .collect();
        let mut unsynced = Unsynced::new();
        let out = loop {
            let disk = self.disk.begin(store)?;
            let is_sole = self.config.is_sole;
            let out = BatchResult::default();
            let mut batch = Batch { disk, store, is_sole, unsynced: &unsynced, out };
            let result = changes
                .iter()
                .zip(&staged)
                .try_for_each(|(committed, staged)| {
                    let id = committed.entry.id;
                    // After a crash only the id shows that a change of a sole folder is local.
                    let is_local =
                        self.local_changes.by_id.contains_key(&id) || is_sole && id.account() == 0;
                    batch.apply_entry(committed, staged.as_ref(), is_local)
                })
                .and_then(|()| batch.disk.sync())
                .and_then(|()| {
                    self.config.progress.announce(position.applied);
                    store.set_position(position)?;
                    Ok(store.commit()?)
                });
            let Batch { disk, out, .. } = batch;
            let Err(e) = result else {
                self.litter |= disk.finish();
                break out;
            };
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
            self.events.push_back(Event::ApplyFailed);
            return Ok(());
        };
        // A crash may have left files that one of these changes has removed.
        let removes = |committed: &CommittedEntry| {
            matches!(committed.entry.change, Change::Remove { .. } | Change::Move { .. })
        };
        self.litter |= changes.iter().any(removes);
        self.config.progress.set_applied(position.applied);
        for id in &out.used {
            self.staged.remove(id);
        }
        for committed in changes {
            self.local_changes.drop_superseded_edits(&committed.entry.change);
        }
        self.local_changes.edited.extend(out.chmods);
        self.local_changes.superseded.extend(out.rescans);
        self.discard_committed_staged(changes, &out.published);
        // This event comes first, because refused contents are not fetched.
        self.events.extend(unapplied::refusals(store, &out.refused.puts)?);
        self.events.push_back(Event::Applied { lacks: out.missing, failed: out.failed });
        self.events.extend(out.lost.into_iter().chain(out.refused.lost).map(Event::Missing));
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
        for name in self.config.uploads.names_of(&made) {
            let staging = &self.disk.staging;
            // Another connection may be sending the same upload again.
            if published.contains(&name.sealed()) && !staging.contains(&name.unsealed()) {
                self.config.uploads.end(&name);
                continue;
            }
            staging.discard(&name.sealed());
            // A file that a connection still writes is locked.
            if staging.reopen(&name).is_ok() {
                staging.discard(&name);
            }
            self.config.uploads.release(&name, staging);
        }
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

fn created_or_changed(store: &CatalogStore, path: &TreePath) -> Result<EventKind, CatalogError> {
    // A file that a scan has found is new until its change is applied.
    let is_committed = store.row(path)?.is_some_and(|row| row.entry.version.is_some());
    Ok(if is_committed { EventKind::Changed } else { EventKind::Created })
}

/// Applies the changes of a batch.
///
/// A step adds to the result after its last disk operation, so that a refused step adds nothing.
struct Batch<'a> {
    disk: DiskTransaction<'a>,
    store: &'a CatalogStore,
    /// See [`ReplicaDriver::is_sole`].
    is_sole: bool,
    unsynced: &'a Unsynced,
    out: BatchResult,
}

impl Batch<'_> {
    /// Applies one change, or records that the disk refuses it.
    ///
    /// `is_local` tells whether the change was made in this slave's folder.
    fn apply_entry(
        &mut self,
        committed: &CommittedEntry,
        staged: Option<&StagedName>,
        is_local: bool,
    ) -> Result<(), ApplyError> {
        let (version, id, change) =
            (committed.entry.version, committed.entry.id, &committed.entry.change);
        debug!(
            "applying change {version}: {change:?}{}",
            if staged.is_some() { ", staged" } else { "" }
        );
        let paths: Vec<&TreePath> = change.paths().collect();
        let kind = match change {
            Change::Withdraw { of } => {
                self.withdraw(*of, committed, is_local)?;
                None
            }
            Change::Put { path, .. } | Change::MakeFolder { path, .. } => {
                Some(created_or_changed(self.store, path)?)
            }
            Change::Remove { .. } => Some(EventKind::Removed),
            Change::Move { from, to } if from != to => Some(EventKind::Moved(from.clone())),
            Change::SetAttributes { .. } | Change::Move { .. } => Some(EventKind::Changed),
        };
        if let Some((kind, path)) = kind.zip(paths.first()) {
            self.store.record_event(version, &kind, path)?;
        }
        let work = |batch: &mut Self| batch.apply(committed, staged, is_local);
        if let Some(reason) = self.attempt(version, &paths, work)? {
            self.record(committed, staged.is_some(), &reason)?;
        }
        Ok(self.store.record_change(id, Commit::from(&committed.entry))?)
    }

    /// Restores the former entries at the paths of a change.
    fn withdraw(
        &mut self,
        of: Lsn,
        committed: &CommittedEntry,
        is_local: bool,
    ) -> Result<(), ApplyError> {
        let version = committed.entry.version;
        self.store.forget_change(of)?;
        for (path, entry) in &committed.restored {
            let kind = match entry {
                Some(_) => created_or_changed(self.store, path)?,
                None => EventKind::Removed,
            };
            self.store.record_event(version, &kind, path)?;
            let work = |batch: &mut Self| batch.restore(path, entry.as_ref(), version, is_local);
            if let Some(reason) = self.attempt(version, &[path], work)? {
                match entry {
                    Some(entry) => self.record_entry(path, entry, &[], &reason)?,
                    None => unapplied::removal(self.store, path, version, &reason)?,
                }
            }
        }
        Ok(())
    }

    /// Runs `work` for a change of `paths`; the first path names the step. Returns the reason if
    /// the disk refuses it.
    fn attempt(
        &mut self,
        version: Lsn,
        paths: &[&TreePath],
        work: impl FnOnce(&mut Self) -> Result<(), ApplyError>,
    ) -> Result<Option<String>, ApplyError> {
        let Some(path) = paths.first() else { return Ok(None) };
        let unsynced = paths.iter().filter_map(|path| path.split_last()).find_map(|(parent, _)| {
            self.unsynced.get(&parent).map(|reason| format!("{parent}: {reason}"))
        });
        let refused = match unsynced {
            Some(reason) => Some(reason),
            None => {
                let before = self.disk.begin_attempt()?;
                let result = work(self);
                self.disk.end_attempt(before, path, result)?.err()
            }
        };
        if let Some(reason) = &refused {
            warn!("change {version} is not applied here at {path}: {reason}; it is retried");
        }
        Ok(refused)
    }

    /// Records a change that the disk refuses.
    fn record(
        &mut self,
        committed: &CommittedEntry,
        staged: bool,
        reason: &str,
    ) -> Result<(), CatalogError> {
        let (store, version) = (self.store, committed.entry.version);
        match &committed.entry.change {
            change @ (Change::Put { path, mode, .. } | Change::MakeFolder { path, mode }) => {
                let entry = Entry { version, mode: *mode, content: content_of(change, version) };
                self.out.failed.extend(entry.content.filter(|_| staged).map(|_| version));
                self.record_entry(path, &entry, &committed.holders, reason)
            }
            Change::SetAttributes { path, attributes } => {
                unapplied::attributes(store, path, version, attributes, reason)
            }
            Change::Remove { path, .. } => unapplied::removal(store, path, version, reason),
            Change::Move { from, to } => {
                unapplied::move_to(store, from, to, version, reason, &mut self.out.refused)
            }
            Change::Withdraw { .. } => Ok(()),
        }
    }

    /// Records an entry that the disk refuses.
    fn record_entry(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        holders: &[FolderId],
        reason: &str,
    ) -> Result<(), CatalogError> {
        self.out.missing.extend(entry.content.map(|content| content.put));
        unapplied::entry(self.store, path, entry, holders, reason, &mut self.out.refused)
    }

    fn apply(
        &mut self,
        committed: &CommittedEntry,
        staged: Option<&StagedName>,
        is_local: bool,
    ) -> Result<(), ApplyError> {
        let version = committed.entry.version;
        match &committed.entry.change {
            change @ (Change::Put { path, mode, .. } | Change::MakeFolder { path, mode }) => {
                let entry = Entry { version, mode: *mode, content: content_of(change, version) };
                match entry.content {
                    Some(_) => self.put(path, &entry, staged, committed),
                    None => self.disk.add_folder(path, &entry, version),
                }
            }
            Change::SetAttributes { path, attributes } => {
                self.set_attributes(path, version, attributes, is_local)
            }
            Change::Remove { path, recursive } => self.remove(path, version, *recursive, is_local),
            Change::Move { from, to } if from == to => Ok(self.store.set_lsn(to, version)?),
            Change::Move { from, to } => self.relocate(from, to, version),
            // A withdrawal is applied path by path.
            Change::Withdraw { .. } => Ok(()),
        }
    }

    fn put(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        staged: Option<&StagedName>,
        committed: &CommittedEntry,
    ) -> Result<(), ApplyError> {
        self.disk.check_not_source(path)?;
        self.disk.ensure_unblocked(path)?;
        let known = self.disk.load_for_file(path)?;
        // An earlier process may have been killed right after it published the content, and the
        // client may have sent it again.
        let is_unknown = self.disk.examine(path, &known)?.is_some_and(|(_, is_known)| !is_known);
        if (is_unknown || staged.is_none()) && self.disk.adopt_existing(path, entry, &known)? {
            self.out.used.push(committed.entry.id);
        } else if let Some(staged) = staged {
            if is_unknown {
                self.disk.quarantine_unknown(path, &known)?;
            }
            self.disk.publish(path, entry, staged)?;
            self.out.used.push(committed.entry.id);
            self.out.published.insert(*staged);
        } else if self.is_sole {
            self.leave_to_scan(path, entry)?;
        } else {
            self.disk.await_content(path, entry, &committed.holders, &known)?;
            self.out.missing.push(entry.version);
        }
        Ok(())
    }

    /// Records an entry of a sole folder without a look at the disk.
    ///
    /// No other replica has the content. What is there instead is a local edit, or a removal.
    fn leave_to_scan(&mut self, path: &TreePath, entry: &Entry) -> Result<(), CatalogError> {
        self.store.clear_unapplied(path)?;
        self.store.set_retained(path, None)?;
        self.out.rescans.push(path.clone());
        self.store.put_unverified(path, entry)
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
        is_local: bool,
    ) -> Result<(), ApplyError> {
        let known = self.disk.load(path)?;
        self.store.set_lsn(path, version)?;
        self.store.set_attributes(path, attributes)?;
        let (Some(row), Some((meta, is_known))) = (&known.row, self.disk.examine(path, &known)?)
        else {
            return Ok(());
        };
        let kind = row.entry.kind;
        let is_ours = match kind {
            Kind::Folder => meta.served_kind() == Some(Kind::Folder),
            Kind::File => is_known,
        };
        // The change does not concern a user's file at the path. The file's mode is older than the
        // change, so the file is proposed with the mode of the tree.
        if !is_ours {
            if row.here && !is_local {
                self.store.set_disk_mode(path, meta.mode)?;
            }
            return Ok(());
        }
        if row.here
            && let Some(mode) = attributes.mode
            && meta.mode.with_owner_access(kind) != mode.with_owner_access(kind)
            && meta.mode != row.disk_mode
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
        } else if let Some(retained) = known.retained {
            self.store.set_retained(
                path,
                Some(&RetainedContent {
                    disk: FileIdentity { ctime: meta.ctime, ..retained.disk },
                    ..retained
                }),
            )?;
        }
        Ok(())
    }

    /// Returns an error if the entry at a path cannot leave it.
    fn check_movable(&self, path: &TreePath) -> Result<(), ApplyError> {
        self.disk.check_not_source(path)?;
        unapplied::hidden_below(self.store, path)?
            .map_or(Ok(()), |reason| Err(ApplyError::Refused(reason)))
    }

    fn remove(
        &mut self,
        path: &TreePath,
        version: Lsn,
        recursive: bool,
        is_local: bool,
    ) -> Result<(), ApplyError> {
        self.check_movable(path)?;
        let known = self.disk.load(path)?;
        if self.is_sole && (is_local || self.is_replaced(path, &known, recursive)?) {
            // What is there now was put there by a user, and becomes a change of its own.
            self.out.rescans.push(path.clone());
        } else if known.is(Kind::Folder) {
            self.disk.remove_folder(path, version)?;
        } else {
            self.disk.remove_known(path, &known, version)?;
        }
        Ok(self.store.remove(path)?)
    }

    /// Returns whether a user has replaced the entry at a path, or has added to a folder that was
    /// empty.
    fn is_replaced(
        &mut self,
        path: &TreePath,
        known: &KnownEntry,
        recursive: bool,
    ) -> Result<bool, ApplyError> {
        let Some((meta, is_known)) = self.disk.examine(path, known)? else { return Ok(false) };
        if !is_known || recursive || meta.kind != MetaKind::Folder {
            return Ok(!is_known);
        }
        let names = self.disk.root.open_folder(path).and_then(|folder| folder.list());
        Ok(names.map_err(ApplyError::at(path))?.next().is_some())
    }

    fn relocate(&mut self, from: &TreePath, to: &TreePath, version: Lsn) -> Result<(), ApplyError> {
        self.check_movable(from)?;
        self.disk.check_not_source(to)?;
        let known = self.disk.load(from)?;
        let is_folder = known.is(Kind::Folder);
        let target = self.disk.load(to)?;
        // The entry whose content is on the disk, if it is a file.
        let file = known.row.as_ref().filter(|row| row.here && !is_folder);
        let file = file.and_then(CatalogRow::tree_entry);
        self.disk.ensure_parent(to)?;
        let is_there = if is_folder {
            self.disk.stat(from)?.is_some()
        } else {
            self.disk.quarantine_unknown(from, &known)?
        };
        // After a crash between rename and commit the entry has its new name already. The inode or
        // the content shows that.
        let is_same = |meta: &Meta| {
            let is_row = known.row.as_ref().is_some_and(|row| {
                row.matches_except_ctime(meta)
                    || is_folder && (row.disk.dev, row.disk.ino) == (meta.dev, meta.ino)
            });
            is_row || known.retained.is_some_and(|retained| retained.matches_except_ctime(meta))
        };
        let at_target = self.disk.stat(to)?.filter(is_same);
        // The rename changed the ctime, so the content is read.
        let claimed = match &file {
            Some(entry) if at_target.is_some() || !is_there => {
                self.disk.claim_existing(to, entry, &KnownEntry::default())?
            }
            _ => None,
        };
        let mut meta = at_target.filter(|_| file.is_none()).or(claimed);
        let is_moved = at_target.is_some() && meta.is_some();
        if meta.is_none() {
            self.disk.remove_known(to, &target, version)?;
        }
        self.store.remove(to)?;
        match &known.row {
            _ if is_moved => {}
            _ if is_there => meta = self.disk.move_to(from, to, version)?,
            Some(row) if is_folder => {
                self.disk.ensure_folder_as(to, row.entry.mode)?;
                meta = self.disk.stat(to)?;
            }
            _ => {}
        }
        self.store.relocate(from, to, version)?;
        match (meta, file) {
            _ if !known.is_here() => {}
            (Some(meta), _) => {
                self.store.clear_unapplied(to)?;
                self.store.update_disk_meta(to, &meta)?;
            }
            (None, Some(entry)) => {
                let entry = Entry { version, ..entry };
                if self.is_sole {
                    self.store.put_unverified(to, &entry)?;
                    self.out.rescans.push(to.clone());
                } else {
                    self.store.put_entry(to, &entry, None, &[])?;
                    self.out.lost.extend(lack_of_entry(to, &entry));
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Applies a withdrawal: restores the former entry of a path.
    fn restore(
        &mut self,
        path: &TreePath,
        entry: Option<&Entry>,
        version: Lsn,
        is_local: bool,
    ) -> Result<(), ApplyError> {
        let Some(entry) = entry else { return self.remove(path, version, true, is_local) };
        let Some(content) = entry.content else {
            return self.disk.add_folder(path, entry, version);
        };
        self.disk.check_not_source(path)?;
        self.disk.ensure_unblocked(path)?;
        let known = self.disk.load(path)?;
        if self.is_sole && self.disk.examine(path, &known)?.is_none_or(|(_, is_known)| !is_known) {
            return Ok(self.leave_to_scan(path, entry)?);
        }
        let is_there = self.disk.quarantine_unknown(path, &known)?;
        let mut meta = None;
        if is_there && known.has_content_of(content.put) {
            meta = self.disk.set_known_mode(path, entry.mode, &known)?;
        } else if is_there {
            // The withdrawn content is not needed.
            self.disk.remove(path, version)?;
        }
        if meta.is_none() {
            self.out.missing.push(content.put);
        }
        Ok(self.store.settle_entry(path, entry, meta.as_ref())?)
    }
}
