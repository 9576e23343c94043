//! `/-/metrics`: the metrics of the master, for Prometheus.
//!
//! Clients on this host may read them; others need the token of `--metrics-token-file`.

mod families;

use relais_http::{RequestError, Status, accept};
use relais_proto::{ErrorCode, Refusal};

use self::families::Families;
use super::answer::Answer;
use super::request::Request;
use super::site::HttpSite;

/// The name of the page.
pub(super) const PAGE: &str = "metrics";
/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain";

/// The token that lets a client on another host read the metrics.
#[derive(Clone)]
pub struct MetricsToken(blake3::Hash);

impl MetricsToken {
    /// Makes the value for a token; none if it is empty.
    #[must_use]
    pub fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        (!token.is_empty()).then(|| Self(blake3::hash(token.as_bytes())))
    }

    /// Whether a field `Authorization` has the token (RFC 6750, section 2.1).
    fn is_in(&self, field: &str) -> bool {
        let token =
            field.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // The comparison of hashes takes constant time.
        token.is_some_and(|(_, token)| blake3::hash(token.trim().as_bytes()) == self.0)
    }
}

impl std::fmt::Debug for MetricsToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsToken(..)")
    }
}

impl HttpSite {
    /// Answers with the metrics, in the text format 0.0.4, or OpenMetrics by `Accept`.
    pub(super) fn metrics(&self, request: &Request) -> Answer {
        let head = &request.head;
        if !head.method.is_get_or_head() {
            return Answer::method_not_allowed(head, "GET, HEAD");
        }
        if !self.may_see_metrics(request) {
            let why = "metrics are for clients on this host, or with the token of the server";
            return Answer::refused(head, &Refusal::new(ErrorCode::Denied, why));
        }
        let registry = Families::of(self).into_registry();
        let mut text = String::new();
        let is_open = accept::prefers(head.headers.get("accept"), &[TEXT, OPEN_METRICS]) == Some(1);
        let (media_type, encoded) = if is_open {
            (OPEN_METRICS_TYPE, prometheus_client::encoding::text::encode(&mut text, &registry))
        } else {
            let media_type = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
            let encoded =
                prometheus_client::encoding::prometheus_text::encode(&mut text, &registry);
            (media_type, encoded)
        };
        match encoded {
            Ok(()) => Answer::with_body(Status::OK, media_type, text),
            Err(_) => {
                const FAILED: RequestError = RequestError::new(
                    Status::INTERNAL_SERVER_ERROR,
                    "the metrics cannot be encoded",
                );
                Answer::rejected(Some(head), FAILED)
            }
        }
    }

    fn may_see_metrics(&self, request: &Request) -> bool {
        request.client.peer.ip().to_canonical().is_loopback()
            || self
                .config
                .metrics_token
                .as_ref()
                .zip(request.head.headers.get("authorization"))
                .is_some_and(|(token, field)| token.is_in(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_accepted() {
        let token = MetricsToken::new("secret\n").unwrap();
        assert!(token.is_in("Bearer secret") && token.is_in("bearer  secret"));
        for field in ["", "secret", "Bearer", "Bearer secre", "Bearer secrets", "Basic secret"] {
            assert!(!token.is_in(field), "{field}");
        }
        assert!(MetricsToken::new(" \n").is_none());
    }
}
