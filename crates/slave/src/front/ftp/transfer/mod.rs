//! Transfers: each opens its data connection, moves content, and returns the last reply.
//!
//! The end of a download decides between the end of the data and a reset: only complete content
//! ends like a file. The end of an upload counts only if the control connection is still open.

mod addresses;
mod ascii;
mod download;
pub mod listing;
mod names;
mod opening;
mod sent_content;
mod upload;

use relais_ftp::{Command, Reply};

use super::data::DataError;
use super::session::{CommandResult, FtpSession};

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
