//! Has all slaves read and check their contents, and tells how it goes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use log::info;
use relais_cluster::LinkId;
use relais_proto::{Scrub, pluralize};

use super::{Done, Outcome, Teller};
use crate::core::Core;

/// Time between two looks at what the slaves report.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Shortest time between two lines about one slave.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// A line comes after this time even if nothing has changed.
const TELL_AT_LAST: Duration = Duration::from_secs(30);
/// How long a slave may take to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// How long after all was read nothing may be repaired before what is left counts as damaged.
const REPAIR: Duration = Duration::from_secs(15);

/// What is known of one slave.
struct Progress {
    now: Scrub,
    changed: Instant,
    told: Instant,
    /// Why there is no result.
    failed: Option<String>,
}

impl Progress {
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

/// Orders it; with `wait` it tells how it goes until all slaves are done.
pub(super) fn scrub(core: &Core, wait: bool, tell: &mut Teller<'_>) -> Done {
    let linked = core.links.one_of_each_folder();
    if linked.is_empty() {
        return Err("no slave is linked".to_owned());
    }
    let order = core.scrubs.fetch_add(1, Ordering::Relaxed) + 1;
    core.tell_orders();
    info!("all slaves check their contents");
    if !wait {
        return Ok(Outcome::done(
            "every slave reads and checks all its contents, and fetches anew what is damaged; `ftpmaster status` shows what it lacks meanwhile",
        ));
    }
    let begun = Instant::now();
    let start = || Progress { now: Scrub::default(), changed: begun, told: begun, failed: None };
    let mut all: BTreeMap<LinkId, Progress> = linked.iter().map(|of| (of.link, start())).collect();
    while !all.values().all(Progress::is_over) {
        if tell.is_gone() {
            return Ok(Outcome::failed("the slaves go on"));
        }
        if core.stopping.load(Ordering::Relaxed) {
            return Err(super::ended());
        }
        sleep(LOOK_EVERY);
        for of in &linked {
            let Some(progress) = all.get_mut(&of.link).filter(|progress| !progress.is_over())
            else {
                continue;
            };
            look(core, order, of.link, progress, begun);
            let told = progress.told.elapsed();
            let news = progress.changed > progress.told;
            if progress.is_over() || news && told >= TELL_EVERY || told >= TELL_AT_LAST {
                progress.told = Instant::now();
                if !progress.is_over() {
                    tell.say(format!("slave {}: {}", of.slave, progress.text()));
                }
            }
        }
    }
    for of in &linked {
        if let Some(progress) = all.get(&of.link) {
            tell.say(format!("slave {}: {}", of.slave, progress.text()));
        }
    }
    let slaves = pluralize(linked.len(), "slave");
    let bad = all.values().filter(|progress| !progress.is_well()).count();
    Ok(match bad {
        0 => Outcome::done(format!("the contents of {slaves} are good")),
        bad => Outcome::failed(format!("{bad} of {slaves} are not good")),
    })
}

/// Takes over what a slave has reported last.
fn look(core: &Core, order: u64, link: LinkId, progress: &mut Progress, begun: Instant) {
    match core.scrub_of(link) {
        _ if !core.links.has(link) => {
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
