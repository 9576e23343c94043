//! RETR: sends the content of a file, which is here or comes from other slaves.

use relais_engine::ReadFailure;
use relais_ftp::{Reply, TransferType};
use relais_net::tls::DataDirection;
use relais_proto::{Refusal, TreePath};
use relais_transfer::SendOutcome;

use super::open_data;
use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::data::DataStream;
use crate::front::ftp::session::{CommandError, CommandResult, FtpSession};
use crate::front::ftp::state::TransferStart;
use crate::front::replica_stream::{ContentSource, ReplicaStream};

/// Bytes of a transfer: offset and length. The length may lead beyond the end.
pub type SentRange = (u64, u64);

/// RETR: RFC 959 section 4.1.3, after REST (RFC 3659 section 5) or RANG (draft-bryan-ftp-range).
pub fn retrieve(ftp: &mut FtpSession, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    ftp.control.activity.begin(format!("RETR {path}"));
    match ftp.state.transfer_type {
        TransferType::Image => send_image(ftp, &path, argument),
        TransferType::Ascii => super::ascii::send(ftp, &path, argument),
    }
}

/// Returns the range that REST or RANG has chosen.
pub fn chosen_range(start: Option<TransferStart>) -> SentRange {
    match start {
        None => (0, u64::MAX),
        Some(TransferStart::Offset(offset)) => (offset, u64::MAX),
        Some(TransferStart::Range(range)) => {
            let end = range.end.unwrap_or(u64::MAX);
            (range.start, end.saturating_sub(range.start))
        }
    }
}

/// Opens content that is to be sent.
pub fn open_content(
    ftp: &mut FtpSession,
    path: &TreePath,
    range: SentRange,
) -> Result<ContentSource, Refusal> {
    let keepalive = &mut ControlKeepAlive(&mut ftp.control);
    ContentSource::open(&ftp.session, &ftp.context.replicas, path, range, keepalive)
}

fn send_image(ftp: &mut FtpSession, path: &TreePath, name: &str) -> CommandResult {
    let (offset, length) = chosen_range(ftp.state.start);
    let source = open_content(ftp, path, (offset, length))?;
    let length = length.min(source.size().saturating_sub(offset));
    let opening = format!("Opening BINARY mode data connection for {name} ({length} bytes).");
    let mut data = open_data(ftp, DataDirection::Sending, opening)?;
    let source = send_bytes(ftp, &mut data, source, (offset, length))?;
    end(ftp, data, source.finish())
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
    let sent = data.send_file(content.file(), offset, length, &mut ftp.control);
    content.add_sent(data.moved());
    let failure = match sent? {
        SendOutcome::Whole => return Ok(ContentSource::Local(content)),
        SendOutcome::Short => ReadFailure::Short,
        SendOutcome::Unreadable(e) => ReadFailure::Unreadable(e),
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
    while let Some(piece) = stream.next_piece(&mut ControlKeepAlive(&mut ftp.control))? {
        let before = data.moved();
        let sent = data.send(piece, &mut ftp.control);
        stream.add_sent(data.moved() - before);
        sent?;
    }
    Ok(ContentSource::Replica(stream))
}

/// Ends the data of a download: properly only if the content is complete and was not changed.
pub fn end(ftp: &mut FtpSession, data: DataStream, result: Result<(), Refusal>) -> CommandResult {
    // Without its end the connection is reset, so that the data does not look complete.
    result?;
    let bytes = data.moved();
    data.finish(&mut ftp.control)?;
    Ok(Reply::new(226, format!("Transfer complete: {bytes} bytes")))
}
