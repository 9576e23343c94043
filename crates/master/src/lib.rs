//! The master: redirects each client to the next slave in turn.
//!
//! The crate owns the accepted connections, the links of the slaves and the answers to operators.
//! `relais-cluster` chooses slaves and addresses; `relais-auth` checks proofs. One thread runs all
//! logins and answers clients. Each authenticated link has its own threads. One thread numbers all
//! changes and writes the journal. `ftpmaster` binds the socket, locks the state folder and handles
//! signals.

mod agent;
mod announcements;
mod certifier;
mod core;
mod events;
mod forwarded_logins;
mod http;
mod http_config;
mod json_object;
mod linked_slaves;
mod log_outs;
mod login;
mod logins;
mod open_links;
mod operate;
mod operator;
mod operator_client;
mod outbox;
mod path_uploads;
mod peer_login;
mod queries;
mod server;
mod slave_link;
pub mod status;
mod users_json;

pub use self::core::Config;
pub use certifier::Certifier;
pub use http_config::{ClearPasswords, HttpConfig, HttpListener};
pub use operator_client::{OperatorClient, OperatorError};
pub use relais_cluster::Balance;
pub use relais_coordinator::Store;
pub use relais_proto::Operation;
pub use server::{MasterError, MasterRequest, run};
pub use users_json::users_json;

#[cfg(test)]
mod tests;
