//! The SHA-256 that a client asks for (RFC 9530 section 4): it is computed if it is not known.

use relais_engine::Located;
use relais_http::digest;
use relais_proto::{Digest, ErrorCode};

use crate::front::http::error::HttpResult;
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;

/// The SHA-256 of content with a digest.
#[derive(Debug, Clone, Copy)]
pub struct WantedHash {
    digest: Digest,
    sha256: [u8; 32],
}

impl WantedHash {
    /// Returns the hash if the request has `Want-Repr-Digest`; none if it cannot be known here.
    ///
    /// # Errors
    /// Those of [`relais_engine::Session::sha256`].
    pub fn of(http: &HttpSession, request: &TreeRequest<'_>) -> HttpResult<Option<Self>> {
        if !digest::is_wanted(&request.request.head.headers, "want-repr-digest") {
            return Ok(None);
        }
        match http.session.sha256(&request.path, &mut http.keepalive()) {
            Ok(Located::Here(_)) => {}
            Ok(Located::Elsewhere(_)) => return Ok(None),
            // It is answered by the URL of the folder.
            Err(refusal) if refusal.code == ErrorCode::IsFolder => return Ok(None),
            Err(refusal) => return Err(refusal.into()),
        }
        // The file may have been replaced meanwhile. So the hash is that of the present digest,
        // which is known at the latest by now.
        let (_, Some(digest)) = http.entry(&request.path)? else { return Ok(None) };
        let known = http.session.known_sha256(&request.path, digest)?;
        Ok(known.map(|hashes| Self { digest, sha256: hashes.sha256.0 }))
    }

    /// Returns the hash of content with this digest.
    #[must_use]
    pub fn of_content(&self, digest: Option<Digest>) -> Option<[u8; 32]> {
        (digest == Some(self.digest)).then_some(self.sha256)
    }
}
