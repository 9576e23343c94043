//! Copies a file on the server: its content is staged, verified, and put under another name.

use std::fs::File;
use std::io::{self, Read as _};

use relais_proto::{
    ChangeId, Digest, ErrorCode, Expect, IfMatch, Kind, PutRequest, Refusal, TreePath, WaitReason,
};
use rustix::fs::ioctl_ficlone;

use crate::change::PreparedChange;
use crate::content::{self, Located};
use crate::keep_alive::KeepAlive;
use crate::session::Session;
use crate::transfer_log::LoggedCommand;

/// Most bytes that are copied between two signs of life.
const STEP: u64 = 16 * 1024 * 1024;

/// What a client says about a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRequest {
    /// Id of the change; a repeated id, with all else equal, is the same change.
    pub id: ChangeId,
    /// Path of the file to copy.
    pub from: TreePath,
    /// Path of the copy; a file there is replaced.
    pub to: TreePath,
    /// The content to copy.
    pub if_match: IfMatch,
    /// Precondition on the entry at the new path.
    pub expect: Expect,
    /// Disks that must hold the content before the answer; 0 for the cluster's default.
    pub copies: u16,
}

impl Session {
    /// Prepares to copy a file. The copy has the time, the properties and, if it is new, the mode
    /// of the file.
    ///
    /// The properties follow as changes of their own, before the copy is answered.
    ///
    /// # Errors
    /// [`ErrorCode::Changed`] if the file is not what `if_match` names, or changes meanwhile;
    /// [`ErrorCode::Damaged`] if it does not have its digest; those of [`Self::open`] and
    /// [`Self::begin_upload`].
    pub fn copy(
        &self,
        request: CopyRequest,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Located<PreparedChange>, Refusal> {
        let CopyRequest { id, from, to, if_match, expect, copies } = request;
        let mut record = self.begin(LoggedCommand::Copy, &from, Some(&to), keepalive)?;
        let context = &self.context;
        let opened = context.principal.resolve_below(&from).and_then(|from| {
            content::open(context, &from, keepalive)?.and_then(|found| {
                let facts = content::check_wanted(context, &from, &found, if_match, keepalive)?;
                let file = found.file;
                let follow_ups =
                    self.property_copies(id, &from, &context.principal.resolve(&to)?)?;
                Ok((from, file, facts, follow_ups))
            })
        });
        let (from, file, facts, follow_ups) = match context.recorded(&mut record, opened)? {
            Located::Here(opened) => opened,
            Located::Elsewhere(holders) => {
                record.end(Ok(()));
                return Ok(Located::Elsewhere(holders));
            }
        };
        let on_disk = (file.meta.mode.with_owner_access(Kind::File), file.meta.mtime);
        let (mode, mtime) = facts.attributes.unwrap_or(on_disk);
        let upload = PutRequest {
            size: Some(file.meta.size),
            mtime: Some(mtime),
            mode: Some(mode),
            expect,
            copies,
            ..PutRequest::new(id, to)
        };
        let mut upload = self.stage(upload, Some(&from), record, keepalive)?;
        let copied =
            upload.fill(|staged| copy_content(&file.file, staged, file.meta.size, keepalive));
        let verified = copied.and_then(|()| upload.hash_staged(keepalive)).and_then(|digest| {
            content::check_unchanged(&from, &file)?;
            match facts.digest {
                Some(known) if known != digest => {
                    if context.settings.is_cluster_member {
                        context.host().report_damaged(&from);
                    }
                    let message = "the content does not match its digest";
                    Err(Refusal::at(&from, ErrorCode::Damaged, message))
                }
                _ => Ok(digest),
            }
        });
        let digest: Digest = upload.fail_on(verified)?;
        let change = upload.finish(Some(digest), keepalive)?;
        Ok(Located::Here(PreparedChange { follow_ups, ..change }))
    }
}

/// Copies content of `size` bytes to an empty file. Where the disk can, both files share it.
///
/// A file that has become shorter is filled with zero bytes, which the digest shows.
fn copy_content(
    from: &File,
    to: &File,
    size: u64,
    keepalive: &mut dyn KeepAlive,
) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    to.set_len(size)?;
    copy_bytes(from, to, size, keepalive)
}

/// Copies the first `size` bytes to the begin of a file, fewer if there are no more.
///
/// Where the disk can, both files share them.
pub(crate) fn copy_bytes(
    from: &File,
    mut to: &File,
    size: u64,
    keepalive: &mut dyn KeepAlive,
) -> io::Result<()> {
    let mut rest = from.take(size);
    // The kernel copies the bytes, unless the file system cannot.
    while io::copy(&mut rest.by_ref().take(STEP), &mut to)? > 0 {
        keepalive.send_keepalive(WaitReason::Storing)?;
    }
    Ok(())
}
