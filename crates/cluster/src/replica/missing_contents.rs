//! Contents that belong here and are not here, and whom they are fetched from.
//!
//! Several come at once. Large ones have few places of their own, so that small ones never wait behind them, and small ones leave
//! those places alone. Who holds a content and sends us least is asked first; among equals each slave begins at another one,
//! so that not all ask the one that took the put. Who failed is asked again only when all others have failed too.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use relais_proto::{Change, Digest, FolderId, Lsn, TreePath};

use super::Action;
use crate::message_budget::{CommittedEntry, LARGE, ToMaster};

/// Most contents below [`LARGE`] that are fetched at once.
const SMALL_PLACES: usize = 6;
/// Most larger ones.
const LARGE_PLACES: usize = 2;
/// Pause before what failed everywhere, or could not be stored here, is tried again; it doubles each time that all holders failed.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// Most doublings.
const DOUBLINGS: u32 = 5;

/// Content that is lacking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingContent {
    /// The put that brought it.
    pub put: Lsn,
    /// Where it belongs.
    pub path: TreePath,
    /// Bytes.
    pub size: u64,
    /// The digest that it must have.
    pub digest: Digest,
    /// Folders that are known to hold it.
    pub holders: Vec<FolderId>,
}

/// Why content could not be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchFault {
    /// The holder does not answer, has it no more, is busy, or sent something else.
    Holder,
    /// It could not be stored here.
    Local,
}

#[derive(Debug, Clone)]
struct FetchTask {
    lack: MissingContent,
    from: Option<FolderId>,
    failed: BTreeSet<FolderId>,
    not_before: Duration,
    rounds: u32,
    since: Duration,
    /// Nobody has it, as the master knows: that speaks against no slave.
    homeless: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct MissingContents {
    here: FolderId,
    wanted: BTreeMap<Lsn, FetchTask>,
    /// Given up; whether on this link.
    given_up: BTreeMap<Lsn, bool>,
    /// The disk refuses these at their paths; whether another try is under way.
    refused: BTreeMap<Lsn, bool>,
    // Each of the wanted is in one of these, or waits for another try: with many of them, not all can be looked at whenever something happens.
    /// What may be fetched now: small and large ones.
    ready: [BTreeSet<Lsn>; 2],
    /// What may be fetched later, by its time.
    later: BTreeSet<(Duration, Lsn)>,
    /// What is being fetched.
    under_way: BTreeSet<Lsn>,
}

impl MissingContents {
    pub(super) fn new(here: FolderId, lacks: Vec<MissingContent>) -> Self {
        let mut all = Self {
            here,
            wanted: BTreeMap::new(),
            given_up: BTreeMap::new(),
            refused: BTreeMap::new(),
            ready: Default::default(),
            later: BTreeSet::new(),
            under_way: BTreeSet::new(),
        };
        lacks.into_iter().for_each(|lack| all.add(lack, Duration::ZERO));
        all
    }

    /// Others are lacking now; what was given up stays so.
    pub(super) fn instead(&self, lacks: Vec<MissingContent>) -> Self {
        let mut all = Self { given_up: self.given_up.clone(), ..Self::new(self.here, Vec::new()) };
        all.refused.clone_from(&self.refused);
        lacks.into_iter().for_each(|lack| all.add(lack, Duration::ZERO));
        all.refused.retain(|put, _| all.wanted.contains_key(put));
        all
    }

    /// The disk refuses this content at its path; with `retry` it is fetched for another try.
    pub(super) fn refuse(&mut self, put: Lsn, retry: bool, now: Duration) {
        let Some(wanted) = self.wanted.get_mut(&put) else {
            // There is nothing to be tried, or it will be lacking in a moment.
            if retry {
                self.refused.remove(&put)
            } else {
                self.refused.insert(put, false)
            };
            return;
        };
        self.refused.insert(put, retry);
        // What is being fetched comes to its end.
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

    /// Whether it waits for another try, and nothing is done about it before.
    fn waits(&self, put: Lsn) -> bool {
        self.refused.get(&put) == Some(&false)
    }

    pub(super) fn give_up(&mut self, put: Lsn) {
        self.given_up.insert(put, true);
        if let Some(wanted) = self.wanted.get_mut(&put) {
            wanted.lack.holders.clear();
        }
    }

    /// At a join: what is given up now. What was given up before stays so until all changes are here that there were at the join,
    /// the withdrawal perhaps among them.
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

    /// The puts, oldest first.
    pub fn puts(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.wanted.keys().copied()
    }

    /// The oldest put whose content somebody may have, and that the disk does not refuse.
    pub(super) fn oldest(&self) -> Option<Lsn> {
        let counts = |(put, wanted): &(&Lsn, &FetchTask)| {
            !wanted.homeless && !self.refused.contains_key(*put)
        };
        self.wanted.iter().find(counts).map(|(put, _)| *put)
    }

    /// Whether the content of this put is lacking.
    #[must_use]
    pub fn has(&self, put: Lsn) -> bool {
        self.wanted.contains_key(&put)
    }

    /// Who is known to hold what is lacking: where a reader is sent.
    #[must_use]
    pub fn holders(&self, put: Lsn) -> &[FolderId] {
        self.wanted.get(&put).map_or(&[], |wanted| &wanted.lack.holders)
    }

    /// How many are lacking.
    #[must_use]
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Bytes that are lacking for longer than `age`, that somebody may have, and that the disk does not refuse.
    #[must_use]
    pub fn bytes_older(&self, now: Duration, age: Duration) -> u64 {
        let old = self.wanted.iter().filter(|(put, wanted)| {
            !wanted.homeless
                && !self.refused.contains_key(*put)
                && now.saturating_sub(wanted.since) >= age
        });
        old.fold(0, |sum, (_, wanted)| sum.saturating_add(wanted.lack.size.max(1)))
    }

    pub(super) fn fits(&self, put: Lsn, digest: Option<Digest>) -> bool {
        self.wants(put)
            && self.wanted.get(&put).is_some_and(|wanted| Some(wanted.lack.digest) == digest)
    }

    /// Whether the content of a later put is lacking at the path of this one.
    pub(super) fn behind(&self, put: Lsn, change: &Change) -> bool {
        let Change::Put { path, .. } = change else { return false };
        self.wanted.values().any(|wanted| wanted.lack.put > put && wanted.lack.path == *path)
    }

    /// Whether the content of any later put is lacking.
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
            homeless: false,
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
        let Some(wanted) = self.wanted.remove(&put) else { return false };
        self.ready[class_of(&wanted)].remove(&put);
        self.later.remove(&(wanted.not_before, put));
        self.under_way.remove(&put);
        true
    }

    /// Follows a change in what is lacking; `lacking` are those that came to be so with it.
    pub(super) fn follow(&mut self, told: &CommittedEntry, lacking: &[Lsn], now: Duration) {
        let version = told.entry.version;
        match &told.entry.change {
            Change::Put { path, size, digest, .. } => {
                self.drop_below(path);
                if lacking.contains(&version) {
                    self.add(
                        super::lack_of(path, version, *size, *digest, told.holders.clone()),
                        now,
                    );
                }
            }
            Change::MakeFolder { .. } | Change::SetMode { .. } => {}
            Change::Remove { path, .. } => self.drop_below(path),
            Change::Move { from, to } => {
                if from != to {
                    self.drop_below(to);
                }
                self.rename(from, to);
            }
            Change::Withdraw { .. } => {
                for (path, entry) in &told.restored {
                    self.drop_below(path);
                    let lack = entry
                        .and_then(|entry| super::lack_of_entry(path, &entry))
                        .filter(|lack| lacking.contains(&lack.put));
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
            let path = &wanted.lack.path;
            if path == from || path.is_below(from) {
                let rest = path.as_str().get(from.as_str().len()..).unwrap_or_default();
                if let Ok(new) = TreePath::new(format!("{}{rest}", to.as_str())) {
                    wanted.lack.path = new;
                }
            }
        }
    }

    /// The master names who holds a content.
    pub(super) fn held_by(&mut self, put: Lsn, holders: &[FolderId], now: Duration) {
        if !holders.is_empty() {
            self.given_up.remove(&put);
        }
        if let Some(wanted) = self.wanted.get_mut(&put) {
            let new = holders.iter().any(|folder| !wanted.lack.holders.contains(folder));
            wanted.lack.holders = holders.to_vec();
            wanted.homeless = holders.is_empty();
            if new {
                if self.later.remove(&(wanted.not_before, put)) {
                    self.later.insert((now, put));
                }
                (wanted.not_before, wanted.rounds) = (now, 0);
            }
        }
    }

    /// Whether the content of the put is here now and was lacking.
    pub(super) fn fetched(
        &mut self,
        put: Lsn,
        from: FolderId,
        result: Result<(), FetchFault>,
        now: Duration,
    ) -> bool {
        let waits = self.waits(put);
        let Some(wanted) = self.wanted.get_mut(&put) else { return false };
        match result {
            Ok(()) => return self.remove(put),
            Err(FetchFault::Holder) => {
                wanted.failed.insert(from);
            }
            Err(FetchFault::Local) => wanted.not_before = now + AGAIN,
        }
        wanted.from = None;
        if self.under_way.remove(&put) && !waits {
            self.later.insert((wanted.not_before, put));
        }
        false
    }

    /// Begins what can be fetched now.
    pub(super) fn next(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some((_, put)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.pop_first();
            if let Some(wanted) = self.wanted.get(&put) {
                self.ready[class_of(wanted)].insert(put);
            }
        }
        let mut busy: BTreeMap<FolderId, usize> = BTreeMap::new();
        let mut places = [SMALL_PLACES, LARGE_PLACES];
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
        // The oldest first, of those for which there is a place.
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
                wanted.not_before = now + AGAIN * 2u32.pow(wanted.rounds);
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

/// Which places a content takes.
fn class_of(wanted: &FetchTask) -> usize {
    usize::from(wanted.lack.size >= LARGE)
}

/// The holder that sends us least; among equals the first one behind a place that differs from slave to slave and from put to put.
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
