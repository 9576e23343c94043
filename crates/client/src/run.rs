//! One run of the client: connects, then runs the commands, and returns the exit status.
//!
//! Commands come from `-c`, from standard input or from the prompt. Only the prompt resumes
//! unfinished transfers at its start.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use relais_proto::TreePath;

use crate::commands::{CommandStatus, ParsedCommand, report_outcome};
use crate::interrupt::{Activity, Interrupt};
use crate::local::LocalFolders;
use crate::notices::Notices;
use crate::output::{Output, Screen};
use crate::saved_state::{SavedState, StateFolder};
use crate::session::{Host, Security, Session, Settings};
use crate::shell::Shell;
use crate::{Failure, Result};
use crate::{prompt, resume, shell_words};

/// The settings of the command line.
pub struct Config {
    /// Server to connect to.
    pub host: Host,
    /// User name; empty without an account.
    pub user: String,
    /// Password; if it is none, the client asks at the terminal when a server needs one.
    pub password: Option<Vec<u8>>,
    /// How connections are secured.
    pub security: Security,
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
    /// How long to retry while no server can be reached.
    pub retry: Duration,
}

/// Runs the client and returns its exit status.
#[must_use]
pub fn run(config: Config, interrupt: Interrupt) -> u8 {
    let notices = Notices::new();
    let local = match LocalFolders::new(config.folder) {
        Ok(local) => local,
        Err(failure) => {
            notices.say(&format!("ftpclient: {failure}"));
            return failure.status();
        }
    };
    let saved = StateFolder::for_user()
        .map(|folder| SavedState::new(folder, &config.host, &config.user, notices.clone()));
    let settings = Settings {
        host: config.host,
        user: config.user,
        password: config.password,
        security: config.security,
        retry: config.retry,
    };
    let shell = Shell {
        session: Session::new(settings, interrupt.clone(), notices.clone()).with_saved_state(saved),
        output: Output::new(
            Box::new(std::io::BufWriter::new(std::io::stdout())),
            notices.clone(),
            config.json,
            screen(),
        ),
        local,
        cwd: TreePath::root(),
        resume: config.resume,
        copies: config.copies,
        input_is_commands: config.commands.is_empty() && !std::io::stdin().is_terminal(),
        interrupt,
        notices,
    };
    let mut source = CommandSource { commands: config.commands, keep_going: config.keep_going };
    source.run(shell)
}

/// Describes standard output.
fn screen() -> Screen {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return Screen::default();
    }
    let width = rustix::termios::tcgetwinsize(&stdout).map_or(80, |size| usize::from(size.ws_col));
    let plain = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    Screen {
        width: Some(if width == 0 { 80 } else { width }),
        colours: !plain("NO_COLOR") && !dumb,
    }
}

/// The source of commands, and whether it continues after a failure.
struct CommandSource {
    commands: Vec<String>,
    keep_going: bool,
}

impl CommandSource {
    fn run(&mut self, mut shell: Shell) -> u8 {
        let at_prompt = self.commands.is_empty() && std::io::stdin().is_terminal();
        if at_prompt {
            resume::prefer_holder(&mut shell);
            if let Err(status) = connect(&mut shell, "connect") {
                return status.status;
            }
            // A script resumes only the transfers that its commands name.
            resume::resume_all(&mut shell);
            shell.session.save();
            return prompt::run(shell);
        }
        match self.commands.as_slice() {
            [] => self.run_input(&mut shell),
            commands => self.run_options(&mut shell, commands),
        }
    }

    /// Runs a line of a script. The first command that needs a server connects.
    fn run_line(&self, shell: &mut Shell, line: &str) -> CommandStatus {
        let call = ParsedCommand::parse(line);
        if call.is_local() || shell.session.has_connected() {
            return call.execute(shell);
        }
        match connect(shell, &call.name) {
            Ok(()) => call.execute(shell),
            Err(status) => status,
        }
    }

    fn run_options(&self, shell: &mut Shell, commands: &[String]) -> u8 {
        let mut first = 0;
        for line in commands.iter().filter(|line| !shell_words::is_blank(line)) {
            let ended = self.run_line(shell, line);
            if self.stops_after(&mut first, ended) {
                break;
            }
        }
        first
    }

    fn run_input(&self, shell: &mut Shell) -> u8 {
        let (mut first, mut input, mut line) = (0, std::io::stdin().lock(), Vec::new());
        loop {
            line.clear();
            shell.interrupt.enter(Activity::Input);
            let read = input.read_until(b'\n', &mut line);
            let ended = match (read, std::str::from_utf8(&line)) {
                (Ok(0), _) => return first,
                (Ok(_), Ok(text)) if shell_words::is_blank(text) => continue,
                (Ok(_), Ok(text)) => self.run_line(shell, text.trim_end_matches(['\n', '\r'])),
                (Ok(_), Err(_)) => {
                    not_read(shell, &failure!(Usage, "a line of standard input is not UTF-8"))
                }
                (Err(e), _) => {
                    let failure = Failure::local(std::path::Path::new("standard input"), &e);
                    return if first == 0 { not_read(shell, &failure).status } else { first };
                }
            };
            if self.stops_after(&mut first, ended) {
                return first;
            }
        }
    }

    /// Records the first failure; returns true if no further command may run.
    fn stops_after(&self, first: &mut u8, ended: CommandStatus) -> bool {
        if *first == 0 {
            *first = ended.status;
        }
        if ended.status == 130 {
            *first = 130;
        }
        ended.leave || ended.status == 130 || ended.status != 0 && !self.keep_going
    }
}

/// Connects before the first command that needs a server.
///
/// # Errors
/// The status that ends the run. The failure was reported.
fn connect(shell: &mut Shell, command: &str) -> Result<(), CommandStatus> {
    shell.interrupt.enter(Activity::Command);
    let Err(failure) = shell.session.connect() else { return Ok(()) };
    // JSON goes under the name of the command; a text message names the program.
    shell.output.begin(if shell.output.is_json() { command } else { "" });
    let status = report_outcome(shell, &Err(failure)).status;
    Err(CommandStatus { status, leave: true })
}

/// Reports a line that could not be read.
fn not_read(shell: &mut Shell, failure: &Failure) -> CommandStatus {
    shell.output.begin("");
    report_outcome(shell, &Err(failure.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keep_going: bool, statuses: &[u8]) -> (u8, usize) {
        let source = CommandSource { commands: vec![], keep_going };
        let (mut first, mut ran) = (0, 0);
        for status in statuses {
            ran += 1;
            if source.stops_after(&mut first, CommandStatus { status: *status, leave: false }) {
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
