//! `ftpmaster drain` and `ready`: takes a slave out of service and back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use log::Level;
use relais_proto::{SlaveState, metric};

use super::find;
use super::session::{OperationResult, OperatorSession};

/// Longest wait for the last sessions of the slave.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two checks of the slave's sessions.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Drains a slave: it gets no new clients, and its sessions move to other slaves.
pub(super) fn drain(session: &mut OperatorSession<'_>, name: &str) -> OperationResult {
    let slave = find::slave(session, name)?;
    session.core.drain(slave.id, true);
    if slave.state == SlaveState::Down {
        return Ok(format!(
            "slave {} is down; when it comes back it gets no sessions until it is made ready",
            slave.id
        ));
    }
    let mut left = slave.metrics.get(metric::SESSIONS);
    session.line_now(format!("slave {} gets no new sessions; it had {left}", slave.id));
    let begun = Instant::now();
    while begun.elapsed() < DRAIN_TIMEOUT && !session.is_gone && !session.is_stopping() {
        sleep(LOOK_EVERY);
        let report = session.reports().into_iter().find(|report| report.id == slave.id);
        left = report.as_ref().map_or(0, |report| report.metrics.get(metric::SESSIONS));
        let Some(now) = report else { break };
        if now.state == SlaveState::Down {
            return Ok("it is down now".to_owned());
        }
        // Only heartbeats after the drain order count.
        if left == 0 && u128::from(now.silent_ms) < begun.elapsed().as_millis() {
            let text = format!("slave {} is drained: it has no sessions", slave.id);
            session.core.events.record(Level::Info, text);
            return Ok("it has no sessions".to_owned());
        }
    }
    Err(format!("it still has {left} sessions; it stays drained"))
}

/// Makes a drained slave ready, and has it retry the changes that its disk refused.
pub(super) fn ready(session: &OperatorSession<'_>, name: &str) -> OperationResult {
    let slave = find::slave(session, name)?.id;
    session.core.drain(slave, false);
    session.core.events.record(Level::Info, format!("slave {slave} is made ready"));
    Ok(format!(
        "slave {slave} gets sessions again as soon as it is in service, and retries the changes \
         that its disk has refused"
    ))
}
