//! `ftpmaster scrub`: has all slaves verify their contents, and shows the progress.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use log::Level;
use relais_proto::Scrub;

use super::session::{OperationResult, OperatorSession, ended};
use super::slaves::Slaves;
use crate::core::Core;
use crate::linked_slaves::LinkedSlave;

/// Time between two checks of the slaves' reports.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Shortest time between two lines about one slave.
const PRINT_EVERY: Duration = Duration::from_secs(2);
/// A line comes after this time even if nothing has changed.
const PRINT_AT_LAST: Duration = Duration::from_secs(30);
/// Longest wait for the start of a slave's scrub.
const BEGIN: Duration = Duration::from_secs(30);
/// Longest wait for a repair after all files are read. Then the rest counts as damaged.
const REPAIR: Duration = Duration::from_secs(15);

/// The progress of one slave.
struct ScrubProgress<'a> {
    of: &'a LinkedSlave,
    now: Scrub,
    changed: Instant,
    printed: Instant,
    /// The reason why there is no result.
    failed: Option<&'static str>,
}

impl ScrubProgress<'_> {
    fn is_over(&self) -> bool {
        let Scrub { done, damaged, repaired, .. } = self.now;
        self.failed.is_some() || done && (repaired >= damaged || self.changed.elapsed() >= REPAIR)
    }

    fn is_well(&self) -> bool {
        let Scrub { damaged, repaired, unreadable, .. } = self.now;
        self.failed.is_none() && repaired >= damaged && unreadable == 0
    }

    /// Updates it from the slave's last report on the scrub `order`, which began at `begun`.
    fn update(&mut self, core: &Core, order: u64, begun: Instant) {
        let Some(linked) = core.slaves.get(self.of.link) else {
            self.failed = Some("its link ended before it was done");
            return;
        };
        if let Some(scrub) =
            linked.heartbeat.map(|heartbeat| heartbeat.scrub).filter(|scrub| scrub.order >= order)
        {
            if scrub != self.now {
                self.changed = Instant::now();
                self.now = scrub;
            }
        } else if begun.elapsed() >= BEGIN {
            self.failed = Some("it did not begin");
        }
    }

    fn print(&self, session: &mut OperatorSession<'_>) {
        let Scrub { files, read, damaged, repaired, unreadable, .. } = self.now;
        let unreadable = match unreadable {
            0 => String::new(),
            n => format!(", {n} could not be read"),
        };
        let text = self.failed.map_or_else(
            || {
                format!(
                    "{read} of {files} files read, {damaged} damaged, {repaired} repaired\
                     {unreadable}"
                )
            },
            str::to_owned,
        );
        session.line_now(format!("slave {}: {text}", self.of.slave));
    }
}

/// Orders a scrub of all slaves; with `wait` it prints their progress until all are done.
pub(super) fn scrub(session: &mut OperatorSession<'_>, wait: bool) -> OperationResult {
    let slaves = Slaves::choose(session)?;
    let core = session.core;
    let order = core.scrubs.fetch_add(1, Ordering::Relaxed) + 1;
    core.send_heartbeat_acks();
    core.events.record(Level::Info, "all slaves verify their contents".to_owned());
    if !wait {
        return Ok("every slave verifies all its contents and fetches damaged ones again; \
             `ftpmaster status` shows what it lacks meanwhile"
            .to_owned());
    }
    let begun = Instant::now();
    let start = |of| ScrubProgress {
        of,
        now: Scrub::default(),
        changed: begun,
        printed: begun,
        failed: None,
    };
    let mut all: Vec<ScrubProgress<'_>> = slaves.linked.iter().map(start).collect();
    while !all.iter().all(ScrubProgress::is_over) {
        if session.is_gone {
            return Err("the slaves continue".to_owned());
        }
        if session.is_stopping() {
            return Err(ended());
        }
        sleep(LOOK_EVERY);
        for progress in all.iter_mut().filter(|progress| !progress.is_over()) {
            progress.update(core, order, begun);
            let printed = progress.printed.elapsed();
            let news = progress.changed > progress.printed;
            if !progress.is_over() && (news && printed >= PRINT_EVERY || printed >= PRINT_AT_LAST) {
                progress.printed = Instant::now();
                progress.print(session);
            }
        }
    }
    all.iter().for_each(|progress| progress.print(session));
    let bad = all.iter().filter(|progress| !progress.is_well()).count();
    let good = format!("the contents of {} are good", slaves.count());
    slaves.result((bad, slaves.absent), good, "are not good", "could not be asked")
}
