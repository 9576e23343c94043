//! Bugs that the world around the library can have. Each breaks one invariant, and is found.

use crate::check::{
    ACKED_KEPT, BRANCH_KEPT, COVERED, EPOCH_REFUSED, FRESH, ID_ONCE, NEVER_BACK, NUMBERS_ONCE,
    REMOVED_STAYS, TREES_EQUAL, WHOLE,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Content is called stored before it is synced.
    ContentNotSynced,
    /// What other slaves have in place of content that they lack goes at once.
    ReplacedDropped,
    /// A fetch that was cut is not checked.
    FetchNotChecked,
    /// After a crash the catalogue is older than the number beside it.
    CatalogueOlder,
    /// A slave leaves moves out.
    MovesLeftOut,
    /// A local change is proposed like one of a session.
    FoundIsAsked,
    /// A reader is served without asking whether it may be.
    ReadersNotHeld,
    /// The master answers before the journal is synced.
    JournalNotSynced,
    /// A recovery forgets the ids of changes.
    IdsForgotten,
    /// A listing that was cut is taken for whole.
    ListingCut,
    /// A slave forgets at a restart that a higher epoch has begun.
    EpochForgotten,
    /// A slave takes equal numbers for equal history.
    NumbersTrusted,
}

impl Bug {
    /// Each with the invariant that it breaks.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::ContentNotSynced, ACKED_KEPT),
        (Self::ReplacedDropped, ACKED_KEPT),
        (Self::FetchNotChecked, WHOLE),
        (Self::CatalogueOlder, NEVER_BACK),
        (Self::MovesLeftOut, TREES_EQUAL),
        (Self::FoundIsAsked, REMOVED_STAYS),
        (Self::ReadersNotHeld, FRESH),
        (Self::JournalNotSynced, NUMBERS_ONCE),
        (Self::IdsForgotten, ID_ONCE),
        (Self::ListingCut, COVERED),
        (Self::EpochForgotten, EPOCH_REFUSED),
        (Self::NumbersTrusted, BRANCH_KEPT),
    ];
}
