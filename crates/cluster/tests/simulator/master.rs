//! Shell of a master: journal and links.

use std::collections::BTreeSet;

use relais_cluster::{
    Coordinator, CoordinatorAction, CoordinatorEvent, HistoryHash, MasterState, TreeState,
};
use relais_proto::{ErrorCode, FolderId, LogEntry, Refusal};

use crate::bugs::Bug;
use crate::counts::{change, master_action, master_event};
use crate::net::{Down, SLAVES};
use crate::world::{Due, World};

/// Start of this cluster's hash chain.
pub const SEED: HistoryHash = HistoryHash([7; 32]);

/// Grace period of a starting master for the known slaves.
const OPENING: u64 = 5000;

/// Copy of a master's disk: state, folders and journal.
pub type Disk = (MasterState, BTreeSet<FolderId>, Vec<([u8; 16], LogEntry)>);

#[derive(Debug)]
pub struct Master {
    pub order: Option<Coordinator>,
    pub life: u64,
    /// Contents of the disk.
    pub state: MasterState,
    pub folders: BTreeSet<FolderId>,
    /// Batch that was being written at the crash.
    writing: Vec<LogEntry>,
    pub full: bool,
    /// All journaled changes since the last recovery, with the timelines.
    pub journal: Vec<([u8; 16], LogEntry)>,
    /// Planted bug: the disk before the last batch.
    before: Option<MasterState>,
}

impl Master {
    pub fn new(seeded: bool) -> Self {
        let state = if seeded { MasterState::new(SEED) } else { MasterState::default() };
        Self {
            order: None,
            life: 0,
            state,
            folders: BTreeSet::new(),
            writing: Vec::new(),
            full: false,
            journal: Vec::new(),
            before: None,
        }
    }

    /// Contents of the disk.
    pub fn clone_disk(&self) -> Disk {
        (self.state.clone(), self.folders.clone(), self.journal.clone())
    }

    pub fn epoch(&self) -> u32 {
        self.state.epoch()
    }
}

impl World {
    pub fn start_master(&mut self, master: usize) {
        let it = &mut self.masters[master];
        if it.order.is_some() {
            return;
        }
        it.life += 1;
        let timeline = self.rng.bytes();
        it.state.begin_timeline(timeline);
        self.recordings.master_starts(master, &it.state, &it.folders);
        it.order = Some(Coordinator::new(it.state.clone(), it.folders.clone()));
        let life = it.life;
        self.say(|| format!("master {master} starts"));
        self.later(OPENING, Due::Opened { master, life });
    }

    pub fn crash_master(&mut self, master: usize) {
        let written = self.rng.chance(500);
        let it = &mut self.masters[master];
        if it.order.take().is_none() {
            return;
        }
        it.life += 1;
        let writing = std::mem::take(&mut it.writing);
        if let (Some(before), Some(Bug::JournalNotSynced)) = (it.before.take(), self.bug) {
            it.state = before;
        }
        self.say(|| format!("master {master} crashes"));
        if written && !writing.is_empty() {
            self.counts.add("fault: written, not told");
            self.keep(master, writing);
        }
        self.drop_conns(master);
    }

    /// The batch is in the journal.
    fn keep(&mut self, master: usize, batch: Vec<LogEntry>) {
        if self.has(Bug::JournalNotSynced) {
            self.masters[master].before = Some(self.masters[master].state.clone());
        }
        for log_entry in batch {
            let real = master == 0 || self.copies_run;
            let it = &mut self.masters[master];
            let timeline = it.state.timelines().last().map_or([0; 16], |last| last.id);
            it.journal.push((timeline, log_entry.clone()));
            it.state.apply(log_entry.clone());
            let chain = it.state.chain();
            self.counts.add(change(&log_entry.change));
            self.checks.log_entry(&log_entry, master, real, chain);
        }
    }

    pub fn journaled(&mut self, master: usize, life: u64, batch: Vec<LogEntry>) {
        if self.masters[master].life != life {
            return;
        }
        self.masters[master].writing.clear();
        if self.masters[master].full {
            self.counts.add("fault: journal full");
            let refusal = Refusal::new(ErrorCode::NoSpace, "the journal's disk is full");
            return self
                .master_event(master, CoordinatorEvent::WriteFailed { for_good: false, refusal });
        }
        if !self.quiet && self.rng.chance(12) {
            // The sync failed: the contents of the disk are unknown until the next start.
            if self.rng.chance(500) {
                self.keep(master, batch);
            }
            let refusal = Refusal::new(ErrorCode::NoChanges, "the journal cannot be written");
            return self
                .master_event(master, CoordinatorEvent::WriteFailed { for_good: true, refusal });
        }
        self.keep(master, batch);
        self.master_event(master, CoordinatorEvent::Written);
    }

    pub fn opened(&mut self, master: usize, life: u64) {
        if self.masters[master].life == life
            && self.masters[master].order.as_ref().is_some_and(Coordinator::is_opening)
        {
            self.master_event(master, CoordinatorEvent::GraceEnded);
        }
    }

    pub fn master_event(&mut self, master: usize, event: CoordinatorEvent) {
        let now = self.now;
        let Some(order) = &mut self.masters[master].order else { return };
        self.counts.add(master_event(&event));
        self.recordings.master_event(master, &event, now);
        let actions = order.on(event, now);
        self.recordings.master_actions(master, &actions);
        for action in actions {
            self.counts.add(master_action(&action));
            match action {
                CoordinatorAction::Write(batch) => {
                    let wait = if self.rng.chance(100) {
                        self.rng.between(30, 400)
                    } else {
                        self.rng.between(1, 30)
                    };
                    let life = self.masters[master].life;
                    self.masters[master].writing.clone_from(&batch);
                    if master == 0 && self.rng.chance(15) {
                        self.later(wait - 1, Due::CrashMaster { life });
                    }
                    self.later(wait, Due::Journal { master, life, batch });
                }
                CoordinatorAction::Send { link, message } => {
                    self.send_down(link, Down::Message(message))
                }
                CoordinatorAction::Close { link } => self.close_at_master(link),
                CoordinatorAction::AddFolder { folder } => {
                    self.masters[master].folders.insert(folder);
                }
                CoordinatorAction::Halted(halt) => {
                    self.say(|| format!("master {master} halts: {halt:?}"))
                }
                // A report of a holder may be in flight; a permanent loss shows at the end.
                CoordinatorAction::Lost { put } => self.say(|| format!("{put} is lost")),
            }
        }
    }

    /// Recovery by an operator: the slave with the most changes gives the tree, in a new highest
    /// epoch.
    pub fn recover(&mut self) {
        self.crash_master(0);
        self.masters[0].full = false;
        let heard =
            (0..SLAVES).map(|slave| self.slaves[slave].disk.now.position.epoch).max().unwrap_or(0);
        let epoch = heard.max(self.masters[0].epoch()) + 1;
        for slave in 0..SLAVES {
            if self.slaves[slave].replica.is_some() {
                self.slaves[slave].heard = epoch;
                self.slave_event(slave, relais_cluster::replica::Event::Recovering(epoch));
            }
        }
        // An operator sees only running slaves. Without a branch no absent slave has the latest
        // changes.
        let is_there = |slave: &usize| !self.branched || self.slaves[*slave].replica.is_some();
        let Some(best) = (0..SLAVES)
            .filter(is_there)
            .max_by_key(|slave| self.slaves[*slave].disk.now.position.applied)
        else {
            return;
        };
        let image = &self.slaves[best].disk.now;
        let ids = if self.has(Bug::IdsForgotten) {
            std::collections::HashMap::new()
        } else {
            image.known.ids.clone()
        };
        let known = TreeState { tree: image.known.tree.clone(), ids };
        let last = known.tree.last();
        let seed = HistoryHash([u8::try_from(epoch % 250).unwrap(); 32]);
        let (timelines, timeline) = (image.timelines.clone(), self.rng.bytes());
        let state = MasterState::recovered(known, timelines, epoch, seed, timeline);
        self.say(|| format!("recovered from slave {best}, epoch {epoch}"));
        self.counts.add("fault: recover");
        self.checks.recovered(&state, last, self.branched);
        for (id, version) in self.slaves[best].disk.now.known.ids.clone() {
            self.checks.knows(id, version);
        }
        self.masters[0].state = state;
        self.start_master(0);
    }
}
