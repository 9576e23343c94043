//! The master: sends each client to the next slave in turn.
//!
//! Owns the listening socket's connections, the links of the slaves and the
//! answers to operators. It decides nothing about whose turn it is and what an
//! address is good for (that is `relais-cluster`), and checks no proof itself
//! (that is `relais-state`). One thread leads all connections through their
//! login and answers clients; each link that has given its proof has threads
//! of its own; one thread numbers all changes and writes the journal. Called by `ftpmaster`, which binds, locks the state and sees to signals.

mod certifier;
mod command;
mod core;
mod lines;
mod links;
mod login;
mod operate;
mod operator;
mod order;
mod outbox;
mod queries;
mod server;
mod shown;
mod slave_link;
pub mod status;
mod stop;
mod users;

pub use certifier::Certifier;
pub use command::{Operation, operate};
pub use order::{FoldersError, Store, StoreError};
pub use relais_cluster::Balance;
pub use server::{Config, MasterError, run};
pub use stop::Stop;
pub use users::users_json;

/// Program and version, as peers hear it.
const AGENT: &str = concat!("ftpmaster ", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests;
