//! What the master knows of a connected slave, and the tree that it sends to it.

use std::sync::Arc;

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
    pub missing: PackedMap<Lsn, ()>,
    /// Remaining part of the tree that it receives.
    pub listing: Option<TreeTransfer>,
}

/// The tree at the time when a slave was told to compare.
#[derive(Debug)]
pub(super) struct TreeCopy {
    entries: PackedMap<TreePath, Entry>,
    ids: Vec<(ChangeId, Lsn)>,
    annotations: AnnotationTransfer,
    pub lsn: Lsn,
    chain: HistoryHash,
    timelines: Vec<Timeline>,
}

impl TreeCopy {
    pub fn of(state: &MasterState) -> Self {
        // The map has no order; the same events must lead to the same pages.
        let mut ids: Vec<_> = state.ids().collect();
        ids.sort_unstable();
        Self {
            entries: state.tree().entries(),
            ids,
            annotations: AnnotationTransfer::of(state.tree()),
            lsn: state.last(),
            chain: state.chain(),
            timelines: state.timelines().to_vec(),
        }
    }
}

/// How far a slave has received a tree.
#[derive(Debug, Clone)]
pub(super) struct TreeTransfer {
    copy: Arc<TreeCopy>,
    /// Last path that was sent; the root before the first one.
    sent: TreePath,
    left: usize,
    ids_sent: usize,
    annotations: AnnotationTransfer,
}

impl TreeTransfer {
    pub fn of(copy: Arc<TreeCopy>) -> Self {
        Self {
            sent: TreePath::root(),
            left: copy.entries.len(),
            ids_sent: 0,
            annotations: copy.annotations.clone(),
            copy,
        }
    }

    /// Returns the last change of the tree.
    pub fn lsn(&self) -> Lsn {
        self.copy.lsn
    }

    /// Returns the message after the last page.
    pub fn end(&self) -> ToSlave {
        ToSlave::End {
            lsn: self.copy.lsn,
            chain: self.copy.chain,
            timelines: self.copy.timelines.clone(),
            entries: u64::try_from(self.copy.entries.len()).unwrap_or(u64::MAX),
        }
    }

    pub fn next(&mut self) -> Option<ToSlave> {
        let ids_left = &self.copy.ids[self.ids_sent..];
        if self.left == 0 && ids_left.is_empty() && self.annotations.is_done() {
            return None;
        }
        let mut room = MessageBudget::default();
        let after = self.copy.entries.after(&self.sent);
        let entries: Vec<_> = after.take_while(|(path, _)| room.take([path], 0)).collect();
        self.left -= entries.len();
        if let Some((path, _)) = entries.last() {
            self.sent = path.clone();
        }
        let ids = ids_left[..ids_left.len().min(PAGE)].to_vec();
        self.ids_sent += ids.len();
        let annotations =
            if self.left == 0 { self.annotations.next(&mut room) } else { Annotations::default() };
        Some(ToSlave::Page { entries, ids, annotations })
    }
}
