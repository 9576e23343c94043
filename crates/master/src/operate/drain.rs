//! Taking a slave out of service and back in.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use log::info;
use relais_cluster::ConnectionAddrs;
use relais_proto::SlaveState;

use super::{Done, Outcome, Teller, find};
use crate::core::Core;

/// How long the operator is kept waiting for the last sessions.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks at the slave's sessions.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// No more clients for a slave, and the sessions that it has move on.
pub(super) fn drain(
    core: &Core,
    asker: ConnectionAddrs,
    name: &str,
    tell: &mut Teller<'_>,
) -> Done {
    let slave = find::slave(core, asker, name)?;
    core.drain(slave.id, true);
    info!("slave {} is drained", slave.id);
    if slave.state == SlaveState::Down {
        return Ok(Outcome::done(format!(
            "slave {} is down; when it comes back it gets no sessions until it is made ready",
            slave.id
        )));
    }
    tell.say(format!(
        "slave {} gets no sessions any more; it had {}",
        slave.id, slave.counters.sessions
    ));
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && !tell.is_gone() && !core.stopping.load(Ordering::Relaxed) {
        sleep(LOOK_EVERY);
        let Some(now) = core.reports(asker).into_iter().find(|report| report.id == slave.id) else {
            break;
        };
        if now.state == SlaveState::Down {
            return Ok(Outcome::done("it is down now"));
        }
        // Only what it has said since it was told counts.
        if now.counters.sessions == 0 && u128::from(now.silent_ms) < begun.elapsed().as_millis() {
            return Ok(Outcome::done("it has no sessions"));
        }
    }
    let left = core
        .reports(asker)
        .into_iter()
        .find(|report| report.id == slave.id)
        .map_or(0, |report| report.counters.sessions);
    Ok(Outcome::failed(format!("it has {left} sessions still; it goes on to get no new ones")))
}

/// A drained slave gets sessions again, and tries again what its disk has refused.
pub(super) fn ready(core: &Core, asker: ConnectionAddrs, name: &str) -> Done {
    let slave = find::slave(core, asker, name)?;
    core.drain(slave.id, false);
    info!("slave {} is made ready", slave.id);
    Ok(Outcome::done(format!(
        "slave {} gets sessions again as soon as it is in service, and tries again what its disk has refused",
        slave.id
    )))
}
