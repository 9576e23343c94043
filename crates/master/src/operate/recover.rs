//! Building the tree anew from a slave's, where the master's journal is gone, older than a slave, or another one.
//!
//! The new epoch is heard by all slaves that can be reached before the tree is taken: nothing of an earlier one is followed then,
//! so nothing is called done that the new tree lacks.

use relais_cluster::replica::{DivergentEntry, ReceivedTree, compare};
use relais_cluster::{HaltReason, HistoryHash, LinkId, MasterState, Tree, TreeState, timeline};
use relais_proto::{Lsn, ReplicaPosition, SlaveId, TreePath};

use super::trees::ask;
use super::{Done, Outcome, Teller, ended};
use crate::core::Core;
use crate::order::Engine;

/// What there is to go on from.
struct Survey {
    last: Lsn,
    epoch: u32,
    halted: Option<HaltReason>,
    /// Slaves that have said where they stand, and those that have not.
    slaves: Vec<(LinkId, SlaveId, Option<ReplicaPosition>)>,
}

impl Survey {
    fn of(engine: &mut Engine) -> Self {
        let order = engine.order();
        // A slave that has joined has gone on since.
        let now = |link: LinkId, said: ReplicaPosition| match order.applied(link) {
            Some(applied) => {
                ReplicaPosition { applied, epoch: said.epoch.max(order.state().epoch()), ..said }
            }
            None => said,
        };
        let slaves = engine
            .links()
            .iter()
            .map(|(link, open)| (*link, open.slave, open.position.map(|said| now(*link, said))))
            .collect();
        Self { last: order.last(), epoch: order.state().epoch(), halted: order.halted(), slaves }
    }

    /// The slave with the latest change.
    fn best(&self) -> Option<(LinkId, SlaveId, ReplicaPosition)> {
        self.slaves
            .iter()
            .filter_map(|(link, slave, position)| Some((*link, *slave, (*position)?)))
            .max_by_key(|(_, _, it)| it.applied)
    }

    /// An epoch above all that were heard of.
    fn next_epoch(&self) -> Option<u32> {
        let heard = self
            .slaves
            .iter()
            .filter_map(|(_, _, position)| *position)
            .map(|position| position.epoch.max(position.applied.epoch));
        heard.fold(self.epoch, u32::max).checked_add(1)
    }
}

/// Shows what could be done, and with `go` does it.
pub(super) fn recover(core: &Core, go: bool, tell: &mut Teller<'_>) -> Done {
    let survey = core.orders.ask(Survey::of).ok_or_else(ended)?;
    tell.line(format!(
        "the master: last change {}, epoch {}; {}",
        survey.last,
        survey.epoch,
        survey.halted.map_or("changes are taken", HaltReason::why)
    ));
    for (_, slave, position) in &survey.slaves {
        tell.line(match position {
            Some(ReplicaPosition { applied, epoch, .. }) => {
                format!("slave {slave}: last change {applied}, epoch {epoch}")
            }
            None => format!("slave {slave}: it has not said where it stands"),
        });
    }
    if survey.halted.is_none() {
        let said = "changes are taken: there is nothing to recover";
        return Ok(if go { Outcome::failed(said) } else { Outcome::done(said) });
    }
    if survey.halted == Some(HaltReason::Broken) {
        return Ok(Outcome::failed(
            "see to the disk of the state folder and start the master again: there is nothing to recover",
        ));
    }
    let Some((link, slave, position)) = survey.best() else {
        return Ok(Outcome::failed(
            "no slave is linked that has said where it stands: there is nothing to recover from",
        ));
    };
    let epoch = survey.next_epoch().ok_or("there is no higher epoch")?;
    let plan = format!(
        "the tree of slave {slave}, at change {}, becomes everybody's, in epoch {epoch}",
        position.applied
    );
    list_branches(core, &survey, link, tell)?;
    if !go {
        tell.line(
            "make sure that every slave that can come is in this list: what only others have is proposed or quarantined when they come",
        );
        return Ok(Outcome::done(format!("with --yes {plan}")));
    }
    tell.say(plan);
    if !core.orders.ask(move |engine| engine.fence(epoch)).ok_or_else(ended)? {
        return Err("somebody else is recovering the cluster, or has just done so".to_owned());
    }
    match rebuilt(core, link, epoch) {
        Ok(ledger) => {
            let (entries, last) = (ledger.tree().len(), ledger.last());
            core.orders
                .ask(move |engine| engine.recovered(ledger).map_err(|error| error.to_string()))
                .ok_or_else(ended)??;
            Ok(Outcome::done(format!(
                "recovered: {entries} entries, epoch {}; all slaves compare their folders now",
                last.epoch
            )))
        }
        Err(why) => {
            core.orders.ask(Engine::give_up_recovery).ok_or_else(ended)?;
            Err(format!("not recovered: slave {slave}: {why}; try again"))
        }
    }
}

/// The ledger that a slave's tree makes.
fn rebuilt(core: &Core, link: LinkId, epoch: u32) -> Result<MasterState, String> {
    let linked = core.links.all();
    let of = linked.iter().find(|linked| linked.link == link).ok_or("its link ended")?;
    let tree = ask(core, of, true)?;
    let entries = tree.entries.into_iter().map(|(path, (entry, _))| (path, entry));
    let known = TreeState { tree: Tree::listed(entries, tree.position.applied), ids: tree.ids };
    let seed = relais_state::random().map_err(|error| error.to_string())?;
    let timeline = core
        .orders
        .ask(|engine| engine.begin_timeline().map_err(|error| error.to_string()))
        .ok_or_else(ended)??;
    Ok(MasterState::recovered(known, tree.timelines, epoch, HistoryHash(seed), timeline))
}

/// Most paths that are listed for one slave; of more it is said how many there are.
const LISTED: usize = 100;

/// Lists paths of one slave, and how many more there are.
fn list<'a>(
    slave: SlaveId,
    what: &str,
    mut paths: impl Iterator<Item = &'a TreePath>,
    tell: &mut Teller<'_>,
) {
    for path in paths.by_ref().take(LISTED) {
        tell.line(format!("slave {slave}: {what} {path}"));
    }
    let more = paths.count();
    if more > 0 {
        tell.line(format!("slave {slave}: {what} {more} more"));
    }
}

/// Says what of each other slave's history is no part of the one that is gone on from, and what becomes of it. What the
/// slaves do afterwards is decided by the same comparison.
fn list_branches(
    core: &Core,
    survey: &Survey,
    best: LinkId,
    tell: &mut Teller<'_>,
) -> Result<(), String> {
    let linked = core.links.all();
    let find = |link: LinkId| linked.iter().find(|linked| linked.link == link);
    let survivor = ask(core, find(best).ok_or("its link ended")?, false)
        .map_err(|why| format!("the tree to go on from cannot be had: {why}; try again"))?;
    let last = survivor.position.applied;
    let listing = ReceivedTree {
        entries: survivor.entries.into_iter().map(|(path, (entry, _))| (path, entry)).collect(),
        lsn: last,
        timelines: survivor.timelines,
        ..ReceivedTree::default()
    };
    for (link, slave, position) in &survey.slaves {
        if *link == best || position.is_none() || tell.is_gone() {
            continue;
        }
        let Some(of) = find(*link) else { continue };
        let tree = match ask(core, of, false) {
            Ok(tree) => tree,
            Err(why) => {
                tell.say(format!("slave {slave}: what it has cannot be listed: {why}"));
                continue;
            }
        };
        let applied = tree.position.applied;
        let fork = timeline::fork(&tree.timelines, applied, &listing.timelines, last);
        if fork == applied {
            continue;
        }
        tell.line(format!(
            "slave {slave}: its changes behind {fork}, up to {applied}, are a branch"
        ));
        let own = tree.entries.iter().map(|(path, (entry, _))| (path, entry));
        let found = compare(own, fork, &listing);
        // What is not there is with another slave of the branch.
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
            list(*slave, what, paths, tell);
        }
        // The branch had removed or moved these.
        let back = found
            .come
            .iter()
            .filter(|(path, entry)| entry.version <= fork && !tree.entries.contains_key(path))
            .map(|(path, _)| path);
        list(*slave, "gets back", back, tell);
    }
    Ok(())
}
