//! Pages of the properties, locks and hashes of a tree, for a server that compares or recovers it.

use std::collections::VecDeque;
use std::sync::Arc;

use relais_proto::{Annotations, ContentHashes, Lock, Lsn, Property, TreePath};

use crate::message_budget::MessageBudget;
use crate::properties::PathProperties;
use crate::tree::Tree;

/// Remaining properties, locks and hashes of a tree. They are shared with the tree.
#[derive(Debug, Clone)]
pub struct AnnotationTransfer {
    properties: VecDeque<(TreePath, Arc<PathProperties>)>,
    /// Number of properties of the first path that were sent.
    sent: usize,
    locks: VecDeque<(TreePath, Arc<Lock>)>,
    hashes: VecDeque<(Lsn, Arc<ContentHashes>)>,
}

impl AnnotationTransfer {
    /// Begins with all of a tree.
    #[must_use]
    pub fn of(tree: &Tree) -> Self {
        let properties = tree.properties().iter();
        let locks = tree.locks().iter();
        let hashes = tree.hashes().iter();
        Self {
            properties: properties.map(|(path, all)| (path.clone(), Arc::clone(all))).collect(),
            sent: 0,
            locks: locks.map(|(path, lock)| (path.clone(), Arc::clone(lock))).collect(),
            hashes: hashes.map(|(put, hashes)| (put, Arc::clone(hashes))).collect(),
        }
    }

    /// Returns whether nothing remains.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.properties.is_empty() && self.locks.is_empty() && self.hashes.is_empty()
    }

    /// Takes as much as still fits into a message.
    pub fn next(&mut self, room: &mut MessageBudget) -> Annotations {
        let properties = self.next_properties(room);
        let bytes = |lock: &Lock| lock.user.len() + lock.owner.len();
        let count = self.locks.iter().take_while(|(path, lock)| room.take([path], bytes(lock)));
        let count = count.count();
        let locks =
            self.locks.drain(..count).map(|(path, lock)| (path, Arc::unwrap_or_clone(lock)));
        let locks = locks.collect();
        let count = self.hashes.iter().take_while(|(_, hashes)| room.take([], hashes.bytes()));
        let count = count.count();
        let hashes = self.hashes.drain(..count);
        let hashes = hashes.map(|(put, hashes)| (put, Arc::unwrap_or_clone(hashes))).collect();
        Annotations { properties, locks, hashes }
    }

    fn next_properties(&mut self, room: &mut MessageBudget) -> Vec<(TreePath, Property)> {
        let mut page = Vec::new();
        while let Some((path, all)) = self.properties.front() {
            for property in all.iter_from(self.sent) {
                if !room.take([path], property.bytes()) {
                    return page;
                }
                self.sent += 1;
                page.push((path.clone(), property));
            }
            self.properties.pop_front();
            self.sent = 0;
        }
        page
    }
}
