//! A journal in memory, which shows that the contract of the trait does not depend on files.

use relais_proto::{LogEntry, Lsn, Timeline};

use crate::batch;
use crate::error::JournalError;
use crate::journal::{Entries, Journal, Snapshot};

/// A journal that ends with its process.
#[derive(Debug, Default)]
pub(super) struct MemoryJournal {
    entries: Vec<LogEntry>,
    size: u64,
    snapshot: Option<Snapshot>,
    timeline: [u8; 16],
}

impl Journal for MemoryJournal {
    fn append(&mut self, batch: &[LogEntry]) -> Result<(), JournalError> {
        let mut encoded = Vec::new();
        batch::encode(self.last(), batch, &mut encoded)?;
        self.size += encoded.len() as u64;
        self.entries.extend_from_slice(batch);
        Ok(())
    }

    fn read(&self, after: Lsn) -> Result<Entries, JournalError> {
        let start = self.entries.partition_point(|entry| entry.version <= after);
        let entries = self.entries[start..].to_vec();
        Ok(Box::new(entries.into_iter().map(Ok)))
    }

    fn snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        Ok(self.snapshot.clone())
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        self.snapshot = Some(snapshot.clone());
        Ok(())
    }

    fn truncate(&mut self) -> Result<(), JournalError> {
        self.entries.clear();
        self.size = 0;
        Ok(())
    }

    fn last(&self) -> Lsn {
        self.entries.last().map(|entry| entry.version).unwrap_or_default()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn timeline(&self) -> [u8; 16] {
        self.timeline
    }

    fn begin_timeline(&mut self) -> Result<[u8; 16], JournalError> {
        // Unique in this journal, which no other process can read.
        self.timeline = (u128::from_be_bytes(self.timeline) + 1).to_be_bytes();
        Ok(self.timeline)
    }

    fn initial_timelines(&self) -> &[Timeline] {
        &[]
    }
}
