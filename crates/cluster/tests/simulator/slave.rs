//! A slave's shell: the disk, the folder, other slaves, and the link.

use std::collections::{BTreeMap, BTreeSet};

use relais_cluster::replica::{
    Action, Event, FetchFault, ProposalResult, ReceivedTree, Replica, SessionId, compare,
};
use relais_cluster::{
    ChangeRequest, CommittedEntry, Entry, LARGE, LinkId, ReplicaPosition, Tree, TreeState,
    next_history_hash, timeline,
};
use relais_proto::{
    Annotations, Change, ChangeId, Digest, Expect, FileTime, FolderId, Lsn, Mode, TreePath,
};

use crate::bugs::Bug;
use crate::check::COVERED;
use crate::counts::{slave_action, slave_event};
use crate::disk::{Disk, Image, Staged, Value, digest};
use crate::mounts::covers;
use crate::net::{Up, node};
use crate::world::{Due, Reply, Work, World, folder, slave_id, slave_of};

#[derive(Debug, Default)]
pub struct Slave {
    pub replica: Option<Replica>,
    pub life: u64,
    pub link: Option<LinkId>,
    pub disk: Disk,
    /// Shared with readers: changes up to it may be visible.
    pub visible: Lsn,
    /// Shared with readers: changes up to it are applied.
    pub applied: Lsn,
    /// Older copy of the disk.
    pub snapshot: Option<Image>,
    /// Highest epoch that it has received, by the record of the simulator.
    pub heard: u32,
    /// Highest number that readers have seen at each path.
    pub seen: BTreeMap<TreePath, Lsn>,
    /// Time of the last proposal of local changes.
    proposed: BTreeMap<ChangeId, u64>,
    /// Running operation.
    carrying: Option<Vec<CommittedEntry>>,
    /// Recently fetched contents.
    fresh: Vec<(u64, Lsn)>,
    older: Option<Tree>,
}

pub fn size_of(value: Value) -> u64 {
    if value.is_multiple_of(7) { LARGE } else { 1 + value % 5 }
}

pub fn mode_of(value: Value) -> Mode {
    Mode::new(u32::try_from(value % 512).unwrap_or_default())
}

pub fn put_of(path: TreePath, value: Value) -> Change {
    Change::Put {
        path,
        size: size_of(value),
        digest: digest(value),
        mtime: FileTime::default(),
        mode: mode_of(value),
    }
}

impl World {
    pub fn start_slave(&mut self, slave: usize) {
        if self.slaves[slave].replica.is_some() {
            return;
        }
        self.say(|| format!("slave {slave} starts"));
        let epoch_forgotten = self.has(Bug::EpochForgotten);
        let it = &mut self.slaves[slave];
        it.life += 1;
        it.disk.now.free();
        let image = &it.disk.now;
        let mut position = image.position;
        if epoch_forgotten {
            position.epoch = position.applied.epoch;
        }
        // The shell proposes local changes again with their ids.
        let staged = image
            .staged
            .iter()
            .filter(|(_, staged)| staged.found.is_none())
            .map(|(id, _)| *id)
            .collect();
        let missing = image.missing();
        self.recordings.slave_starts(slave, &position, &missing, &staged);
        it.replica = Some(Replica::new(slave_id(slave), folder(slave), position, missing, staged));
        (it.visible, it.applied) = (position.applied, position.applied);
        it.proposed.clear();
        let life = it.life;
        self.check_slave(slave);
        self.report_obstacles(slave);
        self.later(10, Due::Connect { slave, life });
    }

    pub fn crash_slave(&mut self, slave: usize) {
        if self.slaves[slave].replica.is_none() {
            return;
        }
        self.say(|| format!("slave {slave} crashes"));
        if let Some(changes) = self.slaves[slave].carrying.take() {
            let done = self.rng.index(changes.len() + 1);
            if done > 0 && done < changes.len() {
                self.counts.add("fault: half carried");
            }
            self.carry_out(slave, &changes[..done], false);
            self.slaves[slave].disk.sync();
        }
        let written = self.rng.chance(500);
        let (now, bug) = (self.now, self.bug);
        let it = &mut self.slaves[slave];
        it.replica = None;
        it.life += 1;
        it.link = None;
        it.disk.crash(written);
        if bug == Some(Bug::ContentNotSynced) {
            let fresh: BTreeSet<Lsn> =
                it.fresh.iter().filter(|(at, _)| at + 4000 > now).map(|(_, put)| *put).collect();
            it.disk.now.contents.retain(|put, _| !fresh.contains(put));
            it.disk.sync();
        }
        if let (Some(Bug::CatalogueOlder), Some(older)) = (bug, it.older.take()) {
            let now = &it.disk.now.known.tree;
            let entries: Vec<_> = now
                .iter()
                .map(|(path, entry)| {
                    let older = older.get(&path).unwrap_or(entry);
                    (path, older)
                })
                .collect();
            it.disk.now.known.tree = Tree::listed(entries, now.last()).annotated(now.annotations());
            it.disk.sync();
        }
        self.drop_conns(node(slave));
        self.sessions_cut(slave);
    }

    /// Applies the changes on the disk; returns missing contents, and staged contents that could
    /// not be published.
    fn carry_out(
        &mut self,
        slave: usize,
        changes: &[CommittedEntry],
        fails: bool,
    ) -> (Vec<Lsn>, Vec<Lsn>) {
        let (now, bug) = (self.now, self.bug);
        let it = &mut self.slaves[slave];
        let mounts = it.disk.mounts.clone();
        it.older = Some(it.disk.now.known.tree.clone());
        let image = &mut it.disk.now;
        let mut failed = Vec::new();
        for told in changes {
            let (log_entry, version) = (&told.entry, told.entry.version);
            image.position = ReplicaPosition {
                applied: version,
                chain: next_history_hash(image.position.chain, log_entry),
                epoch: image.position.epoch.max(version.epoch),
            };
            match &log_entry.change {
                Change::Put { path, digest: wanted, .. } => {
                    let old = image
                        .known
                        .tree
                        .get(path)
                        .and_then(|entry| entry.content)
                        .map(|content| content.put);
                    image.known.apply(log_entry);
                    if image
                        .staged
                        .get(&log_entry.id)
                        .is_some_and(|staged| digest(staged.value) == *wanted)
                        && let Some(staged) = image.staged.remove(&log_entry.id)
                    {
                        if staged.found.is_none() && (fails || covers(&mounts, path)) {
                            failed.push(version);
                        } else {
                            image.contents.insert(version, staged.value);
                            it.fresh.push((now, version));
                        }
                    }
                    keep_replaced(image, version, old, bug);
                }
                Change::Withdraw { .. } => {
                    image.known.ids.insert(log_entry.id, version);
                    let content = |entry: Entry| entry.content.map(|content| content.put);
                    let old: Vec<_> = told
                        .restored
                        .iter()
                        .map(|(path, _)| image.known.tree.get(path).and_then(content))
                        .collect();
                    image.known.tree.restore(version, &told.restored);
                    for ((_, entry), old) in told.restored.iter().zip(old) {
                        if let Some(new) = entry.and_then(content) {
                            keep_replaced(image, new, old, bug);
                        }
                    }
                }
                Change::Move { .. } if bug == Some(Bug::MovesLeftOut) => {
                    image.known.tree.restore(version, &[])
                }
                _ => {
                    image.known.apply(log_entry);
                }
            }
            image.known.tree.settle(version);
        }
        let missing = brought(changes).filter(|put| !image.contents.contains_key(put)).collect();
        image.free();
        (missing, failed)
    }

    pub fn worked(&mut self, slave: usize, life: u64, work: Work) {
        if self.slaves[slave].life != life {
            return;
        }
        match work {
            Work::Carry { changes, position } => self.carried(slave, &changes, position),
            Work::Adopt { listing, position } => self.adopted(slave, &listing, position),
            Work::Fetch { put, lack, from } => self.fetched(slave, put, lack.digest, from),
            Work::Place { id, put } => self.placed(slave, id, put),
        }
    }

    fn carried(&mut self, slave: usize, changes: &[CommittedEntry], position: ReplicaPosition) {
        self.slaves[slave].carrying = None;
        let it = &mut self.slaves[slave];
        it.visible = position.applied.max(it.applied);
        self.interleave_readers(slave);
        if !self.quiet
            && (self.rng.chance(10) || self.slaves[slave].disk.full && self.rng.chance(300))
        {
            return self.slave_event(slave, Event::ApplyFailed);
        }
        let fails = !self.quiet && self.rng.chance(40);
        let (missing, failed) = self.carry_out(slave, changes, fails);
        let hidden = self.hide_covered(slave);
        if !failed.is_empty() {
            self.counts.add("fault: not placed when carried");
        }
        let it = &mut self.slaves[slave];
        assert_eq!(
            (it.disk.now.position.applied, it.disk.now.position.chain),
            (position.applied, position.chain)
        );
        it.disk.sync();
        self.interleave_readers(slave);
        self.slaves[slave].applied = position.applied;
        self.check_slave(slave);
        for put in missing.iter().chain(hidden.iter().map(|lack| &lack.put)) {
            self.refuse_some(slave, *put);
        }
        self.slave_event(slave, Event::Applied { missing, failed });
        for lack in hidden {
            self.slave_event(slave, Event::Missing(lack));
        }
    }

    fn adopted(&mut self, slave: usize, listing: &ReceivedTree, position: ReplicaPosition) {
        if !self.quiet && self.rng.chance(150) {
            return self.slave_event(slave, Event::AdoptFailed);
        }
        let own = self.slaves[slave].disk.now.known.tree.clone();
        let (applied, timelines) = (own.last(), &self.slaves[slave].disk.now.timelines);
        let mut fork = timeline::fork(timelines, applied, &listing.timelines, listing.lsn);
        if self.has(Bug::NumbersTrusted) {
            fork = applied;
        }
        if fork < applied {
            self.counts.add("fault: branch");
            self.say(|| format!("slave {slave} has a branch behind {fork}, up to {applied}"));
            // Numbers of another history do not count.
            self.slaves[slave].seen.clear();
            self.readers_on_branch(slave);
        }
        let entries: Vec<_> = own.iter().collect();
        let entries = entries.iter().map(|(path, entry)| (path, entry));
        let differences = compare(entries, fork, listing);
        if let Some(wanted) = self.checks.tree_at(position.chain).cloned() {
            for (path, entry) in &differences.gone {
                let put =
                    |entry: &Entry| entry.content.map(|content| (content.put, content.digest));
                if wanted.iter().any(|(other, there)| other == path && put(there) == put(entry)) {
                    self.checks.violate(
                        COVERED,
                        format!("slave {slave} deletes {path}, which no change has removed"),
                    );
                }
            }
        }
        let it = &mut self.slaves[slave];
        it.visible = position.applied.max(it.applied);
        self.interleave_readers(slave);
        let bug = self.bug;
        let ids: Vec<ChangeId> =
            differences.strays.iter().map(|_| ChangeId(self.rng.bytes())).collect();
        let it = &mut self.slaves[slave];
        // Changes that were refused before are part of the tree now.
        it.carrying = None;
        let image = &mut it.disk.now;
        for (stray, id) in differences.strays.iter().zip(ids) {
            let Some(content) = stray.entry.content else { continue };
            if let Some((path, value)) = image.hidden.get(&content.put) {
                // The content is moved away after the unmount.
                image.aside.push((path.clone(), *value));
                continue;
            }
            let Some(value) = image.contents.get(&content.put).copied() else {
                // The replaced content may be the only one left.
                let kept = image.kept.get(&content.put).filter(|kept| **kept > fork);
                let value = kept.and_then(|kept| image.value(*kept));
                image.aside.extend(value.map(|value| (stray.path.clone(), value)));
                continue;
            };
            match stray.expect {
                Some(expect) => {
                    image
                        .staged
                        .insert(id, Staged { value, found: Some((stray.path.clone(), expect)) });
                    self.checks.found.insert(id);
                }
                None => image.aside.push((stray.path.clone(), value)),
            }
        }
        if !differences.strays.is_empty() {
            self.counts.add("fault: strays");
        }
        let content = |entry: Entry| entry.content.map(|content| content.put);
        for (path, entry) in &differences.come {
            let old = image.known.tree.get(path).and_then(content);
            if let Some(new) = content(*entry).filter(|new| old != Some(*new)) {
                keep_replaced(image, new, old, bug);
            }
        }
        let tree = Tree::listed(listing.entries.iter().cloned(), listing.lsn).annotated(
            if bug == Some(Bug::AnnotationsDropped) {
                Annotations::default()
            } else {
                listing.annotations.clone()
            },
        );
        image.known = TreeState { tree, ids: listing.ids.iter().copied().collect() };
        image.timelines.clone_from(&listing.timelines);
        image.take_over_contents(&own, fork);
        image.position =
            ReplicaPosition { epoch: image.position.epoch.max(position.epoch), ..position };
        image.free();
        self.hide_covered(slave);
        let missing = self.slaves[slave].disk.now.missing();
        self.slaves[slave].disk.sync();
        self.interleave_readers(slave);
        self.slaves[slave].applied = position.applied;
        self.check_slave(slave);
        for lack in &missing {
            if self.is_covered(slave, lack.put)
                || self.slaves[slave].disk.now.hidden.contains_key(&lack.put)
            {
                self.report_obstacle(slave, lack.put);
            }
        }
        self.slave_event(slave, Event::Adopted { missing });
    }

    fn fetched(&mut self, slave: usize, put: Lsn, wanted: Digest, from: FolderId) {
        let source = slave_of(from);
        let reached =
            !self.is_cut(node(slave), node(source)) && !self.is_cut(node(source), node(slave));
        let there = self.slaves[source].disk.now.contents.get(&put).copied();
        let sent = there.filter(|_| {
            self.slaves[source].replica.is_some() && reached && (self.quiet || !self.rng.chance(20))
        });
        let sent = match sent {
            None if self.has(Bug::FetchNotChecked) => Some(!0),
            Some(value) if digest(value) != wanted && !self.has(Bug::FetchNotChecked) => None,
            sent => sent,
        };
        let known = self.slaves[slave].disk.now.known.tree.path_of(put).is_some();
        let wants = self.slaves[slave].replica.as_ref().is_some_and(|replica| replica.wants(put));
        let fault = match sent {
            // The content was given up meanwhile.
            Some(_) if !wants && known => Some(FetchFault::Local),
            None => Some(FetchFault::Holder),
            Some(_) if self.slaves[slave].disk.full || self.refuse_some(slave, put) => {
                Some(FetchFault::Local)
            }
            // The content left the tree meanwhile.
            Some(_) if !known => None,
            Some(value) => {
                self.store(slave, put, value);
                None
            }
        };
        self.slave_event(slave, Event::Fetched { put, from, fault });
    }

    /// Returns whether the disk refuses this content at its path; some refusals begin here.
    fn refuse_some(&mut self, slave: usize, put: Lsn) -> bool {
        if self.is_covered(slave, put) || self.slaves[slave].disk.now.hidden.contains_key(&put) {
            self.report_obstacle(slave, put);
            return true;
        }
        let refusing = !self.quiet && self.slaves[slave].disk.refusing && self.rng.chance(500);
        let disk = &mut self.slaves[slave].disk;
        if refusing && disk.refused.insert(put) {
            self.slave_event(slave, Event::Refused { put, retry: false });
        }
        self.slaves[slave].disk.refused.contains(&put)
    }

    pub fn store(&mut self, slave: usize, put: Lsn, value: Value) {
        let now = self.now;
        let it = &mut self.slaves[slave];
        it.disk.now.contents.insert(put, value);
        it.disk.now.free();
        it.fresh.push((now, put));
        it.disk.sync();
        self.check_slave(slave);
    }

    fn placed(&mut self, slave: usize, id: ChangeId, put: Lsn) {
        let wants = self.slaves[slave].replica.as_ref().is_some_and(|replica| replica.wants(put));
        let covered = self.is_covered(slave, put);
        let ok = wants && !covered && (self.quiet || !self.rng.chance(200));
        let image = &mut self.slaves[slave].disk.now;
        let wanted = image
            .known
            .tree
            .path_of(put)
            .and_then(|path| image.known.tree.get(&path))
            .and_then(|entry| entry.content);
        let value = image.staged.get(&id).map(|staged| staged.value);
        let ok = match (wanted, value) {
            (Some(content), Some(value)) if ok && digest(value) == content.digest => {
                image.staged.remove(&id);
                self.store(slave, put, value);
                true
            }
            (Some(_), _) => image.contents.contains_key(&put),
            (None, _) => true,
        };
        self.slave_event(slave, Event::Published { id, put, ok });
    }

    pub fn slave_event(&mut self, slave: usize, event: Event) {
        let now = std::time::Duration::from_millis(self.now);
        if !matches!(event, Event::Received(_) | Event::Tick) {
            self.say(|| format!("slave {slave}: {event:?}"));
        }
        let Some(replica) = &mut self.slaves[slave].replica else { return };
        self.counts.add(slave_event(&event));
        self.recordings.slave_event(slave, &event, now);
        let actions = replica.on(event, now);
        self.recordings.slave_actions(slave, &actions);
        for action in actions {
            self.counts.add(slave_action(&action));
            self.act(slave, action);
        }
    }

    fn act(&mut self, slave: usize, action: Action) {
        let life = self.slaves[slave].life;
        match action {
            Action::Send(message) => {
                if let Some(link) = self.slaves[slave].link {
                    self.send_up(link, Up::Message(message));
                }
            }
            Action::Close(why) => {
                self.say(|| format!("slave {slave} closes: {}", why.message));
                if let Some(link) = self.slaves[slave].link.take() {
                    self.close_at_slave(link);
                }
                let wait = self.rng.between(100, 800);
                self.later(wait, Due::Connect { slave, life });
            }
            Action::RaiseEpoch(epoch) => {
                let it = &mut self.slaves[slave];
                it.disk.now.position.epoch = it.disk.now.position.epoch.max(epoch);
                it.disk.sync();
            }
            Action::BeginHistory(chain) => {
                let it = &mut self.slaves[slave];
                it.disk.now.position.chain = chain;
                it.disk.sync();
            }
            Action::SetTimelines(timelines) => {
                let it = &mut self.slaves[slave];
                it.disk.now.timelines = timelines;
                it.disk.sync();
            }
            Action::Apply { changes, position } => {
                self.say(|| format!("slave {slave} carries out up to {}", position.applied));
                self.slaves[slave].carrying = Some(changes.clone());
                let wait = if self.rng.chance(100) {
                    self.rng.between(60, 600)
                } else {
                    self.rng.between(1, 60)
                };
                if changes.len() > 1 && self.rng.chance(150) {
                    self.later(wait - 1, Due::CrashSlave { slave, life });
                }
                self.later(
                    wait,
                    Due::Work { slave, life, work: Work::Carry { changes, position } },
                );
            }
            Action::Adopt { listing, position } => {
                // After the running operation.
                self.later(601, Due::Work { slave, life, work: Work::Adopt { listing, position } });
            }
            Action::Fetch { put, lack, from } => {
                let wait = if lack.size >= LARGE {
                    self.rng.between(200, 2500)
                } else {
                    self.rng.between(5, 400)
                };
                self.later(wait, Due::Work { slave, life, work: Work::Fetch { put, lack, from } });
            }
            Action::Publish { id, put } => {
                let wait = self.rng.between(1, 40);
                self.later(wait, Due::Work { slave, life, work: Work::Place { id, put } });
            }
            Action::Discard(id) => self.discard(slave, id),
            Action::Quarantine { id, .. } => self.set_aside(slave, id),
            Action::Reply { session, id, answer } => self.answer(slave, session, id, answer),
        }
    }

    /// Checks that no local file of a user is destroyed.
    fn discard(&mut self, slave: usize, id: ChangeId) {
        if self.slaves[slave].disk.now.staged.get(&id).is_some_and(|staged| staged.found.is_some())
        {
            return self.set_aside(slave, id);
        }
        self.slaves[slave].disk.now.staged.remove(&id);
        self.slaves[slave].disk.sync();
    }

    fn set_aside(&mut self, slave: usize, id: ChangeId) {
        let image = &mut self.slaves[slave].disk.now;
        if let Some(Staged { value, found: Some((path, _)) }) = image.staged.remove(&id) {
            image.aside.push((path, value));
        }
        self.slaves[slave].disk.sync();
    }

    fn answer(&mut self, slave: usize, session: SessionId, id: ChangeId, answer: ProposalResult) {
        self.say(|| format!("slave {slave} answers {id:?}: {answer:?}"));
        if let ProposalResult::Done { version, .. } = &answer {
            self.checks.acked.insert(id, *version);
        }
        self.respond(session, Reply::Change(answer));
    }

    /// Scans the folder, and passes the time to the replica.
    pub fn slave_tick(&mut self, slave: usize) {
        if self.slaves[slave].replica.is_none() {
            return;
        }
        self.publish_edits(slave);
        self.retry_obstacles(slave);
        self.slave_event(slave, Event::Tick);
        let (now, it) = (self.now, &mut self.slaves[slave]);
        if !it.replica.as_ref().is_some_and(Replica::is_linked) {
            return;
        }
        let mut again = Vec::new();
        for (id, staged) in &it.disk.now.staged {
            let last = it.proposed.get(id).copied();
            if let Some((path, expect)) = &staged.found
                && last.is_none_or(|last| last + 4000 < now)
            {
                again.push(ChangeRequest {
                    id: *id,
                    change: put_of(path.clone(), staged.value),
                    expect: *expect,
                    keep_mode: false,
                    tokens: Vec::new(),
                });
            }
        }
        for request in again {
            self.slaves[slave].proposed.insert(request.id, now);
            self.slave_event(slave, Event::Proposed { session: None, request, copies: 1 });
        }
    }

    fn publish_edits(&mut self, slave: usize) {
        let edits = std::mem::take(&mut self.slaves[slave].disk.now.edits);
        if edits.is_empty() {
            return;
        }
        let mounts = self.slaves[slave].disk.mounts.clone();
        for (path, value) in edits {
            let id = ChangeId(self.rng.bytes());
            let image = &mut self.slaves[slave].disk.now;
            let entry = image.known.tree.get(&path);
            // A scan cannot see local changes below a mount.
            if covers(&mounts, &path) {
                image.aside.push((path, value));
                continue;
            }
            if entry.is_some_and(|entry| entry.content.is_none()) {
                image.aside.push((path, value));
                continue;
            }
            let expect = Expect::exactly(entry.map(|entry| Some(entry.version)));
            image.staged.insert(id, Staged { value, found: Some((path, expect)) });
            self.checks.found.insert(id);
        }
        self.slaves[slave].disk.sync();
    }

    /// A user has removed the content of a path from the folder.
    pub fn destroy(&mut self, slave: usize, path: &TreePath) -> bool {
        let image = &mut self.slaves[slave].disk.now;
        let Some(lack) = image
            .known
            .tree
            .get(path)
            .and_then(|entry| relais_cluster::replica::lack_of_entry(path, &entry))
        else {
            return false;
        };
        if image.contents.remove(&lack.put).is_none() {
            return false;
        }
        self.slaves[slave].disk.sync();
        self.checks.exempt.insert(lack.digest);
        self.slave_event(slave, Event::Missing(lack));
        true
    }
}

/// A slave retains the former content until the new one is here.
fn keep_replaced(image: &mut Image, new: Lsn, old: Option<Lsn>, bug: Option<Bug>) {
    let Some(old) = old.filter(|_| bug != Some(Bug::ReplacedDropped)) else { return };
    if image.contents.contains_key(&new) {
        return;
    }
    if image.contents.contains_key(&old) || image.hidden.contains_key(&old) {
        image.kept.insert(new, old);
    } else if let Some(older) = image.kept.remove(&old) {
        image.kept.insert(new, older);
    }
}

/// Returns the puts whose contents are added or restored by changes.
fn brought(changes: &[CommittedEntry]) -> impl Iterator<Item = Lsn> + '_ {
    changes.iter().flat_map(|told| {
        let put = matches!(told.entry.change, Change::Put { .. }).then_some(told.entry.version);
        let back = told
            .restored
            .iter()
            .filter_map(|(_, entry)| entry.and_then(|entry| entry.content))
            .map(|content| content.put);
        put.into_iter().chain(back)
    })
}
