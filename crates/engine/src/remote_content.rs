//! Content that a front end sends although this slave lacks it: found here, or described for a
//! front end that fetches it from other slaves.
//!
//! It opens no connection. The description is what the catalogue has, so other slaves cannot
//! change what is sent.

use std::fs::File;
use std::sync::Arc;

use relais_proto::{
    ContentHashes, Digest, Endpoint, ErrorCode, IfMatch, Lsn, PeerSlave, Refusal, SlaveId, TreePath,
};

use crate::content::{Content, Located, ReadFailure, available, check_unchanged, count_resume};
use crate::context::SessionContext;
use crate::keep_alive::KeepAlive;
use crate::session::Session;
use crate::sha256::stored;
use crate::transfer_log::{LoggedCommand, TransferRecord};

/// Content of a file, wherever it is.
pub enum FoundContent {
    /// It is on this slave.
    Here(Box<Content>),
    /// Other slaves have it.
    Remote(Box<RemoteContent>),
}

/// Content that other slaves have, and that is about to be sent.
///
/// The front end ends with [`Self::finish`] or [`Self::fail`]. Content that is dropped before was
/// cut.
pub struct RemoteContent {
    context: Arc<SessionContext>,
    path: TreePath,
    size: u64,
    version: Lsn,
    digest: Digest,
    /// Changes that another slave must have before it knows this path.
    applied: Lsn,
    /// Slaves that the catalogue or the master named as holders.
    known_holders: Vec<SlaveId>,
    record: TransferRecord,
    bytes: u64,
}

impl Session {
    /// Finds the content of a file, for a client that cannot be sent to another slave.
    ///
    /// # Errors
    /// Those of [`Session::open`] and of [`RemoteContent`]: [`ErrorCode::NoContent`] if this slave
    /// lacks the content and cannot verify it, because its digest is not known.
    pub fn find_content(
        &self,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<FoundContent, Refusal> {
        let mut record = self.begin(LoggedCommand::Get, path, None, keepalive)?;
        let context = &self.context;
        let found = context.principal.resolve(path).and_then(|path| {
            Ok(match Content::open(context, &path, IfMatch::Any, keepalive)? {
                Located::Here(content) => FoundContent::Here(Box::new(content)),
                Located::Elsewhere(holders) => {
                    let known = holders.into_iter().map(|holder| holder.id).collect();
                    FoundContent::Remote(Box::new(RemoteContent::look_up(context, path, known)?))
                }
            })
        });
        let mut found = context.recorded(&mut record, found)?;
        match &mut found {
            FoundContent::Here(content) => content.set_record(record),
            FoundContent::Remote(content) => content.record = record,
        }
        Ok(found)
    }

    /// Describes content that `holders` have, for a command that is no transfer.
    ///
    /// # Errors
    /// [`ErrorCode::NoContent`] as for [`Self::find_content`]; those of the path.
    pub fn describe_remote(
        &self,
        path: &TreePath,
        holders: Vec<Endpoint>,
    ) -> Result<RemoteContent, Refusal> {
        let known = holders.into_iter().map(|holder| holder.id).collect();
        let path = self.context.principal.resolve(path);
        let content = path.and_then(|path| RemoteContent::look_up(&self.context, path, known));
        self.context.visible(content)
    }
}

impl Content {
    /// Has other slaves continue after the disk failed; what was sent has to be this content.
    ///
    /// # Errors
    /// The refusal that ends the transfer: the file was changed while it was read, so what was sent
    /// may be a mixture; or no other slave can have the content.
    pub fn into_remote(mut self, failure: &ReadFailure) -> Result<RemoteContent, Refusal> {
        let may_continue = self.context.settings.is_cluster_member
            && check_unchanged(&self.path, &self.file).is_ok();
        let facts = (self.version(), self.known_digest(), may_continue);
        let (Some(version), Some(digest), true) = facts else {
            return Err(self.fail(failure));
        };
        if matches!(failure, ReadFailure::Unreadable(_)) {
            self.context.host().report_damaged(&self.path);
        }
        Ok(RemoteContent {
            size: self.size(),
            version,
            digest,
            applied: self.context.host().applied_lsn(),
            known_holders: Vec::new(),
            record: self.record.take(),
            bytes: self.bytes,
            path: self.path,
            context: self.context,
        })
    }
}

impl RemoteContent {
    /// Returns what the catalogue has at `path`, which other slaves have.
    pub(crate) fn look_up(
        context: &Arc<SessionContext>,
        path: TreePath,
        known_holders: Vec<SlaveId>,
    ) -> Result<Self, Refusal> {
        let applied = context.host().applied_lsn();
        let row = context.with_catalogue(|store| store.at(&path))?;
        let (row, _) =
            row.ok_or_else(|| Refusal::at(&path, ErrorCode::NotFound, "no such file or folder"))?;
        let (Some(version), Some(digest)) = (row.content, row.digest) else {
            let why = "this slave cannot read the file, and no other slave has this version";
            return Err(Refusal::at(&path, ErrorCode::NoContent, why));
        };
        Ok(Self {
            context: context.clone(),
            path,
            size: row.entry.size,
            version,
            digest,
            applied,
            known_holders,
            record: TransferRecord::default(),
            bytes: 0,
        })
    }

    /// Returns the SHA-256 hashes if they are known.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] if the catalogue cannot be read.
    pub fn known_sha256(&self) -> Result<Option<ContentHashes>, Refusal> {
        stored(&self.context, Some(self.version))
    }

    /// Returns the path from the root of the tree.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the put that stored the content.
    #[must_use]
    pub fn version(&self) -> Lsn {
        self.version
    }

    /// Returns the digest that the content must have.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the latest change that a slave must have applied before it is asked.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// Returns the slaves that may have the content now; those that are known to have it first.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] if the catalogue cannot be read.
    pub fn holders(&self) -> Result<Vec<PeerSlave>, Refusal> {
        let context = &self.context;
        let row = context.with_catalogue(|store| store.at(&self.path))?;
        let folders = row.filter(|(row, _)| row.content == Some(self.version));
        let folders = folders.map(|(_, holders)| holders).unwrap_or_default();
        let mut peers = context.peers()?;
        peers.retain(|peer| peer.folder != context.settings.folder_id);
        peers.sort_by_key(|peer| {
            !(folders.contains(&peer.folder) || self.known_holders.contains(&peer.slave))
        });
        Ok(peers)
    }

    /// Whether the tree still has this content at the path.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] if the catalogue cannot be read.
    pub fn is_current(&self) -> Result<bool, Refusal> {
        let row = self.context.with_catalogue(|store| store.at(&self.path))?;
        Ok(row.is_some_and(|(row, _)| row.content == Some(self.version)))
    }

    /// Returns the file if the content has come to this slave meanwhile.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_here(&self, keepalive: &mut dyn KeepAlive) -> Result<Option<File>, Refusal> {
        let wanted = IfMatch::Digest(self.digest);
        match Content::open(&self.context, &self.path, wanted, keepalive)? {
            Located::Here(content) => Ok(Some(content.file.file)),
            Located::Elsewhere(_) => Ok(None),
        }
    }

    /// Returns how many of `length` bytes there are from `offset` on.
    ///
    /// # Errors
    /// [`ErrorCode::BadOffset`] if the offset is beyond the end.
    pub fn range(&mut self, offset: u64, length: u64) -> Result<u64, Refusal> {
        let length = available(&self.path, self.size, offset, length);
        let length = self.context.recorded(&mut self.record, length)?;
        // After bytes from the disk here it is the same transfer.
        if self.bytes == 0 {
            count_resume(&self.record, self.size, (offset, length));
        }
        Ok(length)
    }

    /// Counts bytes that were sent, for the transfer log and the metrics.
    pub fn add_sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.record.set_bytes(self.bytes);
        self.record.count(bytes);
    }

    /// Ends a complete transfer.
    pub fn finish(mut self) {
        self.record.end(Ok(()));
    }

    /// Records that the transfer failed; returns the refusal as the user sees it.
    #[must_use]
    pub fn fail(&mut self, refusal: Refusal) -> Refusal {
        self.record.end(Err(refusal.code));
        refusal.below(&self.context.principal.root)
    }
}
