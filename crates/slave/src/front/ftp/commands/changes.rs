//! MKD, RMD, DELE, RNFR and RNTO: changes to the tree. Each is made before its reply.

use relais_ftp::{Reply, path};
use relais_proto::{Entry, ErrorCode, Expect, Kind, TreePath};

use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::session::{CommandError, CommandResult, FtpSession};

/// MKD and XMKD: RFC 959 section 4.1.3, and appendix II for the reply.
pub fn make_folder(ftp: &mut FtpSession, folder: &str) -> CommandResult {
    let (path, id) = (ftp.path(folder)?, FtpSession::change_id()?);
    let change = ftp.session.make_folder(id, &path, &mut ControlKeepAlive(&mut ftp.control))?;
    ftp.commit(change)?;
    Ok(Reply::new(257, format!("{} was made", path::quote(&path))))
}

/// RMD and XRMD: RFC 959 section 4.1.3. The folder has to be empty.
pub fn remove_folder(ftp: &mut FtpSession, folder: &str) -> CommandResult {
    remove(ftp, folder, Kind::Folder)
}

/// DELE: RFC 959 section 4.1.3.
pub fn remove_file(ftp: &mut FtpSession, file: &str) -> CommandResult {
    remove(ftp, file, Kind::File)
}

/// Most tries to remove an entry that changes meanwhile.
const REMOVE_TRIES: u32 = 3;

fn remove(ftp: &mut FtpSession, argument: &str, kind: Kind) -> CommandResult {
    let path = ftp.path(argument)?;
    let mut tries = 1;
    loop {
        match remove_present(ftp, &path, kind) {
            // A local file gets its first version when it is published, also by this change.
            Err(CommandError::Refused(refusal))
                if refusal.code == ErrorCode::Changed && tries < REMOVE_TRIES =>
            {
                tries += 1;
            }
            result => return result,
        }
    }
}

/// Removes the entry that is there now, if it is of this kind.
fn remove_present(ftp: &mut FtpSession, path: &TreePath, kind: Kind) -> CommandResult {
    let entry = if path.is_root() { None } else { Some(ftp.entry(path)?) };
    check_kind(path, entry.as_ref(), kind)?;
    // Another session may put something else there meanwhile.
    let expect = entry.map_or(Expect::Any, |entry| Expect::exactly(Some(entry.version)));
    let (id, keepalive) = (FtpSession::change_id()?, &mut ControlKeepAlive(&mut ftp.control));
    let change = ftp.session.remove(id, path, false, expect, keepalive)?;
    ftp.commit(change)?;
    Ok(Reply::new(250, format!("{path} was removed")))
}

fn check_kind(path: &TreePath, entry: Option<&Entry>, kind: Kind) -> Result<(), CommandError> {
    let why = match (entry.map_or(Kind::Folder, |entry| entry.kind), kind) {
        (Kind::File, Kind::Folder) => "not a folder",
        (Kind::Folder, Kind::File) => "a folder, not a file",
        _ => return Ok(()),
    };
    Err(Reply::new(550, format!("{path}: {why}")).into())
}

/// RNFR: RFC 959 section 4.1.3.
pub fn rename_from(ftp: &mut FtpSession, source: &str) -> CommandResult {
    let path = ftp.path(source)?;
    ftp.entry(&path)?;
    ftp.state.rename_from = Some(path);
    Ok(Reply::new(350, "Send RNTO with the new name"))
}

/// RNTO: RFC 959 section 4.1.3. A file at the new path is replaced, as by rename(2).
pub fn rename_to(ftp: &mut FtpSession, target: &str) -> CommandResult {
    let from = ftp.state.rename_from.take();
    let from = from.ok_or_else(|| Reply::new(503, "RNFR comes before RNTO"))?;
    let (to, id) = (ftp.path(target)?, FtpSession::change_id()?);
    let keepalive = &mut ControlKeepAlive(&mut ftp.control);
    let change = ftp.session.rename(id, &from, &to, Expect::Any, keepalive)?;
    ftp.commit(change)?;
    Ok(Reply::new(250, format!("{from} is now {to}")))
}
