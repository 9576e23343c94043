//! RETR: sends the content of a file, which is here or comes from other slaves.

use std::ops::Range;

use relais_engine::ReadFailure;
use relais_ftp::TransferType;
use relais_net::tls::DataDirection;
use relais_proto::{Refusal, TreePath};
use relais_transfer::SendOutcome;

use super::ascii;
use super::opening::open_data;
use super::sent_content::{SentRange, chosen_range, end, open_content};
use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::data::DataStream;
use crate::front::ftp::session::{CommandError, CommandResult, FtpSession};
use crate::front::ftp::state::TransferStart;
use crate::front::replica_stream::{ContentSource, ReplicaStream};

/// Bytes after which the metrics count what was sent.
const COUNTED: u64 = 8 << 20;

/// RETR: RFC 959 section 4.1.3, after REST (RFC 3659 section 5) or RANG (draft-bryan-ftp-range).
pub fn retrieve(ftp: &mut FtpSession, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    ftp.control.activity.begin(format!("RETR {path}"));
    match ftp.state.transfer_type {
        TransferType::Image => send_image(ftp, &path, argument),
        TransferType::Ascii => ascii::send(ftp, &path, argument),
    }
}

fn send_image(ftp: &mut FtpSession, path: &TreePath, name: &str) -> CommandResult {
    let (offset, length) = range_of_file(ftp, path)?;
    let source = open_content(ftp, path, (offset, length))?;
    let length = length.min(source.size().saturating_sub(offset));
    let opening = format!("Opening BINARY mode data connection for {name} ({length} bytes).");
    let mut data = open_data(ftp, DataDirection::Sending, opening)?;
    let source = send_bytes(ftp, &mut data, source, (offset, length))?;
    end(ftp, data, source.finish())
}

/// Returns the chosen range.
///
/// One of RANG that begins behind the end is empty (draft-bryan-ftp-range section 4.3).
fn range_of_file(ftp: &mut FtpSession, path: &TreePath) -> Result<SentRange, Refusal> {
    let Some(TransferStart::Range(range)) = ftp.state.start else {
        return Ok(chosen_range(ftp.state.start));
    };
    let size = ftp.file(path)?.size;
    let Range { start, end } = range.within(size).unwrap_or(size..size);
    Ok((start, end - start))
}

/// Sends bytes of the content. Other slaves continue if the disk here fails.
fn send_bytes(
    ftp: &mut FtpSession,
    data: &mut DataStream,
    source: ContentSource,
    (offset, length): SentRange,
) -> Result<ContentSource, CommandError> {
    let mut content = match source {
        ContentSource::Local(content) => content,
        ContentSource::Replica(stream) => return send_pieces(ftp, data, stream),
    };
    let failure = loop {
        let (before, left) = (data.moved(), length - data.moved());
        let most = left.min(COUNTED);
        let sent = data.send_file(content.file(), offset + before, most, &mut ftp.control);
        content.add_sent(data.moved() - before);
        match sent? {
            SendOutcome::Whole if most == left => return Ok(ContentSource::Local(content)),
            SendOutcome::Whole => {}
            SendOutcome::Short => break ReadFailure::Short,
            SendOutcome::Unreadable(e) => break ReadFailure::Unreadable(e),
        }
    };
    let rest = (offset + data.moved(), length - data.moved());
    let keepalive = &mut ControlKeepAlive(&mut ftp.control);
    let source = ContentSource::Local(content);
    match source.continue_elsewhere(&ftp.context.replicas, &failure, rest, keepalive)? {
        ContentSource::Replica(stream) => send_pieces(ftp, data, stream),
        here @ ContentSource::Local(_) => Ok(here),
    }
}

fn send_pieces(
    ftp: &mut FtpSession,
    data: &mut DataStream,
    mut stream: Box<ReplicaStream>,
) -> Result<ContentSource, CommandError> {
    // Other slaves may take their time.
    ftp.control.flush()?;
    while let Some(piece) = stream.next_piece(&mut ControlKeepAlive(&mut ftp.control))? {
        let before = data.moved();
        let sent = data.send(piece, &mut ftp.control);
        stream.add_sent(data.moved() - before);
        sent?;
    }
    Ok(ContentSource::Replica(stream))
}
