//! Planted bugs of the programs around the library. Each breaks one invariant and must be found.

use crate::check::{
    ACKED_KEPT, ANNOTATED, BRANCH_KEPT, COVERED, EPOCH_REFUSED, FRESH, ID_ONCE, LOCKED, NEVER_BACK,
    NUMBERS_ONCE, REMOVED_STAYS, TREES_EQUAL, WHOLE,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A slave reports content as stored before the sync.
    ContentNotSynced,
    /// A slave drops replaced content although the new content is missing.
    ReplacedDropped,
    /// A slave does not verify an interrupted fetch.
    FetchNotChecked,
    /// After a crash the catalogue is older than its position.
    CatalogueOlder,
    /// A slave skips moves.
    MovesLeftOut,
    /// A local change is proposed like one of a session.
    FoundIsAsked,
    /// A slave serves a reader without a check.
    ReadersNotHeld,
    /// A slave tells readers of a batch after the commit, not before.
    AnnouncedAfterCommit,
    /// A slave reports content below a mount as missing, not as hidden.
    HiddenIsMissing,
    /// The master answers before the journal is synced.
    JournalNotSynced,
    /// A recovery forgets the ids of changes.
    IdsForgotten,
    /// A slave accepts a truncated tree as complete.
    ListingCut,
    /// A slave forgets the highest epoch at a restart.
    EpochForgotten,
    /// A slave drops properties, locks and hashes when it adopts a tree.
    AnnotationsDropped,
    /// A change of a session is proposed like a local one.
    AskedIsFound,
    /// A slave takes equal numbers for equal histories.
    NumbersTrusted,
}

impl Bug {
    /// All bugs with the invariant that each breaks.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::ContentNotSynced, ACKED_KEPT),
        (Self::ReplacedDropped, ACKED_KEPT),
        (Self::FetchNotChecked, WHOLE),
        (Self::CatalogueOlder, NEVER_BACK),
        (Self::MovesLeftOut, TREES_EQUAL),
        (Self::FoundIsAsked, REMOVED_STAYS),
        (Self::ReadersNotHeld, FRESH),
        (Self::AnnouncedAfterCommit, FRESH),
        (Self::HiddenIsMissing, ACKED_KEPT),
        (Self::JournalNotSynced, NUMBERS_ONCE),
        (Self::IdsForgotten, ID_ONCE),
        (Self::ListingCut, COVERED),
        (Self::EpochForgotten, EPOCH_REFUSED),
        (Self::AnnotationsDropped, ANNOTATED),
        (Self::AskedIsFound, LOCKED),
        (Self::NumbersTrusted, BRANCH_KEPT),
    ];
}
