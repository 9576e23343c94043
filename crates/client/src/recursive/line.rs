//! The `.log` line of a whole command.

use relais_proto::TreePath;

use crate::log::{Entry, Ledger, Work};
use crate::memory::now;
use crate::origin::Origin;
use crate::shell::Shell;

/// A line that is there while its command is not finished; none where the `.log` cannot be used.
pub struct Line {
    ledger: Option<Ledger>,
    /// Whether an earlier run left the line, and is gone on with: what is equal by now is not transferred again.
    pub carries_on: bool,
}

impl Line {
    /// Writes the line. Without a `.log` the command is still worth running; that is told.
    #[must_use]
    pub fn enter(
        shell: &Shell,
        remote: &TreePath,
        logged: &str,
        origin: Origin,
        work: Work,
    ) -> Self {
        let entry = Entry {
            remote: remote.clone(),
            local: logged.to_owned(),
            origin,
            since: now(),
            work: work.clone(),
        };
        let entered = Ledger::open(shell.local.home(), entry).and_then(|mut ledger| {
            let known = ledger.known()?.is_some();
            ledger.write(work)?;
            Ok(Self { ledger: Some(ledger), carries_on: known && shell.resume })
        });
        entered.unwrap_or_else(|failure| {
            shell.notices.say(&format!("{remote}: cut off it could not be carried on: {failure}"));
            Self { ledger: None, carries_on: false }
        })
    }

    /// Nothing is left that could be carried on.
    pub fn finish(mut self, shell: &Shell) {
        if let Some(Err(failure)) = self.ledger.as_mut().map(Ledger::finish) {
            shell.notices.say(&format!("nothing is left to do, but {failure}"));
        }
    }
}
