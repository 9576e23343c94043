//! What an upload tells while it runs: the bar, the lines about servers, the line in the `.log`.

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

/// Time between two notes of how much went out.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Follows one upload.
pub struct UploadProgress<'a> {
    name: String,
    notices: Notices,
    interrupt: Interrupt,
    current_slave: CurrentSlave,
    /// None where the `.log` cannot be used, or nothing can be carried on; the user was told.
    line: Option<(&'a mut LogHandle, UploadRecord)>,
    /// When it was noted last how much went out.
    noted: Instant,
    /// From where the first try went on.
    resumed_from: Option<u64>,
    bar: TransferBar,
}

impl<'a> UploadProgress<'a> {
    /// Follows the upload to `remote`; what is learnt for a later run goes to `handle`, behind `upload`.
    pub fn new(
        remote: &TreePath,
        shell: &Shell,
        handle: Option<&'a mut LogHandle>,
        upload: UploadRecord,
    ) -> Self {
        Self { line: handle.map(|handle| (handle, upload)), ..Self::without_log(remote, shell) }
    }

    /// Follows an upload that cannot be carried on.
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

    /// How many bytes a server had when the first one began to go out; none where none did.
    pub fn resumed_from(&self) -> Option<u64> {
        self.resumed_from
    }

    /// Writes into the line how much went out, for who looks at it.
    fn note_sent(&mut self, sent: u64) {
        let Some((handle, upload)) = &mut self.line else { return };
        upload.sent = sent.min(upload.size);
        if let Err(failure) = handle.write(TransferTask::Put(*upload)) {
            debug!("{}: what went out is not noted: {failure}", self.name);
        }
    }

    /// Writes into the line who has the bytes now, and what was at the path when the upload began.
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
                "{}: cut off now it could not be carried on from here: {failure}",
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
        if self.noted.elapsed() >= NOTE_EVERY {
            self.noted = Instant::now();
            self.note_sent(sent);
        }
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let why = self.notices.take_lost_reason();
        let place =
            if at == 0 { "from the start there".to_owned() } else { format!("at byte {at}") };
        self.notices.say(&format!("{from} is gone ({why}); going on with {to} {place}"));
        self.note(Expect::Any);
    }

    fn restarted(&mut self, why: &str) {
        self.notices.say(&format!("{}: beginning again: {why}", self.name));
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}
