//! The login of one FTP client, line by line, in the pool of connections before their login.
//!
//! It decides what may be said before the login. Who may log in is the authenticator's decision.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use log::debug;
use relais_auth::LoginNames;
use relais_engine::{LoginProgress, PendingLogin, Principal, Protocol};
use relais_ftp::{Command, DataProtection, LINE_MAX, LineBuffer, Password, Reply, is_web_request};
use relais_net::tls::ChannelBinding;
use relais_net::{LoginHandler, LoginStep, Stream};
use relais_proto::{ErrorCode, Refusal, limits};

use super::FtpContext;
use super::commands::{help, options, protection};
use super::refusals::reply_to;
use super::session::{CommandError, CommandResult};
use super::state::LoginSettings;
use crate::front::native::login::LoginService;
use crate::slots::{Admission, AdmittedFront};

/// Most commands before a login, so that no client keeps the worker busy.
const MOST_COMMANDS: u32 = 100;

/// What follows from a line; an error is the last reply before the connection is closed.
type Next = Result<LoginStep<Admission>, Reply>;

/// The login of one connection.
pub struct FtpLogin {
    service: Arc<LoginService>,
    context: Arc<FtpContext>,
    protocol: Protocol,
    peer: SocketAddr,
    is_encrypted: bool,
    lines: LineBuffer,
    settings: LoginSettings,
    /// The name of USER, until PASS.
    user: Option<String>,
    /// A password that is being verified.
    pending: Option<PendingLogin>,
    /// Number of refused logins on this connection.
    failed: u32,
    /// Number of lines on this connection.
    commands: u32,
}

impl FtpLogin {
    /// Makes the login of a connection from `peer`.
    ///
    /// If it is encrypted from the first byte, data connections are encrypted as well unless the
    /// client asks for others.
    #[must_use]
    pub fn new(
        service: Arc<LoginService>,
        context: Arc<FtpContext>,
        protocol: Protocol,
        peer: SocketAddr,
    ) -> Self {
        Self {
            service,
            context,
            protocol,
            peer,
            is_encrypted: false,
            lines: LineBuffer::default(),
            settings: first_settings(protocol),
            user: None,
            pending: None,
            failed: 0,
            commands: 0,
        }
    }

    /// Makes it the next login of a connection whose session has ended with REIN.
    #[must_use]
    pub fn again(self, is_encrypted: bool, lines: LineBuffer) -> Self {
        Self { is_encrypted, lines, ..self }
    }

    fn handle(&mut self, line: &[u8]) -> Next {
        self.commands += 1;
        if self.commands > MOST_COMMANDS {
            return Err(Reply::new(421, "Too many commands without a login"));
        }
        match Command::parse(line) {
            Ok(command) => self.run(command),
            Err(_) if is_web_request(line) => {
                Err(Reply::new(421, "This is an FTP server; it takes no requests of browsers"))
            }
            Err(error) => Ok(send(&error.reply())),
        }
    }

    fn run(&mut self, command: Command) -> Next {
        let result = match command {
            Command::User(name) => return Ok(self.user(name)),
            Command::Pass(password) => return self.password(&password),
            Command::Auth { protect_data } => return Ok(self.authenticate(protect_data)),
            Command::Quit => return Err(Reply::new(221, "Goodbye")),
            Command::Rein => {
                self.user = None;
                self.settings = first_settings(self.protocol);
                Ok(Reply::new(220, "Ready for a new login"))
            }
            Command::Pbsz(_) => protection::buffer_size(&mut self.settings, self.is_encrypted),
            Command::Prot(level) => {
                protection::protect(&mut self.settings, self.is_encrypted, level)
            }
            Command::Opts(option) => options::set(&mut self.settings, option),
            Command::Clnt(name) => options::client(self.peer, &name),
            Command::Host(_) if self.user.is_none() => options::choose_host(),
            Command::Host(_) => options::host(),
            Command::Lang => options::language(),
            Command::Feat => Ok(self.context.features(&self.settings)),
            Command::Help(topic) => Ok(help::help(topic.as_deref())),
            Command::Syst => Ok(help::system()),
            Command::Noop => Ok(Reply::new(200, "NOOP: done")),
            // RFC 959 section 5.4.
            _ => Ok(Reply::new(530, "Log in with USER and PASS first")),
        };
        Ok(send(&reply_of(result)))
    }

    /// USER: RFC 959 section 4.1.1. It is refused here, so that no password is sent in the clear.
    fn user(&mut self, name: String) -> LoginStep<Admission> {
        self.user = None;
        let is_anonymous = LoginNames::WithAnonymous.is_anonymous(&name);
        let tls = self.context.config.tls;
        if !self.is_encrypted && tls.refuses_clear(self.peer.ip(), is_anonymous) {
            return send(&Reply::new(530, "This login needs TLS: send AUTH TLS first"));
        }
        self.user = Some(name);
        send(&Reply::new(
            331,
            if is_anonymous { "Any password will do" } else { "Password needed" },
        ))
    }

    /// PASS: RFC 959 section 4.1.1.
    fn password(&mut self, password: &Password) -> Next {
        let Some(user) = self.user.take() else {
            return Ok(send(&Reply::new(503, "USER comes before PASS")));
        };
        let LoginService { authenticator, host, .. } = &*self.service;
        let (password, addr) = (password.as_bytes(), self.peer.ip());
        match authenticator.log_in_by_password(&user, password, addr, host) {
            Ok(LoginProgress::Admitted(principal)) => self.admit(principal),
            Ok(LoginProgress::Pending(pending)) => {
                self.pending = Some(pending);
                Ok(LoginStep::Pending)
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// AUTH TLS: RFC 4217 section 4, RFC 2228 section 3. What was set before counts no more.
    fn authenticate(&mut self, protect_data: bool) -> LoginStep<Admission> {
        let Some(tls) = &self.context.tls else {
            return send(&Reply::new(502, "TLS is not offered"));
        };
        if self.is_encrypted {
            return send(&Reply::new(503, "The connection is encrypted already"));
        }
        if !tls.is_ready() {
            return send(&Reply::new(431, "The server has no certificate yet"));
        }
        self.user = None;
        self.settings = LoginSettings::default();
        if protect_data {
            self.settings.protection = DataProtection::Private;
        }
        // The pool drops its own input.
        self.lines.clear();
        LoginStep::StartTls(Reply::new(234, "Begin the TLS handshake").to_bytes())
    }

    /// Admits a user; the session sends the reply, because it may have to wait for a slot.
    fn admit(&mut self, principal: Principal) -> Next {
        match self.service.claim_slot(&principal, self.peer.ip()) {
            Ok(claim) => {
                let input = std::mem::take(&mut self.lines);
                let settings = std::mem::take(&mut self.settings);
                let front = AdmittedFront::Ftp { protocol: self.protocol, input, settings };
                let value = Admission { principal, claim, front };
                Ok(LoginStep::Done { value, send: Vec::new() })
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// Answers a refused login: with 530 for a wrong name or password, else with 421 and the end.
    fn refuse(&mut self, refusal: &Refusal) -> Next {
        debug!("{}: {refusal}", self.peer);
        match refusal.code {
            ErrorCode::LoginRefused | ErrorCode::LoginNeeded => {
                self.failed += 1;
                let reply = reply_to(refusal);
                if self.failed < limits::LOGIN_TRIES { Ok(send(&reply)) } else { Err(reply) }
            }
            _ => Err(Reply::new(421, refusal.message.clone())),
        }
    }
}

/// Returns the settings of a new connection.
fn first_settings(protocol: Protocol) -> LoginSettings {
    if protocol != Protocol::Ftps {
        return LoginSettings::default();
    }
    let (protection, has_buffer_size) = (DataProtection::Private, true);
    LoginSettings { protection, has_buffer_size, ..LoginSettings::default() }
}

/// Sends the reply to PASS, as soon as the session has a slot.
///
/// # Errors
/// Errors of the socket.
pub fn confirm(stream: &Stream) -> io::Result<()> {
    stream.set_write_timeout(Some(limits::FRAME_TIME))?;
    (&mut &*stream).write_all(&Reply::new(230, "Logged in").to_bytes())
}

/// Returns the reply that refuses a session for which there is no thread.
#[must_use]
pub fn busy() -> Vec<u8> {
    Reply::new(421, "The server cannot start another session; try again later").to_bytes()
}

fn send(reply: &Reply) -> LoginStep<Admission> {
    LoginStep::Reply(reply.to_bytes())
}

fn close(reply: &Reply) -> LoginStep<Admission> {
    LoginStep::Close(reply.to_bytes())
}

/// Returns the reply of a command that can also be sent in a session.
fn reply_of(result: CommandResult) -> Reply {
    match result {
        Ok(reply) | Err(CommandError::Reply(reply)) => reply,
        Err(CommandError::Refused(refusal)) => reply_to(&refusal),
        Err(CommandError::Connection(error)) => Reply::new(451, error.to_string()),
    }
}

impl LoginHandler for FtpLogin {
    type Value = Admission;

    fn is_known(&self) -> bool {
        let passwords = self.service.authenticator.passwords();
        passwords.is_some_and(|verifier| verifier.is_known(self.peer.ip()))
    }

    /// The greeting: RFC 959 section 5.4. It tells no version.
    fn begin(&mut self) -> LoginStep<Admission> {
        match self.service.check_serving() {
            Ok(()) => send(&Reply::new(220, "Relais FTP server")),
            Err(refusal) => close(&Reply::new(421, refusal.message)),
        }
    }

    fn on_encrypted(&mut self, _: ChannelBinding) {
        self.is_encrypted = true;
    }

    fn input_limit(&self, _: &[u8]) -> usize {
        LINE_MAX
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<LoginStep<Admission>> {
        loop {
            match self.lines.next_line() {
                Some(Ok(line)) => {
                    return Some(self.handle(&line).unwrap_or_else(|reply| close(&reply)));
                }
                Some(Err(error)) => return Some(send(&error.reply())),
                None if input.is_empty() => return None,
                None => {
                    self.lines.push(input);
                    input.clear();
                }
            }
        }
    }

    fn poll_pending(&mut self) -> Option<LoginStep<Admission>> {
        let outcome = self.pending.as_ref()?.take()?;
        self.pending = None;
        let LoginService { authenticator, host, .. } = &*self.service;
        let next = match authenticator.conclude(outcome, self.peer.ip(), host) {
            Ok(principal) => self.admit(principal),
            Err(refusal) => self.refuse(&refusal),
        };
        Some(next.unwrap_or_else(|reply| close(&reply)))
    }

    fn expire(&mut self, _: &[u8]) -> Vec<u8> {
        let seconds = limits::LOGIN_TIME.as_secs();
        Reply::new(421, format!("The login took more than {seconds} seconds")).to_bytes()
    }
}
