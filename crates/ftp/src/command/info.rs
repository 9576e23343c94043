//! The row of a command in the table.

use crate::command::argument::Argument;
use crate::command::error::Parsed;

pub(super) type Parser = fn(Argument<'_>) -> Parsed;

/// Name, arguments and parser of a command.
#[derive(Debug)]
pub struct CommandInfo {
    /// Upper-case name; with a space for a command of SITE.
    pub name: &'static str,
    /// Arguments, for HELP and for reply 501.
    pub syntax: &'static str,
    pub(super) parse: Parser,
}

impl CommandInfo {
    pub(super) const fn new(name: &'static str, syntax: &'static str, parse: Parser) -> Self {
        Self { name, syntax, parse }
    }

    /// Returns name and arguments.
    #[must_use]
    pub fn usage(&self) -> String {
        format!("{} {}", self.name, self.syntax).trim_end().to_owned()
    }
}
