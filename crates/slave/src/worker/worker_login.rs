//! The logins of all listeners of a worker, in one pool.

use std::net::SocketAddr;
use std::sync::Arc;

use relais_engine::Protocol;
use relais_ftp::LineBuffer;
use relais_net::tls::{ChannelBinding, TlsServer};
use relais_net::{
    FrameLogin, IpNetwork, LoginHandler, LoginStep, NewConnection, PreAuthListener, TlsRule,
    TrustedProxies,
};

use crate::front::ftp::FtpContext;
use crate::front::ftp::login::FtpLogin;
use crate::front::native::login::{LoginService, SlaveLogin};
use crate::listeners::Listener;
use crate::slots::Admission;

/// What the front ends of a worker need from its start.
pub struct FrontEnds {
    /// The TLS configuration for native clients.
    pub tls: TlsServer,
    /// What FTP sessions share; none if FTP is not served.
    pub ftp: Option<Arc<FtpContext>>,
}

impl FrontEnds {
    /// Returns the rules for the connections of a listener.
    pub fn rules(&self, listener: Listener, trusted: &[IpNetwork]) -> PreAuthListener {
        let ftp_tls = self.ftp.as_ref().and_then(|ftp| ftp.tls.clone());
        let (rule, proxies) = match (listener.protocol, ftp_tls) {
            (Protocol::Native, _) => {
                (TlsRule::Detect(self.tls.clone()), TrustedProxies::optional(trusted))
            }
            (Protocol::Ftps, Some(tls)) => {
                (TlsRule::Implicit(tls), TrustedProxies::required(trusted))
            }
            // Without TLS no listener of FTPS is bound.
            (Protocol::Ftp | Protocol::Ftps, tls) => {
                (TlsRule::Explicit(tls), TrustedProxies::required(trusted))
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
        match &self.ftp {
            Some(ftp) if protocol != Protocol::Native => {
                let login = FtpLogin::new(service.clone(), ftp.clone(), protocol, new.peer);
                WorkerLogin::Ftp(Box::new(login))
            }
            _ => {
                let login = SlaveLogin::new(service.clone(), new.peer, new.local);
                WorkerLogin::Native(Box::new(FrameLogin::new(new.peer, login)))
            }
        }
    }

    /// Makes the next login of an FTP connection, whose session has ended with REIN.
    pub fn login_again(
        &self,
        service: &Arc<LoginService>,
        protocol: Protocol,
        peer: SocketAddr,
        is_encrypted: bool,
        input: LineBuffer,
    ) -> Option<WorkerLogin> {
        let first = FtpLogin::new(service.clone(), self.ftp.clone()?, protocol, peer);
        let login = first.again(is_encrypted, input);
        Some(WorkerLogin::Ftp(Box::new(login)))
    }
}

/// A login of one of the front ends.
pub enum WorkerLogin {
    /// By frames.
    Native(Box<FrameLogin<SlaveLogin>>),
    /// By lines.
    Ftp(Box<FtpLogin>),
}

/// Calls a method of the login.
macro_rules! each {
    ($self:ident, $login:ident => $call:expr) => {
        match $self {
            Self::Native($login) => $call,
            Self::Ftp($login) => $call,
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
