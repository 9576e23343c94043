//! What a session may do: commands, rights, freshness, uploads, the transfer log and waiting.
//!
//! The engine knows neither frames nor sockets. Front ends turn its outcomes into bytes.

pub mod active_uploads;
mod change_ids;
mod changes;
mod content;
mod entry;
pub mod hash_semaphore;
mod listing;
pub mod owner;
pub mod pending_changes;
mod pieces;
pub mod requests;
pub mod serving;
mod status;
pub mod transfers;
mod uploads;
