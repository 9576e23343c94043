//! The state of one FTP session, and what its commands share.
//!
//! It belongs to one thread. A command returns its last reply or an error, and does not send it.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use relais_engine::{Committed, Engine, PreparedChange, Principal, Protocol, Session};
use relais_ftp::path::{self, PathError};
use relais_ftp::{LineBuffer, Reply};
use relais_net::Stream;
use relais_proto::{Attributes, ChangeId, Entry, ErrorCode, Expect, Kind, Refusal, TreePath};

use super::FtpContext;
use super::control::{CommitKeepAlive, Control, ControlKeepAlive};
use super::data::DataPort;
use super::state::{LoginSettings, SessionState};

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
    /// It closes the connection, as the client wants.
    Quit,
    /// It closes the connection, because the slave ends it.
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

impl FtpSession {
    /// Opens the session of a connection.
    ///
    /// # Errors
    /// Errors of the socket calls.
    pub fn open(
        start: FtpStart,
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
            state: SessionState { settings, ..SessionState::default() },
            next: NextStep::Read,
        })
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
