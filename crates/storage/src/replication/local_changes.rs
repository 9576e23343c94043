//! Local changes that are not decided: files that users added to the folder, edited or removed.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use log::error;
use relais_cluster::ChangeRequest;
use relais_cluster::replica::Event;
use relais_proto::{Attributes, Change, ChangeId, Digest, Expect, FileTime, Lsn, Mode, TreePath};
use relais_tree::Meta;

use crate::catalogue::row::{CatalogRow, FileIdentity};

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

/// Kind of a local change.
#[derive(Debug, Clone)]
pub(super) enum LocalChangeKind {
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
pub(super) struct LocalChange {
    pub(super) path: TreePath,
    pub(super) kind: LocalChangeKind,
    pub(super) proposed: Instant,
}

impl LocalChange {
    pub(super) fn to_request(&self, id: ChangeId) -> ChangeRequest {
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
                let attributes = Attributes::mode(*mode);
                (Change::SetAttributes { path, attributes }, Expect::Lsn(*base))
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
pub(super) struct PendingEdit {
    pub(super) meta: FileIdentity,
    /// Mode on the disk.
    pub(super) mode: Mode,
    /// LSN of the path when the edit was detected.
    pub(super) base: Lsn,
    pub(super) ordered: bool,
}

/// Local changes that are not decided.
#[derive(Debug, Default)]
pub(super) struct LocalChanges {
    pub(super) by_id: HashMap<ChangeId, LocalChange>,
    pub(super) by_path: HashMap<TreePath, ChangeId>,
    /// Files of a branch that wait for their proposal. Each has replaced a file of the tree.
    pub(super) waiting: BTreeMap<TreePath, LocalChangeKind>,
    /// Details for the quarantine note if a file of a branch is refused.
    pub(super) branch: HashMap<TreePath, String>,
    /// Entries that the scanner reported as gone, and whether an event reported it. `edited` has
    /// those that differ.
    pub(super) vanished: BTreeMap<TreePath, bool>,
    pub(super) edited: BTreeMap<TreePath, Meta>,
    pub(super) edits: BTreeMap<TreePath, PendingEdit>,
    /// Paths of dropped edits, to be scanned again.
    pub(super) superseded: Vec<TreePath>,
    pub(super) refused: HashMap<TreePath, Instant>,
    /// Refused changes with the time and reason of the refusal.
    pub(super) rejected: Vec<(Instant, LocalChange, String)>,
    pub(super) looked: Option<Instant>,
    /// Whether the last look proposed as many changes as it may.
    pub(super) is_busy: bool,
    /// Start of the removal window, and number of removals in it.
    pub(super) removals: Option<(Instant, u64)>,
}

impl LocalChanges {
    pub fn has(&self, id: ChangeId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn add(&mut self, path: TreePath, kind: LocalChangeKind) -> Option<Event> {
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

    pub(super) fn remove(&mut self, id: ChangeId) -> Option<LocalChange> {
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
            | Change::SetAttributes { path, .. } => drop(path, false),
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
    pub(super) fn is_removed_with_folder(&self, path: &TreePath) -> bool {
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

    pub(super) fn repropose(&mut self, after: Duration) -> Vec<Event> {
        let due = self.by_id.iter_mut().filter(|(_, change)| change.proposed.elapsed() >= after);
        let again = due.map(|(id, change)| {
            change.proposed = Instant::now();
            Event::Proposed { session: None, request: change.to_request(*id), copies: 0 }
        });
        again.collect()
    }

    /// Returns whether `count` more local removals may become changes now.
    pub(super) fn can_remove(&self, count: u64, files: u64) -> bool {
        let done = self
            .removals
            .filter(|(since, _)| since.elapsed() < REMOVAL_WINDOW)
            .map_or(0, |(_, done)| done);
        done + count <= MOST_REMOVALS.min((files / 100).max(1))
    }

    pub(super) fn count_removals(&mut self, count: u64) {
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
