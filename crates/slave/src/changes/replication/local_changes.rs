//! What somebody has done in the folder by hand: files that came, were edited, or are gone.
//!
//! What came or was edited is offered to the cluster as a change that expects what it was based on. Where that is refused
//! it is set quarantine. What is gone is fetched again, or, where the slave was told to watch removals, and saw it go, offered as a removal.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use relais_cluster::ChangeRequest;
use relais_cluster::replica::{Event, lack_of_entry};
use relais_proto::{Change, ChangeId, Digest, Expect, FileTime, Kind, Lsn, Mode, Scrub, TreePath};
use relais_tree::Meta;

use super::disk_transaction::DiskTransaction;
use super::resync::DivergentOffer;
use super::{ApplyError, ReplicaDriver};
use crate::catalogue::{
    CatalogError, CatalogRow, CatalogStore, FileIdentity, RetainedContent, Scanner, UnhashedFile,
    WatchMode,
};

/// Time between two looks for what was found.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// What was offered is offered again after this time, until it is decided.
const OFFER_INTERVAL: Duration = Duration::from_secs(4);
/// What was refused, and is still there, is offered again after this time.
const REFUSED_INTERVAL: Duration = Duration::from_secs(30);
/// A refusal may come before the change that it is about: what was refused is set quarantine only after this time, unless it turned out to be just
/// what the tree has.
const REJECT_DELAY: Duration = Duration::from_millis(1500);
/// Most things that are offered at the same time.
const MOST_OFFERED: usize = 256;
/// A file that was read because a reader found it damaged, and that was not, is not read again for so long.
const CLEARED_TIME: Duration = Duration::from_secs(10 * 60);
/// Time in which only so many removals by hand become changes.
const REMOVAL_WINDOW: Duration = Duration::from_secs(60);
/// Time between two notes of how far reading of all contents has come.
const SCRUB_INTERVAL: Duration = Duration::from_millis(500);
/// Most removals in that time.
const MOST_REMOVALS: u64 = 100;

/// What was found.
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
    /// Only the mode is another.
    Mode {
        mode: Mode,
        base: Lsn,
    },
    Removal {
        base: Lsn,
    },
}

#[derive(Debug, Clone)]
struct LocalChange {
    path: TreePath,
    kind: LocalChangeKind,
    offered: Instant,
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
            // One by one, and what is below a folder before it: so nothing goes that has come meanwhile.
            LocalChangeKind::Removal { base } => {
                (Change::Remove { path, recursive: false }, Expect::Lsn(*base))
            }
        };
        ChangeRequest { id, change, expect, keep_mode: false }
    }
}

/// A file of the tree that was edited.
#[derive(Debug, Clone)]
struct PendingEdit {
    meta: FileIdentity,
    /// The mode on the disk.
    mode: Mode,
    /// The last change to the path when that was detected.
    base: Lsn,
    ordered: bool,
}

/// What was found and is not decided yet.
#[derive(Debug, Default)]
pub(super) struct LocalChanges {
    by_id: HashMap<ChangeId, LocalChange>,
    by_path: HashMap<TreePath, ChangeId>,
    /// Files of a branch that are to be offered, each in the place of one that the tree has.
    waiting: BTreeMap<TreePath, LocalChangeKind>,
    /// What the note is to say, should a file of a branch be refused.
    branch: HashMap<TreePath, String>,
    /// What the scanner has detected and nobody has judged yet: gone, and whether it was seen to go; changed.
    vanished: BTreeMap<TreePath, bool>,
    edited: BTreeMap<TreePath, Meta>,
    edits: BTreeMap<TreePath, PendingEdit>,
    refused: HashMap<TreePath, Instant>,
    /// What is to be set quarantine, since when, and why.
    rejected: Vec<(Instant, LocalChange, String)>,
    looked: Option<Instant>,
    /// Removals that were offered lately: since when, and how many.
    removals: Option<(Instant, u64)>,
    /// Where reading and checking of all contents has come to.
    scrub: Option<VecDeque<UnhashedFile>>,
    scrubbing: HashMap<TreePath, FileIdentity>,
    progress: Scrub,
    /// Contents that were damaged and are fetched again.
    repairing: Vec<Lsn>,
    /// What of the progress was noted last, and when.
    noted: Option<(Instant, Scrub)>,
    /// Files that readers have found damaged, to be read soon.
    suspects: VecDeque<UnhashedFile>,
    /// Those of them that are being read: they are no part of reading everything.
    suspected: HashSet<TreePath>,
    /// Files that were read because of that lately, and were as they should be.
    cleared: HashMap<TreePath, (FileIdentity, Instant)>,
}

impl LocalChanges {
    pub fn has(&self, id: ChangeId) -> bool {
        self.by_id.contains_key(&id)
    }

    fn add(&mut self, path: TreePath, kind: LocalChangeKind) -> Option<Event> {
        let mut id: [u8; 16] = relais_state::random()
            .map_err(|e| error!("the system has no random numbers: {e}"))
            .ok()?;
        // No account has made it.
        id[..4].copy_from_slice(&[0; 4]);
        let id = ChangeId(id);
        let change = LocalChange { path: path.clone(), kind, offered: Instant::now() };
        let asked = change.to_request(id);
        self.by_id.insert(id, change);
        self.by_path.insert(path, id);
        Some(Event::Proposed { session: None, request: asked, copies: 0 })
    }

    /// Takes over what a branch has.
    pub fn offer_branch(&mut self, offered: Vec<DivergentOffer>) {
        for DivergentOffer { path, edit, details } in offered {
            if let Some((row, base)) = edit
                && let Some(digest) = row.digest
            {
                let what = LocalChangeKind::File {
                    meta: file_identity(&row),
                    mtime: row.entry.mtime,
                    digest,
                    mode: row.entry.mode,
                    expect: Expect::Lsn(base),
                };
                self.waiting.insert(path.clone(), what);
            }
            self.branch.insert(path, details);
        }
    }

    /// Whether something that was found at a path is not decided yet: what lies there stays.
    pub fn is_pending(&self, path: &TreePath) -> bool {
        self.by_path.contains_key(path) || self.waiting.contains_key(path)
    }

    fn remove(&mut self, id: ChangeId) -> Option<LocalChange> {
        let change = self.by_id.remove(&id)?;
        self.by_path.remove(&change.path);
        self.branch.remove(&change.path);
        Some(change)
    }

    /// A change was made: edits that were based on what was there before are decided by it.
    pub fn made(&mut self, change: &Change) {
        let mut drop = |path: &TreePath| {
            self.edits.retain(|edited, _| edited != path && !edited.is_below(path))
        };
        match change {
            Change::Put { path, .. }
            | Change::MakeFolder { path, .. }
            | Change::SetMode { path, .. }
            | Change::Remove { path, .. } => drop(path),
            Change::Move { from, to } => {
                drop(from);
                drop(to);
            }
            // Whoever asks about an edit looks whether the row is still the one that it was based on.
            Change::Withdraw { .. } => {}
        }
    }

    /// What was found other than the tree's while a change was carried out.
    pub fn look_again(&mut self, edited: Vec<(TreePath, Meta)>) {
        self.edited.extend(edited);
    }

    /// Offers everything again: there is a new link.
    pub fn offer_all(&mut self) -> Vec<Event> {
        self.offer(Duration::ZERO)
    }

    fn offer(&mut self, after: Duration) -> Vec<Event> {
        let due = self.by_id.iter_mut().filter(|(_, change)| change.offered.elapsed() >= after);
        let again = due.map(|(id, change)| {
            change.offered = Instant::now();
            Event::Proposed { session: None, request: change.to_request(*id), copies: 0 }
        });
        again.collect()
    }

    /// Whether so many more removals by hand may become changes now.
    fn may_remove(&self, count: u64, files: u64) -> bool {
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

    /// The link is gone: what was to be removed is looked at anew, since it may be another by the time that there is a new one.
    pub fn unlinked(&mut self) {
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
    /// Takes what the scanner has detected, and offers what was found.
    pub(super) fn take_detected(
        &mut self,
        scanner: &mut Scanner,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let detected = scanner.take_detected();
        self.local_changes.vanished.extend(detected.vanished);
        self.local_changes.edited.extend(detected.edited);
        // What a crash has left half done is told again, and is not what somebody has done by hand.
        if !self.link_announced || !self.replica.is_caught_up() {
            return Ok(());
        }
        let store = &scanner.store;
        for (path, seen) in std::mem::take(&mut self.local_changes.vanished) {
            if self.local_changes.is_pending(&path) {
                // What was found there before is decided first.
                scanner.debounce.add(path, Instant::now());
                continue;
            }
            store.begin()?;
            self.handle_vanished(&path, seen, store, events)?;
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
        for (_, change, why) in rejected {
            store.begin()?;
            self.local_changes.by_path.remove(&change.path);
            self.finish_quarantine(change, &why, store, events)?;
        }
        if self.local_changes.looked.is_some_and(|looked| looked.elapsed() < CHECK_INTERVAL) {
            return Ok(());
        }
        self.local_changes.looked = Some(Instant::now());
        events.extend(self.local_changes.offer(OFFER_INTERVAL));
        self.offer_new(scanner, events)
    }

    /// Offers what has no number yet.
    fn offer_new(
        &mut self,
        scanner: &Scanner,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let room = MOST_OFFERED.saturating_sub(self.local_changes.by_id.len());
        for _ in 0..room {
            let Some((path, what)) = self.local_changes.waiting.pop_first() else { break };
            events.extend(self.local_changes.add(path, what));
        }
        let room = MOST_OFFERED.saturating_sub(self.local_changes.by_id.len());
        if room == 0 {
            return Ok(());
        }
        self.local_changes.refused.retain(|_, at| at.elapsed() < REFUSED_INTERVAL);
        let mut after = TreePath::root();
        let mut offered = 0;
        while offered < room {
            let rows = scanner.store.uncommitted(&after, 256)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = last.clone();
            for (path, row) in rows {
                if offered == room || !self.may_be_offered(&path, scanner)? {
                    continue;
                }
                let what = match (row.entry.kind, row.digest) {
                    (Kind::Folder, _) => LocalChangeKind::Folder { mode: row.entry.mode },
                    (Kind::File, Some(digest)) => LocalChangeKind::File {
                        meta: file_identity(&row),
                        mtime: row.entry.mtime,
                        digest,
                        mode: row.entry.mode,
                        expect: Expect::Absent,
                    },
                    (Kind::File, None) => continue,
                };
                events.extend(self.local_changes.add(path, what));
                offered += 1;
            }
        }
        Ok(())
    }

    fn may_be_offered(&self, path: &TreePath, scanner: &Scanner) -> Result<bool, CatalogError> {
        if self.local_changes.by_path.contains_key(path)
            || self.local_changes.refused.contains_key(path)
            || scanner.debounce.contains(path)
        {
            return Ok(false);
        }
        let Some((parent, _)) = path.split_last().filter(|(parent, _)| !parent.is_root()) else {
            return Ok(true);
        };
        // The folder comes first: it has its number, or is offered before.
        Ok(self.local_changes.by_path.contains_key(&parent)
            || scanner.store.row(&parent)?.is_some_and(|row| row.entry.version.is_some()))
    }

    /// A path of the tree has nothing on the disk any more, or something else.
    fn handle_vanished(
        &mut self,
        path: &TreePath,
        seen: bool,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let Some(row) = store.row(path)?.filter(|row| row.entry.version.is_some()) else {
            return Ok(());
        };
        if self.is_there(path, &row, store)? {
            return Ok(());
        }
        // What something is mounted over was not removed.
        let seen = seen && self.is_reachable(path, store);
        if seen
            && self.watch == WatchMode::All
            && self.link_announced
            && self.replica.is_linked()
            && row.here
        {
            let files = store.file_count()?;
            let mut gone = if self.local_changes.may_remove(1, files) {
                store.below(path)?
            } else {
                Vec::new()
            };
            gone.push((path.clone(), row.clone()));
            if self.local_changes.may_remove(gone.len() as u64, files) {
                self.local_changes.count_removals(gone.len() as u64);
                info!("{path} was removed in the folder, and goes from the tree");
                gone.sort_unstable_by(|a, b| b.0.cmp(&a.0));
                for (path, row) in gone {
                    let removal = row.entry.version.map(|base| LocalChangeKind::Removal { base });
                    events
                        .extend(removal.and_then(|removal| self.local_changes.add(path, removal)));
                }
                return Ok(());
            }
            warn!(
                "{path} was removed in the folder with too many others at once: that is held back, and it is fetched again"
            );
            store.add_to_total("held", 1)?;
        }
        self.refetch(path, &row, store, events)
    }

    /// What lies at a path; nothing where that cannot be known.
    fn look(
        &mut self,
        path: &TreePath,
        store: &CatalogStore,
    ) -> Result<Option<Meta>, CatalogError> {
        match DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine)
            .stat(path)
        {
            Err(ApplyError::Catalogue(e)) => Err(e),
            Err(e) => {
                log::debug!("{path} cannot be looked at: {e}");
                Ok(None)
            }
            looked => Ok(looked.unwrap_or_default()),
        }
    }

    fn is_reachable(&mut self, path: &TreePath, store: &CatalogStore) -> bool {
        DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine)
            .stat(path)
            .is_ok()
    }

    /// Whether what the catalogue has at a path lies there, or what it keeps there until the content comes.
    fn is_there(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
    ) -> Result<bool, CatalogError> {
        let retained = store.retained(path)?;
        let meta = self.look(path, store)?;
        Ok(match row.entry.kind {
            Kind::Folder => meta.is_some_and(|meta| meta.served_kind() == Some(Kind::Folder)),
            Kind::File => meta.is_some_and(|meta| {
                DiskTransaction::is_same_file(&meta, Some(row), retained.as_ref())
            }),
        })
    }

    /// What is gone is wanted again: folders at once, contents from others.
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
                } else if !self.is_there(&below, &row, store)? {
                    // Those below it come in this loop too.
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
        let above = store.unapplied_above(path)?;
        if let (Some(above), Some(content)) = (&above, entry.content) {
            store.record_unapplied(path, entry.version, false, &above.why, None)?;
            events.push_back(Event::Refused { put: content.put, retry: false });
        }
        // What lies behind the obstacle may still be there.
        let retained = row.to_retained().filter(|_| above.is_some());
        store.set_retained(path, retained.as_ref())?;
        if row.here {
            store.put_entry(path, &entry, None, &[])?;
            events.extend(lack_of_entry(path, &entry).map(Event::Missing));
        }
        Ok(())
    }

    /// A folder of the tree that is gone is made again.
    fn recreate_folder(
        &mut self,
        path: &TreePath,
        row: &CatalogRow,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let mut disk = DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine);
        match (disk.ensure_folder(path).and_then(|()| disk.sync()), row.entry.version) {
            (Ok(()), _) => Ok(()),
            (Err(ApplyError::Catalogue(e)), _) => Err(e),
            (Err(e), Some(version)) if e.is_path_specific() => {
                let why = e.reason(path);
                warn!("{path} cannot be made again: {why}; it is tried again");
                store.record_unapplied(path, version, false, &why, None)
            }
            (Err(e), _) => {
                warn!("{path} cannot be made again: {e}");
                Ok(())
            }
        }
    }

    /// A file of the tree is another one on the disk, or a folder has another mode.
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
            let mode = meta.mode.with_owner_access(Kind::Folder);
            if meta.served_kind() == Some(Kind::Folder) {
                self.propose_mode(path, mode, &row, base, meta, store, events)?;
            }
            return Ok(());
        };
        if !row.here {
            let retained = store.retained(&path)?;
            if let Some(retained) = retained.filter(|retained| retained.matches_except_ctime(meta))
            {
                // DetectedChanges before the change that has made it the former content, or only its ctime is another one.
                let disk =
                    DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine);
                let ours = retained.matches(meta)
                    || match disk.is_ours(&path, meta, None, Some(&retained)) {
                        Ok(ours) => ours,
                        Err(ApplyError::Catalogue(e)) => return Err(e),
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
            // It is not based on what the tree has here, unless it is just that.
            let mut disk =
                DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine);
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
                    let _ = self
                        .quarantine_path(&path, "it was edited while newer content was on its way");
                }
                Err(e) => warn!("{path}: {e}"),
            }
            return Ok(());
        }
        let same = row.matches_except_ctime(meta) && row.on_disk.mode == meta.mode;
        // Its content is hashed all the same: another program may have set the time back.
        let edit = PendingEdit { meta: meta.into(), mode: meta.mode, base, ordered: false };
        if self.local_changes.edits.get(&path).is_none_or(|known| known.meta != edit.meta) {
            log::debug!(
                "{path} was changed in the folder{}",
                if same { ", perhaps only in name" } else { "" }
            );
            self.local_changes.edits.insert(path, edit);
        }
        Ok(())
    }

    /// What lies at a path is what the tree has there, and at most its mode is another on the disk. What that makes of the tree's is offered.
    #[allow(clippy::too_many_arguments)]
    fn propose_mode(
        &mut self,
        path: TreePath,
        mode: Mode,
        row: &CatalogRow,
        base: Lsn,
        meta: &Meta,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        if mode == row.entry.mode {
            return store.update_disk_meta(&path, meta);
        }
        info!("the mode of {path} was changed in the folder to {mode}");
        events.extend(self.local_changes.add(path, LocalChangeKind::Mode { mode, base }));
        Ok(())
    }

    fn quarantine_path(&mut self, path: &TreePath, why: &str) -> bool {
        self.quarantine
            .take(path, why)
            .inspect_err(|e| error!("{path} cannot be set quarantine: {e}"))
            .unwrap_or(false)
    }

    /// Files that are to be hashed.
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
                    "all contents were read; {} were damaged",
                    self.local_changes.progress.damaged
                );
                self.local_changes.scrub = None;
                self.local_changes.progress.done = true;
            }
        }
        files
    }

    /// A file was hashed, or changed meanwhile.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn hashed(
        &mut self,
        of: &UnhashedFile,
        digest: Option<Digest>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        if self.local_changes.scrubbing.get(&of.path) == Some(&of.meta) {
            self.local_changes.scrubbing.remove(&of.path);
            let suspected = self.local_changes.suspected.remove(&of.path);
            self.local_changes.progress.read += u64::from(!suspected);
            return self.scrubbed(of, digest, suspected, store);
        }
        let Some(edit) =
            self.local_changes.edits.get(&of.path).filter(|edit| edit.meta == of.meta).cloned()
        else {
            return Ok(());
        };
        self.local_changes.edits.remove(&of.path);
        let (Some(digest), Some(row)) = (digest, store.row(&of.path)?) else { return Ok(()) };
        let same = row.digest == Some(digest) && row.on_disk.mtime == of.meta.mtime;
        let there = self.look(&of.path, store)?;
        // What is there now is looked at by an event of its own.
        let Some(there) =
            there.filter(|there| FileIdentity::from(there) == of.meta && !row.matches(there))
        else {
            return Ok(());
        };
        // Where others have changed only the mode meanwhile, the latest one counts.
        let base = row.entry.version.filter(|_| same && row.here).unwrap_or(edit.base);
        if row.entry.version != Some(base) {
            if self.quarantine_path(&of.path, "it was edited while others changed it") {
                let mut events = VecDeque::new();
                self.refetch_one(&of.path, &row, store, &mut events)?;
                self.deferred.append(&mut events);
            }
        } else if same {
            // It may also have another name beside its own, or had, or was moved there and back.
            let mode = wanted_mode(&row, edit.mode);
            let mut events = VecDeque::new();
            self.propose_mode(of.path.clone(), mode, &row, base, &there, store, &mut events)?;
            self.deferred.append(&mut events);
        } else {
            let mtime = match of.meta.mtime == row.on_disk.mtime {
                true => row.entry.mtime,
                false => of.meta.mtime,
            };
            let what = LocalChangeKind::File {
                meta: of.meta,
                mtime,
                digest,
                mode: wanted_mode(&row, edit.mode),
                expect: Expect::Lsn(edit.base),
            };
            let event = self.local_changes.add(of.path.clone(), what);
            self.deferred.extend(event);
        }
        Ok(())
    }

    /// Reads all contents and compares them with their digests, one after another.
    pub(super) fn begin_scrub(&mut self, order: u64) {
        info!("all contents are read and checked");
        self.scrub_wanted = Some(order);
    }

    /// There is a new link: what a former master ordered is not reported on it.
    pub(super) fn forget_scrub_order(&mut self) {
        self.local_changes.progress.order = 0;
    }

    /// Notes for the heartbeats how far it has come.
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

    /// Collects what is to be read.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn gather_scrub(&mut self, store: &CatalogStore) -> Result<(), CatalogError> {
        if let Some(order) = self.scrub_wanted.take() {
            let rows = store.committed_entries()?;
            let files =
                rows.into_iter().filter(|(_, row)| row.here && row.entry.kind == Kind::File);
            let files: VecDeque<UnhashedFile> =
                files.map(|(path, row)| UnhashedFile { meta: file_identity(&row), path }).collect();
            self.local_changes.repairing.clear();
            self.local_changes.progress =
                Scrub { order, files: files.len() as u64, ..Scrub::default() };
            self.local_changes.scrub = Some(files);
        }
        Ok(())
    }

    /// A reader has not got what the digest of a file says: it is read again here, and repaired where that is true.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn suspect(&mut self, path: &TreePath, store: &CatalogStore) -> Result<(), CatalogError> {
        let Some(row) = store.row(path)? else { return Ok(()) };
        if !row.here || row.entry.kind != Kind::File || row.entry.version.is_none() {
            return Ok(());
        }
        let meta = file_identity(&row);
        self.local_changes.cleared.retain(|_, (_, at)| at.elapsed() < CLEARED_TIME);
        let known = self.local_changes.cleared.get(path).is_some_and(|(known, _)| *known == meta)
            || self.local_changes.scrubbing.contains_key(path)
            || self.local_changes.suspects.iter().any(|file| file.path == *path);
        if !known && self.local_changes.suspects.len() < MOST_OFFERED {
            self.local_changes.suspects.push_back(UnhashedFile { path: path.clone(), meta });
        }
        Ok(())
    }

    fn scrubbed(
        &mut self,
        of: &UnhashedFile,
        digest: Option<Digest>,
        suspected: bool,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let row = store.row(&of.path)?.filter(|row| file_identity(row) == of.meta && row.here);
        // Unchanged since, and still it could not be read.
        if digest.is_none() && row.is_some() && self.root.open_file(&of.path).is_err() {
            self.local_changes.progress.unreadable += u64::from(!suspected);
        }
        let (Some(digest), Some(row)) = (digest, row) else { return Ok(()) };
        let Some(entry) = row.tree_entry().filter(|_| row.digest != Some(digest)) else {
            self.local_changes.cleared.insert(of.path.clone(), (of.meta, Instant::now()));
            return Ok(());
        };
        error!("{} is damaged on the disk: it is fetched again", of.path);
        if !suspected {
            self.local_changes.progress.damaged += 1;
            self.local_changes.repairing.extend(row.content);
        }
        self.quarantine_path(&of.path, "its content does not have its digest any more");
        // It is not served from here, also where it cannot be moved; it counts as damaged until good content is here.
        store.put_entry(&of.path, &entry, None, &[])?;
        store.mark_damaged(&of.path)?;
        self.deferred.extend(lack_of_entry(&of.path, &entry).map(Event::Missing));
        Ok(())
    }

    /// What was found does not become part of the tree.
    pub(super) fn quarantine_change(
        &mut self,
        id: ChangeId,
        why: &str,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let Some(change) = self.local_changes.by_id.remove(&id) else { return Ok(()) };
        if matches!(change.kind, LocalChangeKind::File { .. }) {
            self.local_changes.rejected.push((Instant::now(), change, why.to_owned()));
            return Ok(());
        }
        self.local_changes.by_path.remove(&change.path);
        self.finish_quarantine(change, why, store, events)
    }

    fn finish_quarantine(
        &mut self,
        change: LocalChange,
        why: &str,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let path = change.path;
        let branch = self.local_changes.branch.remove(&path);
        let row = store.row(&path)?;
        let LocalChangeKind::File { meta, digest, .. } = change.kind else {
            // Another mode is offered whenever the folder has one.
            if !matches!(change.kind, LocalChangeKind::Mode { .. }) {
                self.local_changes.refused.insert(path.clone(), Instant::now());
            }
            match (change.kind, row) {
                (LocalChangeKind::Removal { .. }, Some(row)) => {
                    self.refetch(&path, &row, store, events)?
                }
                // What was decided meanwhile holds here too.
                (LocalChangeKind::Mode { .. }, Some(row)) if row.here => {
                    let disk = DiskTransaction::new(
                        &self.root,
                        store,
                        &self.staging,
                        &mut self.quarantine,
                    );
                    match disk.set_mode(&path, row.entry.mode) {
                        Err(ApplyError::Catalogue(e)) => return Err(e),
                        Err(e) => warn!("{path} keeps another mode than the tree's: {e}"),
                        Ok(_) => {}
                    }
                }
                _ => {}
            }
            return Ok(());
        };
        let there = self.look(&path, store)?;
        let Some(there) = there.filter(|there| FileIdentity::from(there) == meta) else {
            return Ok(());
        };
        // What others' change replaces stays at its path until their content comes.
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
            .take_with_details(&path, why, &details)
            .inspect_err(|e| error!("{path} cannot be set quarantine: {e}"));
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

    /// Forgets what was found: where it is part of the tree now, or will be found again.
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
        self.quarantine_change(id, "others have changed it meanwhile", store, events)
    }
}

/// The mode that a file of the tree has after an edit: where the disk has the same as before, what the tree has.
fn wanted_mode(row: &CatalogRow, on_disk: Mode) -> Mode {
    if row.on_disk.mode == on_disk { row.entry.mode } else { on_disk.with_owner_access(Kind::File) }
}

fn file_identity(row: &CatalogRow) -> FileIdentity {
    FileIdentity {
        dev: row.dev,
        ino: row.ino,
        size: row.entry.size,
        mtime: row.on_disk.mtime,
        ctime: row.ctime,
    }
}
