//! What a request proves the identity of its user with.

use std::fmt;

use relais_auth::UrlSignature;
use relais_http::{Headers, RequestError, RequestHead};

/// The credentials of a request, as it has them.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// None: the rights of a native session without login.
    None,
    /// The field `Authorization`.
    Authorization(String),
    /// The value of the login cookie.
    Cookie(String),
    /// The signature of the URL, and the path that it is for, still encoded.
    SignedUrl { signature: String, path: String },
}

impl Credentials {
    /// Takes the credentials from a request; `login_cookie` finds the login cookie in its fields.
    ///
    /// `Authorization` comes first, because the client adds it on purpose to this request.
    ///
    /// # Errors
    /// Status 400 for a malformed query.
    pub fn of(
        head: &RequestHead,
        login_cookie: impl FnOnce(&Headers) -> Option<&str>,
    ) -> Result<Self, RequestError> {
        if let Some(field) = head.headers.get("authorization") {
            return Ok(Self::Authorization(field.to_owned()));
        }
        if head.target.query.as_deref().is_some_and(|query| query.contains(UrlSignature::PARAMETER))
            && let Some(signature) = head.target.parameters()?.get(UrlSignature::PARAMETER)
        {
            let (signature, path) = (signature.to_owned(), head.target.path.clone());
            return Ok(Self::SignedUrl { signature, path });
        }
        if !head.headers.has("cookie") {
            return Ok(Self::None);
        }
        let found = login_cookie(&head.headers);
        Ok(found.map_or(Self::None, |value| Self::Cookie(value.to_owned())))
    }

    /// Whether they are part of the URL, which must not be passed on.
    #[must_use]
    pub fn are_in_url(&self) -> bool {
        matches!(self, Self::SignedUrl { .. })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Authorization(_) => "Authorization(..)",
            Self::Cookie(_) => "Cookie(..)",
            Self::SignedUrl { .. } => "SignedUrl(..)",
        })
    }
}
