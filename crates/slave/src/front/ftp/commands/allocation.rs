//! ALLO and AVBL: space for uploads.

use relais_ftp::Reply;

use crate::front::ftp::session::{CommandResult, FtpSession};

/// ALLO: RFC 959 section 4.1.3. The next upload has to have this many bytes.
///
/// It is refused here if the disk has no space, and checked again when the upload begins.
pub fn allocate(ftp: &mut FtpSession, bytes: u64) -> CommandResult {
    if ftp.session.disk_space().is_some_and(|space| bytes > space) {
        return Err(Reply::new(552, "There is not enough space").into());
    }
    ftp.state.announced = Some(bytes);
    Ok(Reply::new(200, format!("The next upload has {bytes} bytes")))
}

/// AVBL: draft-peterson-streamlined-ftp-command-extensions section 4. One disk has all folders.
pub fn available(ftp: &mut FtpSession, argument: Option<&str>) -> CommandResult {
    let path = ftp.path(argument.unwrap_or_default())?;
    ftp.entry(&path)?;
    let space = ftp.session.disk_space();
    let unknown = || Reply::new(550, "The system does not tell the space of its disk");
    Ok(Reply::new(213, space.ok_or_else(unknown)?.to_string()))
}
