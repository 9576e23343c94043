//! Waiting readers: each is served once all changes that it has seen are applied.

use std::collections::BTreeMap;
use std::time::Duration;

use relais_proto::Lsn;

use super::{Action, Session};

/// Time that a reader waits before it is redirected to another slave.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Waiting sessions with their change and deadline.
#[derive(Debug, Clone, Default)]
pub(super) struct WaitingReaders {
    waiting: BTreeMap<Session, (Lsn, Duration)>,
}

impl WaitingReaders {
    pub fn add(&mut self, session: Session, lsn: Lsn, now: Duration) {
        self.waiting.insert(session, (lsn, now + TIMEOUT));
    }

    pub fn remove(&mut self, session: Session) {
        self.waiting.remove(&session);
    }

    pub fn answer(&mut self, applied: Lsn, now: Duration, actions: &mut Vec<Action>) {
        self.waiting.retain(|session, (lsn, until)| {
            if *lsn <= applied {
                actions.push(Action::ServeReader(*session));
                return false;
            }
            if now >= *until {
                actions.push(Action::RedirectReader(*session));
                return false;
            }
            true
        });
    }
}
