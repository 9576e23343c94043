//! RETR in TYPE A: line ends are sent as CRLF (RFC 959 section 3.1.1.1).

use relais_ftp::Reply;
use relais_ftp::ascii::{Encoder, RestartScan};
use relais_net::tls::DataDirection;
use relais_proto::TreePath;
use relais_transfer::read_full;

use super::opening::open_data;
use super::sent_content::{chosen_range, end, open_content};
use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::data::ControlWatch;
use crate::front::ftp::data::{DataError, DataStream};
use crate::front::ftp::session::{CommandError, CommandResult, FtpSession};
use crate::front::ftp::state::TransferStart;
use crate::front::replica_stream::ContentSource;

/// Bytes per read.
const BUFFER: usize = 64 * 1024;

/// Sends content; REST and RANG count sent bytes (RFC 3659 section 5.3).
///
/// The bytes before the offset are read and counted before the reply 150. ABOR ends that.
pub fn send(ftp: &mut FtpSession, path: &TreePath, name: &str) -> CommandResult {
    let (skip, mut most) = chosen_range(ftp.state.start);
    let found = match skip {
        0 => Some((0, Encoder::default())),
        _ => find_offset(ftp, path, skip)?,
    };
    let (offset, encoder) = match (found, ftp.state.start) {
        (Some(found), _) => found,
        (None, Some(TransferStart::Range(_))) => {
            // Draft-bryan-ftp-range section 4.3: a range behind the end is empty.
            most = 0;
            (0, Encoder::default())
        }
        (None, _) => {
            return Err(Reply::new(554, format!("offset {skip} is beyond the end")).into());
        }
    };
    let mut text = StoredText { source: open_content(ftp, path, (offset, u64::MAX))?, at: offset };
    let opening = format!("Opening ASCII mode data connection for {name}.");
    let mut data = open_data(ftp, DataDirection::Sending, opening)?;
    send_encoded(ftp, &mut text, encoder, most, &mut data)?;
    end(ftp, data, text.source.finish())
}

/// Returns where in the file the sent byte `skip` is, and the encoder that continues there; none
/// if it is beyond the end.
fn find_offset(
    ftp: &mut FtpSession,
    path: &TreePath,
    skip: u64,
) -> Result<Option<(u64, Encoder)>, CommandError> {
    let mut text = StoredText { source: open_content(ftp, path, (0, u64::MAX))?, at: 0 };
    let (mut scan, mut buffer) = (RestartScan::new(skip), Vec::new());
    while text.read(ftp, &mut buffer)? && !scan.scan(&buffer) {
        ftp.control.attend(0).map_err(DataError::from)?;
    }
    text.source.finish()?;
    Ok(scan.finish())
}

fn send_encoded(
    ftp: &mut FtpSession,
    text: &mut StoredText,
    mut encoder: Encoder,
    mut most: u64,
    data: &mut DataStream,
) -> Result<(), CommandError> {
    let (mut buffer, mut encoded) = (Vec::new(), Vec::new());
    while most > 0 && text.read(ftp, &mut buffer)? {
        encoded.clear();
        encoder.encode(&buffer, &mut encoded);
        encoded.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        let before = data.moved();
        let sent = data.send(&encoded, &mut ftp.control);
        text.source.add_sent(data.moved() - before);
        sent?;
        most -= encoded.len() as u64;
    }
    Ok(())
}

/// The bytes of a file, part by part, wherever they are.
struct StoredText {
    source: ContentSource,
    /// Offset of the next read.
    at: u64,
}

impl StoredText {
    /// Reads the next part; false at the end.
    fn read(&mut self, ftp: &mut FtpSession, to: &mut Vec<u8>) -> Result<bool, CommandError> {
        to.clear();
        match &mut self.source {
            ContentSource::Local(content) => {
                let left = content.size().saturating_sub(self.at);
                to.resize(usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER)), 0);
                let got = read_full(content.file(), to, self.at);
                let got = got.map_err(|e| Reply::new(451, format!("cannot read the file: {e}")))?;
                if got < to.len() {
                    return Err(Reply::new(451, "the file has become shorter").into());
                }
            }
            ContentSource::Replica(stream) => {
                let keepalive = &mut ControlKeepAlive(&mut ftp.control);
                to.extend_from_slice(stream.next_piece(keepalive)?.unwrap_or_default());
            }
        }
        self.at += to.len() as u64;
        Ok(!to.is_empty())
    }
}
