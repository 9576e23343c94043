//! One run of the client: connects, then runs the commands, and returns the exit status.
//!
//! Commands come from `-c`, from standard input or from the prompt. Only the prompt resumes
//! unfinished transfers at its start.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use relais_proto::TreePath;

use crate::commands::{CommandStatus, ParsedCommand, report_outcome};
use crate::interrupt::{Activity, Interrupt};
use crate::local::LocalFolders;
use crate::notices::Notices;
use crate::output::{Output, Screen};
use crate::saved_state::{SavedState, StateFolder};
use crate::send::prefer_holder;
use crate::session::{Session, Settings};
use crate::shell::Shell;
use crate::{Failure, Result};
use crate::{prompt, resume, shell_words};

/// The settings of the command line.
pub struct Config {
    /// The server, the credentials and the connection options.
    pub session: Settings,
    /// Local folder; none for the default.
    pub folder: Option<PathBuf>,
    /// Commands of `-c`; if there are none, commands come from standard input.
    pub commands: Vec<String>,
    /// Whether outcomes are printed as JSON.
    pub json: bool,
    /// Whether the run continues after a failed command.
    pub keep_going: bool,
    /// Whether unfinished transfers are resumed.
    pub resume: bool,
    /// Number of disks that must hold a stored file; 0 for the cluster's setting.
    pub copies: u16,
}

/// Runs the client and returns its exit status.
#[must_use]
pub fn run(config: Config, interrupt: Interrupt) -> u8 {
    let notices = Notices::default();
    let local = match LocalFolders::new(config.folder) {
        Ok(local) => local,
        Err(failure) => {
            say!(notices, "ftpclient: {failure}");
            return failure.status();
        }
    };
    let Settings { host, user, .. } = &config.session;
    let saved =
        StateFolder::for_user().map(|folder| SavedState::new(folder, host, user, notices.clone()));
    let mut session = Session::new(config.session, interrupt.clone(), notices.clone());
    session.saved = saved;
    let stdout = Box::new(std::io::BufWriter::new(std::io::stdout()));
    let mut shell = Shell {
        session,
        output: Output::new(stdout, notices.clone(), config.json, screen()),
        local,
        cwd: TreePath::root(),
        resume: config.resume,
        copies: config.copies,
        input_is_commands: config.commands.is_empty() && !std::io::stdin().is_terminal(),
        interrupt,
        notices,
    };
    if !config.commands.is_empty() {
        let lines = config.commands.into_iter().map(|line| Ok(line.into_bytes()));
        return run_lines(&mut shell, config.keep_going, lines);
    }
    if shell.input_is_commands {
        return run_lines(&mut shell, config.keep_going, std::io::stdin().lock().split(b'\n'));
    }
    prefer_holder(&mut shell, None);
    if let Err(status) = connect(&mut shell, "connect") {
        return status.status;
    }
    // A script resumes only the transfers that its commands name.
    resume::resume_all(&mut shell);
    shell.session.save();
    prompt::run(shell)
}

/// Describes standard output.
fn screen() -> Screen {
    let terminal = console::Term::stdout();
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let can_colour = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    Screen {
        width: terminal.is_term().then(|| usize::from(terminal.size().1)),
        colours: terminal.is_term() && can_colour && !is_plain,
    }
}

/// Runs the lines of a script up to its end or the first failure; returns the exit status.
fn run_lines(
    shell: &mut Shell,
    keep_going: bool,
    mut lines: impl Iterator<Item = std::io::Result<Vec<u8>>>,
) -> u8 {
    let mut first = 0;
    loop {
        shell.interrupt.enter(Activity::Input);
        let ended = match lines.next().map(|line| line.map(String::from_utf8)) {
            None => return first,
            Some(Ok(Ok(line))) if shell_words::is_blank(&line) => continue,
            Some(Ok(Ok(line))) => run_line(shell, line.trim_end_matches('\r')),
            Some(Ok(Err(_))) => {
                report(shell, "", failure!(Usage, "a line of standard input is not UTF-8"))
            }
            Some(Err(e)) if first == 0 => {
                let failure = Failure::local(std::path::Path::new("standard input"), &e);
                return report(shell, "", failure).status;
            }
            Some(Err(_)) => return first,
        };
        if stops_after(&mut first, ended, keep_going) {
            return first;
        }
    }
}

/// Runs a line of a script. The first command that needs a server connects.
fn run_line(shell: &mut Shell, line: &str) -> CommandStatus {
    let call = ParsedCommand::parse(line);
    if !call.is_local()
        && shell.session.origin.is_none()
        && let Err(status) = connect(shell, &call.name)
    {
        return status;
    }
    call.execute(shell)
}

/// Records the first failure; returns true if no further command may run.
fn stops_after(first: &mut u8, ended: CommandStatus, keep_going: bool) -> bool {
    if *first == 0 || ended.status == 130 {
        *first = ended.status.max(*first);
    }
    ended.leave || ended.status == 130 || ended.status != 0 && !keep_going
}

/// Connects before the first command that needs a server.
///
/// # Errors
/// The status that ends the run. The failure was reported.
fn connect(shell: &mut Shell, command: &str) -> Result<(), CommandStatus> {
    shell.interrupt.enter(Activity::Command);
    shell.session.connect().map_err(|failure| {
        let status = report(shell, command, failure).status;
        CommandStatus { status, leave: true }
    })
}

/// Reports a failure before a command: text names the program, JSON the command.
fn report(shell: &mut Shell, command: &str, failure: Failure) -> CommandStatus {
    shell.output.begin(if shell.output.json { command } else { "" });
    report_outcome(shell, &Err(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keep_going: bool, statuses: &[u8]) -> (u8, usize) {
        let (mut first, mut ran) = (0, 0);
        for status in statuses {
            ran += 1;
            if stops_after(&mut first, CommandStatus { status: *status, leave: false }, keep_going)
            {
                break;
            }
        }
        (first, ran)
    }

    #[test]
    fn first_failure_decides_the_status() {
        assert_eq!(run(false, &[0, 1, 5]), (1, 2));
        assert_eq!(run(true, &[0, 1, 5, 0]), (1, 4));
        assert_eq!(run(true, &[0, 0]), (0, 2));
        assert_eq!(run(true, &[1, 130, 0]), (130, 2));
    }
}
