//! The passwords that slaves have forwarded and that are being verified. It never blocks.

use std::sync::Arc;

use parking_lot::Mutex;
use relais_auth::{LoginResult, PendingLogin};
use relais_cluster::LinkId;
use relais_proto::{ErrorCode, Refusal, limits};

use crate::outbox::Outbox;

/// The slave and the query that a result is for.
#[derive(Clone)]
pub(crate) struct LoginQuery {
    pub link: LinkId,
    pub query: u64,
    pub outbox: Arc<Outbox>,
}

/// All forwarded passwords that have no result yet.
#[derive(Default)]
pub(crate) struct ForwardedLogins {
    open: Mutex<Vec<(LoginQuery, PendingLogin)>>,
}

impl ForwardedLogins {
    /// Checks that a link has fewer passwords than it may have at the same time.
    pub fn check(&self, link: LinkId) -> Result<(), Refusal> {
        let waiting = self.open.lock().iter().filter(|(query, _)| query.link == link).count();
        if waiting < limits::FORWARDED_LOGINS {
            return Ok(());
        }
        let message = "too many logins of this slave wait; try again in 1 s";
        Err(Refusal { retry_after: 1, ..Refusal::new(ErrorCode::Busy, message) })
    }

    /// Keeps a password until its result is known.
    pub fn add(&self, query: LoginQuery, pending: PendingLogin) {
        self.open.lock().push((query, pending));
    }

    /// Takes the results that are known.
    pub fn take_results(&self) -> Vec<(LoginQuery, LoginResult)> {
        let mut results = Vec::new();
        self.open.lock().retain(|(query, pending)| match pending.take() {
            Some(result) => {
                results.push((query.clone(), result));
                false
            }
            None => true,
        });
        results
    }

    /// Gives up the passwords of a link that has ended.
    pub fn ended(&self, link: LinkId) {
        self.open.lock().retain(|(query, _)| query.link != link);
    }
}
