//! CWD, CDUP and PWD.

use relais_ftp::{Reply, path};
use relais_proto::Kind;

use crate::front::ftp::session::{CommandResult, FtpSession};

/// CWD and CDUP, with XCWD and XCUP: RFC 959 section 4.1.1, RFC 1123 section 4.1.3.1.
///
/// RFC 959 has 200 for CDUP, but clients expect 250 (wu-ftpd, vsftpd).
pub fn change(ftp: &mut FtpSession, folder: &str) -> CommandResult {
    let path = ftp.path(folder)?;
    if ftp.entry(&path)?.kind != Kind::Folder {
        return Err(Reply::new(550, format!("{path}: not a folder")).into());
    }
    ftp.state.cwd = path;
    Ok(Reply::new(250, format!("The current folder is {}", ftp.state.cwd)))
}

/// PWD and XPWD: RFC 959 appendix II.
pub fn print(ftp: &FtpSession) -> CommandResult {
    Ok(Reply::new(257, format!("{} is the current folder", path::quote(&ftp.state.cwd))))
}
