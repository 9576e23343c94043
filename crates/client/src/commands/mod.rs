//! The table of commands, and how a line becomes a call of one.
//!
//! Help, completion and the error for an unknown name read the same table. A handler takes
//! its words and returns an outcome; it never prints an outcome or a failure itself.

mod cat;
mod changes;
mod entries;
mod escape;
mod folders;
mod get;
mod globs;
mod help;
mod listing;
mod mirror;
mod options;
mod put;
mod several;
mod status;
mod transfers;

use crate::Failure;
use crate::outcome::Outcome;
use crate::shell::Shell;
use crate::words;

/// What the names that follow a command are, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completes {
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
pub enum Takes {
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
type Handler = fn(&mut Shell, Vec<String>) -> Result<Outcome, Failure>;

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
    pub options: &'static [(&'static str, Takes)],
    /// What its names are.
    pub completes: Completes,
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
    escape::ESCAPE,
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
pub struct Call {
    command: Option<&'static Command>,
    words: Result<Vec<String>, Failure>,
    /// What the outcome is called.
    pub name: String,
}

impl Call {
    /// Reads a line; what is wrong with it comes out when it runs.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        if let Some(typed) = words::local_command(line) {
            let command = &escape::ESCAPE;
            return Self {
                command: Some(command),
                words: Ok(vec![typed.to_owned()]),
                name: command.name.to_owned(),
            };
        }
        let mut words = match words::split(line) {
            Ok(words) => words,
            Err(failure) => {
                let name = line.split_whitespace().next().unwrap_or_default().to_owned();
                return Self { command: None, words: Err(failure), name };
            }
        };
        if words.is_empty() {
            return Self {
                command: None,
                words: Err(Failure::usage("there is no command")),
                name: String::new(),
            };
        }
        let typed = words.remove(0);
        match find(&typed) {
            Some(command) => {
                Self { command: Some(command), words: Ok(words), name: command.name.to_owned() }
            }
            None => Self { command: None, words: Err(unknown(&typed)), name: typed },
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// That it is no command, or the command's.
    pub fn run(self, shell: &mut Shell) -> Result<Outcome, Failure> {
        let words = self.words?;
        let Some(command) = self.command else { return Err(unknown(&self.name)) };
        if words.iter().take_while(|word| *word != "--").any(|word| word == "--help") {
            return Ok(Outcome::Text(help::about(command)));
        }
        (command.run)(shell, words).map_err(|failure| match failure.code {
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
        assert_eq!(Call::parse("quit").name, "bye");
        assert_eq!(Call::parse("get 'a").name, "get");
        assert_eq!(Call::parse("  !get 'a").name, "!");
        assert_eq!(Call::parse("nothing such").name, "nothing");
    }
}
