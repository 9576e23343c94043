//! The first frames on one connection: who the server is, and what it says to a login or a ticket.
//!
//! Knows nothing of other servers, of trying again, or of where a redirect leads.

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

/// What went wrong with one server.
#[derive(Debug)]
pub enum ServerError {
    /// It cannot be reached, closed the connection, or is silent: another one may do.
    Disconnected(String),
    /// It understood and refused.
    Refused(Refusal),
    /// It does not have the content yet, and these have it.
    Elsewhere(Vec<Endpoint>),
    /// It broke the protocol.
    Protocol(String),
    /// Not the server's fault: whoever took its answers wants no more of them.
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
    /// As a failure of the server at `addr`.
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
            Self::Protocol(why) => Failure::bad_server(format!("{addr} is no good server: {why}")),
        }
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Welcome {
    /// Master, slave, or one that stands alone.
    pub role: ServerRole,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// What a server answers to a login or a ticket.
#[derive(Debug)]
pub enum LoginReply {
    /// A master's.
    Redirect {
        /// For the slaves.
        ticket: Vec<u8>,
        /// The latest change.
        lsn: Lsn,
        /// At least one.
        slaves: Vec<Endpoint>,
    },
    /// The session is open.
    Opened {
        /// Which slave it is.
        slave: SlaveId,
        /// The latest change that it has.
        lsn: Lsn,
    },
    /// A slave's of a cluster that was shown no ticket.
    AskMaster(String),
}

/// How long one server may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To be connected to.
    pub connect: Duration,
    /// Without a word, until the session is open.
    pub silence: Duration,
}

/// Says hello and logs in.
///
/// A password goes only to a server that has said that it is a master or stands alone, so
/// that a slave is never told it; that costs a round trip, which a login without one saves.
///
/// # Errors
/// What went wrong.
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

/// Says hello and shows a ticket.
///
/// # Errors
/// What went wrong.
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
            // Whoever has taken over a slave has its certificate, and gets no passwords for it.
            let identity = connection.tls_info().and_then(|secured| secured.identity);
            if role != ServerRole::Slave && identity.is_some_and(|identity| !identity.is_master) {
                return Err(ServerError::Protocol(
                    "it says that it takes logins, and its certificate is that of a slave"
                        .to_owned(),
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

/// The next reply that is no sign of life; each of those is shown to `wait`. They put the answer off, but not for ever.
///
/// # Errors
/// A refusal, or what went wrong with the connection.
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
                return Err(ServerError::Disconnected("no answer came in time".to_owned()));
            }
            Some(Reply::Wait(reason)) => wait(reason),
            Some(Reply::MasterUnreachable { .. }) => {}
            Some(Reply::Error(refusal)) => return Err(ServerError::Refused(refusal)),
            Some(reply) => return Ok(reply),
        }
    }
}

/// A reply that has no place here.
#[must_use]
pub fn unexpected(reply: &Reply) -> ServerError {
    ServerError::Protocol(WireError::Unexpected(reply.frame_type().number()).to_string())
}
