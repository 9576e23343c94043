//! Reads and writes whole frames over any stream, for tests. The programs use `relais_net`.

#![allow(dead_code, reason = "the tests share it; each uses a part")]

use std::io::{self, Read, Write};

use relais_proto::{FrameHeader, FrameType, HEADER_LEN, WireError};

/// Reads a frame's header; `None` if the connection ended before its first byte.
///
/// # Errors
/// [`WireError::Truncated`] inside the header, the errors of [`FrameHeader::parse`], or an error of
/// the stream.
pub fn read_header(from: &mut impl Read) -> Result<Option<FrameHeader>, WireError> {
    let mut bytes = [0; HEADER_LEN];
    let mut filled = 0;
    while filled < HEADER_LEN {
        match from.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(WireError::Truncated),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    FrameHeader::parse(bytes).map(Some)
}

/// Reads a whole frame into `payload`; `None` if the connection ended before it.
///
/// `payload` grows with the bytes that arrive, never ahead of them.
///
/// # Errors
/// [`WireError::Truncated`] inside the frame, the errors of [`FrameHeader::parse`], or an error of
/// the stream.
pub fn read_frame(
    from: &mut impl Read,
    payload: &mut Vec<u8>,
) -> Result<Option<FrameType>, WireError> {
    payload.clear();
    let Some(header) = read_header(from)? else { return Ok(None) };
    let len = header.len as usize;
    while payload.len() < len {
        let filled = payload.len();
        // The buffer at most doubles, so memory stays proportional to the received bytes.
        let step = (len - filled).min(filled.max(payload.capacity() - filled).max(512));
        payload.resize(filled + step, 0);
        match from.read_exact(&mut payload[filled..]) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(WireError::Truncated),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Some(header.kind))
}

/// Writes a frame with a complete payload.
///
/// # Errors
/// [`WireError::FrameTooLong`] if the payload exceeds the type's cap, or an error of the stream.
pub fn write_frame(to: &mut impl Write, kind: FrameType, payload: &[u8]) -> Result<(), WireError> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if len > kind.cap() {
        return Err(WireError::FrameTooLong { kind: kind.number(), len, cap: kind.cap() });
    }
    to.write_all(&FrameHeader { kind, len }.to_bytes())?;
    to.write_all(payload)?;
    Ok(())
}
