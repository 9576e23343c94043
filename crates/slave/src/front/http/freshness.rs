//! What a client has seen: the field `Relais-Change`, and a cookie for browsers.
//!
//! A session answers nothing older than what its client has seen on any slave.

use relais_http::cookie::{SameSite, SetCookie};
use relais_http::{Headers, RequestError, cookie};
use relais_proto::Lsn;
use relais_web::keeps_cookies;

use super::HttpContext;
use super::request::CheckedRequest;

/// The field with the latest change that may be part of an answer, or that a client has seen.
pub const FIELD: &str = "Relais-Change";

impl HttpContext {
    /// Returns the latest change that the client of a request has seen.
    ///
    /// # Errors
    /// Status 400 if the field names no change.
    pub(super) fn seen_by(&self, headers: &Headers) -> Result<Lsn, RequestError> {
        const BAD: RequestError = RequestError::bad("Relais-Change names no change, such as 1-42");
        let named = match headers.get(FIELD) {
            Some(text) => text.parse().map_err(|_| BAD)?,
            None => Lsn::default(),
        };
        // A cookie that is of no use, for example of another server's, is ignored.
        Ok(self.seen_by_browser(headers).map_or(named, |seen| named.max(seen)))
    }

    fn seen_by_browser(&self, headers: &Headers) -> Option<Lsn> {
        headers.get("cookie")?;
        let name = self.cookies.change_name()?;
        cookie::all(headers, &name).filter_map(|value| value.parse().ok()).max()
    }

    /// Adds the latest change that may be part of an answer.
    pub(super) fn add_change(&self, request: &CheckedRequest, lsn: Lsn, to: &mut Headers) {
        to.insert(FIELD, lsn.to_string());
        let headers = &request.head.headers;
        if !keeps_cookies(headers) || self.seen_by_browser(headers).is_some_and(|seen| seen >= lsn)
        {
            return;
        }
        if let Some(name) = self.cookies.change_name() {
            let cookie = SetCookie {
                name,
                value: lsn.to_string(),
                max_age: None,
                secure: request.client.is_encrypted,
                http_only: true,
                same_site: SameSite::Lax,
            };
            to.append("Set-Cookie", cookie.to_string());
        }
    }
}
