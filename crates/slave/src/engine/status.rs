//! `status` and `ping`: the slave's own state.

use relais_proto::{Reply, Request};

use super::requests::{HandlerResult, RequestContext, RequestOutcome, misrouted};
use crate::engine::serving::DISPLACED;

pub(super) fn status(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Status = request else { return Err(misrouted()) };
    let serving = context.serving;
    let (counters, mut last_error) = serving.counters()?;
    if last_error.is_empty() && serving.scoreboard.is_displaced() {
        DISPLACED.clone_into(&mut last_error);
    }
    if !context.session.root.is_root() {
        // The error may contain paths that this user may not see.
        last_error.clear();
    }
    Ok(RequestOutcome::Reply(Reply::StatusReport {
        slave: serving.slave_id,
        lsn: serving.visible_lsn(),
        counters,
        last_error,
    }))
}

pub(super) fn ping(_: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Ping = request else { return Err(misrouted()) };
    Ok(RequestOutcome::Reply(Reply::Pong))
}
