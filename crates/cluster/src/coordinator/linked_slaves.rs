//! Connected slaves: their join, and the messages they get.

use std::sync::Arc;

use relais_proto::{ErrorCode, FolderId, Lsn, Refusal, SlaveId, TreePath, limits};

use super::linked_slave::{LinkedSlave, TreeCopy, TreeTransfer};
use super::master_state::{HistoryRelation, RecentChange};
use super::{Coordinator, CoordinatorAction, HaltReason, Holders};
use crate::message_budget::{CommittedEntry, MessageBudget, ReplicaPosition, ToSlave};
use crate::packed_map::PackedMap;
use crate::slave::LinkId;

impl Coordinator {
    pub(super) fn joined(
        &mut self,
        link: LinkId,
        slave: SlaveId,
        folder: FolderId,
        position: &ReplicaPosition,
    ) {
        let older: Vec<LinkId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.slave == slave)
            .map(|(link, _)| *link)
            .collect();
        for link in older {
            self.left(link);
            self.actions.push(CoordinatorAction::Close { link });
        }
        // Of the slaves that share a folder only the active one joins. A second join comes from a
        // copied folder, or from a slave that takes over before the former link is closed.
        if self.peers.values().any(|peer| peer.folder == folder) {
            let why = Refusal::new(
                ErrorCode::Exists,
                format!("another slave has joined with the folder {folder}"),
            );
            let epoch = self.state.epoch();
            return self.actions.send(link, ToSlave::Refuse { epoch, why });
        }
        let reach = self.state.reach(position);
        let halt = match reach {
            HistoryRelation::NewerEpoch => Some(HaltReason::Superseded),
            HistoryRelation::Ahead => Some(HaltReason::Behind),
            HistoryRelation::Diverged => Some(HaltReason::Differs),
            HistoryRelation::CanFollow(_) | HistoryRelation::MustCompare => None,
        };
        let epoch = self.state.epoch();
        if let Some(halt) = halt {
            self.halt(halt);
            let why = Refusal::new(ErrorCode::Conflict, halt.refusal().message);
            return self.actions.send(link, ToSlave::Refuse { epoch, why });
        }
        if self.folders.insert(folder) {
            self.actions.push(CoordinatorAction::AddFolder { folder });
        }
        self.expected.remove(&folder);
        let lsn = self.last();
        let given_up = self.to_give_up();
        let (message, listing) = match reach {
            HistoryRelation::CanFollow(chain) => {
                let timelines = self.state.timelines().to_vec();
                (ToSlave::Follow { epoch, lsn, chain, given_up, timelines }, None)
            }
            _ => (ToSlave::Compare { epoch, lsn, given_up }, Some(self.tree_transfer())),
        };
        let applied = position.applied;
        let peer = LinkedSlave {
            slave,
            folder,
            sent_upto: applied,
            applied,
            ready: true,
            stated: false,
            missing: PackedMap::default(),
            listing,
        };
        self.peers.insert(link, peer);
        self.woken.insert(link);
        self.actions.send(link, message);
    }

    /// Returns a transfer of the tree. Slaves that compare at the same time share one copy.
    fn tree_transfer(&mut self) -> TreeTransfer {
        let copy = self.copy.upgrade().filter(|copy| self.state.reaches(copy.lsn));
        let copy = copy.unwrap_or_else(|| Arc::new(TreeCopy::of(&self.state)));
        self.copy = Arc::downgrade(&copy);
        TreeTransfer::of(copy)
    }

    /// Returns the last change that the slave on this link has applied.
    #[must_use]
    pub fn applied(&self, link: LinkId) -> Option<Lsn> {
        self.peers.get(&link).map(|peer| peer.applied)
    }

    /// Sends each ready slave the changes that it has not received.
    pub(super) fn send_changes(&mut self) {
        let (mut outrun, last) = (Vec::new(), self.state.last());
        let woken = std::mem::take(&mut self.woken);
        // Without a new change only few links can get something, of perhaps a thousand.
        let links: Vec<LinkId> = match std::mem::replace(&mut self.offered, last) == last {
            true => woken.into_iter().collect(),
            false => self.peers.keys().copied().collect(),
        };
        for link in &links {
            let Some(peer) = self.peers.get_mut(link) else { continue };
            if !peer.ready {
                continue;
            }
            let message = match &mut peer.listing {
                Some(listing) => match listing.next() {
                    Some(page) => page,
                    None => {
                        let end = listing.end();
                        peer.sent_upto = listing.lsn();
                        peer.listing = None;
                        end
                    }
                },
                None if peer.sent_upto >= self.state.last() => continue,
                None if !self.state.reaches(peer.sent_upto) => {
                    outrun.push(*link);
                    continue;
                }
                None => {
                    let from = self.state.behind(peer.sent_upto);
                    let mut room = MessageBudget::default();
                    let changes = self
                        .state
                        .tail
                        .range(from..)
                        .map(|kept| committed_entry(kept, &self.holders));
                    let changes: Vec<CommittedEntry> = changes
                        .take_while(|committed| {
                            let extra = committed.entry.change.extra_bytes();
                            room.take(paths(committed), committed.holders.len() * 16 + extra)
                        })
                        .collect();
                    let Some(last) = changes.last().map(|committed| committed.entry.version) else {
                        continue;
                    };
                    peer.sent_upto = last;
                    ToSlave::Commit { changes }
                }
            };
            peer.ready = false;
            self.actions.send(*link, message);
        }
        // The changes after its position are no longer retained: it joins again and compares.
        for link in outrun {
            self.left(link);
            self.actions.push(CoordinatorAction::Close { link });
        }
    }
}

fn committed_entry(kept: &RecentChange, holders: &Holders) -> CommittedEntry {
    let log_entry = kept.entry.clone();
    CommittedEntry {
        holders: holders.of(log_entry.version).take(limits::HOLDERS).collect(),
        entry: log_entry,
        restored: kept.restored.clone(),
    }
}

/// Iterates over the paths in a committed entry.
fn paths(committed: &CommittedEntry) -> impl Iterator<Item = &TreePath> {
    // A restored path comes with an entry, which is about as long as a change.
    let restored = committed.restored.iter().map(|(path, _)| path);
    committed.entry.change.paths().chain(restored)
}
