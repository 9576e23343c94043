//! What the master has on its disk: a snapshot, the journal behind it, and the list of folders and slaves.
//!
//! A journal is shortened by a snapshot of what its changes make, and begins anew behind that. The snapshot is on the disk before
//! the former journal goes. Between the two that journal's changes are in the snapshot already, and are left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, info, warn};
use relais_cluster::{HistoryHash, KnownSlave, MasterState};
use relais_proto::{ClusterId, FolderId, LogEntry, Lsn, SlaveId, pluralize};
use relais_state::{
    ChangeLog, Journal, JournalError, JournalReader, Snapshot, SnapshotError, chain_seed,
};
use thiserror::Error;

use super::folders::{self, FoldersError, Members};

/// Bytes from which the journal is shortened: some 400,000 changes, which a master reads in a few seconds when it starts.
const LONGEST: u64 = 64 * 1024 * 1024;
/// Age of its oldest change from which the journal is shortened, and for which ids of changes are known at least.
const OLDEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why the state does not open.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The list of folders.
    #[error(transparent)]
    Folders(#[from] FoldersError),
}

/// The journal does not go on where the snapshot ends.
#[derive(Debug, Error)]
#[error("change {found} does not follow change {after}, with which the snapshot in {} ends", folder.display())]
struct Gap {
    folder: PathBuf,
    after: Lsn,
    found: Lsn,
}

/// The master's files, open for this process alone, and what they hold.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    cluster: ClusterId,
    journal: Journal,
    members: Members,
    /// Taken by the order when it starts.
    ledger: MasterState,
    /// When the snapshot was made, in milliseconds since 1970, and the last change in it.
    snapshot: Option<(u64, Lsn)>,
    /// When the first change in the journal was numbered.
    oldest_ms: Option<u64>,
}

impl Store {
    /// Opens what is in the state folder, or makes it where nothing is. The folder's lock is the caller's.
    ///
    /// # Errors
    /// Which file cannot be used and why; for a damaged one also the place.
    pub fn open(folder: &Path, cluster: ClusterId) -> Result<Self, StoreError> {
        let (mut ledger, snapshot) = match load_snapshot(folder, cluster)? {
            Some((ledger, made_ms)) => {
                let last = ledger.last();
                (ledger, Some((made_ms, last)))
            }
            None => (MasterState::new(HistoryHash(chain_seed(cluster))), None),
        };
        let (mut oldest_ms, ends) = (None, ledger.last());
        let journal = Journal::open(&folder.join("journal"), cluster.0, &mut |numbered| {
            oldest_ms.get_or_insert(numbered.time_ms);
            let (after, found) = (ledger.last().max(Lsn { epoch: 1, number: 0 }), numbered.version);
            if found <= ends {
                return Ok(());
            }
            if (after.epoch, after.number.checked_add(1)) != (found.epoch, Some(found.number)) {
                return Err(JournalError::Aborted(Box::new(Gap {
                    folder: folder.to_owned(),
                    after,
                    found,
                })));
            }
            ledger.apply(numbered);
            Ok(())
        })?;
        ledger.add_timelines(journal.initial_timelines(), ends);
        ledger.begin_timeline(journal.timeline());
        let known = folders::load(&folder.join("folders"), cluster)?;
        if known.is_none() && ledger.last() > Lsn::default() {
            warn!("no list of folders in {}: no slave is waited for", folder.display());
        }
        let members = known.unwrap_or_default();
        info!(
            "the last change is {}; the cluster has {} and {}",
            ledger.last(),
            pluralize(members.folders.len(), "known folder"),
            pluralize(members.slaves.len(), "known slave")
        );
        Ok(Self {
            folder: folder.to_owned(),
            cluster,
            journal,
            members,
            ledger,
            snapshot,
            oldest_ms,
        })
    }

    /// Whether the journal is to be shortened.
    pub(super) fn is_long(&self, now_ms: u64) -> bool {
        self.journal.size() > LONGEST
            || self
                .oldest_ms
                .is_some_and(|oldest| now_ms.saturating_sub(oldest) > milliseconds(OLDEST))
    }

    /// Begins the journal anew behind a snapshot of what it makes. Ids of changes that are older than a journal may get are forgotten.
    ///
    /// # Errors
    /// That there is no snapshot; nothing has changed then.
    pub(super) fn shorten(
        &mut self,
        ledger: &mut MasterState,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        if let Some(upto) = self.forgettable(ledger, now_ms) {
            ledger.forget_ids(upto);
        }
        self.keep(ledger, now_ms)
    }

    /// The last change whose id is forgotten where the journal is shortened now.
    pub(super) fn forgettable(&self, ledger: &MasterState, now_ms: u64) -> Option<Lsn> {
        let before = now_ms.saturating_sub(milliseconds(OLDEST));
        let in_snapshot =
            self.snapshot.filter(|(made_ms, _)| *made_ms < before).map(|(_, last)| last);
        ledger.newest_before(before).max(in_snapshot)
    }

    /// Goes on from a ledger, whatever was in the journal.
    ///
    /// # Errors
    /// As [`Self::shorten`].
    pub(super) fn keep(&mut self, ledger: &MasterState, now_ms: u64) -> Result<(), StoreError> {
        Snapshot::save(&self.folder.join("snapshot"), self.cluster, now_ms, &ledger.to_bytes())?;
        self.snapshot = Some((now_ms, ledger.last()));
        info!("change {} is the last in the snapshot", ledger.last());
        match self.journal.reset() {
            Ok(()) => self.oldest_ms = None,
            // What is in it is left out at the next start; it is too long still.
            Err(failed) => error!("the journal does not begin anew: {failed}"),
        }
        Ok(())
    }

    /// Begins another timeline: what is numbered next does not go on from what this journal held.
    pub(super) fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError> {
        self.journal.begin_timeline()
    }

    /// Reads the changes that are stored now.
    pub(super) fn reader(&self) -> Result<JournalReader, JournalError> {
        self.journal.reader()
    }

    /// What the journal makes. It is given out once.
    pub(super) fn take_ledger(&mut self) -> MasterState {
        std::mem::take(&mut self.ledger)
    }

    /// The folders that belong to the cluster.
    pub(super) fn folders(&self) -> &BTreeSet<FolderId> {
        &self.members.folders
    }

    /// The slaves that have been in service.
    pub(crate) fn slaves(&self) -> &[KnownSlave] {
        &self.members.slaves
    }

    /// Remembers that a folder belongs to the cluster. It is on disk once this returns.
    pub(super) fn know(&mut self, folder: FolderId) -> Result<(), FoldersError> {
        self.change(|members| {
            members.folders.insert(folder);
        })
    }

    /// Remembers a slave and where it is. It is on disk once this returns.
    pub(super) fn know_slave(
        &mut self,
        slave: KnownSlave,
        linked: &BTreeSet<SlaveId>,
    ) -> Result<(), FoldersError> {
        self.change(|members| members.know_slave(slave, linked))
    }

    /// Forgets a folder, for good, with the slaves that served it.
    pub(super) fn forget(&mut self, folder: FolderId) -> Result<(), FoldersError> {
        self.change(|members| {
            members.folders.remove(&folder);
            members.slaves.retain(|slave| slave.folder != folder);
        })
    }

    /// Forgets a slave, for good.
    pub(super) fn forget_slave(&mut self, id: SlaveId) -> Result<(), FoldersError> {
        self.change(|members| members.slaves.retain(|slave| slave.id != id))
    }

    fn change(&mut self, change: impl FnOnce(&mut Members)) -> Result<(), FoldersError> {
        let mut members = self.members.clone();
        change(&mut members);
        if members != self.members {
            folders::save(&self.folder.join("folders"), self.cluster, &members)?;
            self.members = members;
        }
        Ok(())
    }

    /// Adds changes to the journal: all of them or none.
    pub(super) fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        self.journal.append(batch)?;
        // A master that starts again looks at the path.
        if !self.journal.is_at_its_path()? {
            return Err(JournalError::Gone(self.folder.join("journal")));
        }
        if let Some(first) = batch.first() {
            self.oldest_ms.get_or_insert(first.time_ms);
        }
        Ok(())
    }
}

/// The ledger of the snapshot, and when that was made.
fn load_snapshot(
    folder: &Path,
    cluster: ClusterId,
) -> Result<Option<(MasterState, u64)>, SnapshotError> {
    let path = folder.join("snapshot");
    let Some(Snapshot { made_ms, payload }) = Snapshot::load(&path, cluster)? else {
        return Ok(None);
    };
    let damaged = |error: relais_proto::WireError| SnapshotError::Damaged {
        path: path.clone(),
        offset: 0,
        why: error.to_string(),
    };
    Ok(Some((MasterState::from_bytes(&payload).map_err(damaged)?, made_ms)))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
