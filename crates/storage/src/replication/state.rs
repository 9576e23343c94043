//! What a replica keeps in memory between two runs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use log::{error, warn};
use relais_cluster::record::ReplicaRecorder;
use relais_cluster::replica::{Event, Replica, SessionId};
use relais_journal::Recording;
use relais_proto::{ChangeId, ClusterId, Digest, FolderId, LinkMessage, Lsn, Refusal};
use relais_tree::Folder;

use super::local_changes::LocalChanges;
use super::messages::Output;
use super::pending_answers::PendingAnswers;
use super::scrub::Scrubber;
use crate::catalogue::store::CatalogStore;
use crate::progress::ReplicaProgress;
use crate::proposal::{Proposal, ProposalResult};
use crate::quarantine::Quarantine;
use crate::scan::watcher::WatchMode;
use crate::staging::{StagedName, Staging};
use crate::upload_table::UploadTable;

/// A proposal that waits for a local change at its path.
pub(super) struct HeldProposal {
    pub channel: u64,
    pub session: SessionId,
    pub proposal: Proposal,
    /// The refusal if its content could not be synced.
    pub unsynced: Option<Refusal>,
    pub since: Instant,
}

/// Runs the replica of a folder: the state machine [`Replica`] decides, this struct has what its
/// decisions are carried out with.
pub struct ReplicaDriver {
    pub(super) root: Folder,
    pub(super) staging: Staging,
    pub(super) quarantine: Quarantine,
    /// How far the replica is, for readers in other processes.
    pub(super) progress: Arc<ReplicaProgress>,
    pub(super) uploads: Arc<UploadTable>,
    pub(super) pending_answers: PendingAnswers,
    pub(super) replica: Replica,
    /// Recording of all events and actions, if it is enabled.
    pub(super) recording: Recording<ReplicaRecorder>,
    /// What the caller has to send.
    pub(super) outputs: Vec<Output>,
    /// Whether no other folder has the contents, as in a standalone slave. What users do in the
    /// folder is then always taken up, because nothing could be fetched again.
    pub(super) is_sole: bool,
    pub(super) started: Instant,
    pub(super) last_tick: Instant,
    /// Time of the next look for unapplied changes that are due.
    pub(super) next_retry: Instant,
    /// Number of the present link.
    pub(super) link: Option<u64>,
    /// The cluster of the last link.
    pub(super) cluster: Option<ClusterId>,
    /// Whether the replica knows about the link.
    pub(super) link_announced: bool,
    /// Why the master is not followed. The link stays: files can be read, and an operator can
    /// recover the cluster.
    pub(super) master_refusal: Option<Refusal>,
    /// Staged content of sessions' changes. `checked` has the digests that this process has
    /// verified.
    pub(super) staged: HashMap<ChangeId, StagedName>,
    pub(super) checked: HashMap<ChangeId, Digest>,
    /// Puts that were committed before a session proposed them on this link.
    pub(super) known: HashSet<ChangeId>,
    pub(super) local_changes: LocalChanges,
    /// Proposals that wait for local changes, in the order of each session.
    pub(super) held: Vec<HeldProposal>,
    /// Channels that ask for the holders of a content.
    pub(super) holder_queries: HashMap<Lsn, Vec<u64>>,
    /// Events for the next iteration.
    pub(super) deferred: VecDeque<Event>,
    /// Events that the replica gets before any other.
    pub(super) initial_events: Vec<Event>,
    pub(super) scrubber: Scrubber,
    /// Complete contents whose path refused them. They wait in staging and are not fetched again.
    pub(super) parked: HashMap<Lsn, StagedName>,
    /// Whether fetched content could not be stored, and none was stored since.
    pub(super) cannot_store: bool,
    pub(super) folder: FolderId,
    pub(super) watch: WatchMode,
    pub(super) writer_token: String,
    pub(super) in_service: bool,
    /// Whether the folder of removed files needs sweeping.
    pub(super) litter: bool,
    /// Last warning, to avoid repeating it.
    pub(super) last_warning: String,
}

impl ReplicaDriver {
    /// Sends a message on the present link, if there is one.
    pub(super) fn send(&mut self, message: LinkMessage) {
        self.outputs.extend(self.link.map(|link| Output::Send(link, message)));
    }

    /// Sends the result of a session's proposal, after those of its earlier proposals.
    pub(super) fn answer(&mut self, session: SessionId, answer: ProposalResult) {
        self.outputs.extend(self.pending_answers.answer(session, answer));
    }

    /// Logs a warning, unless it was the last one.
    pub(super) fn warn_once(&mut self, what: String) {
        if self.last_warning != what {
            warn!("{what}");
            self.last_warning = what;
        }
    }

    /// Discards a staged upload and its row in the table. An earlier session may have left the row
    /// because the file was still there.
    pub(super) fn discard_upload(&self, staged: &StagedName) {
        self.staging.discard(staged);
        self.uploads.release(staged, &self.staging);
    }
}

/// Rolls back the open transaction of the catalogue.
pub(super) fn roll_back_catalog(store: &CatalogStore) {
    if let Err(e) = store.rollback() {
        error!("cannot roll back the catalogue: {e}");
    }
}
