//! Counts a transfer of a client: its beginning, its bytes as they move, and its end.

use std::sync::Arc;
use std::time::Instant;

use crate::host::Host;
use crate::protocol::Protocol;

/// What a transfer keeps, so that it can count at its host.
pub(crate) trait HostOwner: Send + Sync {
    /// Returns the host.
    fn transfer_host(&self) -> &dyn Host;
}

/// A transfer that is counted. Its drop is its end.
pub(crate) struct TransferCounter {
    owner: Arc<dyn HostOwner>,
    protocol: Protocol,
    is_upload: bool,
    since: Instant,
    bytes: u64,
}

impl TransferCounter {
    /// Begins to count a transfer.
    pub fn begin(owner: Arc<dyn HostOwner>, protocol: Protocol, is_upload: bool) -> Self {
        owner.transfer_host().transfer_began();
        Self { owner, protocol, is_upload, since: Instant::now(), bytes: 0 }
    }

    /// Counts bytes that were sent or received.
    pub fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.owner.transfer_host().transfer_moved(self.protocol, self.is_upload, bytes);
    }

    /// Counts the transfer as one that continues after the bytes of an earlier one.
    pub fn resume(&self) {
        self.owner.transfer_host().transfer_resumed();
    }
}

impl Drop for TransferCounter {
    fn drop(&mut self) {
        let time = self.since.elapsed();
        self.owner.transfer_host().transfer_ended(self.protocol, self.is_upload, self.bytes, time);
    }
}
