//! Events and actions of the slave's state machine.

use relais_proto::{ChangeId, FolderId, Lsn, Refusal, Uncapped, wire_enum, wire_newtypes};

use super::compare::ReceivedTree;
use super::missing_content::{FetchFault, MissingContent};
use crate::history_hash::HistoryHash;
use crate::message_budget::{CommittedEntry, ReplicaPosition, ToMaster, ToSlave};
use crate::sequence::ChangeRequest;
use crate::timeline::Timeline;

/// A session that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

wire_newtypes!(SessionId);

wire_enum! {
    /// Input of the replica. The tags are those of recordings.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Event: "event of a slave" {
        /// A link to a master is open, and both sides have proved the key.
        0 => Linked,
        /// The link is closed.
        1 => Unlinked,
        /// The master has sent a message.
        2 => Received(ToSlave),
        /// The master's last change, from its answer to a heartbeat.
        3 => MasterLsn(Lsn),
        /// A change is proposed; the content of a put is staged durably under its id.
        4 => Proposed {
            /// SessionId of the proposal; `None` for a local change.
            session: Option<SessionId>,
            request: ChangeRequest,
            /// Number of requested copies.
            copies: u16,
        },
        /// A session is closed.
        6 => SessionClosed(SessionId),
        /// The batch is applied durably.
        7 => Applied {
            /// Contents of these changes that are not here.
            missing: Vec<Lsn> [Uncapped],
            /// Missing contents that were staged here but could not be published.
            failed: Vec<Lsn> [Uncapped],
        },
        /// The batch could not be applied and has no effect. It is retried.
        8 => ApplyFailed,
        /// The tree is adopted durably.
        9 => Adopted {
            /// Contents that are not here.
            missing: Vec<MissingContent> [Uncapped],
        },
        /// The tree could not be adopted; nothing has changed.
        10 => AdoptFailed,
        /// A fetch has ended: the content is verified and durably published, or it failed.
        11 => Fetched {
            put: Lsn,
            /// Folder that the content came from.
            from: FolderId,
            /// `None` if the content is here.
            fault: Option<FetchFault>,
        },
        /// A staged upload is durably published as the put's content, or could not be.
        12 => Published {
            id: ChangeId,
            put: Lsn,
            /// Whether it is published.
            ok: bool,
        },
        /// Content is missing: it was edited, removed locally or damaged.
        13 => Missing(MissingContent),
        /// The disk refuses a content at its path.
        ///
        /// The content is missing but does not count against the slave's readiness, and is fetched
        /// only
        /// for a retry. The event may precede the report that the content is missing. It holds
        /// until
        /// the content is here or gone.
        16 => Refused {
            put: Lsn,
            /// Whether to fetch it now for a retry.
            retry: bool,
        },
        /// A content is on this disk, but an obstacle such as a mount point hides it.
        ///
        /// The content is refused until a retry, and it is not lost: the replica does not give it
        /// up.
        /// The event holds until the content is here or gone, or [`Event::Refused`] requests a
        /// retry.
        17 => Hidden { put: Lsn },
        /// An operator recovers the cluster in this epoch and requests the slave's tree.
        ///
        /// From now on a change of an earlier epoch is confirmed only if the new master knows it.
        /// The
        /// link to the former master is void.
        14 => Recovering(u32),
        /// Time has passed.
        15 => Tick,
    }
}

/// Result of a proposal, for a session.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProposalResult {
    /// The change is committed and stored.
    Done {
        version: Lsn,
        /// Number of disks that hold the content, at least.
        copies: u16,
    },
    /// The change is stored, but on fewer disks than requested.
    TooFewCopies {
        version: Lsn,
        /// Number of disks that hold the content, at least.
        copies: u16,
    },
    /// The change is refused.
    ///
    /// With [`relais_proto::ErrorCode::NoChanges`] and [`relais_proto::ErrorCode::TimedOut`] the
    /// result is unknown: the session must ask again by the id.
    Refused(Refusal),
}

/// Output of the replica.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a message to the master.
    Send(ToMaster),
    /// Close the link, because the master broke the protocol or must not be followed.
    ///
    /// The replica already treats it as closed.
    Close(Refusal),
    /// Record a higher epoch durably, before any other action. The recorded epoch never decreases.
    RaiseEpoch(u32),
    /// Record the start of the hash chain durably, before any other action.
    ///
    /// The folder has no change yet.
    BeginHistory(HistoryHash),
    /// Record the timelines of the followed history durably, before any other action.
    SetTimelines(Vec<Timeline>),
    /// Apply these changes in order, including their staged uploads.
    ///
    /// The answer is `Applied` or `ApplyFailed`. There is no second batch before the answer.
    Apply {
        changes: Vec<CommittedEntry>,
        /// Position after the batch.
        position: ReplicaPosition,
    },
    /// Compare the catalogue with this tree and adopt it.
    ///
    /// The answer is `Adopted` or `AdoptFailed`. The action replaces any unfinished batch.
    Adopt {
        listing: ReceivedTree,
        /// Position after the adoption.
        position: ReplicaPosition,
    },
    /// Fetch content; the answer is `Fetched`.
    Fetch {
        put: Lsn,
        /// Current path of the content, with the required size and digest.
        lack: MissingContent,
        /// Folder that holds it.
        from: FolderId,
    },
    /// Publish a staged upload as the put's content if that is missing; the answer is `Published`.
    Publish { id: ChangeId, put: Lsn },
    /// Delete the staged upload of a change.
    Discard(ChangeId),
    /// Quarantine a local change that is not part of the tree, and report it.
    Quarantine { id: ChangeId, why: Refusal },
    /// Answer a session that proposed a change.
    Reply { session: SessionId, id: ChangeId, answer: ProposalResult },
}
