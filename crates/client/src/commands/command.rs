//! What a command is, and how its arguments are parsed.

use lexopt::{Arg, Parser, ValueExt};

use relais_proto::Expect;

use crate::Result;
use crate::outcome::CommandOutcome;
use crate::shell::Shell;

/// What completion offers for a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionKind {
    /// No known names.
    Nothing,
    /// Commands.
    Commands,
    /// Remote names.
    Remote(NameFilter),
    /// Local names.
    Local(NameFilter),
    /// A remote folder, then a local one; the reverse with `-R`.
    Mirror,
}

/// The names that match, and how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFilter {
    /// All names.
    All,
    /// Names of folders.
    Folders,
    /// All names, with the word as a pattern.
    Pattern,
}

/// An option, with what completion offers for its value; none for a switch.
pub type CommandOption = (&'static str, Option<CompletionKind>);

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
    /// Options, each with the kind of its value.
    pub options: &'static [CommandOption],
    /// Least and largest number of names.
    pub(super) names: (usize, usize),
    /// What completion offers for its names.
    pub completes: CompletionKind,
    /// Whether it runs without a server.
    pub(super) is_local: bool,
    /// Whether it writes the content of files to standard output.
    pub(super) shows_content: bool,
    /// Runs the command with its arguments.
    pub(super) run: fn(&mut Shell, Args) -> Result<CommandOutcome>,
}

/// All local names.
pub const LOCAL: CompletionKind = CompletionKind::Local(NameFilter::All);
/// All remote names.
pub const REMOTE: CompletionKind = CompletionKind::Remote(NameFilter::All);

/// Any number of names.
pub const ANY: usize = usize::MAX;

/// A command without arguments, from which the others differ.
pub const PLAIN: Command = Command {
    name: "",
    aliases: &[],
    usage: "",
    summary: "",
    help: "",
    options: &[],
    names: (0, 0),
    completes: CompletionKind::Nothing,
    is_local: false,
    shows_content: false,
    run: |_, _| Ok(CommandOutcome::Ran {}),
};

/// A command on remote files and folders, from which others differ.
pub const ON_REMOTE_NAMES: Command =
    Command { names: (1, ANY), completes: CompletionKind::Remote(NameFilter::All), ..PLAIN };

/// The arguments of a command.
#[derive(Debug, Default)]
pub struct Args {
    pub names: Vec<String>,
    /// The given options with their values, which are empty for switches.
    options: Vec<(&'static str, String)>,
}

impl Args {
    /// Parses the words after the name of `command`.
    ///
    /// # Errors
    /// An option is unknown or has no value, or the number of names is wrong.
    pub fn parse(command: &Command, words: Vec<String>) -> Result<Self> {
        let wrong = |e: lexopt::Error| failure!(Usage, "{e}");
        let (mut parser, mut args) = (Parser::from_args(words), Self::default());
        while let Some(arg) = parser.next().map_err(wrong)? {
            let option = match arg {
                Arg::Value(name) => {
                    args.names.push(name.string().map_err(wrong)?);
                    continue;
                }
                Arg::Short(letter) => format!("-{letter}"),
                Arg::Long(word) => format!("--{word}"),
            };
            let Some((name, value)) = command.options.iter().find(|(name, _)| *name == option)
            else {
                fail!(Usage, "unknown option {option}")
            };
            let value = match value {
                Some(_) => parser.value().and_then(ValueExt::string).map_err(wrong)?,
                None => String::new(),
            };
            args.options.push((name, value));
        }
        match (command.names, args.names.len()) {
            ((_, 0), 1..) => fail!(Usage, "the command takes no names"),
            ((least, _), count) if count < least => fail!(Usage, "a name is missing"),
            ((_, most), count) if count > most => fail!(Usage, "too many names"),
            _ => Ok(args),
        }
    }

    /// Returns what `--if-version V` demands of the entry; anything without the option.
    ///
    /// # Errors
    /// There are several names, or the value is no version as `ls --json` and `stat` show it, such
    /// as `1-42`.
    pub fn if_version(&self) -> Result<Expect> {
        let Some(text) = self.value("--if-version") else { return Ok(Expect::Any) };
        if self.names.len() > 1 {
            fail!(Usage, "--if-version is for a single file or folder");
        }
        text.parse().map(Expect::Lsn).map_err(|_| {
            failure!(Usage, "{text:?} is not a version; stat shows the version, such as 1-42")
        })
    }

    /// Whether an option is given.
    pub fn has(&self, option: &str) -> bool {
        self.value(option).is_some()
    }

    /// Returns the last value of an option.
    pub fn value(&self, option: &str) -> Option<&str> {
        self.options.iter().rev().find(|(name, _)| *name == option).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Command {
        /// Returns the arguments in a line of the command.
        pub fn args(&self, words: &[&str]) -> Result<Args> {
            Args::parse(self, words.iter().map(|word| word.to_string()).collect())
        }
    }
}
