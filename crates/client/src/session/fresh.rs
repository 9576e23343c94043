//! What was seen is never taken back: the highest change that was seen goes with the session from server to server, and by way of
//! the memory from run to run.

use relais_proto::{ClusterId, Mark, Request};

use super::told::{highest, raise};
use super::{Open, Session};
use crate::memory::Memory;

impl Session {
    /// Uses what earlier runs have kept, and keeps things for later ones.
    #[must_use]
    pub fn remembering(mut self, memory: Option<Memory>) -> Self {
        self.memory = memory;
        self
    }

    /// Keeps for later runs what is new. To be called behind a command.
    pub fn keep(&mut self) {
        if let (Some(memory), Some(cluster)) = (&mut self.memory, self.cluster) {
            memory.keep(cluster, self.told.mark());
        }
    }

    /// What to do where every server lacks what was seen before, and always will.
    #[must_use]
    pub fn about_behind(&self) -> Option<String> {
        let file = self.memory.as_ref()?.mark_file(self.cluster?);
        Some(format!(
            "seen was {}; where the servers were set back on purpose, remove {file}",
            self.told.mark()
        ))
    }

    /// A server of this cluster answered. What was seen of another one counts no more.
    pub(super) fn enter_cluster(&mut self, cluster: ClusterId, mark: Mark) {
        if self.cluster != Some(cluster) {
            self.told.begin();
            self.recall(cluster);
        }
        self.cluster = Some(cluster);
        self.see(mark);
    }

    /// What earlier runs, or others that run now, have seen of this cluster counts as seen.
    pub(super) fn recall(&self, cluster: ClusterId) {
        if let Some(mark) = self.memory.as_ref().and_then(|memory| memory.mark(cluster)) {
            self.see(mark);
        }
    }

    /// Tells a server of changes that were seen elsewhere, so that it answers with those as well; none where it is gone.
    pub(super) fn up_to_date(&mut self, mut open: Open) -> Option<Open> {
        let mark = self.told.mark();
        if highest(&open.heard) >= mark {
            return Some(open);
        }
        open.connection.queue(&Request::Seen { mark });
        raise(&open.heard, mark);
        match open.connection.flush() {
            Ok(()) => Some(open),
            Err(error) => {
                self.open = Some(open);
                self.lose(&error.to_string());
                None
            }
        }
    }

    /// A change with this number was seen: no server may answer with less from here on.
    pub fn see(&self, mark: Mark) {
        self.told.see(mark);
    }
}
