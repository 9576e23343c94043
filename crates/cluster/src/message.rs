//! What a slave and its master say to each other about changes, in plain values. Over each link they arrive in order, or not at all.

use relais_proto::{ChangeId, FolderId, Mark, Numbered, Refusal, SlaveId, TreePath, Version};

use crate::chain::Chain;
use crate::sequence::Asked;
use crate::tree::Entry;

/// Content from this size on is fetched few at a time, and its fetchers are told of new holders.
pub const LARGE: u64 = 8 * 1024 * 1024;

/// Where a slave's folder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The last change that it has applied, for good.
    pub applied: Version,
    /// The hash over all changes up to there.
    pub chain: Chain,
    /// The highest epoch that it has heard of. No master with a lower one is followed.
    pub epoch: u32,
}

/// A change as a slave is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The change.
    pub numbered: Numbered,
    /// For a put: the folders that hold its content.
    pub holders: Vec<FolderId>,
    /// For a withdrawal: each path concerned, and what is there now.
    pub restored: Vec<(TreePath, Option<Entry>)>,
}

/// From a slave to its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToMaster {
    /// The first message: who it is and where it stands.
    Join {
        /// Which slave.
        slave: SlaveId,
        /// The folder that it serves.
        folder: FolderId,
        /// Where that stands.
        standing: Standing,
    },
    /// Of all content that is in the tree after `upto` it lacks only these. It comes in pages, and counts once the last has come.
    Lacks {
        /// The change that this is about.
        upto: Version,
        /// Puts whose content is not there.
        puts: Vec<Version>,
        /// Whether this is the last page.
        last: bool,
    },
    /// It asks for a change. The content of a put is on its disk.
    Propose {
        /// The change.
        asked: Asked,
        /// Whether it is something that was found in the folder, not asked for by a session.
        found: bool,
        /// How many copies the asker wants to hear of; 0 and 1 are there once it is done.
        copies: u16,
    },
    /// What has become of a change that it once asked for? The answer is `Answer`; [`relais_proto::ErrorCode::NotFound`] where it never got a number.
    Seek {
        /// The change.
        id: ChangeId,
    },
    /// It has applied all changes up to this one, for good.
    Applied {
        /// The last of them.
        upto: Version,
    },
    /// It has the content of a put under its name, for good; or has it no more.
    Holds {
        /// The put.
        put: Version,
        /// Whether it has it.
        has: bool,
    },
    /// It could not place the content of a put that it asked for itself.
    Failed {
        /// The put.
        of: Version,
    },
    /// It lacks the content of a put and will not take it from anywhere any more, until it is told that somebody holds it.
    GivenUp {
        /// The put.
        put: Version,
    },
    /// Who holds the content of this put?
    Want {
        /// The put.
        put: Version,
    },
    /// It has taken what it was last told and can take more.
    Ready,
}

/// From a master to a slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSlave {
    /// It may follow: the changes behind its own number come next.
    Follow {
        /// The master's epoch.
        epoch: u32,
        /// The last change.
        mark: Mark,
        /// The hash at the slave's number. A slave without any change takes it over.
        chain: Chain,
        /// As `GiveUp`, for all of these.
        given_up: Vec<Version>,
    },
    /// The changes do not reach back to its number, or are not its own: the whole tree comes in pages, and it compares.
    Compare {
        /// The master's epoch.
        epoch: u32,
        /// The last change.
        mark: Mark,
        /// As `GiveUp`, for all of these.
        given_up: Vec<Version>,
    },
    /// A part of the tree, in the order of the paths. The slave says `Ready` for the next.
    Page {
        /// Entries.
        entries: Vec<(TreePath, Entry)>,
        /// Changes by their ids.
        ids: Vec<(ChangeId, Version)>,
    },
    /// The tree was told whole.
    End {
        /// The tree is as after this change.
        mark: Mark,
        /// The hash there.
        chain: Chain,
        /// The last change of each earlier epoch that went into this tree.
        ends: Vec<Version>,
        /// How many entries there were.
        entries: u64,
    },
    /// The next changes, in order.
    Tell {
        /// Changes.
        changes: Vec<Told>,
    },
    /// What became of a change that it asked for, or asked about, where that is not told as a change.
    Answer {
        /// The change.
        id: ChangeId,
        /// The number that it has already, or why it has none.
        answer: Result<Version, Refusal>,
    },
    /// As many disks as were wanted have the content now.
    Copies {
        /// The put.
        put: Version,
        /// How many.
        copies: u16,
    },
    /// Nobody is known to hold the content of this put, and it is to be withdrawn. Who has it says `Holds`; who lacks it takes it from nowhere
    /// any more and says `GivenUp`. So nobody can come by it, drop what it replaced and call it done while the withdrawal is under way.
    GiveUp {
        /// The put.
        put: Version,
    },
    /// Who holds content.
    Where {
        /// The put.
        put: Version,
        /// The folders that hold it.
        holders: Vec<FolderId>,
    },
    /// It cannot join.
    Refuse {
        /// The master's epoch.
        epoch: u32,
        /// Why.
        why: Refusal,
    },
}
