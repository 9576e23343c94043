//! The staged file of an upload by path: found, locked, and cut to the bytes that count.
//!
//! A file that has no bytes of the client, or not all bytes that it should have begun with, counts
//! as none.

use std::fs::File;
use std::time::Duration;

use log::debug;
use relais_proto::{ErrorCode, Expect, Refusal, TreePath, WaitReason};
use relais_storage::{StagedName, UploadBase, changes_unavailable_at, refuse};
use relais_tree::TreeError;

use crate::change::account_tag;
use crate::context::SessionContext;
use crate::keep_alive::{KeepAlive, poll};
use crate::staged::{StagedState, cannot_stage, find_staged};

/// Name of the account whose users are told apart by their addresses.
const ANONYMOUS: &str = "anonymous";

/// How long another slave may take to report that an upload has ended there.
///
/// Clients whose upload was acknowledged there, and ask here, must not hear that it was cut.
const REPORT_TIME: Duration = Duration::from_secs(2);
/// Time between two looks for such a report.
const REPORT_POLL: Duration = Duration::from_millis(10);

/// Whether another slave has a part of an upload; none if that is not known.
fn is_pending_elsewhere(
    context: &SessionContext,
    name: &StagedName,
    keepalive: &mut dyn KeepAlive,
) -> Result<Option<bool>, Refusal> {
    let look = |_: &mut dyn KeepAlive| {
        let known = context.host().is_upload_elsewhere(name);
        Ok((known != Some(true)).then_some(known))
    };
    let ended = poll((REPORT_TIME, REPORT_POLL), WaitReason::CatchingUp, keepalive, look)?;
    Ok(ended.unwrap_or(Some(true)))
}

/// What a user was told about the size at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportedSize {
    pub path: TreePath,
    /// Bytes of the cut upload, if one was pending.
    pub pending: Option<u64>,
    /// The entry at the path.
    pub entry: Expect,
}

/// A locked staged file of an upload by path.
pub(crate) struct CutUpload {
    pub name: StagedName,
    pub file: File,
    /// Bytes that count.
    pub length: u64,
    pub base: Option<UploadBase>,
}

impl CutUpload {
    /// Whether another slave is known to have a part of the user's upload to `path`.
    pub fn is_elsewhere(
        context: &SessionContext,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<bool, Refusal> {
        Ok(is_pending_elsewhere(context, &name_of(context, path), keepalive)? == Some(true))
    }

    /// Finds the cut upload of the session's user to `path`.
    pub fn find(
        context: &SessionContext,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Option<Self>, Refusal> {
        let name = name_of(context, path);
        let found = match find_staged(context, path, &name, false, keepalive)? {
            StagedState::Partial(file) => Self::read(context, path, name, file)?,
            StagedState::Missing { ending: false } => return Ok(None),
            StagedState::Missing { ending: true } | StagedState::Complete => {
                return Err(just_ending(path));
            }
        };
        found.discard_if_empty(context);
        Ok(Some(found).filter(|found| found.length > 0))
    }

    /// As [`Self::find`], and makes an empty file if there is none.
    pub fn claim(
        context: &SessionContext,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Self, Refusal> {
        let name = name_of(context, path);
        match find_staged(context, path, &name, true, keepalive)? {
            StagedState::Partial(file) => Self::read(context, path, name, file),
            StagedState::Missing { .. } | StagedState::Complete => Err(just_ending(path)),
        }
    }

    fn read(
        context: &SessionContext,
        path: &TreePath,
        name: StagedName,
        file: File,
    ) -> Result<Self, Refusal> {
        let length = file.metadata().map_err(|e| cannot_stage(path, e))?.len();
        let mut cut = Self { name, file, length, base: None };
        let inherited = match context.staging.base(&name) {
            Ok(base) => {
                cut.base = base;
                base.map_or(0, |base| base.length)
            }
            Err(e) => {
                debug!("discarding a cut upload without its base: {e}");
                length
            }
        };
        if length <= inherited {
            cut.clear(context, path)?;
        }
        Ok(cut)
    }

    /// Checks that no other slave has a part of this upload, which would count instead.
    pub fn check_nowhere_else(
        &self,
        context: &SessionContext,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<(), Refusal> {
        match is_pending_elsewhere(context, &self.name, keepalive)? {
            Some(false) => Ok(()),
            Some(true) => {
                let message = "your upload of this file was cut on another server; continue \
                    there, or start again from the first byte";
                Err(Refusal::at(path, ErrorCode::Conflict, message))
            }
            None => Err(changes_unavailable_at(
                path,
                "without its master this slave does not know whether your upload of this file \
                 was cut on another server",
            )),
        }
    }

    /// Drops all bytes and the base.
    pub fn clear(&mut self, context: &SessionContext, path: &TreePath) -> Result<(), Refusal> {
        self.file.set_len(0).map_err(|e| cannot_stage(path, e))?;
        context.staging.remove_base(&self.name);
        (self.length, self.base) = (0, None);
        Ok(())
    }

    /// Drops the bytes from an offset on.
    pub fn truncate(
        &mut self,
        context: &SessionContext,
        path: &TreePath,
        offset: u64,
    ) -> Result<(), Refusal> {
        if let Some(base) = self.base.filter(|base| base.length > offset) {
            self.set_base(context, path, UploadBase { length: offset, ..base })?;
        }
        self.file.set_len(offset).map_err(|e| cannot_stage(path, e))?;
        self.length = offset;
        Ok(())
    }

    /// Stores where the first bytes come from.
    pub fn set_base(
        &mut self,
        context: &SessionContext,
        path: &TreePath,
        base: UploadBase,
    ) -> Result<(), Refusal> {
        context.staging.store_base(&self.name, &base).map_err(|e| refuse(path, &e))?;
        self.base = Some(base);
        Ok(())
    }

    /// Discards the file if nothing in it counts.
    pub fn discard_if_empty(&self, context: &SessionContext) {
        if self.length == 0 {
            context.discard_upload(&self.name);
        }
    }
}

/// Has a complete upload, whose change was not handed in, count as cut again.
///
/// A newer upload of the path goes before it.
pub(crate) fn unseal(
    context: &SessionContext,
    (sealed, bytes): (&StagedName, u64),
    path: &TreePath,
    expect: Expect,
) -> Result<(), TreeError> {
    let (staging, name) = (&context.staging, name_of(context, path));
    // No other session gets the file before its base is stored.
    let _locked = staging.reopen(sealed)?;
    staging.seal(sealed, &name)?;
    context.host().uploads().record_bytes(&name, bytes);
    context.host().uploads().end(sealed);
    context.host().path_upload_began(&name);
    match expect {
        Expect::Any => Ok(()),
        expect => staging.store_base(&name, &UploadBase { expect, length: 0 }),
    }
}

fn just_ending(path: &TreePath) -> Refusal {
    changes_unavailable_at(path, "an earlier upload of this file is just ending")
}

/// Returns the name of the staged file for uploads of the session's user to `path`.
fn name_of(context: &SessionContext, path: &TreePath) -> StagedName {
    let user = &context.principal.user;
    let is_shared = user.is_empty() || user == ANONYMOUS;
    let address = is_shared.then(|| context.address.ip());
    StagedName::for_path(account_tag(user), user, address, path)
}
