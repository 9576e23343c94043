//! Local changes: files that users added to the folder, edited or removed.
//!
//! An added or edited file is proposed to the cluster as a change that expects the version it was
//! based on. If the master refuses it, the file is quarantined. A removed file is fetched again.
//! With `--watch all` a removal that an event has reported is proposed as a change instead. This
//! module also runs the scrub.
//!
//! In a standalone slave no other replica could restore a file. There all that users do is
//! proposed, and a refused local change is looked at again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use relais_cluster::ChangeRequest;
use relais_cluster::replica::{Event, lack_of_entry};
use relais_proto::{
    Change, ChangeId, Digest, Expect, FileTime, Kind, Lsn, Mode, Scrub, TreePath, metric,
};
use relais_storage::{
    CatalogError, CatalogRow, CatalogStore, FileIdentity, RetainedContent, Scanner, UnhashedFile,
    WatchMode,
};
use relais_tree::Meta;

use super::disk_transaction::DiskTransaction;
use super::resync::DivergentOffer;
use super::unapplied::refusal;
use super::{ApplyError, ReplicaDriver};

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
/// Time in which a file is not checked again after a report of damage proved wrong.
const CLEARED_TIME: Duration = Duration::from_secs(10 * 60);
/// Time window of [`MOST_REMOVALS`].
const REMOVAL_WINDOW: Duration = Duration::from_secs(60);
/// Interval between two records of the scrub's progress.
const SCRUB_INTERVAL: Duration = Duration::from_millis(500);
/// Most local removals that become changes in one window.
const MOST_REMOVALS: u64 = 100;

/// Kind of a local change.
#[derive(Debug, Clone)]
enum LocalChangeKind {
    File {
        meta: FileIdentity,
        mtime: FileTime,
        digest: Digest,
        mode: Mode,
        expect: Expect,
    },
    Folder {
        mode: Mode,
    },
    /// Only the mode differs.
    Mode {
        mode: Mode,
        base: Lsn,
    },
    Removal {
        base: Lsn,
        recursive: bool,
    },
}

#[derive(Debug, Clone)]
struct LocalChange {
    path: TreePath,
    kind: LocalChangeKind,
    proposed: Instant,
}

impl LocalChange {
    fn to_request(&self, id: ChangeId) -> ChangeRequest {
        let path = self.path.clone();
        let (change, expect) = match &self.kind {
            LocalChangeKind::File { meta, mtime, digest, mode, expect } => {
                let change = Change::Put {
                    path,
                    size: meta.size,
                    digest: *digest,
                    mtime: *mtime,
                    mode: *mode,
                };
                (change, *expect)
            }
            LocalChangeKind::Folder { mode } => {
                (Change::MakeFolder { path, mode: *mode }, Expect::Any)
            }
            LocalChangeKind::Mode { mode, base } => {
                (Change::SetMode { path, mode: *mode }, Expect::Lsn(*base))
            }
            LocalChangeKind::Removal { base, recursive } => {
                (Change::Remove { path, recursive: *recursive }, Expect::Lsn(*base))
            }
        };
        ChangeRequest { id, change, expect, keep_mode: false }
    }
}

/// An edited file of the tree that needs a digest.
#[derive(Debug, Clone)]
struct PendingEdit {
    meta: FileIdentity,
    /// Mode on the disk.
    mode: Mode,
    /// LSN of the path when the edit was detected.
    base: Lsn,
    ordered: bool,
}

/// Local changes that are not decided.
#[derive(Debug, Default)]
pub(super) struct LocalChanges {
    by_id: HashMap<ChangeId, LocalChange>,
    by_path: HashMap<TreePath, ChangeId>,
    /// Files of a branch that wait for their proposal. Each has replaced a file of the tree.
    waiting: BTreeMap<TreePath, LocalChangeKind>,
    /// Details for the quarantine note if a file of a branch is refused.
    branch: HashMap<TreePath, String>,
    /// Entries that the scanner reported as gone, and whether an event reported it. `edited` has
    /// those that differ.
    vanished: BTreeMap<TreePath, bool>,
    edited: BTreeMap<TreePath, Meta>,
    edits: BTreeMap<TreePath, PendingEdit>,
    /// Paths of dropped edits, to be scanned again.
    superseded: Vec<TreePath>,
    refused: HashMap<TreePath, Instant>,
    /// Refused changes with the time and reason of the refusal.
    rejected: Vec<(Instant, LocalChange, String)>,
    looked: Option<Instant>,
    /// Whether the last look proposed as many changes as it may.
    is_busy: bool,
    /// Start of the removal window, and number of removals in it.
    removals: Option<(Instant, u64)>,
    /// Files that the scrub has still to read.
    scrub: Option<VecDeque<UnhashedFile>>,
    scrubbing: HashMap<TreePath, FileIdentity>,
    progress: Scrub,
    /// Damaged contents that are being fetched again.
    repairing: Vec<Lsn>,
    /// Progress that was recorded last, and when.
    noted: Option<(Instant, Scrub)>,
    /// Files that readers reported as damaged, to be checked soon.
    suspects: VecDeque<UnhashedFile>,
    /// Reported files that are being read. The scrub does not count them.
    suspected: HashSet<TreePath>,
    /// Reported files that were checked recently and are intact.
    cleared: HashMap<TreePath, (FileIdentity, Instant)>,
}

impl LocalChanges {
    pub fn has(&self, id: ChangeId) -> bool {
        self.by_id.contains_key(&id)
    }

    fn add(&mut self, path: TreePath, kind: LocalChangeKind) -> Option<Event> {
        let mut id: [u8; 16] = relais_os::random()
            .map_err(|e| error!("cannot get random numbers from the system: {e}"))
            .ok()?;
        // Account 0 marks a change of no account.
        id[..4].copy_from_slice(&[0; 4]);
        let id = ChangeId(id);
        let change = LocalChange { path: path.clone(), kind, proposed: Instant::now() };
        let asked = change.to_request(id);
        self.by_id.insert(id, change);
        self.by_path.insert(path, id);
        Some(Event::Proposed { session: None, request: asked, copies: 0 })
    }

    /// Proposes a folder, unless that is done already.
    pub fn add_folder(&mut self, path: TreePath, mode: Mode) -> Option<Event> {
        if self.by_path.contains_key(&path) {
            return None;
        }
        self.add(path, LocalChangeKind::Folder { mode })
    }

    /// Schedules proposals for the files of a branch.
    pub fn add_branch(&mut self, offered: Vec<DivergentOffer>) {
        for DivergentOffer { path, edit, details } in offered {
            if let Some((row, base)) = edit
                && let Some(digest) = row.digest
            {
                let kind = LocalChangeKind::File {
                    meta: row.identity(),
                    mtime: row.entry.mtime,
                    digest,
                    mode: row.entry.mode,
                    expect: Expect::Lsn(base),
                };
                self.waiting.insert(path.clone(), kind);
            }
            self.branch.insert(path, details);
        }
    }

    /// Returns whether a local change at a path is not decided. Its file stays.
    pub fn is_pending(&self, path: &TreePath) -> bool {
        self.by_path.contains_key(path) || self.waiting.contains_key(path)
    }

    fn remove(&mut self, id: ChangeId) -> Option<LocalChange> {
        let change = self.by_id.remove(&id)?;
        self.by_path.remove(&change.path);
        self.branch.remove(&change.path);
        Some(change)
    }

    /// Drops edits that were based on the state before a committed change.
    ///
    /// Their paths are scanned again, because a file may still differ from the tree.
    pub fn drop_superseded_edits(&mut self, change: &Change) {
        let superseded = &mut self.superseded;
        let mut drop = |path: &TreePath, with_below: bool| {
            let dropped = self
                .edits
                .extract_if(.., |edited, _| edited == path || with_below && edited.is_below(path));
            superseded.extend(dropped.map(|(path, _)| path));
        };
        match change {
            Change::Put { path, .. }
            | Change::MakeFolder { path, .. }
            | Change::SetMode { path, .. } => drop(path, false),
            Change::Remove { path, .. } => drop(path, true),
            Change::Move { from, to } => {
                drop(from, true);
                drop(to, true);
            }
            // Each check of an edit compares the LSN of its row.
            Change::Withdraw { .. } => {}
        }
    }

    /// Schedules a check of entries that differed while a change was applied.
    pub fn add_edited(&mut self, edited: Vec<(TreePath, Meta)>) {
        self.edited.extend(edited);
    }

    /// Schedules a scan of paths.
    pub fn rescan(&mut self, paths: Vec<TreePath>) {
        self.superseded.extend(paths);
    }

    /// Returns whether the removal of a folder above the path is proposed.
    fn is_removed_with_folder(&self, path: &TreePath) -> bool {
        let parent = |path: &TreePath| path.split_last().map(|(folder, _)| folder);
        std::iter::successors(parent(path), parent).any(|folder| {
            let change = self.by_path.get(&folder).and_then(|id| self.by_id.get(id));
            change.is_some_and(|change| matches!(change.kind, LocalChangeKind::Removal { .. }))
        })
    }

    /// Proposes all changes again on a new link.
    pub fn repropose_all(&mut self) -> Vec<Event> {
        self.repropose(Duration::ZERO)
    }

    fn repropose(&mut self, after: Duration) -> Vec<Event> {
        let due = self.by_id.iter_mut().filter(|(_, change)| change.proposed.elapsed() >= after);
        let again = due.map(|(id, change)| {
            change.proposed = Instant::now();
            Event::Proposed { session: None, request: change.to_request(*id), copies: 0 }
        });
        again.collect()
    }

    /// Returns whether `count` more local removals may become changes now.
    fn can_remove(&self, count: u64, files: u64) -> bool {
        let done = self
            .removals
            .filter(|(since, _)| since.elapsed() < REMOVAL_WINDOW)
            .map_or(0, |(_, done)| done);
        done + count <= MOST_REMOVALS.min((files / 100).max(1))
    }

    fn count_removals(&mut self, count: u64) {
        let (since, done) = self
            .removals
            .filter(|(since, _)| since.elapsed() < REMOVAL_WINDOW)
            .unwrap_or((Instant::now(), 0));
        self.removals = Some((since, done + count));
    }

    /// Drops proposed removals when the link closes. The paths are checked again, because they may
    /// have changed before the next link.
    pub fn drop_removals(&mut self) {
        let removals: Vec<ChangeId> = self
            .by_id
            .iter()
            .filter(|(_, change)| matches!(change.kind, LocalChangeKind::Removal { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in removals {
            if let Some(change) = self.remove(id) {
                self.vanished.insert(change.path, false);
            }
        }
    }
}

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
        if files.is_empty() && !self.local_changes.suspects.is_empty() {
            files = self.local_changes.suspects.drain(..).collect();
            self.local_changes.suspected.extend(files.iter().map(|file| file.path.clone()));
            self.local_changes
                .scrubbing
                .extend(files.iter().map(|file| (file.path.clone(), file.meta)));
            return files;
        }
        if let Some(scrub) = self.local_changes.scrub.as_mut().filter(|_| files.is_empty()) {
            files = scrub.drain(..scrub.len().min(most)).collect();
            self.local_changes
                .scrubbing
                .extend(files.iter().map(|file| (file.path.clone(), file.meta)));
            if files.is_empty() && self.local_changes.scrubbing.is_empty() {
                info!(
                    "scrub finished; {} contents were damaged",
                    self.local_changes.progress.damaged
                );
                self.local_changes.scrub = None;
                self.local_changes.progress.done = true;
            }
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
        if self.local_changes.scrubbing.get(&of.path) == Some(&of.meta) {
            self.local_changes.scrubbing.remove(&of.path);
            let suspected = self.local_changes.suspected.remove(&of.path);
            self.local_changes.progress.read += u64::from(!suspected);
            return self.check_scrubbed(of, digest, suspected, store);
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

    /// Starts a scrub: all contents are read and compared with their digests.
    pub(super) fn begin_scrub(&mut self, order: u64) {
        info!("scrub started");
        self.scrub_wanted = Some(order);
    }

    /// Clears the scrub order. A new link does not report orders of an earlier master.
    pub(super) fn clear_scrub_order(&mut self) {
        self.local_changes.progress.order = 0;
    }

    /// Records the progress of the scrub for the heartbeats.
    pub(super) fn record_scrub(&mut self, store: &CatalogStore) -> Result<(), CatalogError> {
        if self.local_changes.noted.is_some_and(|(at, _)| at.elapsed() < SCRUB_INTERVAL) {
            return Ok(());
        }
        let mut repairing = std::mem::take(&mut self.local_changes.repairing);
        let all = repairing.len();
        let mut error = None;
        repairing.retain(|put| match store.row_of_put(*put) {
            Ok(row) => row.is_some_and(|(_, row)| !row.here),
            Err(e) => {
                error.get_or_insert(e);
                true
            }
        });
        self.local_changes.progress.repaired += (all - repairing.len()) as u64;
        self.local_changes.repairing = repairing;
        if let Some(e) = error {
            return Err(e);
        }
        let progress = self.local_changes.progress;
        if self.local_changes.noted.is_none_or(|(_, noted)| noted != progress) {
            store.set_scrub(&progress)?;
        }
        self.local_changes.noted = Some((Instant::now(), progress));
        Ok(())
    }

    /// Collects the files of a scrub that was ordered.
    ///
    /// # Errors
    /// Returns catalogue errors.
    pub fn collect_scrub_files(&mut self, store: &CatalogStore) -> Result<(), CatalogError> {
        if let Some(order) = self.scrub_wanted.take() {
            let rows = store.committed_entries()?;
            let files =
                rows.into_iter().filter(|(_, row)| row.here && row.entry.kind == Kind::File);
            let files: VecDeque<UnhashedFile> =
                files.map(|(path, row)| UnhashedFile { meta: row.identity(), path }).collect();
            self.local_changes.repairing.clear();
            self.local_changes.progress =
                Scrub { order, files: files.len() as u64, ..Scrub::default() };
            self.local_changes.scrub = Some(files);
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
        let Some(row) = store.row(path)?.filter(|_| !self.is_sole) else { return Ok(()) };
        if !row.here || row.entry.kind != Kind::File || row.entry.version.is_none() {
            return Ok(());
        }
        let meta = row.identity();
        self.local_changes.cleared.retain(|_, (_, at)| at.elapsed() < CLEARED_TIME);
        let known = self.local_changes.cleared.get(path).is_some_and(|(known, _)| *known == meta)
            || self.local_changes.scrubbing.contains_key(path)
            || self.local_changes.suspects.iter().any(|file| file.path == *path);
        if !known && self.local_changes.suspects.len() < MOST_PROPOSED {
            self.local_changes.suspects.push_back(UnhashedFile { path: path.clone(), meta });
        }
        Ok(())
    }

    fn check_scrubbed(
        &mut self,
        of: &UnhashedFile,
        digest: Option<Digest>,
        suspected: bool,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let row = store.row(&of.path)?.filter(|row| row.identity() == of.meta && row.here);
        // The file is unchanged and still could not be read.
        if digest.is_none() && row.is_some() && self.root.open_file(&of.path).is_err() {
            self.local_changes.progress.unreadable += u64::from(!suspected);
        }
        let (Some(digest), Some(row)) = (digest, row) else { return Ok(()) };
        let Some(entry) = row.tree_entry().filter(|_| row.digest != Some(digest)) else {
            self.local_changes.cleared.insert(of.path.clone(), (of.meta, Instant::now()));
            return Ok(());
        };
        error!("{} is damaged on the disk; it is fetched again", of.path);
        if !suspected {
            self.local_changes.progress.damaged += 1;
            self.local_changes.repairing.extend(row.content);
        }
        self.quarantine_path(&of.path, "its content does not match its digest");
        // The content is not served from here, even if the file cannot be moved. It counts as
        // damaged until good content arrives.
        store.put_entry(&of.path, &entry, None, &[])?;
        store.mark_damaged(&of.path)?;
        self.deferred.extend(lack_of_entry(&of.path, &entry).map(Event::Missing));
        Ok(())
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
                    let disk = self.disk_transaction(store);
                    match disk.set_mode(&path, row.entry.mode) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_edits_are_scanned_again() {
        let path = |name: &str| TreePath::new(name).unwrap();
        let edit = || PendingEdit {
            meta: FileIdentity {
                dev: 1,
                ino: 1,
                size: 1,
                mtime: FileTime::default(),
                ctime: FileTime::default(),
            },
            mode: Mode::new(0o600),
            base: Lsn { epoch: 1, number: 1 },
            ordered: false,
        };
        let mut changes = LocalChanges::default();
        changes.edits.extend(["d/e", "d/f", "g"].map(|name| (path(name), edit())));
        // The mode of a folder concerns no file in it.
        for name in ["d", "g"] {
            changes.drop_superseded_edits(&Change::SetMode {
                path: path(name),
                mode: Mode::new(0o700),
            });
        }
        assert_eq!(changes.edits.keys().cloned().collect::<Vec<_>>(), ["d/e", "d/f"].map(path));
        assert_eq!(changes.superseded, ["g"].map(path));
        changes.drop_superseded_edits(&Change::Remove { path: path("d"), recursive: true });
        assert!(changes.edits.is_empty());
        assert_eq!(changes.superseded, ["g", "d/e", "d/f"].map(path));
    }
}
