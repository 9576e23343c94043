//! `status` and `ping`: what the slave knows of itself.

use relais_proto::{Reply, Request};

use super::{Context, Handled, Outcome, misrouted};
use crate::serving::DISPLACED;

pub(super) fn status(context: &mut Context<'_>, request: Request) -> Handled {
    let Request::Status = request else { return Err(misrouted()) };
    let serving = context.serving;
    let (counters, mut last_error) = serving.counters()?;
    if last_error.is_empty() && serving.board.is_displaced() {
        DISPLACED.clone_into(&mut last_error);
    }
    if !context.session.root.is_root() {
        // It may name what this user does not see.
        last_error.clear();
    }
    Ok(Outcome::Reply(Reply::StatusReport {
        slave: serving.slave_id,
        mark: serving.mark(),
        counters,
        last_error,
    }))
}

pub(super) fn ping(_: &mut Context<'_>, request: Request) -> Handled {
    let Request::Ping = request else { return Err(misrouted()) };
    Ok(Outcome::Reply(Reply::Pong))
}
