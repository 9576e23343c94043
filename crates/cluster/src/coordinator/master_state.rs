//! Durable state of the master: the tree, recent changes and removal records.
//!
//! It is the result of the journal on top of its snapshot, and nothing else.

use std::collections::{BTreeSet, VecDeque};

use relais_proto::{Change, ChangeId, Digest, LogEntry, Lsn, TreePath};

use super::removal_records::RemovalRecords;
use crate::history_hash::{self, HistoryHash};
use crate::message_budget::ReplicaPosition;
use crate::timeline::{self, Timeline};
use crate::tree::{Entry, Tree, TreeState};

/// Highest number of retained changes. A slave that is further behind compares trees.
pub const TAIL: usize = 100_000;
/// Highest number of bytes of paths, properties and hashes in the retained changes.
pub const TAIL_BYTES: usize = 32 * 1024 * 1024;
/// Highest number of known change ids. A request older than that is applied again.
pub const IDS: usize = 500_000;

/// A change that is retained for slaves that are behind.
#[derive(Debug, Clone)]
pub(super) struct RecentChange {
    pub entry: LogEntry,
    pub restored: Vec<(TreePath, Option<Entry>)>,
    pub chain: HistoryHash,
}

/// Limits of the retained data. They bound the memory for any sequence of changes.
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
    /// Returns the bytes of paths, texts and lists, which vary between changes.
    fn bytes(&self) -> usize {
        let restored = self.restored.iter().map(|(path, _)| path);
        let paths = self.entry.change.paths().chain(restored);
        self.entry.change.extra_bytes() + paths.map(|path| path.as_str().len()).sum::<usize>()
    }
}

/// Relation of a slave's history to the master's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRelation {
    /// The slave can follow the log. The hash is the one at its position.
    CanFollow(HistoryHash),
    /// The retained changes do not reach back to the slave's position.
    MustCompare,
    /// The slave has later changes of this epoch: the journal is older than it should be.
    Ahead,
    /// The slave has other changes under the same numbers.
    Diverged,
    /// The slave has followed a master with a higher epoch.
    NewerEpoch,
}

/// Durable state of the master; see the module.
#[derive(Debug, Clone, Default)]
pub struct MasterState {
    pub(super) known: TreeState,
    pub(super) removed: RemovalRecords,
    pub(super) tail: VecDeque<RecentChange>,
    pub(super) tail_bytes: usize,
    pub(super) caps: RetentionLimits,
    /// Known ids, in the order of their changes.
    pub(super) id_order: VecDeque<ChangeId>,
    /// Last change that is no longer retained, and the hash there.
    pub(super) base: Lsn,
    pub(super) base_chain: HistoryHash,
    /// Timelines of the history, oldest first.
    pub(super) timelines: Vec<Timeline>,
    /// Withdrawn puts among the retained changes; a repeated request gets no success for them.
    pub(super) withdrawn: BTreeSet<Lsn>,
}

impl MasterState {
    /// Makes an empty state. `seed` starts the hash chain and is different for every cluster.
    #[must_use]
    pub fn new(seed: HistoryHash) -> Self {
        Self { base_chain: seed, ..Self::default() }
    }

    /// Builds the state from a slave's tree and history, for a recovery.
    ///
    /// Properties and hashes are kept; all locks end. The epoch is above all known ones. `seed` and
    /// the id of the new `timeline` are random.
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
        let tree = known.tree.restarted(last);
        Self {
            known: TreeState { tree, ids: known.ids },
            base: last,
            base_chain: seed,
            timelines,
            id_order,
            ..Self::default()
        }
    }

    /// Applies the next change; returns the puts whose content left the tree.
    ///
    /// The change comes from the journal at the start, or has just been written.
    pub fn apply(&mut self, log_entry: LogEntry) -> Vec<Lsn> {
        let version = log_entry.version;
        if version <= self.last() {
            return Vec::new();
        }
        let chain = history_hash::next(self.chain(), &log_entry);
        let effects = self.known.apply(&log_entry);
        if let Change::Withdraw { of } = log_entry.change {
            self.withdrawn.insert(of);
        }
        let mut gone = Vec::new();
        for (path, entry) in &effects.gone {
            let Some(content) = entry.content else { continue };
            let here = self.known.tree.get(path).and_then(|now| now.content);
            if here.is_none_or(|here| here.digest != content.digest)
                && !matches!(log_entry.change, Change::Withdraw { .. })
            {
                let account = log_entry.id.account();
                self.removed.note(account, path, content.digest, version, log_entry.time_ms);
            }
            // Moved content is still in the tree.
            if self.known.tree.path_of(content.put).is_none() {
                gone.push(content.put);
            }
        }
        self.remember_id(log_entry.id);
        self.keep(RecentChange { entry: log_entry, restored: effects.restored, chain });
        gone
    }

    /// Retains a change for slaves that are behind.
    pub(super) fn keep(&mut self, kept: RecentChange) {
        self.tail_bytes += kept.bytes();
        self.tail.push_back(kept);
        while self.tail.len() > self.caps.tail
            || self.tail_bytes > self.caps.tail_bytes && self.tail.len() > 1
        {
            self.drop_oldest();
        }
    }

    /// Records the id of the last change.
    fn remember_id(&mut self, id: ChangeId) {
        self.id_order.push_back(id);
        while self.id_order.len() > self.caps.ids
            && let Some(oldest) = self.id_order.pop_front()
        {
            self.known.ids.remove(&oldest);
        }
    }

    /// Returns whether a put was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self, put: Lsn) -> bool {
        self.withdrawn.contains(&put)
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

    /// Drops the changes up to `upto`. A slave behind them must compare trees.
    pub fn shorten(&mut self, upto: Lsn) {
        while self.tail.front().is_some_and(|kept| kept.entry.version <= upto) {
            self.drop_oldest();
        }
    }

    /// Drops removal records from before a time, in milliseconds since 1970 UTC.
    pub fn forget_removed(&mut self, before_ms: u64) {
        self.removed.forget(before_ms);
    }

    /// Returns the newest retained change from before a time, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn newest_before(&self, before_ms: u64) -> Option<Lsn> {
        self.tail
            .iter()
            .rev()
            .find(|kept| kept.entry.time_ms < before_ms)
            .map(|kept| kept.entry.version)
    }

    /// Forgets the ids of all changes up to `upto`. A repeated request for one of them is applied
    /// again.
    pub fn forget_ids(&mut self, upto: Lsn) {
        self.known.ids.retain(|_, version| *version > upto);
        self.id_order.retain(|id| self.known.ids.contains_key(id));
        self.id_order.shrink_to(self.id_order.len() * 2);
    }

    /// Returns the tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.known.tree
    }

    /// Returns the number of the change with this id.
    #[must_use]
    pub fn number_of(&self, id: ChangeId) -> Option<Lsn> {
        self.known.ids.get(&id).copied()
    }

    /// Iterates over the known ids and their numbers.
    pub fn ids(&self) -> impl Iterator<Item = (ChangeId, Lsn)> + '_ {
        self.known.ids.iter().map(|(id, version)| (*id, *version))
    }

    /// Returns the change that removed this content from this path, if it is recorded.
    #[must_use]
    pub fn removed(&self, path: &TreePath, digest: Digest) -> Option<Lsn> {
        self.removed.find(path, digest)
    }

    /// Returns the number of removal records and its limit.
    #[must_use]
    pub fn removal_records(&self) -> (usize, usize) {
        (self.removed.len(), self.removed.cap())
    }

    /// Returns the last change.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.known.tree.last()
    }

    /// Returns the current epoch.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.last().epoch.max(1)
    }

    /// Returns the hash over all changes.
    #[must_use]
    pub fn chain(&self) -> HistoryHash {
        self.tail.back().map_or(self.base_chain, |kept| kept.chain)
    }

    /// Returns the timelines of the history, oldest first.
    #[must_use]
    pub fn timelines(&self) -> &[Timeline] {
        &self.timelines
    }

    /// Adds the timelines of a journal that was replayed on top of `snapshot`, its last change.
    pub fn add_timelines(&mut self, found: &[Timeline], snapshot: Lsn) {
        for (n, timeline) in found.iter().enumerate() {
            let end = found.get(n + 1).map_or(self.last(), |next| next.after);
            if end > snapshot {
                let after = timeline.after.max(snapshot);
                timeline::begin(&mut self.timelines, timeline.id, after);
            }
        }
    }

    /// Begins a timeline for a new master. It must be called before the first change.
    pub fn begin_timeline(&mut self, id: [u8; 16]) {
        let last = self.last();
        timeline::begin(&mut self.timelines, id, last);
    }

    /// Iterates over the retained changes, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &LogEntry> {
        self.tail.iter().map(|kept| &kept.entry)
    }

    /// Returns the time of the first retained change after `version`, in milliseconds since 1970.
    #[must_use]
    pub fn time_after(&self, version: Lsn) -> Option<u64> {
        self.tail.get(self.behind(version)).map(|kept| kept.entry.time_ms)
    }

    /// Returns the index of the first retained change after `version`.
    pub(super) fn behind(&self, version: Lsn) -> usize {
        self.tail.partition_point(|kept| kept.entry.version <= version)
    }

    /// Returns whether all changes after `version` are retained.
    #[must_use]
    pub fn reaches(&self, version: Lsn) -> bool {
        version >= self.base
    }

    /// Returns the relation of a slave's history to this one.
    #[must_use]
    pub fn reach(&self, position: &ReplicaPosition) -> HistoryRelation {
        let applied = position.applied;
        if position.epoch > self.epoch() {
            return HistoryRelation::NewerEpoch;
        }
        if applied > self.last() {
            return HistoryRelation::Ahead;
        }
        // A slave without a catalogue may still have files. Replaying old changes would write over
        // files that the tree has now.
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

/// Returns the ids of changes, ordered by number.
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
    fn moved_content_leaves_one_removal_record_at_each_path() {
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
        assert_eq!(state.removal_records().0, 200, "of each file in a and in b");
        assert!(state.removed(&path("b/1"), digest(1)).is_some());
        apply(&mut state, put("a/1", 1000));
        assert!(state.removed(&path("a/1"), digest(1)).is_some(), "what was replaced has one");
        apply(&mut state, put("f", 2000));
        apply(&mut state, Change::Move { from: path("f"), to: path("a/2") });
        assert!(state.removed(&path("a/2"), digest(2)).is_some(), "also by a move");
        assert!(state.removed(&path("f"), digest(2000)).is_some(), "and by the move from there");
        apply(&mut state, Change::Remove { path: path("a"), recursive: true });
        assert!(state.removed(&path("a/2"), digest(2000)).is_some());
        assert_eq!(state.removal_records(), (203, crate::REMOVALS));
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
        // A restored snapshot continues in the same way.
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
