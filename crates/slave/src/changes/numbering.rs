//! Who gives changes their place in the one order: this slave where it stands alone, else the master.
//!
//! Whoever it is checks and numbers by the same pure function, and has the numbers in a journal on the disk
//! before it answers.

use std::time::{SystemTime, UNIX_EPOCH};

use log::error;
use relais_cluster::{ChangeRequest, SequenceResult, Sequencer};
use relais_journal::{Journal, JournalError};
use relais_proto::{Change, ChangeId, ErrorCode, LogEntry, Lsn, Refusal};
use relais_storage::{CatalogError, CatalogStore, MetadataFolder, changes_unavailable};

use super::snapshot::SnapshotFile;
use super::view::CatalogueView;

/// Gives changes their numbers.
pub trait Numbering: Send {
    /// Decides about the first of `asked`, at least one: a verdict each. What has a number is in the journal.
    ///
    /// # Errors
    /// Why nobody can decide; nothing has a number then.
    fn number(
        &mut self,
        asked: &[ChangeRequest],
        tree: &mut CatalogueView<'_>,
    ) -> Result<Vec<SequenceResult>, Refusal>;

    /// Withdraws changes that could not be carried out: the new numbers, in the same order.
    ///
    /// # Errors
    /// Why that is not possible.
    fn withdraw(&mut self, changes: &[Lsn]) -> Result<Vec<LogEntry>, Refusal>;

    /// Shortens the journal where it has become long. The catalogue has all that is in it.
    ///
    /// # Errors
    /// Those of the catalogue.
    fn shorten(&mut self, store: &CatalogStore) -> Result<(), CatalogError>;
}

/// A slave that stands alone, with a journal of its own.
pub struct Standalone {
    sequencer: Sequencer,
    journal: Box<dyn Journal>,
    /// Keeps the path to the journal valid.
    _own: MetadataFolder,
    pub(super) snapshot: SnapshotFile,
}

impl Standalone {
    /// Goes on behind `last`, which is the journal's last change or later.
    #[must_use]
    pub(super) fn new(
        journal: Box<dyn Journal>,
        own: MetadataFolder,
        snapshot: SnapshotFile,
        last: Lsn,
    ) -> Self {
        Self { sequencer: Sequencer::new(journal.last().max(last)), journal, _own: own, snapshot }
    }

    /// Behind which number it goes on.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.sequencer.last()
    }

    fn write(&mut self, batch: &[LogEntry], before: Lsn) -> Result<(), Refusal> {
        let Err(e) = self.journal.append(batch) else { return Ok(()) };
        error!("the journal cannot be written: {e}");
        // Nobody has seen the numbers.
        self.sequencer.forget_after(before);
        Err(refusal(&e))
    }
}

fn refusal(error: &JournalError) -> Refusal {
    if matches!(error, JournalError::NoSpace { .. }) {
        return Refusal::new(ErrorCode::NoSpace, "the server's disk is full");
    }
    changes_unavailable("the journal cannot be written")
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}

impl Numbering for Standalone {
    fn number(
        &mut self,
        asked: &[ChangeRequest],
        tree: &mut CatalogueView<'_>,
    ) -> Result<Vec<SequenceResult>, Refusal> {
        let before = self.sequencer.last();
        let verdicts = self.sequencer.sequence(asked, tree, now_ms()).map_err(|e| {
            error!("the catalogue cannot be read: {e}");
            Refusal::new(ErrorCode::Storage, "the slave cannot read its catalogue")
        })?;
        let batch: Vec<LogEntry> = verdicts
            .iter()
            .filter_map(|verdict| match verdict {
                SequenceResult::Accepted(numbered) => Some(numbered.clone()),
                SequenceResult::AlreadyCommitted(_) | SequenceResult::Refused(_) => None,
            })
            .collect();
        if !batch.is_empty() {
            self.write(&batch, before)?;
        }
        Ok(verdicts)
    }

    fn withdraw(&mut self, changes: &[Lsn]) -> Result<Vec<LogEntry>, Refusal> {
        let before = self.sequencer.last();
        let mut batch = Vec::new();
        for of in changes {
            let id = ChangeId(
                relais_os::random()
                    .map_err(|_| changes_unavailable("the system has no random numbers"))?,
            );
            batch.push(self.sequencer.number(id, Change::Withdraw { of: *of }, now_ms()));
        }
        self.write(&batch, before)?;
        Ok(batch)
    }

    fn shorten(&mut self, store: &CatalogStore) -> Result<(), CatalogError> {
        if self.snapshot.is_due(self.journal.size())
            && self.snapshot.save(&mut *self.journal, store, self.sequencer.last(), now_ms())?
            && let Err(e) = self.journal.truncate()
        {
            // What is in it is left out at the next start.
            error!("the journal does not begin anew: {e}");
        }
        Ok(())
    }
}
