//! Missing contents, and the choice of the holders to fetch them from.
//!
//! Several fetches run at once, see [`FetchSlots`]. The holder with the fewest current fetches is
//! asked first. Among equals each slave starts at another holder, so the slave that took the put is
//! not overloaded. A failed holder is asked again only after all others have failed too.
//!
//! No event walks all contents: [`MissingIndex`] finds them by path, and sums their bytes by age.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::time::Duration;

use relais_proto::{Change, Digest, FolderId, Lsn, TreePath};

use super::event::Action;
use super::fetch_slots::{CLASSES, FetchSlots, class_of};
use super::missing_content::{FetchFault, MissingContent, lack_of, lack_of_entry};
use super::missing_index::MissingIndex;
use crate::message_budget::{CommittedEntry, ToMaster};

/// Pause before a retry after all holders or the local disk failed.
///
/// It doubles each time that all holders failed.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Highest number of doublings.
const DOUBLINGS: u32 = 5;
/// Most questions for holders that the master has not answered.
const MOST_ASKED: usize = 64;

#[derive(Debug, Clone)]
struct FetchTask {
    lack: MissingContent,
    failed: BTreeSet<FolderId>,
    not_before: Duration,
    rounds: u32,
    since: Duration,
    /// The master knows no holder, so the content does not count against the slave.
    without_holder: bool,
    /// Whether its bytes are counted in the index.
    counted: bool,
}

/// All missing contents of a slave; see the module.
#[derive(Debug, Clone)]
pub struct MissingContents {
    here: FolderId,
    wanted: BTreeMap<Lsn, FetchTask>,
    /// Puts that are given up; true if on the current link.
    given_up: BTreeMap<Lsn, bool>,
    /// Puts that the disk refuses at their paths; true during a retry.
    refused: BTreeMap<Lsn, bool>,
    /// Refused puts whose content is on this disk, behind an obstacle; true if the master waits
    /// for this slave to give it up.
    hidden: BTreeMap<Lsn, bool>,
    // Each missing content is in one of these sets or waits for a retry. The sets avoid a scan of
    // all contents at every event.
    /// Contents that can be fetched now, by class.
    ready: [BTreeSet<Lsn>; CLASSES],
    /// Contents that can be fetched later, by time.
    later: BTreeSet<(Duration, Lsn)>,
    /// Contents that are being fetched.
    slots: FetchSlots,
    /// Contents whose holders the master was asked for.
    asked: BTreeSet<Lsn>,
    /// Holders that the master named last. After a comparison no holders are known, and most
    /// contents have the same ones, so these are tried before the master is asked.
    likely: Vec<FolderId>,
    index: MissingIndex,
    /// Rises when a content is missing, wanted or found elsewhere that was not before.
    changes: u64,
}

impl MissingContents {
    pub(super) fn new(here: FolderId, missing: Vec<MissingContent>) -> Self {
        let mut all = Self {
            here,
            wanted: BTreeMap::new(),
            given_up: BTreeMap::new(),
            refused: BTreeMap::new(),
            hidden: BTreeMap::new(),
            ready: Default::default(),
            later: BTreeSet::new(),
            slots: FetchSlots::default(),
            asked: BTreeSet::new(),
            likely: Vec::new(),
            index: MissingIndex::default(),
            changes: 0,
        };
        missing.into_iter().for_each(|lack| all.add(lack, Duration::ZERO));
        all
    }

    /// Replaces the missing contents; given-up puts stay so.
    pub(super) fn replaced_with(&self, missing: Vec<MissingContent>) -> Self {
        let mut all = Self { given_up: self.given_up.clone(), ..Self::new(self.here, Vec::new()) };
        all.refused.clone_from(&self.refused);
        all.hidden.clone_from(&self.hidden);
        missing.into_iter().for_each(|lack| all.add(lack, Duration::ZERO));
        all.refused.retain(|put, _| all.wanted.contains_key(put));
        all.hidden.retain(|put, _| all.wanted.contains_key(put));
        all.changes += self.changes + 1;
        all
    }

    /// Records that the disk refuses this content at its path; `retry` fetches it again.
    pub(super) fn refuse(&mut self, put: Lsn, retry: bool, now: Duration) {
        if !self.wanted.contains_key(&put) {
            // There is nothing to retry, or the content will be missing in a moment.
            if retry {
                self.refused.remove(&put)
            } else {
                self.refused.insert(put, false)
            };
            return;
        }
        self.refused.insert(put, retry);
        self.recount(put);
        let Some(wanted) = self.wanted.get_mut(&put) else { return };
        // A running fetch continues to its end.
        if self.slots.has(put) {
            return;
        }
        self.ready[class_of(wanted.lack.size)].remove(&put);
        self.later.remove(&(wanted.not_before, put));
        if retry {
            wanted.not_before = now;
            self.later.insert((now, put));
        }
    }

    /// Records that an obstacle hides this content on this disk.
    pub(super) fn hide(&mut self, put: Lsn, now: Duration) {
        self.refuse(put, false, now);
        self.hidden.entry(put).or_default();
    }

    /// Records that the content is not hidden. Returns whether the master waits for this slave to
    /// give it up.
    pub(super) fn reveal(&mut self, put: Lsn) -> bool {
        self.hidden.remove(&put).unwrap_or_default()
    }

    /// Delays the answer to the master's `GiveUp` if the content is hidden. Returns whether it is.
    pub(super) fn defer_give_up(&mut self, put: Lsn) -> bool {
        self.hidden.get_mut(&put).map(|asked| *asked = true).is_some()
    }

    /// Forgets the questions of a closed link.
    pub(super) fn unlinked(&mut self) {
        self.asked.clear();
        self.hidden.values_mut().for_each(|asked| *asked = false);
    }

    /// Returns whether the content waits for a retry.
    fn waits(&self, put: Lsn) -> bool {
        self.refused.get(&put) == Some(&false)
    }

    /// Returns a number that has risen if the answer to a question about a put may be another one.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn give_up(&mut self, put: Lsn) {
        self.changes += 1;
        self.given_up.insert(put, true);
        if let Some(wanted) = self.wanted.get_mut(&put) {
            wanted.lack.holders.clear();
            wanted.without_holder = true;
        }
        self.recount(put);
    }

    /// Counts the bytes of a content that a holder may have and the disk does not refuse.
    fn recount(&mut self, put: Lsn) {
        let is_refused = self.refused.contains_key(&put);
        let Some(wanted) = self.wanted.get_mut(&put) else { return };
        let counts = !wanted.without_holder && !is_refused;
        if counts != wanted.counted {
            wanted.counted = counts;
            self.index.count(wanted.since, wanted.lack.size, counts);
        }
    }

    /// Sets the given-up puts at a join.
    ///
    /// Earlier ones stay given up until all changes from before the join are applied, because their
    /// withdrawal may be among them.
    pub(super) fn give_up_only(&mut self, puts: &[Lsn]) {
        self.given_up.values_mut().for_each(|fresh| *fresh = false);
        puts.iter().for_each(|put| self.give_up(*put));
    }

    pub(super) fn forget_given_up_before(&mut self) {
        let before = self.given_up.len();
        self.given_up.retain(|_, fresh| *fresh);
        self.changes += u64::from(self.given_up.len() < before);
    }

    pub(super) fn wants(&self, put: Lsn) -> bool {
        self.wanted.contains_key(&put) && !self.given_up.contains_key(&put)
    }

    /// Iterates over the puts, oldest first.
    pub fn puts(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.wanted.keys().copied()
    }

    /// Returns the oldest put that a holder may have and the disk does not refuse.
    pub(super) fn oldest(&self) -> Option<Lsn> {
        self.wanted.iter().find(|(_, wanted)| wanted.counted).map(|(put, _)| *put)
    }

    /// Returns whether the content of this put is missing.
    #[must_use]
    pub fn has(&self, put: Lsn) -> bool {
        self.wanted.contains_key(&put)
    }

    /// Returns the known holders of a missing content, for the redirect of a reader.
    #[must_use]
    pub fn holders(&self, put: Lsn) -> &[FolderId] {
        self.wanted.get(&put).map_or(&[], |wanted| &wanted.lack.holders)
    }

    /// Returns the number of missing contents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Returns whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Returns the bytes that are missing for longer than `age` and count against the slave.
    ///
    /// Contents without a holder and contents that the disk refuses do not count.
    #[must_use]
    pub fn bytes_older(&self, now: Duration, age: Duration) -> u64 {
        now.checked_sub(age).map_or(0, |since| self.index.bytes_up_to(since))
    }

    pub(super) fn fits(&self, put: Lsn, digest: Option<Digest>) -> bool {
        self.wants(put)
            && self.wanted.get(&put).is_some_and(|wanted| Some(wanted.lack.digest) == digest)
    }

    /// Returns whether the content of a later put is missing at the path of this one.
    pub(super) fn behind(&self, put: Lsn, change: &Change) -> bool {
        let Change::Put { path, .. } = change else { return false };
        self.index.at(path).any(|missing| missing > put)
    }

    /// Returns whether the content of any later put is missing.
    pub(super) fn any_behind(&self, put: Lsn) -> bool {
        self.wanted.keys().next_back().is_some_and(|last| *last > put)
    }

    pub(super) fn add(&mut self, lack: MissingContent, now: Duration) {
        let wanted = FetchTask {
            failed: BTreeSet::new(),
            not_before: now,
            rounds: 0,
            since: now,
            without_holder: false,
            counted: false,
            lack,
        };
        let put = wanted.lack.put;
        let waits = self.waits(put);
        if let Entry::Vacant(place) = self.wanted.entry(put) {
            self.index.add(&wanted.lack.path, put);
            self.changes += 1;
            place.insert(wanted);
            if !waits {
                self.later.insert((now, put));
            }
            self.recount(put);
        }
    }

    pub(super) fn remove(&mut self, put: Lsn) -> bool {
        self.refused.remove(&put);
        self.hidden.remove(&put);
        let Some(wanted) = self.wanted.remove(&put) else { return false };
        self.index.remove(&wanted.lack.path, put);
        self.changes += 1;
        if wanted.counted {
            self.index.count(wanted.since, wanted.lack.size, false);
        }
        self.ready[class_of(wanted.lack.size)].remove(&put);
        self.later.remove(&(wanted.not_before, put));
        self.slots.end(put);
        self.asked.remove(&put);
        true
    }

    /// Applies a change to the missing contents; `missing` are those that it added.
    pub(super) fn follow(
        &mut self,
        committed: &CommittedEntry,
        missing: &HashSet<Lsn>,
        now: Duration,
    ) {
        let version = committed.entry.version;
        match &committed.entry.change {
            Change::Put { path, size, digest, .. } => {
                self.drop_below(path);
                if missing.contains(&version) {
                    self.add(
                        lack_of(path, version, *size, *digest, committed.holders.clone()),
                        now,
                    );
                }
            }
            Change::MakeFolder { .. }
            | Change::SetAttributes { .. }
            | Change::SetProperties { .. }
            | Change::Lock { .. }
            | Change::Unlock { .. }
            | Change::RecordSha256 { .. } => {}
            Change::Remove { path, .. } => self.drop_below(path),
            Change::Move { from, to } => {
                if from != to {
                    self.drop_below(to);
                }
                self.rename(from, to);
            }
            Change::Withdraw { .. } => {
                for (path, entry) in &committed.restored {
                    self.drop_below(path);
                    let lack = entry
                        .and_then(|entry| lack_of_entry(path, &entry))
                        .filter(|lack| missing.contains(&lack.put));
                    if let Some(lack) = lack {
                        self.add(lack, now);
                    }
                }
            }
        }
    }

    fn drop_below(&mut self, path: &TreePath) {
        for put in self.index.at_or_below(path) {
            self.remove(put);
        }
    }

    fn rename(&mut self, from: &TreePath, to: &TreePath) {
        for put in self.index.at_or_below(from) {
            if let Some(wanted) = self.wanted.get_mut(&put)
                && let Some(new) = wanted.lack.path.moved(from, to)
            {
                self.index.remove(&wanted.lack.path, put);
                self.index.add(&new, put);
                self.changes += 1;
                wanted.lack.path = new;
            }
        }
    }

    /// Records the holders of a content, as the master names them.
    pub(super) fn held_by(&mut self, put: Lsn, holders: &[FolderId], now: Duration) {
        self.asked.remove(&put);
        if holders.iter().any(|folder| *folder != self.here) {
            self.likely = holders.to_vec();
        }
        if !holders.is_empty() {
            self.changes += u64::from(self.given_up.remove(&put).is_some());
        }
        if let Some(wanted) = self.wanted.get_mut(&put) {
            let new = holders.iter().any(|folder| !wanted.lack.holders.contains(folder));
            wanted.lack.holders = holders.to_vec();
            wanted.without_holder = holders.is_empty();
            if new {
                if self.later.remove(&(wanted.not_before, put)) {
                    self.later.insert((now, put));
                }
                (wanted.not_before, wanted.rounds) = (now, 0);
            }
        }
        self.recount(put);
    }

    /// Handles the end of a fetch; returns whether a missing content has arrived.
    pub(super) fn fetched(
        &mut self,
        put: Lsn,
        from: FolderId,
        fault: Option<FetchFault>,
        now: Duration,
    ) -> bool {
        let waits = self.waits(put);
        let Some(wanted) = self.wanted.get_mut(&put) else { return false };
        match fault {
            None => return self.remove(put),
            Some(FetchFault::Holder) => {
                wanted.failed.insert(from);
            }
            Some(FetchFault::Local) => wanted.not_before = now + RETRY_PAUSE,
        }
        if self.slots.end(put) && !waits {
            self.later.insert((wanted.not_before, put));
        }
        false
    }

    /// Starts the fetches that are possible now.
    pub(super) fn next(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some((_, put)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.pop_first();
            if let Some(wanted) = self.wanted.get(&put) {
                self.ready[class_of(wanted.lack.size)].insert(put);
            }
        }
        let after = |ready: &BTreeSet<Lsn>, put: Lsn| {
            ready
                .range((Bound::Excluded(put), Bound::Unbounded))
                .find(|put| !self.given_up.contains_key(put))
                .copied()
        };
        let mut next = std::array::from_fn::<_, CLASSES, _>(|class| {
            let is_free = self.slots.is_free(class);
            is_free.then(|| after(&self.ready[class], Lsn::default())).flatten()
        });
        // Oldest first, among the contents with a free slot.
        while let Some((put, class)) = (0..CLASSES)
            .filter(|class| self.slots.is_free(*class))
            .filter_map(|class| Some((next[class]?, class)))
            .min()
        {
            let Some(wanted) = self.wanted.get_mut(&put) else {
                self.ready[class].remove(&put);
                next[class] = after(&self.ready[class], put);
                continue;
            };
            let from = choose(self.here, wanted, &self.likely, &self.slots);
            if from.is_none() && self.asked.len() >= MOST_ASKED {
                // The others wait for the answers, which may name holders for them too.
                next[class] = None;
                continue;
            }
            next[class] = after(&self.ready[class], put);
            self.ready[class].remove(&put);
            let Some(from) = from else {
                wanted.failed.clear();
                wanted.not_before = now + RETRY_PAUSE * 2u32.pow(wanted.rounds);
                wanted.rounds = (wanted.rounds + 1).min(DOUBLINGS);
                self.later.insert((wanted.not_before, put));
                self.asked.insert(put);
                actions.push(Action::Send(ToMaster::FindHolders { put }));
                continue;
            };
            self.slots.begin(put, from, wanted.lack.size);
            actions.push(Action::Fetch { put, lack: wanted.lack.clone(), from });
        }
    }
}

/// Returns the holder with the fewest current fetches; one of `likely` if none is known.
///
/// Among equals it is the first one after a position that depends on slave and put.
fn choose(
    here: FolderId,
    wanted: &FetchTask,
    likely: &[FolderId],
    slots: &FetchSlots,
) -> Option<FolderId> {
    let known = &wanted.lack.holders;
    let is_unknown = known.is_empty() && !wanted.without_holder;
    let holders: Vec<FolderId> = if is_unknown { likely } else { known }
        .iter()
        .copied()
        .filter(|folder| *folder != here && !wanted.failed.contains(folder))
        .collect();
    let mut turn = wanted.lack.put.number;
    turn =
        here.0.iter().fold(turn, |turn, byte| turn.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let start =
        usize::try_from(turn % u64::try_from(holders.len().max(1)).unwrap_or(1)).unwrap_or(0);
    let inexact = |place: usize| (place + holders.len() - start) % holders.len();
    (0..holders.len())
        .min_by_key(|place| (slots.busy(holders[*place]), inexact(*place)))
        .map(|place| holders[place])
}
