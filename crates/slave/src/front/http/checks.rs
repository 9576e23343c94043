//! The checks of a request that need no user: its host, and whether another site causes it.

use std::net::SocketAddr;

use relais_http::{RequestHead, Status};
use relais_web::{check_origin, is_form};

use super::HttpContext;
use super::answer::Answer;
use super::client::HttpClient;
use super::credentials::Credentials;
use super::request::CheckedRequest;

/// Header field with the token against forged requests.
pub const CSRF_FIELD: &str = "x-csrf-token";

impl HttpContext {
    /// Checks a request that `peer` has sent.
    ///
    /// # Errors
    /// The answer that rejects it.
    pub fn check(
        &self,
        head: RequestHead,
        peer: SocketAddr,
        is_encrypted: bool,
    ) -> Result<CheckedRequest, Box<Answer>> {
        let reject = |status, text| Err(Box::new(Answer::error(&head, status, text)));
        let client = match HttpClient::of(&head.headers, peer, is_encrypted, &self.trusted) {
            Ok(client) => client,
            Err(e) => return Err(Box::new(Answer::rejected(&head, &e).closing())),
        };
        if let Err(e) = head.body().and_then(|_| head.expects_continue()) {
            return Err(Box::new(Answer::rejected(&head, &e).closing()));
        }
        let is_own = self.hosts.check(&head);
        if let Err(e) = is_own.and_then(|()| check_origin(&head, client.is_encrypted)) {
            return Err(Box::new(Answer::rejected(&head, &e)));
        }
        let credentials = match Credentials::of(&head, |fields| self.cookies.login_cookie(fields)) {
            Ok(credentials) => credentials,
            Err(e) => return Err(Box::new(Answer::rejected(&head, &e))),
        };
        if credentials.are_in_url() && !head.method.is_get_or_head() {
            // Also on a connection whose session has begun with a GET.
            return reject(Status::FORBIDDEN, "a signed URL is for GET and HEAD alone");
        }
        let mut needs_form_token = false;
        if let (Credentials::Cookie(cookie), false) = (&credentials, head.method.is_safe()) {
            match head.headers.get(CSRF_FIELD) {
                Some(token) if self.cookies.is_csrf_token(cookie, token) => {}
                None if is_form(&head) => needs_form_token = true,
                _ => {
                    const TEXT: &str = "requests with a cookie need the token of the page";
                    return reject(Status::FORBIDDEN, TEXT);
                }
            }
        }
        Ok(CheckedRequest { head, client, credentials, needs_form_token })
    }
}
