//! One FTP session: reads commands in turn, has them run, and sends their replies.
//!
//! It belongs to one thread. Handlers return a reply or an error; only [`FtpSession::respond`] and
//! the preliminary replies of transfers write to the control connection.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info};
use relais_engine::{Committed, Engine, PreparedChange, Principal, Protocol, Session};
use relais_ftp::path::{self, PathError};
use relais_ftp::{Command, LineBuffer, Reply};
use relais_net::Stream;
use relais_proto::{
    Attributes, ChangeId, Entry, ErrorCode, Expect, Kind, LogRateLimiter, Refusal, TreePath,
};

use super::FtpContext;
use super::commands;
use super::control::{CommitKeepAlive, Control, ControlKeepAlive, Received};
use super::data::DataPort;
use super::refusals::{ends_session, reply_to};
use super::state::{LoginSettings, SessionState};
use crate::front::native::login::LoginService;

/// Why a command has failed.
#[derive(Debug)]
pub enum CommandError {
    /// The engine refuses it.
    Refused(Refusal),
    /// The front end refuses it.
    Reply(Reply),
    /// The control connection has failed, so no reply can be sent.
    Connection(io::Error),
}

/// The last reply to a command, or why it has failed.
pub type CommandResult = Result<Reply, CommandError>;

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Reply> for CommandError {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// A session of a user that has logged in.
pub struct FtpSession {
    /// The control connection.
    pub control: Control,
    /// How the next data connection comes about.
    pub data: DataPort,
    /// What the user may do.
    pub session: Session,
    /// What all FTP sessions of the worker share.
    pub context: Arc<FtpContext>,
    logins: Arc<dyn LoginRenewal>,
    /// What earlier commands have set.
    pub state: SessionState,
    /// What follows the present reply.
    pub next: NextStep,
}

/// What a session does after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// It reads the next command.
    Read,
    /// It closes the connection.
    Close,
    /// It gives the connection back, because the client logs in again.
    LogIn,
}

/// A connection whose client has logged in.
pub struct FtpStart {
    /// The control connection.
    pub stream: Arc<Stream>,
    /// What was read after the login.
    pub input: LineBuffer,
    /// That of its listener: `Ftp` or `Ftps`.
    pub protocol: Protocol,
    /// The user.
    pub principal: Principal,
    /// What the client has set before the login.
    pub settings: LoginSettings,
}

/// How a session ends.
pub enum SessionEnd {
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
    /// [`ErrorCode::BadTicket`] if the login has ended for good; others if it cannot be renewed now.
    fn renew(&self, session: &mut Session) -> Result<(), Refusal>;
}

impl LoginRenewal for LoginService {
    fn renew(&self, session: &mut Session) -> Result<(), Refusal> {
        session.renew_login(&self.authenticator)
    }
}

/// Serves one session until either side ends it, or its client logs in again.
pub fn serve(
    start: FtpStart,
    logins: &Arc<dyn LoginRenewal>,
    engine: &Arc<Engine>,
    context: &Arc<FtpContext>,
) -> SessionEnd {
    let peer = start.stream.peer;
    let opened = FtpSession::open(start, logins, engine, context);
    let (end, ftp) = match opened {
        Ok(mut ftp) => (ftp.run(), ftp),
        Err(e) => {
            debug!("{peer}: the client disconnected before its session began: {e}");
            return SessionEnd::Closed;
        }
    };
    match end {
        Ok(Ending::LogIn) => {
            let (stream, input) = ftp.control.into_parts();
            return SessionEnd::Reinitialized(stream, input);
        }
        Ok(Ending::Client) => debug!("{peer}: the client closed the session"),
        Ok(Ending::Server(why)) => {
            static CLOSED: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = CLOSED.allow(Instant::now()) {
                info!("{peer}: the slave closes the FTP session: {why}{more}");
            }
            ftp.control.close_gracefully();
        }
        Err(e) => debug!("{peer}: the session was cut: {e}"),
    }
    SessionEnd::Closed
}

/// Why the loop of a session has ended.
enum Ending {
    /// The client closes the connection.
    Client,
    /// The slave closes it, after a reply that says so.
    Server(String),
    /// The client logs in again.
    LogIn,
}

impl FtpSession {
    fn open(
        start: FtpStart,
        logins: &Arc<dyn LoginRenewal>,
        engine: &Arc<Engine>,
        context: &Arc<FtpContext>,
    ) -> io::Result<Self> {
        let FtpStart { stream, input, protocol, principal, settings } = start;
        let (peer, weak) = (stream.peer, Arc::downgrade(&stream));
        let disconnect = Arc::new(move || {
            if let Some(stream) = weak.upgrade() {
                // It may be closed already; then its session ends without this.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Ok(Self {
            data: DataPort::new(&stream),
            control: Control::new(stream, input)?,
            session: Session::new(engine.clone(), principal, protocol, peer, disconnect),
            context: context.clone(),
            logins: logins.clone(),
            state: SessionState { settings, ..SessionState::default() },
            next: NextStep::Read,
        })
    }

    fn run(&mut self) -> io::Result<Ending> {
        loop {
            let line = match self.control.next_line() {
                Ok(Received::Line(line)) => line,
                Ok(Received::Closed) => return Ok(Ending::Client),
                Ok(Received::Stopped) => return self.end_with("the server is stopping"),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    return self.end_with(&e.to_string());
                }
                Err(e) => return Err(e),
            };
            let result = match line.map(|line| Command::parse(&line)) {
                Ok(Ok(command)) => self.execute(command),
                Ok(Err(error)) => Err(error.reply().into()),
                Err(error) => Err(error.reply().into()),
            };
            self.respond(result)?;
            match self.next {
                NextStep::Read => {}
                NextStep::Close => return Ok(Ending::Server("it has ended".to_owned())),
                NextStep::LogIn => return Ok(Ending::LogIn),
            }
        }
    }

    /// Ends the session with reply 421, which may come at any time (RFC 959 section 5.4).
    fn end_with(&mut self, why: &str) -> io::Result<Ending> {
        self.control.send(&Reply::new(421, why))?;
        Ok(Ending::Server(why.to_owned()))
    }

    fn execute(&mut self, command: Command) -> CommandResult {
        if !matches!(command, Command::Quit | Command::Rein) {
            self.logins.renew(&mut self.session)?;
            self.session.check_open()?;
        }
        self.control.activity.begin(command.info().name.to_owned());
        let result = commands::run(self, command);
        self.control.activity.end();
        result
    }

    /// Sends the last reply to a command, and that to an ABOR which came meanwhile.
    fn respond(&mut self, result: CommandResult) -> io::Result<()> {
        let reply = match result {
            Ok(reply) | Err(CommandError::Reply(reply)) => reply,
            Err(CommandError::Refused(refusal)) => {
                if ends_session(refusal.code) {
                    self.next = NextStep::Close;
                }
                reply_to(&refusal)
            }
            Err(CommandError::Connection(error)) => return Err(error),
        };
        self.control.send(&reply)?;
        if self.control.take_abort() {
            // RFC 959 section 4.1.3: after 426, or after the reply of a command that was complete.
            self.control.send(&Reply::new(226, "ABOR: done"))?;
        }
        Ok(())
    }

    /// Returns the path that a command names.
    ///
    /// # Errors
    /// The reply for a path that breaks the rules for names, or leads above the root.
    pub fn path(&self, argument: &str) -> Result<TreePath, Reply> {
        path::resolve(&self.state.cwd, argument).map_err(|error| {
            let code = match error {
                PathError::AboveRoot | PathError::Reserved => 550,
                PathError::Name(_) => 553,
            };
            Reply::new(code, error.to_string())
        })
    }

    /// Returns the file or folder at a path.
    ///
    /// # Errors
    /// The refusal if there is none; those of [`Session::check_ready`].
    pub fn entry(&mut self, path: &TreePath) -> Result<Entry, Refusal> {
        let keepalive = &mut ControlKeepAlive(&mut self.control);
        // Unlike `stat` this does not ask the master for the holders of the content.
        let list = self.session.stat_many(std::slice::from_ref(path), keepalive)?;
        let missing = || Refusal::new(ErrorCode::NotFound, "no such file or folder");
        let (entry, _) = list.results.into_iter().next().ok_or_else(missing)??;
        Ok(entry)
    }

    /// As [`Self::entry`], and it is a file.
    ///
    /// # Errors
    /// As [`Self::entry`].
    pub fn file(&mut self, path: &TreePath) -> Result<Entry, Refusal> {
        let entry = self.entry(path)?;
        if entry.kind == Kind::Folder {
            return Err(Refusal::at(path, ErrorCode::IsFolder, "a folder, not a file")
                .below(&TreePath::root()));
        }
        Ok(entry)
    }

    /// Returns the id of a new change.
    ///
    /// # Errors
    /// The kernel provides no random bytes.
    pub fn change_id() -> Result<ChangeId, Refusal> {
        let bytes = relais_os::random();
        bytes.map(ChangeId).map_err(|e| Refusal::new(ErrorCode::Storage, e.to_string()))
    }

    /// Sets attributes of a file or folder.
    ///
    /// # Errors
    /// The reason why they were not set.
    pub fn set_attributes(
        &mut self,
        path: &TreePath,
        attributes: Attributes,
    ) -> Result<(), CommandError> {
        let keepalive = &mut ControlKeepAlive(&mut self.control);
        let id = Self::change_id()?;
        let change = self.session.set_attributes(id, path, attributes, Expect::Any, keepalive)?;
        self.commit(change).map(drop)
    }

    /// Hands a change in and waits until it is made. Later commands of this session see it.
    ///
    /// # Errors
    /// The reason why the change was not made.
    pub fn commit(&mut self, change: PreparedChange) -> Result<Committed, CommandError> {
        let committed = self.session.commit(change, &mut CommitKeepAlive(&mut self.control))?;
        self.session.observe(committed.version);
        Ok(committed)
    }
}
