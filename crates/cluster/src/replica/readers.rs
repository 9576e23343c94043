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
    pub fn add(&mut self, session: Session, mark: Lsn, now: Duration) {
        self.waiting.insert(session, (mark, now + PATIENCE));
    }

    pub fn remove(&mut self, session: Session) {
        self.waiting.remove(&session);
    }

    pub fn answer(&mut self, applied: Lsn, now: Duration, actions: &mut Vec<Action>) {
        self.waiting.retain(|session, (mark, until)| {
            if *mark <= applied {
                actions.push(Action::Serve(*session));
                return false;
            }
            if now >= *until {
                actions.push(Action::SendAway(*session));
                return false;
            }
            true
        });
    }
}
