//! What must hold, whatever happens. It keeps a record of its own, and never asks the library what is right.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use relais_cluster::{Entry, Ledger, Tree};
use relais_proto::{Change, ChangeId, Digest, Numbered, TreePath, Version};

use crate::disk::{Value, digest};
use crate::net::SLAVES;
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
pub const RESTS: &str = "after healing everything comes to rest";

#[derive(Debug, Clone)]
pub struct Violation {
    pub of: &'static str,
    pub what: String,
}

type Listed = Rc<Vec<(TreePath, Entry)>>;

#[derive(Default)]
pub struct Checks {
    pub violation: Option<Violation>,
    /// Links and sessions so far.
    pub links: u64,
    /// For a planted bug: entries that were cut off a listing.
    pub cut_entries: u64,
    tree: Tree,
    /// The fold of the journal after each change.
    trees: BTreeMap<Version, Listed>,
    numbers: BTreeMap<Version, ChangeId>,
    ids: BTreeMap<ChangeId, Version>,
    /// The bytes of each put, by the digest.
    values: BTreeMap<Version, Digest>,
    /// Files that went, by path and digest.
    pub gone: BTreeSet<(TreePath, Digest)>,
    /// Paths whose last change was a removal.
    removed: BTreeSet<TreePath>,
    /// Changes that were found in a folder.
    pub found: BTreeSet<ChangeId>,
    pub acked: BTreeMap<ChangeId, Version>,
    /// Contents of which a user has destroyed a copy by hand.
    pub exempt: BTreeSet<Version>,
}

impl Checks {
    pub fn violate(&mut self, of: &'static str, what: String) {
        self.violation.get_or_insert(Violation { of, what });
    }

    fn remember(&mut self) {
        let all = self.tree.iter().map(|(path, entry)| (path.clone(), *entry)).collect();
        self.trees.insert(self.tree.last(), Rc::new(all));
    }

    /// A change is in a journal.
    pub fn numbered(&mut self, numbered: &Numbered, real: bool) {
        let version = numbered.version;
        if !real {
            self.violate(EPOCH_REFUSED, format!("an old master has numbered {version}"));
        }
        if self.numbers.insert(version, numbered.id).is_some() {
            self.violate(NUMBERS_ONCE, format!("{version} was given twice"));
        }
        if version <= self.tree.last() {
            self.violate(NUMBERS_ONCE, format!("{version} comes behind {}", self.tree.last()));
        }
        if let Some(first) = self.ids.insert(numbered.id, version) {
            self.violate(
                ID_ONCE,
                format!("{:?} has the numbers {first} and {version}", numbered.id),
            );
        }
        match &numbered.change {
            Change::Put { path, digest, .. } => {
                self.values.insert(version, *digest);
                if self.found.contains(&numbered.id) && self.gone.contains(&(path.clone(), *digest))
                {
                    self.violate(
                        REMOVED_STAYS,
                        format!(
                            "{path} was removed, was found again, and got the number {version}"
                        ),
                    );
                }
                self.removed.remove(path);
            }
            Change::MakeFolder { path, .. } => {
                self.removed.remove(path);
            }
            Change::Withdraw { of } => {
                if self.acked.values().any(|acked| acked == of) && !self.exempt.contains(of) {
                    self.violate(ACKED_KEPT, format!("{of} was acknowledged, and is withdrawn"));
                }
            }
            Change::Remove { .. } | Change::Move { .. } | Change::SetMode { .. } => {}
        }
        let effects = self.tree.apply(numbered);
        for (path, entry) in effects.gone {
            let now = self.tree.get(&path);
            if now.is_none() {
                self.removed.insert(path.clone());
            }
            let withdrawn = matches!(numbered.change, Change::Withdraw { .. });
            if let Some(content) = entry.content
                && !withdrawn
                // What was moved is in the tree still.
                && self.tree.path_of(content.put).is_none()
                && now.and_then(|now| now.content).is_none_or(|now| now.digest != content.digest)
            {
                self.gone.insert((path, content.digest));
            }
        }
        if let Change::Move { to, .. } = &numbered.change {
            let here: Vec<TreePath> = self
                .removed
                .iter()
                .filter(|path| *path == to || path.is_below(to))
                .cloned()
                .collect();
            here.iter().filter(|path| self.tree.get(path).is_some()).for_each(|path| {
                self.removed.remove(path);
            });
        }
        for (path, entry) in &effects.restored {
            if entry.is_some() {
                self.removed.remove(path);
            }
            // Who destroys what has replaced something destroys that too.
            if let (Change::Withdraw { of }, Some(content)) =
                (&numbered.change, entry.and_then(|entry| entry.content))
                && self.exempt.contains(of)
            {
                self.exempt.insert(content.put);
            }
        }
        self.remember();
    }

    /// The journal is only this any more.
    pub fn begin_again(&mut self, journal: &[Numbered]) {
        self.tree = Tree::new();
        (self.trees, self.numbers, self.ids) = Default::default();
        (self.values, self.gone, self.removed) = Default::default();
        journal.iter().for_each(|numbered| self.numbered(numbered, true));
    }

    /// A cluster was recovered: what counts now is this tree.
    pub fn recovered(&mut self, ledger: &Ledger) {
        self.ids = ledger.ids().collect();
        if let Some((id, version)) =
            self.acked.iter().find(|(id, version)| ledger.number_of(**id) != Some(**version))
        {
            let what = format!(
                "{id:?} was acknowledged as {version}, and the recovered tree is without it"
            );
            // Whether the ids are there is another matter.
            if *version > ledger.ends().last().copied().unwrap_or_default() {
                self.violate(ACKED_KEPT, what);
            }
        }
        let entries: Vec<_> =
            ledger.tree().iter().map(|(path, entry)| (path.clone(), *entry)).collect();
        self.tree = Tree::listed(entries, ledger.last());
        self.removed.retain(|path| self.tree.get(path).is_none());
        // The new journal does not know what was removed before.
        self.gone.clear();
        self.remember();
    }

    /// The ids that were given before a recovery are known still.
    pub fn knows(&mut self, id: ChangeId, version: Version) {
        self.ids.entry(id).or_insert(version);
    }

    pub fn tree_at(&self, version: Version) -> Option<&Listed> {
        self.trees.get(&version)
    }

    pub fn is_whole(&mut self, slave: usize, put: Version, value: Value) {
        if self.values.get(&put).is_some_and(|wanted| *wanted != digest(value)) {
            self.violate(WHOLE, format!("slave {slave} shows content {value:x} as {put}"));
        }
    }

    /// A slave's tree has to be what the journal makes of it up to its number.
    pub fn same_tree(&mut self, slave: usize, tree: &Tree, applied: Version) {
        if applied == Version::default() {
            return;
        }
        let Some(wanted) = self.trees.get(&applied) else {
            return self.violate(
                TREES_EQUAL,
                format!("slave {slave} is at {applied}, which nobody has numbered"),
            );
        };
        if !tree.iter().eq(wanted.iter().map(|(path, entry)| (path, entry))) {
            let of = |entries: Vec<(&TreePath, &Entry)>| {
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
                of(wanted.iter().map(|(path, entry)| (path, entry)).collect())
            );
            self.violate(TREES_EQUAL, what);
        }
    }
}

impl World {
    /// After a change on a slave's disk.
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
        self.checks.same_tree(slave, &image.known.tree, image.standing.applied);
        for (put, value) in &image.contents {
            self.checks.is_whole(slave, *put, *value);
        }
    }

    /// Whether nothing is left to do: all follow, have the same, and hold all that can be had.
    pub fn unsettled(&self) -> Option<String> {
        let Some(order) = &self.masters[0].order else {
            return Some("the master is down".to_owned());
        };
        let lost: BTreeSet<Version> = order.lost().collect();
        if let Some(client) = self.clients.iter().find(|client| client.is_busy()) {
            return Some(format!("{client:?}"));
        }
        for (at, slave) in self.slaves.iter().enumerate() {
            let image = &slave.disk.now;
            let Some(replica) = &slave.replica else { return Some(format!("slave {at} is down")) };
            if replica.applied() != order.last() || image.standing.applied != order.last() {
                return Some(format!("slave {at} is at {} of {}", replica.applied(), order.last()));
            }
            if let Some(lack) = image.lacks().iter().find(|lack| !lost.contains(&lack.put)) {
                return Some(format!(
                    "slave {at} lacks {lack:?}, held by {:?}",
                    order.holders().of(lack.put).collect::<Vec<_>>()
                ));
            }
            // What may have to come back for a lost content is kept.
            let staged = image.staged.iter().any(|(id, staged)| {
                lost.is_empty() || staged.found.is_some() && !self.checks.ids.contains_key(id)
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

    /// At the end, when all is quiet.
    pub fn check_end(&mut self) {
        let Some(order) = &self.masters[0].order else { return };
        let (last, ledger) = (order.last(), order.ledger().clone());
        for slave in 0..SLAVES {
            self.check_slave(slave);
            let applied = self.slaves[slave].disk.now.standing.applied;
            if applied != last {
                self.checks
                    .violate(TREES_EQUAL, format!("slave {slave} is at {applied} of {last}"));
            }
            let tree = &self.slaves[slave].disk.now.known.tree;
            if let Some(path) = self.checks.removed.iter().find(|path| tree.get(path).is_some()) {
                let what = format!("slave {slave} has {path}, which was removed");
                self.checks.violate(REMOVED_STAYS, what);
            }
        }
        for (id, version) in self.checks.acked.clone() {
            if self.has(crate::bugs::Bug::IdsForgotten) {
                break;
            }
            if ledger.number_of(id) != Some(version) {
                self.checks.violate(
                    ACKED_KEPT,
                    format!("{id:?} was acknowledged as {version} and is not in the journal"),
                );
            }
            let in_tree =
                ledger.tree().path_of(version).is_some() && !self.checks.exempt.contains(&version);
            if in_tree
                && !self.slaves.iter().any(|slave| slave.disk.now.contents.contains_key(&version))
            {
                self.checks.violate(ACKED_KEPT, format!("no slave has the content of {version}"));
            }
        }
    }
}
