//! Carrying out changes that the master has numbered: on the disk as far as their content is here, and in the catalogue.
//!
//! Whatever was done of a batch before a crash is found and taken as done: the same batch can be carried out again.

use std::collections::{BTreeMap, HashSet, VecDeque};

use log::{debug, error, warn};
use relais_cluster::replica::{Event, MissingContent};
use relais_cluster::{CommittedEntry, Entry, FileContent, ReplicaPosition};
use relais_proto::{Change, ChangeId, Kind, Lsn, Mode, TreePath};
use relais_tree::{Meta, MetaKind};

use super::disk_transaction::DiskTransaction;
use super::unapplied::{self, RefusedContents};
use super::{ApplyError, ReplicaDriver, announce, roll_back_catalog};
use crate::catalogue::{CatalogError, CatalogRow, CatalogStore, RetainedContent};
use crate::changes::Commit;
use crate::staging::StagedName;

/// What a batch has come to.
#[derive(Debug, Default)]
struct BatchResult {
    /// Contents that are not here.
    lacks: Vec<Lsn>,
    /// Contents that were staged here and could not be placed.
    failed: Vec<Lsn>,
    /// Contents that should have been here and were lost.
    missing: Vec<MissingContent>,
    /// What has its name: nothing staged is needed for it any more.
    used: Vec<ChangeId>,
    /// What has a mode that was set by hand and is not decided yet.
    chmods: Vec<(TreePath, Meta)>,
    /// What the disk does not take.
    refused: RefusedContents,
}

impl BatchResult {
    fn join(&mut self, mut other: Self) {
        self.lacks.append(&mut other.lacks);
        self.failed.append(&mut other.failed);
        self.missing.append(&mut other.missing);
        self.used.append(&mut other.used);
        self.chmods.append(&mut other.chmods);
        self.refused.puts.append(&mut other.refused.puts);
        self.refused.missing.append(&mut other.refused.missing);
    }
}

/// Folders that could not be put on the disk, and why: what changes in them is not tried again in the same batch.
type Unsynced = BTreeMap<TreePath, String>;

impl ReplicaDriver {
    /// Carries out a batch, and tells the replica what came of it. What the disk does not take at its path is recorded, and counts as
    /// carried out: the order goes on without it.
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
            // What an earlier scan has begun.
            store.commit()?;
            store.begin()?;
            let mut disk =
                DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine);
            let mut out = BatchResult::default();
            let result = changes
                .iter()
                .zip(&staged)
                .try_for_each(|(committed, staged)| {
                    apply_entry(&mut disk, store, committed, staged.as_ref(), &unsynced, &mut out)
                })
                .and_then(|()| disk.sync())
                .and_then(|()| {
                    announce(&self.scoreboard, position.applied);
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
                    // The same folder again means that it is not only these changes.
                    if let ApplyError::Disk(path, _) = &e
                        && e.is_path_specific()
                        && unsynced.insert(path.clone(), e.reason(path)).is_none()
                    {
                        continue;
                    }
                    error!("changes up to {} cannot be carried out now: {e}", position.applied);
                    store.set_meta("last-error", e.to_string())?;
                    events.push_back(Event::ApplyFailed);
                    return Ok(());
                }
            }
        };
        // A crash may have left what one of these has removed.
        let removes = |committed: &CommittedEntry| {
            matches!(committed.entry.change, Change::Remove { .. } | Change::Move { .. })
        };
        self.litter |= changes.iter().any(removes);
        self.scoreboard.set_applied_lsn(position.applied);
        for id in &out.used {
            self.staged.remove(id);
            self.checked.remove(id);
        }
        for committed in changes {
            self.local_changes.made(&committed.entry.change);
        }
        self.local_changes.look_again(out.chmods);
        self.free_staged(changes);
        // Said first: what the disk refuses is not fetched.
        events
            .extend(out.refused.puts.iter().map(|put| Event::Refused { put: *put, retry: false }));
        events.push_back(Event::Applied { lacks: out.lacks, failed: out.failed });
        events.extend(out.missing.into_iter().chain(out.refused.missing).map(Event::Missing));
        Ok(())
    }

    /// Frees what lies staged for changes that were made meanwhile through another slave, or on another connection.
    fn free_staged(&self, changes: &[CommittedEntry]) {
        // What this process still has a use for frees itself.
        let made: HashSet<ChangeId> = changes
            .iter()
            .map(|committed| committed.entry.id)
            .filter(|id| !self.staged.contains_key(id))
            .collect();
        for name in self.scoreboard.uploads().names_of(&made) {
            self.staging.discard(&name.sealed());
            // What a connection still writes is locked.
            if self.staging.reopen(&name).is_ok() {
                self.staging.discard(&name);
            }
            self.scoreboard.uploads().release(&name, &self.staging);
        }
    }

    /// For each change the file that is staged for it here.
    fn staged_for_all(&self, changes: &[CommittedEntry]) -> Vec<Option<StagedName>> {
        let of = |committed: &CommittedEntry| {
            let content = content_of(&committed.entry.change, committed.entry.version)?;
            self.staged_for(committed.entry.id, &content)
        };
        changes.iter().map(of).collect()
    }
}

/// The content that a put brings.
pub(super) fn content_of(change: &Change, version: Lsn) -> Option<FileContent> {
    match change {
        Change::Put { size, digest, mtime, .. } => {
            Some(FileContent { put: version, digest: *digest, size: *size, mtime: *mtime })
        }
        _ => None,
    }
}

/// Carries out one change, or records that the disk does not take it.
fn apply_entry(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    committed: &CommittedEntry,
    staged: Option<&StagedName>,
    unsynced: &Unsynced,
    out: &mut BatchResult,
) -> Result<(), ApplyError> {
    let (version, id, change) =
        (committed.entry.version, committed.entry.id, &committed.entry.change);
    debug!(
        "change {version} is carried out: {change:?}{}",
        if staged.is_some() { ", staged" } else { "" }
    );
    if let Change::Withdraw { of } = change {
        store.forget_change(*of)?;
        for (path, entry) in &committed.restored {
            let work = |batch: &mut Batch<'_, '_>| batch.restore(path, entry.as_ref(), version);
            if let Err(why) = attempt(disk, store, &[path], unsynced, out, work)? {
                warn_unapplied(version, path, &why);
                record_restored(store, path, entry.as_ref(), version, &why, out)?;
            }
        }
        return Ok(store.record_change(id, Commit::from(&committed.entry))?);
    }
    let paths: Vec<&TreePath> = match change {
        Change::Put { path, .. }
        | Change::MakeFolder { path, .. }
        | Change::SetMode { path, .. }
        | Change::Remove { path, .. } => {
            vec![path]
        }
        Change::Move { from, to } => vec![to, from],
        Change::Withdraw { .. } => Vec::new(),
    };
    let work = |batch: &mut Batch<'_, '_>| batch.apply(committed, staged);
    if let Err(why) = attempt(disk, store, &paths, unsynced, out, work)? {
        paths.first().iter().for_each(|path| warn_unapplied(version, path, &why));
        record(store, committed, staged.is_some(), &why, out)?;
    }
    Ok(store.record_change(id, Commit::from(&committed.entry))?)
}

fn warn_unapplied(version: Lsn, path: &TreePath, why: &str) {
    warn!("change {version} is not applied here at {path}: {why}; it is tried again");
}

/// Tries something on paths, the first of which is where it happens; the inner result is why the disk refuses it.
fn attempt(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    paths: &[&TreePath],
    unsynced: &Unsynced,
    out: &mut BatchResult,
    work: impl FnOnce(&mut Batch<'_, '_>) -> Result<(), ApplyError>,
) -> Result<Result<(), String>, ApplyError> {
    let parents = paths.iter().filter_map(|path| path.split_last());
    let failed = parents
        .into_iter()
        .find_map(|(parent, _)| unsynced.get(&parent).map(|why| format!("{parent}: {why}")));
    if let Some(why) = failed {
        return Ok(Err(why));
    }
    let Some(first) = paths.first() else { return Ok(Ok(())) };
    let tried = disk.attempt(store, first, |disk| {
        let mut batch = Batch { disk, store, out: BatchResult::default() };
        work(&mut batch)?;
        Ok(batch.out)
    })?;
    Ok(tried.map(|one| out.join(one)))
}

/// Records a change that the disk does not take.
fn record(
    store: &CatalogStore,
    committed: &CommittedEntry,
    staged: bool,
    why: &str,
    out: &mut BatchResult,
) -> Result<(), ApplyError> {
    let version = committed.entry.version;
    match &committed.entry.change {
        change @ Change::Put { path, mode, .. } => {
            let entry = Entry { version, mode: *mode, content: content_of(change, version) };
            unapplied::put(store, path, &entry, &committed.holders, why, &mut out.refused)?;
            out.lacks.push(version);
            if staged {
                out.failed.push(version);
            }
        }
        Change::MakeFolder { path, mode } => unapplied::folder(store, path, version, *mode, why)?,
        Change::SetMode { path, mode } => unapplied::mode(store, path, version, *mode, why)?,
        Change::Remove { path, .. } => unapplied::removal(store, path, version, why)?,
        Change::Move { from, to } => {
            unapplied::move_to(store, from, to, version, why, &mut out.refused)?
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
    why: &str,
    out: &mut BatchResult,
) -> Result<(), ApplyError> {
    let Some(entry) = entry else { return Ok(unapplied::removal(store, path, version, why)?) };
    let Some(content) = entry.content else {
        return Ok(unapplied::folder(store, path, entry.version, entry.mode, why)?);
    };
    unapplied::put(store, path, entry, &[], why, &mut out.refused)?;
    out.lacks.push(content.put);
    Ok(())
}

/// Something is not touched as long as its content has still to go elsewhere.
pub(super) fn check_not_source(store: &CatalogStore, path: &TreePath) -> Result<(), ApplyError> {
    if store.is_source(path)? {
        return Err(ApplyError::Refused(format!("{path}: what lies there has still to be moved")));
    }
    Ok(())
}

struct Batch<'a, 'b> {
    disk: &'a mut DiskTransaction<'b>,
    store: &'a CatalogStore,
    out: BatchResult,
}

impl Batch<'_, '_> {
    fn apply(
        &mut self,
        committed: &CommittedEntry,
        staged: Option<&StagedName>,
    ) -> Result<(), ApplyError> {
        let (version, id) = (committed.entry.version, committed.entry.id);
        match &committed.entry.change {
            Change::Put { path, mode, .. } => {
                if let Some(content) = content_of(&committed.entry.change, version) {
                    let entry = Entry { version, mode: *mode, content: Some(content) };
                    self.put(path, &entry, content, id, staged, committed)?;
                }
            }
            Change::MakeFolder { path, mode } => self.make_folder(path, version, *mode)?,
            Change::SetMode { path, mode } => self.set_mode(path, version, *mode)?,
            Change::Remove { path, .. } => self.remove(path, version)?,
            Change::Move { from, to } if from == to => self.store.set_lsn(to, version)?,
            Change::Move { from, to } => self.relocate(from, to, version)?,
            // Path by path.
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
        staged: Option<&StagedName>,
        committed: &CommittedEntry,
    ) -> Result<(), ApplyError> {
        check_not_source(self.store, path)?;
        // Content is not fetched for a folder that cannot be made.
        if self.store.unapplied_above(path)?.is_some()
            && let Some((parent, _)) = path.split_last()
        {
            self.disk.ensure_folder(&parent)?;
        }
        let (mut row, mut retained) = self.disk.load_rows(self.store, path)?;
        if row.as_ref().is_some_and(|row| row.entry.kind == Kind::Folder) {
            // One that somebody has made here by hand, and that nobody else has.
            self.disk.quarantine_unknown(path, None, None)?;
            self.store.remove(path)?;
            (row, retained) = (None, None);
        }
        // An earlier process may have been killed behind giving it its name, and the content may have been sent again since.
        let unknown = match self.disk.stat(path)? {
            Some(meta) => !self.disk.is_ours(path, &meta, row.as_ref(), retained.as_ref())?,
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
            self.store.clear_unapplied(path)?;
            self.store.set_retained(path, None)?;
            return Ok(self.store.put_entry(path, entry, Some(&meta), &[])?);
        }
        if let Some(staged) = staged {
            self.disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
            let meta = self.disk.put(path, &content, entry.mode, staged)?;
            self.store.clear_unapplied(path)?;
            self.store.set_retained(path, None)?;
            self.store.put_entry(path, entry, Some(&meta), &[])?;
            self.out.used.push(id);
            return Ok(());
        }
        // What is there stays until the content has come.
        let there = self.disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
        let former = row.as_ref().and_then(CatalogRow::to_retained).or(retained).filter(|_| there);
        self.store.clear_unapplied(path)?;
        self.store.put_entry(path, entry, None, &committed.holders)?;
        self.store.set_retained(path, former.as_ref())?;
        self.out.lacks.push(content.put);
        Ok(())
    }

    /// The mode of what is at a path, and of what is kept there until the content comes.
    fn set_mode(&mut self, path: &TreePath, version: Lsn, mode: Mode) -> Result<(), ApplyError> {
        let (row, retained) = self.disk.load_rows(self.store, path)?;
        self.store.set_lsn(path, version)?;
        self.store.set_mode(path, mode)?;
        let (Some(row), Some(meta)) = (row, self.disk.stat(path)?) else { return Ok(()) };
        let ours = match row.entry.kind {
            Kind::Folder => meta.served_kind() == Some(Kind::Folder),
            Kind::File => self.disk.is_ours(path, &meta, Some(&row), retained.as_ref())?,
        };
        // What somebody has put there is not what this is about.
        if !ours {
            return Ok(());
        }
        // A newer chmod of a user is not decided by this: it is offered on what the tree has from now on.
        let kind = row.entry.kind;
        if row.here
            && meta.mode.with_owner_access(kind) != mode.with_owner_access(kind)
            && meta.mode != row.on_disk.mode
        {
            self.out.chmods.push((path.clone(), meta));
            return Ok(());
        }
        let now = self.disk.set_mode(path, mode)?;
        // A user may have put something in its place meanwhile.
        let Some(meta) = now.filter(|now| now.same_but_renamed(&meta)) else { return Ok(()) };
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
        // What was removed there before, and could not be taken away.
        if self.store.unapplied(path)?.is_some_and(|found| found.removal) {
            remove_leftover(self.disk, self.store, path, version)?;
            self.store.remove(path)?;
        }
        self.disk.ensure_folder_as(path, mode)?;
        let meta = self.disk.set_mode(path, mode)?;
        self.store.clear_unapplied(path)?;
        let entry = Entry { version, mode, content: None };
        Ok(self.store.put_entry(path, &entry, meta.as_ref(), &[])?)
    }

    fn remove(&mut self, path: &TreePath, version: Lsn) -> Result<(), ApplyError> {
        check_not_source(self.store, path)?;
        let (row, retained) = self.disk.load_rows(self.store, path)?;
        if row.as_ref().is_some_and(|row| row.entry.kind == Kind::Folder) {
            self.disk.remove_folder(path, version)?;
        } else if self.disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())? {
            self.disk.remove(path, version)?;
        }
        Ok(self.store.remove(path)?)
    }

    fn relocate(&mut self, from: &TreePath, to: &TreePath, version: Lsn) -> Result<(), ApplyError> {
        check_not_source(self.store, from)?;
        check_not_source(self.store, to)?;
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
        // A crash may have come between the folder and the catalogue: then it has its new name already, by its inode or its content.
        let same = |meta: &Meta| {
            let is_row = row.as_ref().is_some_and(|row| {
                row.matches_except_ctime(meta)
                    || folder && (row.dev, row.ino) == (meta.dev, meta.ino)
            });
            is_row || retained.as_ref().is_some_and(|retained| retained.matches_except_ctime(meta))
        };
        // Its ctime is another one since it was moved, so its content is read.
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
            let change = Change::Move { from: from.clone(), to: to.clone() };
            meta = self.disk.apply(&change, version, None).map_err(ApplyError::at(to))?;
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
                if let Some(content) = content {
                    let entry = Entry { version, mode, content: Some(content) };
                    self.store.put_entry(to, &entry, None, &[])?;
                    self.out.missing.extend(relais_cluster::replica::lack_of_entry(to, &entry));
                }
            }
            None => {}
        }
        Ok(())
    }

    /// A withdrawal: what is at a path from now on.
    fn restore(
        &mut self,
        path: &TreePath,
        entry: Option<&Entry>,
        version: Lsn,
    ) -> Result<(), ApplyError> {
        let Some(entry) = entry else { return self.remove(path, version) };
        let Some(content) = entry.content else {
            return self.make_folder(path, entry.version, entry.mode);
        };
        check_not_source(self.store, path)?;
        let (row, retained) = self.disk.load_rows(self.store, path)?;
        let there = self.disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
        let has = |put: Option<Lsn>| there && put == Some(content.put);
        if row.as_ref().is_some_and(|row| row.here && has(row.content))
            || retained.as_ref().is_some_and(|retained| has(Some(retained.content.put)))
        {
            let mut meta = self.disk.stat(path)?.filter(|meta| {
                DiskTransaction::is_same_file(meta, row.as_ref(), retained.as_ref())
            });
            if meta.is_some() {
                meta = self.disk.set_mode(path, entry.mode)?.filter(|meta| {
                    DiskTransaction::is_same_file(meta, row.as_ref(), retained.as_ref())
                });
            }
            if meta.is_none() {
                self.out.lacks.push(content.put);
            }
            self.store.clear_unapplied(path)?;
            self.store.set_retained(path, None)?;
            return Ok(self.store.put_entry(path, entry, meta.as_ref(), &[])?);
        }
        // What was withdrawn is not wanted any more; what it had replaced is not here.
        if there {
            self.disk.remove(path, version)?;
        }
        self.store.clear_unapplied(path)?;
        self.store.set_retained(path, None)?;
        self.store.put_entry(path, entry, None, &[])?;
        self.out.lacks.push(content.put);
        Ok(())
    }
}

/// Takes away what a path had before it was removed from the tree; what nobody knows is set quarantine.
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
