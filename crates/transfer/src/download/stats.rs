//! Counts progress and failures, so no server can keep a download running forever.

use std::net::SocketAddr;

use crate::retry::Attempts;

/// Counters for the result and the retry limits.
#[derive(Default)]
pub(super) struct DownloadStats {
    pub(super) bytes_moved: u64,
    pub(super) resumed_from: u64,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) restarts: u32,
    /// Reports of a server at the end that the file has changed.
    pub(super) doubts: u32,
    pub(super) damaged: u32,
    pub(super) attempts: Attempts,
    /// Value of `bytes_moved` at the last lost connection.
    pub(super) moved_before: u64,
    /// Repair rounds with the current server.
    pub(super) rounds: u32,
}

impl DownloadStats {
    /// Records a lost connection; returns whether to continue.
    pub(super) fn lost_connection(&mut self) -> bool {
        let came = self.bytes_moved - self.moved_before;
        self.moved_before = self.bytes_moved;
        self.rounds = 0;
        self.attempts.lost(came)
    }
}
