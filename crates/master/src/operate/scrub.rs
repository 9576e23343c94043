//! `ftpmaster scrub`: has all slaves verify their contents, and shows the progress.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use log::info;
use relais_cluster::{ConnectionAddrs, LinkId};
use relais_proto::{Scrub, pluralize};

use super::outcome::{OperationResult, OperatorOutput, ended};
use super::slaves::{self, Slaves};
use crate::core::Core;

/// Time between two checks of the slaves' reports.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Shortest time between two lines about one slave.
const PRINT_EVERY: Duration = Duration::from_secs(2);
/// A line comes after this time even if nothing has changed.
const PRINT_AT_LAST: Duration = Duration::from_secs(30);
/// Longest wait for the start of a slave's scrub.
const BEGIN: Duration = Duration::from_secs(30);
/// Longest wait for a repair after all files are read. Then the rest counts as damaged.
const REPAIR: Duration = Duration::from_secs(15);

/// The progress of one slave.
struct ScrubProgress {
    now: Scrub,
    changed: Instant,
    printed: Instant,
    /// The reason why there is no result.
    failed: Option<String>,
}

impl ScrubProgress {
    fn is_over(&self) -> bool {
        let Scrub { done, damaged, repaired, .. } = self.now;
        self.failed.is_some() || done && (repaired >= damaged || self.changed.elapsed() >= REPAIR)
    }

    fn is_well(&self) -> bool {
        let Scrub { damaged, repaired, unreadable, .. } = self.now;
        self.failed.is_none() && repaired >= damaged && unreadable == 0
    }

    fn text(&self) -> String {
        if let Some(why) = &self.failed {
            return why.clone();
        }
        let Scrub { files, read, damaged, repaired, unreadable, .. } = self.now;
        let unreadable = match unreadable {
            0 => String::new(),
            n => format!(", {n} could not be read"),
        };
        format!("{read} of {files} files read, {damaged} damaged, {repaired} repaired{unreadable}")
    }
}

/// Orders a scrub of all slaves; with `wait` it prints their progress until all are done.
pub(super) fn scrub(
    core: &Core,
    asker: ConnectionAddrs,
    wait: bool,
    output: &mut OperatorOutput<'_>,
) -> OperationResult {
    let Slaves { linked, absent } = slaves::choose(core, asker, output)?;
    let order = core.scrubs.fetch_add(1, Ordering::Relaxed) + 1;
    core.send_heartbeat_acks();
    info!("all slaves check their contents");
    if !wait {
        return Ok("every slave verifies all its contents and fetches damaged ones again; \
             `ftpmaster status` shows what it lacks meanwhile"
            .to_owned());
    }
    let begun = Instant::now();
    let start =
        || ScrubProgress { now: Scrub::default(), changed: begun, printed: begun, failed: None };
    let mut all: BTreeMap<LinkId, ScrubProgress> =
        linked.iter().map(|of| (of.link, start())).collect();
    while !all.values().all(ScrubProgress::is_over) {
        if output.is_gone() {
            return Err("the slaves continue".to_owned());
        }
        if core.stopping.load(Ordering::Relaxed) {
            return Err(ended());
        }
        sleep(LOOK_EVERY);
        for of in &linked {
            let Some(progress) = all.get_mut(&of.link).filter(|progress| !progress.is_over())
            else {
                continue;
            };
            look(core, order, of.link, progress, begun);
            let printed = progress.printed.elapsed();
            let news = progress.changed > progress.printed;
            if progress.is_over() || news && printed >= PRINT_EVERY || printed >= PRINT_AT_LAST {
                progress.printed = Instant::now();
                if !progress.is_over() {
                    output.line_now(format!("slave {}: {}", of.slave, progress.text()));
                }
            }
        }
    }
    for of in &linked {
        if let Some(progress) = all.get(&of.link) {
            output.line_now(format!("slave {}: {}", of.slave, progress.text()));
        }
    }
    let slaves = pluralize(linked.len() + absent, "slave");
    let bad = all.values().filter(|progress| !progress.is_well()).count();
    match (bad, absent) {
        (0, 0) => Ok(format!("the contents of {slaves} are good")),
        (bad, 0) => Err(format!("{bad} of {slaves} are not good")),
        (0, absent) => Err(format!("{absent} of {slaves} could not be asked")),
        (bad, absent) => {
            Err(format!("{bad} of {slaves} are not good, and {absent} could not be asked"))
        }
    }
}

/// Updates the progress of a slave from its last report.
fn look(core: &Core, order: u64, link: LinkId, progress: &mut ScrubProgress, begun: Instant) {
    match core.scrub_of(link) {
        _ if !core.slaves.has(link) => {
            progress.failed = Some("its link ended before it was done".to_owned());
        }
        Some(scrub) if scrub.order >= order && scrub != progress.now => {
            progress.changed = Instant::now();
            progress.now = scrub;
        }
        Some(scrub) if scrub.order >= order => {}
        _ if begun.elapsed() >= BEGIN => {
            progress.failed = Some("it did not begin".to_owned());
        }
        _ => {}
    }
}
