//! Local changes that are not decided: files that users added to the folder, edited or removed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use log::error;
use relais_cluster::ChangeRequest;
use relais_cluster::replica::Event;
use relais_proto::{Change, ChangeId, Expect, Kind, Lsn, Mode, TreePath};
use relais_tree::Meta;

use crate::{CatalogError, CatalogRow, FileIdentity, Scanner};

/// Interval between two checks for local changes.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval between two proposals of a change that is not decided.
const PROPOSE_INTERVAL: Duration = Duration::from_secs(4);
/// Interval between two proposals of a refused change whose file is still there.
const REFUSED_INTERVAL: Duration = Duration::from_secs(30);
/// Most new local changes that are proposed at the same time.
pub(super) const MOST_PROPOSED: usize = 4096;
/// Most hashed files that are remembered until they are proposed. The others are found by the next
/// check.
const MOST_HASHED: usize = 4 * MOST_PROPOSED;
/// Time window of [`MOST_REMOVALS`].
const REMOVAL_WINDOW: Duration = Duration::from_secs(60);
/// Most local removals that become changes in one window.
const MOST_REMOVALS: u64 = 100;

/// A file of a branch that is proposed as a new change.
pub(super) struct DivergentOffer {
    pub path: TreePath,
    /// Row of the file and LSN of the change that it replaces, if the tree has a file there.
    pub edit: Option<(CatalogRow, Lsn)>,
    /// Details for the quarantine note if it is refused.
    pub details: String,
}

/// A local change as it is proposed.
#[derive(Debug, Clone)]
pub(super) struct LocalChange {
    pub path: TreePath,
    pub request: ChangeRequest,
    /// The file whose content is put.
    pub file: Option<FileIdentity>,
    pub proposed: Instant,
}

impl LocalChange {
    fn proposal(&self) -> Event {
        Event::Proposed { session: None, request: self.request.clone(), copies: 0 }
    }

    fn is_removal(&self) -> bool {
        matches!(self.request.change, Change::Remove { .. })
    }
}

/// An edited file of the tree that needs a digest.
#[derive(Debug, Clone)]
pub(super) struct PendingEdit {
    pub meta: FileIdentity,
    /// Mode on the disk.
    pub mode: Mode,
    /// LSN of the path when the edit was detected.
    pub base: Lsn,
    pub ordered: bool,
}

/// Local changes that are not decided.
#[derive(Debug, Default)]
pub(super) struct LocalChanges {
    pub by_id: HashMap<ChangeId, LocalChange>,
    pub by_path: HashMap<TreePath, ChangeId>,
    /// Files of a branch that wait for their proposal, each with its row and the LSN of the file of
    /// the tree that it has replaced.
    pub waiting: BTreeMap<TreePath, (CatalogRow, Lsn)>,
    /// Details for the quarantine note if a file of a branch is refused.
    pub branch: HashMap<TreePath, String>,
    /// Entries that the scanner reported as gone, and whether an event reported it. `edited` has
    /// those that differ.
    pub vanished: BTreeMap<TreePath, bool>,
    pub edited: BTreeMap<TreePath, Meta>,
    pub edits: BTreeMap<TreePath, PendingEdit>,
    /// Paths to be scanned again, as those of dropped edits.
    pub superseded: Vec<TreePath>,
    pub refused: HashMap<TreePath, Instant>,
    /// Refused changes with the time and reason of the refusal.
    pub rejected: Vec<(Instant, LocalChange, String)>,
    /// New files whose digest was just computed, so that they need no search.
    hashed: VecDeque<TreePath>,
    /// Folder whose entries can be proposed; the last one that was looked up.
    ready_folder: Option<TreePath>,
    looked: Option<Instant>,
    /// Where the last look ended because it had proposed as many changes as it may.
    looked_up_to: Option<TreePath>,
    /// Start of the removal window, and number of removals in it.
    removals: Option<(Instant, u64)>,
}

impl LocalChanges {
    /// Adds a change, and returns its proposal. `file` is the file whose content is put.
    pub fn add(
        &mut self,
        change: Change,
        expect: Expect,
        file: Option<FileIdentity>,
    ) -> Option<Event> {
        let mut id: [u8; 16] = relais_os::random()
            .map_err(|e| error!("cannot get random numbers from the system: {e}"))
            .ok()?;
        // Account 0 marks a change of no account.
        id[..4].copy_from_slice(&[0; 4]);
        let id = ChangeId(id);
        let path = change.paths().next()?.clone();
        self.by_path.insert(path.clone(), id);
        let request = ChangeRequest { id, change, expect, keep_mode: false, tokens: Vec::new() };
        let added = LocalChange { path, request, file, proposed: Instant::now() };
        let proposal = added.proposal();
        self.by_id.insert(id, added);
        Some(proposal)
    }

    /// Adds the put of a file as its row describes it, unless its digest is missing.
    pub fn add_file(&mut self, path: TreePath, row: &CatalogRow, expect: Expect) -> Option<Event> {
        let change = Change::Put {
            path,
            size: row.entry.size,
            digest: row.digest?,
            mtime: row.entry.mtime,
            mode: row.entry.mode,
        };
        self.add(change, expect, Some(row.disk))
    }

    /// Returns the proposals that are due: of changes that are not decided, files of a branch, and
    /// entries without an LSN.
    pub fn propose(&mut self, scanner: &Scanner) -> Result<Vec<Event>, CatalogError> {
        let mut events = Vec::new();
        self.ready_folder = None;
        while self.has_room()
            && let Some(path) = self.hashed.pop_front()
        {
            let row = scanner.store.row(&path)?.filter(|row| row.entry.version.is_none());
            if let Some(row) = row.filter(|row| row.digest.is_some())
                && self.can_be_proposed(&path, scanner)?
            {
                events.extend(self.add_file(path, &row, Expect::Absent));
            }
        }
        // A look that had no more room continues as soon as half of its proposals are committed.
        let continues = self.looked_up_to.is_some() && self.by_id.len() <= MOST_PROPOSED / 2;
        let is_due = self.looked.is_none_or(|looked| looked.elapsed() >= CHECK_INTERVAL);
        if !is_due && !continues {
            return Ok(events);
        }
        if is_due {
            self.looked = Some(Instant::now());
            events.extend(self.repropose(PROPOSE_INTERVAL));
            self.refused.retain(|_, at| at.elapsed() < REFUSED_INTERVAL);
        }
        while self.has_room()
            && let Some((path, (row, base))) = self.waiting.pop_first()
        {
            events.extend(self.add_file(path, &row, Expect::Lsn(base)));
        }
        let mut after = self.looked_up_to.take().unwrap_or_default();
        while self.has_room() {
            let rows = scanner.store.uncommitted(&after, 256)?;
            if rows.is_empty() {
                return Ok(events);
            }
            for (path, row) in rows {
                if !self.has_room() {
                    break;
                }
                after = path.clone();
                if self.can_be_proposed(&path, scanner)? {
                    events.extend(match row.entry.kind {
                        Kind::Folder => self.add_folder(path, row.entry.mode),
                        Kind::File => self.add_file(path, &row, Expect::Absent),
                    });
                }
            }
        }
        self.looked_up_to = Some(after);
        Ok(events)
    }

    /// Records that the digest of a new file is known.
    pub fn note_hashed(&mut self, path: &TreePath) {
        if self.hashed.len() < MOST_HASHED {
            self.hashed.push_back(path.clone());
        }
    }

    fn has_room(&self) -> bool {
        self.by_id.len() < MOST_PROPOSED
    }

    fn can_be_proposed(
        &mut self,
        path: &TreePath,
        scanner: &Scanner,
    ) -> Result<bool, CatalogError> {
        if self.by_path.contains_key(path)
            || self.refused.contains_key(path)
            || scanner.debounce.contains(path)
        {
            return Ok(false);
        }
        let Some((parent, _)) = path.split_last().filter(|(parent, _)| !parent.is_root()) else {
            return Ok(true);
        };
        if self.ready_folder.as_ref() == Some(&parent) {
            return Ok(true);
        }
        // The folder comes first: it has an LSN, or is proposed before.
        let is_ready = self.by_path.contains_key(&parent)
            || scanner.store.row(&parent)?.is_some_and(|row| row.entry.version.is_some());
        if is_ready {
            self.ready_folder = Some(parent);
        }
        Ok(is_ready)
    }

    /// Adds a new folder.
    pub fn add_folder(&mut self, path: TreePath, mode: Mode) -> Option<Event> {
        self.add(Change::MakeFolder { path, mode }, Expect::Any, None)
    }

    /// Schedules proposals for the files of a branch.
    pub fn add_branch(&mut self, offered: Vec<DivergentOffer>) {
        for DivergentOffer { path, edit, details } in offered {
            self.waiting.extend(edit.map(|edit| (path.clone(), edit)));
            self.branch.insert(path, details);
        }
    }

    /// Returns whether a local change at a path is not decided. Its file stays.
    pub fn is_pending(&self, path: &TreePath) -> bool {
        self.by_path.contains_key(path) || self.waiting.contains_key(path)
    }

    pub fn remove(&mut self, id: ChangeId) -> Option<LocalChange> {
        let change = self.by_id.remove(&id)?;
        self.by_path.remove(&change.path);
        self.branch.remove(&change.path);
        Some(change)
    }

    /// Drops edits that were based on the state before a committed change. A withdrawal drops none,
    /// because each check of an edit compares the LSN of its row.
    ///
    /// Their paths are scanned again, because a file may still differ from the tree.
    pub fn drop_superseded_edits(&mut self, change: &Change) {
        let with_below = matches!(change, Change::Remove { .. } | Change::Move { .. });
        for path in change.paths() {
            if !with_below {
                self.superseded.extend(self.edits.remove_entry(path).map(|(path, _)| path));
                continue;
            }
            let dropped =
                self.edits.extract_if(.., |edited, _| edited == path || edited.is_below(path));
            self.superseded.extend(dropped.map(|(path, _)| path));
        }
    }

    /// Returns whether the removal of a folder above the path is proposed.
    pub fn is_removed_with_folder(&self, path: &TreePath) -> bool {
        let parent = |path: &TreePath| path.split_last().map(|(folder, _)| folder);
        std::iter::successors(parent(path), parent).any(|folder| {
            let change = self.by_path.get(&folder).and_then(|id| self.by_id.get(id));
            change.is_some_and(LocalChange::is_removal)
        })
    }

    /// Proposes the changes again that were last proposed at least this long ago.
    pub fn repropose(&mut self, after: Duration) -> Vec<Event> {
        let due = self.by_id.values_mut().filter(|change| change.proposed.elapsed() >= after);
        let again = due.map(|change| {
            change.proposed = Instant::now();
            change.proposal()
        });
        again.collect()
    }

    /// Counts local removals, if so many may become changes now. `files` is the number of files in
    /// the tree.
    pub fn count_removals(&mut self, count: u64, files: u64) -> bool {
        let (since, done) = self
            .removals
            .filter(|(since, _)| since.elapsed() < REMOVAL_WINDOW)
            .unwrap_or((Instant::now(), 0));
        let is_allowed = done + count <= MOST_REMOVALS.min((files / 100).max(1));
        if is_allowed {
            self.removals = Some((since, done + count));
        }
        is_allowed
    }

    /// Drops proposed removals when the link closes. The paths are checked again, because they may
    /// have changed before the next link.
    pub fn drop_removals(&mut self) {
        for (_, removal) in self.by_id.extract_if(|_, change| change.is_removal()) {
            self.by_path.remove(&removal.path);
            self.branch.remove(&removal.path);
            self.vanished.insert(removal.path, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::{Attributes, FileTime};

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
            changes.drop_superseded_edits(&Change::SetAttributes {
                path: path(name),
                attributes: Attributes::mode(Mode::new(0o700)),
            });
        }
        assert_eq!(changes.edits.keys().cloned().collect::<Vec<_>>(), ["d/e", "d/f"].map(path));
        assert_eq!(changes.superseded, ["g"].map(path));
        changes.drop_superseded_edits(&Change::Remove { path: path("d"), recursive: true });
        assert!(changes.edits.is_empty());
        assert_eq!(changes.superseded, ["g", "d/e", "d/f"].map(path));
    }
}
