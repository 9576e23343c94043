//! What a master knows for good: the tree, the latest changes, what was removed. It is what its journal makes, behind the snapshot
//! that the journal begins with, and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use relais_proto::{Change, ChangeId, Digest, LogEntry, Lsn, TreePath};

use super::removal_records::RemovalRecords;
use crate::history_hash::{self, HistoryHash};
use crate::message_budget::ReplicaPosition;
use crate::timeline::{self, Timeline};
use crate::tree::{Effects, Entry, Tree, TreeState, given_back};

/// Most changes kept for slaves that were away. One that is further behind compares trees.
pub const TAIL: usize = 100_000;
/// Most bytes of paths in the changes that are kept for slaves that were away.
pub const TAIL_BYTES: usize = 32 * 1024 * 1024;
/// Changes whose ids are known at most: one that is asked for again after so many others is made anew.
pub const IDS: usize = 500_000;
/// Changes after which what a put has replaced is forgotten, though the put was never known to be safe.
const MEMORY: u64 = 100_000;

/// A change that slaves may still have to be told.
#[derive(Debug, Clone)]
pub(super) struct RecentChange {
    pub entry: LogEntry,
    pub restored: Vec<(TreePath, Option<Entry>)>,
    pub chain: HistoryHash,
}

/// How much is kept at most. Memory stays bounded whatever changes are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetentionLimits {
    pub tail: usize,
    pub tail_bytes: usize,
    pub ids: usize,
}

impl Default for RetentionLimits {
    fn default() -> Self {
        Self { tail: TAIL, tail_bytes: TAIL_BYTES, ids: IDS }
    }
}

impl RecentChange {
    /// Bytes that differ between changes: those of the paths.
    fn bytes(&self) -> usize {
        let change = match &self.entry.change {
            Change::Put { path, .. }
            | Change::MakeFolder { path, .. }
            | Change::SetMode { path, .. }
            | Change::Remove { path, .. } => path.as_str().len(),
            Change::Move { from, to } => from.as_str().len() + to.as_str().len(),
            Change::Withdraw { .. } => 0,
        };
        change + self.restored.iter().map(|(path, _)| path.as_str().len()).sum::<usize>()
    }
}

/// How a slave stands to the changes that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRelation {
    /// It is told what it lacks. The hash is the one at its number.
    CanFollow(HistoryHash),
    /// The changes do not reach back to it.
    MustCompare,
    /// It knows changes of this epoch that were never made here: the journal is older than it should be.
    Ahead,
    /// It has had other changes under the same numbers.
    Diverged,
    /// It has followed a master with a higher epoch.
    NewerEpoch,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct MasterState {
    pub(super) known: TreeState,
    pub(super) removed: RemovalRecords,
    pub(super) tail: VecDeque<RecentChange>,
    pub(super) tail_bytes: usize,
    pub(super) caps: RetentionLimits,
    /// The ids that are known, in the order of their changes.
    pub(super) id_order: VecDeque<ChangeId>,
    /// The last change that is not kept any more, and the hash there.
    pub(super) base: Lsn,
    pub(super) base_chain: HistoryHash,
    /// Which masters have numbered the changes, oldest first.
    pub(super) timelines: Vec<Timeline>,
    /// What puts have replaced that are not known to be safe yet: a withdrawal brings it back.
    pub(super) formers: BTreeMap<Lsn, Option<Entry>>,
    /// Puts that were withdrawn, as far as the changes are kept: whoever asks for one again is not told that it is done.
    pub(super) withdrawn: BTreeSet<Lsn>,
}

impl MasterState {
    /// Without any change. `seed` is where the hashes begin: no two clusters have the same.
    #[must_use]
    pub fn new(seed: HistoryHash) -> Self {
        Self { base_chain: seed, ..Self::default() }
    }

    /// Built anew from a slave's tree and history, in an epoch above all that were heard of. `seed` is random, and so is the
    /// `timeline` that begins.
    #[must_use]
    pub fn recovered(
        known: TreeState,
        mut timelines: Vec<Timeline>,
        epoch: u32,
        seed: HistoryHash,
        timeline: [u8; 16],
    ) -> Self {
        let last = Lsn { epoch, number: 0 };
        let id_order = in_order(&known);
        timeline::begin(&mut timelines, timeline, known.tree.last());
        let tree =
            Tree::listed(known.tree.iter().map(|(path, entry)| (path.clone(), *entry)), last);
        Self {
            known: TreeState { tree, ids: known.ids },
            base: last,
            base_chain: seed,
            timelines,
            id_order,
            ..Self::default()
        }
    }

    /// Takes the next change: from the journal at the start, or because it is in the journal now. Returns contents that are in the tree no more.
    pub fn apply(&mut self, log_entry: LogEntry) -> Vec<Lsn> {
        let version = log_entry.version;
        if version <= self.last() {
            return Vec::new();
        }
        let chain = history_hash::next(self.chain(), &log_entry);
        // Whatever was replaced is kept here, not in the tree: only a put can turn out to be impossible to carry out.
        while let Some(oldest) = self
            .formers
            .first_entry()
            .filter(|oldest| oldest.key().number.saturating_add(MEMORY) <= version.number)
        {
            oldest.remove();
        }
        let effects = match &log_entry.change {
            Change::Withdraw { of } => self.withdraw(*of, &log_entry),
            change => {
                let effects = self.known.apply(&log_entry);
                self.known.tree.settle(version);
                if matches!(change, Change::Put { .. }) {
                    self.formers.insert(version, effects.gone.first().map(|(_, former)| *former));
                }
                effects
            }
        };
        let mut gone = Vec::new();
        for (path, entry) in &effects.gone {
            // What was moved is in the tree still.
            let Some(content) =
                entry.content.filter(|content| self.known.tree.path_of(content.put).is_none())
            else {
                continue;
            };
            let here = self.known.tree.get(path).and_then(|now| now.content);
            if here.is_none_or(|here| here.digest != content.digest)
                && !matches!(log_entry.change, Change::Withdraw { .. })
            {
                let account = log_entry.id.account();
                self.removed.note(account, path, content.digest, version, log_entry.time_ms);
            }
            gone.push(content.put);
        }
        self.remember_id(log_entry.id);
        self.keep(RecentChange { entry: log_entry, restored: effects.restored, chain });
        gone
    }

    /// Keeps a change for slaves that are away.
    pub(super) fn keep(&mut self, kept: RecentChange) {
        self.tail_bytes += kept.bytes();
        self.tail.push_back(kept);
        while self.tail.len() > self.caps.tail
            || self.tail_bytes > self.caps.tail_bytes && self.tail.len() > 1
        {
            self.drop_oldest();
        }
    }

    /// The last change has this id, which is known already.
    fn remember_id(&mut self, id: ChangeId) {
        self.id_order.push_back(id);
        while self.id_order.len() > self.caps.ids
            && let Some(oldest) = self.id_order.pop_front()
        {
            self.known.ids.remove(&oldest);
        }
    }

    /// The content that a put has brought gives way, wherever it is now, to what it replaced, under the new number.
    fn withdraw(&mut self, of: Lsn, by: &LogEntry) -> Effects {
        self.known.ids.insert(by.id, by.version);
        self.withdrawn.insert(of);
        let mut effects = Effects::default();
        let path = self.tree().path_of(of).cloned();
        if let (Some(former), Some(path)) = (self.formers.remove(&of), path) {
            let now = self.tree().get(&path).copied();
            let restored = former.map(|former| given_back(former, now.as_ref(), by.version));
            effects.gone.extend(now.map(|now| (path.clone(), now)));
            effects.restored.push((path, restored));
        }
        self.known.tree.restore(by.version, &effects.restored);
        effects
    }

    /// A put is safe: what it replaced need not be remembered any more.
    pub(super) fn settle(&mut self, put: Lsn) {
        self.formers.remove(&put);
    }

    /// Whether a put was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self, put: Lsn) -> bool {
        self.withdrawn.contains(&put)
    }

    /// Whether the content of a put can give way to what it replaced.
    #[must_use]
    pub fn can_withdraw(&self, put: Lsn) -> bool {
        self.tree().path_of(put).is_some() && self.formers.contains_key(&put)
    }

    /// Whether the put replaced something, as far as that is known.
    #[must_use]
    pub fn replaced(&self, put: Lsn) -> bool {
        matches!(self.formers.get(&put), Some(Some(_)))
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.tail.pop_front() {
            self.tail_bytes -= oldest.bytes();
            if let Change::Withdraw { of } = oldest.entry.change {
                self.withdrawn.remove(&of);
            }
            (self.base, self.base_chain) = (oldest.entry.version, oldest.chain);
        }
    }

    /// Keeps no change up to `upto`: a slave that has not had them compares trees from now on.
    pub fn shorten(&mut self, upto: Lsn) {
        while self.tail.front().is_some_and(|kept| kept.entry.version <= upto) {
            self.drop_oldest();
        }
    }

    /// Forgets what was removed before a time, in milliseconds since 1970.
    pub fn forget_removed(&mut self, before_ms: u64) {
        self.removed.forget(before_ms);
    }

    /// The newest change that is kept and was numbered before a time, in milliseconds since 1970.
    #[must_use]
    pub fn newest_before(&self, before_ms: u64) -> Option<Lsn> {
        self.tail
            .iter()
            .rev()
            .find(|kept| kept.entry.time_ms < before_ms)
            .map(|kept| kept.entry.version)
    }

    /// Forgets the ids of all changes up to `upto`: whoever asks for one of them again makes it anew.
    pub fn forget_ids(&mut self, upto: Lsn) {
        self.known.ids.retain(|_, version| *version > upto);
        self.id_order.retain(|id| self.known.ids.contains_key(id));
        self.id_order.shrink_to(self.id_order.len() * 2);
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.known.tree
    }

    /// The number that a change with this id has.
    #[must_use]
    pub fn number_of(&self, id: ChangeId) -> Option<Lsn> {
        self.known.ids.get(&id).copied()
    }

    /// Changes by their ids.
    pub fn ids(&self) -> impl Iterator<Item = (ChangeId, Lsn)> + '_ {
        self.known.ids.iter().map(|(id, version)| (*id, *version))
    }

    /// The change with which this content went from this path, where that is remembered.
    #[must_use]
    pub fn removed(&self, path: &TreePath, digest: Digest) -> Option<Lsn> {
        self.removed.find(path, digest)
    }

    /// How many removal records there are, and how many there may be.
    #[must_use]
    pub fn removal_records(&self) -> (usize, usize) {
        (self.removed.len(), self.removed.cap())
    }

    /// The last change.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.known.tree.last()
    }

    /// The epoch in which it numbers.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.last().epoch.max(1)
    }

    /// The hash over all changes.
    #[must_use]
    pub fn chain(&self) -> HistoryHash {
        self.tail.back().map_or(self.base_chain, |kept| kept.chain)
    }

    /// Which masters have numbered the changes, oldest first.
    #[must_use]
    pub fn timelines(&self) -> &[Timeline] {
        &self.timelines
    }

    /// Adds the timelines of a journal whose changes were applied behind `snapshot`, the last change of the snapshot.
    pub fn add_timelines(&mut self, found: &[Timeline], snapshot: Lsn) {
        for (n, timeline) in found.iter().enumerate() {
            let end = found.get(n + 1).map_or(self.last(), |next| next.after);
            if end > snapshot {
                let after = timeline.after.max(snapshot);
                timeline::begin(&mut self.timelines, timeline.id, after);
            }
        }
    }

    /// Another master numbers from here on. To be called before it has numbered anything.
    pub fn begin_timeline(&mut self, id: [u8; 16]) {
        let last = self.last();
        timeline::begin(&mut self.timelines, id, last);
    }

    /// The changes that are kept, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &LogEntry> {
        self.tail.iter().map(|kept| &kept.entry)
    }

    /// Where in the tail the changes behind `version` begin.
    pub(super) fn behind(&self, version: Lsn) -> usize {
        self.tail.partition_point(|kept| kept.entry.version <= version)
    }

    /// Whether all changes behind `version` are kept.
    #[must_use]
    pub fn reaches(&self, version: Lsn) -> bool {
        version >= self.base
    }

    /// How a slave stands to this.
    #[must_use]
    pub fn reach(&self, position: &ReplicaPosition) -> HistoryRelation {
        let applied = position.applied;
        if position.epoch > self.epoch() {
            return HistoryRelation::NewerEpoch;
        }
        if applied > self.last() {
            return HistoryRelation::Ahead;
        }
        // A slave without a catalogue may still have files. Of the changes it would carry out old ones too, over files that
        // the tree has now.
        let knows_nothing = applied == Lsn::default() && self.last() > applied;
        if knows_nothing || !self.reaches(applied) {
            return HistoryRelation::MustCompare;
        }
        let chain = match self.behind(applied).checked_sub(1) {
            None => self.base_chain,
            Some(place) => self.tail.get(place).map_or(self.base_chain, |kept| kept.chain),
        };
        if applied == Lsn::default() || chain == position.chain {
            HistoryRelation::CanFollow(chain)
        } else {
            HistoryRelation::Diverged
        }
    }
}

/// The ids of changes in the order of their numbers.
pub(super) fn in_order(known: &TreeState) -> VecDeque<ChangeId> {
    let mut ids: Vec<(Lsn, ChangeId)> =
        known.ids.iter().map(|(id, version)| (*version, *id)).collect();
    ids.sort_unstable();
    ids.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::{FileTime, Mode};

    fn change(number: u64, change: Change) -> LogEntry {
        let mut id = [7; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        let version = Lsn { epoch: 1, number };
        LogEntry { version, id: ChangeId(id), time_ms: number, change }
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn put(name: &str, n: u64) -> Change {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        let (size, mtime) = (n, FileTime::default());
        Change::Put {
            path: path(name),
            size,
            digest: Digest(digest),
            mtime,
            mode: Mode::new(0o644),
        }
    }

    fn digest(n: u64) -> Digest {
        let Change::Put { digest, .. } = put("x", n) else { panic!() };
        digest
    }

    #[test]
    fn a_moved_folder_leaves_no_removal_records() {
        let mut state = MasterState::default();
        let mut number = 0;
        let mut apply = |state: &mut MasterState, what| {
            number += 1;
            state.apply(change(number, what));
        };
        apply(&mut state, Change::MakeFolder { path: path("a"), mode: Mode::new(0o644) });
        for n in 0..100 {
            apply(&mut state, put(&format!("a/{n}"), n));
        }
        for round in 0..10 {
            let (from, to) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
            apply(&mut state, Change::Move { from: path(from), to: path(to) });
        }
        assert_eq!(state.removal_records().0, 0);
        apply(&mut state, put("a/1", 1000));
        assert!(state.removed(&path("a/1"), digest(1)).is_some(), "what was replaced has one");
        apply(&mut state, put("f", 2000));
        apply(&mut state, Change::Move { from: path("f"), to: path("a/2") });
        assert!(state.removed(&path("a/2"), digest(2)).is_some(), "also by a move");
        assert!(state.removed(&path("f"), digest(2000)).is_none());
        apply(&mut state, Change::Remove { path: path("a"), recursive: true });
        assert!(state.removed(&path("a/2"), digest(2000)).is_some());
        assert_eq!(state.removal_records(), (102, crate::REMOVALS));
        let back = MasterState::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!(back.removal_records(), state.removal_records());
        assert_eq!(back.removed(&path("a/2"), digest(2)), state.removed(&path("a/2"), digest(2)));
    }

    #[test]
    fn ids_and_changes_are_kept_up_to_their_caps() {
        let caps = RetentionLimits { tail: 50, tail_bytes: 1000, ids: 20 };
        let mut state = MasterState { caps, ..MasterState::default() };
        for n in 1..=100 {
            state.apply(change(n, put("f", n)));
        }
        let number = |n| state.number_of(change(n, put("f", n)).id).map(|version| version.number);
        assert_eq!((number(80), number(81), number(100)), (None, Some(81), Some(100)));
        assert_eq!((state.known.ids.len(), state.tail.len()), (20, 50));
        let long = "x".repeat(200);
        for n in 101..=120 {
            state.apply(change(n, put(&long, n)));
        }
        assert_eq!(state.tail.len(), 5, "paths of 1000 bytes");
        assert_eq!(state.base.number, 115);
        // What a snapshot brings back goes on in the same way.
        let mut back = MasterState::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!((back.tail_bytes, back.id_order.len()), (1000, 20));
        back.caps = state.caps;
        for state in [&mut state, &mut back] {
            state.apply(change(121, put(&long, 121)));
        }
        assert!(back.id_order == state.id_order && back.kept().eq(state.kept()));
        back.forget_ids(Lsn { epoch: 1, number: 120 });
        assert_eq!((back.known.ids.len(), back.id_order.len()), (1, 1));
    }
}
