//! A content that is uploaded: its source, its target and its result.

use std::fs::File;
use std::net::SocketAddr;

use relais_proto::{ChangeId, Digest, Expect, FileTime, Lsn, Mode, TreePath};

/// File to upload. It is open already, and read at explicit offsets.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy)]
pub struct UploadSource<'a> {
    pub file: &'a File,
    /// Size in bytes.
    pub size: u64,
    /// Modification time for the server.
    pub mtime: FileTime,
    pub mode: Mode,
}

/// Target of an upload.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy)]
pub struct UploadTarget<'a> {
    /// Id of the change; the same id, path and size mean the same upload.
    pub id: ChangeId,
    /// Whether an earlier call may have used the id.
    ///
    /// Its content then counts only while it is still at the path.
    pub is_old: bool,
    pub path: &'a TreePath,
    /// Precondition of the put.
    pub expect: Expect,
    /// Disks that must hold the content; 0 for the cluster's default.
    pub copies: u16,
}

/// A completed upload.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedUpload {
    /// Number of the change.
    pub version: Lsn,
    /// Number of disks that hold the content.
    pub copies: u16,
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that the storing server already had before this call.
    pub resumed_from: u64,
    /// Servers that received bytes, in the order of their first byte, and the one that confirmed.
    pub servers: Vec<SocketAddr>,
    /// Sent content bytes, including lost ones.
    pub bytes_moved: u64,
}
