//! What to do where a server is well and still cannot answer: others have the content, or it lacks what was seen before.
//!
//! One place for all who ask for content. Every way round is bounded by time, so that servers that name one another in a
//! circle hold nobody.

use std::time::{Duration, Instant};

use relais_proto::{Endpoint, ErrorCode, Refusal};

use super::Sessions;

/// Time between two tries once going on at once has not helped.
const PAUSE: Duration = Duration::from_millis(300);
/// Such answers in a row that are followed at once; more of them may be a circle.
const AT_ONCE: u32 = 4;
/// How long content that nobody has is waited for, where the user's own time is not longer: it may just be on its way.
const LEAST: Duration = Duration::from_secs(5);
/// Time between two looks for an interruption.
const GLANCE: Duration = Duration::from_millis(50);

/// Counts the answers in a row that led elsewhere.
#[derive(Debug, Default)]
pub struct Redirects {
    in_a_row: u32,
    since: Option<Instant>,
}

impl Redirects {
    /// Nothing has led elsewhere yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Content came: what leads elsewhere from here on is counted anew.
    pub fn arrived(&mut self) {
        *self = Self::default();
    }

    /// The server in use does not have the content yet, and `holders` have it. Goes to one of them, or waits a little where
    /// that leads nowhere. The request is to be asked again then, at whatever server is in use.
    ///
    /// # Errors
    /// Code `no-content`, once that has gone on for the user's time, and for 5 s at least.
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

    /// The server in use lacks what was seen before, and says so. Another one is in use then; false once the
    /// user's time is over.
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
        std::thread::sleep(left.min(GLANCE));
    }
}
