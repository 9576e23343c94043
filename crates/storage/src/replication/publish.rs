//! Publishes content: a staged upload or a fetched file gets its name in the tree.

use std::collections::VecDeque;

use crate::{CatalogError, CatalogStore, StagedName};
use log::{error, warn};
use relais_cluster::replica::{Event, FetchFault};
use relais_cluster::{Entry, FileContent};
use relais_proto::{ChangeId, Lsn, TreePath};
use relais_tree::Meta;

use super::apply_batch::check_not_source;
use super::apply_error::ApplyError;
use super::disk_transaction::DiskTransaction;
use super::messages::{FetchResult, FetchedFile};
use super::state::{ReplicaDriver, roll_back_catalog};

/// Result of publishing a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishResult {
    /// The content has its name, or the path has newer content.
    Published,
    /// The content is not needed any more.
    Unwanted,
    /// The content could not be stored.
    Failed,
    /// The path refuses the content.
    Refused,
}

impl ReplicaDriver {
    /// Handles the contents that were fetched.
    pub(super) fn take_fetched(
        &mut self,
        done: Vec<FetchResult>,
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let mut whole = Vec::new();
        for fetched in done {
            match fetched.result {
                // The local change of a branch at the path is decided first.
                Ok(part) if self.is_pending(fetched.put, store)? => {
                    self.staging.discard(&part.name);
                    events.push_back(Event::Fetched {
                        put: fetched.put,
                        from: fetched.from,
                        result: Err(FetchFault::Local),
                    });
                }
                Ok(part) => whole.push((fetched.put, fetched.from, part)),
                Err(failure) => {
                    let blame = failure.blame;
                    let path = store.row_of_put(fetched.put)?.map(|(path, _)| path);
                    if let (Some(reason), Some(path)) = (failure.lasting, path) {
                        store.begin()?;
                        store.record_unapplied(&path, fetched.put, false, &reason, None)?;
                        store.commit()?;
                        events.push_back(Event::Refused { put: fetched.put, retry: false });
                    } else if blame == FetchFault::Local {
                        self.cannot_store = true;
                        store.set_last_error(
                            "content from other slaves cannot be stored; see the log",
                        )?;
                    }
                    events.push_back(Event::Fetched {
                        put: fetched.put,
                        from: fetched.from,
                        result: Err(blame),
                    });
                }
            }
        }
        if whole.is_empty() {
            return Ok(());
        }
        let wanted: Vec<(Lsn, StagedName)> =
            whole.iter().map(|(put, _, part)| (*put, part.name.clone())).collect();
        let published = self.publish(&wanted, store)?;
        if published.contains(&PublishResult::Published) && std::mem::take(&mut self.cannot_store) {
            store.set_last_error("")?;
        }
        for ((put, from, FetchedFile { name, file }), published) in whole.into_iter().zip(published)
        {
            if published == PublishResult::Refused {
                self.parked.insert(put, name);
                events.push_back(Event::Refused { put, retry: false });
            } else {
                self.staging.discard(&name);
            }
            // The lock is released last, because another thread may then fetch the same content.
            drop(file);
            let result =
                if published == PublishResult::Published { Ok(()) } else { Err(FetchFault::Local) };
            events.push_back(Event::Fetched { put, from, result });
        }
        Ok(())
    }

    fn is_pending(&self, put: Lsn, store: &CatalogStore) -> Result<bool, CatalogError> {
        Ok(store.row_of_put(put)?.is_some_and(|(path, _)| self.local_changes.is_pending(&path)))
    }

    /// Publishes staged uploads as the contents of their puts.
    pub(super) fn publish_staged(
        &mut self,
        all: &[(ChangeId, Lsn)],
        store: &CatalogStore,
        events: &mut VecDeque<Event>,
    ) -> Result<(), CatalogError> {
        let mut wanted = Vec::new();
        for (id, put) in all {
            let content = store
                .row_of_put(*put)?
                .and_then(|(_, row)| row.tree_entry())
                .and_then(|entry| entry.content);
            match content.and_then(|content| self.staged_for(*id, &content)) {
                Some(name) => wanted.push((*id, *put, name)),
                None => {
                    let here = store.row_of_put(*put)?.is_none_or(|(_, row)| row.here);
                    events.push_back(Event::Published { id: *id, put: *put, ok: here });
                }
            }
        }
        let names: Vec<(Lsn, StagedName)> =
            wanted.iter().map(|(_, put, name)| (*put, name.clone())).collect();
        let published = self.publish(&names, store)?;
        for ((id, put, _), published) in wanted.into_iter().zip(published) {
            events.push_back(Event::Published {
                id,
                put,
                ok: published == PublishResult::Published,
            });
        }
        Ok(())
    }

    /// Publishes contents with one sync for all of them.
    fn publish(
        &mut self,
        all: &[(Lsn, StagedName)],
        store: &CatalogStore,
    ) -> Result<Vec<PublishResult>, CatalogError> {
        store.commit()?;
        store.begin()?;
        let mut disk = DiskTransaction::new(&self.root, store, &self.staging, &mut self.quarantine);
        let (mut results, mut rows, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (put, name) in all {
            let Some((path, row)) = store.row_of_put(*put)? else {
                results.push(PublishResult::Published);
                continue;
            };
            let entry = row.tree_entry().and_then(|entry| Some((entry, entry.content?)));
            results.push(match entry {
                _ if row.here => PublishResult::Published,
                _ if !self.replica.wants(*put) => PublishResult::Unwanted,
                None => PublishResult::Failed,
                Some((entry, content)) => {
                    let published = disk.attempt(store, &path, |disk| {
                        publish_one(disk, store, &path, (&entry, &content), name)
                    });
                    match published {
                        Ok(Ok(meta)) => {
                            rows.push((path, entry, meta));
                            PublishResult::Published
                        }
                        Ok(Err(reason)) => {
                            warn!("cannot store the content of {path}: {reason}; it is retried");
                            refused.push((path, *put, reason));
                            PublishResult::Refused
                        }
                        Err(ApplyError::Catalog(e)) => return Err(e),
                        Err(e) => {
                            warn!("cannot store the content of {path}: {e}");
                            store.set_last_error(&e.to_string())?;
                            PublishResult::Failed
                        }
                    }
                }
            });
        }
        let noted = disk.sync().and_then(|()| Ok(record(store, &rows)?));
        if let Err(e) = noted {
            roll_back_catalog(store);
            disk.roll_back();
            // Each content is tried on its own to find the one that fails.
            if let [one, rest @ ..] = all
                && !rest.is_empty()
            {
                let mut published = self.publish(std::slice::from_ref(one), store)?;
                published.extend(self.publish(rest, store)?);
                return Ok(published);
            }
            error!("cannot store contents: {e}");
            let Some((path, put)) = rows.first().and_then(|(path, entry, _)| {
                Some((path, entry.content?.put)).filter(|_| e.is_path_specific())
            }) else {
                return Ok(vec![PublishResult::Failed; all.len()]);
            };
            refused = vec![(path.clone(), put, e.reason(path))];
            results = vec![PublishResult::Refused];
            store.begin()?;
        } else {
            self.litter |= disk.finish();
        }
        for (path, put, reason) in &refused {
            store.record_unapplied(path, *put, false, reason, None)?;
        }
        store.commit()?;
        Ok(results)
    }
}

/// Publishes one content. Known content at the path is replaced; unknown content is quarantined.
pub(super) fn publish_one(
    disk: &mut DiskTransaction<'_>,
    store: &CatalogStore,
    path: &TreePath,
    (entry, content): (&Entry, &FileContent),
    name: &StagedName,
) -> Result<Meta, ApplyError> {
    check_not_source(store, path)?;
    let (row, retained) = disk.load_rows(store, path)?;
    disk.fix_attributes(content, entry.mode, name)?;
    disk.quarantine_unknown(path, row.as_ref(), retained.as_ref())?;
    disk.put(path, entry.mode, name)
}

fn record(store: &CatalogStore, rows: &[(TreePath, Entry, Meta)]) -> Result<(), CatalogError> {
    if rows.is_empty() {
        return Ok(());
    }
    for (path, entry, meta) in rows {
        store.settle_entry(path, entry, Some(meta))?;
    }
    store.commit()?;
    store.begin()
}
