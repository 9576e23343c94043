//! Hosts with or without a port, as `Host` and targets have them.

/// Whether a text can be a host with or without a port (RFC 3986, section 3.2), without user.
pub(crate) fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&b))
}
