//! The first frames of a connection: the hello, and the reply to a login or a ticket.
//!
//! This module knows one server only. Retries and redirects are handled by its callers.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::Connection;
use relais_proto::{
    ClusterId, Endpoint, ErrorCode, Hello, Login, Lsn, Refusal, Reply, Request, Role, ServerRole,
    SlaveId, VERSIONS, WaitReason, WireError, limits,
};

use crate::Failure;
use crate::error::why_gone;

/// The failure of one server.
#[derive(Debug)]
pub enum ServerError {
    /// The server cannot be reached, closed the connection or is silent; another one may answer.
    Disconnected(String),
    /// The server refused the request.
    Refused(Refusal),
    /// The server does not have the content yet; these slaves have it.
    Elsewhere(Vec<Endpoint>),
    /// The server broke the protocol.
    Protocol(String),
    /// The consumer of the replies stopped the request; the server did nothing wrong.
    Aborted(Failure),
}

impl From<WireError> for ServerError {
    fn from(error: WireError) -> Self {
        match &error {
            WireError::Io(_) | WireError::Truncated => Self::Disconnected(why_gone(&error)),
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        WireError::Io(error).into()
    }
}

impl ServerError {
    /// Converts the error into a failure of the server at `addr`.
    #[must_use]
    pub fn into_failure(self, addr: SocketAddr) -> Failure {
        match self {
            Self::Disconnected(why) => {
                Failure::new(ErrorCode::Unreachable, format!("{addr}: {why}"))
            }
            Self::Refused(refusal) => refusal.into(),
            Self::Aborted(failure) => failure,
            Self::Elsewhere(_) => {
                Failure::new(ErrorCode::NoContent, format!("{addr} does not have the content yet"))
            }
            Self::Protocol(why) => {
                Failure::bad_server(format!("{addr} is not a valid server: {why}"))
            }
        }
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
/// See [`ServerError`].
pub fn log_in(
    connection: &mut Connection,
    login: &Login,
    wait: &mut dyn FnMut(WaitReason),
) -> Result<(Welcome, LoginReply), ServerError> {
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
/// See [`ServerError`].
pub fn show_ticket(
    connection: &mut Connection,
    ticket: &[u8],
    lsn: Lsn,
    wait: &mut dyn FnMut(WaitReason),
) -> Result<(Welcome, LoginReply), ServerError> {
    connection.queue(&hello());
    connection.queue(&Request::Ticket { ticket: ticket.to_vec(), lsn });
    connection.flush()?;
    let welcome = read_welcome(connection)?;
    Ok((welcome, read_login_reply(connection, wait)?))
}

fn hello() -> Request {
    let agent = concat!("ftpclient ", env!("CARGO_PKG_VERSION")).to_owned();
    Request::Hello(Hello { role: Role::Client, versions: VERSIONS, agent })
}

fn read_welcome(connection: &mut Connection) -> Result<Welcome, ServerError> {
    match next_reply(connection, &mut |_| {})? {
        Reply::Welcome { version, role, cluster, agent }
            if (VERSIONS.0..=VERSIONS.1).contains(&version) =>
        {
            debug!("{} is {agent:?}, {role:?} of {cluster}", connection.peer());
            // A compromised slave holds a slave's certificate, so it gets no passwords.
            let identity = connection.tls_info().and_then(|secured| secured.identity);
            if role != ServerRole::Slave && identity.is_some_and(|identity| !identity.is_master) {
                return Err(ServerError::Protocol(
                    "it accepts logins, but its certificate is that of a slave".to_owned(),
                ));
            }
            Ok(Welcome { role, cluster })
        }
        Reply::Welcome { version, .. } => {
            Err(ServerError::Protocol(format!("it chose version {version} of the protocol")))
        }
        other => Err(unexpected(&other)),
    }
}

fn read_login_reply(
    connection: &mut Connection,
    wait: &mut dyn FnMut(WaitReason),
) -> Result<LoginReply, ServerError> {
    match next_reply(connection, wait)? {
        Reply::Redirect { ticket, lsn, slaves } => Ok(LoginReply::Redirect { ticket, lsn, slaves }),
        Reply::Opened { slave, lsn, .. } => Ok(LoginReply::Opened { slave, lsn }),
        Reply::AskMaster(addr) => Ok(LoginReply::AskMaster(addr)),
        other => Err(unexpected(&other)),
    }
}

/// Reads the next reply other than a keep-alive; passes each `Wait` reason to `wait`.
///
/// Keep-alives extend the wait up to [`limits::IDLE_TIME`].
///
/// # Errors
/// The server refuses, or the connection fails.
pub fn next_reply(
    connection: &mut Connection,
    wait: &mut dyn FnMut(WaitReason),
) -> Result<Reply, ServerError> {
    let begun = Instant::now();
    loop {
        match connection.read_reply()? {
            None => return Err(ServerError::Disconnected("connection closed".to_owned())),
            Some(Reply::Wait(_) | Reply::MasterUnreachable { .. })
                if begun.elapsed() > limits::IDLE_TIME =>
            {
                return Err(ServerError::Disconnected("no reply in time".to_owned()));
            }
            Some(Reply::Wait(reason)) => wait(reason),
            Some(Reply::MasterUnreachable { .. }) => {}
            Some(Reply::Error(refusal)) => return Err(ServerError::Refused(refusal)),
            Some(reply) => return Ok(reply),
        }
    }
}

/// The error for a reply of the wrong type.
#[must_use]
pub fn unexpected(reply: &Reply) -> ServerError {
    ServerError::Protocol(WireError::Unexpected(reply.frame_type().number()).to_string())
}
