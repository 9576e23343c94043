//! The front end for FTP: RFC 959 and its extensions, over the session engine.
//!
//! `login` runs before the login, in the pool. `session` is one thread for each session: `control`
//! is its control connection, `commands` has a function for each command, and `data` and `transfer`
//! are the data connections. Nothing here decides about rights, paths of other users or freshness:
//! that is the engine's.

mod activity;
mod commands;
pub mod control;
mod refusals;
pub mod session;
pub mod state;
#[cfg(test)]
mod tests;

use relais_net::tls::TlsServer;

use crate::config::FtpConfig;

/// What all FTP sessions of a worker share.
pub struct FtpContext {
    /// The settings.
    pub config: FtpConfig,
    /// The TLS configuration of control and data connections; none if TLS is off.
    pub tls: Option<TlsServer>,
}
