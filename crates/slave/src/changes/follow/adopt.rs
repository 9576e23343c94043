//! Taking over the master's tree where the changes do not reach back: what differs goes, comes, or is kept for its user.

use std::collections::{HashMap, HashSet, VecDeque};

use log::{error, info};
use relais_cluster::replica::{Event, Listing, compare};
use relais_cluster::{Content, Entry, Standing};
use relais_proto::{Expect, Kind, TreePath, Version};

use super::disk::Steps;
use super::{Failed, Follower, announce, rolled_back};
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
        let result =
            take_over(&mut steps, store, listing).and_then(|()| steps.sync()).and_then(|()| {
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
        events.push_back(Event::Adopted { lacks: store.lacking()? });
        Ok(())
    }
}

fn take_over(steps: &mut Steps<'_>, store: &Store, listing: &Listing) -> Result<(), Failed> {
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
                steps.aside.take(&stray.path, STRAY).map_err(Failed::at(&stray.path))?;
                store.remove(&stray.path)?;
            }
            _ => {}
        }
    }
    let mut held = HashMap::new();
    // What is removed may have to get its place back: the sweeper must not take it for something that is settled.
    let unsettled = Version { number: listing.mark.number + 1, ..listing.mark };
    for (path, entry) in &found.gone {
        let stays = coming.get(path).is_some_and(|there| there.content.is_some());
        match entry.content {
            // What another path gets is held for that, whatever comes here.
            Some(content) if stays && !wanted.contains(&content.put) => {}
            Some(content) => {
                let (row, kept) = steps.rows(store, path)?;
                if steps.clear(path, row.as_ref(), kept.as_ref())? {
                    if wanted.contains(&content.put) && row.as_ref().is_some_and(|row| row.here) {
                        let name = StagedName::of_put(content.put);
                        if steps.hold(path, &name)? {
                            held.insert(content.put, name);
                        }
                    } else if !stays {
                        steps.remove(path, unsettled)?;
                    }
                }
                if !stays || held.contains_key(&content.put) {
                    store.remove(path)?;
                }
            }
            None => {
                if steps.look(path)?.is_some() {
                    steps.remove(path, unsettled)?;
                }
                store.remove(path)?;
            }
        }
    }
    for (path, entry) in &found.come {
        match entry.content {
            None => {
                let row = store.row(path)?;
                if row.is_some_and(|row| row.entry.kind == Kind::File) {
                    steps.clear(path, None, None)?;
                    store.remove(path)?;
                }
                steps.ensure_folder_as(path, entry.mode)?;
                let meta = steps.set_mode(path, entry.mode)?;
                store.put_entry(path, entry, meta.as_ref(), &[])?;
            }
            Some(content) => bring(steps, store, path, entry, &content, held.get(&content.put))?,
        }
    }
    Ok(())
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
        store.keep(path, None)?;
        return Ok(store.put_entry(path, entry, Some(&meta), &[])?);
    }
    if let Some(meta) = steps.adopt(path, content, entry.mode, row.as_ref(), kept.as_ref())? {
        store.keep(path, None)?;
        return Ok(store.put_entry(path, entry, Some(&meta), &[])?);
    }
    let there = steps.clear(path, row.as_ref(), kept.as_ref())?;
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
