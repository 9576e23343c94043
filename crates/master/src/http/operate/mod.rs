//! Operators' actions on the web page: `/-/status/drain`, `ready`, `scrub` and `diff`.
//!
//! They run the operations of `ftpmaster` in threads of their own. Their lines are kept for a
//! while, as pages below `/-/status/actions`. Only accounts with the rights `admin` may act, and
//! each action is an event.

mod forms;
mod kind;
mod pages;
mod runs;

use std::time::Instant;

use log::{Level, info};
use relais_http::{Form, Status};
use relais_proto::{ErrorCode, LogRateLimiter, Refusal};

pub(super) use self::forms::{cluster_actions, slave_actions};
pub(super) use self::kind::OperationKind;
pub(super) use self::runs::OperationRuns;
use self::runs::RUNS;
use super::access::Viewer;
use super::answer::Answer;
use super::request::Request;
use super::site::HttpSite;
use crate::operate::find_slave;

impl HttpSite {
    /// Answers a form that operates slaves.
    ///
    /// # Errors
    /// [`ErrorCode::Denied`] for viewers who may not; [`ErrorCode::NotFound`] for an unknown slave;
    /// [`ErrorCode::Busy`] if too many operations run.
    pub(super) fn operate(
        &self,
        request: &Request,
        kind: OperationKind,
        form: &Form,
        viewer: &Viewer,
    ) -> Result<Answer, Refusal> {
        check_may_operate(request, kind, viewer)?;
        self.check_csrf(request, form)?;
        let asker = request.client.requester(false).addrs;
        let slave = if kind.is_for_slave() {
            let name = form.get("slave").unwrap_or_default();
            let found = find_slave(self.core.reports(asker), name);
            Some(found.map_err(|why| Refusal::new(ErrorCode::NotFound, why))?.id)
        } else {
            None
        };
        // Taking a slave out of service needs a second click.
        if let (OperationKind::Drain, Some(slave), None) = (kind, slave, form.get("confirm")) {
            return Ok(pages::confirmation(&request.head, slave, viewer));
        }
        let number = self.runs.start(&self.core, asker, kind, slave, &viewer.user)?;
        let (user, done, from) = (&viewer.user, kind.done(slave), request.client.peer.ip());
        let from = from.to_canonical();
        self.core.events.record(Level::Info, format!("http: user {user} {done} from {from}"));
        let location = format!("{}/{number}", RUNS);
        Ok(Answer::empty(Status::SEE_OTHER).with("Location", location))
    }
}

/// Checks that a viewer may operate slaves.
///
/// # Errors
/// [`ErrorCode::Denied`].
fn check_may_operate(
    request: &Request,
    kind: OperationKind,
    viewer: &Viewer,
) -> Result<(), Refusal> {
    static REFUSED: LogRateLimiter = LogRateLimiter::new();
    if viewer.may_operate {
        return Ok(());
    }
    if let Some(more) = REFUSED.allow(Instant::now()) {
        let (from, user) = (request.client.peer.ip().to_canonical(), &viewer.user);
        info!("http: user {user:?} at {from} may not {}{more}", kind.name());
    }
    let why = if viewer.has_accounts {
        "only accounts with the rights admin may do this"
    } else {
        "this needs an account with the rights admin; without accounts use the commands of \
         ftpmaster, such as `ftpmaster drain`"
    };
    Err(Refusal::new(ErrorCode::Denied, why))
}
