//! The entry in the `.log` for a whole command.

use relais_proto::TreePath;

use crate::origin::Origin;
use crate::saved_state::now;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask};

/// The entry of an unfinished command; without an entry if the `.log` cannot be used.
pub struct BatchLogEntry {
    handle: Option<LogHandle>,
    /// Whether an earlier run left the entry: equal files are then not transferred again.
    pub resumes: bool,
}

impl BatchLogEntry {
    /// Writes the entry. Without a `.log` the command still works, and the user is told.
    pub fn enter(
        shell: &Shell,
        remote: &TreePath,
        log_name: &str,
        origin: Origin,
        task: TransferTask,
    ) -> Self {
        let entry = TransferEntry {
            remote: remote.clone(),
            local: log_name.to_owned(),
            origin,
            since: now(),
            task: task.clone(),
        };
        let entered = LogHandle::open(shell.local.home(), entry).and_then(|mut handle| {
            let known = handle.read()?.is_some();
            handle.write(task)?;
            Ok(Self { handle: Some(handle), resumes: known && shell.resume })
        });
        entered.unwrap_or_else(|failure| {
            shell
                .notices
                .say(&format!("{remote}: if interrupted, it cannot be resumed: {failure}"));
            Self { handle: None, resumes: false }
        })
    }

    /// Removes the entry, because nothing is left to resume.
    pub fn finish(mut self, shell: &Shell) {
        if let Some(Err(failure)) = self.handle.as_mut().map(LogHandle::finish) {
            shell.notices.say(&format!("everything is done, but {failure}"));
        }
    }
}
