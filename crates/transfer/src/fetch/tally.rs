//! Counts what came and what went wrong, so that no server can keep a fetch going for ever.

use std::net::SocketAddr;

use relais_proto::limits;

/// Lost connections in a row that brought no byte.
const MOST_FRUITLESS: u32 = 5;
/// Lost connections in a row that each brought less than [`limits::RATE_FLOOR`]: a server that
/// sends a few bytes and hangs, again and again, must not keep the fetch for ever.
const MOST_POOR: u32 = 32;

/// What is counted for the result and against running for ever.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) bytes_moved: u64,
    pub(super) resumed_from: u64,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) restarts: u32,
    /// Times that a server said at the end that the file had changed.
    pub(super) doubts: u32,
    pub(super) rotten: u32,
    pub(super) violations: u32,
    pub(super) fruitless: u32,
    pub(super) poor: u32,
    /// `bytes_moved` when a connection was lost last.
    pub(super) moved_before: u64,
    /// Rounds of repair with the current server.
    pub(super) rounds: u32,
}

impl Tally {
    /// A connection was lost.
    pub(super) fn lost_connection(&mut self) {
        let came = self.bytes_moved - self.moved_before;
        self.moved_before = self.bytes_moved;
        self.rounds = 0;
        self.fruitless = if came > 0 { 0 } else { self.fruitless + 1 };
        self.poor = if came >= limits::RATE_FLOOR { 0 } else { self.poor + 1 };
    }

    /// Whether too many were lost in a row for too little.
    pub(super) fn is_hopeless(&self) -> bool {
        self.fruitless >= MOST_FRUITLESS || self.poor >= MOST_POOR
    }
}
