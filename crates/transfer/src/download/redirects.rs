//! Handles answers of working servers that redirect to others, or are behind.
//!
//! All requests for content use it. Each loop is limited in time, so servers that redirect in a
//! circle cannot hold a client.

use std::time::{Duration, Instant};

use relais_proto::{Endpoint, ErrorCode, Refusal};

use super::Sessions;

/// Pause between two tries after immediate redirects have not helped.
const PAUSE: Duration = Duration::from_millis(300);
/// Redirects in a row that are followed at once; more of them may be a circle.
const AT_ONCE: u32 = 4;
/// Shortest wait for content without a holder, because it may be on its way.
const LEAST: Duration = Duration::from_secs(5);
/// Interval of checks for an interruption.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// Counts the redirects in a row.
#[derive(Debug, Default)]
pub struct Redirects {
    in_a_row: u32,
    since: Option<Instant>,
}

impl Redirects {
    /// Makes a counter without redirects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Resets the counter, because content has arrived.
    pub fn arrived(&mut self) {
        *self = Self::default();
    }

    /// Moves to a holder of content that the current server does not have.
    ///
    /// If no holder is reachable, it waits briefly. The caller then repeats the request at the
    /// current server.
    ///
    /// # Errors
    /// Code `no-content` after the user's retry time, but at least 5 s.
    pub fn elsewhere(
        &mut self,
        sessions: &mut dyn Sessions,
        holders: &[Endpoint],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), Refusal> {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.since.get_or_insert_with(Instant::now).elapsed() >= sessions.retry().max(LEAST) {
            return Err(Refusal::new(
                ErrorCode::NoContent,
                "no server that can be reached has the content now",
            ));
        }
        let moved = sessions.elsewhere(holders);
        if !moved || self.in_a_row > AT_ONCE {
            pause(interrupted);
        }
        Ok(())
    }

    /// Moves away from a server that is behind what the client has seen.
    ///
    /// Returns false if the user's retry time is over.
    pub fn behind(
        &mut self,
        sessions: &mut dyn Sessions,
        why: &str,
        interrupted: &dyn Fn() -> bool,
    ) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.since.get_or_insert_with(Instant::now).elapsed() >= sessions.retry()
            && self.in_a_row > 1
        {
            return false;
        }
        sessions.leave(why);
        if self.in_a_row > AT_ONCE {
            pause(interrupted);
        }
        true
    }
}

fn pause(interrupted: &dyn Fn() -> bool) {
    let until = Instant::now() + PAUSE;
    while !interrupted() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(INTERRUPT_CHECK));
    }
}
