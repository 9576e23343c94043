//! SIZE, MDTM, MFMT and MLST: facts of one entry.

use relais_engine::PendingUpload;
use relais_ftp::{Reply, mlst_line, time};
use relais_proto::{Attributes, FileTime};

use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::session::{CommandResult, FtpSession};

/// SIZE: the stored size in bytes, in every TYPE.
///
/// RFC 3659 section 4 wants the size of the transfer, which TYPE A changes. Clients expect the
/// stored size (vsftpd, ProFTPD). While an upload of this user to the path is cut, it is the number
/// of bytes that have come, because clients ask for it before they continue.
pub fn size(ftp: &mut FtpSession, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    let keepalive = &mut ControlKeepAlive(&mut ftp.control);
    let size = match ftp.session.pending_upload(&path, keepalive)? {
        PendingUpload::Here(bytes) => bytes,
        PendingUpload::None => ftp.file(&path)?.size,
        PendingUpload::Elsewhere => {
            let why = "your upload of this file was cut on another server; start again, or \
                continue there";
            return Err(Reply::new(550, why).into());
        }
    };
    Ok(Reply::new(213, size.to_string()))
}

/// MDTM: RFC 3659 section 3. Old clients set the time with it, if no file has the longer name.
pub fn modified(
    ftp: &mut FtpSession,
    argument: &str,
    set: Option<(FileTime, String)>,
) -> CommandResult {
    let path = ftp.path(argument)?;
    match (ftp.file(&path), set) {
        (Ok(file), _) => Ok(Reply::new(213, time::format_time(file.mtime))),
        (Err(_), Some((mtime, other))) => set_modified(ftp, mtime, &other),
        (Err(refusal), None) => Err(refusal.into()),
    }
}

/// MFMT: draft-somers-ftp-mfxx section 3.
pub fn set_modified(ftp: &mut FtpSession, mtime: FileTime, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    ftp.set_attributes(&path, Attributes { mtime: Some(mtime), mode: None })?;
    Ok(Reply::new(213, format!("Modify={}; {path}", time::format_time(mtime))))
}

/// MLST: RFC 3659 section 7.2, on the control connection.
pub fn list_one(ftp: &mut FtpSession, argument: Option<&str>) -> CommandResult {
    let path = ftp.path(argument.unwrap_or_default())?;
    let entry = ftp.entry(&path)?;
    let (facts, is_writable) =
        (ftp.state.settings.facts, ftp.session.principal().rights.can_write());
    let line = mlst_line(facts, is_writable, &path, &entry);
    Ok(Reply::new(250, format!("Facts of {path}")).line(line).line("End"))
}
