//! The methods of files and folders: a module for each.

mod archive;
mod content;
pub mod delete;
pub mod get;
mod listing;
pub mod options;
pub mod put;
pub mod receive;
pub mod representation;
pub mod store;
mod wanted_hash;
