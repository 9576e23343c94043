//! A password on its way from one process to another.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroize;

use crate::{Capped, Decoder, Encoder, WireError};

/// The bytes of a password: overwritten when dropped, and not shown by debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordBytes(Vec<u8>);

impl From<&[u8]> for PasswordBytes {
    fn from(password: &[u8]) -> Self {
        Self(password.to_vec())
    }
}

impl Deref for PasswordBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PasswordBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PasswordBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordBytes(..)")
    }
}

impl Capped<usize> for PasswordBytes {
    fn encode_capped(&self, to: &mut Encoder<'_>, _: usize) {
        to.short_bytes(&self.0);
    }

    fn decode_capped(
        from: &mut Decoder<'_>,
        what: &'static str,
        cap: usize,
    ) -> Result<Self, WireError> {
        from.short_bytes(what, cap).map(Self::from)
    }
}
