//! Checksums over FTP: HASH, XSHA256, XMD5 and XCRC.

use std::fmt;
use std::ops::Range;

/// An algorithm of the HASH command (`draft-bryan-ftpext-hash`, section 3.1).
///
/// The names are those of the IANA registry; BLAKE3 is our extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "the names say everything")]
pub enum HashAlgorithm {
    #[default]
    Sha256,
    Blake3,
    Md5,
    Crc32,
}

impl HashAlgorithm {
    /// All algorithms in the order of FEAT.
    pub const ALL: [Self; 4] = [Self::Sha256, Self::Blake3, Self::Md5, Self::Crc32];

    /// Returns the name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Blake3 => "BLAKE3",
            Self::Md5 => "MD5",
            Self::Crc32 => "CRC32",
        }
    }

    /// Finds an algorithm by its name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Returns the names of all algorithms, for people.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Returns the names for FEAT, the current one with `*`: `SHA-256*;BLAKE3;MD5;CRC32`.
    #[must_use]
    pub fn feature(self) -> String {
        let mark = |algorithm: Self| if algorithm == self { "*" } else { "" };
        let names = Self::ALL.map(|algorithm| format!("{algorithm}{}", mark(algorithm)));
        names.join(";")
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns the text of reply 213 to HASH: algorithm, range, digest and name.
///
/// The range shows the first and the last byte (`draft-bryan-ftpext-hash`, section 3); an empty
/// one shows `N-N`. `name` is the path as the client wrote it.
#[must_use]
pub fn hash_text(
    algorithm: HashAlgorithm,
    range: &Range<u64>,
    digest: &[u8],
    name: &str,
) -> String {
    let last = range.end.saturating_sub(1).max(range.start);
    format!("{algorithm} {}-{last} {} {name}", range.start, hex(digest))
}

/// Returns a digest as lower-case hexadecimal.
#[must_use]
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case() {
        for algorithm in HashAlgorithm::ALL {
            assert_eq!(HashAlgorithm::parse(algorithm.name()), Some(algorithm));
            assert_eq!(HashAlgorithm::parse(&algorithm.name().to_lowercase()), Some(algorithm));
        }
        assert_eq!(HashAlgorithm::parse("SHA-1"), None);
        assert_eq!(HashAlgorithm::parse(""), None);
    }

    #[test]
    fn feature_marks_the_current_one() {
        assert_eq!(HashAlgorithm::default().feature(), "SHA-256*;BLAKE3;MD5;CRC32");
        assert_eq!(HashAlgorithm::Md5.feature(), "SHA-256;BLAKE3;MD5*;CRC32");
    }

    #[test]
    fn reply_has_the_form_of_the_draft() {
        let text = hash_text(HashAlgorithm::Sha256, &(0..50), &[0x16, 0x9c, 0x0d], "file name.ext");
        assert_eq!(text, "SHA-256 0-49 169c0d file name.ext");
        assert_eq!(hash_text(HashAlgorithm::Crc32, &(0..0), &[0; 4], "x"), "CRC32 0-0 00000000 x");
    }
}
