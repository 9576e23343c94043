//! SITE HELP, CHMOD and UTIME.

use relais_ftp::{Reply, SiteCommand, site_help};
use relais_proto::{Attributes, FileTime, Mode};

use crate::front::ftp::session::{CommandResult, FtpSession};

/// SITE: RFC 959 section 4.1.3. The commands are those of wu-ftpd, vsftpd, ProFTPD and Pure-FTPd.
pub fn run(ftp: &mut FtpSession, command: SiteCommand) -> CommandResult {
    match command {
        SiteCommand::Help(topic) => Ok(site_help(topic.as_deref())),
        SiteCommand::Chmod { mode, path } => change_mode(ftp, mode, &path),
        SiteCommand::Utime { mtime, path } => set_time(ftp, mtime, &path),
    }
}

/// SITE CHMOD: sets the permission bits in the tree, on all slaves.
fn change_mode(ftp: &mut FtpSession, mode: Mode, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    ftp.set_attributes(&path, Attributes::mode(mode))?;
    Ok(Reply::new(200, format!("The mode of {path} is {mode}")))
}

/// SITE UTIME: sets the time of last modification in the tree, on all slaves.
fn set_time(ftp: &mut FtpSession, mtime: FileTime, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    ftp.set_attributes(&path, Attributes { mtime: Some(mtime), mode: None })?;
    Ok(Reply::new(200, format!("The time of {path} is set")))
}
