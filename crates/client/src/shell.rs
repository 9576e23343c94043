//! What commands work on, and how a line is run from its words to its outcome.
//!
//! Owns where the user is, there and here. Every source of lines (`-c`, standard input, the
//! prompt) ends in [`Shell::execute`].

use log::debug;
use relais_proto::{ErrorCode, TreePath};

use crate::Failure;
use crate::commands::ParsedCommand;
use crate::interrupt::{Activity, Interrupt};
use crate::local::LocalFolders;
use crate::nearest::suggest_names;
use crate::notices::Notices;
use crate::outcome::CommandOutcome;
use crate::output::Output;
use crate::remote;
use crate::session::Session;

/// The state behind all commands.
pub struct Shell {
    /// The session with some server.
    pub session: Session,
    /// Standard output.
    pub output: Output,
    /// The local folders.
    pub local: LocalFolders,
    /// The remote folder.
    pub cwd: TreePath,
    /// Whether unfinished transfers are gone on with.
    pub resume: bool,
    /// How many disks must hold what is put; 0: as many as the cluster asks for.
    pub copies: u16,
    /// Whether commands come from standard input, so that it holds nothing else.
    pub input_is_commands: bool,
    /// Ctrl-C.
    pub interrupt: Interrupt,
    /// Standard error.
    pub notices: Notices,
}

/// What follows from a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandStatus {
    /// 0, or what the program would end with.
    pub status: u8,
    /// Whether no further command is to be run, whatever was asked.
    pub leave: bool,
}

impl Shell {
    /// What a remote name means in the folder the user is in.
    ///
    /// # Errors
    /// A name that breaks the rules or lies above the top.
    pub fn resolve_remote(&self, name: &str) -> Result<TreePath, Failure> {
        remote::resolve(&self.cwd, name)
    }

    /// A server's failure about `path`, with the path in front, and with what is there where
    /// nothing has that name.
    pub fn explain(&mut self, path: &TreePath, failure: Failure) -> Failure {
        if failure.code != ErrorCode::NotFound || path.is_root() {
            return with_path(path, failure);
        }
        let missing = format!("{path} is not there");
        match suggest_names(&mut self.session, path) {
            Ok(told) => Failure { message: format!("{missing}; {told}"), ..failure },
            Err(other) if other.code == ErrorCode::Interrupted => other,
            Err(other) => {
                debug!("nothing to suggest for {path}: {other}");
                Failure { message: missing, ..failure }
            }
        }
    }

    /// Runs one line and puts its outcome out.
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
            // Whatever failed, failed because of that.
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

    /// Puts an outcome out, and tells what follows from it.
    pub fn report_outcome(&mut self, result: &Result<CommandOutcome, Failure>) -> CommandStatus {
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

/// A server's failure about `path`, with the path in front where the message does not have it.
#[must_use]
pub fn with_path(path: &TreePath, failure: Failure) -> Failure {
    let about_path =
        !matches!(failure.code, ErrorCode::Interrupted | ErrorCode::Unreachable | ErrorCode::Local);
    if about_path && !failure.message.contains(&path.to_string()) {
        failure.of(&path.to_string())
    } else {
        failure
    }
}
