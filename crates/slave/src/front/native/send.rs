//! Sends listings and content.

use std::io;

use relais_engine::{Content, EntryList, Listing, ReadFailure};
use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, EntryResult, PageBuilder, Refusal, Reply, WireError, limits,
};
use relais_transfer::{BlockRange, SendOutcome, send_blocks};

use super::keep_alive::ConnectionKeepAlive;

/// Results that fit into one frame: each has at most the bytes of a refusal with the longest text.
const RESULTS_PER_FRAME: usize = limits::CONTROL_FRAME as usize / (limits::TEXT + 16);

/// Sends the pages of a listing; returns its last reply.
///
/// # Errors
/// The connection's.
pub fn send_listing(
    connection: &mut Connection,
    listing: &mut Listing,
) -> Result<Result<Reply, Refusal>, WireError> {
    loop {
        let mut page = PageBuilder::new();
        match listing.next_page(&mut |entry| page.push(entry)) {
            Ok(true) => connection.queue_reply(&Reply::Entries(page.finish())),
            Ok(false) => return Ok(Ok(Reply::Done { lsn: listing.lsn() })),
            Err(refusal) => return Ok(Err(refusal)),
        }
        connection.flush()?;
    }
}

/// Queues the entries of several paths; returns the last reply.
pub fn queue_entries(connection: &mut Connection, list: EntryList) -> Reply {
    let mut results = list.results.into_iter().map(|result| match result {
        Ok((entry, digest)) => EntryResult::Found { entry, digest },
        Err(refusal) => EntryResult::Refused(refusal),
    });
    loop {
        let results: Vec<_> = results.by_ref().take(RESULTS_PER_FRAME).collect();
        if results.is_empty() {
            return Reply::Done { lsn: list.lsn };
        }
        connection.queue_reply(&Reply::EntryResults { results });
    }
}

/// Sends header and blocks of content; returns its last reply.
///
/// # Errors
/// The connection's.
pub fn send_content(
    connection: &mut Connection,
    mut content: Content,
    header: ContentHeader,
) -> io::Result<Result<Reply, Refusal>> {
    let span =
        BlockRange { offset: header.offset, length: header.length, block_size: header.block_size };
    // An unknown digest is computed while the content is sent, if all of it is sent.
    let mut hasher =
        (header.digest.is_none() && header.length == header.size).then(blake3::Hasher::new);
    connection.queue_reply(&Reply::ContentHeader(header));
    let mut update = hasher.as_mut().map(|hasher| {
        move |bytes: &[u8]| {
            hasher.update(bytes);
        }
    });
    let observer = update.as_mut().map(|update| update as &mut dyn FnMut(&[u8]));
    let sent = content.send(|file, count| send_blocks(connection, file, span, observer, count));
    match sent? {
        SendOutcome::Whole => {}
        SendOutcome::Short => return Ok(Err(content.fail(&ReadFailure::Short))),
        SendOutcome::Unreadable(e) => {
            return Ok(Err(content.fail(&ReadFailure::Unreadable(e))));
        }
    }
    let digest = match hasher {
        Some(hasher) => Ok(Digest(hasher.finalize().into())),
        None => content.digest(&mut ConnectionKeepAlive::new(connection)),
    };
    Ok(digest.and_then(|digest| content.finish().map(|()| Reply::End { digest })))
}
