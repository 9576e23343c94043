//! Sessions that want to read: each is served once all changes that it has seen are applied here.

use std::collections::BTreeMap;
use std::time::Duration;

use relais_proto::Lsn;

use super::{Action, Session};

/// How long a session waits for this slave before it is sent to another.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who waits for which change, and until when.
#[derive(Debug, Clone, Default)]
pub(super) struct WaitingReaders {
    waiting: BTreeMap<Session, (Lsn, Duration)>,
}

impl WaitingReaders {
    pub fn add(&mut self, session: Session, lsn: Lsn, now: Duration) {
        self.waiting.insert(session, (lsn, now + PATIENCE));
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
