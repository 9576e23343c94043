//! Changes in a slave of a cluster: what its sessions ask for goes to the master, and what the master has numbered is carried out here.
//!
//! The shell around [`Replica`], which decides everything: this does the disk, the catalogue, the link and the other
//! slaves for it. Run by the keeper's thread alone.

mod apply_batch;
mod disk_transaction;
mod local_changes;
mod pending_answers;
mod proposals;
mod publish;
pub(super) mod quarantine;
mod resync;
mod retry;
mod unapplied;

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use relais_cluster::MessageBudget;
use relais_cluster::record::ReplicaRecorder;
use relais_cluster::replica::{self, Action, Event, Replica, in_service};
use relais_proto::{
    ChangeId, ErrorCode, FolderId, Lsn, Refusal, SlaveId, ToSlave, TreePage, TreePath,
};
use relais_state::Recording;
use relais_tree::{Folder, TreeError};

use self::local_changes::LocalChanges;
use self::pending_answers::PendingAnswers;
use self::quarantine::Quarantine;
use self::retry::ParkedContents;
use super::channel::ProposalSocket;
use super::handoff::HandoffListener;
use super::proposal_receiver::ProposalReceiver;
use super::{Commit, CommitReceipt, ProposalResult};
use crate::catalogue::{CatalogError, CatalogStore, Scanner, WatchMode};
use crate::replicator::fetch::FetchPool;
use crate::replicator::mailbox::{IdConflict, LinkEvent, LinkMailbox};
use crate::scoreboard::Scoreboard;
use crate::staging::{StagedName, Staging};

/// Time between two looks at what may have become due.
const TICK: Duration = Duration::from_millis(100);

/// What a driver is made of.
pub struct ReplicaDriverConfig {
    /// The folder.
    pub root: Folder,
    /// Which slave.
    pub slave: SlaveId,
    /// Which folder.
    pub folder: FolderId,
    /// What the processes share.
    pub scoreboard: Arc<Scoreboard>,
    /// Where sessions bring their changes.
    pub proposal_socket: Arc<ProposalSocket>,
    /// The way to the master.
    pub mailbox: LinkMailbox,
    /// What came over it before.
    pub backlog: Vec<LinkEvent>,
    /// Those who fetch content.
    pub fetch_pool: FetchPool,
    /// Whether removals by hand become changes.
    pub watch: WatchMode,
    /// What the keeper's lock says, for whoever asks whether this keeper vouches for something.
    pub writer_token: String,
}

/// See the module.
pub struct ReplicaDriver {
    root: Folder,
    staging: Staging,
    quarantine: Quarantine,
    scoreboard: Arc<Scoreboard>,
    receiver: ProposalReceiver,
    pending_answers: PendingAnswers,
    replica: Replica,
    /// All that the replica is given and does, where somebody wants that.
    recording: Recording<ReplicaRecorder>,
    mailbox: LinkMailbox,
    backlog: Vec<LinkEvent>,
    fetch_pool: FetchPool,
    started: Instant,
    last_tick: Instant,
    /// The link that is there, by its number.
    link: Option<u64>,
    /// Whether the replica knows of it.
    link_announced: bool,
    /// Why the master on it is not followed. The link stays: what is here can be read, and an operator can recover the cluster.
    master_refusal: Option<Refusal>,
    /// What is staged for changes of sessions. The digest is that of the change where this process has seen it checked.
    staged: HashMap<ChangeId, StagedName>,
    checked: HashMap<ChangeId, relais_proto::Digest>,
    /// Puts of sessions that the master had numbered before they were asked for on this link.
    known: HashSet<ChangeId>,
    local_changes: LocalChanges,
    /// Sessions that want to know who holds a content.
    holder_queries: HashMap<Lsn, Vec<u64>>,
    /// What came up beside the events, for the next round.
    deferred: VecDeque<Event>,
    /// What the replica is told before anything else.
    initial_events: Vec<Event>,
    /// The order to read all contents that was not begun yet.
    scrub_wanted: Option<u64>,
    parked: ParkedContents,
    /// Whether the master says that another slave has joined with our folder.
    id_conflict: IdConflict,
    /// Whether content that was fetched could not be stored, and none since.
    cannot_store: bool,
    folder: FolderId,
    watch: WatchMode,
    writer_token: String,
    in_service: bool,
    /// Whether something lies in the folder of removed things.
    litter: bool,
    /// The last trouble, so that it is not said again and again.
    last_warning: String,
}

impl ReplicaDriver {
    /// Goes on from where the catalogue stands.
    ///
    /// # Errors
    /// Those of the folder and the catalogue.
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
        let (staging, handoff) = (Staging::open(&root)?, HandoffListener::bind(&root)?);
        let mut quarantine = Quarantine::open(&root)?;
        let mut staged = HashMap::new();
        for listed in staging.staged.list()? {
            let Some(name) = std::str::from_utf8(listed?.name()).ok().and_then(StagedName::parse)
            else {
                continue;
            };
            // What was being fetched is fetched anew; what a session was sending may be gone on with.
            if name.is_fetched() {
                restore_held(&root, &staging, &mut quarantine, store, &name)?;
            } else if name.is_sealed() {
                staged.insert(name.id(), name);
            }
        }
        let position = store.position()?;
        scoreboard.set_visible_lsn(position.applied);
        scoreboard.set_applied_lsn(position.applied);
        let (lacks, ids) = (store.missing_content()?, staged.keys().copied().collect());
        let tape = Recording::start(&format!("slave-{slave}"), |to| {
            ReplicaRecorder::begin(slave, folder, &position, &lacks, &ids, to)
        });
        let replica = Replica::new(slave, folder, position, lacks, ids);
        store.set_meta("fit", "")?;
        store.retry_all_unapplied()?;
        let first = Self::refused_before(store)?;
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
            fetch_pool,
            started: Instant::now(),
            last_tick: Instant::now(),
            link: None,
            link_announced: false,
            master_refusal: None,
            staged,
            checked: HashMap::new(),
            known: HashSet::new(),
            local_changes: LocalChanges::default(),
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

    /// Can be read when there is something to do.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.receiver.fds(self.room() > 0).chain([self.mailbox.as_fd(), self.fetch_pool.as_fd()])
    }

    /// When there is something to do though nothing can be read.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.last_tick + TICK
    }

    /// Whether there is something for the sweeper, since this was last asked.
    pub fn take_litter(&mut self) -> bool {
        std::mem::take(&mut self.litter)
    }

    /// Does what has become due.
    ///
    /// # Errors
    /// Those of the catalogue and the folder. What was begun is done again.
    pub fn run_once(&mut self, scanner: &mut Scanner) -> Result<(), CatalogError> {
        self.scoreboard.tick_catalog_writer();
        let mut events = VecDeque::from(std::mem::take(&mut self.initial_events));
        self.take_link_events(&scanner.store, &mut events)?;
        // Before anything else is taken: what is freed because of this must not be what a session has just staged for the same change.
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
        self.fetch_pool.retain_partials(|put| self.replica.wants(put));
        let quarantined = self.quarantine.take_count();
        if quarantined > 0 {
            scanner
                .store
                .add_to_total("set-aside", i64::try_from(quarantined).unwrap_or(i64::MAX))?;
        }
        self.record_scrub(&scanner.store)?;
        self.update_fitness(&scanner.store)
    }

    /// Gives the replica what has happened, and does what it wants done, until there is nothing more.
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
            Action::Close(why) => {
                self.warn_once(format!("the master is not followed: {why}"));
                if why.code == ErrorCode::Exists {
                    self.id_conflict.record(&self.scoreboard);
                }
                if self.master_refusal.is_some() || why.code == ErrorCode::Conflict {
                    self.master_refusal.get_or_insert(why);
                } else if let Some(link) = self.link.take() {
                    self.link_announced = false;
                    self.mailbox.close(link);
                }
            }
            Action::RaiseEpoch(epoch) => store.raise_epoch(epoch)?,
            Action::BeginHistory(chain) => store.set_meta("chain", chain.0)?,
            Action::SetTimelines(timelines) => store.set_timelines(&timelines)?,
            Action::Apply { changes, position } => {
                self.apply_batch(&changes, &position, store, events)?
            }
            Action::Adopt { listing, position } => {
                self.resync(&listing, &position, store, events)?
            }
            Action::Fetch { put, lack, from } => self.fetch_pool.order(put, lack, from),
            Action::Publish { id, put } => {
                let mut all = vec![(id, put)];
                // Many at once share the wait for the disk.
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
            // Workers wait for what they have to see by themselves.
            Action::ServeReader(_) | Action::RedirectReader(_) => {}
        }
        Ok(())
    }

    /// The answer to a session whose change is made: it is told what is stored under the id, which may be older than what it asked for.
    fn receipt_for(
        &mut self,
        session: replica::Session,
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

    fn take_link_events(
        &mut self,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let backlog = std::mem::take(&mut self.backlog);
        for event in backlog.into_iter().chain(self.mailbox.receive()) {
            match event {
                LinkEvent::Linked(link) => {
                    self.link = Some(link);
                    // Its orders have numbers of their own.
                    self.forget_scrub_order();
                }
                LinkEvent::Unlinked => {
                    self.link = None;
                    self.master_refusal = None;
                    self.holder_queries.clear();
                    self.local_changes.unlinked();
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
                        self.tell_holders(*put, holders);
                    }
                    if let ToSlave::ProposalResult { id, answer: Ok(_) } = &message
                        && self.staged.contains_key(id)
                    {
                        self.known.insert(*id);
                    }
                    events.push_back(Event::Received(message));
                }
                // Of a link that was closed from here.
                LinkEvent::Message(_) => {}
                LinkEvent::MasterLsn(lsn) => events.push_back(Event::MasterLsn(lsn)),
                LinkEvent::Peers(peers) => {
                    store.set_peers(&peers)?;
                    self.fetch_pool.set_peers(peers);
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
            // What the link's thread has put in before this one is not of it.
            events.push_back(Event::Linked);
            events.extend(self.local_changes.offer_all());
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
                    "this slave can have sessions"
                } else {
                    "this slave cannot have sessions now"
                }
            );
            store.set_meta("fit", if fit { self.writer_token.as_str() } else { "" })?;
            self.in_service = fit;
        }
        Ok(())
    }

    /// Why no change is possible, where the master is there and is not followed.
    fn explain_refusal(&self, refusal: Refusal) -> Refusal {
        const HEAD: &str = "changes are not possible now: ";
        match &self.master_refusal {
            Some(why) if refusal.code == ErrorCode::NoChanges => {
                let why = why.message.strip_prefix(HEAD).unwrap_or(&why.message);
                Refusal::new(ErrorCode::NoChanges, format!("{HEAD}{why}"))
            }
            _ => refusal,
        }
    }

    /// Says what is wrong, once.
    fn warn_once(&mut self, what: String) {
        if self.last_warning != what {
            warn!("{what}");
            self.last_warning = what;
        }
    }

    /// Forgets what was staged for a change. What a user has put into the folder by hand is never destroyed.
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

/// What was being fetched is fetched anew. What was held for another path when everything stopped goes back to its own, or
/// is quarantined where that is taken: this may be the only copy.
fn restore_held(
    root: &Folder,
    staging: &Staging,
    quarantine: &mut Quarantine,
    store: &CatalogStore,
    name: &StagedName,
) -> Result<(), CatalogError> {
    let row = name.put().map(|put| store.row_of_put(put)).transpose()?.flatten();
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
                .take_removed(&staging.staged, name.as_str(), &path, "its place was taken")?),
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
            "change {version} is made and stands, but only {copies} {disks} its content so far"
        ),
    )
}

/// What goes wrong while something is brought to the disk; whoever asked for it tries again.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Catalogue(#[from] CatalogError),
    #[error("{0}: {1}")]
    Disk(TreePath, TreeError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Something else that lies in the path.
    #[error("{0}")]
    Refused(String),
}

impl ApplyError {
    /// Whether it belongs to the path alone: what has nothing to do with that path goes on.
    fn is_path_specific(&self) -> bool {
        match self {
            Self::Catalogue(_) => false,
            Self::Disk(_, e) | Self::Tree(e) => !e.is_transient(),
            Self::Refused(..) => true,
        }
    }

    /// The reason for operators, where it failed for the change of `path`.
    fn reason(&self, path: &TreePath) -> String {
        match self {
            Self::Disk(at, e) if at == path => e.reason(),
            Self::Disk(at, e) => format!("{at}: {}", e.reason()),
            Self::Tree(e) => e.reason(),
            Self::Refused(why) => why.clone(),
            Self::Catalogue(e) => e.to_string(),
        }
    }

    fn at(path: &TreePath) -> impl FnOnce(TreeError) -> Self {
        let path = path.clone();
        move |e| Self::Disk(path, e)
    }
}

/// A mark for readers who meet what is about to be noted.
fn announce(scoreboard: &Scoreboard, lsn: Lsn) {
    scoreboard.set_visible_lsn(lsn.max(scoreboard.applied_lsn()));
}

fn roll_back_catalog(store: &CatalogStore) {
    if let Err(e) = store.rollback() {
        error!("the catalogue's last changes cannot be dropped: {e}");
    }
}
