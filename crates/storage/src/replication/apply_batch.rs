//! Applies committed entries of the master to the disk and the catalogue.
//!
//! A batch can be applied again after a crash: steps that were already applied are recognised.

use std::collections::{BTreeMap, HashSet};

use crate::{
    CatalogError, CatalogRow, CatalogStore, Commit, Proposal, RetainedContent, StagedName,
};
use log::{debug, error, warn};
use relais_cluster::replica::{Event, MissingContent, lack_of_entry};
use relais_cluster::{ChangeRequest, CommittedEntry, Entry, FileContent, ReplicaPosition};
use relais_proto::{
    Attributes, Change, ChangeId, EventKind, FolderId, Kind, LogEntry, Lsn, TreePath,
};
use relais_tree::{Meta, MetaKind};

use super::apply_error::{ApplyError, At};
use super::disk_transaction::DiskTransaction;
use super::driver::ReplicaDriver;
use super::known_entry::KnownEntry;
use super::unapplied;

/// Result of a batch.
#[derive(Debug, Default)]
struct BatchResult {
    /// Contents that are missing here.
    missing: Vec<Lsn>,
    /// Contents that were staged here and could not be published.
    failed: Vec<Lsn>,
    /// Contents that should have been here and were lost.
    lost: Vec<MissingContent>,
    /// Puts whose staged content is not needed any more.
    used: HashSet<Lsn>,
    /// Staged files that were published, so that they are not in the staging folder any more.
    published: HashSet<StagedName>,
    /// Entries with a local mode that is not decided.
    chmods: Vec<(TreePath, Meta)>,
    /// Contents that the disk refuses.
    refused: Vec<Lsn>,
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
            let disk = self.disk.begin(store, position.applied)?;
            let is_sole = self.config.is_sole;
            let out = BatchResult::default();
            let mut batch =
                Batch { disk, store, is_sole, is_local: false, unsynced: &unsynced, out };
            let result = changes
                .iter()
                .zip(&staged)
                .try_for_each(|(committed, staged)| {
                    let id = committed.entry.id;
                    // After a crash only the id shows that a change of a sole folder is local.
                    batch.is_local =
                        self.local_changes.by_id.contains_key(&id) || is_sole && id.account() == 0;
                    batch.apply_entry(committed, staged.as_ref())
                })
                .and_then(|()| batch.disk.sync())
                .and_then(|()| {
                    self.config.progress.announce(position.applied);
                    store.set_position(position)?;
                    Ok(store.commit()?)
                });
            let Batch { disk, out, .. } = batch;
            let Err(e) = result else {
                self.published.extend(disk.published());
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
        let commit = |entry: &LogEntry| (entry.id, Commit::new(entry.version, &entry.change));
        self.last_batch = changes.iter().map(|committed| commit(&committed.entry)).collect();
        for CommittedEntry { entry, .. } in changes {
            let hashes = self.hashes_of(entry);
            self.events.extend(hashes);
            if out.used.contains(&entry.version) {
                self.staged.remove(&entry.id);
            }
            self.local_changes.drop_superseded_edits(&entry.change);
        }
        self.local_changes.edited.extend(out.chmods);
        self.local_changes.superseded.extend(out.rescans);
        self.discard_committed_staged(changes, &out.published);
        // This event comes first, because refused contents are not fetched.
        self.events.extend(unapplied::refusals(store, &out.refused)?);
        self.events.push_back(Event::Applied { missing: out.missing, failed: out.failed });
        self.events.extend(out.lost.into_iter().map(Event::Missing));
        Ok(())
    }

    /// Returns the proposal to record the hashes that came with the content of a put.
    fn hashes_of(&mut self, entry: &LogEntry) -> Option<Event> {
        let hashes = self.staged.get_mut(&entry.id)?.hashes.take()?;
        let random = relais_os::random();
        let id = random.inspect_err(|e| warn!("cannot get random numbers: {e}")).ok()?;
        let change = Change::RecordSha256 { put: entry.version, hashes };
        let Proposal { id, change, expect, keep_mode, tokens, .. } =
            Proposal::new(ChangeId(id), change);
        let request = ChangeRequest { id, change, expect, keep_mode, tokens };
        Some(Event::Proposed { session: None, request, copies: 0 })
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
            staging.discard_unlocked(&name);
            self.config.uploads.release(&name, staging);
        }
    }
}

/// Returns the content of a put.
fn content_of(change: &Change, version: Lsn) -> Option<FileContent> {
    match change {
        Change::Put { size, digest, mtime, .. } => {
            Some(FileContent { put: version, digest: *digest, size: *size, mtime: *mtime })
        }
        _ => None,
    }
}

/// What a change does at a path.
enum Step<'a> {
    /// Makes this entry. Its content may be staged here, or on the disks of other slaves.
    Add {
        entry: Entry,
        staged: Option<&'a StagedName>,
        holders: &'a [FolderId],
        /// Whether the path had this entry before the withdrawn change.
        is_former: bool,
    },
    SetAttributes(&'a Attributes),
    Remove {
        recursive: bool,
    },
    MoveFrom(&'a TreePath),
}

/// Returns the steps of a change, whose content may be staged.
fn steps_of<'a>(
    committed: &'a CommittedEntry,
    staged: Option<&'a StagedName>,
) -> Vec<(&'a TreePath, Step<'a>)> {
    let (version, change) = (committed.entry.version, &committed.entry.change);
    match change {
        Change::Put { path, mode, .. } | Change::MakeFolder { path, mode } => {
            let entry = Entry { version, mode: *mode, content: content_of(change, version) };
            let holders = &committed.holders;
            vec![(path, Step::Add { entry, staged, holders, is_former: false })]
        }
        Change::SetAttributes { path, attributes } => vec![(path, Step::SetAttributes(attributes))],
        Change::Remove { path, recursive } => {
            vec![(path, Step::Remove { recursive: *recursive })]
        }
        Change::Move { from, to } => vec![(to, Step::MoveFrom(from))],
        Change::Withdraw { .. } => {
            let step_of = |entry: &Option<Entry>| match *entry {
                Some(entry) => Step::Add { entry, staged: None, holders: &[], is_former: true },
                None => Step::Remove { recursive: true },
            };
            committed.restored.iter().map(|(path, entry)| (path, step_of(entry))).collect()
        }
        // These concern no entry.
        Change::SetProperties { .. }
        | Change::Lock { .. }
        | Change::Unlock { .. }
        | Change::RecordSha256 { .. } => Vec::new(),
    }
}

/// Applies the changes of a batch.
///
/// A step adds to the result after its last disk operation, so that a refused step adds nothing.
struct Batch<'a> {
    disk: DiskTransaction<'a>,
    store: &'a CatalogStore,
    /// See [`ReplicaDriverConfig::is_sole`].
    is_sole: bool,
    /// Whether the present change was made in this slave's folder.
    is_local: bool,
    unsynced: &'a Unsynced,
    out: BatchResult,
}

impl Batch<'_> {
    /// Applies one change. Each of its steps is applied, or recorded as refused by the disk.
    fn apply_entry(
        &mut self,
        committed: &CommittedEntry,
        staged: Option<&StagedName>,
    ) -> Result<(), ApplyError> {
        let (store, entry) = (self.store, &committed.entry);
        let version = entry.version;
        debug!(
            "applying change {version}: {:?}{}",
            entry.change,
            if staged.is_some() { ", staged" } else { "" }
        );
        if let Change::Withdraw { of } = entry.change {
            store.forget_change(of)?;
        }
        self.disk.lsn = version;
        store.annotate(entry)?;
        let steps = steps_of(committed, staged);
        if steps.is_empty() {
            store.record_unseen(version)?;
        }
        for (path, step) in steps {
            let kind = match &step {
                Step::Add { .. } => {
                    let row = store.row(path)?;
                    if let Some(replaced) = row.as_ref().and_then(|row| row.content) {
                        store.drop_hashes(replaced)?;
                    }
                    // A file that a scan has found is new until its change is applied.
                    match row.and_then(|row| row.entry.version) {
                        Some(_) => EventKind::Changed,
                        None => EventKind::Created,
                    }
                }
                Step::Remove { .. } => {
                    store.drop_annotations(path)?;
                    EventKind::Removed
                }
                Step::MoveFrom(from) if *from != path => {
                    store.move_annotations(from, path)?;
                    EventKind::Moved((*from).clone())
                }
                Step::SetAttributes(_) | Step::MoveFrom(_) => EventKind::Changed,
            };
            store.record_event(version, &kind, path)?;
            if let Some(reason) = self.attempt(path, &step)? {
                warn!("change {version} is not applied here at {path}: {reason}; it is retried");
                self.record(path, &step, &reason)?;
            }
        }
        Ok(store.record_change(entry.id, Commit::new(version, &entry.change))?)
    }

    /// Applies a step. Returns the reason if the disk refuses it.
    fn attempt(&mut self, path: &TreePath, step: &Step<'_>) -> Result<Option<String>, ApplyError> {
        let from = if let Step::MoveFrom(from) = step { Some(*from) } else { None };
        for (parent, _) in [Some(path), from].into_iter().flatten().filter_map(TreePath::split_last)
        {
            if let Some(reason) = self.unsynced.get(&parent) {
                return Ok(Some(format!("{parent}: {reason}")));
            }
        }
        let before = self.disk.begin_attempt()?;
        let result = match step {
            Step::Add { entry, .. } if entry.content.is_none() => self.disk.add_folder(path, entry),
            Step::Add { entry, is_former: true, .. } => self.restore(path, entry),
            Step::Add { entry, staged, holders, .. } => self.put(path, entry, *staged, holders),
            Step::SetAttributes(attributes) => self.set_attributes(path, attributes),
            Step::Remove { recursive } => self.remove(path, *recursive),
            Step::MoveFrom(from) => self.relocate(from, path),
        };
        Ok(self.disk.end_attempt(before, path, result)?.err())
    }

    /// Records a step that the disk refuses.
    fn record(
        &mut self,
        path: &TreePath,
        step: &Step<'_>,
        reason: &str,
    ) -> Result<(), CatalogError> {
        let (store, version) = (self.store, self.disk.lsn);
        let BatchResult { missing, failed, refused, lost, .. } = &mut self.out;
        match step {
            Step::Add { entry, staged, holders, .. } => {
                let put = entry.content.map(|content| content.put);
                missing.extend(put);
                refused.extend(put);
                failed.extend(put.filter(|_| staged.is_some()));
                unapplied::entry(store, path, entry, holders, reason)
            }
            Step::SetAttributes(attributes) => {
                store.set_lsn(path, version)?;
                store.set_attributes(path, attributes)?;
                store.record_unapplied(path, version, false, reason, None)
            }
            Step::Remove { .. } => unapplied::removal(store, path, version, reason),
            Step::MoveFrom(from) => {
                unapplied::move_to(store, from, path, version, reason, refused, lost)
            }
        }
    }

    fn put(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        staged: Option<&StagedName>,
        holders: &[FolderId],
    ) -> Result<(), ApplyError> {
        self.disk.check_not_source(path)?;
        self.disk.ensure_unblocked(path)?;
        let known = self.disk.load_for_file(path)?;
        // An earlier process may have been killed right after it published the content, and the
        // client may have sent it again.
        let is_unknown = self.disk.examine(path, &known)?.is_some_and(|(_, is_known)| !is_known);
        if (is_unknown || staged.is_none()) && self.disk.adopt_existing(path, entry, &known)? {
            self.out.used.insert(entry.version);
        } else if let Some(staged) = staged {
            if is_unknown {
                self.disk.quarantine_unknown(path, &known)?;
            }
            self.disk.publish(path, entry, staged, &known)?;
            self.out.used.insert(entry.version);
            self.out.published.insert(*staged);
        } else if self.is_sole {
            self.leave_to_scan(path, entry)?;
        } else {
            self.disk.await_content(path, entry, holders, &known)?;
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
        attributes: &Attributes,
    ) -> Result<(), ApplyError> {
        let (version, is_local) = (self.disk.lsn, self.is_local);
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
            let now = RetainedContent { disk: (&meta).into(), ..retained };
            self.store.set_retained(path, Some(&now))?;
        }
        Ok(())
    }

    /// Returns an error if the entry at a path cannot leave it.
    fn check_movable(&self, path: &TreePath) -> Result<(), ApplyError> {
        self.disk.check_not_source(path)?;
        unapplied::hidden_below(self.store, path)?
            .map_or(Ok(()), |reason| Err(ApplyError::Refused(reason)))
    }

    fn remove(&mut self, path: &TreePath, recursive: bool) -> Result<(), ApplyError> {
        self.check_movable(path)?;
        let known = self.disk.load(path)?;
        if self.is_sole && (self.is_local || self.is_replaced(path, &known, recursive)?) {
            // What is there now was put there by a user, and becomes a change of its own.
            self.out.rescans.push(path.clone());
        } else if known.is(Kind::Folder) {
            self.disk.remove_folder(path)?;
        } else {
            self.disk.remove_known(path, &known)?;
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
        Ok(names.at(path)?.next().is_some())
    }

    fn relocate(&mut self, from: &TreePath, to: &TreePath) -> Result<(), ApplyError> {
        let version = self.disk.lsn;
        if from == to {
            return Ok(self.store.set_lsn(to, version)?);
        }
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
            self.disk.remove_known(to, &target)?;
        }
        self.store.remove(to)?;
        match &known.row {
            _ if is_moved => {}
            _ if is_there => meta = self.disk.move_to(from, to)?,
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
    fn restore(&mut self, path: &TreePath, entry: &Entry) -> Result<(), ApplyError> {
        let put = entry.content.map(|content| content.put);
        self.disk.check_not_source(path)?;
        self.disk.ensure_unblocked(path)?;
        let known = self.disk.load(path)?;
        if self.is_sole && self.disk.examine(path, &known)?.is_none_or(|(_, is_known)| !is_known) {
            return Ok(self.leave_to_scan(path, entry)?);
        }
        let is_there = self.disk.quarantine_unknown(path, &known)?;
        let mut meta = None;
        if is_there && known.has_content_of(put) {
            meta = self.disk.set_known_mode(path, entry.mode, &known)?;
        } else if is_there {
            // The withdrawn content is not needed.
            self.disk.remove(path)?;
        }
        if meta.is_none() {
            self.out.missing.extend(put);
        }
        Ok(self.store.settle_entry(path, entry, meta.as_ref())?)
    }
}
