//! The commands: the table, the parsing of a line, and the handlers.

mod changes;
mod command;
mod each_name;
mod folders;
mod get;
mod listing;
mod local_command;
mod put;
mod status;
mod table;
mod transfers;
mod trees;

pub use command::{CommandOption, CompletionKind, NameFilter};
pub use table::{CommandStatus, ParsedCommand, TABLE, find, report_outcome};
