//! Local changes: files that users added to the folder, edited or removed.
//!
//! An added or edited file is proposed to the cluster as a change that expects the version it was
//! based on. If the master refuses it, the file is quarantined. A removed file is fetched again.
//! With `--watch all` a removal that an event has reported is proposed as a change instead.
//!
//! In a standalone slave no other replica could restore a file. There all that users do is
//! proposed, and a refused local change is looked at again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use relais_cluster::replica::{Event, lack_of_entry};
use relais_proto::{Attributes, ChangeId, Digest, Expect, Kind, Lsn, Mode, TreePath, metric};
use relais_tree::Meta;

use super::apply_error::ApplyError;
use super::disk_transaction::DiskTransaction;
use super::local_changes::{LocalChange, LocalChangeKind, PendingEdit};
use super::state::ReplicaDriver;
use super::unapplied::refusal;
use crate::catalogue::row::{CatalogRow, FileIdentity, RetainedContent, UnhashedFile};
use crate::catalogue::store::CatalogStore;
use crate::error::CatalogError;
use crate::scan::scanner::Scanner;
use crate::scan::watcher::WatchMode;

/// Interval between two checks for local changes.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval between two proposals of a change that is not decided.
const PROPOSE_INTERVAL: Duration = Duration::from_secs(4);
/// Interval between two proposals of a refused change whose file is still there.
const REFUSED_INTERVAL: Duration = Duration::from_secs(30);
/// Delay before a refused file is quarantined. The refusal may arrive before the change that caused
/// it, and that change may match the file.
const REJECT_DELAY: Duration = Duration::from_millis(1500);
/// Most new local changes that are proposed at the same time.
const MOST_PROPOSED: usize = 256;
/// Proposed changes above which no more removals are proposed.
const MOST_PENDING: usize = 16 * MOST_PROPOSED;

impl ReplicaDriver {
    /// Takes the differences that the scanner found, and proposes local changes.
    pub(super) fn take_detected(
        &mut self,
        scanner: &mut Scanner,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
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
            self.handle_vanished(&path, by_event, store, events)?;
        }
        for (path, meta) in std::mem::take(&mut self.local_changes.edited) {
            if self.local_changes.is_pending(&path) {
                scanner.debounce.add(path, Instant::now());
                continue;
            }
            store.begin()?;
            self.handle_edited(path, &meta, store, events)?;
        }
        events.append(&mut self.deferred);
        let rejected = self
            .local_changes
            .rejected
            .extract_if(.., |(since, ..)| since.elapsed() >= REJECT_DELAY)
            .collect::<Vec<_>>();
        for (_, change, reason) in rejected {
            store.begin()?;
            self.local_changes.by_path.remove(&change.path);
            self.finish_quarantine(change, &reason, store, events)?;
        }
        // After a full set of proposals the next follows as soon as these are committed.
        let is_paced = !(self.local_changes.is_busy && self.local_changes.by_id.is_empty());
        if is_paced
            && self.local_changes.looked.is_some_and(|looked| looked.elapsed() < CHECK_INTERVAL)
        {
            return Ok(());
        }
        self.local_changes.looked = Some(Instant::now());
        events.extend(self.local_changes.repropose(PROPOSE_INTERVAL));
        self.propose_new(scanner, events)
    }

    /// Proposes entries without an LSN.
    fn propose_new(
        &mut self,
        scanner: &Scanner,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let room = MOST_PROPOSED.saturating_sub(self.local_changes.by_id.len());
        for _ in 0..room {
            let Some((path, kind)) = self.local_changes.waiting.pop_first() else { break };
            events.extend(self.local_changes.add(path, kind));
        }
        let room = MOST_PROPOSED.saturating_sub(self.local_changes.by_id.len());
        if room == 0 {
            return Ok(());
        }
        self.local_changes.refused.retain(|_, at| at.elapsed() < REFUSED_INTERVAL);
        let mut after = TreePath::root();
        let mut offered = 0;
        self.local_changes.is_busy = false;
        while offered < room {
            let rows = scanner.store.uncommitted(&after, 256)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = last.clone();
            for (path, row) in rows {
                if offered == room || !self.can_be_proposed(&path, scanner)? {
                    continue;
                }
                let kind = match (row.entry.kind, row.digest) {
                    (Kind::Folder, _) => LocalChangeKind::Folder { mode: row.entry.mode },
                    (Kind::File, Some(digest)) => LocalChangeKind::File {
                        meta: row.identity(),
                        mtime: row.entry.mtime,
                        digest,
                        mode: row.entry.mode,
                        expect: Expect::Absent,
                    },
                    (Kind::File, None) => continue,
                };
                events.extend(self.local_changes.add(path, kind));
                offered += 1;
            }
        }
        self.local_changes.is_busy = true;
        Ok(())
    }

    fn can_be_proposed(&self, path: &TreePath, scanner: &Scanner) -> Result<bool, CatalogError> {
        if self.local_changes.by_path.contains_key(path)
            || self.local_changes.refused.contains_key(path)
            || scanner.debounce.contains(path)
        {
            return Ok(false);
        }
        let Some((parent, _)) = path.split_last().filter(|(parent, _)| !parent.is_root()) else {
            return Ok(true);
        };
        // The folder comes first: it has an LSN, or is proposed before.
        Ok(self.local_changes.by_path.contains_key(&parent)
            || scanner.store.row(&parent)?.is_some_and(|row| row.entry.version.is_some()))
    }

    /// Handles a path of the tree that is gone from the disk, or replaced.
    fn handle_vanished(
        &mut self,
        path: &TreePath,
        by_event: bool,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let Some(row) = store.row(path)?.filter(|row| row.entry.version.is_some()) else {
            return Ok(());
        };
        if self.is_on_disk(path, &row, store)? {
            return Ok(());
        }
        // A file under a mount was not removed.
        let is_reachable = self.is_reachable(path, store);
        if self.is_sole {
            if is_reachable
                && let Some(base) = row.entry.version
                && !self.local_changes.is_removed_with_folder(path)
            {
                info!("{path} was removed locally");
                let removal = LocalChangeKind::Removal { base, recursive: true };
                events.extend(self.local_changes.add(path.clone(), removal));
            }
            return Ok(());
        }
        let by_event = by_event && is_reachable;
        if by_event
            && self.watch == WatchMode::All
            && self.link_announced
            && self.replica.is_linked()
            && row.here
        {
            let files = store.file_count()?;
            let mut gone = if self.local_changes.can_remove(1, files) {
                store.below(path)?
            } else {
                Vec::new()
            };
            gone.push((path.clone(), row.clone()));
            if self.local_changes.can_remove(gone.len() as u64, files) {
                self.local_changes.count_removals(gone.len() as u64);
                info!("{path} was removed locally; proposing its removal");
                gone.sort_unstable_by(|a, b| b.0.cmp(&a.0));
                // Removals are proposed one by one, entries before their folder. So no entry is
                // removed that was added meanwhile.
                for (path, row) in gone {
                    let removal = row
                        .entry
                        .version
                        .map(|base| LocalChangeKind::Removal { base, recursive: false });
                    events
                        .extend(removal.and_then(|removal| self.local_changes.add(path, removal)));
                }
                return Ok(());
            }
            warn!("too many local removals at once; {path} is fetched again");
            store.add_to_total(metric::HELD, 1)?;
        }
        self.refetch(path, &row, store, events)
    }

    fn disk_transaction<'a>(&'a mut self, store: &'a CatalogStore) -> DiskTransaction<'a> {
        DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine)
    }

    /// Returns the metadata at a path; `None` if it cannot be read.
    fn stat(
        &mut self,
        path: &TreePath,
        store: &CatalogStore,
    ) -> Result<Option<Meta>, CatalogError> {
        match self.disk_transaction(store).stat(path) {
            Err(ApplyError::Catalog(e)) => Err(e),
            Err(e) => {
                debug!("cannot read {path}: {e}");
                Ok(None)
            }
            stated => Ok(stated.unwrap_or_default()),
        }
    }

    /// Returns why the disk refuses access to a path, if it does.
    fn obstacle_at(
        &mut self,
        path: &TreePath,
        store: &CatalogStore,
    ) -> Result<Option<String>, CatalogError> {
        match self.disk_transaction(store).stat(path) {
            Err(ApplyError::Catalog(e)) => Err(e),
            Err(e) if e.is_path_specific() => Ok(Some(e.reason(path))),
            _ => Ok(None),
        }
    }

    fn is_reachable(&mut self, path: &TreePath, store: &CatalogStore) -> bool {
        self.disk_transaction(store).stat(path).is_ok()
    }

    /// Returns whether the known file of a path, or its retained content, is on the disk.
    fn is_on_disk(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
    ) -> Result<bool, CatalogError> {
        let retained = store.retained(path)?;
        let meta = self.stat(path, store)?;
        Ok(match row.entry.kind {
            Kind::Folder => meta.is_some_and(|meta| meta.served_kind() == Some(Kind::Folder)),
            Kind::File => meta.is_some_and(|meta| {
                DiskTransaction::is_same_file(&meta, Some(row), retained.as_ref())
            }),
        })
    }

    /// Recreates missing folders and fetches missing contents again.
    fn refetch(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        if row.entry.kind == Kind::Folder {
            self.recreate_folder(path, row, store)?;
            for (below, row) in store.below(path)? {
                if row.entry.version.is_none() {
                    store.remove(&below)?;
                } else if !self.is_on_disk(&below, &row, store)? {
                    // This loop also handles the entries below that folder.
                    self.refetch_one(&below, &row, store, events)?;
                }
            }
            return Ok(());
        }
        self.refetch_one(path, row, store, events)
    }

    fn refetch_one(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let Some(entry) = row.tree_entry() else { return Ok(()) };
        if entry.content.is_none() {
            return self.recreate_folder(path, row, store);
        }
        let obstacle = match store.unapplied_above(path)? {
            Some(above) => Some(above.reason),
            None => self.obstacle_at(path, store)?,
        };
        // The retained content may still exist behind the obstacle.
        let retained = match (&obstacle, row.to_retained()) {
            (None, _) => None,
            (Some(_), None) => store.retained(path)?,
            (Some(_), here) => here,
        };
        store.set_retained(path, retained.as_ref())?;
        if let (Some(reason), Some(content)) = (&obstacle, entry.content) {
            store.record_unapplied(path, entry.version, false, reason, None)?;
            events.push_back(refusal(store, content.put, path)?);
        }
        if row.here {
            store.put_entry(path, &entry, None, &[])?;
            events.extend(lack_of_entry(path, &entry).map(Event::Missing));
        }
        Ok(())
    }

    /// Recreates a missing folder of the tree.
    fn recreate_folder(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let mut disk = self.disk_transaction(store);
        match (disk.ensure_folder(path).and_then(|()| disk.sync()), row.entry.version) {
            (Ok(()), _) => Ok(()),
            (Err(ApplyError::Catalog(e)), _) => Err(e),
            (Err(e), Some(version)) if e.is_path_specific() => {
                let reason = e.reason(path);
                warn!("cannot recreate {path}: {reason}; it is retried");
                store.record_unapplied(path, version, false, &reason, None)
            }
            (Err(e), _) => {
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
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let Some(row) = store.row(&path)? else { return Ok(()) };
        let (Some(entry), Some(base)) = (row.tree_entry(), row.entry.version) else {
            return Ok(());
        };
        let Some(content) = entry.content else {
            // A change that was applied after the scan may have set another mode.
            let meta = self.stat(&path, store)?;
            if let Some(meta) = meta.filter(|meta| meta.served_kind() == Some(Kind::Folder)) {
                let mode = meta.mode.with_owner_access(Kind::Folder);
                events.extend(self.propose_mode(path, mode, &row, base, &meta, store)?);
            }
            return Ok(());
        };
        if !row.here {
            let retained = store.retained(&path)?;
            if let Some(retained) = retained.filter(|retained| retained.matches_except_ctime(meta))
            {
                // The scan came before the change that made this the former content, or only the
                // ctime differs.
                let disk = self.disk_transaction(store);
                let ours = retained.matches(meta)
                    || match disk.is_known(&path, meta, None, Some(&retained)) {
                        Ok(ours) => ours,
                        Err(ApplyError::Catalog(e)) => return Err(e),
                        Err(e) => {
                            warn!("{path} cannot be read: {e}");
                            return Ok(());
                        }
                    };
                if ours {
                    let now = RetainedContent { ctime: meta.ctime, ..retained };
                    return store.set_retained(&path, Some(&now));
                }
            }
            // The edit has no base in the tree, unless the file is the missing content itself.
            let mut disk = self.disk_transaction(store);
            let adopted = disk
                .claim_existing(&path, &content, entry.mode, None, None)
                .and_then(|adopted| disk.sync().map(|()| adopted));
            match adopted {
                Ok(Some(meta)) => {
                    store.set_retained(&path, None)?;
                    store.put_entry(&path, &entry, Some(&meta), &[])?;
                    events.push_back(Event::Fetched {
                        put: content.put,
                        from: self.folder,
                        result: Ok(()),
                    });
                }
                Ok(None) => {
                    let _ =
                        self.quarantine_path(&path, "it was edited before newer content arrived");
                }
                Err(e) => warn!("{path}: {e}"),
            }
            return Ok(());
        }
        let same = row.matches_except_ctime(meta) && row.on_disk.mode == meta.mode;
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
        base: Lsn,
        meta: &Meta,
        store: &CatalogStore,
    ) -> Result<Option<Event>, CatalogError> {
        if mode == row.entry.mode {
            store.update_disk_meta(&path, meta)?;
            return Ok(None);
        }
        info!("the mode of {path} was changed locally to {mode}");
        Ok(self.local_changes.add(path, LocalChangeKind::Mode { mode, base }))
    }

    fn quarantine_path(&mut self, path: &TreePath, reason: &str) -> bool {
        self.quarantine
            .take(path, reason)
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
        let mut files: Vec<UnhashedFile> = edits
            .map(|(path, edit)| {
                edit.ordered = true;
                UnhashedFile { path: path.clone(), meta: edit.meta }
            })
            .collect();
        if files.is_empty() {
            files = self.scrubber.take_files(most);
        }
        files
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
            if let Some(entry) = self.scrubber.check(of, digest, &self.root, store)? {
                self.quarantine_path(&of.path, "its content does not match its digest");
                // The content is not served from here, even if the file cannot be moved. It counts
                // as damaged until good content arrives.
                store.put_entry(&of.path, &entry, None, &[])?;
                store.mark_damaged(&of.path)?;
                self.deferred.extend(lack_of_entry(&of.path, &entry).map(Event::Missing));
            }
            return Ok(());
        }
        let Some(edit) =
            self.local_changes.edits.get(&of.path).filter(|edit| edit.meta == of.meta).cloned()
        else {
            return Ok(());
        };
        self.local_changes.edits.remove(&of.path);
        let (Some(digest), Some(row)) = (digest, store.row(&of.path)?) else { return Ok(()) };
        let same = row.digest == Some(digest) && row.on_disk.mtime == of.meta.mtime;
        let meta = self.stat(&of.path, store)?;
        // A newer state of the file has an event of its own.
        let Some(meta) =
            meta.filter(|meta| FileIdentity::from(meta) == of.meta && !row.matches(meta))
        else {
            return Ok(());
        };
        // If others have changed only the mode meanwhile, the latest LSN is the base. A sole folder
        // is always right.
        let base =
            row.entry.version.filter(|_| same && row.here || self.is_sole).unwrap_or(edit.base);
        if row.entry.version != Some(base) {
            if self.quarantine_path(&of.path, "it was edited while another change was made") {
                let mut events = VecDeque::new();
                self.refetch_one(&of.path, &row, store, &mut events)?;
                self.deferred.append(&mut events);
            }
        } else if same {
            // The file may have another hard link, or was renamed and renamed back.
            let mode = wanted_mode(&row, edit.mode);
            let event = self.propose_mode(of.path.clone(), mode, &row, base, &meta, store)?;
            self.deferred.extend(event);
        } else {
            let mtime = match of.meta.mtime == row.on_disk.mtime {
                true => row.entry.mtime,
                false => of.meta.mtime,
            };
            let kind = LocalChangeKind::File {
                meta: of.meta,
                mtime,
                digest,
                mode: wanted_mode(&row, edit.mode),
                expect: Expect::Lsn(base),
            };
            let event = self.local_changes.add(of.path.clone(), kind);
            self.deferred.extend(event);
        }
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
        if self.is_sole { Ok(()) } else { self.scrubber.check_reported(path, store) }
    }

    /// Handles the refusal of a local change.
    pub(super) fn quarantine_change(
        &mut self,
        id: ChangeId,
        reason: &str,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        if self.is_sole {
            return self.drop_refused(id, reason, store);
        }
        let Some(change) = self.local_changes.by_id.remove(&id) else { return Ok(()) };
        if matches!(change.kind, LocalChangeKind::File { .. }) {
            self.local_changes.rejected.push((Instant::now(), change, reason.to_owned()));
            return Ok(());
        }
        self.local_changes.by_path.remove(&change.path);
        self.finish_quarantine(change, reason, store, events)
    }

    /// Drops a refused change of a sole folder, and scans its path again.
    fn drop_refused(
        &mut self,
        id: ChangeId,
        reason: &str,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let Some(LocalChange { path, .. }) = self.local_changes.remove(id) else { return Ok(()) };
        debug!("the local change of {path} is looked at again: {reason}");
        // A new file is proposed again by its row, which a scan does not change.
        if store.row(&path)?.is_some_and(|row| row.entry.version.is_none()) {
            self.local_changes.refused.insert(path.clone(), Instant::now());
        }
        self.local_changes.superseded.push(path);
        Ok(())
    }

    fn finish_quarantine(
        &mut self,
        change: LocalChange,
        reason: &str,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let path = change.path;
        let branch = self.local_changes.branch.remove(&path);
        let row = store.row(&path)?;
        let LocalChangeKind::File { meta, digest, .. } = change.kind else {
            // A mode is proposed again as often as the folder has another one.
            if !matches!(change.kind, LocalChangeKind::Mode { .. }) {
                self.local_changes.refused.insert(path.clone(), Instant::now());
            }
            match (change.kind, row) {
                (LocalChangeKind::Removal { .. }, Some(row)) => {
                    self.refetch(&path, &row, store, events)?
                }
                // The mode of the tree is restored on the disk.
                (LocalChangeKind::Mode { .. }, Some(row)) if row.here => {
                    let mut disk = self.disk_transaction(store);
                    match disk.set_attributes(&path, &Attributes::mode(row.entry.mode)) {
                        Err(ApplyError::Catalog(e)) => return Err(e),
                        Err(e) => warn!("cannot restore the mode of {path}: {e}"),
                        Ok(_) => {}
                    }
                }
                _ => {}
            }
            return Ok(());
        };
        let there = self.stat(&path, store)?;
        let Some(there) = there.filter(|there| FileIdentity::from(there) == meta) else {
            return Ok(());
        };
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
        let taken = self
            .quarantine
            .take_with_details(&path, reason, &details)
            .inspect_err(|e| error!("cannot quarantine {path}: {e}"));
        if !taken.unwrap_or(false) {
            self.local_changes.refused.insert(path, Instant::now());
            return Ok(());
        }
        match row {
            Some(row) if row.entry.version.is_none() => store.remove(&path),
            Some(row) => self.refetch_one(&path, &row, store, events),
            None => Ok(()),
        }
    }

    /// Forgets a local change that is committed, or will be found again.
    pub(super) fn forget_local_change(
        &mut self,
        id: ChangeId,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let Some(change) = self.local_changes.by_id.get(&id) else { return Ok(()) };
        if store.row(&change.path)?.is_none_or(|row| row.entry.version.is_none()) {
            self.local_changes.remove(id);
            return Ok(());
        }
        // The user may have changed the mode again. The next scan finds that.
        if self.is_sole || matches!(change.kind, LocalChangeKind::Mode { .. }) {
            let path = change.path.clone();
            let is_current = store.row(&path)?.zip(self.stat(&path, store)?);
            self.local_changes.remove(id);
            if !is_current
                .is_some_and(|(row, meta)| row.matches(&meta) && row.on_disk.mode == meta.mode)
            {
                self.local_changes.superseded.push(path);
            }
            return Ok(());
        }
        self.quarantine_change(id, "another change was made to the path", store, events)
    }
}

/// Returns the mode that an edited file gets in the tree. The mode of the tree stays, unless the
/// mode on the disk has changed.
fn wanted_mode(row: &CatalogRow, on_disk: Mode) -> Mode {
    if row.on_disk.mode == on_disk { row.entry.mode } else { on_disk.with_owner_access(Kind::File) }
}
