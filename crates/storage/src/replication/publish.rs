//! Publishes content: a staged upload or a fetched file gets its name in the tree.

use crate::{CatalogError, CatalogRow, CatalogStore, StagedName};
use log::{error, warn};
use relais_cluster::replica::{Event, FetchFault};
use relais_cluster::{Entry, FileContent};
use relais_proto::{ChangeId, Lsn, TreePath};
use relais_tree::{Meta, TreeError};

use super::apply_error::ApplyError;
use super::disk_transaction::{DiskTransaction, has_content, next};
use super::driver::{ReplicaDriver, StagedContent};
use super::known_entry::KnownEntry;
use super::messages::{FetchFailure, FetchResult, FetchedFile};

/// Result of publishing a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishResult {
    /// The content has its name.
    Published,
    /// The path has this content already, or newer content.
    Superseded,
    /// The content could not be stored, or is not needed any more.
    Failed,
    /// The path refuses the content.
    Refused,
}

/// Staged content of a put, and the row that waits for it, if there is one.
struct StagedPut {
    put: Lsn,
    name: StagedName,
    /// Its metadata after the last write, if it was fetched.
    meta: Option<Meta>,
    row: Option<(TreePath, CatalogRow)>,
}

impl ReplicaDriver {
    /// Handles the contents that were fetched.
    pub(super) fn take_fetched(
        &mut self,
        done: Vec<FetchResult>,
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let (mut whole, mut wanted) = (Vec::new(), Vec::new());
        let rows = store.ask_together(|store| {
            done.iter().map(|fetched| store.row_of_put(fetched.put)).collect::<Result<Vec<_>, _>>()
        })?;
        for (FetchResult { put, from, result }, row) in done.into_iter().zip(rows) {
            let path = row.as_ref().map(|(path, _)| path);
            let is_pending = path.is_some_and(|path| self.local_changes.is_pending(path));
            let blame = match result {
                // The local change of a branch at the path is decided first.
                Ok(file) if is_pending => {
                    self.disk.staging.discard(&file.name);
                    FetchFault::Local
                }
                Ok(file) => {
                    wanted.push(StagedPut { put, name: file.name, meta: Some(file.meta), row });
                    whole.push((put, from, file));
                    continue;
                }
                Err(FetchFailure { blame, lasting }) => {
                    if let (Some(reason), Some(path)) = (lasting, path) {
                        store.begin()?;
                        store.record_unapplied(path, put, false, &reason, None)?;
                        store.commit()?;
                        self.events.push_back(Event::Refused { put, retry: false });
                    } else if blame == FetchFault::Local {
                        self.cannot_store = true;
                        store.set_last_error(
                            "content from other slaves cannot be stored; see the log",
                        )?;
                    }
                    blame
                }
            };
            self.events.push_back(Event::Fetched { put, from, fault: Some(blame) });
        }
        if whole.is_empty() {
            return Ok(());
        }
        let published = self.publish(&wanted, store)?;
        let is_stored = |result: &PublishResult| {
            matches!(result, PublishResult::Published | PublishResult::Superseded)
        };
        if published.iter().any(is_stored) && std::mem::take(&mut self.cannot_store) {
            store.set_last_error("")?;
        }
        for ((put, from, FetchedFile { name, lock, .. }), published) in
            whole.into_iter().zip(published)
        {
            match published {
                // Its file has another name now.
                PublishResult::Published => {}
                PublishResult::Refused => {
                    self.parked.insert(put, name);
                    self.events.push_back(Event::Refused { put, retry: false });
                }
                PublishResult::Superseded | PublishResult::Failed => {
                    self.disk.staging.discard(&name);
                }
            }
            // The lock is released last, because another thread may then fetch the same content.
            drop(lock);
            let fault = (!is_stored(&published)).then_some(FetchFault::Local);
            self.events.push_back(Event::Fetched { put, from, fault });
        }
        Ok(())
    }

    /// Publishes staged uploads as the contents of their puts.
    pub(super) fn publish_staged(
        &mut self,
        all: &[(ChangeId, Lsn)],
        store: &CatalogStore,
    ) -> Result<(), CatalogError> {
        let (mut ids, mut wanted) = (Vec::new(), Vec::new());
        for (id, put) in all {
            let row = store.row_of_put(*put)?;
            let entry = row.as_ref().and_then(|(_, row)| row.tree_entry());
            let content = entry.and_then(|entry| entry.content);
            match content.and_then(|content| self.staged_for(*id, &content)) {
                Some(name) => {
                    ids.push(*id);
                    wanted.push(StagedPut { put: *put, name, meta: None, row });
                }
                None => {
                    let ok = row.is_none_or(|(_, row)| row.here);
                    self.events.push_back(Event::Published { id: *id, put: *put, ok });
                }
            }
        }
        let published = self.publish(&wanted, store)?;
        for ((id, staged), published) in ids.into_iter().zip(wanted).zip(published) {
            let ok = matches!(published, PublishResult::Published | PublishResult::Superseded);
            self.events.push_back(Event::Published { id, put: staged.put, ok });
        }
        Ok(())
    }

    /// Publishes contents with one sync for all of them.
    fn publish(
        &mut self,
        all: &[StagedPut],
        store: &CatalogStore,
    ) -> Result<Vec<PublishResult>, CatalogError> {
        let mut disk = self.disk.begin(store, next(self.replica.applied()))?;
        let mut results = Vec::new();
        for StagedPut { put, name, meta, row } in all {
            let row = row.as_ref().filter(|(_, row)| !row.here);
            results.push(match row.map(|(path, row)| (path, row, row.tree_entry())) {
                None => PublishResult::Superseded,
                Some((path, row, Some(entry))) if self.replica.wants(*put) => {
                    publish_or_record(&mut disk, path, row, &entry, (name, meta.as_ref()))?
                }
                Some(_) => PublishResult::Failed,
            });
        }
        let Err(e) = disk.sync().and_then(|()| Ok(store.commit()?)) else {
            self.published.extend(disk.published());
            self.litter |= disk.finish();
            return Ok(results);
        };
        disk.roll_back();
        let [StagedPut { put, .. }] = all else {
            // Each content is tried on its own to find the one that fails.
            let each = all.chunks(1).map(|one| self.publish(one, store));
            return Ok(each.collect::<Result<Vec<_>, _>>()?.concat());
        };
        error!("cannot store contents: {e}");
        match store.row_of_put(*put)? {
            Some((path, _)) if e.is_path_specific() && results == [PublishResult::Published] => {
                store.begin()?;
                store.record_unapplied(&path, *put, false, &e.reason(&path), None)?;
                store.commit()?;
                Ok(vec![PublishResult::Refused])
            }
            _ => Ok(vec![PublishResult::Failed]),
        }
    }

    /// Returns the staged file with exactly this content.
    pub(super) fn staged_for(&self, id: ChangeId, content: &FileContent) -> Option<StagedName> {
        let StagedContent { name, digest, .. } = self.staged.get(&id)?;
        let is_content = || -> Result<bool, TreeError> {
            let file = self.disk.staging.staged.open_read(name.to_string())?;
            if file.meta.mtime != content.mtime || !has_content(&file, content, None)? {
                return Ok(false);
            }
            file.file.sync_all().map_err(|e| TreeError::Io("sync the file", e))?;
            Ok(true)
        };
        let fits = match digest {
            Some(digest) => *digest == content.digest,
            // The file was staged before this process started.
            None => is_content()
                .inspect_err(|e| error!("cannot read a staged file: {e}"))
                .unwrap_or(false),
        };
        fits.then_some(*name)
    }
}

/// Publishes one content, or records why its path refuses it.
fn publish_or_record(
    disk: &mut DiskTransaction<'_>,
    path: &TreePath,
    row: &CatalogRow,
    entry: &Entry,
    (name, meta): (&StagedName, Option<&Meta>),
) -> Result<PublishResult, CatalogError> {
    let retained = disk.store.retained(path)?;
    if let Some(meta) = meta.filter(|_| retained.is_none())
        && disk.publish_new(path, entry, name, meta)?
    {
        return Ok(PublishResult::Published);
    }
    let known = KnownEntry { row: Some(row.clone()), retained };
    match disk.attempt(path, |disk| disk.publish_fetched(path, entry, name, known)) {
        Ok(Ok(())) => Ok(PublishResult::Published),
        Ok(Err(reason)) => {
            warn!("cannot store the content of {path}: {reason}; it is retried");
            let put = entry.content.map_or(entry.version, |content| content.put);
            disk.store.record_unapplied(path, put, false, &reason, None)?;
            Ok(PublishResult::Refused)
        }
        Err(ApplyError::Catalog(e)) => Err(e),
        Err(e) => {
            warn!("cannot store the content of {path}: {e}");
            disk.store.set_last_error(&e.to_string())?;
            Ok(PublishResult::Failed)
        }
    }
}
