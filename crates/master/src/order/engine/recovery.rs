//! The order's part in a recovery: slaves are fenced off first, then it goes on from another ledger.

use log::warn;
use relais_cluster::{Event, MasterState};
use relais_proto::LinkMessage;
use relais_state::JournalError;

use super::Engine;
use crate::order::StoreError;

impl Engine {
    /// Begins a recovery: all slaves hear of the new epoch, and nothing that they say counts until its end. False where one is
    /// under way already, or has been made since somebody looked: its epoch is never used again.
    pub fn fence(&mut self, epoch: u32) -> bool {
        if self.fenced || self.order.halted().is_none() || epoch <= self.order.state().epoch() {
            return false;
        }
        while self.write() {}
        self.fenced = true;
        warn!("the cluster is being recovered in epoch {epoch}");
        self.links.values().for_each(|open| open.outbox.send(&LinkMessage::Recovering { epoch }));
        true
    }

    /// The timeline of what is numbered after a recovery.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError> {
        self.store.begin_timeline()
    }

    /// Ends a recovery that came to nothing. The slaves join again, and where they have heard of its epoch nothing is numbered.
    pub fn give_up_recovery(&mut self) {
        self.fenced = false;
        self.cut_all();
    }

    /// Ends a recovery: goes on from this ledger. All slaves join again.
    ///
    /// # Errors
    /// That the ledger could not be written down; the recovery is given up then.
    pub fn recovered(&mut self, ledger: MasterState) -> Result<(), StoreError> {
        let kept = self.store.keep(&ledger, self.core.time_ms());
        if kept.is_ok() {
            (self.order, self.tape) = super::begin(ledger, self.store.folders());
            self.begin();
            warn!("the cluster goes on behind {}", self.order.last());
        }
        self.give_up_recovery();
        kept
    }

    /// Ends all links, and listens to none of them any more.
    fn cut_all(&mut self) {
        for (link, open) in std::mem::take(&mut self.links) {
            open.outbox.cut();
            self.event(Event::LinkClosed { link });
        }
    }
}
