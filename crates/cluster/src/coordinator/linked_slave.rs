//! What the master knows of a connected slave, and the tree that it sends to it.

use std::collections::{BTreeSet, VecDeque};

use relais_proto::{Annotations, ChangeId, FolderId, Lsn, SlaveId, TreePath};

use super::annotation_transfer::AnnotationTransfer;
use super::master_state::MasterState;
use crate::history_hash::HistoryHash;
use crate::message_budget::{MessageBudget, PAGE, ToSlave};
use crate::packed_map::PackedMap;
use crate::timeline::Timeline;
use crate::tree::Entry;

/// State of a connected slave.
#[derive(Debug, Clone)]
pub(super) struct LinkedSlave {
    pub slave: SlaveId,
    pub folder: FolderId,
    /// Last change that was sent to the slave.
    pub sent_upto: Lsn,
    /// Last change that the slave has applied.
    pub applied: Lsn,
    /// Whether the slave can receive more.
    pub ready: bool,
    /// Whether the slave has reported its missing contents since it joined.
    pub stated: bool,
    /// Missing contents that it has reported so far.
    pub missing: BTreeSet<Lsn>,
    /// Remaining part of the tree that it receives.
    pub listing: Option<TreeTransfer>,
}

/// The tree at the time when a slave was told to compare.
#[derive(Debug, Clone)]
pub(super) struct TreeTransfer {
    entries: PackedMap<TreePath, Entry>,
    /// Last path that was sent; the root before the first one.
    sent: TreePath,
    left: usize,
    ids: VecDeque<(ChangeId, Lsn)>,
    annotations: AnnotationTransfer,
    pub lsn: Lsn,
    pub chain: HistoryHash,
    pub timelines: Vec<Timeline>,
    pub count: u64,
}

impl TreeTransfer {
    pub fn of(state: &MasterState) -> Self {
        let entries = state.tree().entries();
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        // The map has no order; the same events must lead to the same pages.
        let mut ids: Vec<_> = state.ids().collect();
        ids.sort_unstable();
        Self {
            left: entries.len(),
            entries,
            sent: TreePath::root(),
            ids: ids.into(),
            annotations: AnnotationTransfer::of(state.tree()),
            lsn: state.last(),
            chain: state.chain(),
            timelines: state.timelines().to_vec(),
            count,
        }
    }

    pub fn next(&mut self) -> Option<ToSlave> {
        if self.left == 0 && self.ids.is_empty() && self.annotations.is_done() {
            return None;
        }
        let mut room = MessageBudget::default();
        let entries: Vec<_> =
            self.entries.after(&self.sent).take_while(|(path, _)| room.take([path], 0)).collect();
        self.left -= entries.len();
        if let Some((path, _)) = entries.last() {
            self.sent = path.clone();
        }
        let ids = self.ids.drain(..self.ids.len().min(PAGE)).collect();
        let annotations =
            if self.left == 0 { self.annotations.next(&mut room) } else { Annotations::default() };
        Some(ToSlave::Page { entries, ids, annotations })
    }
}
