//! Encoding shared by several records.
//!
//! Counts have eight bytes; all other fields are encoded as in the protocol, but texts are never
//! truncated.

use relais_proto::{Decoder, Digest, Encoder, ErrorCode, FolderId, Lsn, Refusal, Wire, WireError};

use crate::coordinator::{count, many};
use crate::replica::MissingContent;
use crate::sequence::ChangeRequest;

/// Longest text in bytes.
const TEXT: u32 = 1024 * 1024;

pub(super) fn encode_all<'a, T: 'a>(
    all: impl ExactSizeIterator<Item = &'a T>,
    to: &mut Encoder<'_>,
    mut each: impl FnMut(&T, &mut Encoder<'_>),
) {
    count(all.len(), to);
    all.for_each(|one| each(one, to));
}

pub(super) fn decode_all<T: Wire>(from: &mut Decoder<'_>) -> Result<Vec<T>, WireError> {
    many(from, T::decode)
}

pub(super) fn encode_refusal(refusal: &Refusal, to: &mut Encoder<'_>) {
    let Refusal { code, message, retry_after, path } = refusal;
    let text = &message[..message.floor_char_boundary(TEXT as usize)];
    to.u16(code.number())
        .u16(*retry_after)
        .u32(u32::try_from(text.len()).unwrap_or(TEXT))
        .bytes(text.as_bytes())
        .option(path.as_ref(), |path, to| {
            to.path(path);
        });
}

pub(super) fn decode_refusal(from: &mut Decoder<'_>) -> Result<Refusal, WireError> {
    let (number, retry_after, len) = (from.u16()?, from.u16()?, from.u32()?);
    let code = ErrorCode::from_number(number)
        .ok_or(WireError::BadValue { what: "error code", value: number.into() })?;
    if len > TEXT {
        return Err(WireError::OverCap { what: "message", len: len.into(), cap: TEXT.into() });
    }
    let bytes = from.take(usize::try_from(len).map_err(|_| WireError::Short)?)?;
    let message = std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8("message"))?.to_owned();
    let path = if from.bool()? { Some(from.path()?) } else { None };
    Ok(Refusal { code, message, retry_after, path })
}

pub(super) fn encode_asked(request: &ChangeRequest, to: &mut Encoder<'_>) {
    let ChangeRequest { id, change, expect, keep_mode } = request;
    id.encode(to);
    change.encode(to);
    expect.encode(to);
    to.bool(*keep_mode);
}

pub(super) fn decode_asked(from: &mut Decoder<'_>) -> Result<ChangeRequest, WireError> {
    Ok(ChangeRequest {
        id: Wire::decode(from)?,
        change: Wire::decode(from)?,
        expect: Wire::decode(from)?,
        keep_mode: from.bool()?,
    })
}

pub(super) fn encode_lack(lack: &MissingContent, to: &mut Encoder<'_>) {
    let MissingContent { put, path, size, digest, holders } = lack;
    put.encode(to);
    digest.encode(to.path(path).u64(*size));
    encode_all(holders.iter(), to, FolderId::encode);
}

pub(super) fn decode_lack(from: &mut Decoder<'_>) -> Result<MissingContent, WireError> {
    let (put, path, size) = (Lsn::decode(from)?, from.path()?, from.u64()?);
    Ok(MissingContent {
        put,
        path,
        size,
        digest: Digest::decode(from)?,
        holders: decode_all(from)?,
    })
}
