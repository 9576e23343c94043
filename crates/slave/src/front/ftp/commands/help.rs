//! SYST; HELP is `relais_ftp`'s.

use relais_ftp::Reply;

pub use relais_ftp::help;

/// SYST: RFC 959 section 4.1.3. Clients choose the form of listings by it.
pub fn system() -> Reply {
    Reply::new(215, "UNIX Type: L8")
}
