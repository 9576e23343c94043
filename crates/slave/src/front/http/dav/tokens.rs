//! Lock tokens as URIs (RFC 4918, section 6.5).

use relais_proto::LockToken;

/// The scheme of UUIDs (RFC 9562, section 4).
const PREFIX: &str = "urn:uuid:";
/// Hexadecimal digits before each hyphen of an UUID.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// Returns the URI of a token.
pub fn to_uri(token: LockToken) -> String {
    let digits: String = token.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut rest = digits.as_str();
    let mut uri = PREFIX.to_owned();
    for (n, length) in GROUPS.into_iter().enumerate() {
        let (group, after) = rest.split_at(length);
        if n > 0 {
            uri.push('-');
        }
        uri.push_str(group);
        rest = after;
    }
    uri
}

/// Returns the token with an URI; none if no token of this server has it.
pub fn from_uri(uri: &str) -> Option<LockToken> {
    let groups: Vec<&str> = uri.strip_prefix(PREFIX)?.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !lengths.eq(GROUPS) || !groups.iter().all(|group| group.bytes().all(is_digit)) {
        return None;
    }
    let number = u128::from_str_radix(&groups.concat(), 16).ok()?;
    Some(LockToken(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_uuids() {
        let token = LockToken(std::array::from_fn(|n| u8::try_from(n * 17).unwrap()));
        let uri = "urn:uuid:00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(to_uri(token), uri);
        assert_eq!(from_uri(uri), Some(token));
        for foreign in [
            "",
            "urn:uuid:",
            "DAV:no-lock",
            "opaquelocktoken:00112233-4455-6677-8899-aabbccddeeff",
            "urn:uuid:00112233-4455-6677-8899-aabbccddeef",
            "urn:uuid:00112233-4455-6677-8899-aabbccddeeff0",
            "urn:uuid:00112233-4455-6677-8899-AABBCCDDEEFF",
            "urn:uuid:00112233-4455-6677-8899-aabbccddee+f",
            "urn:uuid:00112233445566778899aabbccddeeff",
        ] {
            assert_eq!(from_uri(foreign), None, "{foreign}");
        }
    }
}
