//! The loop of an FTP session: reads commands in turn, has them run, and sends their replies.
//!
//! Only [`respond`] and the preliminary replies of transfers write to the control connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info};
use relais_engine::{Engine, Session};
use relais_ftp::{Command, DataProtection, LineBuffer, Reply};
use relais_net::Stream;
use relais_proto::{ErrorCode, LogRateLimiter, Refusal};

use super::FtpContext;
use super::commands;
use super::control::Received;
use super::data::Interruption;
use super::refusals::{ends_session, reply_to};
use super::session::{CommandError, CommandResult, FtpSession, FtpStart, NextStep};
use crate::front::native::login::LoginService;

/// How a session ends.
pub enum SessionExit {
    /// The connection is closed.
    Closed,
    /// The client logs in again (REIN), with the input that is not used yet.
    Reinitialized(Arc<Stream>, LineBuffer),
}

/// Renews the login of a session before each command, if it has to be.
pub trait LoginRenewal: Send + Sync {
    /// Renews it with the present rights of the user.
    ///
    /// # Errors
    /// [`BadTicket`](relais_proto::ErrorCode::BadTicket) if the login has ended for
    /// good; others if it cannot be renewed now.
    fn renew(&self, session: &mut Session) -> Result<(), Refusal>;
}

impl LoginRenewal for LoginService {
    fn renew(&self, session: &mut Session) -> Result<(), Refusal> {
        session.renew_login()
    }
}

/// Serves one session until either side ends it, or its client logs in again.
pub fn serve(
    start: FtpStart,
    logins: &Arc<dyn LoginRenewal>,
    engine: &Arc<Engine>,
    context: &Arc<FtpContext>,
) -> SessionExit {
    let peer = start.stream.peer;
    let mut ftp = match FtpSession::open(start, engine, context) {
        Ok(ftp) => ftp,
        Err(e) => {
            debug!("{peer}: the client disconnected before its session began: {e}");
            return SessionExit::Closed;
        }
    };
    match run(&mut ftp, &**logins) {
        Ok(Ending::LogIn) => {
            let (stream, input) = ftp.control.into_parts();
            return SessionExit::Reinitialized(stream, input);
        }
        Ok(Ending::Client) => debug!("{peer}: the client closed the session"),
        Ok(Ending::Quit) => ftp.control.close_gracefully(),
        Ok(Ending::Server(why)) => {
            static CLOSED: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = CLOSED.allow(Instant::now()) {
                info!("{peer}: the slave closes the FTP session: {why}{more}");
            }
            ftp.control.close_gracefully();
        }
        Err(e) => debug!("{peer}: the session was cut: {e}"),
    }
    SessionExit::Closed
}

/// How long a handshake that precedes its command waits for it, if data connections must resume.
///
/// A client that uses each session ticket once needs another one for its next transfer.
const COMMAND_WAIT: Duration = Duration::from_secs(1);

/// Why the loop of a session has ended.
enum Ending {
    /// The client has closed the connection.
    Client,
    /// The client wants the connection closed.
    Quit,
    /// The slave closes it, after a reply that says so.
    Server(String),
    /// The client logs in again.
    LogIn,
}

fn run(ftp: &mut FtpSession, logins: &dyn LoginRenewal) -> io::Result<Ending> {
    loop {
        let tls = match ftp.state.settings.protection {
            DataProtection::Private => ftp.context.tls.as_ref(),
            DataProtection::Clear => None,
        };
        let arriving = tls.and_then(|_| ftp.data.arriving());
        let line = match ftp.control.next_line(ftp.data.expires(), arriving) {
            Ok(Received::Line(line)) => line,
            Ok(Received::Woken) => {
                ftp.data.close_expired(Instant::now());
                continue;
            }
            Ok(Received::DataConnection) => {
                if let Some(tls) = tls {
                    let is_required = ftp.context.config.tls_reuse_required;
                    let patience = if is_required { COMMAND_WAIT } else { Duration::ZERO };
                    ftp.data.advance_encryption(tls, ftp.control.stream(), patience);
                }
                continue;
            }
            Ok(Received::Closed) => return Ok(Ending::Client),
            Ok(Received::Stopped) => return end_with(ftp, "the server is stopping"),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return end_with(ftp, &e.to_string()),
            Err(e) => return Err(e),
        };
        let result = match line.map(|line| Command::parse(&line)) {
            Ok(Ok(command)) => execute(ftp, logins, command),
            Ok(Err(error)) => Err(error.reply().into()),
            Err(error) => Err(error.reply().into()),
        };
        respond(ftp, result)?;
        match ftp.next {
            NextStep::Read => {}
            NextStep::Quit => return Ok(Ending::Quit),
            NextStep::Close => return Ok(Ending::Server("its login has ended".to_owned())),
            NextStep::LogIn => return Ok(Ending::LogIn),
        }
    }
}

/// Ends the session with reply 421, which may come at any time (RFC 959 section 5.4).
fn end_with(ftp: &mut FtpSession, why: &str) -> io::Result<Ending> {
    ftp.control.send(&Reply::new(421, why))?;
    Ok(Ending::Server(why.to_owned()))
}

fn execute(ftp: &mut FtpSession, logins: &dyn LoginRenewal, command: Command) -> CommandResult {
    if !matches!(command, Command::Quit | Command::Rein) {
        logins.renew(&mut ftp.session)?;
        ftp.session.check_open()?;
    }
    ftp.control.activity.begin(command.info().name.to_owned());
    let result = commands::run(ftp, command);
    ftp.control.activity.end();
    result
}

/// Sends the last reply to a command, and that to an ABOR which came meanwhile.
fn respond(ftp: &mut FtpSession, result: CommandResult) -> io::Result<()> {
    let reply = match result {
        Ok(reply) | Err(CommandError::Reply(reply)) => reply,
        // The engine was told to stop, and not why.
        Err(CommandError::Refused(refusal))
            if refusal.code == ErrorCode::Cut && ftp.control.is_aborted() =>
        {
            Reply::new(426, Interruption::Aborted.to_string())
        }
        Err(CommandError::Refused(refusal)) => {
            if ends_session(refusal.code) {
                ftp.next = NextStep::Close;
            }
            reply_to(&refusal)
        }
        Err(CommandError::Connection(error)) => return Err(error),
    };
    ftp.control.send(&reply)?;
    if ftp.control.take_abort() {
        // RFC 959 section 4.1.3: after 426, or after the reply of a command that was complete.
        ftp.control.send(&Reply::new(226, "ABOR: done"))?;
    }
    Ok(())
}
