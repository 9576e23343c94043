//! Progress of an upload: the bar, notices about servers, and the entry in the `.log`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::{Expect, TreePath};
use relais_transfer::upload::Progress;

use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::progress_bar::TransferBar;
use crate::session::CurrentSlave;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferTask, UploadRecord};

/// Interval between two notes of the number of bytes sent.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// Reports the progress of one upload.
pub struct UploadProgress<'a> {
    name: String,
    notices: Notices,
    interrupt: Interrupt,
    current_slave: CurrentSlave,
    /// None if the `.log` cannot be used or the upload cannot be resumed; the user was told.
    line: Option<(&'a mut LogHandle, UploadRecord)>,
    /// Time of the last note of the number of bytes sent.
    noted: Instant,
    /// Offset of the first try.
    resumed_from: Option<u64>,
    bar: TransferBar,
}

impl<'a> UploadProgress<'a> {
    /// Reports the upload to `remote`; progress is recorded in `handle`, starting from `upload`.
    pub fn new(
        remote: &TreePath,
        shell: &Shell,
        handle: Option<&'a mut LogHandle>,
        upload: UploadRecord,
    ) -> Self {
        Self { line: handle.map(|handle| (handle, upload)), ..Self::without_log(remote, shell) }
    }

    /// Reports an upload that cannot be resumed.
    pub fn without_log(remote: &TreePath, shell: &Shell) -> Self {
        Self {
            name: remote.to_string(),
            notices: shell.notices.clone(),
            interrupt: shell.interrupt.clone(),
            current_slave: shell.session.current_slave(),
            line: None,
            noted: Instant::now(),
            resumed_from: None,
            bar: TransferBar::new(remote, shell.notices.clone()),
        }
    }

    /// Returns the offset at which sending began; none if nothing was sent.
    pub fn resumed_from(&self) -> Option<u64> {
        self.resumed_from
    }

    /// Records the number of bytes sent; the command `transfers` shows it.
    fn note_sent(&mut self, sent: u64) {
        let Some((handle, upload)) = &mut self.line else { return };
        upload.sent = sent.min(upload.size);
        if let Err(failure) = handle.write(TransferTask::Put(*upload)) {
            debug!("{}: the progress is not logged: {failure}", self.name);
        }
    }

    /// Records the slave with the bytes, and the remote version at the start of the upload.
    fn note(&mut self, current: Expect) {
        let Some((handle, upload)) = &mut self.line else { return };
        let before = *upload;
        upload.slave = self.current_slave.slave();
        if upload.expect == Expect::Any {
            upload.expect = current;
        }
        if *upload != before
            && let Err(failure) = handle.write(TransferTask::Put(*upload))
        {
            self.notices.say(&format!(
                "{}: if interrupted now, it cannot be resumed from here: {failure}",
                self.name
            ));
            self.line = None;
        }
    }
}

impl Progress for UploadProgress<'_> {
    fn opened(&mut self, current: Expect, _: SocketAddr) {
        self.note(current);
    }

    fn started(&mut self, size: u64, resumed_from: u64) {
        self.resumed_from.get_or_insert(resumed_from);
        self.bar.started(size, resumed_from);
    }

    fn advanced(&mut self, sent: u64) {
        self.bar.advanced(sent);
        if self.noted.elapsed() >= NOTE_INTERVAL {
            self.noted = Instant::now();
            self.note_sent(sent);
        }
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let why = self.notices.take_lost_reason();
        let place = if at == 0 { "from the start".to_owned() } else { format!("at byte {at}") };
        self.notices.say(&format!("lost {from} ({why}); resuming with {to} {place}"));
        self.note(Expect::Any);
    }

    fn restarted(&mut self, why: &str) {
        self.notices.say(&format!("{}: restarting: {why}", self.name));
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}
