//! What the order's thread does: it hands events to the order and carries out what follows.
//!
//! While changes are being written more come in; they are decided together once the write is done. So however many there are,
//! each write and sync is shared by all that came during the one before.

mod recovery;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use relais_cluster::record::{CoordinatorRecorder, Trimmed};
use relais_cluster::{
    Action, Coordinator, Event, HaltReason, KnownSlave, LinkId, MasterState, ReplicaPosition,
};
use relais_proto::{
    ErrorCode, FolderId, LinkMessage, LogEntry, Lsn, Refusal, SlaveId, ToMaster, ToSlave,
};
use relais_state::{JournalError, JournalReader, Recording};

use super::{FoldersError, Job, Store};
use crate::core::Core;
use crate::outbox::Outbox;

/// Time from the start until changes are numbered though folders that are known have not joined: slaves come back within a
/// second or two, and one of them may have changes that this journal lacks.
const OPENING: Duration = Duration::from_secs(5);
/// Most jobs that are taken before what they led to is written.
const TOGETHER: usize = 4096;
/// Time between two looks for what can be forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// A slave that is linked.
#[derive(Debug)]
pub(crate) struct Link {
    pub slave: SlaveId,
    pub folder: FolderId,
    pub outbox: Arc<Outbox>,
    /// Where it said that it stands, once it wanted to join.
    pub position: Option<ReplicaPosition>,
}

/// The order, its journal, and the links that it speaks through.
pub(crate) struct Engine {
    core: Arc<Core>,
    order: Coordinator,
    /// All that the order is given and does, where somebody wants that.
    tape: Recording<CoordinatorRecorder>,
    store: Store,
    links: BTreeMap<LinkId, Link>,
    /// What is to be written next.
    pending: Option<Vec<LogEntry>>,
    opening: Option<Instant>,
    /// When to look next for what can be forgotten.
    look: Instant,
    /// How long removed and replaced content is remembered.
    remember: Duration,
    /// The cluster is being recovered: nothing that slaves say counts.
    fenced: bool,
    /// Folders that could not be written down as known yet.
    unknown: Vec<FolderId>,
}

impl Engine {
    /// Goes on from what is on the disk.
    pub fn new(core: Arc<Core>, mut store: Store, remember: Duration) -> Self {
        let (order, tape) = begin(store.take_ledger(), store.folders());
        let mut engine = Self {
            core,
            order,
            tape,
            store,
            links: BTreeMap::new(),
            pending: None,
            opening: None,
            look: Instant::now(),
            remember,
            fenced: false,
            unknown: Vec::new(),
        };
        engine.begin();
        engine
    }

    /// Does what it is asked until the end.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let first = match jobs.recv_timeout(self.patience()) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut ended = false;
            for job in first.into_iter().chain(jobs.try_iter()).take(TOGETHER) {
                ended |= matches!(job, Job::End);
                self.deal_with(job);
            }
            self.open_in_time();
            while self.write() {
                for job in jobs.try_iter().take(TOGETHER) {
                    ended |= matches!(job, Job::End);
                    self.deal_with(job);
                }
            }
            self.forget_in_time();
            self.show();
            self.tape.flush();
            if ended {
                break;
            }
        }
        debug!("the order has ended at {}", self.order.last());
    }

    /// The order.
    pub fn order(&self) -> &Coordinator {
        &self.order
    }

    /// The links.
    pub fn links(&self) -> &BTreeMap<LinkId, Link> {
        &self.links
    }

    /// Reads the changes that are stored now.
    ///
    /// # Errors
    /// What the system said.
    pub fn journal(&self) -> Result<JournalReader, JournalError> {
        self.store.reader()
    }

    /// The folders that belong to the cluster.
    pub fn folders(&self) -> &BTreeSet<FolderId> {
        self.store.folders()
    }

    /// A folder will not come back.
    ///
    /// # Errors
    /// That it could not be written down; it is not forgotten then.
    pub fn forget(&mut self, folder: FolderId) -> Result<(), FoldersError> {
        self.store.forget(folder)?;
        self.unknown.retain(|unknown| *unknown != folder);
        self.event(Event::Forget { folder });
        Ok(())
    }

    /// A slave will not come back; its folder stays.
    ///
    /// # Errors
    /// That it could not be written down; it is not forgotten then.
    pub fn forget_slave(&mut self, slave: SlaveId) -> Result<(), FoldersError> {
        self.store.forget_slave(slave)
    }

    /// Without its line a slave that is down is not shown after the next start, and that is all.
    fn know_slave(&mut self, slave: KnownSlave) {
        let id = slave.id;
        let linked = self.links.values().map(|open| open.slave).collect();
        if let Err(failed) = self.store.know_slave(slave, &linked) {
            error!("slave {id} is not remembered: {failed}");
        }
    }

    fn begin(&mut self) {
        self.opening = self.order.is_opening().then(|| Instant::now() + OPENING);
        self.show();
    }

    fn patience(&self) -> Duration {
        self.opening
            .map_or(self.look, |until| until.min(self.look))
            .saturating_duration_since(Instant::now())
    }

    fn open_in_time(&mut self) {
        if self.opening.is_some_and(|until| Instant::now() >= until) {
            self.opening = None;
            if self.order.is_opening() && !self.fenced {
                warn!(
                    "some folders of the cluster have not joined within {} s; changes are taken without them",
                    OPENING.as_secs()
                );
                self.event(Event::GraceEnded);
            }
        }
    }

    /// What is old enough is forgotten, and the journal shortened. Nothing is numbered meanwhile, which for a large tree may take a
    /// second or two; so it happens rarely.
    fn forget_in_time(&mut self) {
        if Instant::now() < self.look {
            return;
        }
        self.look = Instant::now() + LOOK_EVERY;
        let now_ms = self.core.time_ms();
        let remembered = u64::try_from(self.remember.as_millis()).unwrap_or(u64::MAX);
        let removed = Trimmed::RemovalRecords(now_ms.saturating_sub(remembered));
        removed.apply(self.order.state_mut());
        self.tape.note(|tape, to| tape.forgotten(removed, to));
        if self.store.is_long(now_ms) {
            if let Some(upto) = self.store.forgettable(self.order.state(), now_ms) {
                self.tape.note(|tape, to| tape.forgotten(Trimmed::Ids(upto), to));
            }
            if let Err(failed) = self.store.shorten(self.order.state_mut(), now_ms) {
                error!("the journal is not shortened: {failed}");
            }
        }
    }

    fn deal_with(&mut self, job: Job) {
        match job {
            Job::Linked { link, slave, folder, outbox } => {
                self.links.insert(link, Link { slave, folder, outbox, position: None });
            }
            Job::Known(slave) => self.know_slave(slave),
            Job::Event(Event::LinkClosed { link }) => {
                self.links.remove(&link);
                self.event(Event::LinkClosed { link });
            }
            Job::Event(event) => self.heard(event),
            Job::Look(look) => look(self),
            Job::End => {}
        }
    }

    fn heard(&mut self, event: Event) {
        if let Event::Received { link, message } = &event {
            let Some(open) = self.links.get_mut(link) else { return };
            if self.fenced {
                return;
            }
            if let ToMaster::Join { position, .. } = message {
                open.position = Some(*position);
                let link = *link;
                if !self.remember() {
                    return self.close(link);
                }
            }
        }
        self.event(event);
    }

    /// Hands an event to the order and carries out what follows, but for writing.
    pub fn event(&mut self, event: Event) {
        let now_ms = self.core.time_ms();
        self.tape.note(|tape, to| tape.event(&event, now_ms, to));
        let actions = self.order.on(event, now_ms);
        self.tape.note(|tape, to| tape.actions(&actions, to));
        for action in actions {
            match action {
                Action::Write(batch) => self.pending = Some(batch),
                Action::Send { link, message } => self.send(link, message),
                Action::Close { link } => self.close(link),
                Action::AddFolder { folder } => {
                    self.unknown.push(folder);
                    if !self.remember() {
                        self.links
                            .values()
                            .filter(|open| open.folder == folder)
                            .for_each(|open| open.outbox.cut());
                    }
                }
                Action::Halted(halt) => say_halted(halt),
                Action::Lost { put } => self.say_lost(put),
            }
        }
    }

    /// Writes down which folders belong to the cluster; false where that fails.
    fn remember(&mut self) -> bool {
        while let Some(folder) = self.unknown.last() {
            if let Err(failed) = self.store.know(*folder) {
                error!("the folder {folder} cannot join: {failed}");
                return false;
            }
            info!("the folder {folder} belongs to the cluster");
            self.unknown.pop();
        }
        true
    }

    fn send(&self, link: LinkId, message: ToSlave) {
        if let Some(open) = self.links.get(&link) {
            open.outbox.send(&LinkMessage::ToSlave(message));
        }
    }

    fn close(&mut self, link: LinkId) {
        if let Some(open) = self.links.get(&link) {
            debug!("the order closes the link of slave {}", open.slave);
            open.outbox.cut();
        }
    }

    /// Writes what is to be written; false where there is nothing.
    fn write(&mut self) -> bool {
        let Some(batch) = self.pending.take() else { return false };
        let event = match self.store.append(&batch) {
            Ok(()) => {
                // Before anybody is told of these changes, everybody is told of their numbers.
                if let Some(newest) = batch.last() {
                    self.core.shown.set_mark(newest.version);
                }
                Event::Written
            }
            Err(failed) => {
                error!("{failed}");
                let (for_good, code) = match failed {
                    JournalError::NoSpace { .. } => (false, ErrorCode::NoSpace),
                    _ => (true, ErrorCode::NoChanges),
                };
                let why = match failed {
                    JournalError::NoSpace { .. } => "the disk of the master's journal is full",
                    JournalError::Gone(_) => "the master's journal was removed or replaced",
                    _ => "the master's journal cannot be written",
                };
                Event::WriteFailed {
                    for_good,
                    refusal: Refusal::new(code, format!("changes are not possible now: {why}")),
                }
            }
        };
        self.event(event);
        true
    }

    fn show(&self) {
        self.core.shown.set(
            self.order.last(),
            self.order.halted(),
            self.order.lost().count(),
            self.order.state().removal_records(),
        );
    }

    fn say_lost(&self, put: Lsn) {
        match self
            .order
            .tree()
            .path_of(put)
            .and_then(|path| Some((path, self.order.tree().get(path)?.content?)))
        {
            Some((path, content)) => {
                error!(
                    "{path} is lost: no slave has its {} bytes, which came with change {put} (digest {})",
                    content.size, content.digest
                );
            }
            None => error!("the content of change {put} is lost"),
        }
    }
}

/// An order that goes on from a ledger, and its recording, where somebody wants one.
fn begin(
    ledger: MasterState,
    folders: &BTreeSet<FolderId>,
) -> (Coordinator, Recording<CoordinatorRecorder>) {
    let tape = Recording::start("master", |to| CoordinatorRecorder::begin(&ledger, folders, to));
    (Coordinator::new(ledger, folders.clone()), tape)
}

fn say_halted(halt: HaltReason) {
    error!("NO CHANGES ARE TAKEN ANY MORE: {}", halt.why());
    match halt {
        HaltReason::Broken => error!(
            "see to the disk of the state folder and start the master again; downloads go on"
        ),
        HaltReason::Behind | HaltReason::Differs | HaltReason::Superseded => {
            error!(
                "`ftpmaster recover` shows what each slave has, `ftpmaster recover --yes` goes on from the latest; downloads go on"
            );
        }
    }
}
