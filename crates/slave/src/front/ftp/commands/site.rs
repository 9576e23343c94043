//! SITE HELP, CHMOD and UTIME.

use relais_ftp::{Reply, SITE_COMMANDS, SiteCommand};
use relais_proto::{Attributes, FileTime, Mode};

use crate::front::ftp::session::{CommandResult, FtpSession};

/// SITE: RFC 959 section 4.1.3. The commands are those of wu-ftpd, vsftpd, ProFTPD and Pure-FTPd.
pub fn run(ftp: &mut FtpSession, command: SiteCommand) -> CommandResult {
    match command {
        SiteCommand::Help(topic) => Ok(help(topic.as_deref())),
        SiteCommand::Chmod { mode, path } => change_mode(ftp, mode, &path),
        SiteCommand::Utime { mtime, path } => set_time(ftp, mtime, &path),
    }
}

fn help(topic: Option<&str>) -> Reply {
    let is_wanted = |name: &str| topic.is_none_or(|topic| name.eq_ignore_ascii_case(topic));
    let rows = SITE_COMMANDS.iter();
    let usages: Vec<_> = rows
        .filter(|row| is_wanted(row.name.trim_start_matches("SITE ")))
        .map(|row| format!(" {}", row.usage()))
        .collect();
    if usages.is_empty() {
        return Reply::new(504, "There is no such SITE command");
    }
    Reply::new(214, "SITE commands:").lines(usages).line("End")
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
