//! `ftpmaster drain` and `ready`: takes a slave out of service and back.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use log::info;
use relais_cluster::ConnectionAddrs;
use relais_proto::{SlaveState, metric};

use super::find;
use super::outcome::{OperationResult, OperatorOutput};
use crate::core::Core;

/// Longest wait for the last sessions of the slave.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two checks of the slave's sessions.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Drains a slave: it gets no new clients, and its sessions move to other slaves.
pub(super) fn drain(
    core: &Core,
    asker: ConnectionAddrs,
    name: &str,
    output: &mut OperatorOutput<'_>,
) -> OperationResult {
    let slave = find::slave(core, asker, name)?;
    core.drain(slave.id, true);
    info!("slave {} is drained", slave.id);
    if slave.state == SlaveState::Down {
        return Ok(format!(
            "slave {} is down; when it comes back it gets no sessions until it is made ready",
            slave.id
        ));
    }
    output.line_now(format!(
        "slave {} gets no new sessions; it had {}",
        slave.id,
        slave.metrics.get(metric::SESSIONS)
    ));
    let begun = Instant::now();
    while begun.elapsed() < DRAIN_TIMEOUT
        && !output.is_gone()
        && !core.stopping.load(Ordering::Relaxed)
    {
        sleep(LOOK_EVERY);
        let Some(now) = core.reports(asker).into_iter().find(|report| report.id == slave.id) else {
            break;
        };
        if now.state == SlaveState::Down {
            return Ok("it is down now".to_owned());
        }
        // Only heartbeats after the drain order count.
        if now.metrics.get(metric::SESSIONS) == 0
            && u128::from(now.silent_ms) < begun.elapsed().as_millis()
        {
            return Ok("it has no sessions".to_owned());
        }
    }
    let left = core
        .reports(asker)
        .into_iter()
        .find(|report| report.id == slave.id)
        .map_or(0, |report| report.metrics.get(metric::SESSIONS));
    Err(format!("it still has {left} sessions; it stays drained"))
}

/// Makes a drained slave ready, and has it retry the changes that its disk refused.
pub(super) fn ready(core: &Core, asker: ConnectionAddrs, name: &str) -> OperationResult {
    let slave = find::slave(core, asker, name)?;
    core.drain(slave.id, false);
    info!("slave {} is made ready", slave.id);
    Ok(format!(
        "slave {} gets sessions again as soon as it is in service, and retries the changes that \
         its disk has refused",
        slave.id
    ))
}
