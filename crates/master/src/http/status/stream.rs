//! An event stream of the status page (`text/event-stream` of the HTML standard).
//!
//! It stays in the pool of logins, without a thread. The pool asks for the next message only when
//! the viewer has taken the last one, so at most one is queued.

use std::sync::Arc;
use std::time::Instant;

use relais_net::LoginStep;
use relais_proto::SlaveId;

use super::event_item::EventItem;
use super::live_texts::LiveTexts;
use super::monitor::Subject;
use crate::http::access::Viewer;
use crate::http::limits::{STREAM_KEEP_ALIVE, STREAM_MESSAGE};
use crate::http::request::Request;
use crate::http::site::HttpSite;
use crate::login::LinkPeer;

/// The stream of one viewer.
pub(in crate::http) struct StatusStream {
    viewer: Viewer,
    subject: Subject,
    /// The number of the last event that the viewer has.
    after: u64,
    /// The update that the last message was made from.
    tick: u64,
    last: Option<Arc<LiveTexts>>,
    sent: Instant,
    _counted: Arc<()>,
}

impl StatusStream {
    /// Begins a stream; none if there are too many.
    pub fn begin(
        site: &HttpSite,
        request: &Request,
        viewer: &Viewer,
        (selected, after): (Option<SlaveId>, u64),
    ) -> Option<Self> {
        Some(Self {
            viewer: viewer.clone(),
            subject: (request.client.requester(false).addrs, selected),
            after,
            tick: 0,
            last: None,
            sent: Instant::now(),
            _counted: site.monitor.begin_stream()?,
        })
    }

    /// Returns what to do now; none while there is no news.
    pub fn poll(&mut self, site: &HttpSite) -> Option<LoginStep<LinkPeer>> {
        let tick = site.monitor.tick();
        if tick == self.tick {
            return None;
        }
        self.tick = tick;
        if !site.still_may_see(&self.viewer) {
            return Some(LoginStep::Close(b"event: end\ndata: {}\n\n".to_vec()));
        }
        let (texts, events) = (site.live_texts(self.subject), site.core.events.after(self.after));
        let is_same = self.last.as_ref().is_some_and(|last| **last == *texts);
        if is_same && events.is_empty() {
            let is_late = self.sent.elapsed() >= STREAM_KEEP_ALIVE;
            return is_late.then(|| self.send(b":\n\n".to_vec()));
        }
        let items: Vec<EventItem> = events.iter().map(EventItem::new).collect();
        let message = texts.since(self.last.as_deref(), &items);
        self.after = events.last().map_or(self.after, |event| event.number);
        let message = message_bytes(&message, self.after);
        self.last = Some(texts);
        Some(self.send(message))
    }

    fn send(&mut self, bytes: Vec<u8>) -> LoginStep<LinkPeer> {
        self.sent = Instant::now();
        LoginStep::Stream(bytes)
    }
}

/// Encodes a message with its id; one that is too long only says so.
fn message_bytes(message: &impl serde::Serialize, id: u64) -> Vec<u8> {
    match serde_json::to_string(message) {
        // JSON has no line ends, so it is one field of the message.
        Ok(json) if json.len() <= STREAM_MESSAGE => {
            format!("id: {id}\nevent: status\ndata: {json}\n\n").into_bytes()
        }
        Ok(_) | Err(_) => format!("id: {id}\nevent: reload\ndata: {{}}\n\n").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let message = String::from_utf8(message_bytes(&"a\nb\r", 7)).unwrap();
        assert_eq!(message, "id: 7\nevent: status\ndata: \"a\\nb\\r\"\n\n");
        let long = String::from_utf8(message_bytes(&"x".repeat(STREAM_MESSAGE), 8)).unwrap();
        assert_eq!(long, "id: 8\nevent: reload\ndata: {}\n\n");
    }
}
