//! USER, PASS, REIN, QUIT and ABOR in a session that is open and idle.

use relais_ftp::Reply;

use crate::front::ftp::session::{CommandResult, FtpSession, NextStep};

/// USER and PASS: RFC 959 section 4.1.1 lets a server refuse another login in a session.
pub fn log_in_again() -> CommandResult {
    Err(Reply::new(503, "You are logged in; send REIN first to log in again").into())
}

/// REIN: RFC 959 section 4.1.1. The user logs in again, and all settings are those of a new
/// connection.
///
/// RFC 4217 section 11 returns to clear text. Here an encrypted connection stays encrypted,
/// because a password would follow in the clear.
pub fn reinitialize(ftp: &mut FtpSession) -> CommandResult {
    ftp.next = NextStep::LogIn;
    Ok(Reply::new(220, "Ready for a new login"))
}

/// QUIT: RFC 959 section 4.1.1.
pub fn quit(ftp: &mut FtpSession) -> CommandResult {
    ftp.next = NextStep::Quit;
    Ok(Reply::new(221, "Goodbye"))
}

/// ABOR without a command to abort: RFC 959 section 4.1.3, RFC 1123 section 4.1.2.
///
/// ABOR during a command is noted by the control connection, and answered by the session.
pub fn abort() -> CommandResult {
    Ok(Reply::new(225, "ABOR: no transfer is in progress"))
}
