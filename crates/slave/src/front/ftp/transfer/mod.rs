//! Transfers: each opens its data connection, moves content, and returns the last reply.
//!
//! The end of a download decides between the end of the data and a reset: only complete content
//! ends like a file. The end of an upload counts only if the control connection is still open.

mod addresses;
mod ascii;
mod download;
pub mod listing;
mod names;
mod upload;

use std::io;

use relais_ftp::{Command, DataProtection, Reply};
use relais_net::tls::DataDirection;

use super::control::Control;
use super::data::{ControlWatch, DataError, DataStream, Interruption};
use super::session::{CommandError, CommandResult, FtpSession};

/// Runs a command that needs a data connection, or prepares one.
///
/// # Errors
/// The reason why it failed.
pub fn run(ftp: &mut FtpSession, command: Command) -> CommandResult {
    match command {
        Command::Pasv => return addresses::passive(ftp),
        Command::Epsv(request) => return addresses::extended_passive(ftp, request),
        Command::Port(to) => return addresses::active(ftp, "PORT", to.into()),
        Command::Eprt(to) => return addresses::active(ftp, "EPRT", to),
        _ => {}
    }
    let result = match ftp.data.is_ready() {
        true => transfer(ftp, command),
        false => Err(DataError::NoAddress.into()),
    };
    // A refused transfer uses REST, ALLO and the address up as well.
    (ftp.state.start, ftp.state.announced) = (None, None);
    ftp.data.close();
    result
}

fn transfer(ftp: &mut FtpSession, command: Command) -> CommandResult {
    match command {
        Command::Retr(path) => download::retrieve(ftp, &path),
        Command::Stor(path) => upload::store(ftp, &path),
        Command::Appe(path) => upload::append(ftp, &path),
        Command::Stou(name) => upload::store_unique(ftp, name.as_deref()),
        Command::List(options) => {
            let mut lines = ftp.list_long(&options)?;
            listing::send_listing(ftp, &mut lines)
        }
        Command::Nlst(options) => {
            let mut lines = ftp.list_names(&options)?;
            listing::send_listing(ftp, &mut lines)
        }
        Command::Mlsd(folder) => {
            let mut lines = ftp.list_facts(folder.as_deref())?;
            listing::send_listing(ftp, &mut lines)
        }
        other => Err(Reply::new(502, format!("{} needs no data", other.info().name)).into()),
    }
}

/// Opens the data connection, and sends the preliminary reply.
///
/// The client gets reply 150 before the handshake, as RFC 4217 section 12.4 shows it.
fn open_data(
    ftp: &mut FtpSession,
    direction: DataDirection,
    opening: String,
) -> Result<DataStream, CommandError> {
    let mut data = match ftp.data.take_encrypted() {
        Some(data) => data,
        None => DataStream::new(ftp.data.open(&mut ftp.control)?)?,
    };
    ftp.control.send(&Reply::new(150, opening))?;
    if ftp.state.settings.protection == DataProtection::Private {
        let tls = ftp.context.tls.as_ref().ok_or(DataError::NoTls)?;
        if !data.is_encrypted() {
            data.encrypt(tls, ftp.control.stream(), direction)?;
        }
        if ftp.context.config.tls_reuse_required && !data.is_resumed() {
            return Err(DataError::NotResumed.into());
        }
    }
    Ok(data)
}

impl ControlWatch for Control {
    fn poll_fd(&self) -> rustix::event::PollFd<'_> {
        Control::poll_fd(self)
    }

    fn attend(&mut self, moved: u64) -> Result<(), Interruption> {
        self.activity.set_bytes(moved);
        self.check_interrupts().map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => Interruption::Aborted,
            _ => Interruption::ControlEnded,
        })?;
        // RFC 959 section 3.2: the data connection ends with the control connection.
        self.check_open().map_err(|_| Interruption::ControlEnded)
    }
}

impl From<DataError> for CommandError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Interrupted(Interruption::ControlEnded) => {
                Self::Connection(io::Error::new(io::ErrorKind::ConnectionReset, error))
            }
            error => Self::Reply(error.reply()),
        }
    }
}
