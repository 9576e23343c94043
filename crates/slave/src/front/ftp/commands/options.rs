//! OPTS, CLNT, HOST and LANG.

use relais_ftp::{HashOption, OptsCommand, Reply};

use std::net::SocketAddr;

use crate::front::ftp::session::CommandResult;
use crate::front::ftp::state::LoginSettings;

/// OPTS: RFC 2389 section 4; RFC 3659 section 7.9 for MLST; draft-bryan-ftpext-hash section 3.2
/// for HASH; draft-ietf-ftpext-utf-8-option for UTF8.
pub fn set(settings: &mut LoginSettings, option: OptsCommand) -> CommandResult {
    match option {
        OptsCommand::Utf8(true) => Ok(Reply::new(200, "Names are UTF-8")),
        OptsCommand::Utf8(false) => {
            Err(Reply::new(504, "Names are always UTF-8 (RFC 2640)").into())
        }
        OptsCommand::Mlst(facts) => {
            settings.facts = facts;
            Ok(Reply::new(200, facts.options_text()))
        }
        OptsCommand::Hash(option) => {
            if let HashOption::Choose(algorithm) = option {
                settings.hash = algorithm;
            }
            Ok(Reply::new(200, settings.hash.name()))
        }
    }
}

/// CLNT (de facto: NcFTP, ProFTPD): the client names itself, for the log.
pub fn client(peer: SocketAddr, name: &str) -> CommandResult {
    log::debug!("{peer}: the client is {}", relais_proto::sanitize(name));
    Ok(Reply::new(200, "Noted"))
}

/// HOST before the login: RFC 7151 section 3. All names have the same accounts and files.
pub fn choose_host() -> CommandResult {
    Ok(Reply::new(220, "This server is the same under each name"))
}

/// HOST after USER: RFC 7151 section 3.3.
pub fn host() -> CommandResult {
    Err(Reply::new(503, "HOST comes before USER").into())
}

/// LANG: RFC 2640 section 4. English is the only language.
pub fn language() -> CommandResult {
    Ok(Reply::new(200, "Replies are in English"))
}
