//! STAT between two commands. STAT during a command is answered by the control connection.

use relais_ftp::{DataProtection, Reply, TransferType};

use crate::front::ftp::session::{CommandResult, FtpSession};

/// STAT without a path: RFC 959 section 4.1.3.
pub fn session_status(ftp: &FtpSession) -> CommandResult {
    let stream = ftp.control.stream();
    let encrypted = |is_encrypted| if is_encrypted { "encrypted" } else { "in the clear" };
    let kind = match ftp.state.transfer_type {
        TransferType::Ascii => "ASCII",
        TransferType::Image => "image",
    };
    let has_private_data = ftp.state.settings.protection == DataProtection::Private;
    Ok(Reply::new(211, "Status of this session")
        .line(format!(" Connected from {}", stream.peer))
        .line(format!(" User: {}", ftp.session.principal().name()))
        .line(format!(" Folder: {}", ftp.state.cwd))
        .line(format!(" Type: {kind}, structure: file, mode: stream"))
        .line(format!(" Control connection: {}", encrypted(stream.is_encrypted())))
        .line(format!(" Data connections: {}", encrypted(has_private_data)))
        .line("End"))
}
