//! The coordinator of a standalone slave, which is a cluster of one folder.
//!
//! It starts the order thread in this process, with its journal in the metadata folder, and links
//! the replica with it. It never touches the served files: before the start it brings the numbers
//! of journal and catalogue into agreement, and the folder is the truth for the rest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{info, warn};
use relais_cluster::{
    CoordinatorEvent, HistoryHash, HistoryRelation, LinkId, MasterState, Tree, TreeState,
};
use relais_coordinator::{
    CoordinatorDriver, LinkSender, MembersError, OrderCommand, OrderHandle, SharedOrderStatus,
    Store, StoreError,
};
use relais_journal::{FileJournal, Journal, JournalError};
use relais_os::MailboxSender;
use relais_proto::{ClusterId, FolderId, LinkMessage, SlaveId, ToMaster};
use relais_storage::{CatalogError, CatalogStore, LinkEvent, MetadataFolder};
use relais_tree::TreeError;
use thiserror::Error;

use super::mailbox::OutgoingMessages;
use crate::scoreboard::wall_ms;
use crate::thread::OwnedThread;

/// Size above which the journal is shortened.
const MAX_JOURNAL: u64 = 8 * 1024 * 1024;
/// Number of the only link.
const LINK: u64 = 1;

/// The reason why coordinator or catalogue writer cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] StoreError),
    /// The catalogue cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<StartError> for io::Error {
    /// A retry does not help against a damaged file. It helps if the disk is full, and if the slave
    /// that has released the writer lock has not closed the journal yet.
    fn from(error: StartError) -> Self {
        let kind = match error {
            StartError::Journal(
                StoreError::Journal(
                    JournalError::InUse(_) | JournalError::NoSpace { .. } | JournalError::Io { .. },
                )
                | StoreError::Members(MembersError::Io { .. }),
            ) => io::ErrorKind::Other,
            StartError::Journal(_) | StartError::Catalog(CatalogError::Damaged { .. }) => {
                io::ErrorKind::InvalidData
            }
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// How long the processes of a killed slave may hold its journal, until the kernel has ended them.
const RELEASE_TIME: Duration = Duration::from_millis(500);

/// Checks the journal of a folder, before the slave takes connections.
///
/// A missing journal, or one that another slave has in use, is left to the replicator. So is an
/// error that may be temporary.
///
/// # Errors
/// The journal or its snapshot is damaged.
pub fn check_journal(own: &MetadataFolder, folder: FolderId) -> Result<(), JournalError> {
    if own.folder().stat_part(b"journal").is_err() {
        return Ok(());
    }
    let began = Instant::now();
    let checked = loop {
        match FileJournal::open(&own.path("journal"), folder.0) {
            Err(JournalError::InUse(_)) if began.elapsed() < RELEASE_TIME => {
                std::thread::sleep(RELEASE_TIME / 50);
            }
            opened => break opened.and_then(|journal| journal.snapshot()),
        }
    };
    match checked {
        Err(
            JournalError::InUse(_)
            | JournalError::NoSpace { .. }
            | JournalError::Io { .. }
            // The catalogue decides whether this folder was part of a cluster.
            | JournalError::Foreign { .. },
        ) => Ok(()),
        other => other.map(drop),
    }
}

/// A running coordinator.
pub struct LocalCoordinator {
    order: OrderHandle,
    status: Arc<SharedOrderStatus>,
    outgoing: Arc<OutgoingMessages>,
    /// Set when the coordinator closes the link.
    is_closed: Arc<AtomicBool>,
    thread: OwnedThread,
}

impl LocalCoordinator {
    /// Opens the journal and starts the thread. The caller holds the writer lock.
    ///
    /// # Errors
    /// Those of the journal and of the catalogue.
    pub fn start(
        own: &MetadataFolder,
        folder: FolderId,
        slave: SlaveId,
        store: &CatalogStore,
        events: MailboxSender<LinkEvent>,
        outgoing: Arc<OutgoingMessages>,
    ) -> Result<Self, StartError> {
        let cluster = ClusterId(folder.0);
        if store.history()?.is_some_and(|history| history != cluster) {
            info!("another server has numbered the changes of this folder; its files are new here");
            forget_changes(own, store)?;
        }
        let file = FileJournal::open(&own.path("journal"), cluster.0).map_err(StoreError::from)?;
        let (file, sole) = (Box::new(file), Some(folder));
        let mut journal = Store::open(file, &own.path(""), cluster, sole, MAX_JOURNAL)?;
        match journal.state().reach(&store.position()?) {
            HistoryRelation::CanFollow(_) => {}
            HistoryRelation::MustCompare => adopt_tree(store, journal.state(), cluster)?,
            HistoryRelation::Ahead | HistoryRelation::Diverged | HistoryRelation::NewerEpoch => {
                rebuild_journal(store, &mut journal)?;
            }
        }
        let latest = journal.state().last();
        let status = Arc::<SharedOrderStatus>::default();
        let driver =
            CoordinatorDriver::new(Box::new(wall_ms), status.clone(), journal, Duration::ZERO);
        let (order, commands) = OrderHandle::new();
        let own = own.clone();
        let thread = OwnedThread::spawn("order", move || {
            driver.run(&commands);
            // The files of the journal are opened through this descriptor.
            drop(own);
        })?;
        let to = order.clone();
        outgoing.begin(LINK, move |messages| {
            let events = messages.into_iter().filter_map(|message| {
                let LinkMessage::ToMaster(message) = message else { return None };
                let message = as_request(message);
                Some(CoordinatorEvent::Received { link: LinkId(LINK), message })
            });
            to.send(OrderCommand::Events(events.collect()));
        });
        let is_closed = Arc::new(AtomicBool::new(false));
        let sender = Arc::new(LocalLink { events: events.clone(), is_closed: is_closed.clone() });
        order.send(OrderCommand::Linked { link: LinkId(LINK), slave, folder, sender });
        events.send(LinkEvent::Linked { link: LINK, cluster, latest });
        Ok(Self { order, status, outgoing, is_closed, thread })
    }

    /// Returns whether no changes are taken until the next start.
    pub fn is_halted(&self) -> bool {
        self.status.get().halted.is_some()
    }

    /// Returns whether the thread or the link has ended without a request.
    pub fn has_ended(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
            || !self.outgoing.is_open()
            || self.thread.has_ended()
    }
}

impl Drop for LocalCoordinator {
    fn drop(&mut self) {
        self.outgoing.end();
        self.order.send(OrderCommand::End);
    }
}

/// The coordinator's side of the link.
struct LocalLink {
    events: MailboxSender<LinkEvent>,
    is_closed: Arc<AtomicBool>,
}

impl LinkSender for LocalLink {
    fn send(&self, message: LinkMessage) {
        if let LinkMessage::ToSlave(message) = message {
            self.events.send(LinkEvent::Message(message));
        }
    }

    /// It does not take the lock of the outgoing messages. Their sender holds it while it waits for
    /// this thread, if the queue is full.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

/// Makes local changes count as requests of clients: a file that comes back is no old copy of
/// another replica, because there is none.
fn as_request(message: ToMaster) -> ToMaster {
    match message {
        ToMaster::Propose { request, copies, .. } => {
            ToMaster::Propose { request, found: false, copies }
        }
        other => other,
    }
}

/// Forgets all numbers of the catalogue, and removes the coordinator's files.
///
/// # Errors
/// Those of the folder and of the catalogue.
pub fn forget_changes(own: &MetadataFolder, store: &CatalogStore) -> Result<(), CatalogError> {
    for name in ["journal", "snapshot", "folders"] {
        match own.folder().unlink(name) {
            Ok(()) | Err(TreeError::NotFound) => {}
            Err(e) => return Err(e.into()),
        }
    }
    store.forget_history()
}

/// Gives a catalogue that was rebuilt or restored the numbers of the journal.
///
/// The first scan compares the entries with the folder. What differs there is a local change.
fn adopt_tree(
    store: &CatalogStore,
    state: &MasterState,
    cluster: ClusterId,
) -> Result<(), CatalogError> {
    info!("the catalogue gets the numbers of {} entries from the journal", state.tree().len());
    store.forget_history()?;
    store.begin()?;
    for (path, entry) in state.tree().iter() {
        store.put_unverified(&path, &entry)?;
    }
    let ids: Vec<_> = state.ids().collect();
    store.replace_ids(&ids)?;
    store.replace_annotations(&state.tree().annotations())?;
    store.set_history(cluster)?;
    record_position(store, state)
}

/// Replaces a journal that is missing, or older than the catalogue, by the tree of the catalogue.
///
/// The catalogue has all changes that were acknowledged. The numbers continue in a new epoch, so
/// none is given twice.
fn rebuild_journal(store: &CatalogStore, journal: &mut Store) -> Result<(), StartError> {
    let position = store.position()?;
    let rows = store.committed_entries()?;
    let entries = rows.into_iter().filter_map(|(path, row)| Some((path, row.tree_entry()?)));
    let known = TreeState {
        tree: Tree::listed(entries, position.applied).annotated(store.annotations()?),
        ids: store.ids()?.into_iter().collect(),
    };
    let epoch = position.epoch.max(journal.state().epoch()).saturating_add(1);
    let timeline = journal.begin_timeline().map_err(StoreError::from)?;
    let seed = HistoryHash(relais_os::random()?);
    let state = MasterState::recovered(known, store.timelines()?, epoch, seed, timeline);
    warn!(
        "the catalogue has change {}, and the journal ends with {}: the journal gets the changes \
         of the catalogue, and numbers continue in epoch {epoch}",
        position.applied,
        journal.state().last()
    );
    journal.replace(state, wall_ms())?;
    store.begin()?;
    // Locks end with the former history.
    store.replace_annotations(&journal.state().tree().annotations())?;
    Ok(record_position(store, journal.state())?)
}

fn record_position(store: &CatalogStore, state: &MasterState) -> Result<(), CatalogError> {
    store.set_timelines(state.timelines())?;
    store.set_position(&relais_cluster::ReplicaPosition {
        applied: state.last(),
        chain: state.chain(),
        epoch: state.epoch(),
    })?;
    store.commit()
}
