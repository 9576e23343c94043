//! The order's part in a recovery: it fences off the slaves, then continues from another state.

use log::warn;
use relais_cluster::{CoordinatorEvent, MasterState};
use relais_journal::JournalError;
use relais_proto::LinkMessage;

use super::CoordinatorDriver;
use crate::StoreError;

impl CoordinatorDriver {
    /// Starts a recovery: sends the new epoch to all slaves, and ignores their messages until its
    /// end.
    ///
    /// False if a recovery is in progress, or has finished since `epoch` was chosen.
    pub fn fence(&mut self, epoch: u32) -> bool {
        let is_due = {
            let order = self.order.get();
            order.halted().is_some() && epoch > order.state().epoch()
        };
        if self.fenced || !is_due {
            return false;
        }
        while self.write() {}
        self.fenced = true;
        warn!("the cluster is being recovered in epoch {epoch}");
        self.links.values().for_each(|open| open.sender.send(LinkMessage::Recovering { epoch }));
        true
    }

    /// Starts the timeline of changes after a recovery.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError> {
        self.store.begin_timeline()
    }

    /// Ends a failed recovery. All slaves join again.
    ///
    /// Slaves that have seen its epoch keep the order halted.
    pub fn give_up_recovery(&mut self) {
        self.fenced = false;
        self.cut_all();
    }

    /// Ends a recovery: continues from this state. All slaves join again.
    ///
    /// # Errors
    /// The state could not be saved; the recovery has failed then.
    pub fn recovered(&mut self, ledger: MasterState) -> Result<(), StoreError> {
        let kept = self.store.keep(&ledger, (self.clock)());
        if kept.is_ok() {
            let (order, recording) = super::begin(ledger, self.store.folders());
            self.order.replace(order);
            self.recording = recording;
            self.begin();
            warn!("the cluster continues after change {}", self.order.get().last());
        }
        self.give_up_recovery();
        kept
    }

    /// Shuts down all links and removes them from the order.
    fn cut_all(&mut self) {
        for (link, open) in std::mem::take(&mut self.links) {
            open.sender.close();
            self.event(CoordinatorEvent::LinkClosed { link });
        }
    }
}
