//! The headers Depth, Overwrite and Lock-Token.

use crate::error::DavError;

/// How far below a resource a request goes (RFC 4918, section 10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The resource alone.
    Zero,
    /// The resource and its members.
    One,
    /// The resource and everything below it.
    Infinity,
}

/// Reads the header `Depth`. Without it a request goes to infinity.
///
/// # Errors
/// 400 for any other text than `0`, `1` and `infinity`.
pub fn depth(header: Option<&str>) -> Result<Depth, DavError> {
    match header.map(str::trim) {
        None => Ok(Depth::Infinity),
        Some("0") => Ok(Depth::Zero),
        Some("1") => Ok(Depth::One),
        Some(text) if text.eq_ignore_ascii_case("infinity") => Ok(Depth::Infinity),
        Some(_) => Err(DavError::syntax("Depth is 0, 1 or infinity")),
    }
}

/// Reads the header `Overwrite` (RFC 4918, section 10.6). Without it the target is replaced.
///
/// # Errors
/// 400 for any other text than `T` and `F`.
pub fn overwrite(header: Option<&str>) -> Result<bool, DavError> {
    match header.map(str::trim) {
        None | Some("T" | "t") => Ok(true),
        Some("F" | "f") => Ok(false),
        Some(_) => Err(DavError::syntax("Overwrite is T or F")),
    }
}

/// Reads the header `Lock-Token` of UNLOCK (RFC 4918, section 10.5): a coded URL.
///
/// # Errors
/// 400 if it is not there, or is no URL in angle brackets.
pub fn lock_token(header: Option<&str>) -> Result<&str, DavError> {
    let token = header.map(str::trim).and_then(|text| text.strip_prefix('<'));
    token
        .and_then(|text| text.strip_suffix('>'))
        .filter(|token| !token.is_empty() && !token.contains(['<', '>', ' ']))
        .ok_or_else(|| DavError::syntax("Lock-Token is a URL in angle brackets"))
}
