//! Runs an HTTP connection in the pool: one request after the other, without a thread.

use std::time::Duration;

use log::debug;
use relais_http::{RequestError, RequestHead, Status};
use relais_net::{LoginHandler, LoginStep};

use super::connection::HttpConnection;
use super::limits::STREAM_TIME;
use super::stage::{HttpStep, Stage};
use crate::login::LinkPeer;

/// Time that a kept connection may be idle.
const KEPT_TIME: Duration = Duration::from_secs(60);
/// Longest time that a request may take in the pool: it may wait 20 s for hashes.
const WAIT_TIME: Duration = Duration::from_secs(25);

impl LoginHandler for HttpConnection {
    type Value = LinkPeer;

    fn is_known(&self) -> bool {
        self.site.core.passwords.is_known(self.client.peer.ip())
    }

    fn input_limit(&self, _: &[u8]) -> usize {
        match self.stage {
            Stage::Form { length, .. } => length,
            // A longer head is noticed by its next byte; an empty line may be in front.
            _ => relais_http::limits::HEAD + 3,
        }
    }

    fn idle_time(&self) -> Duration {
        KEPT_TIME
    }

    fn pending_time(&self) -> Duration {
        match self.stage {
            Stage::Waiting { .. } => WAIT_TIME,
            Stage::Stream(_) => STREAM_TIME,
            Stage::Idle | Stage::Form { .. } | Stage::Password { .. } => Duration::ZERO,
        }
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<HttpStep> {
        if let Stage::Form { length, .. } = self.stage {
            let body: Vec<u8> = input.get(..length)?.to_vec();
            input.drain(..length);
            return match std::mem::replace(&mut self.stage, Stage::Idle) {
                Stage::Form { request, kind, .. } => Some(self.handle_form(*request, kind, &body)),
                _ => None,
            };
        }
        match RequestHead::parse(input) {
            Ok(None) => None,
            Ok(Some((head, length))) => {
                input.drain(..length);
                Some(self.handle(head))
            }
            Err(e) => {
                debug!("{}: {e}", self.client.peer);
                Some(LoginStep::Close(Self::malformed(e)))
            }
        }
    }

    fn poll_pending(&mut self) -> Option<HttpStep> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            stage @ (Stage::Idle | Stage::Form { .. }) => {
                self.stage = stage;
                None
            }
            Stage::Password { request, purpose, pending, _login } => {
                let Some(result) = pending.take() else {
                    self.stage = Stage::Password { request, purpose, pending, _login };
                    return None;
                };
                Some(self.conclude(request, purpose, result))
            }
            Stage::Stream(mut stream) => {
                let step = stream.poll(&self.site);
                if !matches!(step, Some(LoginStep::Close(_))) {
                    self.stage = Stage::Stream(stream);
                }
                step
            }
            Stage::Waiting { request, path, user, since, _wait } => {
                match self.serve(request, path, user, Some(since)) {
                    LoginStep::Pending => None,
                    step => Some(step),
                }
            }
        }
    }

    fn refuse_clear_text(&mut self, _: &[u8]) -> Vec<u8> {
        Self::malformed(RequestError::bad("this port speaks HTTPS; use https:// in the URL"))
    }

    fn expire(&mut self, input: &[u8]) -> Vec<u8> {
        match self.stage {
            Stage::Idle if input.is_empty() => Vec::new(),
            Stage::Stream(_) => Vec::new(),
            // RFC 9110 section 15.5.9.
            Stage::Idle | Stage::Form { .. } => Self::malformed(RequestError::new(
                Status::REQUEST_TIMEOUT,
                "the request did not arrive in time",
            )),
            _ => Self::malformed(RequestError::new(
                Status::SERVICE_UNAVAILABLE,
                "the answer took too long; try again later",
            )),
        }
    }
}
