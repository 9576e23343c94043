//! Commands: their table, their arguments and their parser.
//!
//! `model` has the values, `argument` the forms that several commands share, `parsers` and `site`
//! one function for each argument, `table` the rows, and `parse` takes a line apart.

mod argument;
mod error;
mod info;
mod model;
mod parse;
mod parsers;
mod site;
mod table;
#[cfg(test)]
mod tests;

pub use error::ParseError;
pub use info::CommandInfo;
pub use model::{
    Command, DataProtection, EpsvRequest, HashOption, OptsCommand, SiteCommand, TransferType,
};
pub use site::SITE_COMMANDS;
pub use table::COMMANDS;
