//! The slaves that are there: how each joins, and what it is told.

use std::collections::{BTreeSet, VecDeque};

use relais_proto::{ChangeId, ErrorCode, FolderId, Refusal, SlaveId, TreePath, Version};

use super::ledger::{Kept, Ledger, Reach};
use super::{Action, Halt, Holders, Order};
use crate::chain::Chain;
use crate::message::{Standing, ToSlave, Told};
use crate::slave::LinkId;
use crate::tree::Entry;

/// Most changes, entries or ids that are sent to a slave at once.
const PAGE: usize = 256;

/// A slave that is there.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    slave: SlaveId,
    pub folder: FolderId,
    /// The last change that it was told of.
    pub told: Version,
    /// The last change that it has applied.
    pub applied: Version,
    /// Whether it can be sent more.
    pub ready: bool,
    /// Whether it has said which contents it lacks, since it joined.
    pub stated: bool,
    /// What it has said of that so far.
    pub lacking: BTreeSet<Version>,
    /// What is left of the tree that it is being told.
    listing: Option<Listing>,
}

/// The tree as it was when a slave was to compare.
#[derive(Debug, Clone)]
struct Listing {
    entries: VecDeque<(TreePath, Entry)>,
    ids: VecDeque<(ChangeId, Version)>,
    mark: Version,
    chain: Chain,
    ends: Vec<Version>,
    count: u64,
}

impl Listing {
    fn of(ledger: &Ledger) -> Self {
        let entries: VecDeque<_> = ledger.tree().iter().map(|(path, entry)| (path.clone(), *entry)).collect();
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        Self { entries, ids: ledger.ids().collect(), mark: ledger.last(), chain: ledger.chain(), ends: ledger.ends().to_vec(), count }
    }

    fn next(&mut self) -> Option<ToSlave> {
        if self.entries.is_empty() && self.ids.is_empty() {
            return None;
        }
        let entries = self.entries.drain(..self.entries.len().min(PAGE)).collect();
        let ids = self.ids.drain(..self.ids.len().min(PAGE)).collect();
        Some(ToSlave::Page { entries, ids })
    }
}

impl Order {
    pub(super) fn joined(&mut self, link: LinkId, slave: SlaveId, folder: FolderId, standing: &Standing, actions: &mut Vec<Action>) {
        let older: Vec<LinkId> =
            self.peers.iter().filter(|(_, peer)| peer.slave == slave || peer.folder == folder).map(|(link, _)| *link).collect();
        for link in older {
            self.left(link);
            actions.push(Action::Close { link });
        }
        let reach = self.ledger.reach(standing);
        let halt = match reach {
            Reach::Later => Some(Halt::Superseded),
            Reach::Ahead => Some(Halt::Behind),
            Reach::Differs => Some(Halt::Differs),
            Reach::Follows(_) | Reach::Compares => None,
        };
        let epoch = self.ledger.epoch();
        if let Some(halt) = halt {
            self.halt(halt, actions);
            let why = Refusal::new(ErrorCode::Conflict, halt.refusal().message);
            actions.push(Action::Send { link, message: ToSlave::Refuse { epoch, why } });
            return;
        }
        if self.folders.insert(folder) {
            actions.push(Action::Know { folder });
        }
        self.expected.remove(&folder);
        let mark = self.last();
        let given_up = self.to_give_up();
        let (message, listing) = match reach {
            Reach::Follows(chain) => (ToSlave::Follow { epoch, mark, chain, given_up }, None),
            _ => (ToSlave::Compare { epoch, mark, given_up }, Some(Listing::of(&self.ledger))),
        };
        let applied = standing.applied;
        let peer = Peer { slave, folder, told: applied, applied, ready: true, stated: false, lacking: BTreeSet::new(), listing };
        self.peers.insert(link, peer);
        actions.push(Action::Send { link, message });
    }

    /// The last change that the slave on this link has applied.
    #[must_use]
    pub fn applied(&self, link: LinkId) -> Option<Version> {
        self.peers.get(&link).map(|peer| peer.applied)
    }

    /// The last change that every folder of the cluster has applied, as far as they are there: changes up to it need not be kept.
    #[must_use]
    pub fn applied_by_all(&self) -> Option<Version> {
        let all = self.folders.iter().all(|folder| self.peers.values().any(|peer| peer.folder == *folder));
        if all { self.peers.values().map(|peer| peer.applied).min() } else { None }
    }

    /// Sends each slave that can take it what it has not been told.
    pub(super) fn tell_all(&mut self, actions: &mut Vec<Action>) {
        let mut outrun = Vec::new();
        for (link, peer) in &mut self.peers {
            if !peer.ready {
                continue;
            }
            let message = match &mut peer.listing {
                Some(listing) => match listing.next() {
                    Some(page) => page,
                    None => {
                        let (mark, chain, entries) = (listing.mark, listing.chain, listing.count);
                        let ends = std::mem::take(&mut listing.ends);
                        peer.told = mark;
                        peer.listing = None;
                        ToSlave::End { mark, chain, ends, entries }
                    }
                },
                None if peer.told >= self.ledger.last() => continue,
                None if !self.ledger.reaches(peer.told) => {
                    outrun.push(*link);
                    continue;
                }
                None => {
                    let from = self.ledger.behind(peer.told);
                    let changes: Vec<Told> = self.ledger.tail.range(from..).take(PAGE).map(|kept| told(kept, &self.holders)).collect();
                    let Some(last) = changes.last().map(|told| told.numbered.version) else { continue };
                    peer.told = last;
                    ToSlave::Tell { changes }
                }
            };
            peer.ready = false;
            actions.push(Action::Send { link: *link, message });
        }
        // The changes behind what it was told are kept no more: it joins again, and compares.
        for link in outrun {
            self.left(link);
            actions.push(Action::Close { link });
        }
    }
}

fn told(kept: &Kept, holders: &Holders) -> Told {
    let numbered = kept.numbered.clone();
    Told { holders: holders.of(numbered.version).collect(), numbered, restored: kept.restored.clone() }
}
