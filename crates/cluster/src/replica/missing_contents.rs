//! Missing contents, and the choice of the holders to fetch them from.
//!
//! Several fetches run at once. Large contents have a few slots of their own, so small ones never
//! wait behind them, and small ones do not use those slots. The holder with the fewest current
//! fetches is asked first. Among equals each slave starts at another holder, so the slave that took
//! the put is not overloaded. A failed holder is asked again only after all others have failed too.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use relais_proto::{Change, Digest, FolderId, Lsn, TreePath};

use super::event::Action;
use super::missing_content::{FetchFault, MissingContent, lack_of, lack_of_entry};
use crate::message_budget::{CommittedEntry, LARGE, ToMaster};

/// Concurrent fetches of contents below [`LARGE`].
const SMALL_SLOTS: usize = 6;
/// Concurrent fetches of larger contents.
const LARGE_SLOTS: usize = 2;
/// Pause before a retry after all holders or the local disk failed.
///
/// It doubles each time that all holders failed.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Highest number of doublings.
const DOUBLINGS: u32 = 5;

#[derive(Debug, Clone)]
struct FetchTask {
    lack: MissingContent,
    from: Option<FolderId>,
    failed: BTreeSet<FolderId>,
    not_before: Duration,
    rounds: u32,
    since: Duration,
    /// The master knows no holder, so the content does not count against the slave.
    without_holder: bool,
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
    /// Contents that can be fetched now: small and large ones.
    ready: [BTreeSet<Lsn>; 2],
    /// Contents that can be fetched later, by time.
    later: BTreeSet<(Duration, Lsn)>,
    /// Contents that are being fetched.
    under_way: BTreeSet<Lsn>,
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
            under_way: BTreeSet::new(),
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
        all
    }

    /// Records that the disk refuses this content at its path; `retry` fetches it again.
    pub(super) fn refuse(&mut self, put: Lsn, retry: bool, now: Duration) {
        let Some(wanted) = self.wanted.get_mut(&put) else {
            // There is nothing to retry, or the content will be missing in a moment.
            if retry {
                self.refused.remove(&put)
            } else {
                self.refused.insert(put, false)
            };
            return;
        };
        self.refused.insert(put, retry);
        // A running fetch continues to its end.
        if self.under_way.contains(&put) {
            return;
        }
        self.ready[class_of(wanted)].remove(&put);
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
        self.hidden.values_mut().for_each(|asked| *asked = false);
    }

    /// Returns whether the content waits for a retry.
    fn waits(&self, put: Lsn) -> bool {
        self.refused.get(&put) == Some(&false)
    }

    pub(super) fn give_up(&mut self, put: Lsn) {
        self.given_up.insert(put, true);
        if let Some(wanted) = self.wanted.get_mut(&put) {
            wanted.lack.holders.clear();
            wanted.without_holder = true;
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
        self.given_up.retain(|_, fresh| *fresh);
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
        let counts = |(put, wanted): &(&Lsn, &FetchTask)| {
            !wanted.without_holder && !self.refused.contains_key(*put)
        };
        self.wanted.iter().find(counts).map(|(put, _)| *put)
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
        let old = self.wanted.iter().filter(|(put, wanted)| {
            !wanted.without_holder
                && !self.refused.contains_key(*put)
                && now.saturating_sub(wanted.since) >= age
        });
        old.fold(0, |sum, (_, wanted)| sum.saturating_add(wanted.lack.size.max(1)))
    }

    pub(super) fn fits(&self, put: Lsn, digest: Option<Digest>) -> bool {
        self.wants(put)
            && self.wanted.get(&put).is_some_and(|wanted| Some(wanted.lack.digest) == digest)
    }

    /// Returns whether the content of a later put is missing at the path of this one.
    pub(super) fn behind(&self, put: Lsn, change: &Change) -> bool {
        let Change::Put { path, .. } = change else { return false };
        self.wanted.values().any(|wanted| wanted.lack.put > put && wanted.lack.path == *path)
    }

    /// Returns whether the content of any later put is missing.
    pub(super) fn any_behind(&self, put: Lsn) -> bool {
        self.wanted.keys().next_back().is_some_and(|last| *last > put)
    }

    pub(super) fn add(&mut self, lack: MissingContent, now: Duration) {
        let wanted = FetchTask {
            from: None,
            failed: BTreeSet::new(),
            not_before: now,
            rounds: 0,
            since: now,
            without_holder: false,
            lack,
        };
        let put = wanted.lack.put;
        let waits = self.waits(put);
        if let Entry::Vacant(place) = self.wanted.entry(put) {
            place.insert(wanted);
            if !waits {
                self.later.insert((now, put));
            }
        }
    }

    pub(super) fn remove(&mut self, put: Lsn) -> bool {
        self.refused.remove(&put);
        self.hidden.remove(&put);
        let Some(wanted) = self.wanted.remove(&put) else { return false };
        self.ready[class_of(&wanted)].remove(&put);
        self.later.remove(&(wanted.not_before, put));
        self.under_way.remove(&put);
        true
    }

    /// Applies a change to the missing contents; `missing` are those that it added.
    pub(super) fn follow(&mut self, committed: &CommittedEntry, missing: &[Lsn], now: Duration) {
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
        let gone =
            |wanted: &FetchTask| wanted.lack.path == *path || wanted.lack.path.is_below(path);
        let gone: Vec<Lsn> =
            self.wanted.iter().filter(|(_, wanted)| gone(wanted)).map(|(put, _)| *put).collect();
        for put in gone {
            self.remove(put);
        }
    }

    fn rename(&mut self, from: &TreePath, to: &TreePath) {
        for wanted in self.wanted.values_mut() {
            if let Some(new) = wanted.lack.path.moved(from, to) {
                wanted.lack.path = new;
            }
        }
    }

    /// Records the holders of a content, as the master names them.
    pub(super) fn held_by(&mut self, put: Lsn, holders: &[FolderId], now: Duration) {
        if !holders.is_empty() {
            self.given_up.remove(&put);
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
        wanted.from = None;
        if self.under_way.remove(&put) && !waits {
            self.later.insert((wanted.not_before, put));
        }
        false
    }

    /// Starts the fetches that are possible now.
    pub(super) fn next(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some((_, put)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.pop_first();
            if let Some(wanted) = self.wanted.get(&put) {
                self.ready[class_of(wanted)].insert(put);
            }
        }
        let mut busy: BTreeMap<FolderId, usize> = BTreeMap::new();
        let mut places = [SMALL_SLOTS, LARGE_SLOTS];
        for wanted in self.under_way.iter().filter_map(|put| self.wanted.get(put)) {
            if let Some(from) = wanted.from {
                *busy.entry(from).or_default() += 1;
            }
            let free = &mut places[class_of(wanted)];
            *free = free.saturating_sub(1);
        }
        let after = |ready: &BTreeSet<Lsn>, put: Lsn| {
            ready
                .range((Bound::Excluded(put), Bound::Unbounded))
                .find(|put| !self.given_up.contains_key(put))
                .copied()
        };
        let mut next = [0, 1].map(|class| after(&self.ready[class], Lsn::default()));
        // Oldest first, among the contents with a free slot.
        while let Some((put, class)) = (0..2)
            .filter(|class| places[*class] > 0)
            .filter_map(|class| Some((next[class]?, class)))
            .min()
        {
            next[class] = after(&self.ready[class], put);
            self.ready[class].remove(&put);
            let Some(wanted) = self.wanted.get_mut(&put) else { continue };
            let Some(from) = choose(self.here, wanted, &busy) else {
                wanted.failed.clear();
                wanted.not_before = now + RETRY_PAUSE * 2u32.pow(wanted.rounds);
                wanted.rounds = (wanted.rounds + 1).min(DOUBLINGS);
                self.later.insert((wanted.not_before, put));
                actions.push(Action::Send(ToMaster::FindHolders { put }));
                continue;
            };
            places[class] -= 1;
            *busy.entry(from).or_default() += 1;
            wanted.from = Some(from);
            self.under_way.insert(put);
            actions.push(Action::Fetch { put, lack: wanted.lack.clone(), from });
        }
    }
}

/// Returns the class of slots for a content.
fn class_of(wanted: &FetchTask) -> usize {
    usize::from(wanted.lack.size >= LARGE)
}

/// Returns the holder with the fewest current fetches.
///
/// Among equals it is the first one after a position that depends on slave and put.
fn choose(
    here: FolderId,
    wanted: &FetchTask,
    busy: &BTreeMap<FolderId, usize>,
) -> Option<FolderId> {
    let holders: Vec<FolderId> = wanted
        .lack
        .holders
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
        .min_by_key(|place| (busy.get(&holders[*place]).copied().unwrap_or(0), inexact(*place)))
        .map(|place| holders[place])
}
