//! The state that commands work on, and the execution of one line.
//!
//! The shell owns the current folders, remote and local. Every source of lines (`-c`, standard
//! input, the prompt) calls [`Shell::execute`].

use log::debug;
use relais_proto::{ErrorCode, TreePath};

use crate::commands::ParsedCommand;
use crate::interrupt::{Activity, Interrupt};
use crate::local::LocalFolders;
use crate::nearest::suggest_names;
use crate::notices::Notices;
use crate::outcome::CommandOutcome;
use crate::output::Output;
use crate::remote;
use crate::session::Session;
use crate::{Failure, Result};

/// The state that all commands share.
pub struct Shell {
    /// Session with the current server.
    pub session: Session,
    /// Standard output.
    pub output: Output,
    /// Local folders.
    pub local: LocalFolders,
    /// Current remote folder.
    pub cwd: TreePath,
    /// Whether unfinished transfers are resumed.
    pub resume: bool,
    /// Number of disks that must hold a stored file; 0 for the cluster's setting.
    pub copies: u16,
    /// Whether standard input holds commands, and so cannot hold a file.
    pub input_is_commands: bool,
    /// State of Ctrl-C.
    pub interrupt: Interrupt,
    /// Standard error.
    pub notices: Notices,
}

/// The consequences of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandStatus {
    /// Exit status that the command would give the program; 0 on success.
    pub status: u8,
    /// Whether no further command may run, whatever the options say.
    pub leave: bool,
}

impl Shell {
    /// Resolves a remote name against the current remote folder.
    ///
    /// # Errors
    /// The name breaks the rules, or is above the root.
    pub fn resolve_remote(&self, name: &str) -> Result<TreePath> {
        remote::resolve(&self.cwd, name)
    }

    /// Adds the path to a server's failure, and suggestions if nothing has that name.
    pub fn explain(&mut self, path: &TreePath, failure: Failure) -> Failure {
        if failure.code != ErrorCode::NotFound || path.is_root() {
            return with_path(path, failure);
        }
        let missing = format!("{path} does not exist");
        match suggest_names(&mut self.session, path) {
            Ok(names) => Failure { message: format!("{missing}; {names}"), ..failure },
            Err(other) if other.code == ErrorCode::Interrupted => other,
            Err(other) => {
                debug!("nothing to suggest for {path}: {other}");
                Failure { message: missing, ..failure }
            }
        }
    }

    /// Runs one line and reports its outcome.
    pub fn execute(&mut self, line: &str) -> CommandStatus {
        self.interrupt.enter(Activity::Command);
        let _ = self.notices.take_lost();
        self.session.refresh();
        let call = ParsedCommand::parse(line);
        self.output.begin(&call.name);
        let mut result = call.run(self);
        if self.interrupt.is_raised()
            && result.as_ref().is_err_and(|failure| failure.status() != 130)
        {
            // The interruption is the cause of every later failure.
            result = Err(Failure::interrupted());
        }
        if let Err(failure) = &mut result
            && failure.code == ErrorCode::Behind
            && let Some(more) = self.session.behind_hint()
        {
            failure.message = format!("{}; {more}", failure.message);
        }
        let ended = self.report_outcome(&result);
        self.session.save();
        ended
    }

    /// Prints an outcome and returns its consequences.
    pub fn report_outcome(&mut self, result: &Result<CommandOutcome>) -> CommandStatus {
        let written = self.output.finish(result);
        if self.output.is_broken() {
            return CommandStatus { status: 1, leave: true };
        }
        let failure = match (result, written) {
            (Err(failure), _) => Some(failure.clone()),
            (Ok(_), Err(failure)) => {
                self.notices.say(&failure.to_string());
                Some(failure)
            }
            (Ok(outcome), Ok(())) => outcome.failure(),
        };
        let status = failure.map_or(0, |failure| failure.status());
        CommandStatus { status, leave: matches!(result, Ok(CommandOutcome::Leave)) }
    }
}

/// Adds the path to a server's failure, unless the message contains it.
pub fn with_path(path: &TreePath, failure: Failure) -> Failure {
    let about_path =
        !matches!(failure.code, ErrorCode::Interrupted | ErrorCode::Unreachable | ErrorCode::Local);
    if about_path && !failure.message.contains(&path.to_string()) {
        failure.of(&path.to_string())
    } else {
        failure
    }
}
