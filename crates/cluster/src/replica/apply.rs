//! Applies received changes in order, each once.

use std::time::Duration;

use relais_proto::{Change, Lsn};

use super::{Action, BATCH, Phase, QUEUE, Replica, batch, missing_contents};
use crate::history_hash;
use crate::message_budget::{CommittedEntry, ToMaster};

impl Replica {
    /// Returns the last received change.
    fn last_received(&self) -> Lsn {
        let batch_applied =
            self.applying.as_ref().map_or(self.position.applied, |(_, position)| position.applied);
        self.queue.back().map_or(batch_applied, |committed| committed.entry.version)
    }

    pub(super) fn committed(
        &mut self,
        changes: Vec<CommittedEntry>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
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
                return self.close("the master skipped a change", now, actions);
            }
            self.note_lsn(next, now);
            self.queue.push_back(committed);
        }
        if self.queue.len() < QUEUE {
            actions.push(Action::Send(ToMaster::Ready));
        } else {
            self.owes_ready = true;
        }
    }

    pub(super) fn apply_next(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let (Some(at), Some((changes, position))) = (self.retry_apply, &self.applying) {
            if now >= at {
                self.retry_apply = None;
                actions.push(Action::Apply { changes: changes.clone(), position: *position });
            }
            return;
        }
        if self.applying.is_some()
            || self.queue.is_empty()
            || !matches!(self.phase, Phase::Following)
        {
            return;
        }
        let length = batch::length(self.queue.iter(), BATCH);
        let changes: Vec<CommittedEntry> = self.queue.drain(..length).collect();
        let mut position = self.position;
        for committed in &changes {
            position.chain = history_hash::next(position.chain, &committed.entry);
            position.applied = committed.entry.version;
        }
        if self.owes_ready && self.queue.len() < QUEUE / 2 {
            self.owes_ready = false;
            actions.push(Action::Send(ToMaster::Ready));
        }
        self.applying = Some((changes.clone(), position));
        actions.push(Action::Apply { changes, position });
    }

    pub(super) fn batch_applied(
        &mut self,
        lacking: &[Lsn],
        failed: &[Lsn],
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some((changes, position)) = self.applying.take() else { return };
        self.retry_apply = None;
        self.position = position;
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
                    self.own.published(committed.entry.id, false, actions);
                    reports.push(ToMaster::PublishFailed { of: version });
                }
                Change::Put { .. } => {
                    let has = !lacking.contains(&version);
                    if has || claimed {
                        reports.push(ToMaster::Holds { put: version, has });
                    }
                }
                Change::Withdraw { of } => {
                    self.own.withdrawn(*of, actions);
                    for content in committed
                        .restored
                        .iter()
                        .filter_map(|(_, entry)| entry.and_then(|entry| entry.content))
                    {
                        reports.push(ToMaster::Holds {
                            put: content.put,
                            has: !lacking.contains(&content.put),
                        });
                    }
                }
                Change::MakeFolder { .. }
                | Change::Remove { .. }
                | Change::Move { .. }
                | Change::SetAttributes { .. } => {}
            }
            self.lacks.follow(committed, lacking, now);
        }
        if matches!(self.phase, Phase::Following) {
            // The master assumes that a slave which applied a change without reporting its content
            // misses it. So `Applied` comes first.
            reports.push(ToMaster::Applied { upto: position.applied });
            actions.extend(reports.into_iter().map(Action::Send));
        }
        self.note_applied();
        self.join_when_idle(actions);
    }

    pub(super) fn apply_failed(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Following) {
            self.retry_apply = Some(now + missing_contents::RETRY_PAUSE);
            return;
        }
        self.applying = None;
        self.join_when_idle(actions);
    }
}
