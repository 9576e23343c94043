//! Commands: their table, their arguments and their parser.
//!
//! `model` has the values, `argument` the forms that several commands share, `table` the rows, and
//! `parse` takes a line apart. Each family of commands has a file with one function for each
//! argument.

mod argument;
mod checksum;
mod data_address;
mod error;
mod info;
mod model;
mod parse;
mod security;
mod session;
mod set_time;
mod site;
mod table;
#[cfg(test)]
mod tests;
mod transfer;

pub use error::ParseError;
pub use info::CommandInfo;
pub use model::{
    Command, DataProtection, EpsvRequest, HashOption, OptsCommand, RangeRequest, SiteCommand,
    TransferType,
};
pub use site::SITE_COMMANDS;
pub use table::COMMANDS;
