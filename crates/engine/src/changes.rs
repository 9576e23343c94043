//! Changes without content: a new folder, a removal, a move.

use relais_proto::{
    Attributes, Change, ChangeId, Encoder, Expect, Kind, Mode, Refusal, TreePath, Wire,
};
use relais_storage::Proposal;

use crate::change::{PreparedChange, bind_id};
use crate::keep_alive::KeepAlive;
use crate::principal::Principal;
use crate::session::Session;
use crate::transfer_log::LoggedCommand;

impl Session {
    /// Prepares to make a folder.
    ///
    /// The id is chosen by the client; a repeated id, with all else equal, is the same change.
    ///
    /// # Errors
    /// The reason why the user cannot make it; those of [`Session::check_ready`].
    pub fn make_folder(
        &self,
        id: ChangeId,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        let mode = Mode::new(0o777).masked(self.context.settings.umask);
        let mode = mode.with_owner_access(Kind::Folder);
        self.prepare(LoggedCommand::MakeFolder, (path, None), Expect::Any, keepalive, |principal| {
            // The operator that assigns a root folder to a user also makes it.
            let has_own_root = !principal.root.is_root();
            let path =
                if has_own_root { principal.resolve_below(path) } else { principal.resolve(path) }?;
            let id = bind_id(principal, id, b"mkdir", &[&path], None);
            Ok((id, Change::MakeFolder { path, mode }))
        })
    }

    /// Prepares to remove a file or a folder, with all entries below it if it is `recursive`.
    ///
    /// `expect` is the precondition on the entry.
    ///
    /// # Errors
    /// As [`Self::make_folder`].
    pub fn remove(
        &self,
        id: ChangeId,
        path: &TreePath,
        recursive: bool,
        expect: Expect,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        self.prepare(LoggedCommand::Remove, (path, None), expect, keepalive, |principal| {
            let path = principal.resolve_below(path)?;
            let kind: &[u8] = if recursive { b"rm -r" } else { b"rm" };
            let id = bind_id(principal, id, kind, &[&path], None);
            Ok((id, Change::Remove { path, recursive }))
        })
    }

    /// Prepares to move a file or a folder; a file at the new path is replaced.
    ///
    /// `expect` is the precondition on the entry at the old path.
    ///
    /// # Errors
    /// As [`Self::make_folder`].
    pub fn rename(
        &self,
        id: ChangeId,
        from: &TreePath,
        to: &TreePath,
        expect: Expect,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        self.prepare(LoggedCommand::Move, (from, Some(to)), expect, keepalive, |principal| {
            let (from, to) = (principal.resolve_below(from)?, principal.resolve_below(to)?);
            let id = bind_id(principal, id, b"mv", &[&from, &to], None);
            Ok((id, Change::Move { from, to }))
        })
    }

    /// Prepares to set attributes of a file or a folder.
    ///
    /// `expect` is the precondition on the entry.
    ///
    /// # Errors
    /// As [`Self::make_folder`].
    pub fn set_attributes(
        &self,
        id: ChangeId,
        path: &TreePath,
        attributes: Attributes,
        expect: Expect,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        self.prepare(LoggedCommand::SetAttributes, (path, None), expect, keepalive, |principal| {
            let path = principal.resolve_below(path)?;
            let mut kind = b"attributes ".to_vec();
            attributes.encode(&mut Encoder::new(&mut kind));
            let id = bind_id(principal, id, &kind, &[&path], None);
            Ok((id, Change::SetAttributes { path, attributes }))
        })
    }

    pub(crate) fn prepare(
        &self,
        command: LoggedCommand,
        (path, to): (&TreePath, Option<&TreePath>),
        expect: Expect,
        keepalive: &mut dyn KeepAlive,
        change: impl FnOnce(&Principal) -> Result<(ChangeId, Change), Refusal>,
    ) -> Result<PreparedChange, Refusal> {
        let mut record = self.begin(command, path, to, keepalive)?;
        let (id, change) = self.context.recorded(&mut record, change(&self.context.principal))?;
        let tokens = self.lock_tokens.clone();
        let proposal = Proposal { expect, tokens, ..Proposal::new(id, change) };
        Ok(PreparedChange::new(proposal, record))
    }
}
