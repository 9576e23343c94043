//! Credentials of the scheme Basic.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use relais_proto::{PasswordBytes, limits};

use crate::headers::Headers;
use crate::request_error::RequestError;

/// A name and a password (RFC 7617, section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name of the user.
    pub user: String,
    /// The password.
    pub password: PasswordBytes,
}

/// Returns the credentials of `Authorization: Basic`; none if the field is not there.
///
/// # Errors
/// Status 400 for two fields, another scheme or malformed credentials.
pub fn basic(headers: &Headers) -> Result<Option<Credentials>, RequestError> {
    let mut fields = headers.all("authorization");
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(RequestError::bad("the request has two Authorization fields"));
    }
    let (scheme, value) = field.split_once(' ').unwrap_or((field, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(RequestError::bad("the only known scheme of Authorization is Basic"));
    }
    parse(value.trim()).map(Some)
}

fn parse(value: &str) -> Result<Credentials, RequestError> {
    const BAD: RequestError = RequestError::bad("the credentials are malformed");
    let bytes = PasswordBytes::from(&*STANDARD.decode(value).map_err(|_| BAD)?);
    let colon = bytes.iter().position(|byte| *byte == b':').ok_or(BAD)?;
    let (user, password) = (&bytes[..colon], &bytes[colon + 1..]);
    if user.len() > limits::USER || password.len() > limits::PASSWORD {
        return Err(RequestError::bad("the name or the password is too long"));
    }
    let user = std::str::from_utf8(user).map_err(|_| BAD)?.to_owned();
    Ok(Credentials { user, password: PasswordBytes::from(password) })
}

/// Returns the value of `WWW-Authenticate` that asks for Basic (RFC 7617, sections 2 and 2.1).
#[must_use]
pub fn challenge(realm: &str) -> String {
    let realm: String = realm.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect();
    format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(fields: &[&str]) -> Result<Option<(String, Vec<u8>)>, u16> {
        let mut headers = Headers::default();
        fields.iter().for_each(|field| headers.append("Authorization", (*field).to_owned()));
        let found = basic(&headers).map_err(|error| error.status.code())?;
        Ok(found.map(|found| (found.user, found.password.to_vec())))
    }

    #[test]
    fn credentials_are_decoded() {
        let found = |user: &str, password: &str| Ok(Some((user.to_owned(), password.into())));
        assert_eq!(credentials(&[]), Ok(None));
        // The examples of RFC 7617, sections 2 and 2.1.
        let aladdin = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(credentials(&[aladdin]), found("Aladdin", "open sesame"));
        assert_eq!(credentials(&["basic  dGVzdDoxMjPCow=="]), found("test", "123£"));
        assert_eq!(credentials(&["Basic YTpiOmM="]), found("a", "b:c"));
        assert_eq!(credentials(&["Basic Og=="]), found("", ""));
    }

    #[test]
    fn malformed_credentials_are_rejected() {
        let long = format!("Basic {}", STANDARD.encode("u:".to_owned() + &"p".repeat(1025)));
        for fields in [
            &["Basic"][..],
            &["Basic !"],
            &["Basic YQ=="],
            &["Basic /zph"],
            &["Bearer x"],
            &["Basic Og==", "Basic Og=="],
            &[&long],
        ] {
            assert_eq!(credentials(fields), Err(400), "{fields:?}");
        }
    }

    #[test]
    fn the_challenge_cannot_be_broken_out_of() {
        assert_eq!(challenge("a\"\r\n\\b"), "Basic realm=\"ab\", charset=\"UTF-8\"");
    }
}
