//! Sessions that want to read: each is served once all changes that it has seen are applied here.

use std::collections::BTreeMap;
use std::time::Duration;

use relais_proto::{Mark, Version};

use super::{Action, Session};

/// How long a session waits for this slave before it is sent to another.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who waits for which change, and until when.
#[derive(Debug, Clone, Default)]
pub(super) struct Readers {
    waiting: BTreeMap<Session, (Mark, Duration)>,
}

impl Readers {
    pub fn add(&mut self, session: Session, mark: Mark, now: Duration) {
        self.waiting.insert(session, (mark, now + PATIENCE));
    }

    pub fn remove(&mut self, session: Session) {
        self.waiting.remove(&session);
    }

    pub fn answer(&mut self, applied: Version, now: Duration, actions: &mut Vec<Action>) {
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
