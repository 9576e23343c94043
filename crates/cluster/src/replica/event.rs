//! What happens to a slave's part in changes, and what it wants done.

use relais_proto::{ChangeId, FolderId, Lsn, Refusal};

use super::{FetchFault, MissingContent, ReceivedTree};
use crate::history_hash::HistoryHash;
use crate::message_budget::{CommittedEntry, ReplicaPosition, ToMaster, ToSlave};
use crate::sequence::ChangeRequest;
use crate::timeline::Timeline;

/// A session that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is a link to a master; both have proved the key.
    Linked,
    /// The link is gone.
    Unlinked,
    /// The master has said something on it.
    Received(ToSlave),
    /// The master's last number, from its answer to a heartbeat.
    MasterLsn(Lsn),
    /// A change is asked for; the content of a put is staged under its id, for good.
    Proposed {
        /// Who asks; none for what was found in the folder.
        session: Option<Session>,
        /// The change.
        request: ChangeRequest,
        /// How many copies are wanted.
        copies: u16,
    },
    /// A session wants to read, and has seen this number.
    Read {
        /// Which session.
        session: Session,
        /// The highest number that it has seen.
        lsn: Lsn,
    },
    /// A session is gone.
    SessionClosed(Session),
    /// What was to be carried out is done, for good.
    Applied {
        /// Contents that these changes brought, or brought back, and that are not here.
        lacks: Vec<Lsn>,
        /// Those of them that were staged here and could not be placed.
        failed: Vec<Lsn>,
    },
    /// It could not be carried out; nothing of it counts. It is tried again.
    ApplyFailed,
    /// The tree was compared and taken over, for good. These contents are not here.
    Adopted {
        /// What is lacking.
        lacks: Vec<MissingContent>,
    },
    /// It could not be taken over; nothing of it counts.
    AdoptFailed,
    /// Content was fetched, checked, and is under its name for good; or not.
    Fetched {
        /// The put.
        put: Lsn,
        /// Where it came from.
        from: FolderId,
        /// Why it is not here.
        result: Result<(), FetchFault>,
    },
    /// What was staged for a change is in the place of the put's content, for good; or it could not be placed there.
    Published {
        /// The change.
        id: ChangeId,
        /// The put.
        put: Lsn,
        /// Whether it could.
        ok: bool,
    },
    /// Content that was here is not: it was edited, removed by hand, or is damaged.
    Missing(MissingContent),
    /// The disk refuses a content at its path, for a reason that lies in the path. It is lacking, speaks against no session here, and is
    /// fetched only for another try. Said before the content is known to be lacking, or while it is; until it comes or goes.
    Refused {
        /// The put.
        put: Lsn,
        /// Whether it is fetched now, for another try.
        retry: bool,
    },
    /// An operator recovers the cluster in this epoch, and asks for this slave's tree: from now on no change of an earlier one is called
    /// done unless the new master knows it. The link to the former master does not count any more.
    Recovering(u32),
    /// Time has gone by.
    Tick,
}

/// What a session is told of the change that it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProposalResult {
    /// It is made, and stored.
    Done {
        /// Its number.
        version: Lsn,
        /// How many disks have its content, at the least.
        copies: u16,
    },
    /// It is made and stored, but fewer disks have it than were wanted.
    TooFewCopies {
        /// Its number.
        version: Lsn,
        /// How many have it, at the least.
        copies: u16,
    },
    /// It is not made; or, with [`relais_proto::ErrorCode::NoChanges`] and
    /// [`relais_proto::ErrorCode::TimedOut`], nothing is known: ask again by its id.
    Refused(Refusal),
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the master.
    Send(ToMaster),
    /// Close the link: the master broke the rules, or must not be followed. The link counts as gone.
    Close(Refusal),
    /// Note, for good and before anything else is done, that a higher epoch was heard of. What is noted never goes down again.
    RaiseEpoch(u32),
    /// Note, for good and before anything else is done: the folder has no change yet, and its hashes begin with this one.
    BeginHistory(HistoryHash),
    /// Note, for good and before anything else is done, which masters have numbered the changes of the history that is followed.
    SetTimelines(Vec<Timeline>),
    /// Carry these out, in order, what is staged for one of them included; the answer is `Carried` or `NotCarried`.
    /// There is never a second one before the answer.
    Apply {
        /// The changes.
        changes: Vec<CommittedEntry>,
        /// Where the folder stands then.
        position: ReplicaPosition,
    },
    /// Compare the catalogue with this tree and take it over; the answer is `Adopted` or `NotAdopted`. It takes the place of all that was
    /// to be carried out before and was not.
    Adopt {
        /// The tree.
        listing: ReceivedTree,
        /// Where the folder stands then.
        position: ReplicaPosition,
    },
    /// Fetch content; the answer is `Fetched`.
    Fetch {
        /// The put.
        put: Lsn,
        /// Where it belongs by now, by the number of bytes and the digest that it must have.
        lack: MissingContent,
        /// A folder that holds it.
        from: FolderId,
    },
    /// Put what is staged for a change in the place of the put's content, if it is lacking there; the answer is `Placed`.
    Publish {
        /// The change.
        id: ChangeId,
        /// The put.
        put: Lsn,
    },
    /// Free what is staged for a change.
    Discard(ChangeId),
    /// What was found in the folder is not part of the tree: put it where nobody is served from, and report it.
    Quarantine {
        /// Its id.
        id: ChangeId,
        /// Why.
        why: Refusal,
    },
    /// Answer a session that asked for a change.
    Reply {
        /// Which session.
        session: Session,
        /// The change.
        id: ChangeId,
        /// What became of it.
        answer: ProposalResult,
    },
    /// A session that wants to read sees all that it has to.
    ServeReader(Session),
    /// It does not in time: send it to another slave.
    RedirectReader(Session),
}
