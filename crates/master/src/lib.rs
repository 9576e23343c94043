//! The master: redirects each client to the next slave in turn.
//!
//! The crate owns the accepted connections, the links of the slaves and the answers to operators.
//! `relais-cluster` chooses slaves and addresses; `relais-auth` checks proofs. One thread runs all
//! logins and answers clients. Each authenticated link has its own threads. One thread numbers all
//! changes and writes the journal. `ftpmaster` binds the socket, locks the state folder and handles
//! signals.

mod agent;
mod certifier;
mod command;
mod core;
mod linked_slaves;
mod login;
mod open_links;
mod operate;
mod operator;
mod outbox;
mod queries;
mod server;
mod slave_link;
pub mod status;
mod stop;
mod users_json;

pub use certifier::Certifier;
pub use command::{Operation, operate};
pub use relais_cluster::Balance;
pub use relais_coordinator::Store;
pub use server::{Config, MasterError, run};
pub use stop::StopHandle;
pub use users_json::users_json;

#[cfg(test)]
mod tests;
