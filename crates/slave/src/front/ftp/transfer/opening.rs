//! Opens the data connection of a transfer, which its control connection can interrupt.

use std::io;

use relais_ftp::{DataProtection, Reply};
use relais_net::tls::DataDirection;

use crate::front::ftp::control::Control;
use crate::front::ftp::data::{ControlWatch, DataError, DataStream, Interruption};
use crate::front::ftp::session::{CommandError, FtpSession};

/// Opens the data connection, and has the preliminary reply sent before anything is waited for.
///
/// The client gets reply 150 before the handshake, as RFC 4217 section 12.4 shows it. ABOR and the
/// end of the control connection end the handshake too. The reply for a small download goes with
/// the last one: alone it tells the client nothing new.
pub fn open_data(
    ftp: &mut FtpSession,
    direction: DataDirection,
    opening: String,
) -> Result<DataStream, CommandError> {
    let is_private = ftp.state.settings.protection == DataProtection::Private;
    let encrypting = if is_private { ftp.data.take_encrypting() } else { None };
    let mut data = match encrypting {
        Some(data) => data,
        None => DataStream::new(ftp.data.open(&mut ftp.control)?),
    };
    ftp.control.hold(&Reply::new(150, opening));
    if is_private || direction == DataDirection::Receiving {
        ftp.control.flush()?;
    }
    if is_private {
        let tls = ftp.context.tls.as_ref().ok_or(DataError::NoTls)?;
        if !data.is_encrypted() {
            data.begin_encryption(tls, ftp.control.stream(), direction)?;
        }
        data.complete_handshake(&mut ftp.control)?;
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

    fn flush(&mut self) -> Result<(), Interruption> {
        Control::flush(self).map_err(|_| Interruption::ControlEnded)
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
