//! The table of commands, and the execution of one line.
//!
//! Help, completion and the error for an unknown name use the same table. A handler gets the
//! arguments and returns an outcome; it never prints an outcome or a failure itself. Every source
//! of lines (`-c`, standard input, the prompt) calls [`ParsedCommand::execute`].

use relais_proto::ErrorCode;

use super::command::{Args, Command, CompletionKind, PLAIN};
use super::{changes, folders, get, listing, local_command, put, status, transfers, trees};
use crate::interrupt::Activity;
use crate::outcome::{CommandOutcome, failure_of};
use crate::output::ContentMode;
use crate::shell::Shell;
use crate::{Failure, Result, shell_words};

/// All commands, in the order of `help`.
pub static TABLE: &[Command] = &[
    get::GET,
    put::PUT,
    trees::MGET,
    trees::MPUT,
    trees::MIRROR,
    get::CAT,
    listing::LS,
    folders::CD,
    folders::PWD,
    listing::STAT,
    listing::HASH,
    changes::MKDIR,
    changes::RM,
    changes::MV,
    folders::LCD,
    folders::LPWD,
    listing::LLS,
    local_command::ESCAPE,
    status::STATUS,
    transfers::TRANSFERS,
    HELP,
    BYE,
];

const HELP: Command = Command {
    name: "help",
    aliases: &["?"],
    usage: "help [COMMAND]",
    summary: "list the commands, or explain one",
    help: "Example: help get",
    names: (0, 1),
    completes: CompletionKind::Commands,
    is_local: true,
    run: |_, args| {
        let text = match args.names.first() {
            Some(name) => about(find(name).ok_or_else(|| unknown(name))?),
            None => overview(),
        };
        Ok(CommandOutcome::Text { text })
    },
    ..PLAIN
};

const BYE: Command = Command {
    name: "bye",
    aliases: &["quit", "exit"],
    usage: "bye",
    summary: "leave; so does Ctrl-D",
    help: "Example: bye",
    is_local: true,
    run: |_, _| Ok(CommandOutcome::Leave {}),
    ..PLAIN
};

/// Finds the command with this name or alias.
pub fn find(name: &str) -> Option<&'static Command> {
    TABLE.iter().find(|command| command.name == name || command.aliases.contains(&name))
}

/// A parsed line: a command with its words, or an error.
pub struct ParsedCommand {
    parsed: Result<(&'static Command, Vec<String>)>,
    /// Name of the command in the outcome.
    pub name: String,
}

/// The consequences of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandStatus {
    /// Exit status that the command would give the program; 0 on success.
    pub status: u8,
    /// Whether no further command may run, whatever the options say.
    pub leave: bool,
}

impl ParsedCommand {
    /// Parses a line; [`Self::execute`] reports its errors.
    pub fn parse(line: &str) -> Self {
        let parsed = parse(line);
        let first = line.split_whitespace().next().unwrap_or_default();
        let command = parsed.as_ref().ok().map(|(command, _)| *command).or_else(|| find(first));
        let name = command.map_or(first, |command| command.name).to_owned();
        match &parsed {
            Ok((_, words)) if asks_for_help(words) => {
                Self { parsed: Ok((&HELP, vec![name.clone()])), name }
            }
            _ => Self { parsed, name },
        }
    }

    /// Returns whether the line runs without a server. An invalid line does.
    pub fn is_local(&self) -> bool {
        self.parsed.as_ref().map_or(true, |(command, _)| command.is_local)
    }

    /// Runs the command and reports its outcome.
    pub fn execute(self, shell: &mut Shell) -> CommandStatus {
        shell.interrupt.enter(Activity::Command);
        let _ = shell.notices.take_lost();
        shell.session.refresh();
        shell.output.begin(&self.name);
        let mut result = self.run(shell);
        if result.is_err() && shell.interrupt.is_raised() {
            // The interruption is the cause of every later failure.
            result = Err(Failure::interrupted());
        }
        let result = result.map_err(|failure| shell.session.explain_behind(failure));
        let ended = report_outcome(shell, &result);
        shell.session.save();
        ended
    }

    fn run(self, shell: &mut Shell) -> Result<CommandOutcome> {
        let (command, words) = self.parsed?;
        if command.shows_content {
            shell.output.content_mode = ContentMode::Quiet;
        }
        let args = Args::parse(command, words);
        args.and_then(|args| (command.run)(shell, args)).map_err(|failure| match failure.code {
            ErrorCode::Usage => failure!(Usage, "{failure}\nusage: {}", command.usage),
            _ => failure,
        })
    }
}

/// Splits a line into a command and its words.
fn parse(line: &str) -> Result<(&'static Command, Vec<String>)> {
    if let Some(typed) = shell_words::local_command(line) {
        return Ok((&local_command::ESCAPE, vec!["--".to_owned(), typed.to_owned()]));
    }
    let mut words = shell_words::split(line)?;
    if words.is_empty() {
        fail!(Usage, "no command is given");
    }
    let name = words.remove(0);
    Ok((find(&name).ok_or_else(|| unknown(&name))?, words))
}

/// Prints an outcome and returns its consequences.
pub fn report_outcome(shell: &mut Shell, result: &Result<CommandOutcome>) -> CommandStatus {
    let written = shell.output.finish(result);
    if shell.output.is_broken {
        return CommandStatus { status: 1, leave: true };
    }
    let failure = match written {
        Err(failure) if result.is_ok() => {
            shell.notices.say(&failure.to_string());
            Some(failure)
        }
        _ => failure_of(result),
    };
    let status = failure.map_or(0, |failure| failure.status());
    CommandStatus { status, leave: matches!(result, Ok(CommandOutcome::Leave {})) }
}

/// Returns whether the arguments of a command ask for its help.
fn asks_for_help(args: &[String]) -> bool {
    args.iter().take_while(|word| *word != "--").any(|word| word == "--help")
}

/// The failure for an unknown command, with the most similar name.
fn unknown(typed: &str) -> Failure {
    let names = TABLE.iter().flat_map(|command| command.aliases.iter().chain([&command.name]));
    let nearest = names.map(|name| (strsim::damerau_levenshtein(typed, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 2 && distance < typed.chars().count() => {
            failure!(Usage, "unknown command {typed}; did you mean {name}?")
        }
        _ => failure!(Usage, "unknown command {typed}; help lists them"),
    }
}

/// Lists all commands, one line each.
fn overview() -> String {
    let width = TABLE.iter().map(|command| command.usage.len()).max().unwrap_or(0);
    let mut lines: Vec<String> =
        TABLE.iter().map(|c| format!("{:width$}  {}", c.usage, c.summary)).collect();
    lines.push(
        "\nNames with spaces are quoted as in a shell; after -- a name may begin with -."
            .to_owned(),
    );
    lines.join("\n")
}

/// Explains one command.
fn about(command: &Command) -> String {
    let aliases = if command.aliases.is_empty() {
        String::new()
    } else {
        format!("\nAlso: {}", command.aliases.join(", "))
    };
    format!("{}\n{}.{aliases}\n\n{}", command.usage, command.summary, command.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_help_is_complete() {
        let mut seen = std::collections::HashSet::new();
        for command in TABLE {
            assert!(
                command.aliases.iter().chain([&command.name]).all(|name| seen.insert(*name)),
                "{}",
                command.name
            );
            assert!(command.usage.starts_with(command.name) && !command.summary.is_empty());
            assert!(command.help.contains("Example"), "{}", command.name);
        }
    }

    #[test]
    fn unknown_command_suggests_the_nearest() {
        for (typed, says) in [
            ("gte", "did you mean get?"),
            ("exot", "did you mean exit?"),
            ("statsu", "did you mean status?"),
        ] {
            assert!(unknown(typed).message.ends_with(says), "{}", unknown(typed));
        }
        assert!(unknown("frobnicate").message.ends_with("help lists them"));
        assert!(unknown("x").message.ends_with("help lists them"));
    }

    #[test]
    fn aliases_use_the_commands_name() {
        assert_eq!(ParsedCommand::parse("quit").name, "bye");
        assert_eq!(ParsedCommand::parse("get 'a").name, "get");
        assert_eq!(ParsedCommand::parse("  !get 'a").name, "!");
        assert_eq!(ParsedCommand::parse("nothing such").name, "nothing");
    }

    #[test]
    fn help_names_every_command() {
        let text = overview();
        assert!(TABLE.iter().all(|command| text.contains(command.usage)));
        assert!(about(&BYE).contains("quit, exit"));
    }
}
