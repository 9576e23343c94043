//! Progress of a download: the bar, notices about servers, and checkpoints in the `.log`.

use std::net::SocketAddr;

use relais_proto::TreePath;
use relais_transfer::download::{Progress, Resume};

use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::progress_bar::TransferBar;
use crate::transfer_log::{LogHandle, TransferTask};

/// Reports the progress of one download.
pub struct DownloadProgress<'a> {
    name: String,
    notices: Notices,
    interrupt: Interrupt,
    /// None if the `.log` cannot be used; the user was told.
    handle: Option<&'a mut LogHandle>,
    /// Whether the user was told that checkpoints are lost.
    warned: bool,
    bar: TransferBar,
}

impl<'a> DownloadProgress<'a> {
    /// Reports the download of `remote`; checkpoints go to `handle`.
    pub fn new(
        remote: &TreePath,
        notices: Notices,
        interrupt: Interrupt,
        handle: Option<&'a mut LogHandle>,
    ) -> Self {
        let bar = TransferBar::new(remote, notices.clone());
        Self { name: remote.to_string(), notices, interrupt, handle, warned: false, bar }
    }
}

impl Progress for DownloadProgress<'_> {
    fn started(&mut self, size: u64, resumed_from: u64) {
        self.bar.started(size, resumed_from);
    }

    fn advanced(&mut self, good: u64) {
        self.bar.advanced(good);
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let why = self.notices.take_lost_reason();
        self.notices.say(&format!("lost {from} ({why}); resuming at byte {at} from {to}"));
    }

    fn restarted(&mut self, why: &str) {
        self.notices.say(&format!("{}: restarting: {why}", self.name));
    }

    fn checkpoint(&mut self, state: &Resume) {
        let Some(handle) = &mut self.handle else { return };
        if let Err(failure) = handle.write(TransferTask::Get(Some(state.clone())))
            && !std::mem::replace(&mut self.warned, true)
        {
            self.notices.say(&format!(
                "{}: if interrupted now, it cannot be resumed from here: {failure}",
                self.name
            ));
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}
