//! Taking over the master's tree where the changes do not reach back: what differs goes, comes, or is kept for its user.

use std::collections::{HashMap, HashSet, VecDeque};

use log::{error, info, warn};
use relais_cluster::replica::{Event, Listing, compare};
use relais_cluster::{Content, Entry, Standing};
use relais_proto::{Expect, Kind, TreePath, Version};

use super::carry::{check_free, take_away};
use super::disk::Steps;
use super::unapplied::Refused;
use super::{Failed, Follower, announce, rolled_back, unapplied};
use crate::catalogue::{CatalogueError, Store, Stored};
use crate::staging::StagedName;

/// Why something was set aside.
const STRAY: &str =
    "the cluster has something newer there, and does not know the change that made this";

impl Follower {
    /// Compares the catalogue with a tree that came whole and takes that over; tells the replica what came of it.
    pub(super) fn adopt(
        &mut self,
        listing: &Listing,
        standing: &Standing,
        store: &Store,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogueError> {
        info!("the tree is compared with the master's, of {} entries", listing.entries.len());
        store.commit()?;
        store.begin()?;
        let mut steps = Steps::new(&self.root, store, &self.staging, &mut self.aside);
        let mut refused = Refused::default();
        let result = take_over(&mut steps, store, listing, &mut refused)
            .and_then(|()| steps.sync())
            .and_then(|()| {
                announce(&self.board, standing.applied);
                store.replace_ids(&listing.ids)?;
                store.set_ends(&listing.ends)?;
                store.set_standing(standing)?;
                Ok(store.commit()?)
            });
        if let Err(e) = result {
            rolled_back(store);
            steps.take_back();
            error!("the master's tree cannot be taken over now: {e}");
            store.set_meta("last-error", e.to_string())?;
            events.push_back(Event::NotAdopted);
            return Ok(());
        }
        self.litter |= steps.settle();
        self.board.set_mark(standing.applied);
        events.extend(refused.puts.iter().map(|put| Event::Refused { put: *put, retry: false }));
        events.push_back(Event::Adopted { lacks: store.lacking()? });
        Ok(())
    }
}

fn take_over(
    steps: &mut Steps<'_>,
    store: &Store,
    listing: &Listing,
    refused: &mut Refused,
) -> Result<(), Failed> {
    let own: Vec<(TreePath, Stored)> = store.numbered()?;
    let entries: Vec<(TreePath, Entry)> =
        own.iter().filter_map(|(path, row)| Some((path.clone(), row.tree_entry()?))).collect();
    let found = compare(entries.iter().map(|(path, entry)| (path, entry)), listing);
    let wanted: HashSet<Version> = found
        .come
        .iter()
        .filter_map(|(_, entry)| entry.content)
        .map(|content| content.put)
        .collect();
    let coming: HashMap<&TreePath, &Entry> =
        found.come.iter().map(|(path, entry)| (path, entry)).collect();
    for stray in &found.strays {
        let row = store.row(&stray.path)?;
        let file = row.as_ref().is_some_and(|row| row.entry.kind == Kind::File);
        match stray.expect {
            // It is offered as something that was found.
            Some(Expect::Absent) => forget_number(store, &stray.path, row.as_ref())?,
            _ if file => {
                let path = &stray.path;
                let taken = steps.attempt(store, path, |steps| {
                    steps.aside.take(path, STRAY).map_err(Failed::at(path))
                })?;
                // It stays in the way of what comes there, which is recorded then.
                if let Err(why) = taken {
                    warn!("{path} cannot be set aside: {why}");
                }
                store.remove(path)?;
            }
            _ => {}
        }
    }
    let mut held = HashMap::new();
    // What is removed may have to get its place back: the sweeper must not take it for something that is settled.
    let unsettled = Version { number: listing.mark.number + 1, ..listing.mark };
    for (path, entry) in &found.gone {
        let stays = coming.get(path).is_some_and(|there| there.content.is_some());
        let gone = steps.attempt(store, path, |steps| {
            go(steps, store, path, entry.content.as_ref(), &wanted, stays, unsettled)
        })?;
        match gone {
            Ok(name) => held.extend(entry.content.map(|content| content.put).zip(name)),
            // What comes there is recorded then.
            Err(_) if stays => {}
            Err(why) => {
                warn!("{path} cannot be removed here: {why}; it is tried again");
                unapplied::removal(store, path, listing.mark, &why)?;
            }
        }
    }
    for (path, entry) in &found.come {
        let came = steps.attempt(store, path, |steps| {
            check_free(store, path)?;
            match entry.content {
                None => come_folder(steps, store, path, entry, unsettled),
                Some(content) => bring(steps, store, path, entry, &content, held.get(&content.put)),
            }
        })?;
        let Err(why) = came else { continue };
        warn!("{path} cannot be taken over here: {why}; it is tried again");
        match entry.content {
            None => unapplied::folder(store, path, entry.version, entry.mode, &why)?,
            Some(_) => unapplied::put(store, path, entry, &[], &why, refused)?,
        }
    }
    Ok(())
}

/// An entry that went; the name under which its content is held for another path, if it is.
fn go(
    steps: &mut Steps<'_>,
    store: &Store,
    path: &TreePath,
    content: Option<&Content>,
    wanted: &HashSet<Version>,
    stays: bool,
    mark: Version,
) -> Result<Option<StagedName>, Failed> {
    let Some(content) = content else {
        check_free(store, path)?;
        steps.remove_folder(path, mark)?;
        store.remove(path)?;
        return Ok(None);
    };
    // What another path gets is held for that, whatever comes here.
    if stays && !wanted.contains(&content.put) {
        return Ok(None);
    }
    check_free(store, path)?;
    let mut held = None;
    let (row, kept) = steps.rows(store, path)?;
    if steps.clear(path, row.as_ref(), kept.as_ref())? {
        if wanted.contains(&content.put) && row.as_ref().is_some_and(|row| row.here) {
            let name = StagedName::of_put(content.put);
            held = steps.hold(path, &name)?.then_some(name);
        } else if !stays {
            steps.remove(path, mark)?;
        }
    }
    if !stays || held.is_some() {
        store.remove(path)?;
    }
    Ok(held)
}

/// A folder that comes.
fn come_folder(
    steps: &mut Steps<'_>,
    store: &Store,
    path: &TreePath,
    entry: &Entry,
    mark: Version,
) -> Result<(), Failed> {
    let row = store.row(path)?;
    if row.is_some_and(|row| row.entry.kind == Kind::File) {
        steps.clear(path, None, None)?;
        store.remove(path)?;
    }
    if store.unapplied(path)?.is_some_and(|found| found.removal) {
        take_away(steps, store, path, mark)?;
        store.remove(path)?;
    }
    steps.ensure_folder_as(path, entry.mode)?;
    let meta = steps.set_mode(path, entry.mode)?;
    store.note_in_place(path)?;
    Ok(store.put_entry(path, entry, meta.as_ref(), &[])?)
}

/// A file that comes, or has other content or another number.
fn bring(
    steps: &mut Steps<'_>,
    store: &Store,
    path: &TreePath,
    entry: &Entry,
    content: &Content,
    held: Option<&StagedName>,
) -> Result<(), Failed> {
    let (mut row, mut kept) = steps.rows(store, path)?;
    if row.as_ref().is_some_and(|row| row.entry.kind == Kind::Folder) {
        steps.clear(path, None, None)?;
        store.remove(path)?;
        (row, kept) = (None, None);
    }
    if let Some(held) = held {
        steps.clear(path, row.as_ref(), kept.as_ref())?;
        let meta = steps.put(path, content, entry.mode, held)?;
        store.note_in_place(path)?;
        store.keep(path, None)?;
        return Ok(store.put_entry(path, entry, Some(&meta), &[])?);
    }
    if let Some(meta) = steps.adopt(path, content, entry.mode, row.as_ref(), kept.as_ref())? {
        store.note_in_place(path)?;
        store.keep(path, None)?;
        return Ok(store.put_entry(path, entry, Some(&meta), &[])?);
    }
    if store.unapplied_above(path)?.is_some()
        && let Some((parent, _)) = path.split_last()
    {
        steps.ensure_folder(&parent)?;
    }
    let there = steps.clear(path, row.as_ref(), kept.as_ref())?;
    store.note_in_place(path)?;
    let former = row.as_ref().and_then(Stored::to_keep).or(kept).filter(|_| there);
    store.put_entry(path, entry, None, &[])?;
    Ok(store.keep(path, former.as_ref())?)
}

/// What nobody else knows is as if it had been found here.
fn forget_number(store: &Store, path: &TreePath, row: Option<&Stored>) -> Result<(), Failed> {
    match row {
        Some(row) if row.here => Ok(store.unnumber(path)?),
        _ => Ok(store.remove(path)?),
    }
}
