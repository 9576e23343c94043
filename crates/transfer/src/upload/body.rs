//! Content of an upload: a file that is watched for changes, or bytes in memory.
//!
//! Reads at explicit offsets and writes nothing.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use relais_proto::{FileTime, Mode, PutRequest};

use super::content::{UploadSource, UploadTarget};
use crate::error::TransferError;
use crate::send::read_full;

/// Largest file that is read, hashed and sent at once; a second thread would cost more.
pub(super) const SMALL: u64 = 256 * 1024;

/// Metadata that distinguishes two states of a file. No program can set the ctime.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot([i64; 4], [u64; 3]);

impl Snapshot {
    fn of(file: &File) -> Result<Self, TransferError> {
        let meta = file.metadata().map_err(TransferError::reading)?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        Ok(Self(times, [meta.dev(), meta.ino(), meta.size()]))
    }
}

#[derive(Debug)]
enum ContentSource<'a> {
    File(&'a File, Snapshot),
    Memory(&'a [u8]),
}

/// Content of a known length.
#[derive(Debug)]
pub(super) struct Body<'a> {
    place: ContentSource<'a>,
    size: u64,
    mtime: Option<FileTime>,
    mode: Option<Mode>,
}

impl<'a> Body<'a> {
    /// Takes a file in its current state, if it still has the size that the caller knows.
    pub(super) fn of_file(source: &UploadSource<'a>) -> Result<Self, TransferError> {
        let snapshot = Snapshot::of(source.file)?;
        if snapshot.1[2] != source.size {
            return Err(TransferError::SourceChanged);
        }
        let place = ContentSource::File(source.file, snapshot);
        Ok(Self { place, size: source.size, mtime: Some(source.mtime), mode: Some(source.mode) })
    }

    pub(super) fn in_memory(bytes: &'a [u8]) -> Self {
        let place = ContentSource::Memory(bytes);
        Self { place, size: bytes.len() as u64, mtime: None, mode: None }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file if the content is not sent from memory.
    pub(super) fn large_file(&self) -> Option<&'a File> {
        match &self.place {
            ContentSource::File(file, _) if self.size > SMALL => Some(file),
            _ => None,
        }
    }

    /// Returns all bytes of content that is sent from memory.
    pub(super) fn small(&self) -> Result<Cow<'a, [u8]>, TransferError> {
        match &self.place {
            ContentSource::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            ContentSource::File(file, _) => {
                let mut bytes = vec![0; usize::try_from(self.size).unwrap_or(0)];
                let got = read_full(file, &mut bytes, 0).map_err(TransferError::reading)?;
                if got < bytes.len() {
                    return Err(TransferError::SourceChanged);
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// Checks that the file has not changed since the start.
    pub(super) fn check_unchanged(&self) -> Result<(), TransferError> {
        match &self.place {
            ContentSource::Memory(_) => Ok(()),
            ContentSource::File(file, snapshot) if Snapshot::of(file)? == *snapshot => Ok(()),
            ContentSource::File(..) => Err(TransferError::SourceChanged),
        }
    }

    /// Returns the request that opens the upload at `offset`; `size` is that of all that follows.
    pub(super) fn opening(
        &self,
        target: &UploadTarget<'_>,
        offset: u64,
        size: Option<u64>,
    ) -> PutRequest {
        let UploadTarget { id, path, expect, copies, .. } = *target;
        let (mtime, mode) = (self.mtime, self.mode);
        PutRequest { id, path: path.clone(), size, offset, mtime, mode, expect, copies }
    }
}
