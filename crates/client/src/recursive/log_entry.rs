//! The `.log` line of a whole command.

use relais_proto::TreePath;

use crate::origin::Origin;
use crate::saved_state::now;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask};

/// A line that is there while its command is not finished; none where the `.log` cannot be used.
pub struct BatchLogEntry {
    handle: Option<LogHandle>,
    /// Whether an earlier run left the line, and is gone on with: what is equal by now is not transferred again.
    pub resumes: bool,
}

impl BatchLogEntry {
    /// Writes the line. Without a `.log` the command is still worth running; that is told.
    #[must_use]
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
            shell.notices.say(&format!("{remote}: cut off it could not be carried on: {failure}"));
            Self { handle: None, resumes: false }
        })
    }

    /// Nothing is left that could be carried on.
    pub fn finish(mut self, shell: &Shell) {
        if let Some(Err(failure)) = self.handle.as_mut().map(LogHandle::finish) {
            shell.notices.say(&format!("nothing is left to do, but {failure}"));
        }
    }
}
