//! TYPE, STRU, MODE, REST and RANG: parameters of the next transfers.

use relais_ftp::{ByteRange, RangeRequest, Reply, TransferType};

use crate::front::ftp::session::{CommandResult, FtpSession};
use crate::front::ftp::state::TransferStart;

/// TYPE: RFC 959 section 4.1.2.
pub fn transfer_type(ftp: &mut FtpSession, kind: TransferType) -> CommandResult {
    ftp.state.transfer_type = kind;
    Ok(Reply::new(
        200,
        match kind {
            TransferType::Ascii => "Type is ASCII: line ends are converted",
            TransferType::Image => "Type is image: bytes are sent as they are",
        },
    ))
}

/// STRU F: RFC 959 section 4.1.2. The parser refuses other structures with 504.
pub fn structure() -> CommandResult {
    Ok(Reply::new(200, "Structure is file"))
}

/// MODE S: RFC 959 section 4.1.2. The parser refuses other modes with 504.
pub fn mode() -> CommandResult {
    Ok(Reply::new(200, "Mode is stream"))
}

/// REST: RFC 3659 section 5. It replaces an earlier RANG.
pub fn restart(ftp: &mut FtpSession, offset: u64) -> CommandResult {
    ftp.state.start = (offset > 0).then_some(TransferStart::Offset(offset));
    Ok(Reply::new(350, format!("The next transfer begins at byte {offset}")))
}

/// RANG: draft-bryan-ftp-range section 3. It replaces an earlier REST.
pub fn range(ftp: &mut FtpSession, request: RangeRequest) -> CommandResult {
    ftp.state.start = None;
    let text = match request {
        RangeRequest::Bytes(range) => {
            ftp.state.start = Some(TransferStart::Range(range));
            match range {
                ByteRange { start, end: Some(end) } => {
                    format!("The next transfer has bytes {start} to {}", end - 1)
                }
                ByteRange { start, end: None } => {
                    format!("The next transfer begins at byte {start}")
                }
            }
        }
        RangeRequest::Whole => "The next transfer has the whole file".to_owned(),
        RangeRequest::Invalid => {
            let why = "The first byte is behind the last; the next transfer has the whole file";
            return Err(Reply::new(501, why).into());
        }
    };
    Ok(Reply::new(350, text))
}
