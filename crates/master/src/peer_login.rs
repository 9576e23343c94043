//! The login handler of a connection: for frames, or for HTTP.

use std::time::Duration;

use relais_net::tls::ChannelBinding;
use relais_net::{FrameLogin, LoginHandler, LoginStep};

use crate::http::HttpConnection;
use crate::login::{LinkPeer, MasterLogin};

/// The handler that the listener of a connection chooses.
pub(crate) enum PeerLogin {
    Frames(FrameLogin<MasterLogin>),
    Http(HttpConnection),
}

/// Calls a method of the handler.
macro_rules! handler {
    ($self:ident, $handler:ident => $call:expr) => {
        match $self {
            Self::Frames($handler) => $call,
            Self::Http($handler) => $call,
        }
    };
}

impl LoginHandler for PeerLogin {
    type Value = LinkPeer;

    fn is_known(&self) -> bool {
        handler!(self, handler => handler.is_known())
    }

    fn begin(&mut self) -> LoginStep<LinkPeer> {
        handler!(self, handler => handler.begin())
    }

    fn on_encrypted(&mut self, binding: ChannelBinding) {
        handler!(self, handler => handler.on_encrypted(binding));
    }

    fn input_limit(&self, input: &[u8]) -> usize {
        handler!(self, handler => handler.input_limit(input))
    }

    fn idle_time(&self) -> Duration {
        handler!(self, handler => handler.idle_time())
    }

    fn pending_time(&self) -> Duration {
        handler!(self, handler => handler.pending_time())
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<LoginStep<LinkPeer>> {
        handler!(self, handler => handler.on_input(input))
    }

    fn poll_pending(&mut self) -> Option<LoginStep<LinkPeer>> {
        handler!(self, handler => handler.poll_pending())
    }

    fn refuse_clear_text(&mut self, first: &[u8]) -> Vec<u8> {
        handler!(self, handler => handler.refuse_clear_text(first))
    }

    fn expire(&mut self, input: &[u8]) -> Vec<u8> {
        handler!(self, handler => handler.expire(input))
    }
}
