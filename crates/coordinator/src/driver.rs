//! The loop of the order thread: passes events to the order and executes its actions.
//!
//! Events that arrive during a write are handled together after it. So each write and sync is
//! shared by all changes that arrived during the one before (group commit).

mod recovery;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use parking_lot::RwLockReadGuard;
use relais_cluster::record::Recorder;
use relais_cluster::{
    Coordinator, CoordinatorAction, CoordinatorEvent, HaltReason, KnownSlave, LinkId, MasterState,
    ReplicaPosition, Trimmed,
};
use relais_journal::{Entries, JournalError, Recording};
use relais_proto::{
    ErrorCode, FolderId, LinkMessage, LogEntry, Lsn, Refusal, SlaveId, ToMaster, ToSlave,
};

use crate::link_sender::LinkSender;
use crate::members::MembersError;
use crate::order_view::OrderView;
use crate::status::SharedOrderStatus;
use crate::store::Store;

/// Time after the start for which the order waits for all known folders.
///
/// Slaves reconnect within a second or two, and one may have changes that this journal lacks.
const OPENING: Duration = Duration::from_secs(5);
/// Most commands that are handled before their changes are written.
const BATCH: usize = 4096;
/// Time between two expirations of old records.
const EXPIRE_EVERY: Duration = Duration::from_secs(60 * 60);

/// A command for the order thread.
pub enum OrderCommand {
    /// A slave has registered.
    Linked {
        /// Number of the link.
        link: LinkId,
        /// Id of the slave.
        slave: SlaveId,
        /// Id of its folder.
        folder: FolderId,
        /// The way of messages to it.
        sender: Arc<dyn LinkSender>,
    },
    /// A slave is in service for the first time on its link.
    Known(KnownSlave),
    /// Events for the order. The changes of all of them are written together.
    Events(Vec<CoordinatorEvent>),
    /// A function to run in the thread.
    Run(Box<dyn FnOnce(&mut CoordinatorDriver) + Send>),
    /// The thread ends after the last batch is written.
    End,
}

/// A linked slave.
pub struct Link {
    /// Id of the slave.
    pub slave: SlaveId,
    /// Id of its folder.
    pub folder: FolderId,
    sender: Arc<dyn LinkSender>,
    /// The position that it sent with its join.
    pub position: Option<ReplicaPosition>,
}

/// Returns the time in milliseconds since 1970 UTC.
pub type Clock = Box<dyn Fn() -> u64 + Send>;

/// The order with its journal and its links.
pub struct CoordinatorDriver {
    clock: Clock,
    status: Arc<SharedOrderStatus>,
    order: OrderView,
    /// The recording of its events and actions.
    recording: Recording<Recorder>,
    store: Store,
    links: BTreeMap<LinkId, Link>,
    /// The next batch to write.
    pending: Option<Vec<LogEntry>>,
    opening: Option<Instant>,
    /// Time of the next expiration of old records.
    next_expiry: Instant,
    /// Time for which removal records are kept.
    remember: Duration,
    /// Whether the cluster is being recovered: messages of slaves are ignored.
    fenced: bool,
    /// Folders that are not saved as members yet.
    unknown: Vec<FolderId>,
}

impl CoordinatorDriver {
    /// Starts from the persistent state. Removal records are kept for the time `remember`.
    #[must_use]
    pub fn new(
        clock: Clock,
        status: Arc<SharedOrderStatus>,
        mut store: Store,
        remember: Duration,
    ) -> Self {
        let (order, recording) = begin(store.take_ledger(), store.folders());
        let order = OrderView::new(order);
        let mut driver = Self {
            clock,
            status,
            order,
            recording,
            store,
            links: BTreeMap::new(),
            pending: None,
            opening: None,
            next_expiry: Instant::now(),
            remember,
            fenced: false,
            unknown: Vec::new(),
        };
        driver.begin();
        driver
    }

    /// Handles commands until the end.
    pub fn run(mut self, commands: &Receiver<OrderCommand>) {
        loop {
            let first = match commands.recv_timeout(self.idle_time()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut ended = false;
            for command in first.into_iter().chain(commands.try_iter()).take(BATCH) {
                ended |= matches!(command, OrderCommand::End);
                self.handle(command);
            }
            self.open_if_due();
            while self.write() {
                for command in commands.try_iter().take(BATCH) {
                    ended |= matches!(command, OrderCommand::End);
                    self.handle(command);
                }
            }
            self.expire_if_due();
            self.show();
            self.recording.flush();
            if ended {
                break;
            }
        }
        debug!("the order has ended at {}", self.order.get().last());
    }

    /// The order.
    pub fn order(&self) -> RwLockReadGuard<'_, Coordinator> {
        self.order.get()
    }

    /// A view of the order for other threads.
    #[must_use]
    pub fn view(&self) -> OrderView {
        self.order.clone()
    }

    /// The links.
    #[must_use]
    pub fn links(&self) -> &BTreeMap<LinkId, Link> {
        &self.links
    }

    /// Reads the changes stored now.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn journal(&self) -> Result<Entries, JournalError> {
        self.store.read()
    }

    /// The folders that belong to the cluster.
    #[must_use]
    pub fn folders(&self) -> &BTreeSet<FolderId> {
        self.store.folders()
    }

    /// Removes a folder from the cluster.
    ///
    /// # Errors
    /// The change could not be saved; the folder is not removed then.
    pub fn forget(&mut self, folder: FolderId) -> Result<(), MembersError> {
        self.store.forget(folder)?;
        self.unknown.retain(|unknown| *unknown != folder);
        self.event(CoordinatorEvent::Forget { folder });
        Ok(())
    }

    /// Removes a slave from the list of known ones; its folder stays.
    ///
    /// # Errors
    /// The change could not be saved; the slave is not removed then.
    pub fn forget_slave(&mut self, slave: SlaveId) -> Result<(), MembersError> {
        self.store.forget_slave(slave)
    }

    /// Saves a slave as known. On failure only its report after the next start is missing.
    fn know_slave(&mut self, slave: KnownSlave) {
        let id = slave.id;
        let linked = self.links.values().map(|open| open.slave).collect();
        if let Err(failed) = self.store.know_slave(slave, &linked) {
            error!("cannot save slave {id} as known: {failed}");
        }
    }

    fn begin(&mut self) {
        self.opening = self.order.get().is_opening().then(|| Instant::now() + OPENING);
        self.show();
    }

    fn idle_time(&self) -> Duration {
        self.opening
            .map_or(self.next_expiry, |until| until.min(self.next_expiry))
            .saturating_duration_since(Instant::now())
    }

    fn open_if_due(&mut self) {
        if self.opening.is_some_and(|until| Instant::now() >= until) {
            self.opening = None;
            if self.order.get().is_opening() && !self.fenced {
                warn!(
                    "some folders of the cluster have not joined within {} s; \
                     changes are numbered without them",
                    OPENING.as_secs()
                );
                self.event(CoordinatorEvent::GraceEnded);
            }
        }
    }

    /// Expires old records and shortens the journal, if that is due.
    ///
    /// No change is numbered meanwhile. That takes a second or two for a large tree, so it is rare.
    fn expire_if_due(&mut self) {
        let expires = Instant::now() >= self.next_expiry;
        if !expires && !self.store.is_large() {
            return;
        }
        let now_ms = (self.clock)();
        if expires {
            self.next_expiry = Instant::now() + EXPIRE_EVERY;
            let remembered = u64::try_from(self.remember.as_millis()).unwrap_or(u64::MAX);
            let trimmed = Trimmed::RemovalRecords(now_ms.saturating_sub(remembered));
            self.event(CoordinatorEvent::Trim(trimmed));
        }
        if self.store.is_large() || self.store.is_old(now_ms) {
            let forgettable = self.store.forgettable(self.order.get().state(), now_ms);
            if let Some(upto) = forgettable {
                self.event(CoordinatorEvent::Trim(Trimmed::Ids(upto)));
            }
            if let Err(failed) = self.store.keep(self.order.get().state(), now_ms) {
                error!("cannot shorten the journal: {failed}");
            }
        }
    }

    fn handle(&mut self, command: OrderCommand) {
        match command {
            OrderCommand::Linked { link, slave, folder, sender } => {
                self.links.insert(link, Link { slave, folder, sender, position: None });
            }
            OrderCommand::Known(slave) => self.know_slave(slave),
            OrderCommand::Events(events) => {
                events.into_iter().for_each(|event| self.receive_event(event))
            }
            OrderCommand::Run(look) => look(self),
            OrderCommand::End => {}
        }
    }

    fn receive_event(&mut self, event: CoordinatorEvent) {
        if let CoordinatorEvent::LinkClosed { link } = &event {
            self.links.remove(link);
        }
        if let CoordinatorEvent::Received { link, message } = &event {
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

    /// Passes an event to the order, and executes its actions; a batch stays pending.
    pub fn event(&mut self, event: CoordinatorEvent) {
        let now_ms = (self.clock)();
        self.recording.note(|recording, to| recording.event(&event, now_ms, to));
        let actions = self.order.on(event, now_ms);
        self.recording.note(|recording, to| recording.actions(&actions, to));
        for action in actions {
            match action {
                CoordinatorAction::Write(batch) => self.pending = Some(batch),
                CoordinatorAction::Send { link, message } => self.send(link, message),
                CoordinatorAction::Close { link } => self.close(link),
                CoordinatorAction::AddFolder { folder } => {
                    self.unknown.push(folder);
                    if !self.remember() {
                        self.links
                            .values()
                            .filter(|open| open.folder == folder)
                            .for_each(|open| open.sender.close());
                    }
                }
                CoordinatorAction::Halted(halt) => say_halted(halt),
                CoordinatorAction::Lost { put } => self.say_lost(put),
            }
        }
    }

    /// Saves new members of the cluster; false if that fails.
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
            open.sender.send(LinkMessage::ToSlave(message));
        }
    }

    fn close(&mut self, link: LinkId) {
        if let Some(open) = self.links.get(&link) {
            debug!("the order closes the link of slave {}", open.slave);
            open.sender.close();
        }
    }

    /// Writes the pending batch; false if there is none.
    fn write(&mut self) -> bool {
        let Some(batch) = self.pending.take() else { return false };
        let event = match self.store.append(&batch) {
            Ok(()) => {
                // Published before any slave gets the changes, so that no answer is behind them.
                if let Some(newest) = batch.last() {
                    self.status.set_lsn(newest.version);
                }
                CoordinatorEvent::Written
            }
            Err(failed) => {
                error!("{failed}");
                let (for_good, code) = match failed {
                    JournalError::NoSpace { .. } => (false, ErrorCode::NoSpace),
                    _ => (true, ErrorCode::NoChanges),
                };
                let why = match failed {
                    JournalError::NoSpace { .. } => "the disk of the journal is full",
                    JournalError::Gone(_) => "the journal was removed or replaced",
                    _ => "the journal cannot be written",
                };
                CoordinatorEvent::WriteFailed {
                    for_good,
                    refusal: Refusal::new(code, format!("changes are not possible now: {why}")),
                }
            }
        };
        self.event(event);
        true
    }

    fn show(&self) {
        let order = self.order.get();
        self.status.set(
            order.last(),
            order.halted(),
            order.lost().count(),
            order.state().removal_records(),
        );
    }

    fn say_lost(&self, put: Lsn) {
        let order = self.order.get();
        let tree = order.tree();
        match tree.path_of(put).and_then(|path| {
            let content = tree.get(&path)?.content?;
            Some((path, content))
        }) {
            Some((path, content)) => {
                error!(
                    "{path} is lost: no slave has its {} bytes of change {put} (digest {})",
                    content.size, content.digest
                );
            }
            None => error!("the content of change {put} is lost"),
        }
    }
}

/// Makes an order from the master's state, and starts its recording.
fn begin(ledger: MasterState, folders: &BTreeSet<FolderId>) -> (Coordinator, Recording<Recorder>) {
    let recording = Recording::start("master", |to| Recorder::coordinator(&ledger, folders, to));
    (Coordinator::new(ledger, folders.clone()), recording)
}

/// Returns the line that tells that no changes are numbered any more.
#[must_use]
pub fn halted_text(halt: HaltReason) -> String {
    format!("NO CHANGES ARE TAKEN ANY MORE: {}", halt.why())
}

fn say_halted(halt: HaltReason) {
    error!("{}", halted_text(halt));
    match halt {
        HaltReason::Broken => {
            error!("check the disk of the journal and restart the server; downloads continue")
        }
        HaltReason::Behind | HaltReason::Differs | HaltReason::Superseded => {
            error!(
                "`ftpmaster recover` shows what each slave has, `ftpmaster recover --yes` \
                 continues from the latest; downloads continue"
            );
        }
    }
}
