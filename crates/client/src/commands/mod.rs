//! The table of commands, and the parsing of a line into a call.
//!
//! Help, completion and the error for an unknown name use the same table. A handler gets the
//! arguments and returns an outcome; it never prints an outcome or a failure itself.

mod cat;
mod changes;
mod each_name;
mod entries;
mod folders;
mod get;
mod globs;
mod help;
mod listing;
mod local_command;
mod mirror;
mod options;
mod put;
mod status;
mod transfers;

use crate::outcome::CommandOutcome;
use crate::shell::Shell;
use crate::shell_words;
use crate::{Failure, Result};

/// What completion offers for the names of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionKind {
    /// No known names.
    Nothing,
    /// Commands.
    Commands,
    /// Remote files and folders.
    Remote,
    /// Remote folders.
    RemoteFolders,
    /// Local files and folders.
    Local,
    /// Local folders.
    LocalFolders,
    /// Patterns of local names.
    LocalPatterns,
    /// Patterns of remote names.
    RemotePatterns,
    /// A remote folder, then a local one; the reverse with `-R`.
    Mirror,
}

/// The value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionValue {
    /// No value: the option is a switch.
    Nothing,
    /// A value that is not a name.
    Value,
    /// A local name.
    Local,
    /// A remote name.
    Remote,
}

/// Runs a command with its arguments.
type Handler = fn(&mut Shell, Vec<String>) -> Result<CommandOutcome>;

/// The description of a command.
#[derive(Debug)]
pub struct Command {
    /// Name that users type and that `--json` shows.
    pub name: &'static str,
    /// Other names of the command.
    pub aliases: &'static [&'static str],
    /// Usage line.
    pub usage: &'static str,
    /// Summary in one line.
    pub summary: &'static str,
    /// Longer help text with an example.
    pub help: &'static str,
    /// Options with their values.
    pub options: &'static [(&'static str, OptionValue)],
    /// What completion offers for its names.
    pub completes: CompletionKind,
    /// Function that runs the command.
    run: Handler,
}

/// All commands, in the order of `help`.
pub static TABLE: &[Command] = &[
    get::GET,
    put::PUT,
    globs::MGET,
    globs::MPUT,
    mirror::MIRROR,
    cat::CAT,
    listing::LS,
    folders::CD,
    folders::PWD,
    entries::STAT,
    entries::HASH,
    changes::MKDIR,
    changes::RM,
    changes::MV,
    folders::LCD,
    folders::LPWD,
    listing::LLS,
    local_command::ESCAPE,
    status::STATUS,
    transfers::TRANSFERS,
    help::HELP,
    help::BYE,
];

/// Commands that need no server.
const LOCAL: [&str; 7] = [
    folders::LCD.name,
    folders::LPWD.name,
    listing::LLS.name,
    local_command::ESCAPE.name,
    transfers::TRANSFERS.name,
    help::HELP.name,
    help::BYE.name,
];

/// Finds the command with this name or alias.
pub fn find(name: &str) -> Option<&'static Command> {
    TABLE.iter().find(|command| command.name == name || command.aliases.contains(&name))
}

/// A parsed line: a command with its arguments, or an error.
pub struct ParsedCommand {
    command: Option<&'static Command>,
    args: Result<Vec<String>>,
    /// Name of the command in the outcome.
    pub name: String,
}

impl ParsedCommand {
    /// Parses a line; [`Self::run`] returns its errors.
    pub fn parse(line: &str) -> Self {
        if let Some(typed) = shell_words::local_command(line) {
            let command = &local_command::ESCAPE;
            return Self {
                command: Some(command),
                args: Ok(vec![typed.to_owned()]),
                name: command.name.to_owned(),
            };
        }
        let mut args = match shell_words::split(line) {
            Ok(args) => args,
            Err(failure) => {
                let name = line.split_whitespace().next().unwrap_or_default().to_owned();
                return Self { command: None, args: Err(failure), name };
            }
        };
        if args.is_empty() {
            return Self {
                command: None,
                args: Err(failure!(Usage, "no command is given")),
                name: String::new(),
            };
        }
        let typed = args.remove(0);
        match find(&typed) {
            Some(command) => {
                Self { command: Some(command), args: Ok(args), name: command.name.to_owned() }
            }
            None => Self { command: None, args: Err(unknown(&typed)), name: typed },
        }
    }

    /// Returns whether the line runs without a server. An invalid line does.
    pub fn is_local(&self) -> bool {
        let (Some(command), Ok(args)) = (self.command, &self.args) else { return true };
        LOCAL.contains(&command.name) || asks_for_help(args)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The line is invalid, or the command fails.
    pub fn run(self, shell: &mut Shell) -> Result<CommandOutcome> {
        let args = self.args?;
        let Some(command) = self.command else { return Err(unknown(&self.name)) };
        if asks_for_help(&args) {
            return Ok(CommandOutcome::Text(help::about(command)));
        }
        (command.run)(shell, args).map_err(|failure| match failure.code {
            relais_proto::ErrorCode::Usage => {
                failure!(Usage, "{failure}\nusage: {}", command.usage)
            }
            _ => failure,
        })
    }
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
}
