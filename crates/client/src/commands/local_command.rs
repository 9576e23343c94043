//! Local programs: `!COMMAND`.
//!
//! Only a line of the user or of a script is run, never text from a server or a `.log`. The program
//! runs in the local folder and in the client's process group, so a terminal's Ctrl-C reaches it.
//! The client waits for its end.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command as Program, ExitStatus, Stdio};
use std::time::Duration;

use super::command::{ANY, Args, Command, PLAIN};
use crate::error::plain;
use crate::interrupt::Activity;
use crate::outcome::CommandOutcome;
use crate::shell::Shell;
use crate::{Failure, Result};

/// Time in which the press of Ctrl-C that ended a program also reaches the client.
const SAME_PRESS: Duration = Duration::from_millis(500);
/// SIGINT, the same number on every Linux.
const INTERRUPT: i32 = 2;

pub const ESCAPE: Command = Command {
    name: "!",
    usage: "!COMMAND",
    summary: "run a local command in the shell",
    help: "The text after the ! goes to sh unchanged. The command runs in the local folder.\n\n\
           Example: !ls -l | sort",
    names: (0, ANY),
    is_local: true,
    run: escape,
    ..PLAIN
};

fn escape(shell: &mut Shell, mut args: Args) -> Result<CommandOutcome> {
    let line = args
        .names
        .pop()
        .filter(|line| !line.is_empty())
        .ok_or_else(|| failure!(Usage, "no command is given"))?;
    let mut program = Program::new("sh");
    program.arg("-c").arg(&line).current_dir(shell.local.current_dir()?);
    if shell.input_is_commands {
        // Standard input holds further commands for the client.
        program.stdin(Stdio::null());
    }
    if shell.output.json {
        program.stdout(io::stderr());
    }
    shell.output.flush()?;
    shell.interrupt.enter(Activity::Child);
    let status = program.status();
    if status.as_ref().is_ok_and(|status| status.signal() == Some(INTERRUPT)) {
        // The same press may reach the client a moment later; it must not stop the next command.
        let _ = shell.interrupt.pause(SAME_PRESS);
    }
    shell.interrupt.enter(Activity::Command);
    ended(status.map_err(|e| failure!(Local, "sh: {}", plain(&e)))?)
}

fn ended(status: ExitStatus) -> Result<CommandOutcome> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(CommandOutcome::Ran {}),
        (_, Some(INTERRUPT)) => Err(Failure::interrupted()),
        (Some(code), _) => Err(failure!(Local, "the command ended with status {code}")),
        (None, signal) => {
            Err(failure!(Local, "signal {} ended the command", signal.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_decides_the_outcome() {
        let ended =
            |raw| ended(ExitStatus::from_raw(raw)).map(|_| ()).map_err(|failure| failure.status());
        assert_eq!(
            (ended(0), ended(7 << 8), ended(9), ended(2)),
            (Ok(()), Err(1), Err(1), Err(130))
        );
    }
}
