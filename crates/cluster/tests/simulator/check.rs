//! The invariants. The check keeps its own record of all changes, and never uses the state of the
//! library as a reference.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use relais_cluster::{Entry, HistoryHash, MasterState, ReplicaPosition, Tree, next_history_hash};
use relais_proto::{
    Annotations, Change, ChangeId, Digest, Lock, LockToken, LogEntry, Lsn, TreePath,
};

use crate::disk::{Value, digest};
use crate::master::SEED;
use crate::net::{MASTERS, SLAVES};
use crate::world::World;

pub const ACKED_KEPT: &str =
    "no acknowledged change is lost while fewer than `copies` disks are lost";
pub const WHOLE: &str = "visible content is the content of one put, whole";
pub const NEVER_BACK: &str = "per slave and path the entry's number never goes back";
pub const TREES_EQUAL: &str = "each tree equals the fold of the journal";
pub const REMOVED_STAYS: &str = "nothing whose last change is rm exists";
pub const FRESH: &str = "a session never reads below its number";
pub const NUMBERS_ONCE: &str = "no number is given twice, none taken back";
pub const ID_ONCE: &str = "a change id takes effect once";
pub const COVERED: &str = "nothing is deleted that no change covers";
pub const EPOCH_REFUSED: &str = "a lower epoch is always refused";
pub const BRANCH_KEPT: &str =
    "what was acknowledged on a branch is in the tree, quarantined, or replaced by its own history";
pub const ANNOTATED: &str = "each tree has the properties, locks and hashes of the journal";
pub const LOCKED: &str = "no session changes what a lock of another holder covers";
pub const RESTS: &str = "after healing everything comes to rest";

#[derive(Debug, Clone)]
pub struct Violation {
    pub of: &'static str,
    pub what: String,
}

type Listed = Rc<Vec<(TreePath, Entry)>>;

/// A history, as the journal of one master makes it.
#[derive(Default, Clone)]
pub struct Line {
    /// Number of the history. A restored or copied disk and a recovery begin another one.
    pub name: u32,
    tree: Tree,
    numbers: BTreeMap<Lsn, ChangeId>,
    pub ids: BTreeMap<ChangeId, Lsn>,
    /// Removed and replaced files, by path and digest.
    pub gone: BTreeSet<(TreePath, Digest)>,
    /// Paths whose last change was a removal.
    removed: BTreeSet<TreePath>,
}

#[derive(Default)]
pub struct Checks {
    pub violation: Option<Violation>,
    /// Number of links and sessions so far.
    pub links: u64,
    /// Planted bug: entries that were cut off a listing.
    pub cut_entries: u64,
    pub lines: [Line; MASTERS],
    names: u32,
    /// Tree of the journal after each change, by the history hash, with the number of its history.
    trees: BTreeMap<[u8; 32], (u32, Listed)>,
    /// Properties, locks and hashes after each change, by the history hash.
    annotations: BTreeMap<[u8; 32], Rc<Annotations>>,
    /// Tokens of each requested change.
    pub tokens: BTreeMap<ChangeId, Vec<LockToken>>,
    /// Latest tree of each history that a slave had.
    tips: BTreeMap<u32, (Lsn, Listed)>,
    /// Bytes of each put, by digest. A put has several contents if there are branches.
    values: BTreeMap<Lsn, BTreeSet<Digest>>,
    /// Digest of each requested put.
    puts: BTreeMap<ChangeId, Digest>,
    /// Local changes in a folder.
    pub found: BTreeSet<ChangeId>,
    /// Contents of local changes that got a number.
    offered: BTreeSet<Digest>,
    pub acked: BTreeMap<ChangeId, Lsn>,
    /// Acknowledged contents of a history that did not survive, which this history still has.
    owed: BTreeSet<Digest>,
    /// Contents of which a user has destroyed a copy in a folder.
    pub exempt: BTreeSet<Digest>,
    /// Whether there were several histories.
    pub branched: bool,
}

impl Checks {
    pub fn violate(&mut self, of: &'static str, what: String) {
        self.violation.get_or_insert(Violation { of, what });
    }

    fn remember(&mut self, master: usize, chain: HistoryHash) {
        let line = &self.lines[master];
        let all = line.tree.iter().collect();
        self.trees.insert(chain.0, (line.name, Rc::new(all)));
        self.annotations.insert(chain.0, Rc::new(line.tree.annotations()));
    }

    /// Returns whether one history replaced or removed a put that all histories had. Its holders
    /// may have dropped the content.
    fn is_replaced_on_a_branch(&self, put: Lsn, digest: &Digest) -> bool {
        let missing = |(last, tree): &(Lsn, Listed)| {
            *last > put
                && !tree.iter().any(|(_, entry)| {
                    entry.content.is_some_and(|content| content.digest == *digest)
                })
        };
        self.branched && self.tips.values().any(missing)
    }

    fn next_name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    /// Records that a master continues from an older state.
    pub fn goes_on_from(&mut self, master: usize, line: Line) {
        self.lines[master] = Line { name: self.next_name(), ..line };
    }

    /// Records that a change is in a journal.
    pub fn log_entry(
        &mut self,
        log_entry: &LogEntry,
        master: usize,
        real: bool,
        chain: HistoryHash,
    ) {
        let version = log_entry.version;
        if !real {
            self.violate(EPOCH_REFUSED, format!("an old master has numbered {version}"));
        }
        let replaced = match &log_entry.change {
            Change::Withdraw { of } => {
                let id = self.lines[master].numbers.get(of);
                let digest = id.and_then(|id| self.puts.get(id));
                digest.is_some_and(|digest| self.is_replaced_on_a_branch(*of, digest))
            }
            _ => false,
        };
        let found = self.found.contains(&log_entry.id);
        let tokens = self.tokens.get(&log_entry.id).cloned().unwrap_or_default();
        let line = &mut self.lines[master];
        let mut wrong = Vec::new();
        if !found && let Some(lock) = covering_lock(line.tree.annotations(), log_entry, &tokens) {
            wrong.push((LOCKED, format!("{log_entry:?} with {tokens:?} in spite of {lock:?}")));
        }
        if line.numbers.insert(version, log_entry.id).is_some() {
            wrong.push((NUMBERS_ONCE, format!("{version} was given twice")));
        }
        if version <= line.tree.last() {
            let what = format!("{version} comes behind {}", line.tree.last());
            wrong.push((NUMBERS_ONCE, what));
        }
        if let Some(first) = line.ids.insert(log_entry.id, version) {
            let what = format!("{:?} has the numbers {first} and {version}", log_entry.id);
            wrong.push((ID_ONCE, what));
        }
        match &log_entry.change {
            Change::Put { path, digest, .. } => {
                self.values.entry(version).or_default().insert(*digest);
                self.puts.insert(log_entry.id, *digest);
                if self.found.contains(&log_entry.id) {
                    self.offered.insert(*digest);
                    if line.gone.contains(&(path.clone(), *digest)) {
                        let what = format!(
                            "{path} was removed, was found again, and got the number {version}"
                        );
                        wrong.push((REMOVED_STAYS, what));
                    }
                }
                line.removed.remove(path);
            }
            Change::MakeFolder { path, .. } => {
                line.removed.remove(path);
            }
            Change::Withdraw { of } => {
                let id = line.numbers.get(of);
                let acked = id.is_some_and(|id| self.acked.get(id) == Some(of));
                let exempt = id
                    .and_then(|id| self.puts.get(id))
                    .is_some_and(|digest| replaced || self.exempt.contains(digest));
                if acked && !exempt {
                    let what = format!("{of} was acknowledged, and is withdrawn");
                    wrong.push((ACKED_KEPT, what));
                }
            }
            Change::Remove { .. }
            | Change::Move { .. }
            | Change::SetAttributes { .. }
            | Change::SetProperties { .. }
            | Change::Lock { .. }
            | Change::Unlock { .. }
            | Change::RecordSha256 { .. } => {}
        }
        let effects = line.tree.apply(log_entry);
        for (path, entry) in effects.gone {
            let now = line.tree.get(&path);
            if now.is_none() {
                line.removed.insert(path.clone());
            }
            let withdrawn = matches!(log_entry.change, Change::Withdraw { .. });
            if let Some(content) = entry.content
                && !withdrawn
                && now.and_then(|now| now.content).is_none_or(|now| now.digest != content.digest)
            {
                line.gone.insert((path, content.digest));
            }
        }
        if let Change::Move { to, .. } = &log_entry.change {
            let here: Vec<TreePath> = line
                .removed
                .iter()
                .filter(|path| *path == to || path.is_below(to))
                .cloned()
                .collect();
            here.iter().filter(|path| line.tree.get(path).is_some()).for_each(|path| {
                line.removed.remove(path);
            });
        }
        for (path, entry) in &effects.restored {
            if entry.is_some() {
                line.removed.remove(path);
            }
            // Destroying the new content also destroys the content that it replaced.
            if let (Change::Withdraw { of }, Some(content)) =
                (&log_entry.change, entry.and_then(|entry| entry.content))
                && let Some(digest) = line.numbers.get(of).and_then(|id| self.puts.get(id))
                && self.exempt.contains(digest)
            {
                self.exempt.insert(content.digest);
            }
        }
        wrong.into_iter().for_each(|(of, what)| self.violate(of, what));
        self.remember(master, chain);
    }

    /// Records that the journal has only this state.
    pub fn begin_again(&mut self, journal: &[([u8; 16], LogEntry)]) {
        self.lines[0] = Line { name: self.next_name(), ..Line::default() };
        (self.trees, self.values) = Default::default();
        let mut chain = SEED;
        for (_, log_entry) in journal {
            chain = next_history_hash(chain, log_entry);
            self.log_entry(log_entry, 0, true, chain);
        }
    }

    /// Records a recovery: from now on the tree after `last` counts.
    pub fn recovered(&mut self, state: &MasterState, last: Lsn, branched: bool) {
        self.lines[0].ids = state.ids().collect();
        if branched {
            self.owe(state);
        } else if let Some((id, version)) =
            self.acked.iter().find(|(id, version)| state.number_of(**id) != Some(**version))
        {
            let what = format!(
                "{id:?} was acknowledged as {version}, and the recovered tree is without it"
            );
            // The ids are checked separately.
            if *version > last {
                self.violate(ACKED_KEPT, what);
            }
        }
        let entries: Vec<_> = state.tree().iter().collect();
        let name = self.next_name();
        let line = &mut self.lines[0];
        line.name = name;
        let Annotations { properties, hashes, .. } = line.tree.annotations();
        // The slave that gives the tree may be behind this history.
        let kept = state.tree().annotations();
        if !branched && line.tree.last() == last {
            assert_eq!((&kept.properties, &kept.hashes), (&properties, &hashes));
        }
        assert_eq!(kept.locks, []);
        line.tree = Tree::listed(entries, state.last()).annotated(kept);
        line.removed.retain(|path| line.tree.get(path).is_none());
        // The new journal has no earlier removal records.
        line.gone.clear();
        self.remember(0, state.chain());
    }

    /// Adds the contents that other histories acknowledged and did not replace: this history must
    /// keep them.
    fn owe(&mut self, state: &MasterState) {
        let lost: Vec<(ChangeId, Lsn)> = self
            .acked
            .iter()
            .filter(|(id, version)| state.number_of(**id) != Some(**version))
            .map(|(id, version)| (*id, *version))
            .collect();
        for (id, acked) in lost {
            self.acked.remove(&id);
            // A put that was requested on both sides is also part of this history.
            if let Some(version) = state.number_of(id) {
                self.acked.insert(id, version);
                continue;
            }
            let Some(digest) = self.puts.get(&id) else { continue };
            // Another history may have the change too, under another number, without an answer.
            let has = |(_, tree): &(Lsn, Listed)| {
                tree.iter().any(|(_, entry)| {
                    entry
                        .content
                        .is_some_and(|content| content.put == acked && content.digest == *digest)
                })
            };
            if self.tips.values().any(has) {
                self.owed.insert(*digest);
            }
        }
    }

    /// Checks that ids from before a recovery are still known.
    pub fn knows(&mut self, id: ChangeId, version: Lsn) {
        self.lines[0].ids.entry(id).or_insert(version);
    }

    pub fn tree_at(&self, chain: HistoryHash) -> Option<&Listed> {
        self.trees.get(&chain.0).map(|(_, tree)| tree)
    }

    pub fn is_whole(&mut self, slave: usize, put: Lsn, value: Value) {
        if self.values.get(&put).is_some_and(|wanted| !wanted.contains(&digest(value))) {
            self.violate(WHOLE, format!("slave {slave} shows content {value:x} as {put}"));
        }
    }

    /// Checks that a slave's tree is the tree of the journal up to its position.
    pub fn same_tree(&mut self, slave: usize, tree: &Tree, position: &ReplicaPosition) {
        let applied = position.applied;
        if applied == Lsn::default() {
            return;
        }
        let Some((line, wanted)) = self.trees.get(&position.chain.0) else {
            return self.violate(
                TREES_EQUAL,
                format!("slave {slave} is at {applied}, which no master has numbered"),
            );
        };
        let tip = self.tips.entry(*line).or_insert_with(|| (applied, wanted.clone()));
        if applied >= tip.0 {
            *tip = (applied, wanted.clone());
        }
        if !tree.iter().eq(wanted.iter().map(|(path, entry)| (path.clone(), *entry))) {
            let of = |entries: Vec<(TreePath, Entry)>| {
                entries
                    .iter()
                    .map(|(path, entry)| {
                        format!(
                            "{path} {} {:?}",
                            entry.version,
                            entry.content.map(|content| content.put)
                        )
                    })
                    .collect::<Vec<_>>()
            };
            let what = format!(
                "slave {slave} at {applied} has {:?}, and the journal {:?}",
                of(tree.iter().collect()),
                of(wanted.to_vec())
            );
            self.violate(TREES_EQUAL, what);
        }
        let annotations = tree.annotations();
        if let Some(wanted) = self.annotations.get(&position.chain.0)
            && annotations != **wanted
        {
            let what = format!("slave {slave} at {applied} has {annotations:?}, not {wanted:?}");
            self.violate(ANNOTATED, what);
        }
    }
}

/// Returns a lock that covers what the change affects, if it holds none of them.
fn covering_lock(
    annotations: Annotations,
    log_entry: &LogEntry,
    tokens: &[LockToken],
) -> Option<Lock> {
    let affected = match &log_entry.change {
        Change::Lock { .. }
        | Change::Unlock { .. }
        | Change::Withdraw { .. }
        | Change::RecordSha256 { .. } => return None,
        change => change.paths(),
    };
    for path in affected {
        let covers = |(at, lock): &(TreePath, Lock)| {
            lock.expires_ms > log_entry.time_ms && (at == path || lock.deep && path.is_below(at))
        };
        let covering: Vec<_> =
            annotations.locks.iter().filter(|lock| covers(lock)).map(|(_, lock)| lock).collect();
        let held =
            |lock: &&&Lock| lock.account == log_entry.id.account() && tokens.contains(&lock.token);
        if let Some(first) = covering.first()
            && !covering.iter().any(|lock| held(&lock))
        {
            return Some((*first).clone());
        }
    }
    None
}

impl World {
    /// Checks a slave after a change on its disk.
    pub fn check_slave(&mut self, slave: usize) {
        let it = &mut self.slaves[slave];
        for (path, entry) in it.disk.now.known.tree.iter() {
            let seen = it.seen.entry(path.clone()).or_default();
            if entry.version < *seen {
                let what = format!("slave {slave}: {path} had {seen} and has {}", entry.version);
                self.checks.violate(NEVER_BACK, what);
            }
            *seen = entry.version;
        }
        let image = &self.slaves[slave].disk.now;
        let position = image.position;
        self.checks.same_tree(slave, &image.known.tree, &position);
        for (put, value) in &image.contents {
            self.checks.is_whole(slave, *put, *value);
        }
    }

    /// Returns what is left to do. At rest all slaves follow, have the same tree, and hold all
    /// available contents.
    pub fn unsettled(&self) -> Option<String> {
        let Some(order) = &self.masters[0].order else {
            return Some("the master is down".to_owned());
        };
        let lost: BTreeSet<Lsn> = order.lost().collect();
        if let Some(client) = self.clients.iter().find(|client| client.is_busy()) {
            return Some(format!("{client:?}"));
        }
        for (at, slave) in self.slaves.iter().enumerate() {
            let image = &slave.disk.now;
            let Some(replica) = &slave.replica else { return Some(format!("slave {at} is down")) };
            if replica.applied() != order.last() || image.position.applied != order.last() {
                return Some(format!("slave {at} is at {} of {}", replica.applied(), order.last()));
            }
            if let Some(lack) = image.missing().iter().find(|lack| !lost.contains(&lack.put)) {
                return Some(format!(
                    "slave {at} lacks {lack:?}, held by {:?}",
                    order.holders().of(lack.put).collect::<Vec<_>>()
                ));
            }
            // A slave retains content that may have to replace a lost one.
            let staged = image.staged.iter().any(|(id, staged)| {
                lost.is_empty()
                    || staged.found.is_some() && !self.checks.lines[0].ids.contains_key(id)
            });
            if staged || !image.edits.is_empty() || image.kept.keys().any(|put| !lost.contains(put))
            {
                return Some(format!(
                    "slave {at} has {:?} {:?} {:?} left",
                    image.staged, image.edits, image.kept
                ));
            }
        }
        None
    }

    /// Checks the end of a run, without faults.
    pub fn check_end(&mut self) {
        let Some(order) = &self.masters[0].order else { return };
        let (last, state) = (order.last(), order.state().clone());
        for slave in 0..SLAVES {
            self.check_slave(slave);
            let applied = self.slaves[slave].disk.now.position.applied;
            if applied != last {
                self.checks
                    .violate(TREES_EQUAL, format!("slave {slave} is at {applied} of {last}"));
            }
            let tree = &self.slaves[slave].disk.now.known.tree;
            if let Some(path) =
                self.checks.lines[0].removed.iter().find(|path| tree.get(path).is_some())
            {
                let what = format!("slave {slave} has {path}, which was removed");
                self.checks.violate(REMOVED_STAYS, what);
            }
        }
        if self.branched {
            self.checks.owe(&state);
        }
        for digest in self.checks.owed.clone() {
            let held = |put: &Lsn| {
                self.slaves.iter().any(|slave| slave.disk.now.contents.contains_key(put))
            };
            let kept = state
                .tree()
                .iter()
                .filter_map(|(_, entry)| entry.content)
                .any(|content| content.digest == digest && held(&content.put));
            let aside = self.slaves.iter().any(|slave| {
                slave.disk.now.aside.iter().any(|(_, value)| crate::disk::digest(*value) == digest)
            });
            let checks = &self.checks;
            let replaced = checks.offered.contains(&digest) || checks.exempt.contains(&digest);
            if !kept && !aside && !replaced {
                let what = format!("content {digest} of a branch is nowhere");
                self.checks.violate(BRANCH_KEPT, what);
            }
        }
        for (id, version) in self.checks.acked.clone() {
            if self.has(crate::bugs::Bug::IdsForgotten) {
                break;
            }
            if state.number_of(id) != Some(version) {
                self.checks.violate(
                    ACKED_KEPT,
                    format!("{id:?} was acknowledged as {version} and is not in the journal"),
                );
            }
            let exempt = self.checks.puts.get(&id).is_some_and(|put| {
                self.checks.exempt.contains(put)
                    || self.checks.is_replaced_on_a_branch(version, put)
            });
            let in_tree = state.tree().path_of(version).is_some() && !exempt;
            if in_tree
                && !self.slaves.iter().any(|slave| slave.disk.now.contents.contains_key(&version))
            {
                self.checks.violate(ACKED_KEPT, format!("no slave has the content of {version}"));
            }
        }
    }
}
