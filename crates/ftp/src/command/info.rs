//! The row of a command in the table.

use crate::command::argument::Argument;
use crate::command::error::Parsed;

pub(super) type Parser = fn(Argument<'_>) -> Parsed;

/// What the server knows about a command before it executes it.
#[derive(Debug)]
pub struct CommandInfo {
    /// Upper-case name; with a space for a command of SITE.
    pub name: &'static str,
    /// Arguments, for HELP and for reply 501.
    pub syntax: &'static str,
    /// Whether it is refused with 530 before the login.
    pub needs_login: bool,
    /// Whether it changes the tree, so that a user without that right is refused.
    pub writes: bool,
    /// Whether it can be executed during a transfer, without waiting for its end: ABOR, STAT.
    pub during_transfer: bool,
    pub(super) parse: Parser,
}

impl CommandInfo {
    pub(super) const fn new(name: &'static str, syntax: &'static str, parse: Parser) -> Self {
        let (needs_login, writes, during_transfer) = (true, false, false);
        Self { name, syntax, needs_login, writes, during_transfer, parse }
    }

    pub(super) const fn without_login(mut self) -> Self {
        self.needs_login = false;
        self
    }

    pub(super) const fn writing(mut self) -> Self {
        self.writes = true;
        self
    }

    pub(super) const fn during_transfer(mut self) -> Self {
        self.during_transfer = true;
        self
    }

    /// Returns name and arguments.
    #[must_use]
    pub fn usage(&self) -> String {
        format!("{} {}", self.name, self.syntax).trim_end().to_owned()
    }
}
