//! The table of commands, and how a line becomes a call of one.
//!
//! Help, completion and the error for an unknown name read the same table. A handler takes
//! its words and returns an outcome; it never prints an outcome or a failure itself.

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

use crate::Failure;
use crate::outcome::CommandOutcome;
use crate::shell::Shell;
use crate::shell_words;

/// What the names that follow a command are, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionKind {
    /// Nothing that is known.
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
    /// A remote folder, then a local one; behind `-R` the other way round.
    Mirror,
}

/// What stands behind an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionValue {
    /// Nothing: it is a switch.
    Nothing,
    /// Something that is no name.
    Value,
    /// A local name.
    Local,
    /// A remote name.
    Remote,
}

/// Runs a command on the words behind its name.
type Handler = fn(&mut Shell, Vec<String>) -> Result<CommandOutcome, Failure>;

/// One command.
#[derive(Debug)]
pub struct Command {
    /// What users type, and what `--json` calls it.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Its words.
    pub usage: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The rest of its help, with an example.
    pub help: &'static str,
    /// Its options and what each takes.
    pub options: &'static [(&'static str, OptionValue)],
    /// What its names are.
    pub completes: CompletionKind,
    /// What runs it.
    run: Handler,
}

/// All commands, in the order in which help names them.
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

/// The command of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    TABLE.iter().find(|command| command.name == name || command.aliases.contains(&name))
}

/// A line, understood.
pub struct ParsedCommand {
    command: Option<&'static Command>,
    args: Result<Vec<String>, Failure>,
    /// What the outcome is called.
    pub name: String,
}

impl ParsedCommand {
    /// Reads a line; what is wrong with it comes out when it runs.
    #[must_use]
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
                args: Err(Failure::usage("there is no command")),
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

    /// Runs it.
    ///
    /// # Errors
    /// That it is no command, or the command's.
    pub fn run(self, shell: &mut Shell) -> Result<CommandOutcome, Failure> {
        let args = self.args?;
        let Some(command) = self.command else { return Err(unknown(&self.name)) };
        if args.iter().take_while(|word| *word != "--").any(|word| word == "--help") {
            return Ok(CommandOutcome::Text(help::about(command)));
        }
        (command.run)(shell, args).map_err(|failure| match failure.code {
            relais_proto::ErrorCode::Usage => {
                Failure::usage(format!("{failure}\nusage: {}", command.usage))
            }
            _ => failure,
        })
    }
}

/// The failure for a name that is no command, with the nearest one that is.
fn unknown(typed: &str) -> Failure {
    let names = TABLE.iter().flat_map(|command| command.aliases.iter().chain([&command.name]));
    let nearest = names.map(|name| (strsim::damerau_levenshtein(typed, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 2 && distance < typed.chars().count() => {
            Failure::usage(format!("there is no command {typed}; did you mean {name}?"))
        }
        _ => Failure::usage(format!("there is no command {typed}; help lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_help_is_whole() {
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
    fn an_unknown_name_suggests_the_nearest() {
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
    fn aliases_have_the_commands_name() {
        assert_eq!(ParsedCommand::parse("quit").name, "bye");
        assert_eq!(ParsedCommand::parse("get 'a").name, "get");
        assert_eq!(ParsedCommand::parse("  !get 'a").name, "!");
        assert_eq!(ParsedCommand::parse("nothing such").name, "nothing");
    }
}
