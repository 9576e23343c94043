//! STOR, APPE and STOU: receives content, and stores it if all of it has come.
//!
//! In stream mode the end of the connection is the end of the file (RFC 959 section 3.4.1), which a
//! client that was killed causes as well. So the end counts only if the control connection is open,
//! the data was not reset, and no fewer bytes came than ALLO has announced. Otherwise the upload is
//! cut: it stays staged for the client to continue.

use std::io;
use std::time::{Duration, Instant};

use relais_engine::{Committed, KeepAlive, PathUpload, Upload, UploadStart};
use relais_ftp::ascii::Decoder;
use relais_ftp::{Reply, TransferType};
use relais_net::tls::DataDirection;
use relais_os::SplicePipe;
use relais_proto::{TreePath, WaitReason};

use super::names;
use super::opening::open_data;
use crate::config::TlsEof;
use crate::front::ftp::control::{Control, ControlKeepAlive};
use crate::front::ftp::data::{ControlWatch, DataError, DataStream};
use crate::front::ftp::session::{CommandError, CommandResult, FtpSession};
use crate::front::ftp::state::TransferStart;
use crate::front::replica_stream::ReplicaStream;

/// Bytes of the first read. Most files of a mirror are small.
const SMALL_BUFFER: usize = 32 * 1024;
/// Bytes of each further read. They stay in the processor's cache until they are written.
const BUFFER: usize = 128 * 1024;

/// Part of an upload's duration for which its control connection has to stay open after the data.
///
/// The system closes the connections of a killed client one after another, the data connection
/// first, and other programs may run between the two. A part of the duration costs little.
const SETTLING_PART: u32 = 32;
/// Longest such time: a lost packet is sent again within it.
const LONGEST_SETTLING: Duration = Duration::from_millis(250);

/// STOR (RFC 959 section 4.1.3), after REST (RFC 3659 section 5.4).
pub fn store(ftp: &mut FtpSession, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    let start = match ftp.state.start {
        None | Some(TransferStart::Offset(0)) => UploadStart::New,
        Some(TransferStart::Offset(_)) if ftp.state.transfer_type == TransferType::Ascii => {
            // The offset counts sent bytes, of which the line ends are gone.
            let why = "an upload cannot be continued in TYPE A; use TYPE I";
            return Err(Reply::new(554, why).into());
        }
        Some(TransferStart::Offset(offset)) => UploadStart::At(offset),
        Some(TransferStart::Range(_)) => return Err(no_range().into()),
    };
    receive(ftp, &path, start, format!("Ready to receive {argument}."))
}

/// APPE (RFC 959 section 4.1.3): continues a cut upload, or extends a file, or makes one.
pub fn append(ftp: &mut FtpSession, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    refuse_range(ftp)?;
    receive(ftp, &path, UploadStart::Append, format!("Ready to append to {argument}."))
}

/// STOU (RFC 959 section 4.1.3), with the reply of RFC 1123 section 4.1.2.9.
pub fn store_unique(ftp: &mut FtpSession, proposed: Option<&str>) -> CommandResult {
    refuse_range(ftp)?;
    let (name, path) = names::unused(ftp, proposed)?;
    receive(ftp, &path, UploadStart::New, format!("FILE: {name}"))
}

/// Refuses a range, for which an upload would replace a part of a file.
///
/// draft-bryan-ftp-range section 4.3. To append, and to ignore the range, would be worse.
fn refuse_range(ftp: &FtpSession) -> Result<(), Reply> {
    match ftp.state.start {
        Some(TransferStart::Range(_)) => Err(no_range()),
        _ => Ok(()),
    }
}

fn no_range() -> Reply {
    Reply::new(503, "RANG is for RETR and HASH")
}

fn receive(
    ftp: &mut FtpSession,
    path: &TreePath,
    start: UploadStart,
    opening: String,
) -> CommandResult {
    ftp.control.activity.begin(format!("receiving {path}"));
    let mut upload = begin(ftp, path, start)?;
    let before = upload.offset();
    let mut data = open_data(ftp, DataDirection::Receiving, opening)?;
    let began = Instant::now();
    if let Err(error) = receive_all(ftp, &mut data, &mut upload) {
        return Err(kept(error, upload.offset()));
    }
    let there = before + data.moved();
    let settled = Instant::now() + settling_time(ftp, &data, began.elapsed());
    // A client may wait for close_notify before it reads the reply.
    data.close();
    if let Some(announced) = ftp.state.announced.filter(|announced| there < *announced) {
        let why = format!("the upload ended at byte {there}, but ALLO announced {announced}");
        return Err(kept(Reply::new(426, why).into(), upload.offset()));
    }
    let change = upload.finish(None, &mut Uncancelled(&mut ftp.control))?;
    if let Err(e) = ftp.control.stays_open(settled.saturating_duration_since(Instant::now())) {
        ftp.session.keep_upload(change);
        return Err(e.into());
    }
    Ok(stored(&ftp.commit(change)?))
}

/// Returns how long the control connection has to stay open after data that came in `elapsed`.
fn settling_time(ftp: &FtpSession, data: &DataStream, elapsed: Duration) -> Duration {
    // The closing alert of TLS proves that the client has ended the data.
    if data.is_encrypted() && ftp.context.config.tls_eof == TlsEof::Strict {
        return Duration::ZERO;
    }
    (elapsed / SETTLING_PART).min(LONGEST_SETTLING)
}

/// Begins an upload. Old content that it begins with may have to come from another slave.
fn begin(
    ftp: &mut FtpSession,
    path: &TreePath,
    start: UploadStart,
) -> Result<Upload, CommandError> {
    let announced = ftp.state.announced;
    let keepalive = &mut ControlKeepAlive(&mut ftp.control);
    let (mut upload, content) =
        match ftp.session.begin_path_upload(path, start, announced, keepalive)? {
            PathUpload::Ready(upload) => return Ok(upload),
            PathUpload::NeedsPrefix { upload, content } => (upload, *content),
        };
    let range = (0, upload.length());
    let mut stream = ReplicaStream::open(&ftp.context.replicas, content, range, keepalive)?;
    while let Some(piece) = stream.next_piece(keepalive)? {
        upload.write(piece)?;
    }
    stream.finish();
    Ok(upload.complete(keepalive)?)
}

/// Receives up to the end of the data, and checks that it is the end of the content.
fn receive_all(
    ftp: &mut FtpSession,
    data: &mut DataStream,
    upload: &mut Upload,
) -> Result<(), CommandError> {
    let decoder = match ftp.state.transfer_type {
        TransferType::Image => {
            receive_image(ftp, data, upload)?;
            None
        }
        TransferType::Ascii => Some(receive_text(ftp, data, upload)?),
    };
    // ABOR or the end of the control connection may have come before the end of the data.
    ftp.control.attend(data.moved()).map_err(DataError::from)?;
    if let Some(decoder) = decoder {
        let mut rest = Vec::new();
        decoder.finish(&mut rest);
        upload.write(&rest)?;
    }
    Ok(())
}

/// Receives bytes as they are. Those of large content go from the socket to the file without a
/// copy.
fn receive_image(
    ftp: &mut FtpSession,
    data: &mut DataStream,
    upload: &mut Upload,
) -> Result<(), CommandError> {
    let mut buffer = vec![0; SMALL_BUFFER];
    while let Some(got) = read(ftp, data, &mut buffer)? {
        upload.write(&buffer[..got])?;
        if upload.is_large()
            && !data.is_encrypted()
            && let Some(mut pipe) = SplicePipe::if_possible()
        {
            while data.read_into(&mut pipe, &mut ftp.control)? > 0 {
                upload.write_from(&mut pipe)?;
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Receives lines, and converts their ends; the decoder may hold the last byte.
fn receive_text(
    ftp: &mut FtpSession,
    data: &mut DataStream,
    upload: &mut Upload,
) -> Result<Decoder, CommandError> {
    let (mut decoder, mut converted) = (Decoder::default(), Vec::new());
    let mut buffer = vec![0; SMALL_BUFFER];
    while let Some(got) = read(ftp, data, &mut buffer)? {
        converted.clear();
        decoder.decode(&buffer[..got], &mut converted);
        upload.write(&converted)?;
    }
    Ok(decoder)
}

/// Reads some bytes, and makes the buffer larger for the next ones; none at the end of the data.
fn read(
    ftp: &mut FtpSession,
    data: &mut DataStream,
    buffer: &mut Vec<u8>,
) -> Result<Option<usize>, CommandError> {
    let got = match data.read(buffer, &mut ftp.control) {
        Err(DataError::NoCloseNotify) if ftp.context.config.tls_eof == TlsEof::Lenient => 0,
        got => got?,
    };
    if got == SMALL_BUFFER {
        buffer.resize(BUFFER, 0);
    }
    Ok((got > 0).then_some(got))
}

/// Adds to the reply for a cut upload that it can be continued.
fn kept(error: CommandError, bytes: u64) -> CommandError {
    match error {
        CommandError::Reply(reply) if reply.code() == 426 && bytes > 0 => {
            let text = format!("{}; {bytes} bytes are kept for 24 hours", reply.text());
            CommandError::Reply(Reply::new(426, text))
        }
        error => error,
    }
}

fn stored(committed: &Committed) -> Reply {
    let copies = match committed.copies {
        1 => "1 copy".to_owned(),
        copies => format!("{copies} copies"),
    };
    Reply::new(226, format!("Stored as version {}, {copies}", committed.version))
}

/// Attends to the control connection while complete content is written to the disk.
///
/// Nothing cancels that: the upload would be lost instead of kept.
struct Uncancelled<'a>(&'a mut Control);

impl KeepAlive for Uncancelled<'_> {
    fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
        // ABOR is answered later, and the end of the connection is noticed later.
        let _ = self.0.check_interrupts();
        Ok(())
    }
}
