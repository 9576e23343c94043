//! Names for STOU that are free.

use relais_ftp::Reply;
use relais_proto::{ErrorCode, TreePath};

use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::session::{CommandError, FtpSession};

/// Name without a proposal by the client.
const DEFAULT: &str = "ftp";
/// Names that are tried. A name that is in use is an accident among four billion.
const TRIES: u32 = 10;

/// Returns a name that is free, as the client writes it and as a path.
///
/// The suffix is random, so that two uploads at the same time do not choose the same name.
///
/// # Errors
/// The reason why the folder cannot be used; reply 450 if no name was found.
pub fn unused(
    ftp: &mut FtpSession,
    proposed: Option<&str>,
) -> Result<(String, TreePath), CommandError> {
    let proposed = proposed.filter(|name| !name.is_empty()).unwrap_or(DEFAULT);
    for _ in 0..TRIES {
        let random = relais_os::random().map_err(|e| Reply::new(451, e.to_string()))?;
        let suffix = u32::from_ne_bytes(random);
        let name = format!("{proposed}.{suffix:08x}");
        let path = ftp.path(&name)?;
        let keepalive = &mut ControlKeepAlive(&mut ftp.control);
        match ftp.session.stat(&path, keepalive) {
            Err(refusal) if refusal.code == ErrorCode::NotFound => return Ok((name, path)),
            Err(refusal) => return Err(refusal.into()),
            Ok(_) => {}
        }
    }
    Err(Reply::new(450, "no name is free; try again").into())
}
