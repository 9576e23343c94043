//! Replication. Proposals of sessions go to the coordinator, and committed changes are applied. The
//! coordinator is that of the master, or in a standalone slave its own.
//!
//! The driver runs the state machine [`Replica`], which makes all decisions. The driver does the
//! I/O: disk, catalogue, link and transfers. Only the thread of the catalogue writer runs it.

mod apply_batch;
mod blocking_entries;
mod disk_transaction;
mod local_changes;
mod pending_answers;
mod proposals;
mod publish;
pub(super) mod quarantine;
mod resync;
mod retry;
mod unapplied;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use relais_cluster::MessageBudget;
use relais_cluster::record::ReplicaRecorder;
use relais_cluster::replica::{self, Action, Event, Replica, in_service};
use relais_journal::Recording;
use relais_proto::{
    ChangeId, ClusterId, ErrorCode, FolderId, Lsn, Refusal, SlaveId, ToSlave, TreePage, TreePath,
    metric,
};
use relais_storage::{
    CatalogError, CatalogStore, Commit, CommitReceipt, ProposalResult, Scanner, StagedName,
    Staging, WatchMode,
};
use relais_tree::{Folder, TreeError};

use self::local_changes::LocalChanges;
use self::pending_answers::PendingAnswers;
use self::proposals::HeldProposal;
use self::quarantine::Quarantine;
use self::retry::ParkedContents;
use super::channel::ProposalSocket;
use super::handoff::HandoffListener;
use super::proposal_receiver::ProposalReceiver;
use crate::replicator::fetch::FetchPool;
use crate::replicator::mailbox::{IdConflict, LinkEvent, LinkMailbox};
use crate::scoreboard::Scoreboard;

/// Interval of the replica's tick.
const TICK: Duration = Duration::from_millis(100);

/// What a driver needs.
pub struct ReplicaDriverConfig {
    /// The served folder.
    pub root: Folder,
    /// Id of the slave.
    pub slave: SlaveId,
    /// Id of the folder.
    pub folder: FolderId,
    /// Counters in shared memory.
    pub scoreboard: Arc<Scoreboard>,
    /// Receives the proposals of sessions.
    pub proposal_socket: Arc<ProposalSocket>,
    /// Mailbox of the link to the master.
    pub mailbox: LinkMailbox,
    /// Link events that arrived earlier.
    pub backlog: Vec<LinkEvent>,
    /// Threads that fetch content from other slaves; `None` in a standalone slave.
    pub fetch_pool: Option<FetchPool>,
    /// How the folder is watched; decides whether local removals become changes.
    pub watch: WatchMode,
    /// Token of the writer lock. A reader that finds it in the catalogue trusts the row with it.
    pub writer_token: String,
}

/// Runs the replica of this slave. See the module.
pub struct ReplicaDriver {
    root: Folder,
    staging: Staging,
    quarantine: Quarantine,
    scoreboard: Arc<Scoreboard>,
    receiver: ProposalReceiver,
    pending_answers: PendingAnswers,
    replica: Replica,
    /// Recording of all events and actions, if it is enabled.
    recording: Recording<ReplicaRecorder>,
    mailbox: LinkMailbox,
    backlog: Vec<LinkEvent>,
    fetch_pool: Option<FetchPool>,
    /// Whether no other folder has the contents, as in a standalone slave. What users do in the
    /// folder is then always taken up, because nothing could be fetched again.
    is_sole: bool,
    started: Instant,
    last_tick: Instant,
    /// Number of the present link.
    link: Option<u64>,
    /// The cluster of the last link.
    cluster: Option<ClusterId>,
    /// Whether the replica knows about the link.
    link_announced: bool,
    /// Why the master is not followed. The link stays: files can be read, and an operator can
    /// recover the cluster.
    master_refusal: Option<Refusal>,
    /// Staged content of sessions' changes. `checked` has the digests that this process has
    /// verified.
    staged: HashMap<ChangeId, StagedName>,
    checked: HashMap<ChangeId, relais_proto::Digest>,
    /// Puts that were committed before a session proposed them on this link.
    known: HashSet<ChangeId>,
    local_changes: LocalChanges,
    /// Proposals that wait for local changes, in the order of each session.
    held: Vec<HeldProposal>,
    /// Channels that ask for the holders of a content.
    holder_queries: HashMap<Lsn, Vec<u64>>,
    /// Events for the next iteration.
    deferred: VecDeque<Event>,
    /// Events that the replica gets before any other.
    initial_events: Vec<Event>,
    /// Scrub order that was not started yet.
    scrub_wanted: Option<u64>,
    parked: ParkedContents,
    /// Whether the master reports another slave with our folder id.
    id_conflict: IdConflict,
    /// Whether fetched content could not be stored, and none was stored since.
    cannot_store: bool,
    folder: FolderId,
    watch: WatchMode,
    writer_token: String,
    in_service: bool,
    /// Whether the folder of removed files needs sweeping.
    litter: bool,
    /// Last warning, to avoid repeating it.
    last_warning: String,
}

impl ReplicaDriver {
    /// Creates a driver that continues at the position in the catalogue.
    ///
    /// # Errors
    /// Returns the errors of the folder and of the catalogue.
    pub fn new(parts: ReplicaDriverConfig, store: &CatalogStore) -> Result<Self, CatalogError> {
        let ReplicaDriverConfig {
            root,
            slave,
            folder,
            scoreboard,
            proposal_socket,
            mailbox,
            backlog,
            fetch_pool,
            watch,
            writer_token,
        } = parts;
        let is_sole = fetch_pool.is_none();
        let (staging, handoff) = (Staging::open(&root)?, HandoffListener::bind(&root)?);
        let mut quarantine = Quarantine::open(&root)?;
        let mut staged = HashMap::new();
        for listed in staging.staged.list()? {
            let Some(name) = std::str::from_utf8(listed?.name()).ok().and_then(StagedName::parse)
            else {
                continue;
            };
            // Content from other slaves is fetched again. An upload of a session may be resumed.
            if name.is_fetched() {
                restore_held(&root, &staging, &mut quarantine, store, &name)?;
            } else if name.is_sealed() && is_sole && store.commit_of(name.id())?.is_some() {
                // The former process has ended between the commit and the removal.
                staging.discard(&name);
            } else if name.is_sealed() {
                staged.insert(name.id(), name);
            }
        }
        let position = store.position()?;
        scoreboard.set_visible_lsn(position.applied);
        scoreboard.set_applied_lsn(position.applied);
        // In a standalone slave sessions may have proposals for these uploads already, so they are
        // left to the sweeper.
        let ids = if is_sole { BTreeSet::new() } else { staged.keys().copied().collect() };
        let lacks = store.missing_content()?;
        let tape = Recording::start(&format!("slave-{slave}"), |to| {
            ReplicaRecorder::begin(slave, folder, &position, &lacks, &ids, to)
        });
        let replica = Replica::new(slave, folder, position, lacks, ids);
        store.set_fit("")?;
        store.retry_all_unapplied()?;
        let first = Self::refusals_at_start(store)?;
        Ok(Self {
            quarantine,
            root,
            staging,
            scoreboard,
            receiver: ProposalReceiver::new(proposal_socket, Some(handoff)),
            pending_answers: PendingAnswers::default(),
            replica,
            recording: tape,
            mailbox,
            backlog,
            is_sole,
            fetch_pool,
            started: Instant::now(),
            last_tick: Instant::now(),
            link: None,
            cluster: None,
            link_announced: false,
            master_refusal: None,
            staged,
            checked: HashMap::new(),
            known: HashSet::new(),
            local_changes: LocalChanges::default(),
            held: Vec::new(),
            holder_queries: HashMap::new(),
            deferred: VecDeque::new(),
            initial_events: first,
            scrub_wanted: None,
            parked: ParkedContents::default(),
            id_conflict: IdConflict::default(),
            cannot_store: false,
            folder,
            watch,
            writer_token,
            in_service: false,
            litter: true,
            last_warning: String::new(),
        })
    }

    /// Returns the descriptors to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.receiver
            .fds(self.proposal_capacity() > 0)
            .chain([self.mailbox.as_fd()])
            .chain(self.fetch_pool.iter().map(FetchPool::as_fd))
    }

    /// Returns the time of the next tick.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.last_tick + TICK
    }

    /// Returns whether the sweeper has something to do since the last call.
    pub fn take_litter(&mut self) -> bool {
        std::mem::take(&mut self.litter)
    }

    /// Handles all waiting events, proposals, contents and retries.
    ///
    /// # Errors
    /// Returns the errors of the catalogue and of the folder. The work is repeated later.
    pub fn run_once(&mut self, scanner: &mut Scanner) -> Result<(), CatalogError> {
        self.scoreboard.tick_catalog_writer();
        let mut events = VecDeque::from(std::mem::take(&mut self.initial_events));
        self.take_link_events(&scanner.store, &mut events)?;
        // These events run first. They may discard staged content, which must not be an upload that
        // a session has just staged for the same change.
        let mut run = self.run(std::mem::take(&mut events), &scanner.store);
        if run.is_ok() {
            self.take_proposals(&scanner.store, &mut events)?;
            self.take_fetched(&scanner.store, &mut events)?;
            self.take_detected(scanner, &mut events)?;
            self.retry_unapplied(scanner, &mut events)?;
            if self.last_tick.elapsed() >= TICK || !events.is_empty() {
                self.last_tick = Instant::now();
                events.push_back(Event::Tick);
            }
            run = self.run(events, &scanner.store);
        }
        self.recording.flush();
        run?;
        if let Some(pool) = &self.fetch_pool {
            pool.retain_partials(|put| self.replica.wants(put));
        }
        let quarantined = self.quarantine.take_count();
        if quarantined > 0 {
            scanner.store.add_to_total(metric::SET_ASIDE, quarantined)?;
        }
        self.record_scrub(&scanner.store)?;
        self.update_fitness(&scanner.store)
    }

    /// Passes events to the replica and executes its actions, until there are none left.
    fn run(
        &mut self,
        mut events: VecDeque<Event>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let mut actions = VecDeque::new();
        loop {
            while let Some(event) = events.pop_front() {
                let now = self.started.elapsed();
                self.recording.note(|tape, to| tape.event(&event, now, to));
                let what = self.replica.on(event, now);
                self.recording.note(|tape, to| tape.actions(&what, to));
                actions.extend(what);
            }
            let Some(action) = actions.pop_front() else { return Ok(()) };
            self.execute(action, &mut actions, &mut events, store)?;
        }
    }

    fn execute(
        &mut self,
        action: Action,
        next: &mut VecDeque<Action>,
        events: &mut VecDeque<Event>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        match action {
            Action::Send(message) => {
                if let Some(link) = self.link {
                    self.mailbox.send(link, message);
                }
            }
            Action::Close(reason) => {
                self.warn_once(format!("replication from the master stopped: {reason}"));
                if reason.code == ErrorCode::Exists {
                    self.id_conflict.record(&self.scoreboard);
                }
                if self.master_refusal.is_some() || reason.code == ErrorCode::Conflict {
                    self.master_refusal.get_or_insert(reason);
                } else if let Some(link) = self.link.take() {
                    self.link_announced = false;
                    self.mailbox.close(link);
                }
            }
            Action::RaiseEpoch(epoch) => store.raise_epoch(epoch)?,
            Action::BeginHistory(chain) => store.set_chain(chain)?,
            Action::SetTimelines(timelines) => {
                store.set_timelines(&timelines)?;
                self.note_history(store)?;
            }
            Action::Apply { changes, position } => {
                self.apply_batch(&changes, &position, store, events)?
            }
            Action::Adopt { listing, position } => {
                self.resync(&listing, &position, store, events)?
            }
            Action::Fetch { put, lack, from } => {
                if let Some(pool) = &self.fetch_pool {
                    pool.order(put, lack, from);
                }
            }
            Action::Publish { id, put } => {
                let mut all = vec![(id, put)];
                // Several contents share one sync.
                while let Some(Action::Publish { id, put }) = next.front() {
                    all.push((*id, *put));
                    next.pop_front();
                }
                self.publish_staged(&all, store, events)?;
            }
            Action::Discard(id) => self.discard_staged(id, store, events)?,
            Action::Quarantine { id, why } => {
                self.quarantine_change(id, &why.to_string(), store, events)?
            }
            Action::Reply { session, id, answer } => {
                let answer = match answer {
                    replica::ProposalResult::Done { version, copies } => {
                        self.receipt_for(session, id, version, copies, store)?
                    }
                    replica::ProposalResult::TooFewCopies { version, copies } => {
                        Err(too_few_copies(version, copies))
                    }
                    replica::ProposalResult::Refused(refusal) => Err(self.explain_refusal(refusal)),
                };
                self.pending_answers.answer(session, answer, &self.receiver);
            }
        }
        Ok(())
    }

    /// Builds the result for a session whose change is committed.
    ///
    /// The digest is that of the stored content, which an earlier proposal with the same id may
    /// have stored.
    fn receipt_for(
        &mut self,
        session: replica::SessionId,
        id: ChangeId,
        version: Lsn,
        copies: u16,
        store: &CatalogStore,
    ) -> Result<ProposalResult, CatalogError> {
        let fresh = !self.known.remove(&id);
        let digest = store.commit_of(id)?.and_then(|commit| commit.digest);
        let done = CommitReceipt { version, copies: copies.max(1), digest, fresh };
        Ok(match self.pending_answers.change_of(session) {
            Some(change) => Commit { version, digest }
                .answer_to(change)
                .map(|stored| CommitReceipt { digest: stored.digest, ..done }),
            None => Ok(done),
        })
    }

    /// Notes that the master of this cluster numbers the changes of the catalogue.
    pub(super) fn note_history(&self, store: &CatalogStore) -> Result<(), CatalogError> {
        self.cluster.map_or(Ok(()), |cluster| store.set_history(cluster))
    }

    fn take_link_events(
        &mut self,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let backlog = std::mem::take(&mut self.backlog);
        for event in backlog.into_iter().chain(self.mailbox.receive()) {
            match event {
                LinkEvent::Linked { link, cluster, latest } => {
                    check_history(store, cluster, latest)?;
                    self.cluster = Some(cluster);
                    self.link = Some(link);
                    // Scrub orders are numbered per link.
                    self.clear_scrub_order();
                }
                LinkEvent::Unlinked => {
                    self.link = None;
                    self.master_refusal = None;
                    self.holder_queries.clear();
                    self.local_changes.drop_removals();
                    if std::mem::take(&mut self.link_announced) {
                        events.push_back(Event::Unlinked);
                    }
                }
                LinkEvent::Message(message) if self.link_announced => {
                    if matches!(message, ToSlave::Follow { .. } | ToSlave::Compare { .. }) {
                        self.id_conflict = IdConflict::default();
                    }
                    if let ToSlave::Holders { put, holders } = &message {
                        store.set_holders(*put, holders)?;
                        self.send_holders(*put, holders);
                    }
                    if let ToSlave::ProposalResult { id, answer: Ok(_) } = &message
                        && self.staged.contains_key(id)
                    {
                        self.known.insert(*id);
                    }
                    events.push_back(Event::Received(message));
                }
                // The message came over a link that this slave has closed.
                LinkEvent::Message(_) => {}
                LinkEvent::MasterLsn(lsn) => events.push_back(Event::MasterLsn(lsn)),
                LinkEvent::Peers(peers) => {
                    store.set_peers(&peers)?;
                    if let Some(pool) = &self.fetch_pool {
                        pool.set_peers(peers);
                    }
                }
                LinkEvent::TreeQuery { query, ids } => self.send_tree(query, ids, store)?,
                LinkEvent::Recovering(epoch) => {
                    self.master_refusal =
                        Some(Refusal::new(ErrorCode::Conflict, "the cluster is being recovered"));
                    events.push_back(Event::Recovering(epoch));
                }
                LinkEvent::Scrub(order) => self.begin_scrub(order),
                LinkEvent::PathQuery { query, list } => {
                    if let Some(link) = self.link {
                        let parts = store.path_listing(list)?.into_parts(query);
                        parts.into_iter().for_each(|part| self.mailbox.send_paths(link, part));
                    }
                }
                LinkEvent::Retry => store.retry_all_unapplied()?,
            }
        }
        if self.link.is_some() && !self.link_announced {
            self.link_announced = true;
            // Messages that the link's thread queued before this event belong to an earlier link.
            events.push_back(Event::Linked);
            events.extend(self.local_changes.repropose_all());
        }
        Ok(())
    }

    /// Sends the whole tree to the master.
    fn send_tree(
        &mut self,
        query: u64,
        ids: bool,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let Some(link) = self.link else { return Ok(()) };
        let (position, timelines) = (self.replica.position(), store.timelines()?);
        let first = TreePage {
            query,
            entries: Vec::new(),
            ids: Vec::new(),
            position,
            timelines,
            last: false,
        };
        self.mailbox.send_part(link, first);
        let rows = store.committed_entries()?;
        let mut entries = rows
            .into_iter()
            .filter_map(|(path, row)| Some((path, row.tree_entry()?, row.here)))
            .peekable();
        let mut ids = if ids { store.ids()? } else { Vec::new() };
        loop {
            let (mut room, mut part) = (MessageBudget::default(), Vec::new());
            while let Some(entry) = entries.next_if(|(path, ..)| room.take([path], 0)) {
                part.push(entry);
            }
            let some = ids.split_off(ids.len().saturating_sub(relais_cluster::PAGE));
            let last = entries.peek().is_none() && ids.is_empty();
            self.mailbox.send_part(
                link,
                TreePage { query, entries: part, ids: some, position, timelines: Vec::new(), last },
            );
            if last {
                return Ok(());
            }
        }
    }

    fn update_fitness(&mut self, store: &CatalogStore) -> Result<(), CatalogError> {
        let mut readiness = self.replica.readiness(self.started.elapsed(), store.total_bytes()?);
        if self.master_refusal.is_some() {
            // There is nothing to catch up with.
            (readiness.following, readiness.whole, readiness.behind) = (true, true, Duration::ZERO);
        }
        let fit = in_service(&readiness);
        if fit != self.in_service {
            info!(
                "{}",
                if fit {
                    "this slave is ready for sessions"
                } else {
                    "this slave is not ready for sessions"
                }
            );
            store.set_fit(if fit { self.writer_token.as_str() } else { "" })?;
            self.in_service = fit;
        }
        Ok(())
    }

    /// Adds the reason why the master is not followed to a refusal.
    fn explain_refusal(&self, refusal: Refusal) -> Refusal {
        const HEAD: &str = "changes are not possible now: ";
        match &self.master_refusal {
            Some(reason) if refusal.code == ErrorCode::NoChanges => {
                let reason = reason.message.strip_prefix(HEAD).unwrap_or(&reason.message);
                Refusal::new(ErrorCode::NoChanges, format!("{HEAD}{reason}"))
            }
            _ => refusal,
        }
    }

    /// Logs a warning, unless it was the last one.
    fn warn_once(&mut self, what: String) {
        if self.last_warning != what {
            warn!("{what}");
            self.last_warning = what;
        }
    }

    /// Discards the staged content of a change. Files that users put into the folder are never
    /// deleted.
    fn discard_staged(
        &mut self,
        id: ChangeId,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        self.checked.remove(&id);
        if let Some(name) = self.staged.remove(&id) {
            self.discard_upload(&name);
        }
        if self.local_changes.has(id) {
            self.forget_local_change(id, store, events)?;
        }
        Ok(())
    }
}

/// Handles a staged file that an earlier process left. Content from other slaves is discarded and
/// fetched again.
///
/// A file that was held for another path returns to its own path, or is quarantined if that is
/// taken. It may be the only copy.
fn restore_held(
    root: &Folder,
    staging: &Staging,
    quarantine: &mut Quarantine,
    store: &CatalogStore,
    name: &StagedName,
) -> Result<(), CatalogError> {
    let row = name.put_lsn().map(|put| store.row_of_put(put)).transpose()?.flatten();
    if let Some((path, row)) = row
        && staging
            .staged
            .stat_part(name.as_str().as_bytes())
            .is_ok_and(|meta| row.matches_except_ctime(&meta))
        && let Some((parent, own)) = path.split_last()
    {
        let placed = root.open_folder(&parent).and_then(|parent| {
            staging.staged.move_new(name.as_str(), &parent, own)?;
            parent.sync()
        });
        return match placed {
            Err(TreeError::Taken | TreeError::NotFound | TreeError::NotFolder) => Ok(quarantine
                .take_removed(&staging.staged, name.as_str(), &path, "its path was taken")?),
            other => Ok(other?),
        };
    }
    staging.discard(name);
    Ok(())
}

fn too_few_copies(version: Lsn, copies: u16) -> Refusal {
    let disks = if copies == 1 { "disk has" } else { "disks have" };
    Refusal::new(
        relais_proto::ErrorCode::TooFewCopies,
        format!(
            "change {version} is committed and stands, but only {copies} {disks} its content so far"
        ),
    )
}

/// Error while a change is applied on the disk. The caller retries.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{0}: {1}")]
    Disk(TreePath, TreeError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Another obstacle at the path.
    #[error("{0}")]
    Refused(String),
}

impl ApplyError {
    /// Returns whether the error concerns this path only, so that other changes can continue.
    fn is_path_specific(&self) -> bool {
        match self {
            Self::Catalog(_) => false,
            Self::Disk(_, e) | Self::Tree(e) => !e.is_transient(),
            Self::Refused(..) => true,
        }
    }

    /// Formats the reason for operators; `path` is the path of the change.
    fn reason(&self, path: &TreePath) -> String {
        match self {
            Self::Disk(at, e) if at == path => e.reason(),
            Self::Disk(at, e) => format!("{at}: {}", e.reason()),
            Self::Tree(e) => e.reason(),
            Self::Refused(reason) => reason.clone(),
            Self::Catalog(e) => e.to_string(),
        }
    }

    fn at(path: &TreePath) -> impl FnOnce(TreeError) -> Self {
        let path = path.clone();
        move |e| Self::Disk(path, e)
    }
}

/// Publishes an LSN for readers that may see a change before it is recorded.
fn announce(scoreboard: &Scoreboard, lsn: Lsn) {
    scoreboard.set_visible_lsn(lsn.max(scoreboard.applied_lsn()));
}

fn roll_back_catalog(store: &CatalogStore) {
    if let Err(e) = store.rollback() {
        error!("cannot roll back the catalogue: {e}");
    }
}

/// Forgets the history of another cluster before the slave joins this one.
///
/// A master without any change may have lost its state: then the numbers of the slaves are all that
/// is left of its history, and `ftpmaster recover` needs them.
fn check_history(
    store: &CatalogStore,
    cluster: ClusterId,
    latest: Lsn,
) -> Result<(), CatalogError> {
    match store.history()? {
        Some(other) if other != cluster && latest.number > 0 => {
            warn!("this folder was part of another cluster; its files join this one as new files");
            store.forget_history()?;
            Err(CatalogError::NotRecorded("the history of another cluster".to_owned()))
        }
        _ => Ok(()),
    }
}
