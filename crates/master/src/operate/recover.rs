//! `ftpmaster recover`: rebuilds the master's state from a slave's tree.
//!
//! It is needed if the journal is lost, older than a slave, or of another history. All reachable
//! slaves get the new epoch before the tree is read. They then follow no earlier epoch, so no
//! change
//! is acknowledged that the new tree lacks.

use relais_cluster::replica::{DivergentEntry, ReceivedTree, compare};
use relais_cluster::{HaltReason, HistoryHash, LinkId, MasterState, Tree, TreeState, timeline};
use relais_coordinator::CoordinatorDriver;
use relais_proto::{Lsn, ReplicaPosition, SlaveId, TreePath};

use super::outcome::{OperationResult, OperatorOutput, ask_order, try_order};
use super::slave_tree::ask;
use crate::core::Core;

/// The state of the master and of the linked slaves before a recovery.
struct Survey {
    last: Lsn,
    epoch: u32,
    halted: Option<HaltReason>,
    /// The linked slaves, with their positions if known.
    slaves: Vec<(LinkId, SlaveId, Option<ReplicaPosition>)>,
    /// Slaves whose folder another slave has joined with.
    sharing: Vec<LinkId>,
}

impl Survey {
    fn of(driver: &mut CoordinatorDriver) -> Self {
        let order = driver.order();
        // A slave that has joined has applied more changes since.
        let now = |link: LinkId, said: ReplicaPosition| match order.applied(link) {
            Some(applied) => {
                ReplicaPosition { applied, epoch: said.epoch.max(order.state().epoch()), ..said }
            }
            None => said,
        };
        let slaves = driver
            .links()
            .iter()
            .map(|(link, open)| (*link, open.slave, open.position.map(|said| now(*link, said))))
            .collect();
        let (last, epoch, halted) = (order.last(), order.state().epoch(), order.halted());
        let shares = |folder| {
            let mut of_folder = driver.links().values().filter(|other| other.folder == folder);
            of_folder.any(|other| other.position.is_some())
        };
        let sharing = driver
            .links()
            .iter()
            .filter(|(_, open)| open.position.is_none() && shares(open.folder))
            .map(|(link, _)| *link)
            .collect();
        Self { last, epoch, halted, slaves, sharing }
    }

    /// The slave with the highest change.
    fn best(&self) -> Option<(LinkId, SlaveId, ReplicaPosition)> {
        self.slaves
            .iter()
            .filter_map(|(link, slave, position)| Some((*link, *slave, (*position)?)))
            .max_by_key(|(_, _, it)| it.applied)
    }

    /// An epoch above all known ones.
    fn next_epoch(&self) -> Option<u32> {
        let heard = self
            .slaves
            .iter()
            .filter_map(|(_, _, position)| *position)
            .map(|position| position.epoch.max(position.applied.epoch));
        heard.fold(self.epoch, u32::max).checked_add(1)
    }
}

/// Shows the plan of a recovery, and executes it with `go`.
pub(super) fn recover(core: &Core, go: bool, output: &mut OperatorOutput<'_>) -> OperationResult {
    let survey = ask_order(core, Survey::of)?;
    output.line(format!(
        "the master: last change {}, epoch {}; {}",
        survey.last,
        survey.epoch,
        survey.halted.map_or("changes are taken", HaltReason::why)
    ));
    for (link, slave, position) in &survey.slaves {
        if position.is_none() && survey.sharing.contains(link) {
            output.line(format!("slave {slave}: serves the folder of another slave"));
            continue;
        }
        output.line(match position {
            Some(ReplicaPosition { applied, epoch, .. }) => {
                format!("slave {slave}: last change {applied}, epoch {epoch}")
            }
            None => format!("slave {slave}: its position is not known"),
        });
    }
    if survey.halted.is_none() {
        let said = "changes are taken: there is nothing to recover".to_owned();
        return if go { Err(said) } else { Ok(said) };
    }
    if survey.halted == Some(HaltReason::Broken) {
        return Err("check the disk of the state folder and restart the master: \
             there is nothing to recover"
            .to_owned());
    }
    let Some((link, slave, position)) = survey.best() else {
        return Err(
            "no linked slave has a known position: there is nothing to recover from".to_owned()
        );
    };
    let epoch = survey.next_epoch().ok_or("there is no higher epoch")?;
    let plan = format!(
        "the tree of slave {slave}, at change {}, becomes that of all slaves, in epoch {epoch}",
        position.applied
    );
    list_branches(core, &survey, link, output)?;
    if !go {
        output.line(
            "make sure that every reachable slave is in this list: changes that only other slaves \
             have are proposed or quarantined when these join",
        );
        return Ok(format!("with --yes {plan}"));
    }
    output.line_now(plan);
    if !ask_order(core, move |driver| driver.fence(epoch))? {
        return Err("another recovery is in progress or has just finished".to_owned());
    }
    match rebuilt(core, link, epoch) {
        Ok(ledger) => {
            let (entries, last) = (ledger.tree().len(), ledger.last());
            try_order(core, move |driver| driver.recovered(ledger))?;
            Ok(format!(
                "recovered: {entries} entries, epoch {}; all slaves compare their folders now",
                last.epoch
            ))
        }
        Err(why) => {
            ask_order(core, CoordinatorDriver::give_up_recovery)?;
            Err(format!("not recovered: slave {slave}: {why}; try again"))
        }
    }
}

/// Makes the master's state from the tree of a slave.
fn rebuilt(core: &Core, link: LinkId, epoch: u32) -> Result<MasterState, String> {
    let linked = core.slaves.all();
    let of = linked.iter().find(|linked| linked.link == link).ok_or("its link ended")?;
    let tree = ask(core, of, true)?;
    let entries = tree.entries.into_iter().map(|(path, (entry, _))| (path, entry));
    let known = TreeState { tree: Tree::listed(entries, tree.position.applied), ids: tree.ids };
    let seed = relais_os::random().map_err(|error| error.to_string())?;
    let timeline = try_order(core, |driver| driver.begin_timeline())?;
    Ok(MasterState::recovered(known, tree.timelines, epoch, HistoryHash(seed), timeline))
}

/// Most paths that are listed for one slave; the rest is counted.
const LISTED: usize = 100;

/// Prints paths of one slave, and the number of unlisted ones.
fn list<'a>(
    slave: SlaveId,
    what: &str,
    mut paths: impl Iterator<Item = &'a TreePath>,
    output: &mut OperatorOutput<'_>,
) {
    for path in paths.by_ref().take(LISTED) {
        output.line(format!("slave {slave}: {what} {path}"));
    }
    let more = paths.count();
    if more > 0 {
        output.line(format!("slave {slave}: {what} {more} more"));
    }
}

/// Lists the changes of each other slave that are a branch, and what will become of them.
///
/// The slaves later decide by the same comparison.
fn list_branches(
    core: &Core,
    survey: &Survey,
    best: LinkId,
    output: &mut OperatorOutput<'_>,
) -> Result<(), String> {
    let linked = core.slaves.all();
    let find = |link: LinkId| linked.iter().find(|linked| linked.link == link);
    let survivor = ask(core, find(best).ok_or("its link ended")?, false)
        .map_err(|why| format!("cannot read the surviving tree: {why}; try again"))?;
    let last = survivor.position.applied;
    let listing = ReceivedTree {
        entries: survivor.entries.into_iter().map(|(path, (entry, _))| (path, entry)).collect(),
        lsn: last,
        timelines: survivor.timelines,
        ..ReceivedTree::default()
    };
    for (link, slave, position) in &survey.slaves {
        if *link == best || position.is_none() || output.is_gone() {
            continue;
        }
        let Some(of) = find(*link) else { continue };
        let tree = match ask(core, of, false) {
            Ok(tree) => tree,
            Err(why) => {
                output.line_now(format!("slave {slave}: cannot list its tree: {why}"));
                continue;
            }
        };
        let applied = tree.position.applied;
        let fork = timeline::fork(&tree.timelines, applied, &listing.timelines, last);
        if fork == applied {
            continue;
        }
        output.line(format!(
            "slave {slave}: its changes after {fork}, up to {applied}, are a branch"
        ));
        let own = tree.entries.iter().map(|(path, (entry, _))| (path, entry));
        let found = compare(own, fork, &listing);
        // Contents that are not here are with another slave of the branch.
        let here =
            |stray: &&DivergentEntry| tree.entries.get(&stray.path).is_some_and(|(_, here)| *here);
        for (proposed, what) in [(true, "proposes"), (false, "quarantines")] {
            let paths = found
                .strays
                .iter()
                .rev()
                .filter(here)
                .filter(|stray| stray.expect.is_some() == proposed)
                .map(|stray| &stray.path);
            list(*slave, what, paths, output);
        }
        // Paths that the branch had removed or moved.
        let back = found
            .come
            .iter()
            .filter(|(path, entry)| entry.version <= fork && !tree.entries.contains_key(path))
            .map(|(path, _)| path);
        list(*slave, "gets back", back, output);
    }
    Ok(())
}
