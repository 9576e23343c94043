//! Counts what came and what went wrong, so that no server can keep a fetch going for ever.

use std::net::SocketAddr;

use crate::retry::Attempts;

/// What is counted for the result and against running for ever.
#[derive(Default)]
pub(super) struct DownloadStats {
    pub(super) bytes_moved: u64,
    pub(super) resumed_from: u64,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) restarts: u32,
    /// Times that a server said at the end that the file had changed.
    pub(super) doubts: u32,
    pub(super) rotten: u32,
    pub(super) attempts: Attempts,
    /// `bytes_moved` when a connection was lost last.
    pub(super) moved_before: u64,
    /// Rounds of repair with the current server.
    pub(super) rounds: u32,
}

impl DownloadStats {
    /// A connection was lost; whether to go on.
    pub(super) fn lost_connection(&mut self) -> bool {
        let came = self.bytes_moved - self.moved_before;
        self.moved_before = self.bytes_moved;
        self.rounds = 0;
        self.attempts.lost(came)
    }
}
