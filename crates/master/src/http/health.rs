//! `/-/healthz` and `/-/readyz`: whether the master is alive, and whether a slave is in service.
//!
//! They need neither a login nor a host name, because load balancers send neither.

use relais_http::Status;
use relais_proto::{ErrorCode, Refusal};

use super::answer::Answer;
use super::request::Request;
use super::site::HttpSite;

impl HttpSite {
    /// Answers a health check; none if the request is another one.
    pub(super) fn health(&self, request: &Request) -> Option<Answer> {
        let refusal = match &*request.head.target.path {
            "/-/healthz" => None,
            "/-/readyz" => self.reason_not_ready(),
            _ => return None,
        };
        if !request.head.method.is_get_or_head() {
            return Some(Answer::method_not_allowed(&request.head, "GET, HEAD"));
        }
        Some(match refusal {
            None => Answer::with_body(Status::OK, "text/plain; charset=utf-8", "ok\n"),
            Some(refusal) => Answer::refused(&request.head, &refusal),
        })
    }

    fn reason_not_ready(&self) -> Option<Refusal> {
        if self.core.stopping.load(std::sync::atomic::Ordering::Relaxed) {
            return Some(Refusal::new(ErrorCode::Draining, "the master is stopping"));
        }
        let why = "no slave is in service";
        (!self.core.has_service()).then(|| Refusal::new(ErrorCode::NoSlave, why))
    }
}
