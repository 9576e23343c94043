//! `/-/metrics`: the metrics of the master, for Prometheus.
//!
//! Who may read them is decided as for all pages of the master.

mod families;

use relais_http::{RequestError, Status, accept};

use self::families::Families;
use super::answer::Answer;
use super::request::Request;
use super::site::HttpSite;

/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain";

impl HttpSite {
    /// Answers with the metrics, in the text format 0.0.4, or OpenMetrics by `Accept`.
    pub(super) fn metrics(&self, request: &Request) -> Answer {
        let head = &request.head;
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
}
