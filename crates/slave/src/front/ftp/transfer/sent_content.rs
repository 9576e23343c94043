//! What downloads of each TYPE have in common: the range, the content and its end.

use relais_ftp::Reply;
use relais_proto::{Refusal, TreePath};

use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::data::DataStream;
use crate::front::ftp::session::{CommandResult, FtpSession};
use crate::front::ftp::state::TransferStart;
use crate::front::replica_stream::ContentSource;

/// Bytes of a transfer: offset and length. The length may lead beyond the end.
pub type SentRange = (u64, u64);

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

/// Ends the data of a download: properly only if the content is complete and was not changed.
pub fn end(ftp: &mut FtpSession, data: DataStream, result: Result<(), Refusal>) -> CommandResult {
    // Without its end the connection is reset, so that the data does not look complete.
    result?;
    let bytes = data.moved();
    data.finish(&mut ftp.control)?;
    Ok(Reply::new(226, format!("Transfer complete: {bytes} bytes")))
}
