//! `ftpmaster recover`: rebuilds the master's state from a slave's tree.
//!
//! It is needed if the journal is lost, older than a slave, or of another history. All reachable
//! slaves get the new epoch before the tree is read. They then follow no earlier epoch, so no
//! change
//! is acknowledged that the new tree lacks.

use relais_cluster::replica::{DivergentEntry, ReceivedTree, compare};
use relais_cluster::{HaltReason, HistoryHash, LinkId, MasterState, Tree, TreeState, timeline};
use relais_coordinator::{CoordinatorDriver, Link};
use relais_proto::{Lsn, ReplicaPosition, SlaveId, TreePath};

use super::session::{OperationResult, OperatorSession, ask_order, try_order};
use super::slave_tree::{SlaveTree, ask};
use crate::core::Core;

/// The state of the master and of the linked slaves before a recovery.
struct Survey {
    last: Lsn,
    epoch: u32,
    halted: Option<HaltReason>,
    slaves: Vec<SurveyedSlave>,
}

/// A linked slave.
struct SurveyedSlave {
    link: LinkId,
    id: SlaveId,
    /// Its position, if known.
    position: Option<ReplicaPosition>,
    /// Whether another slave has joined with its folder, and it has not.
    is_sharing: bool,
}

impl Survey {
    fn of(driver: &mut CoordinatorDriver) -> Self {
        let (order, links) = (driver.order(), driver.links());
        let (last, epoch, halted) = (order.last(), order.state().epoch(), order.halted());
        let has_joined =
            |folder| links.values().any(|other| other.folder == folder && other.position.is_some());
        let survey = |(link, open): (&LinkId, &Link)| SurveyedSlave {
            link: *link,
            id: open.slave,
            // A slave that has joined has applied more changes since.
            position: open.position.map(|said| match order.applied(*link) {
                Some(applied) => ReplicaPosition { applied, epoch: said.epoch.max(epoch), ..said },
                None => said,
            }),
            is_sharing: open.position.is_none() && has_joined(open.folder),
        };
        Self { last, epoch, halted, slaves: links.iter().map(survey).collect() }
    }
}

/// Shows the plan of a recovery, and executes it with `go`.
pub(super) fn recover(session: &mut OperatorSession<'_>, go: bool) -> OperationResult {
    let core = session.core;
    let survey = ask_order(core, Survey::of)?;
    session.line(format!(
        "the master: last change {}, epoch {}; {}",
        survey.last,
        survey.epoch,
        survey.halted.map_or("changes are taken", HaltReason::why)
    ));
    for SurveyedSlave { id, position, is_sharing, .. } in &survey.slaves {
        session.line(match position {
            Some(ReplicaPosition { applied, epoch, .. }) => {
                format!("slave {id}: last change {applied}, epoch {epoch}")
            }
            None if *is_sharing => format!("slave {id}: serves the folder of another slave"),
            None => format!("slave {id}: its position is not known"),
        });
    }
    match survey.halted {
        None => {
            return Ok("changes are taken: there is nothing to recover".to_owned());
        }
        Some(HaltReason::Broken) => {
            return Err("check the disk of the state folder and restart the master: \
                 there is nothing to recover"
                .to_owned());
        }
        Some(_) => {}
    }
    let known = survey.slaves.iter().filter_map(|slave| Some((slave, slave.position?)));
    // An epoch above all known ones.
    let epoch = known
        .clone()
        .fold(survey.epoch, |epoch, (_, said)| epoch.max(said.epoch).max(said.applied.epoch))
        .checked_add(1)
        .ok_or("there is no higher epoch");
    let Some((best, position)) = known.max_by_key(|(_, position)| position.applied) else {
        return Err(
            "no linked slave has a known position: there is nothing to recover from".to_owned()
        );
    };
    let (epoch, slave) = (epoch?, best.id);
    let plan = format!(
        "the tree of slave {slave}, at change {}, becomes that of all slaves, in epoch {epoch}",
        position.applied
    );
    list_branches(session, &survey, best.link)?;
    if !go {
        session.line(
            "make sure that every reachable slave is in this list: changes that only other slaves \
             have are proposed or quarantined when these join",
        );
        return Ok(format!("with --yes {plan}"));
    }
    session.line_now(plan);
    if !ask_order(core, move |driver| driver.fence(epoch))? {
        return Err("another recovery is in progress or has just finished".to_owned());
    }
    match rebuilt(core, best.link, epoch) {
        Ok(state) => {
            let (entries, last) = (state.tree().len(), state.last());
            try_order(core, move |driver| driver.recovered(state))?;
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

/// Gets the tree of the slave on a link.
fn tree_of(core: &Core, link: LinkId, ids: bool) -> Result<SlaveTree, String> {
    let linked = core.slaves.all();
    let of = linked.iter().find(|linked| linked.link == link).ok_or("its link ended")?;
    ask(core, of, ids)
}

/// Makes the master's state from the tree of a slave.
fn rebuilt(core: &Core, link: LinkId, epoch: u32) -> Result<MasterState, String> {
    let tree = tree_of(core, link, true)?;
    let entries = tree.entries.into_iter().map(|(path, (entry, _))| (path, entry));
    let known = TreeState {
        tree: Tree::listed(entries, tree.position.applied).annotated(tree.annotations),
        ids: tree.ids,
    };
    let seed = relais_os::random().map_err(|error| error.to_string())?;
    let timeline = try_order(core, |driver| driver.begin_timeline())?;
    Ok(MasterState::recovered(known, tree.timelines, epoch, HistoryHash(seed), timeline))
}

/// Most paths that are listed for one slave; the rest is counted.
const LISTED: usize = 100;

/// Prints paths of one slave, and the number of unlisted ones.
fn list<'a>(
    session: &mut OperatorSession<'_>,
    slave: SlaveId,
    what: &str,
    mut paths: impl Iterator<Item = &'a TreePath>,
) {
    for path in paths.by_ref().take(LISTED) {
        session.line(format!("slave {slave}: {what} {path}"));
    }
    let more = paths.count();
    if more > 0 {
        session.line(format!("slave {slave}: {what} {more} more"));
    }
}

/// Lists the changes of each other slave that are a branch, and what will become of them.
///
/// The slaves later decide by the same comparison.
fn list_branches(
    session: &mut OperatorSession<'_>,
    survey: &Survey,
    best: LinkId,
) -> Result<(), String> {
    let core = session.core;
    let survivor = tree_of(core, best, false)
        .map_err(|why| format!("cannot read the surviving tree: {why}; try again"))?;
    let last = survivor.position.applied;
    let listing = ReceivedTree {
        entries: survivor.entries.into_iter().map(|(path, (entry, _))| (path, entry)).collect(),
        lsn: last,
        timelines: survivor.timelines,
        ..ReceivedTree::default()
    };
    let others =
        survey.slaves.iter().filter(|other| other.link != best && other.position.is_some());
    for &SurveyedSlave { link, id, .. } in others {
        if session.is_gone {
            break;
        }
        let tree = match tree_of(core, link, false) {
            Ok(tree) => tree,
            Err(why) => {
                session.line_now(format!("slave {id}: cannot list its tree: {why}"));
                continue;
            }
        };
        let applied = tree.position.applied;
        let fork = timeline::fork(&tree.timelines, applied, &listing.timelines, last);
        if fork == applied {
            continue;
        }
        session
            .line(format!("slave {id}: its changes after {fork}, up to {applied}, are a branch"));
        let own = tree.entries.iter().map(|(path, (entry, _))| (path, entry));
        let found = compare(own, fork, &listing);
        // Contents that are not here are with another slave of the branch.
        let here =
            |stray: &&DivergentEntry| tree.entries.get(&stray.path).is_some_and(|(_, here)| *here);
        for (proposed, what) in [(true, "proposes"), (false, "quarantines")] {
            let strays = found.strays.iter().rev().filter(here);
            let strays = strays.filter(|stray| stray.expect.is_some() == proposed);
            list(session, id, what, strays.map(|stray| &stray.path));
        }
        // Paths that the branch had removed or moved.
        let back = found
            .come
            .iter()
            .filter(|(path, entry)| entry.version <= fork && !tree.entries.contains_key(path))
            .map(|(path, _)| path);
        list(session, id, "gets back", back);
    }
    Ok(())
}
