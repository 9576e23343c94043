//! PBSZ and PROT, before and after the login; AUTH after it.

use relais_ftp::{DataProtection, Reply};

use crate::front::ftp::session::CommandResult;
use crate::front::ftp::state::LoginSettings;

/// AUTH after the login: RFC 4217 section 4 has it before USER.
///
/// RFC 2228 section 3 wants the user to log in again after AUTH, which REIN does here.
pub fn authenticate() -> CommandResult {
    Err(Reply::new(503, "AUTH comes before USER; send REIN first").into())
}

/// PBSZ: RFC 4217 section 8. TLS has no protection buffer, so its size is 0.
pub fn buffer_size(settings: &mut LoginSettings, is_encrypted: bool) -> CommandResult {
    require_tls(is_encrypted)?;
    settings.has_buffer_size = true;
    Ok(Reply::new(200, "PBSZ=0"))
}

/// PROT: RFC 2228 section 3, RFC 4217 section 9.
pub fn protect(
    settings: &mut LoginSettings,
    is_encrypted: bool,
    level: DataProtection,
) -> CommandResult {
    require_tls(is_encrypted)?;
    if !settings.has_buffer_size {
        return Err(Reply::new(503, "PBSZ comes before PROT").into());
    }
    settings.protection = level;
    Ok(Reply::new(
        200,
        match level {
            DataProtection::Clear => "Data connections are not encrypted",
            DataProtection::Private => "Data connections are encrypted",
        },
    ))
}

fn require_tls(is_encrypted: bool) -> Result<(), Reply> {
    if is_encrypted {
        return Ok(());
    }
    Err(Reply::new(503, "AUTH TLS comes before PBSZ and PROT"))
}
