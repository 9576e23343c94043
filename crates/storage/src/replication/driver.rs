//! Replication. Proposals of sessions go to the coordinator, and committed changes are applied. The
//! coordinator is that of the master, or in a standalone slave its own.
//!
//! The driver runs the state machine [`Replica`], which makes all decisions. The driver carries
//! them out on the disk and in the catalogue, and returns what has to be sent. It has no sockets
//! and no threads: the one thread that writes the catalogue calls it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use relais_cluster::record::Recorder;
use relais_cluster::replica::{self, Action, Event, Replica, SessionId, in_service};
use relais_cluster::{AnnotationTransfer, MessageBudget, Tree};
use relais_journal::Recording;
use relais_proto::{
    Annotations, ChangeId, ClusterId, ContentHashes, Digest, ErrorCode, FolderId, LinkMessage, Lsn,
    Refusal, SlaveId, ToSlave, TreePage, TreePath, metric,
};
use relais_tree::{Folder, Meta};

use super::disk_transaction::ReplicaDisk;
use super::local_changes::LocalChanges;
use super::messages::{FetchResult, LinkEvent, Output, SessionRequests};
use super::pending_answers::PendingAnswers;
use super::scrub::Scrubber;
use super::unapplied;
use crate::upload_table::UploadTable;
use crate::{
    CatalogError, CatalogStore, Commit, CommitReceipt, Proposal, ProposalResult, ReplicaProgress,
    Scanner, StagedName, WatchMode,
};

/// Interval of the replica's tick.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// What a driver needs.
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct ReplicaDriverConfig {
    pub slave: SlaveId,
    pub folder: FolderId,
    /// How far the replica is, for readers in other processes.
    pub progress: Arc<ReplicaProgress>,
    pub uploads: Arc<UploadTable>,
    /// Whether no other folder has the contents, as in a standalone slave. What users do in the
    /// folder is then always taken up, because nothing could be fetched again.
    pub is_sole: bool,
    /// How the folder is watched; decides whether local removals become changes.
    pub watch: WatchMode,
    /// Token of the writer lock. A reader that finds it in the catalogue trusts the row with it.
    pub writer_token: String,
}

/// A proposal that waits for a local change at its path.
pub(super) struct HeldProposal {
    pub channel: u64,
    pub session: SessionId,
    pub proposal: Proposal,
    /// The refusal if its content could not be synced.
    pub unsynced: Option<Refusal>,
    pub since: Instant,
}

/// Staged content of a session's change.
pub(super) struct StagedContent {
    pub name: StagedName,
    /// Digest of the content if this process has verified it.
    pub digest: Option<Digest>,
    /// SHA-256 hashes that are recorded once the put has a number.
    pub hashes: Option<ContentHashes>,
}

/// Runs the replica of a folder: the state machine [`Replica`] decides, the driver carries out.
pub struct ReplicaDriver {
    pub(super) config: ReplicaDriverConfig,
    pub(super) disk: ReplicaDisk,
    pub(super) pending_answers: PendingAnswers,
    pub(super) replica: Replica,
    /// Recording of all events and actions, if it is enabled.
    recording: Recording<Recorder>,
    /// What the caller has to send.
    pub(super) outputs: Vec<Output>,
    started: Instant,
    last_tick: Instant,
    /// Time of the next look for unapplied changes that are due.
    pub(super) next_retry: Instant,
    /// Number of the present link.
    pub(super) link: Option<u64>,
    /// The cluster of the last link.
    cluster: Option<ClusterId>,
    /// Whether the replica knows about the link.
    pub(super) link_announced: bool,
    /// Why the master is not followed. The link stays: files can be read, and an operator can
    /// recover the cluster.
    master_refusal: Option<Refusal>,
    /// Staged content of sessions' changes.
    pub(super) staged: HashMap<ChangeId, StagedContent>,
    /// Puts that were committed before a session proposed them on this link.
    pub(super) known: HashSet<ChangeId>,
    /// The changes of the last batch, whose answers follow it.
    pub(super) last_batch: HashMap<ChangeId, Commit>,
    pub(super) local_changes: LocalChanges,
    /// Proposals that wait for local changes, in the order of each session.
    pub(super) held: Vec<HeldProposal>,
    /// Channels that ask for the holders of a content.
    pub(super) holder_queries: HashMap<Lsn, Vec<u64>>,
    /// Events that the replica gets next.
    pub(super) events: VecDeque<Event>,
    pub(super) scrubber: Scrubber,
    /// Complete contents whose path refused them. They wait in staging and are not fetched again.
    pub(super) parked: HashMap<Lsn, StagedName>,
    /// Files that were published since the last call, as the catalogue has them.
    pub(super) published: Vec<(TreePath, Meta)>,
    /// Whether fetched content could not be stored, and none was stored since.
    pub(super) cannot_store: bool,
    in_service: bool,
    /// Whether the folder of removed files needs sweeping.
    pub(super) litter: bool,
    /// Last warning, to avoid repeating it.
    last_warning: String,
}

impl ReplicaDriver {
    /// Creates a driver that continues at the position in the catalogue.
    ///
    /// # Errors
    /// Returns the errors of the folder and of the catalogue.
    pub fn new(
        root: Folder,
        config: ReplicaDriverConfig,
        store: &CatalogStore,
    ) -> Result<Self, CatalogError> {
        let mut disk = ReplicaDisk::open(root)?;
        let mut staged = HashMap::new();
        for listed in disk.staging.staged.list()? {
            let Some(name) = std::str::from_utf8(listed?.name()).ok().and_then(StagedName::parse)
            else {
                continue;
            };
            // Content from other slaves is fetched again. An upload of a session may be resumed.
            if name.is_fetched() {
                disk.restore_held(&name, store)?;
            } else if name.is_sealed && config.is_sole && store.commit_of(name.id)?.is_some() {
                // The former process has ended between the commit and the removal.
                disk.staging.discard(&name);
            } else if name.is_sealed {
                staged.insert(name.id, StagedContent { name, digest: None, hashes: None });
            }
        }
        let position = store.position()?;
        config.progress.set(position.applied);
        // In a standalone slave sessions may have proposals for these uploads already, so they are
        // left to the sweeper.
        let ids = if config.is_sole { BTreeSet::new() } else { staged.keys().copied().collect() };
        let lacks = store.missing_content()?;
        let mut events = VecDeque::new();
        for lack in &lacks {
            if store.unapplied(&lack.path)?.is_some() {
                events.push_back(unapplied::refusal(store, lack.put, &lack.path)?);
            }
        }
        let (slave, folder) = (config.slave, config.folder);
        let recording = Recording::start(&format!("slave-{slave}"), |to| {
            Recorder::replica(slave, folder, &position, &lacks, &ids, to)
        });
        let replica = Replica::new(slave, folder, position, lacks, ids);
        store.set_fit("")?;
        store.retry_all_unapplied()?;
        Ok(Self {
            disk,
            config,
            pending_answers: PendingAnswers::default(),
            replica,
            recording,
            outputs: Vec::new(),
            started: Instant::now(),
            last_tick: Instant::now(),
            next_retry: Instant::now(),
            link: None,
            cluster: None,
            link_announced: false,
            master_refusal: None,
            staged,
            known: HashSet::new(),
            last_batch: HashMap::new(),
            local_changes: LocalChanges::default(),
            held: Vec::new(),
            holder_queries: HashMap::new(),
            events,
            scrubber: Scrubber::default(),
            parked: HashMap::new(),
            published: Vec::new(),
            cannot_store: false,
            in_service: false,
            litter: true,
            last_warning: String::new(),
        })
    }

    /// Returns the time of the next tick.
    #[must_use]
    pub fn due(&self) -> Instant {
        if self.scrubber.has_unrecorded_end() { self.last_tick } else { self.last_tick + TICK }
    }

    /// Returns whether the sweeper has something to do since the last call.
    pub fn take_litter(&mut self) -> bool {
        std::mem::take(&mut self.litter)
    }

    /// Returns whether the content of a put is still wanted here.
    #[must_use]
    pub fn wants(&self, put: Lsn) -> bool {
        self.replica.wants(put)
    }

    /// Returns what has to be sent since the last call, in this order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        self.recording.flush();
        std::mem::take(&mut self.outputs)
    }

    /// Handles events of the link.
    ///
    /// They come before the requests of sessions. They may discard staged content, which must not
    /// be an upload that a session has just staged for the same change.
    ///
    /// # Errors
    /// Returns the errors of the catalogue. The driver then must not be used any more.
    pub fn handle_link_events(
        &mut self,
        link_events: Vec<LinkEvent>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        self.take_link_events(link_events, store)?;
        self.run(store)
    }

    /// Handles requests, fetched contents, what the scanner has found, and retries.
    ///
    /// # Errors
    /// Returns the errors of the catalogue and of the folder. The driver then must not be used any
    /// more.
    pub fn run_once(
        &mut self,
        requests: SessionRequests,
        fetched: Vec<FetchResult>,
        scanner: &mut Scanner,
    ) -> Result<(), CatalogError> {
        self.take_requests(requests, &scanner.store)?;
        self.take_fetched(fetched, &scanner.store)?;
        self.take_detected(scanner)?;
        self.retry_unapplied(scanner)?;
        if self.last_tick.elapsed() >= TICK || !self.events.is_empty() {
            self.last_tick = Instant::now();
            self.events.push_back(Event::Tick);
        }
        self.run(&scanner.store)?;
        scanner.note_published(std::mem::take(&mut self.published));
        let quarantined = self.disk.quarantine.take_count();
        if quarantined > 0 {
            scanner.store.add_to_total(metric::QUARANTINED, quarantined)?;
        }
        self.scrubber.record(&scanner.store)?;
        self.update_fitness(&scanner.store)
    }

    /// Sends a message on the present link, if there is one.
    pub(super) fn send(&mut self, message: LinkMessage) {
        self.outputs.extend(self.link.map(|link| Output::Send(link, message)));
    }

    /// Sends the result of a session's proposal, after those of its earlier proposals.
    pub(super) fn answer(&mut self, session: SessionId, answer: ProposalResult) {
        self.outputs.extend(self.pending_answers.answer(session, answer));
    }

    /// Discards a staged upload and its row in the table. An earlier session may have left the row
    /// because the file was still there.
    pub(super) fn discard_upload(&self, staged: &StagedName) {
        self.disk.staging.discard(staged);
        self.config.uploads.release(staged, &self.disk.staging);
    }

    /// Passes events to the replica and executes its actions, until there are none left.
    fn run(&mut self, store: &CatalogStore) -> Result<(), CatalogError> {
        let mut actions = VecDeque::new();
        loop {
            while let Some(event) = self.events.pop_front() {
                let now = self.started.elapsed();
                self.recording.note(|tape, to| tape.event(&event, now.as_nanos(), to));
                let what = self.replica.on(event, now);
                self.recording.note(|tape, to| tape.actions(&what, to));
                actions.extend(what);
            }
            let Some(action) = actions.pop_front() else { return Ok(()) };
            self.execute(action, &mut actions, store)?;
        }
    }

    fn execute(
        &mut self,
        action: Action,
        next: &mut VecDeque<Action>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        match action {
            Action::Send(message) => self.send(LinkMessage::ToMaster(message)),
            Action::Close(reason) => {
                let warning = format!("replication from the master stopped: {reason}");
                if self.last_warning != warning {
                    warn!("{warning}");
                    self.last_warning = warning;
                }
                if reason.code == ErrorCode::Exists {
                    self.outputs.push(Output::IdConflict(true));
                }
                if self.master_refusal.is_some() || reason.code == ErrorCode::Conflict {
                    self.master_refusal.get_or_insert(reason);
                } else if let Some(link) = self.link.take() {
                    self.link_announced = false;
                    self.outputs.push(Output::CloseLink(link));
                }
            }
            Action::RaiseEpoch(epoch) => store.raise_epoch(epoch)?,
            Action::BeginHistory(chain) => store.set_chain(chain)?,
            Action::SetTimelines(timelines) => {
                store.set_timelines(&timelines)?;
                self.note_history(store)?;
            }
            Action::Apply { changes, position } => self.apply_batch(&changes, &position, store)?,
            Action::Adopt { listing, position } => self.resync(&listing, &position, store)?,
            Action::Fetch { put, lack: missing, from } => {
                self.outputs.push(Output::Fetch { put, missing, from });
            }
            Action::Publish { id, put } => {
                let mut all = vec![(id, put)];
                // Several contents share one sync.
                while let Some(Action::Publish { id, put }) = next.front() {
                    all.push((*id, *put));
                    next.pop_front();
                }
                self.publish_staged(&all, store)?;
            }
            Action::Discard(id) => self.discard_staged(id, store)?,
            Action::Quarantine { id, why } => {
                self.quarantine_change(id, &why.to_string(), store)?
            }
            Action::Reply { session, id, answer } => {
                let mut all = vec![(session, id, answer)];
                while matches!(next.front(), Some(Action::Reply { .. }))
                    && let Some(Action::Reply { session, id, answer }) = next.pop_front()
                {
                    all.push((session, id, answer));
                }
                store.ask_together(|store| self.reply_all(all, store))?;
            }
        }
        Ok(())
    }

    fn reply_all(
        &mut self,
        all: Vec<(SessionId, ChangeId, replica::ProposalResult)>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        for (session, id, answer) in all {
            let answer = match answer {
                replica::ProposalResult::Done { version, copies } => {
                    let fresh = !self.known.remove(&id);
                    let commit = match self.last_batch.get(&id) {
                        Some(commit) => Some(*commit),
                        None => store.commit_of(id)?,
                    };
                    let digest = commit.and_then(|commit| commit.digest);
                    // An earlier proposal with the same id may have stored the content.
                    let stored = match self.pending_answers.change_of(session) {
                        Some(change) => Commit { version, digest }.answer_to(change),
                        None => Ok(CommitReceipt { digest, ..CommitReceipt::new(version) }),
                    };
                    stored.map(|stored| CommitReceipt { copies: copies.max(1), fresh, ..stored })
                }
                replica::ProposalResult::TooFewCopies { version, copies } => {
                    Err(too_few_copies(version, copies))
                }
                replica::ProposalResult::Refused(refusal) => Err(self.explain_refusal(refusal)),
            };
            self.answer(session, answer);
        }
        Ok(())
    }

    /// Notes that the master of this cluster numbers the changes of the catalogue.
    pub(super) fn note_history(&self, store: &CatalogStore) -> Result<(), CatalogError> {
        self.cluster.map_or(Ok(()), |cluster| store.set_history(cluster))
    }

    fn take_link_events(
        &mut self,
        link_events: Vec<LinkEvent>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        for event in link_events {
            match event {
                LinkEvent::Linked { link, cluster, latest } => {
                    check_history(store, cluster, latest)?;
                    self.cluster = Some(cluster);
                    self.link = Some(link);
                    // Scrub orders are numbered per link.
                    self.scrubber.clear_order();
                }
                LinkEvent::Unlinked => {
                    self.link = None;
                    self.master_refusal = None;
                    self.holder_queries.clear();
                    self.local_changes.drop_removals();
                    if std::mem::take(&mut self.link_announced) {
                        self.events.push_back(Event::Unlinked);
                    }
                }
                LinkEvent::Message(message) if self.link_announced => {
                    if matches!(message, ToSlave::Follow { .. } | ToSlave::Compare { .. }) {
                        self.outputs.push(Output::IdConflict(false));
                    }
                    if let ToSlave::Holders { put, holders } = &message {
                        store.set_holders(*put, holders)?;
                        for channel in self.holder_queries.remove(put).unwrap_or_default() {
                            self.outputs.push(Output::Holders(channel, holders.clone()));
                        }
                    }
                    if let ToSlave::ProposalResult { id, answer: Ok(_) } = &message
                        && self.staged.contains_key(id)
                    {
                        self.known.insert(*id);
                    }
                    self.events.push_back(Event::Received(message));
                }
                // The message came over a link that this slave has closed.
                LinkEvent::Message(_) => {}
                LinkEvent::MasterLsn(lsn) => self.events.push_back(Event::MasterLsn(lsn)),
                LinkEvent::Peers(peers) => {
                    store.set_peers(&peers)?;
                    self.outputs.push(Output::Peers(peers));
                }
                LinkEvent::TreeQuery { query, ids } => self.send_tree(query, ids, store)?,
                LinkEvent::Recovering(epoch) => {
                    self.master_refusal =
                        Some(Refusal::new(ErrorCode::Conflict, "the cluster is being recovered"));
                    self.events.push_back(Event::Recovering(epoch));
                }
                LinkEvent::Scrub(order) => self.scrubber.begin(order, store)?,
                LinkEvent::PathQuery { query, list } => {
                    for part in store.path_listing(list)?.into_parts(query) {
                        self.send(LinkMessage::PathPage(part));
                    }
                }
                LinkEvent::Retry => store.retry_all_unapplied()?,
            }
        }
        if self.link.is_some() && !self.link_announced {
            self.link_announced = true;
            // Messages that the link's thread queued before this event belong to an earlier link.
            self.events.push_back(Event::Linked);
            self.events.extend(self.local_changes.repropose(Duration::ZERO));
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
        if self.link.is_none() {
            return Ok(());
        }
        let (position, timelines) = (self.replica.position(), store.timelines()?);
        let page = |entries, ids, annotations, timelines, last| {
            LinkMessage::TreePage(TreePage {
                query,
                entries,
                ids,
                annotations,
                position,
                timelines,
                last,
            })
        };
        self.send(page(Vec::new(), Vec::new(), Annotations::default(), timelines, false));
        let rows = store.committed_entries()?;
        let mut entries = rows
            .into_iter()
            .filter_map(|(path, row)| Some((path, row.tree_entry()?, row.here)))
            .peekable();
        let mut ids = if ids { store.ids()? } else { Vec::new() };
        let annotated = Tree::new().annotated(store.annotations()?);
        let mut annotations = AnnotationTransfer::of(&annotated);
        drop(annotated);
        loop {
            let (mut room, mut part) = (MessageBudget::default(), Vec::new());
            while let Some(entry) = entries.next_if(|(path, ..)| room.take([path], 0)) {
                part.push(entry);
            }
            let some = ids.split_off(ids.len().saturating_sub(relais_cluster::PAGE));
            let is_after_entries = entries.peek().is_none();
            let more = match is_after_entries {
                true => annotations.next(&mut room),
                false => Annotations::default(),
            };
            let last = is_after_entries && ids.is_empty() && annotations.is_done();
            self.send(page(part, some, more, Vec::new(), last));
            if last {
                return Ok(());
            }
        }
    }

    fn update_fitness(&mut self, store: &CatalogStore) -> Result<(), CatalogError> {
        let mut readiness =
            self.replica.readiness(self.started.elapsed(), store.total(metric::BYTES)?);
        if self.master_refusal.is_some() {
            // There is nothing to catch up with.
            (readiness.following, readiness.whole, readiness.behind) = (true, true, Duration::ZERO);
        }
        let fit = in_service(&readiness);
        if fit != self.in_service {
            info!("this slave is {}ready for sessions", if fit { "" } else { "not " });
            // A slave of a cluster that waits for this folder must not serve the tree of a
            // standalone one.
            let is_served = fit && !self.config.is_sole;
            store.set_fit(if is_served { self.config.writer_token.as_str() } else { "" })?;
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

    /// Discards the staged content of a change. Files that users put into the folder are never
    /// deleted.
    fn discard_staged(&mut self, id: ChangeId, store: &CatalogStore) -> Result<(), CatalogError> {
        if let Some(staged) = self.staged.remove(&id) {
            self.discard_upload(&staged.name);
        }
        self.forget_local_change(id, store)
    }
}

fn too_few_copies(version: Lsn, copies: u16) -> Refusal {
    let disks = if copies == 1 { "disk has" } else { "disks have" };
    Refusal::new(
        ErrorCode::TooFewCopies,
        format!(
            "change {version} is committed and stands, but only {copies} {disks} its content so far"
        ),
    )
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
