//! The catalogue: the content of the served folder, in `.relais/catalogue.db`.
//!
//! One process writes it. Its writer scans the folder at the start and then follows it by inotify.
//! Other processes only read. The catalogue can always be rebuilt from the folder.

mod annotations;
mod columns;
mod content_hashes;
mod database;
mod empty_tables;
pub mod events;
mod locks;
pub mod path_listing;
mod properties;
pub mod reader;
pub mod replica_state;
mod retained;
pub mod row;
pub mod skipped;
pub mod store;
pub mod unapplied;
