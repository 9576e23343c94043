//! OPTS, CLNT, HOST and LANG.

use relais_ftp::{HashOption, OptsCommand, Reply};

use crate::front::ftp::session::{CommandResult, FtpSession};

/// OPTS: RFC 2389 section 4; RFC 3659 section 7.9 for MLST; draft-bryan-ftpext-hash section 3.2
/// for HASH; draft-ietf-ftpext-utf-8-option for UTF8.
pub fn set(ftp: &mut FtpSession, option: OptsCommand) -> CommandResult {
    match option {
        OptsCommand::Utf8(true) => Ok(Reply::new(200, "Names are UTF-8")),
        OptsCommand::Utf8(false) => {
            Err(Reply::new(504, "Names are always UTF-8 (RFC 2640)").into())
        }
        OptsCommand::Mlst(facts) => {
            ftp.state.settings.facts = facts;
            Ok(Reply::new(200, facts.options_text()))
        }
        OptsCommand::Hash(option) => {
            if let HashOption::Choose(algorithm) = option {
                ftp.state.settings.hash = algorithm;
            }
            Ok(Reply::new(200, ftp.state.settings.hash.name()))
        }
    }
}

/// CLNT (de facto: NcFTP, ProFTPD): the client names itself, for the log.
pub fn client(ftp: &FtpSession, name: &str) -> CommandResult {
    log::debug!("{}: the client is {}", ftp.control.stream().peer, relais_proto::sanitize(name));
    Ok(Reply::new(200, "Noted"))
}

/// HOST after the login: RFC 7151 section 3.3.
pub fn host() -> CommandResult {
    Err(Reply::new(503, "HOST comes before USER").into())
}

/// LANG: RFC 2640 section 4. English is the only language.
pub fn language() -> CommandResult {
    Ok(Reply::new(200, "Replies are in English"))
}
