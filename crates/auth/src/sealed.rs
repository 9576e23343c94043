//! Fields that a client keeps for its server: readable and tamper-proof.

use crate::key::ClusterKey;

/// Length of the tag at the end, in bytes.
const TAG: usize = 32;

/// Appends a tag to `fields` that only holders of the key can compute.
///
/// Tags for one `purpose` are invalid for any other.
#[must_use]
pub fn seal(key: &ClusterKey, purpose: &str, fields: &[u8]) -> Vec<u8> {
    let tag = blake3::keyed_hash(&key.sub_key(purpose), fields);
    [fields, tag.as_bytes()].concat()
}

/// Returns the fields if the tag is right.
#[must_use]
pub fn unseal<'a>(key: &ClusterKey, purpose: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (fields, tag) = sealed.split_last_chunk::<TAG>()?;
    // blake3::Hash compares in constant time.
    (blake3::keyed_hash(&key.sub_key(purpose), fields) == *tag).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_for_the_purpose_is_unsealed() {
        let (key, other) = (ClusterKey::from_bytes([1; 32]), ClusterKey::from_bytes([2; 32]));
        let sealed = seal(&key, "test 1", b"fields");
        assert_eq!(unseal(&key, "test 1", &sealed), Some(b"fields".as_slice()));
        assert_eq!(unseal(&key, "test 2", &sealed), None);
        assert_eq!(unseal(&other, "test 1", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(&key, "test 1", &bad), None, "bit {bit}");
        }
        assert!((0..sealed.len()).all(|len| unseal(&key, "test 1", &sealed[..len]).is_none()));
    }
}
