//! Tracks the copies of contents: holders, waiting clients and lost contents.
//!
//! A content is given up only if every folder of the cluster is connected and misses it. Until then
//! an absent folder may bring it back.

use std::collections::BTreeSet;

use relais_proto::{Change, ChangeId, Expect, FolderId, LogEntry, Lsn, limits};

use super::{Coordinator, CoordinatorAction, QueuedProposal};
use crate::message_budget::{LARGE, ToSlave};
use crate::packed_map::PackedMap;
use crate::sequence::ChangeRequest;
use crate::slave::LinkId;

impl Coordinator {
    /// Records a slave's list of missing contents; it counts once it is complete.
    pub(super) fn record_missing(&mut self, link: LinkId, upto: Lsn, puts: Vec<Lsn>, last: bool) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        puts.iter().for_each(|put| {
            peer.missing.insert(put, &());
        });
        if !last {
            return;
        }
        let (missing, folder) = (std::mem::take(&mut peer.missing), peer.folder);
        peer.stated = true;
        peer.applied = peer.applied.max(upto);
        let missing: PackedMap<Lsn, ()> = missing
            .iter()
            .filter(|(put, ())| *put <= upto && self.tree().path_of(*put).is_some())
            .collect();
        let mut other = missing.clone();
        for put in self.holders.after(upto).chain(self.restored_since(upto)) {
            other.insert(&put, &());
        }
        // These are announced one by one; a walk over all contents would be slow.
        let announced: Vec<Lsn> = self.announced_gains(folder).collect();
        for put in announced.into_iter().filter(|put| !other.contains_key(put)) {
            self.gains(put, folder);
        }
        missing.iter().for_each(|(put, ())| self.loses(put, folder));
        self.gains_all(folder, &other);
    }

    /// Returns the contents that another slave may be waiting for.
    fn announced_gains(&self, folder: FolderId) -> impl Iterator<Item = Lsn> {
        let stated = self.peers.values().filter(|peer| peer.stated && peer.folder != folder);
        let stated: BTreeSet<FolderId> = stated.map(|peer| peer.folder).collect();
        let waited_for = self.awaited.keys().copied().collect::<Vec<_>>();
        self.holders.not_held_by_all(&stated).into_iter().chain(waited_for)
    }

    /// Records that a folder holds all contents but these, which no other slave waits for.
    fn gains_all(&mut self, folder: FolderId, but: &PackedMap<Lsn, ()>) {
        self.holders.add_to_all(folder, but);
        let still = but.iter().filter(|(put, ())| self.without_holder.contains_key(put));
        self.without_holder = still.collect();
        self.lost.retain(|put| but.contains_key(put));
        self.giving_up.retain(|put, _| but.contains_key(put));
        let (holders, withdrawing) = (&self.holders, &self.withdrawing);
        self.state.known.tree.formers.retain(|put, _| {
            but.contains_key(put) || withdrawing.contains(put) || holders.copies(*put) < 2
        });
    }

    /// Returns contents that a withdrawal restored after a folder's position.
    ///
    /// The folder may have dropped them before.
    fn restored_since(&self, upto: Lsn) -> impl Iterator<Item = Lsn> {
        let from = self.state.behind(upto);
        let restored = self.state.tail.range(from..).flat_map(|kept| &kept.restored);
        restored.filter_map(|(_, entry)| Some(entry.as_ref()?.content.as_ref()?.put))
    }

    pub(super) fn holds(&mut self, link: LinkId, put: Lsn, has: bool) {
        let Some(folder) = self.peers.get(&link).map(|peer| peer.folder) else { return };
        if self.tree().path_of(put).is_none() {
            return;
        }
        if has { self.gains(put, folder) } else { self.loses(put, folder) }
    }

    fn gains(&mut self, put: Lsn, folder: FolderId) {
        let before = self.holders.copies(put);
        self.holders.add(put, folder);
        self.without_holder.remove(&put);
        self.lost.remove(&put);
        self.giving_up.remove(&put);
        let copies = self.holders.copies(put);
        if copies == before {
            return;
        }
        // Two disks hold the content, so its replaced entry is no longer needed.
        if copies > 1 && !self.withdrawing.contains(&put) {
            self.state.known.tree.settle(put);
        }
        self.send_copies(put);
        let size = self
            .tree()
            .path_of(put)
            .and_then(|path| self.tree().get(&path))
            .and_then(|entry| entry.content)
            .map_or(0, |c| c.size);
        // A slave without a holder asks in growing intervals.
        if size >= LARGE || before == 0 {
            self.send_holders(put);
        }
    }

    fn loses(&mut self, put: Lsn, folder: FolderId) {
        self.holders.remove(put, folder);
        if self.holders.copies(put) == 0 {
            self.without_holder.insert(&put, &());
        }
    }

    pub(super) fn forget(&mut self, folder: FolderId) {
        self.folders.remove(&folder);
        self.expected.remove(&folder);
        self.holders.forget(folder);
        let without_holder: Vec<Lsn> = self
            .tree()
            .puts()
            .map(|(put, _)| put)
            .filter(|put| self.holders.copies(*put) == 0)
            .collect();
        without_holder.iter().for_each(|put| {
            self.without_holder.insert(put, &());
        });
        let links: Vec<LinkId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.folder == folder)
            .map(|(link, _)| *link)
            .collect();
        links.into_iter().for_each(|link| self.left(link));
    }

    /// Applies a written change, and drops the holders of contents that left the tree.
    pub(super) fn drop_contents(&mut self, log_entry: LogEntry) {
        for put in self.state.apply(log_entry) {
            self.holders.drop_content(put);
            self.without_holder.remove(&put);
            self.lost.remove(&put);
            self.failed.remove(&put);
            self.giving_up.remove(&put);
            // The content has left the tree, so its copies are no longer counted.
            self.awaited.remove(&put);
        }
    }

    /// Cancels withdrawals of contents that a slave holds after all, or that left the tree.
    pub(super) fn spare_found(&mut self) {
        let (holders, state, withdrawing) = (&self.holders, &self.state, &mut self.withdrawing);
        self.queue.retain(|waiting| {
            let Change::Withdraw { of } = waiting.request.change else { return true };
            let stands = holders.copies(of) == 0 && state.tree().can_withdraw(of);
            if !stands {
                withdrawing.remove(&of);
            }
            stands
        });
    }

    /// Marks contents that a withdrawal brought back; each slave reports whether it kept them.
    pub(super) fn find_without_holder(&mut self, version: Lsn) {
        let Some(kept) = self.state.tail.back().filter(|kept| kept.entry.version == version) else {
            return;
        };
        let back: Vec<Lsn> = kept
            .restored
            .iter()
            .filter_map(|(_, entry)| entry.and_then(|entry| entry.content))
            .map(|content| content.put)
            .collect();
        back.iter().for_each(|put| {
            self.holders.track(*put);
            self.without_holder.insert(put, &());
        });
    }

    /// Starts to count the copies of a change that has just got its number.
    pub(super) fn await_copies(&mut self, id: ChangeId, version: Lsn) {
        if let Some((link, copies)) = self.wanted.remove(&id) {
            self.awaited.entry(version).or_default().insert(link, copies);
            self.send_copies(version);
        }
    }

    fn send_copies(&mut self, put: Lsn) {
        let copies = u16::try_from(self.holders.copies(put)).unwrap_or(u16::MAX);
        let Some(links) = self.awaited.get_mut(&put) else { return };
        links.retain(|link, wanted| {
            // The link also hears of fewer copies, so its client can report the number.
            if copies > 0 {
                self.actions.send(*link, ToSlave::Copies { put, copies });
            }
            copies < *wanted
        });
        if links.is_empty() {
            self.awaited.remove(&put);
        }
    }

    /// Tells the slaves that still fetch a large content about another holder.
    ///
    /// They know enough of them when a message can name no more.
    fn send_holders(&mut self, put: Lsn) {
        if self.holders.copies(put) > limits::HOLDERS {
            return;
        }
        let holders: BTreeSet<FolderId> = self.holders.of(put).collect();
        for (link, peer) in &self.peers {
            if peer.stated && peer.sent_upto >= put && !holders.contains(&peer.folder) {
                let message = ToSlave::Holders {
                    put,
                    holders: holders.iter().copied().take(limits::HOLDERS).collect(),
                };
                self.actions.send(*link, message);
            }
        }
    }

    /// Withdraws contents that no folder holds.
    ///
    /// A content is reported lost instead if the withdrawal would restore nothing: the replaced
    /// entry is unknown or absent, and the put may have been confirmed.
    pub(super) fn decide(&mut self) {
        if self.without_holder.is_empty() || self.halted.is_some() || !self.expected.is_empty() {
            return;
        }
        let stated = self.peers.values().filter(|peer| peer.stated);
        let stated: BTreeSet<FolderId> = stated.map(|peer| peer.folder).collect();
        let all_there = self.folders.is_subset(&stated);
        let Some(applied) =
            self.peers.values().map(|peer| peer.applied).min().filter(|_| all_there)
        else {
            return;
        };
        // A joining slave gets all given-up puts in one message.
        let places = limits::GIVEN_UP.saturating_sub(self.giving_up.len() + self.withdrawing.len());
        let gone: Vec<Lsn> = self
            .without_holder
            .iter()
            .map(|(put, ())| put)
            .filter(|put| {
                let entry = self.tree().path_of(*put).and_then(|path| self.tree().get(&path));
                entry.is_some_and(|entry| entry.version <= applied)
                    && !self.giving_up.contains_key(put)
            })
            .take(places)
            .collect();
        for put in gone {
            let brings_back = self.failed.contains(&put) || self.tree().replaced(put);
            if self.tree().can_withdraw(put) && brings_back {
                self.giving_up.insert(put, self.peers.keys().copied().collect());
                for link in self.peers.keys() {
                    self.actions.send(*link, ToSlave::GiveUp { put });
                }
            } else {
                self.without_holder.remove(&put);
                if self.lost.insert(put) {
                    self.actions.push(CoordinatorAction::Lost { put });
                }
            }
        }
    }

    /// Records that a slave has given up a content. It is withdrawn once all slaves have.
    pub(super) fn given_up(&mut self, link: LinkId, put: Lsn) {
        let Some(links) = self.giving_up.get_mut(&put) else { return };
        links.remove(&link);
        if links.is_empty() {
            self.giving_up.remove(&put);
            self.without_holder.remove(&put);
            self.withdrawing.insert(put);
            let request = ChangeRequest {
                id: withdrawal(put),
                change: Change::Withdraw { of: put },
                expect: Expect::Any,
                keep_mode: false,
                tokens: Vec::new(),
            };
            self.queue.push_back(QueuedProposal { asker: None, request, found: false });
        }
    }

    /// Returns the puts that a joining slave must give up.
    pub(super) fn to_give_up(&self) -> Vec<Lsn> {
        self.withdrawing.iter().copied().collect()
    }
}

/// Returns the id of the withdrawal of a put. It is constant, so a put is withdrawn once.
fn withdrawal(of: Lsn) -> ChangeId {
    let mut bytes = b"relais withdraw ".to_vec();
    bytes.extend_from_slice(&of.epoch.to_be_bytes());
    bytes.extend_from_slice(&of.number.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    ChangeId(id)
}
