//! Copies the content of one file into an archive.

use std::io;
use std::sync::Arc;

use relais_archive::ArchiveWriter;
use relais_engine::{Content, KeepAlive, ReadFailure};
use relais_proto::{Entry, FileTime};
use relais_transfer::read_full;

use crate::front::replica_stream::{ContentSource, ReplicaDialer};

/// Bytes per read; they stay in the processor's cache.
const COPIED: usize = 64 * 1024;
/// The permissions of a file whose content is on other slaves.
const MODE_ELSEWHERE: u32 = 0o644;

/// Returns permissions and time of a file.
pub fn attributes(source: &ContentSource, entry: &Entry) -> (u32, FileTime) {
    match source {
        ContentSource::Local(content) => {
            let (mode, modified) = content.attributes();
            (mode.bits(), modified)
        }
        ContentSource::Replica(_) => (MODE_ELSEWHERE, entry.mtime),
    }
}

/// Copies all of a file. Other slaves continue if the disk here fails.
///
/// # Errors
/// Those of the archive; the content was changed meanwhile, or no slave can read it.
pub fn copy(
    source: ContentSource,
    replicas: &Arc<ReplicaDialer>,
    archive: &mut dyn ArchiveWriter,
    keepalive: &mut dyn KeepAlive,
) -> io::Result<()> {
    let mut content = match source {
        ContentSource::Local(content) => content,
        replica @ ContentSource::Replica(_) => return copy_pieces(replica, archive, keepalive),
    };
    let mut copied = 0;
    let Some(failure) = copy_local(&mut content, &mut copied, archive)? else {
        return content.finish().map_err(io::Error::other);
    };
    let rest = (copied, content.size() - copied);
    let source = ContentSource::Local(content);
    let source = source.continue_elsewhere(replicas, &failure, rest, keepalive);
    copy_pieces(source.map_err(io::Error::other)?, archive, keepalive)
}

/// Copies what can be read here, and counts it; returns why the rest cannot be read.
fn copy_local(
    content: &mut Content,
    copied: &mut u64,
    archive: &mut dyn ArchiveWriter,
) -> io::Result<Option<ReadFailure>> {
    let mut buffer = vec![0; COPIED];
    while *copied < content.size() {
        let left = content.size() - *copied;
        let want = usize::try_from(left).map_or(COPIED, |left| left.min(COPIED));
        match read_full(content.file(), &mut buffer[..want], *copied) {
            Ok(0) => return Ok(Some(ReadFailure::Short)),
            Ok(got) => {
                archive.write_content(&buffer[..got])?;
                content.add_sent(got as u64);
                *copied += got as u64;
            }
            Err(e) => return Ok(Some(ReadFailure::Unreadable(e))),
        }
    }
    Ok(None)
}

fn copy_pieces(
    mut source: ContentSource,
    archive: &mut dyn ArchiveWriter,
    keepalive: &mut dyn KeepAlive,
) -> io::Result<()> {
    if let ContentSource::Replica(stream) = &mut source {
        while let Some(piece) = stream.next_piece(keepalive).map_err(io::Error::other)? {
            let length = piece.len() as u64;
            archive.write_content(piece)?;
            stream.add_sent(length);
        }
    }
    source.finish().map_err(io::Error::other)
}
