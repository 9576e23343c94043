//! STAT between two commands. STAT during a command is answered by the control connection.

use relais_ftp::{DataProtection, ListOptions, Reply, TransferType};

use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::session::{CommandResult, FtpSession};
use crate::front::ftp::transfer::listing::ListingText;

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

/// STAT with a path: RFC 959 section 4.1.3. It is LIST over the control connection.
///
/// The listing is sent page by page, as the lines between of reply 213. They begin with a letter or
/// `-`, so no client takes one for the last line.
pub fn list(ftp: &mut FtpSession, options: &ListOptions) -> CommandResult {
    let mut lines = ftp.list_long(options)?;
    ftp.control.send_bytes(b"213-Listing\r\n")?;
    let mut page = Vec::new();
    loop {
        page.clear();
        match lines.next_lines(&mut page, &mut ControlKeepAlive(&mut ftp.control)) {
            Ok(true) => ftp.control.send_bytes(&page)?,
            Ok(false) => return Ok(Reply::new(213, "End")),
            // The first line has the code already.
            Err(refusal) => return Ok(Reply::new(213, format!("Incomplete: {refusal}"))),
        }
    }
}
