//! Progress of one transfer: the bar, notices about servers, and the entry in the `.log`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::{Expect, TreePath};
use relais_transfer::{Progress, Resume};

use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::progress_bar::TransferBar;
use crate::session::ObservedState;
use crate::shell::Shell;
use crate::transfer_log::{DownloadRecord, LogHandle, TransferTask, UploadRecord};

/// Interval between two notes of the number of bytes sent.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// The receiver of a transfer's progress.
pub struct TransferProgress<'a> {
    name: String,
    notices: Notices,
    interrupt: Interrupt,
    observed: ObservedState,
    /// None for a stream, which cannot be resumed.
    handle: Option<&'a mut LogHandle>,
    /// Time of the last note of the number of bytes sent.
    noted: Instant,
    /// Offset of the first try; none if nothing was transferred.
    pub resumed_from: Option<u64>,
    bar: TransferBar,
}

impl<'a> TransferProgress<'a> {
    /// Prepares the transfer of `remote`.
    pub fn new(
        shell: &Shell,
        remote: &TreePath,
        handle: Option<&'a mut LogHandle>,
        bar: TransferBar,
    ) -> Self {
        Self {
            name: remote.to_string(),
            notices: shell.notices.clone(),
            interrupt: shell.interrupt.clone(),
            observed: shell.session.observed.clone(),
            handle,
            noted: Instant::now(),
            resumed_from: None,
            bar,
        }
    }

    /// Returns the upload that the `.log` records.
    fn upload(&self) -> Option<UploadRecord> {
        match self.handle.as_ref()?.task() {
            TransferTask::Put(upload) => Some(*upload),
            _ => None,
        }
    }

    /// Records the slave with the sent bytes, and the remote version at the start of the upload.
    fn note(&mut self, current: Expect) {
        let (Some(before), Some(handle)) = (self.upload(), &mut self.handle) else { return };
        let expect = if before.expect == Expect::Any { current } else { before.expect };
        let upload = UploadRecord { slave: self.observed.slave(), expect, ..before };
        if upload != before {
            handle.checkpoint(TransferTask::Put(upload));
        }
    }
}

impl Progress for TransferProgress<'_> {
    fn opened(&mut self, current: Expect, _: SocketAddr) {
        self.note(current);
    }

    fn started(&mut self, size: u64, resumed_from: u64) {
        self.resumed_from.get_or_insert(resumed_from);
        self.bar.started(size, resumed_from);
    }

    fn advanced(&mut self, position: u64) {
        self.bar.advanced(position);
        if self.noted.elapsed() < NOTE_INTERVAL {
            return;
        }
        self.noted = Instant::now();
        // The command `transfers` shows the number.
        let (Some(upload), Some(handle)) = (self.upload(), &mut self.handle) else { return };
        let upload = UploadRecord { sent: position.min(upload.size), ..upload };
        if let Err(failure) = handle.write(TransferTask::Put(upload)) {
            debug!("{}: the progress is not logged: {failure}", self.name);
        }
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let why = self.notices.take_lost_reason();
        say!(self.notices, "{}", lost_text(from, &why, to, at));
        self.note(Expect::Any);
    }

    fn restarted(&mut self, why: &str) {
        say!(self.notices, "{}: restarting: {why}", self.name);
    }

    fn damaged(&mut self, from: SocketAddr, pieces: u64) {
        say!(self.notices, "{}", damaged_text(from, pieces, &self.name));
    }

    fn checkpoint(&mut self, state: &Resume) {
        if let Some(handle) = &mut self.handle {
            handle.checkpoint(TransferTask::Get(Some(DownloadRecord(state.clone()))));
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}

/// Names the server that sent damaged pieces.
pub fn damaged_text(from: SocketAddr, pieces: u64, name: &dyn std::fmt::Display) -> String {
    format!("warning: {from} sent {pieces} damaged piece(s) of {name}; fetching them again")
}

/// Says that a transfer resumes at another server.
pub fn lost_text(from: SocketAddr, why: &str, to: SocketAddr, at: u64) -> String {
    format!("lost {from} ({why}); resuming at byte {at} with {to}")
}
