//! Counts the occurrences of each fault and transition.

use std::collections::BTreeMap;

use relais_cluster::replica::{Action as Done, Event as Happened, ProposalResult};
use relais_cluster::{CoordinatorAction, CoordinatorEvent, HaltReason, ToMaster, ToSlave};
use relais_proto::{Change, ErrorCode, Refusal};

#[derive(Debug, Clone, Default)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    pub fn join(&mut self, other: &Self) {
        for (what, n) in &other.0 {
            *self.0.entry(what).or_default() += n;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(what, n)| (*what, *n))
    }
}

macro_rules! names {
    ($list:ident, $function:ident, $type:ty, $($pattern:pat => $name:literal,)*) => {
        pub const $list: &[&str] = &[$($name),*];
        pub fn $function(it: &$type) -> &'static str {
            match it { $($pattern => $name,)* }
        }
    };
}

names! { FROM_SLAVES, from_slave, ToMaster,
    ToMaster::Join { .. } => "slave says: join",
    ToMaster::MissingContents { .. } => "slave says: lacks",
    ToMaster::Propose { found: false, .. } => "slave says: propose",
    ToMaster::Propose { found: true, .. } => "slave says: propose found",
    ToMaster::QueryChange { .. } => "slave says: seek",
    ToMaster::Applied { .. } => "slave says: applied",
    ToMaster::Holds { has: true, .. } => "slave says: holds",
    ToMaster::Holds { has: false, .. } => "slave says: holds no more",
    ToMaster::PublishFailed { .. } => "slave says: failed",
    ToMaster::GivenUp { .. } => "slave says: given up",
    ToMaster::FindHolders { .. } => "slave says: want",
    ToMaster::Ready => "slave says: ready",
}

names! { FROM_MASTERS, from_master, ToSlave,
    ToSlave::Follow { .. } => "master says: follow",
    ToSlave::Compare { .. } => "master says: compare",
    ToSlave::Page { .. } => "master says: page",
    ToSlave::End { .. } => "master says: end",
    ToSlave::Commit { .. } => "master says: tell",
    ToSlave::ProposalResult { answer: Ok(_), .. } => "master says: known",
    ToSlave::ProposalResult { answer: Err(Refusal { code: ErrorCode::Locked, .. }), .. } =>
        "master says: locked",
    ToSlave::ProposalResult { answer: Err(_), .. } => "master says: refused",
    ToSlave::Copies { .. } => "master says: copies",
    ToSlave::GiveUp { .. } => "master says: give up",
    ToSlave::Holders { .. } => "master says: where",
    ToSlave::Refuse { .. } => "master says: refuse",
}

names! { MASTER_EVENTS, master_event, CoordinatorEvent,
    CoordinatorEvent::Received { .. } => "master: heard",
    CoordinatorEvent::LinkClosed { .. } => "master: left",
    CoordinatorEvent::Written => "master: written",
    CoordinatorEvent::WriteFailed { for_good: false, .. } => "master: not written",
    CoordinatorEvent::WriteFailed { for_good: true, .. } => "master: journal broken",
    CoordinatorEvent::GraceEnded => "master: opened",
    CoordinatorEvent::Forget { .. } => "master: forget",
    CoordinatorEvent::Trim(_) => "master: trim",
}

names! { MASTER_ACTIONS, master_action, CoordinatorAction,
    CoordinatorAction::Write(_) => "master does: write",
    CoordinatorAction::Send { .. } => "master does: send",
    CoordinatorAction::Close { .. } => "master does: close",
    CoordinatorAction::AddFolder { .. } => "master does: know",
    CoordinatorAction::Halted(HaltReason::Broken) => "master does: halt, broken",
    CoordinatorAction::Halted(HaltReason::Behind) => "master does: halt, behind",
    CoordinatorAction::Halted(HaltReason::Differs) => "master does: halt, differs",
    CoordinatorAction::Halted(HaltReason::Superseded) => "master does: halt, superseded",
    CoordinatorAction::Lost { .. } => "master does: lost",
}

names! { SLAVE_EVENTS, slave_event, Happened,
    Happened::Linked => "slave: linked",
    Happened::Unlinked => "slave: unlinked",
    Happened::Received(_) => "slave: heard",
    Happened::MasterLsn(_) => "slave: marked",
    Happened::Proposed { .. } => "slave: asked",
    Happened::SessionClosed(_) => "slave: session gone",
    Happened::Applied { .. } => "slave: carried",
    Happened::ApplyFailed => "slave: not carried",
    Happened::Adopted { .. } => "slave: adopted",
    Happened::AdoptFailed => "slave: not adopted",
    Happened::Fetched { fault: None, .. } => "slave: fetched",
    Happened::Fetched { fault: Some(_), .. } => "slave: not fetched",
    Happened::Published { ok: true, .. } => "slave: placed",
    Happened::Published { ok: false, .. } => "slave: not placed",
    Happened::Missing(_) => "slave: missing",
    Happened::Refused { retry: false, .. } => "slave: refused",
    Happened::Hidden { .. } => "slave: hidden",
    Happened::Refused { retry: true, .. } => "slave: refused, another try",
    Happened::Recovering(_) => "slave: recovering",
    Happened::Tick => "slave: tick",
}

names! { SLAVE_ACTIONS, slave_action, Done,
    Done::Send(_) => "slave does: send",
    Done::Close(_) => "slave does: close",
    Done::RaiseEpoch(_) => "slave does: raise",
    Done::BeginHistory(_) => "slave does: begin",
    Done::SetTimelines(_) => "slave does: timelines",
    Done::Apply { .. } => "slave does: carry",
    Done::Adopt { .. } => "slave does: adopt",
    Done::Fetch { .. } => "slave does: fetch",
    Done::Publish { .. } => "slave does: place",
    Done::Discard(_) => "slave does: discard",
    Done::Quarantine { .. } => "slave does: set aside",
    Done::Reply { answer: ProposalResult::Done { .. }, .. } => "slave answers: done",
    Done::Reply { answer: ProposalResult::TooFewCopies { .. }, .. } => "slave answers: too few copies",
    Done::Reply { answer: ProposalResult::Refused(_), .. } => "slave answers: refused",
}

names! { CHANGES, change, Change,
    Change::Put { .. } => "change: put",
    Change::MakeFolder { .. } => "change: folder",
    Change::Remove { .. } => "change: removal",
    Change::Move { .. } => "change: move",
    Change::Withdraw { .. } => "change: withdrawal",
    Change::SetAttributes { .. } => "change: attributes",
    Change::SetProperties { .. } => "change: properties",
    Change::Lock { .. } => "change: lock",
    Change::Unlock { .. } => "change: unlock",
    Change::RecordSha256 { .. } => "change: hashes",
}

const READS: &[&str] =
    &["read: here", "read: sent to a holder", "read: within a batch", "read: behind"];

/// Names that must occur often in a whole run.
pub fn all() -> impl Iterator<Item = &'static str> {
    [
        FROM_SLAVES,
        FROM_MASTERS,
        MASTER_EVENTS,
        MASTER_ACTIONS,
        SLAVE_EVENTS,
        SLAVE_ACTIONS,
        CHANGES,
        crate::faults::FAULTS,
        READS,
    ]
    .into_iter()
    .flatten()
    .copied()
}
