//! Link to the master: the join, received messages, and the transfer of a whole tree.

use relais_proto::{ErrorCode, Lsn, Refusal};

use super::{Action, Link, MissingContent, PAGE, Phase, ReceivedTree, Replica};
use crate::message_budget::{ReplicaPosition, ToMaster, ToSlave};

impl Replica {
    pub(super) fn linked(&mut self) {
        self.queue.clear();
        self.owes_ready = false;
        match &mut self.phase {
            // The join must state the final position, so it waits for the adoption.
            Phase::Adopting { link, .. } => *link = Link::New,
            phase if self.applying.is_some() => *phase = Phase::Waiting,
            _ => self.join(),
        }
    }

    /// Joins once the current batch is done.
    pub(super) fn join_when_idle(&mut self) {
        if matches!(self.phase, Phase::Waiting) {
            self.join();
        }
    }

    pub(super) fn join(&mut self) {
        self.phase = Phase::Joining;
        self.whole = false;
        let (slave, folder, position) = (self.slave, self.folder, self.position);
        self.send(ToMaster::Join { slave, folder, position });
    }

    pub(super) fn unlinked(&mut self) {
        self.queue.clear();
        match &mut self.phase {
            Phase::Adopting { link, .. } => *link = Link::Gone,
            phase => *phase = Phase::Away,
        }
        // The master sends an unapplied batch again if it is still valid.
        if self.retry_apply.take().is_some() {
            self.applying = None;
        }
        self.missing.unlinked();
        self.own.unlinked(self.now);
    }

    pub(super) fn close(&mut self, why: &str) {
        self.unlinked();
        self.actions.push(Action::Close(Refusal::new(ErrorCode::BadRequest, why)));
    }

    /// Checks the master's epoch. A master below the highest known epoch is not followed.
    pub(super) fn check_epoch(&mut self, epoch: u32) -> bool {
        if epoch < self.position.epoch {
            let why = format!(
                "the master is in epoch {epoch}, and epoch {} has begun",
                self.position.epoch
            );
            self.unlinked();
            self.actions.push(Action::Close(Refusal::new(ErrorCode::Conflict, why)));
            return false;
        }
        if epoch > self.position.epoch {
            self.position.epoch = epoch;
            self.own.epoch_began();
            if let Some((_, position)) = &mut self.applying {
                position.epoch = epoch;
            }
            self.actions.push(Action::RaiseEpoch(epoch));
        }
        true
    }

    pub(super) fn hear(&mut self, message: ToSlave) {
        match (&mut self.phase, message) {
            (Phase::Joining, ToSlave::Follow { epoch, lsn, chain, given_up, timelines }) => {
                if self.check_epoch(epoch) {
                    self.missing.give_up_only(&given_up);
                    if self.position.applied == Lsn::default() && self.position.chain != chain {
                        self.position.chain = chain;
                        self.actions.push(Action::BeginHistory(chain));
                    }
                    self.actions.push(Action::SetTimelines(timelines));
                    self.follow(lsn);
                }
            }
            (Phase::Joining, ToSlave::Compare { epoch, lsn, given_up }) => {
                if self.check_epoch(epoch) {
                    self.missing.give_up_only(&given_up);
                    self.phase = Phase::ReceivingTree(ReceivedTree::default());
                    self.note_lsn(lsn);
                }
            }
            (Phase::Joining, ToSlave::Refuse { epoch, why }) => {
                if self.check_epoch(epoch) {
                    self.unlinked();
                    self.actions.push(Action::Close(why));
                }
            }
            (Phase::ReceivingTree(listing), ToSlave::Page { entries, ids, annotations }) => {
                if listing.add(entries, ids, annotations) {
                    self.send(ToMaster::Ready);
                } else {
                    self.close("the tree arrived out of order");
                }
            }
            (Phase::ReceivingTree(listing), ToSlave::End { lsn, chain, timelines, entries }) => {
                if !listing.is_whole(entries) {
                    return self.close("the tree arrived incomplete");
                }
                let mut listing = std::mem::take(listing);
                (listing.lsn, listing.timelines) = (lsn, timelines);
                let position = ReplicaPosition { applied: lsn, chain, epoch: self.position.epoch };
                self.phase = Phase::Adopting { position, link: Link::Same };
                // The current batch is finished first; the caller executes one action after the
                // other.
                self.actions.push(Action::Adopt { listing, position });
            }
            (Phase::Following, ToSlave::Commit { changes }) => self.committed(changes),
            (Phase::Following, ToSlave::ProposalResult { id, answer }) => {
                self.own.answered(id, answer, &mut self.actions)
            }
            (Phase::Following, ToSlave::Copies { put, copies }) => self.own.copies(put, copies),
            (Phase::Following, ToSlave::GiveUp { put }) => self.give_up(put),
            (Phase::Following, ToSlave::Holders { put, holders }) => {
                self.missing.held_by(put, &holders, self.now);
                self.note_whole();
            }
            // Answers to messages from before the comparison are requested again after it.
            (
                Phase::ReceivingTree(_) | Phase::Adopting { .. },
                ToSlave::ProposalResult { .. } | ToSlave::Copies { .. } | ToSlave::Holders { .. },
            ) => {}
            (Phase::Away | Phase::Waiting | Phase::Adopting { link: Link::Gone, .. }, _) => {}
            _ => self.close("the master sent an unexpected message"),
        }
    }

    pub(super) fn follow(&mut self, lsn: Lsn) {
        self.phase = Phase::Following;
        self.note_lsn(lsn);
        self.joined_at = Some(lsn);
        self.whole = false;
        self.note_whole();
        self.state_lacks();
        self.own.propose_all(&mut self.actions);
    }

    fn state_lacks(&mut self) {
        let upto = self.position.applied;
        let puts: Vec<Lsn> = self.missing.puts().collect();
        let mut pages: Vec<Vec<Lsn>> = puts.chunks(PAGE).map(<[Lsn]>::to_vec).collect();
        let end = pages.pop().unwrap_or_default();
        self.actions.extend(
            pages
                .into_iter()
                .map(|puts| Action::Send(ToMaster::MissingContents { upto, puts, last: false })),
        );
        self.send(ToMaster::MissingContents { upto, puts: end, last: true });
    }

    pub(super) fn adopted(&mut self, missing: Vec<MissingContent>) {
        let Phase::Adopting { position, link } = self.phase else { return };
        self.position = ReplicaPosition { epoch: self.position.epoch, ..position };
        (self.applying, self.retry_apply) = (None, None);
        self.missing = self.missing.replaced_with(missing);
        self.note_applied();
        match link {
            Link::Gone => {
                self.phase = Phase::Away;
                return;
            }
            Link::New => return self.join(),
            Link::Same => {}
        }
        self.send(ToMaster::Applied { upto: position.applied });
        self.follow(position.applied);
        self.send(ToMaster::Ready);
    }

    pub(super) fn not_adopted(&mut self) {
        let Phase::Adopting { link, .. } = self.phase else { return };
        self.phase = Phase::Away;
        match link {
            Link::Gone => {}
            Link::New => self.join(),
            Link::Same => self.actions.push(Action::Close(Refusal::new(
                ErrorCode::Storage,
                "the tree could not be adopted",
            ))),
        }
    }
}
