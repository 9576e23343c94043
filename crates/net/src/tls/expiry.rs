//! The end of a certificate's validity (RFC 5280, section 4.1.2.5).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};
use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, Tag};

use super::pem::describe;

/// Returns when the first certificate of a PEM text ends, in seconds since 1970 UTC.
///
/// A time before 1970 counts as 0.
///
/// # Errors
/// Describes the defect.
pub fn expiry_s(pem: &[u8]) -> Result<u64, String> {
    let certificate = CertificateDer::from_pem_slice(pem)
        .map_err(|e| format!("bad certificate: {}", describe(&e)))?;
    expiry_of(&certificate)
}

/// Returns when a certificate ends, as [`expiry_s`].
pub(super) fn expiry_of(certificate: &CertificateDer<'_>) -> Result<u64, String> {
    let not_after = yasna::parse_der(certificate, read_not_after);
    let not_after = not_after.map_err(|e| format!("bad certificate: {e}"))?;
    Ok(u64::try_from(not_after).unwrap_or(0))
}

fn read_not_after(reader: BERReader<'_, '_>) -> ASN1Result<i64> {
    reader.read_sequence(|reader| {
        let not_after = reader.next().read_sequence(|reader| {
            reader.read_optional(|version| {
                version.read_tagged(Tag::context(0), |version| version.read_der())
            })?;
            for _serial_algorithm_issuer in 0..3 {
                reader.next().read_der()?;
            }
            let not_after = reader.next().read_sequence(|reader| {
                reader.next().read_der()?;
                read_time(reader.next())
            })?;
            while reader.read_optional(|extension| extension.read_der())?.is_some() {}
            Ok(not_after)
        })?;
        for _algorithm_signature in 0..2 {
            reader.next().read_der()?;
        }
        Ok(not_after)
    })
}

/// Reads a time: years before 2050 are `UTCTime`, others `GeneralizedTime`.
fn read_time(reader: BERReader<'_, '_>) -> ASN1Result<i64> {
    match reader.lookahead_tag()? {
        TAG_UTCTIME => Ok(reader.read_utctime()?.datetime().unix_timestamp()),
        TAG_GENERALIZEDTIME => Ok(reader.read_generalized_time()?.datetime().unix_timestamp()),
        _ => Err(ASN1Error::new(ASN1ErrorKind::Invalid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_until(year: i32) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn end_of_validity_is_read_in_both_forms() {
        assert_eq!(expiry_s(certificate_until(2030).as_bytes()), Ok(1_893_456_000));
        assert_eq!(expiry_s(certificate_until(2100).as_bytes()), Ok(4_102_444_800));
        assert_eq!(expiry_s(certificate_until(1960).as_bytes()), Ok(0));
    }

    #[test]
    fn other_texts_are_errors() {
        assert!(expiry_s(b"").is_err());
        let cut = certificate_until(2030).replace("MII", "AII");
        assert!(expiry_s(cut.as_bytes()).is_err());
    }
}
