//! The logins of all listeners of a worker, in one pool.

use std::sync::Arc;
use std::time::Duration;

use relais_engine::Protocol;
use relais_net::tls::{ChannelBinding, TlsServer};
use relais_net::{
    FrameLogin, IpNetwork, LoginHandler, LoginStep, NewConnection, PreAuthListener, Stream,
    TlsRule, TrustedProxies,
};

use super::session_pool::{Returned, ReturnedInput};
use crate::front::ftp::FtpContext;
use crate::front::ftp::login::FtpLogin;
use crate::front::http::HttpContext;
use crate::front::http::login::HttpLogin;
use crate::front::http::request::FollowingRequest;
use crate::front::native::login::{LoginService, SlaveLogin};
use crate::listeners::Listener;
use crate::slots::Admission;

/// What the front ends of a worker need from its start.
pub struct FrontEnds {
    /// The TLS configuration for native clients.
    pub tls: TlsServer,
    /// What FTP sessions share; none if FTP is not served.
    pub ftp: Option<Arc<FtpContext>>,
    /// What HTTP sessions share; none if HTTP is not served.
    pub http: Option<Arc<HttpContext>>,
}

impl FrontEnds {
    /// Returns the rules for the connections of a listener.
    pub fn rules(&self, listener: Listener, trusted: &[IpNetwork]) -> PreAuthListener {
        let tls = match listener.protocol {
            Protocol::Native => None,
            Protocol::Ftp | Protocol::Ftps => self.ftp.as_ref().and_then(|ftp| ftp.tls.clone()),
            Protocol::Http => None,
            Protocol::Https => self.http.as_ref().and_then(|http| http.tls.clone()),
        };
        let rule = match (listener.protocol, tls) {
            (Protocol::Native, _) => TlsRule::Detect(self.tls.clone()),
            // The client speaks first, so one that does not encrypt can be answered.
            (Protocol::Https, Some(tls)) => TlsRule::Detect(tls),
            (Protocol::Ftps, Some(tls)) => TlsRule::Implicit(tls),
            // Without TLS no listener of FTPS or HTTPS is bound.
            (_, tls) => TlsRule::Explicit(tls),
        };
        let proxies = match listener.protocol {
            // The server speaks first.
            Protocol::Ftp | Protocol::Ftps => TrustedProxies::required(trusted),
            Protocol::Native | Protocol::Http | Protocol::Https => {
                TrustedProxies::optional(trusted)
            }
        };
        PreAuthListener::new(listener.socket, rule).behind(proxies)
    }

    /// Makes the login of a new connection of a protocol.
    pub fn login(
        &self,
        service: &Arc<LoginService>,
        protocol: Protocol,
        new: NewConnection,
    ) -> WorkerLogin {
        match (protocol, &self.ftp, &self.http) {
            (Protocol::Ftp | Protocol::Ftps, Some(ftp), _) => {
                let login = FtpLogin::new(service.clone(), ftp.clone(), protocol, new.peer);
                WorkerLogin::Ftp(Box::new(login))
            }
            (Protocol::Http | Protocol::Https, _, Some(http)) => {
                WorkerLogin::Http(Box::new(HttpLogin::new(http.clone(), protocol, new.peer)))
            }
            _ => {
                let login = SlaveLogin::new(service.clone(), new.peer, new.local);
                WorkerLogin::Native(Box::new(FrameLogin::new(new.peer, login)))
            }
        }
    }

    /// Makes the next login of a connection whose session has given it back.
    ///
    pub fn login_again(
        &self,
        service: &Arc<LoginService>,
        returned: Returned,
    ) -> Option<LoginAgain> {
        let Returned { stream, protocol, input } = returned;
        let peer = stream.peer;
        let (input, login) = match input {
            ReturnedInput::Ftp(lines) => {
                let first = FtpLogin::new(service.clone(), self.ftp.clone()?, protocol, peer);
                let login = first.again(stream.is_encrypted(), lines);
                (Vec::new(), WorkerLogin::Ftp(Box::new(login)))
            }
            ReturnedInput::Http(FollowingRequest { head, input }) => {
                let first = HttpLogin::new(self.http.clone()?, protocol, peer);
                (input, WorkerLogin::Http(Box::new(first.again(head))))
            }
        };
        Some(LoginAgain { stream, input, login })
    }
}

/// A connection whose client logs in again.
pub struct LoginAgain {
    pub stream: Stream,
    /// What was read ahead.
    pub input: Vec<u8>,
    pub login: WorkerLogin,
}

/// A login of one of the front ends.
pub enum WorkerLogin {
    /// By frames.
    Native(Box<FrameLogin<SlaveLogin>>),
    /// By lines.
    Ftp(Box<FtpLogin>),
    /// By requests.
    Http(Box<HttpLogin>),
}

/// Calls a method of the login.
macro_rules! each {
    ($self:ident, $login:ident => $call:expr) => {
        match $self {
            Self::Native($login) => $call,
            Self::Ftp($login) => $call,
            Self::Http($login) => $call,
        }
    };
}

impl LoginHandler for WorkerLogin {
    type Value = Admission;

    fn is_known(&self) -> bool {
        each!(self, login => login.is_known())
    }

    fn begin(&mut self) -> LoginStep<Admission> {
        each!(self, login => login.begin())
    }

    fn on_encrypted(&mut self, binding: ChannelBinding) {
        each!(self, login => login.on_encrypted(binding));
    }

    fn input_limit(&self, input: &[u8]) -> usize {
        each!(self, login => login.input_limit(input))
    }

    fn idle_time(&self) -> Duration {
        each!(self, login => login.idle_time())
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<LoginStep<Admission>> {
        each!(self, login => login.on_input(input))
    }

    fn poll_pending(&mut self) -> Option<LoginStep<Admission>> {
        each!(self, login => login.poll_pending())
    }

    fn refuse_clear_text(&mut self, first: &[u8]) -> Vec<u8> {
        each!(self, login => login.refuse_clear_text(first))
    }

    fn expire(&mut self, input: &[u8]) -> Vec<u8> {
        each!(self, login => login.expire(input))
    }
}
