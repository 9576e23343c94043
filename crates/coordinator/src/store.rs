//! The persistent state of the master: a snapshot, the journal after it, and the list of members.
//!
//! The journal is shortened by a snapshot of the state, after which it starts empty. The snapshot
//! is on disk before the old journal is removed. After a crash between the two, changes of the
//! journal that are in the snapshot already are skipped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, info, warn};
use relais_cluster::{KnownSlave, MasterState, first_history_hash};
use relais_journal::{Entries, Journal, JournalError, Snapshot};
use relais_proto::{ClusterId, FolderId, LogEntry, Lsn, SlaveId, WireError, pluralize};
use thiserror::Error;

use crate::members::{self, Members, MembersError};

/// Age of the oldest change above which the journal is shortened. Change ids are kept at least this
/// long.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The reason why the persistent state cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The snapshot has no state of a master.
    #[error("the snapshot of the journal is damaged: {0}")]
    Snapshot(WireError),
    /// The journal does not continue where the snapshot ends.
    #[error("change {found} does not follow change {after}, with which the snapshot ends")]
    #[allow(missing_docs, reason = "the names say everything")]
    Gap { after: Lsn, found: Lsn },
    /// The list of members failed.
    #[error(transparent)]
    Members(#[from] MembersError),
}

/// The journal and the members of a master, and the state that they make.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    cluster: ClusterId,
    journal: Box<dyn Journal>,
    members: Members,
    /// Size of the journal above which it is shortened, unless the snapshot is larger.
    max_size: u64,
    /// Size above which it is shortened next.
    shorten_at: u64,
    /// Taken by the order at its start.
    ledger: MasterState,
    /// Time of the snapshot, in milliseconds since 1970, and the last change in it.
    snapshot: Option<(u64, Lsn)>,
    /// Time of the first change in the journal.
    oldest_ms: Option<u64>,
}

impl Store {
    /// Reads the journal, and the list of members in the state folder. With `sole`, the cluster is
    /// this folder alone, and needs no list.
    ///
    /// A journal of more than `max_size` bytes is shortened. A snapshot may be larger: then the
    /// journal may grow as large.
    ///
    /// # Errors
    /// Names the file and the reason; for a damaged file also the offset.
    pub fn open(
        journal: Box<dyn Journal>,
        folder: &Path,
        cluster: ClusterId,
        sole: Option<FolderId>,
        max_size: u64,
    ) -> Result<Self, StoreError> {
        let mut shorten_at = max_size;
        let (mut ledger, snapshot) = match journal.snapshot()? {
            Some(Snapshot { made_ms, payload }) => {
                shorten_at = shorten_at.max(payload.len() as u64);
                let ledger = MasterState::from_bytes(&payload).map_err(StoreError::Snapshot)?;
                let last = ledger.last();
                (ledger, Some((made_ms, last)))
            }
            None => (MasterState::new(first_history_hash(cluster)), None),
        };
        let (mut oldest_ms, ends) = (None, ledger.last());
        for entry in journal.read(ends)? {
            let entry = entry?;
            oldest_ms.get_or_insert(entry.time_ms);
            let (after, found) = (ledger.last().max(Lsn { epoch: 1, number: 0 }), entry.version);
            if (after.epoch, after.number.checked_add(1)) != (found.epoch, Some(found.number)) {
                return Err(StoreError::Gap { after, found });
            }
            ledger.apply(entry);
        }
        ledger.add_timelines(journal.initial_timelines(), ends);
        ledger.begin_timeline(journal.timeline());
        let known = match sole {
            Some(sole) => Some(Members { folders: BTreeSet::from([sole]), ..Members::default() }),
            None => members::load(&folder.join("folders"), cluster)?,
        };
        if known.is_none() && ledger.last() > Lsn::default() {
            warn!("no list of folders in {}: the order waits for no slave", folder.display());
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
            max_size,
            shorten_at,
            ledger,
            snapshot,
            oldest_ms,
        })
    }

    /// Whether the journal has become so large that it is shortened.
    pub(super) fn is_large(&self) -> bool {
        self.journal.size() > self.shorten_at
    }

    /// Whether the journal has changes above the maximum age.
    pub(super) fn is_old(&self, now_ms: u64) -> bool {
        self.oldest_ms.is_some_and(|oldest| now_ms.saturating_sub(oldest) > milliseconds(MAX_AGE))
    }

    /// The last change whose id is dropped if the journal is shortened now.
    pub(super) fn forgettable(&self, ledger: &MasterState, now_ms: u64) -> Option<Lsn> {
        let before = now_ms.saturating_sub(milliseconds(MAX_AGE));
        let in_snapshot =
            self.snapshot.filter(|(made_ms, _)| *made_ms < before).map(|(_, last)| last);
        ledger.newest_before(before).max(in_snapshot)
    }

    /// Saves this state as snapshot and empties the journal, whatever the journal held.
    ///
    /// # Errors
    /// The snapshot could not be saved; nothing has changed then.
    pub(super) fn keep(&mut self, ledger: &MasterState, now_ms: u64) -> Result<(), StoreError> {
        // The next attempt comes later if this one fails.
        self.shorten_at = self.max_size.max(self.journal.size().saturating_mul(2));
        let snapshot = Snapshot { made_ms: now_ms, payload: ledger.to_bytes() };
        self.journal.save_snapshot(&snapshot)?;
        self.snapshot = Some((now_ms, ledger.last()));
        info!("change {} is the last in the snapshot", ledger.last());
        match self.journal.truncate() {
            Ok(()) => {
                self.oldest_ms = None;
                self.shorten_at = self.max_size.max(snapshot.payload.len() as u64);
            }
            // Its changes are skipped at the next start, but it is still too long.
            Err(failed) => error!("cannot empty the journal: {failed}"),
        }
        Ok(())
    }

    /// Starts another timeline: later changes do not continue those in this journal.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError> {
        self.journal.begin_timeline()
    }

    /// Reads the changes stored now.
    pub(super) fn read(&self) -> Result<Entries, JournalError> {
        self.journal.read(Lsn::default())
    }

    /// The state that the journal makes; empty once the order has taken it.
    #[must_use]
    pub fn state(&self) -> &MasterState {
        &self.ledger
    }

    /// Replaces the state, whatever the journal held. The next start finds it, too.
    ///
    /// # Errors
    /// The state could not be saved; nothing has changed then.
    pub fn replace(&mut self, state: MasterState, now_ms: u64) -> Result<(), StoreError> {
        self.keep(&state, now_ms)?;
        self.ledger = state;
        Ok(())
    }

    /// Takes the state that the journal makes, once.
    pub(super) fn take_ledger(&mut self) -> MasterState {
        std::mem::take(&mut self.ledger)
    }

    /// The folders that belong to the cluster.
    pub(super) fn folders(&self) -> &BTreeSet<FolderId> {
        &self.members.folders
    }

    /// The slaves that have been in service.
    pub fn slaves(&self) -> &[KnownSlave] {
        &self.members.slaves
    }

    /// Saves a folder as member of the cluster; on disk when this returns.
    pub(super) fn know(&mut self, folder: FolderId) -> Result<(), MembersError> {
        self.change(|members| {
            members.folders.insert(folder);
        })
    }

    /// Saves a slave and its addresses; on disk when this returns.
    pub(super) fn know_slave(
        &mut self,
        slave: KnownSlave,
        linked: &BTreeSet<SlaveId>,
    ) -> Result<(), MembersError> {
        self.change(|members| members.know_slave(slave, linked))
    }

    /// Removes a folder and the slaves that served it.
    pub(super) fn forget(&mut self, folder: FolderId) -> Result<(), MembersError> {
        self.change(|members| {
            members.folders.remove(&folder);
            members.slaves.retain(|slave| slave.folder != folder);
        })
    }

    /// Removes a slave.
    pub(super) fn forget_slave(&mut self, id: SlaveId) -> Result<(), MembersError> {
        self.change(|members| members.slaves.retain(|slave| slave.id != id))
    }

    fn change(&mut self, change: impl FnOnce(&mut Members)) -> Result<(), MembersError> {
        let mut members = self.members.clone();
        change(&mut members);
        if members != self.members {
            members::save(&self.folder.join("folders"), self.cluster, &members)?;
            self.members = members;
        }
        Ok(())
    }

    /// Appends changes to the journal atomically.
    pub(super) fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        self.journal.append(batch)?;
        if let Some(first) = batch.first() {
            self.oldest_ms.get_or_insert(first.time_ms);
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
