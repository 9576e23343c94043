//! The first frames of a connection: the hello, and the reply to a login or a ticket.
//!
//! This module knows one server only. Retries and redirects are handled by its callers.

use std::net::SocketAddr;
use std::time::Duration;

use log::debug;
use relais_net::Connection;
use relais_proto::{ClusterId, Hello, Reply, Request, Role, ServerRole, VERSIONS, WaitReason};
use relais_transfer::exchange::{answer, answer_or_wait};
use relais_transfer::{Fault, TransferError};

use super::state::Session;
use crate::{Failure, Result};

/// Converts a fault of the server at `addr` into a failure.
pub fn into_failure(fault: Fault, addr: SocketAddr) -> Failure {
    match fault {
        Fault::Lost(why) => failure!(Unreachable, "{addr}: {why}"),
        Fault::Violation(why) => failure!(BadServer, "{addr} is not a valid server: {why}"),
        other => TransferError::from(other).into(),
    }
}

/// The server's description of itself.
#[derive(Debug, Clone, Copy)]
pub struct Welcome {
    /// Master, slave, or standalone slave.
    pub role: ServerRole,
    /// Cluster of the server.
    pub cluster: ClusterId,
}

/// Time limits for one server.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Limit for connecting.
    pub connect: Duration,
    /// Limit for silence until the session is open.
    pub silence: Duration,
}

impl Session {
    /// Sends the hello and a login or a ticket; returns the reply to it.
    ///
    /// Only a master or a standalone slave gets the password. With a password the client therefore
    /// reads the server's role first, which costs a round trip.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) fn introduce(
        &self,
        connection: &mut Connection,
        mut request: Request,
    ) -> Result<(Welcome, Reply), Fault> {
        self.observed.watch(connection, &self.notices, None);
        let agent = concat!("ftpclient ", env!("CARGO_PKG_VERSION"));
        connection.queue(&Request::Hello(Hello::new(Role::Client, agent)));
        let mut welcome = None;
        if let Request::Login(login) = &mut request
            && !login.password.is_empty()
        {
            connection.flush()?;
            let read = welcome.insert(read_welcome(connection)?);
            if read.role == ServerRole::Slave {
                login.password.clear();
            }
        }
        connection.queue(&request);
        connection.flush()?;
        let welcome = welcome.map_or_else(|| read_welcome(connection), Ok)?;
        let mut queued = 0_u32;
        let answer = answer_or_wait(connection, &mut |reason| {
            if reason == WaitReason::Queue {
                queued = queued.saturating_add(1);
                // The first `Wait` frame comes at once, the second after a second.
                if queued == 2 {
                    self.notices.say("waiting for a free slot");
                }
            }
        })?;
        Ok((welcome, answer))
    }
}

pub(super) fn read_welcome(connection: &mut Connection) -> Result<Welcome, Fault> {
    match answer(connection)? {
        Reply::Welcome { version, role, cluster, agent, .. }
            if (VERSIONS.0..=VERSIONS.1).contains(&version) =>
        {
            debug!("{} is {agent:?}, {role:?} of {cluster}", connection.peer());
            // A compromised slave holds a slave's certificate, so it gets no passwords.
            let identity = connection.tls_info().and_then(|secured| secured.identity);
            if role != ServerRole::Slave && identity.is_some_and(|identity| !identity.is_master) {
                return Err(Fault::Violation(
                    "it accepts logins, but its certificate is that of a slave".to_owned(),
                ));
            }
            Ok(Welcome { role, cluster })
        }
        Reply::Welcome { version, .. } => {
            Err(Fault::Violation(format!("it chose version {version} of the protocol")))
        }
        other => Err(Fault::unexpected(&other)),
    }
}
