//! The front end for FTP: RFC 959 and its extensions, over the session engine.
//!
//! `login` runs before the login, in the pool. `serve` is the loop of one thread for each session,
//! and `session` its state: `control` is its control connection, `commands` has a function for each
//! command, `listing` the lines of listings, and `data` and `transfer` are the data connections.
//! Nothing here decides about rights, paths of other users or freshness: that is the engine's.

mod activity;
mod commands;
pub mod control;
mod data;
mod listing;
pub mod login;
mod refusals;
pub mod serve;
pub mod session;
pub mod state;
#[cfg(test)]
mod tests;
mod transfer;

use std::sync::Arc;

use relais_ftp::Reply;
use relais_net::tls::TlsServer;

use self::state::LoginSettings;
use crate::config::FtpConfig;
use crate::front::replica_stream::ReplicaDialer;

/// What all FTP sessions of a worker share.
pub struct FtpContext {
    /// The settings.
    pub config: FtpConfig,
    /// The TLS configuration of control and data connections; none if TLS is off.
    pub tls: Option<TlsServer>,
    /// Opens sessions with the slaves that have content which is not here.
    pub replicas: Arc<ReplicaDialer>,
}

impl FtpContext {
    /// FEAT: RFC 2389 section 3.
    #[must_use]
    pub fn features(&self, settings: &LoginSettings) -> Reply {
        relais_ftp::features(self.tls.is_some(), &settings.facts, settings.hash)
    }
}
