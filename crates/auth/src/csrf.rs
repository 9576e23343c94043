//! Tokens against forged requests: a page proves that it can read what belongs to a cookie.

use crate::key::ClusterKey;

/// The context string from which the key of the tokens is derived.
const PURPOSE: &str = "relais 2026-11 csrf token 1";

/// Returns the token that belongs to a login cookie; only holders of the key can compute it.
#[must_use]
pub fn csrf_token(key: &ClusterKey, cookie: &str) -> String {
    blake3::keyed_hash(&key.sub_key(PURPOSE), cookie.as_bytes()).to_hex().to_string()
}

/// Whether `token` is that of a cookie. It takes the same time for each wrong token.
#[must_use]
pub fn is_csrf_token(key: &ClusterKey, cookie: &str, token: &str) -> bool {
    let expected = blake3::keyed_hash(&key.sub_key(PURPOSE), cookie.as_bytes());
    // blake3::Hash compares in constant time.
    blake3::Hash::from_hex(token).is_ok_and(|token| token == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_one_cookie_and_key() {
        let (key, other) = (ClusterKey::from_bytes([1; 32]), ClusterKey::from_bytes([2; 32]));
        let token = csrf_token(&key, "cookie");
        assert!(is_csrf_token(&key, "cookie", &token));
        assert!(!is_csrf_token(&key, "other", &token) && !is_csrf_token(&other, "cookie", &token));
        assert!(!is_csrf_token(&key, "cookie", "") && !is_csrf_token(&key, "cookie", &token[1..]));
    }
}
