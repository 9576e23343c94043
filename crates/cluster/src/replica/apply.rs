//! Applies received changes in order, each once.

use std::collections::HashSet;

use relais_proto::{Change, Lsn};

use super::{Action, BATCH, QUEUE, QUEUE_EXTRA, Replica, batch, missing_contents};
use crate::history_hash;
use crate::message_budget::{CommittedEntry, ToMaster};

impl Replica {
    /// Returns the last received change.
    fn last_received(&self) -> Lsn {
        let batch_applied =
            self.applying.as_ref().map_or(self.position.applied, |(_, position)| position.applied);
        self.queue.back().map_or(batch_applied, |committed| committed.entry.version)
    }

    pub(super) fn committed(&mut self, changes: Vec<CommittedEntry>) {
        for committed in changes {
            let (last, next) = (self.last_received(), committed.entry.version);
            if next <= last {
                continue;
            }
            let in_order = if last == Lsn::default() {
                next.number == 1
            } else {
                next.epoch == last.epoch && next.number == last.number + 1
            };
            if !in_order {
                return self.close("the master skipped a change");
            }
            self.note_lsn(next);
            self.queue.push_back(committed);
        }
        if self.has_room(QUEUE, QUEUE_EXTRA) {
            self.send(ToMaster::Ready);
        } else {
            self.owes_ready = true;
        }
    }

    /// Returns whether fewer changes, and fewer bytes of properties and hashes, are queued.
    fn has_room(&self, changes: usize, extra: usize) -> bool {
        let queued = self.queue.iter().map(|committed| committed.entry.change.extra_bytes());
        self.queue.len() < changes && queued.sum::<usize>() < extra
    }

    pub(super) fn apply_next(&mut self) {
        if let (Some(at), Some((changes, position))) = (self.retry_apply, &self.applying) {
            if self.now >= at {
                self.retry_apply = None;
                self.actions.push(Action::Apply { changes: changes.clone(), position: *position });
            }
            return;
        }
        if self.applying.is_some() || self.queue.is_empty() || !self.is_following() {
            return;
        }
        let length = batch::length(self.queue.iter(), BATCH);
        let changes: Vec<CommittedEntry> = self.queue.drain(..length).collect();
        let mut position = self.position;
        for committed in &changes {
            position.chain = history_hash::next(position.chain, &committed.entry);
            position.applied = committed.entry.version;
        }
        if self.owes_ready && self.has_room(QUEUE / 2, QUEUE_EXTRA / 2) {
            self.owes_ready = false;
            self.send(ToMaster::Ready);
        }
        self.applying = Some((changes.clone(), position));
        self.actions.push(Action::Apply { changes, position });
    }

    pub(super) fn batch_applied(&mut self, missing: &[Lsn], failed: &[Lsn]) {
        let Some((changes, position)) = self.applying.take() else { return };
        self.retry_apply = None;
        self.position = position;
        let missing: HashSet<Lsn> = missing.iter().copied().collect();
        let mut reports = Vec::new();
        for committed in &changes {
            let version = committed.entry.version;
            // After a change of epoch the new master confirms whether this change is in its
            // history.
            if version.epoch == self.position.epoch {
                self.own.number_assigned(committed.entry.id, version);
            }
            let claimed = committed.holders.contains(&self.folder);
            match &committed.entry.change {
                Change::Put { .. } if failed.contains(&version) => {
                    self.own.published(committed.entry.id, false, &mut self.actions);
                    reports.push(ToMaster::PublishFailed { of: version });
                }
                Change::Put { .. } => {
                    let has = !missing.contains(&version);
                    if has || claimed {
                        reports.push(ToMaster::Holds { put: version, has });
                    }
                }
                Change::Withdraw { of } => {
                    self.own.withdrawn(*of, &mut self.actions);
                    for content in committed
                        .restored
                        .iter()
                        .filter_map(|(_, entry)| entry.and_then(|entry| entry.content))
                    {
                        reports.push(ToMaster::Holds {
                            put: content.put,
                            has: !missing.contains(&content.put),
                        });
                    }
                }
                Change::MakeFolder { .. }
                | Change::Remove { .. }
                | Change::Move { .. }
                | Change::SetAttributes { .. }
                | Change::SetProperties { .. }
                | Change::Lock { .. }
                | Change::Unlock { .. }
                | Change::RecordSha256 { .. } => {}
            }
            self.missing.follow(committed, &missing, self.now);
        }
        if self.is_following() {
            // The master assumes that a slave which applied a change without reporting its content
            // misses it. So `Applied` comes first.
            reports.push(ToMaster::Applied { upto: position.applied });
            self.actions.extend(reports.into_iter().map(Action::Send));
        }
        self.note_applied();
        self.join_when_idle();
    }

    pub(super) fn apply_failed(&mut self) {
        if self.is_following() {
            self.retry_apply = Some(self.now + missing_contents::RETRY_PAUSE);
            return;
        }
        self.applying = None;
        self.join_when_idle();
    }
}
