//! The log-outs that the cluster knows: all servers refuse their tickets.
//!
//! The master keeps them in a file, and passes each on to all slaves. A slave that connects gets
//! all of them and sends those that it knows. So they hold on a slave that was away, too. The
//! journal has none: a log-out concerns no entry of the tree, and expires.

use std::sync::atomic::AtomicU64;

use log::warn;
use parking_lot::Mutex;
use relais_auth::{EndedTickets, LogOutFile, SecretFileError};
use relais_proto::{LinkMessage, LogOut, limits};

use crate::outbox::Outbox;

/// The table and its file.
#[derive(Debug)]
pub(crate) struct LogOuts {
    words: Vec<AtomicU64>,
    file: Mutex<LogOutFile>,
}

impl LogOuts {
    /// Reads the file.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(file: LogOutFile) -> Result<Self, SecretFileError> {
        let words = std::iter::repeat_with(AtomicU64::default).take(EndedTickets::WORDS).collect();
        let rows = file.read()?;
        let log_outs = Self { words, file: Mutex::new(file) };
        rows.into_iter().for_each(|row| _ = log_outs.table().insert(row));
        Ok(log_outs)
    }

    /// Returns the table.
    pub fn table(&self) -> EndedTickets<'_> {
        EndedTickets::new(&self.words)
    }

    /// Adds rows, and writes the file; returns those that were not known.
    pub fn add(&self, rows: &[LogOut], now_ms: u64) -> Vec<LogOut> {
        let new: Vec<LogOut> =
            rows.iter().copied().filter(|row| self.table().insert(*row)).collect();
        if !new.is_empty() {
            let file = self.file.lock();
            // Under the lock, so that no older table replaces a newer one.
            if let Err(e) = file.write(&self.table().rows(now_ms)) {
                warn!("cannot write the file of log-outs: {e}; they hold until a restart");
            }
        }
        new
    }
}

/// Sends log-outs to a slave.
pub(crate) fn send_log_outs(outbox: &Outbox, rows: &[LogOut]) {
    for rows in rows.chunks(limits::LOG_OUTS) {
        outbox.send(&LinkMessage::OtherLogOuts(rows.to_vec()));
    }
}
