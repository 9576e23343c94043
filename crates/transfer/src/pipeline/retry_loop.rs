//! The loop of a pipeline: sends requests and handles answers, on one connection after another.
//!
//! The failover policy decides what follows a failed connection.

use relais_net::Connection;
use relais_proto::ErrorCode;

use super::handler::{PipelineHandler, PipelineStats};
use super::outbox;
use super::window::Window;
use crate::action::Purpose;
use crate::error::{Fault, TransferError};
use crate::failover::{Failover, Try};
use crate::sessions::Sessions;

/// Sends all requests until `handler` has no more and all are answered.
///
/// # Errors
/// See [`TransferError`]. A refusal of one request is a [`PipelineReply`](super::PipelineReply) and
/// ends nothing.
pub fn run(
    sessions: &mut dyn Sessions,
    handler: &mut dyn PipelineHandler,
) -> Result<PipelineStats, TransferError> {
    let mut window = Window::new(handler, Failover::new(sessions.retry()));
    while window.has_work()? {
        if let Err(fault) = run_on_connection(&mut window, sessions) {
            recover(&mut window, sessions, fault)?;
        }
    }
    Ok(window.stats)
}

/// Sends requests on one connection until none is left, or it fails.
fn run_on_connection(window: &mut Window<'_>, sessions: &mut dyn Sessions) -> Result<(), Fault> {
    (window.server, window.silent, window.progressed) = (None, None, false);
    if window.handler.interrupted() {
        return Err(TransferError::Interrupted.into());
    }
    let connection = sessions.connection()?;
    (window.server, window.silent) = (Some(connection.peer()), Some(connection.peer()));
    // What the session has queued comes before the requests.
    connection.flush()?;
    window.filling = true;
    talk(window, connection)?;
    if connection.has_input() {
        // All answers are here, so the pipeline does not fail.
        sessions.failed("the server sent more answers than requests were made");
    }
    if window.later.is_empty() { Ok(()) } else { Err(window.deferred()) }
}

fn talk(window: &mut Window<'_>, connection: &mut Connection) -> Result<(), Fault> {
    loop {
        if window.handler.interrupted() {
            return Err(TransferError::Interrupted.into());
        }
        if window.is_fill_due(connection.has_input()) {
            window.fill()?;
        }
        window.outbox.send(connection.stream())?;
        let pending = window.outbox.pending() > 0;
        if window.filling && !pending {
            continue;
        }
        if window.unanswered.is_empty() {
            if !pending {
                return Ok(());
            }
            // The rest of a refused put. The session is usable again once it is sent.
            outbox::wait(connection.stream(), false)?;
        } else if !pending || connection.has_input() || outbox::wait(connection.stream(), true)? {
            window.step(connection)?;
        }
    }
}

/// Handles a failure; returns an error if the pipeline ends.
fn recover(
    window: &mut Window<'_>,
    sessions: &mut dyn Sessions,
    fault: Fault,
) -> Result<(), TransferError> {
    // Each answer is progress, however small.
    window.failover.gained(if window.progressed { u64::MAX } else { 0 });
    let unfinished = window.requeue();
    let (is_refusal, lacking) =
        (matches!(fault, Fault::Refused(_)), matches!(fault, Fault::Elsewhere(_)));
    let first = window.todo.front().map_or(Purpose::Read, |item| item.purpose());
    let handler = &*window.handler;
    let tried = Try {
        purpose: if lacking { Purpose::Read } else { first },
        server: window.server,
        unfinished,
        repeatable: true,
        interrupted: &|| handler.interrupted(),
    };
    match window.failover.recover(sessions, fault, &tried) {
        // No server serves these requests; others may still be served.
        Err(TransferError::Refused(refusal))
            if lacking || is_refusal && refusal.code != ErrorCode::Behind =>
        {
            if !lacking {
                window.final_codes.push(refusal.code);
            }
            window.refuse(&refusal, lacking)
        }
        result => result.map(|_| ()),
    }
}
