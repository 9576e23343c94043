//! The first frames of a connection: the hello, and the reply to a login or a ticket.
//!
//! This module knows one server only. Retries and redirects are handled by its callers.

use std::net::SocketAddr;
use std::time::Duration;

use log::debug;
use relais_net::Connection;
use relais_proto::{
    ClusterId, Endpoint, Hello, Login, Lsn, Reply, Request, Role, ServerRole, SlaveId, VERSIONS,
    WaitReason,
};
use relais_transfer::exchange::{answer, answer_or_wait};
use relais_transfer::{Fault, TransferError};

use crate::Failure;

/// Converts a fault of the server at `addr` into a failure.
pub fn into_failure(fault: Fault, addr: SocketAddr) -> Failure {
    match fault {
        Fault::Lost(why) => failure!(Unreachable, "{addr}: {why}"),
        Fault::Violation(why) => failure!(BadServer, "{addr} is not a valid server: {why}"),
        Fault::Elsewhere(_) => failure!(NoContent, "{addr} does not have the content yet"),
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

/// The reply to a login or a ticket.
#[derive(Debug)]
pub enum LoginReply {
    /// A master's redirect to its slaves.
    Redirect {
        /// Ticket for the slaves.
        ticket: Vec<u8>,
        /// LSN of the latest change.
        lsn: Lsn,
        /// At least one slave.
        slaves: Vec<Endpoint>,
    },
    /// The session is open.
    Opened {
        /// Id of the slave.
        slave: SlaveId,
        /// LSN of the latest change that the slave has.
        lsn: Lsn,
    },
    /// A slave of a cluster got a login without a ticket and names its master.
    AskMaster(String),
}

/// Time limits for one server.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Limit for connecting.
    pub connect: Duration,
    /// Limit for silence until the session is open.
    pub silence: Duration,
}

/// Sends the hello and logs in.
///
/// Only a master or a standalone slave gets the password. With a password the client therefore
/// reads the server's role first, which costs a round trip.
///
/// # Errors
/// See [`Fault`].
pub fn log_in(
    connection: &mut Connection,
    login: &Login,
    wait: &mut dyn FnMut(WaitReason),
) -> Result<(Welcome, LoginReply), Fault> {
    connection.queue(&hello());
    if login.password.is_empty() {
        connection.queue(&Request::Login(login.clone()));
        connection.flush()?;
        let welcome = read_welcome(connection)?;
        return Ok((welcome, read_login_reply(connection, wait)?));
    }
    connection.flush()?;
    let welcome = read_welcome(connection)?;
    let password =
        if welcome.role == ServerRole::Slave { Vec::new() } else { login.password.clone() };
    connection.queue(&Request::Login(Login { password, ..login.clone() }));
    connection.flush()?;
    Ok((welcome, read_login_reply(connection, wait)?))
}

/// Sends the hello and a ticket.
///
/// # Errors
/// See [`Fault`].
pub fn show_ticket(
    connection: &mut Connection,
    ticket: &[u8],
    lsn: Lsn,
    wait: &mut dyn FnMut(WaitReason),
) -> Result<(Welcome, LoginReply), Fault> {
    connection.queue(&hello());
    connection.queue(&Request::Ticket { ticket: ticket.to_vec(), lsn });
    connection.flush()?;
    let welcome = read_welcome(connection)?;
    Ok((welcome, read_login_reply(connection, wait)?))
}

fn hello() -> Request {
    Request::Hello(Hello::new(Role::Client, concat!("ftpclient ", env!("CARGO_PKG_VERSION"))))
}

fn read_welcome(connection: &mut Connection) -> Result<Welcome, Fault> {
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

fn read_login_reply(
    connection: &mut Connection,
    wait: &mut dyn FnMut(WaitReason),
) -> Result<LoginReply, Fault> {
    match answer_or_wait(connection, wait)? {
        Reply::Redirect { ticket, lsn, slaves } => Ok(LoginReply::Redirect { ticket, lsn, slaves }),
        Reply::Opened { slave, lsn, .. } => Ok(LoginReply::Opened { slave, lsn }),
        Reply::AskMaster(addr) => Ok(LoginReply::AskMaster(addr)),
        other => Err(Fault::unexpected(&other)),
    }
}
