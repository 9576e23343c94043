//! `/-/status`: the state of the cluster as a page for people, complete without a script.
//!
//! The texts of slaves are those of `ftpmaster status`. Only literals of the program are markup.
//! `/-/status/events` sends what changes, at most once a second.

mod assets;
mod cells;
mod cluster_view;
mod curves;
mod event_item;
mod history;
mod live_texts;
mod monitor;
mod observe;
mod rates;
mod status_json;
mod status_page;
mod stream;

use relais_http::{RequestError, Status, accept};
use relais_proto::{ErrorCode, Refusal, SlaveId};

pub(super) use self::assets::ASSETS;
pub(super) use self::cluster_view::lag_seconds;
pub(super) use self::monitor::StatusMonitor;
use self::status_json::status_json;
use self::status_page::StatusPage;
pub(super) use self::stream::StatusStream;
use super::access::Viewer;
use super::answer::Answer;
use super::login_page::html_page;
use super::request::Request;
use super::site::HttpSite;

/// The forms of the status.
const FORMS: [&str; 2] = ["text/html; charset=utf-8", "application/json"];

impl HttpSite {
    /// Answers with the status, as HTML, or JSON by `Accept`.
    pub(super) fn status(&self, request: &Request, viewer: &Viewer) -> Answer {
        let head = &request.head;
        let selected = match selected(request) {
            Ok((selected, _)) => selected,
            Err(error) => return Answer::rejected(Some(head), error),
        };
        let asker = request.client.requester(false).addrs;
        let cluster = self.cluster_view(asker, selected);
        let events = self.core.events.after(0);
        let form = accept::prefers(head.headers.get("accept"), &FORMS).unwrap_or_default();
        let answer = if form == 0 {
            html_page(head, Status::OK, |nonce| {
                StatusPage { viewer, nonce, cluster: &cluster, events: &events }.html()
            })
        } else {
            match status_json(&cluster, &events) {
                Ok(json) => Answer::with_body(Status::OK, FORMS[form], json),
                Err(e) => {
                    let refusal = Refusal::new(ErrorCode::Storage, e.to_string());
                    Answer::refused(head, &refusal)
                }
            }
        };
        answer.with("Vary", "Accept, Authorization, Cookie")
    }

    /// Begins a stream of updates.
    ///
    /// # Errors
    /// The answer if there can be none.
    pub(super) fn status_stream(
        &self,
        request: &Request,
        viewer: &Viewer,
    ) -> Result<StatusStream, Answer> {
        let head = &request.head;
        let subject = selected(request).map_err(|error| Answer::rejected(Some(head), error))?;
        StatusStream::begin(self, request, viewer, subject).ok_or_else(|| {
            let why = "the master has all the event streams that it can have";
            let refusal = Refusal { retry_after: 10, ..Refusal::new(ErrorCode::Busy, why) };
            Answer::refused(head, &refusal)
        })
    }
}

/// Returns the slave whose curves are wanted, and the number of the last event that is known.
///
/// A browser that connects again names the last event in `Last-Event-ID`.
fn selected(request: &Request) -> Result<(Option<SlaveId>, u64), RequestError> {
    const NO_SLAVE: RequestError = RequestError::bad("slave= is not the id of a slave");
    let parameters = request.head.target.parameters()?;
    let slave = parameters.get("slave").map(str::parse).transpose().map_err(|_| NO_SLAVE)?;
    let last = request.head.headers.get("last-event-id").or_else(|| parameters.get("after"));
    Ok((slave, last.and_then(|last| last.parse().ok()).unwrap_or_default()))
}
