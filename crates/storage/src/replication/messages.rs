//! What a replica receives and sends, as values. The caller carries them.

use std::collections::BTreeSet;
use std::fs::File;

use relais_cluster::replica::{FetchFault, MissingContent};
use relais_proto::{ClusterId, FolderId, LinkMessage, Lsn, PathList, PeerSlave, ToSlave};
use relais_tree::Meta;

use crate::{Proposal, ProposalResult, StagedName};

/// A message from the coordinator, or a change of the link to it.
#[derive(Debug)]
pub enum LinkEvent {
    /// The link is up; both sides have proved the key.
    Linked {
        /// Its number.
        link: u64,
        /// The coordinator's cluster.
        cluster: ClusterId,
        /// The latest change of the coordinator.
        latest: Lsn,
    },
    /// The link is down.
    Unlinked,
    /// A message about changes.
    Message(ToSlave),
    /// The latest change of the master.
    MasterLsn(Lsn),
    /// The slaves of the cluster, including this one.
    Peers(Vec<PeerSlave>),
    /// The master asks for the tree of this slave.
    TreeQuery {
        /// Number of the query.
        query: u64,
        /// Whether the ids of changes are wanted too.
        ids: bool,
    },
    /// The cluster is being recovered, in this epoch.
    Recovering(u32),
    /// All contents have to be read and checked, by the order with this number.
    Scrub(u64),
    /// The master asks for paths that an operator may have to look after.
    PathQuery {
        /// Number of the query.
        query: u64,
        /// The kind of paths.
        list: PathList,
    },
    /// Changes that the disk has refused have to be tried again now.
    Retry,
}

/// What sessions ask for. Each session, or a connection of one, has a channel with a number.
#[derive(Debug, Default)]
pub struct SessionRequests {
    /// Proposals, each with its channel.
    pub proposals: Vec<(u64, Proposal)>,
    /// Puts whose holders a session asks for, each with its channel.
    pub holders: Vec<(u64, Lsn)>,
    /// Channels that have closed.
    pub closed: BTreeSet<u64>,
}

/// The result of fetching one content.
#[derive(Debug)]
pub struct FetchResult {
    /// The put whose content it is.
    pub put: Lsn,
    /// The folder from whose slaves it was fetched.
    pub from: FolderId,
    /// The staged file with the content, which is synced.
    pub result: Result<FetchedFile, FetchFailure>,
}

/// The reason why a content was not fetched.
#[derive(Debug)]
pub struct FetchFailure {
    /// The side that failed.
    pub blame: FetchFault,
    /// The error of this slave's disk, if a retry would fail in the same way.
    pub lasting: Option<String>,
}

impl From<FetchFault> for FetchFailure {
    fn from(blame: FetchFault) -> Self {
        Self { blame, lasting: None }
    }
}

/// A completely fetched content. No other thread writes its file.
#[derive(Debug)]
pub struct FetchedFile {
    /// Its staged name.
    pub name: StagedName,
    /// Its metadata after the last write.
    pub meta: Meta,
    /// The locked file, if another fetch of the content may use the same name.
    pub lock: Option<File>,
}

/// What a replica sends.
#[derive(Debug)]
pub enum Output {
    /// A message for the coordinator, on the link with this number.
    Send(u64, LinkMessage),
    /// The link with this number has to be closed.
    CloseLink(u64),
    /// Whether the master reports another slave with ids of this one.
    IdConflict(bool),
    /// The result of the first proposal of a channel that has none yet.
    Answer(u64, ProposalResult),
    /// The known holders of a content that a channel has asked for.
    Holders(u64, Vec<FolderId>),
    /// No proposals can be taken from these channels now; from all others they can.
    PauseChannels(BTreeSet<u64>),
    /// A content has to be fetched from another folder.
    Fetch {
        /// The put whose content it is.
        put: Lsn,
        /// The content.
        missing: MissingContent,
        /// The folder that has it.
        from: FolderId,
    },
    /// The slaves from which contents can be fetched.
    Peers(Vec<PeerSlave>),
}
