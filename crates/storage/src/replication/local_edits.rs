//! Local changes: files that users added to the folder, edited or removed.
//!
//! An added or edited file is proposed to the cluster as a change that expects the version it was
//! based on. If the master refuses it, the file is quarantined. A removed file is fetched again.
//! With `--watch all` a removal that an event has reported is proposed as a change instead.
//!
//! In a standalone slave no other replica could restore a file. There all that users do is
//! proposed, and a refused local change is looked at again.

use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use relais_cluster::Entry;
use relais_cluster::replica::{Event, lack_of_entry};
use relais_proto::{
    Attributes, Change, ChangeId, Digest, Expect, Kind, Lsn, Mode, TreePath, metric,
};
use relais_tree::Meta;

use super::apply_error::ApplyError;
use super::disk_transaction::{DiskTransaction, next};
use super::driver::ReplicaDriver;
use super::known_entry::KnownEntry;
use super::local_changes::{LocalChange, MOST_PROPOSED, PendingEdit};
use super::unapplied::refusal;
use crate::{
    CatalogError, CatalogRow, CatalogStore, FileIdentity, RetainedContent, Scanner, UnhashedFile,
    WatchMode,
};

/// Delay before a refused file is quarantined. The refusal may arrive before the change that caused
/// it, and that change may match the file.
const REJECT_DELAY: Duration = Duration::from_millis(1500);
/// Proposed changes above which no more removals are proposed.
const MOST_PENDING: usize = 2 * MOST_PROPOSED;

impl ReplicaDriver {
    /// Takes the differences that the scanner found, and proposes local changes.
    pub(super) fn take_detected(&mut self, scanner: &mut Scanner) -> Result<(), CatalogError> {
        for path in self.local_changes.superseded.drain(..) {
            scanner.debounce.add(path, Instant::now());
        }
        let detected = scanner.take_detected();
        self.local_changes.vanished.extend(detected.vanished);
        self.local_changes.edited.extend(detected.edited);
        // The master repeats a batch that a crash interrupted. Its effects are no local changes.
        if !self.link_announced || !self.replica.is_caught_up() {
            return Ok(());
        }
        let store = &scanner.store;
        while self.local_changes.by_id.len() < MOST_PENDING
            && let Some((path, by_event)) = self.local_changes.vanished.pop_first()
        {
            if self.local_changes.is_pending(&path) {
                // The earlier local change at the path is decided first.
                scanner.debounce.add(path, Instant::now());
                continue;
            }
            store.begin()?;
            self.handle_vanished(&path, by_event, store)?;
        }
        for (path, meta) in std::mem::take(&mut self.local_changes.edited) {
            if self.local_changes.is_pending(&path) {
                scanner.debounce.add(path, Instant::now());
                continue;
            }
            store.begin()?;
            self.handle_edited(path, &meta, store)?;
        }
        let rejected = &mut self.local_changes.rejected;
        let rejected = rejected.extract_if(.., |(since, ..)| since.elapsed() >= REJECT_DELAY);
        for (_, change, reason) in rejected.collect::<Vec<_>>() {
            store.begin()?;
            self.local_changes.by_path.remove(&change.path);
            self.finish_quarantine(change, &reason, store)?;
        }
        self.events.extend(self.local_changes.propose(scanner)?);
        Ok(())
    }

    /// Handles a path of the tree that is gone from the disk, or replaced.
    fn handle_vanished(
        &mut self,
        path: &TreePath,
        by_event: bool,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let Some(row) = store.row(path)?.filter(|row| row.entry.version.is_some()) else {
            return Ok(());
        };
        if self.is_on_disk(path, &row, store)? {
            return Ok(());
        }
        // A file under a mount was not removed.
        let is_reachable = self.disk.stat(path).is_ok();
        if self.config.is_sole {
            if is_reachable && !self.local_changes.is_removed_with_folder(path) {
                info!("{path} was removed locally");
                self.propose_removal(path.clone(), &row, true);
            }
            return Ok(());
        }
        if by_event && is_reachable && self.config.watch == WatchMode::All && row.here {
            let gone = store.at_and_below(path)?;
            if self.local_changes.count_removals(gone.len() as u64, store.total(metric::FILES)?) {
                info!("{path} was removed locally; proposing its removal");
                // Removals are proposed one by one, entries before their folder. So no entry is
                // removed that was added meanwhile.
                for (path, row) in gone.into_iter().rev() {
                    self.propose_removal(path, &row, false);
                }
                return Ok(());
            }
            warn!("too many local removals at once; {path} is fetched again");
            store.add_to_total(metric::HELD, 1)?;
        }
        self.refetch(path, &row, store)
    }

    /// Proposes the removal of an entry that has an LSN.
    fn propose_removal(&mut self, path: TreePath, row: &CatalogRow, recursive: bool) {
        if let Some(base) = row.entry.version {
            let change = Change::Remove { path, recursive };
            self.events.extend(self.local_changes.add(change, Expect::Lsn(base), None));
        }
    }

    fn disk_transaction<'a>(&'a mut self, store: &'a CatalogStore) -> DiskTransaction<'a> {
        self.disk.transaction(store, next(self.replica.applied()))
    }

    /// Returns the metadata at a path; `None` if it cannot be read.
    fn stat(&self, path: &TreePath) -> Option<Meta> {
        self.disk.stat(path).inspect_err(|e| debug!("cannot read {path}: {e}")).unwrap_or_default()
    }

    /// Returns whether the known file of a path, or its retained content, is on the disk.
    fn is_on_disk(
        &self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
    ) -> Result<bool, CatalogError> {
        let Some(meta) = self.stat(path) else { return Ok(false) };
        Ok(match row.entry.kind {
            Kind::Folder => meta.served_kind() == Some(Kind::Folder),
            Kind::File => {
                let retained = store.retained(path)?;
                KnownEntry { row: Some(row.clone()), retained }.is_same_file(&meta)
            }
        })
    }

    /// Recreates missing folders and fetches missing contents again.
    fn refetch(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        self.refetch_one(path, row, store)?;
        for (below, row) in store.below(path)? {
            if row.entry.version.is_none() {
                store.remove(&below)?;
            } else if !self.is_on_disk(&below, &row, store)? {
                // This loop also handles the entries below that folder.
                self.refetch_one(&below, &row, store)?;
            }
        }
        Ok(())
    }

    fn refetch_one(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let Some(entry) = row.tree_entry() else { return Ok(()) };
        let Some(content) = entry.content else {
            return self.recreate_folder(path, entry.version, store);
        };
        let obstacle = match store.unapplied_above(path)? {
            Some(above) => Some(above.reason),
            None => {
                let error = self.disk.stat(path).err().filter(ApplyError::is_path_specific);
                error.map(|e| e.reason(path))
            }
        };
        // The retained content may still exist behind the obstacle.
        let former = row.to_retained().or(store.retained(path)?);
        store.set_retained(path, former.filter(|_| obstacle.is_some()).as_ref())?;
        if let Some(reason) = obstacle {
            store.record_unapplied(path, entry.version, false, &reason, None)?;
            self.events.push_back(refusal(store, content.put, path)?);
        }
        if row.here { self.record_missing(path, &entry, store) } else { Ok(()) }
    }

    /// Records that the content of an entry is missing.
    fn record_missing(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        self.events.extend(lack_of_entry(path, entry).map(Event::Missing));
        store.put_entry(path, entry, None, &[])
    }

    /// Recreates a missing folder of the tree.
    fn recreate_folder(
        &mut self,
        path: &TreePath,
        version: Lsn,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let mut disk = self.disk_transaction(store);
        match disk.ensure_folder(path).and_then(|()| disk.sync()) {
            Ok(()) => Ok(()),
            Err(ApplyError::Catalog(e)) => Err(e),
            Err(e) if e.is_path_specific() => {
                let reason = e.reason(path);
                warn!("cannot recreate {path}: {reason}; it is retried");
                store.record_unapplied(path, version, false, &reason, None)
            }
            Err(e) => {
                warn!("cannot recreate {path}: {e}");
                Ok(())
            }
        }
    }

    /// Handles a file that differs from the tree, or a folder with another mode.
    fn handle_edited(
        &mut self,
        path: TreePath,
        meta: &Meta,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let Some(row) = store.row(&path)? else { return Ok(()) };
        let (Some(entry), Some(base)) = (row.tree_entry(), row.entry.version) else {
            return Ok(());
        };
        let Some(content) = entry.content else {
            // A change that was applied after the scan may have set another mode.
            let meta = self.stat(&path);
            if let Some(meta) = meta.filter(|meta| meta.served_kind() == Some(Kind::Folder)) {
                let mode = meta.mode.with_owner_access(Kind::Folder);
                self.propose_mode(path, mode, &row, &meta, store)?;
            }
            return Ok(());
        };
        if !row.here {
            if let Some(retained) = store.retained(&path)? {
                let known = KnownEntry { row: None, retained: Some(retained) };
                match self.disk_transaction(store).examine(&path, &known) {
                    // The scan came before the change that made this the former content, or only
                    // the ctime differs.
                    Ok(Some((now, true))) => {
                        let now = RetainedContent { disk: (&now).into(), ..retained };
                        return store.set_retained(&path, Some(&now));
                    }
                    Ok(_) => {}
                    Err(e) => {
                        warn!("{path} cannot be read: {e}");
                        return Ok(());
                    }
                }
            }
            // The edit has no base in the tree, unless the file is the missing content itself.
            let mut disk = self.disk_transaction(store);
            let adopted = disk
                .claim_existing(&path, &entry, &KnownEntry::default())
                .and_then(|adopted| disk.sync().map(|()| adopted));
            match adopted {
                Ok(Some(meta)) => {
                    store.set_retained(&path, None)?;
                    store.put_entry(&path, &entry, Some(&meta), &[])?;
                    self.events.push_back(Event::Fetched {
                        put: content.put,
                        from: self.config.folder,
                        fault: None,
                    });
                }
                Ok(None) => {
                    self.quarantine(&path, "it was edited before newer content arrived", "");
                }
                Err(e) => warn!("{path}: {e}"),
            }
            return Ok(());
        }
        let same = row.matches_except_ctime(meta) && row.disk_mode == meta.mode;
        // The content is hashed even so, because a program may have restored the time.
        let edit = PendingEdit { meta: meta.into(), mode: meta.mode, base, ordered: false };
        if self.local_changes.edits.get(&path).is_none_or(|known| known.meta != edit.meta) {
            debug!(
                "{path} was changed locally{}",
                if same { ", perhaps only in name" } else { "" }
            );
            self.local_changes.edits.insert(path, edit);
        }
        Ok(())
    }

    /// Proposes the mode of an unchanged entry, if it differs from the tree.
    fn propose_mode(
        &mut self,
        path: TreePath,
        mode: Mode,
        row: &CatalogRow,
        meta: &Meta,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        if mode == row.entry.mode {
            return store.update_disk_meta(&path, meta);
        }
        info!("the mode of {path} was changed locally to {mode}");
        let change = Change::SetAttributes { path, attributes: Attributes::mode(mode) };
        let expect = Expect::exactly(Some(row.entry.version));
        self.events.extend(self.local_changes.add(change, expect, None));
        Ok(())
    }

    /// Quarantines the entry at a path. Returns whether that was done.
    fn quarantine(&mut self, path: &TreePath, reason: &str, details: &str) -> bool {
        self.disk
            .quarantine
            .take(path, reason, details)
            .inspect_err(|e| error!("cannot quarantine {path}: {e}"))
            .unwrap_or(false)
    }

    /// Returns files that need a digest: edits first, then reported files, then the scrub.
    pub fn take_unhashed(
        &mut self,
        most: usize,
        may: impl Fn(&TreePath) -> bool,
    ) -> Vec<UnhashedFile> {
        let edits = self
            .local_changes
            .edits
            .iter_mut()
            .filter(|(path, edit)| !edit.ordered && may(path))
            .take(most);
        let files: Vec<UnhashedFile> = edits
            .map(|(path, edit)| {
                edit.ordered = true;
                UnhashedFile { path: path.clone(), meta: edit.meta }
            })
            .collect();
        if files.is_empty() { self.scrubber.take_files(most) } else { files }
    }

    /// Handles the digest of a file, or `None` if the file changed meanwhile.
    ///
    /// # Errors
    /// Returns catalogue errors.
    pub fn handle_digest(
        &mut self,
        of: &UnhashedFile,
        digest: Option<Digest>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        if self.scrubber.is_reading(of) {
            if let Some(entry) = self.scrubber.check(of, digest, &self.disk.root, store)? {
                self.quarantine(&of.path, "its content does not match its digest", "");
                // The content is not served from here, even if the file cannot be moved. It counts
                // as damaged until good content arrives.
                self.record_missing(&of.path, &entry, store)?;
                store.mark_damaged(&of.path)?;
                store.add_to_total(metric::SCRUB_BAD, 1)?;
            }
            return Ok(());
        }
        let edits = &mut self.local_changes.edits;
        if edits.get(&of.path).is_none_or(|edit| edit.meta != of.meta) {
            if digest.is_some() {
                self.local_changes.note_hashed(&of.path);
            }
            return Ok(());
        }
        let Some(edit) = edits.remove(&of.path) else { return Ok(()) };
        let (Some(digest), Some(row)) = (digest, store.row(&of.path)?) else { return Ok(()) };
        let same = row.digest == Some(digest) && row.disk.mtime == of.meta.mtime;
        // A newer state of the file has an event of its own.
        let Some(meta) = self
            .stat(&of.path)
            .filter(|meta| FileIdentity::from(meta) == of.meta && !row.matches(meta))
        else {
            return Ok(());
        };
        // If others have changed only the mode meanwhile, the latest LSN is the base. A sole folder
        // is always right.
        let base = row
            .entry
            .version
            .filter(|_| same && row.here || self.config.is_sole)
            .unwrap_or(edit.base);
        if row.entry.version != Some(base) {
            if self.quarantine(&of.path, "it was edited while another change was made", "") {
                self.refetch_one(&of.path, &row, store)?;
            }
            return Ok(());
        }
        // The mode of the tree stays, unless the mode on the disk has changed.
        let mode = match edit.mode == row.disk_mode {
            true => row.entry.mode,
            false => edit.mode.with_owner_access(Kind::File),
        };
        if same {
            // The file may have another hard link, or was renamed and renamed back.
            return self.propose_mode(of.path.clone(), mode, &row, &meta, store);
        }
        let mtime = match of.meta.mtime == row.disk.mtime {
            true => row.entry.mtime,
            false => of.meta.mtime,
        };
        let change = Change::Put { path: of.path.clone(), size: of.meta.size, digest, mtime, mode };
        self.events.extend(self.local_changes.add(change, Expect::Lsn(base), Some(of.meta)));
        Ok(())
    }

    /// Schedules a check of a file that a reader reported as damaged. A damaged file is repaired.
    ///
    /// # Errors
    /// Returns catalogue errors.
    pub fn check_reported(
        &mut self,
        path: &TreePath,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        // A sole folder has nothing to repair a file with.
        if self.config.is_sole { Ok(()) } else { self.scrubber.check_reported(path, store) }
    }

    /// Handles the refusal of a local change.
    pub(super) fn quarantine_change(
        &mut self,
        id: ChangeId,
        reason: &str,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        if self.config.is_sole {
            // The change is dropped, and its path is scanned again.
            let Some(LocalChange { path, .. }) = self.local_changes.remove(id) else {
                return Ok(());
            };
            debug!("the local change of {path} is looked at again: {reason}");
            // A new file is proposed again by its row, which a scan does not change.
            if store.row(&path)?.is_some_and(|row| row.entry.version.is_none()) {
                self.local_changes.refused.insert(path.clone(), Instant::now());
            }
            self.local_changes.superseded.push(path);
            return Ok(());
        }
        let Some(change) = self.local_changes.by_id.remove(&id) else { return Ok(()) };
        if change.file.is_some() {
            self.local_changes.rejected.push((Instant::now(), change, reason.to_owned()));
            return Ok(());
        }
        self.local_changes.by_path.remove(&change.path);
        self.finish_quarantine(change, reason, store)
    }

    fn finish_quarantine(
        &mut self,
        change: LocalChange,
        reason: &str,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let path = change.path;
        let branch = self.local_changes.branch.remove(&path);
        let row = store.row(&path)?;
        let digest = match change.request.change {
            Change::Put { digest, .. } => digest,
            // A mode is proposed again as often as the folder has another one.
            Change::SetAttributes { .. } => {
                // The mode of the tree is restored on the disk.
                if let Some(row) = row.filter(|row| row.here)
                    && let Err(e) = self
                        .disk_transaction(store)
                        .set_attributes(&path, &Attributes::mode(row.entry.mode))
                {
                    warn!("cannot restore the mode of {path}: {e}");
                }
                return Ok(());
            }
            change => {
                self.local_changes.refused.insert(path.clone(), Instant::now());
                return match (change, row) {
                    (Change::Remove { .. }, Some(row)) => self.refetch(&path, &row, store),
                    _ => Ok(()),
                };
            }
        };
        let there = self.stat(&path).filter(|there| change.file == Some(there.into()));
        let Some(there) = there else { return Ok(()) };
        // Content that another change replaces stays at its path until the new content arrives.
        let retained = store.retained(&path)?.is_some_and(|retained| {
            retained.matches_except_ctime(&there) && retained.content.digest == digest
        });
        if retained
            || row.as_ref().is_some_and(|row| row.entry.version.is_some() && row.matches(&there))
        {
            return Ok(());
        }
        let details = branch.unwrap_or_else(|| format!("\ndigest: {digest}"));
        if !self.quarantine(&path, reason, &details) {
            self.local_changes.refused.insert(path, Instant::now());
            return Ok(());
        }
        match row {
            Some(row) if row.entry.version.is_none() => store.remove(&path),
            Some(row) => self.refetch_one(&path, &row, store),
            None => Ok(()),
        }
    }

    /// Forgets a local change that is committed, or will be found again.
    pub(super) fn forget_local_change(
        &mut self,
        id: ChangeId,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let Some(change) = self.local_changes.by_id.get(&id) else { return Ok(()) };
        let path = change.path.clone();
        let is_mode = matches!(change.request.change, Change::SetAttributes { .. });
        let Some(row) = store.row(&path)?.filter(|row| row.entry.version.is_some()) else {
            self.local_changes.remove(id);
            return Ok(());
        };
        // The user may have changed the mode again. The next scan finds that.
        if self.config.is_sole || is_mode {
            self.local_changes.remove(id);
            let is_current = |meta: Meta| row.matches(&meta) && row.disk_mode == meta.mode;
            if !self.stat(&path).is_some_and(is_current) {
                self.local_changes.superseded.push(path);
            }
            return Ok(());
        }
        self.quarantine_change(id, "another change was made to the path", store)
    }
}
