//! The login of one HTTP connection, request by request, in the pool.
//!
//! It answers what needs no session, and hands a request over once its user is known. Who may log
//! in is the authenticator's decision.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use relais_engine::{Host, LoginProgress, PendingLogin, Principal, Protocol};
use relais_http::{BodyLength, Method, RequestHead, Status, Target, auth};
use relais_net::tls::ChannelBinding;
use relais_net::{LoginHandler, LoginStep};
use relais_proto::{ErrorCode, Refusal, TreePath, limits};
use relais_web::{is_browser, next_path};

use super::HttpContext;
use super::answer::Answer;
use super::client::HttpClient;
use super::cookie_login::FormLogin;
use super::credentials::Credentials;
use super::pool_page::PoolPage;
use super::refusals::status_of;
use super::request::{AdmittedRequest, CheckedRequest};
use crate::slots::{Admission, AdmittedFront};

/// What follows from a request.
type HttpLoginStep = LoginStep<Admission>;

/// The login of one connection.
pub struct HttpLogin {
    context: Arc<HttpContext>,
    protocol: Protocol,
    peer: SocketAddr,
    is_encrypted: bool,
    /// The head of the next request, if the session has read it.
    next: Option<RequestHead>,
    /// What follows the head of the present request.
    input: Vec<u8>,
    state: HttpLoginState,
    /// Number of refused logins on this connection.
    failed: u32,
}

enum HttpLoginState {
    /// A request is awaited.
    Idle,
    /// The body of a login form is awaited.
    Form(Box<FormLogin>),
    /// The login of a request is verified.
    Request(PendingLogin, Box<CheckedRequest>),
    /// The login of a form is verified.
    FormPassword(PendingLogin, Box<FormLogin>),
}

impl HttpLogin {
    /// Makes the login of a connection from `peer`.
    #[must_use]
    pub fn new(context: Arc<HttpContext>, protocol: Protocol, peer: SocketAddr) -> Self {
        Self {
            context,
            protocol,
            peer,
            is_encrypted: protocol == Protocol::Https,
            next: None,
            input: Vec::new(),
            state: HttpLoginState::Idle,
            failed: 0,
        }
    }

    /// Makes it the login of a kept connection that its session has given back.
    #[must_use]
    pub fn again(self, next: Option<RequestHead>) -> Self {
        Self { next, ..self }
    }

    fn handle(&mut self, head: RequestHead) -> HttpLoginStep {
        if let Some(answer) = self.context.health.answer(&head) {
            return self.finish(&head, answer);
        }
        let fallback = head_of_answer(&head);
        let request = match self.context.check(head, self.peer, self.is_encrypted) {
            Ok(request) => request,
            Err(answer) => return self.finish(&fallback, *answer),
        };
        if let Some(step) = self.handle_own_page(&request) {
            return step;
        }
        match self.log_in(&request) {
            Ok(LoginProgress::Admitted(principal)) => self.admit(request, principal),
            Ok(LoginProgress::Pending(pending)) => {
                self.state = HttpLoginState::Request(pending, Box::new(request));
                LoginStep::Pending
            }
            Err(refusal) => self.refuse(&request, &refusal),
        }
    }

    /// Answers the pages of the login itself; none if it is another request.
    fn handle_own_page(&mut self, request: &CheckedRequest) -> Option<HttpLoginStep> {
        let head = &request.head;
        let is_read = head.method.is_get_or_head();
        let step = match PoolPage::at(&head.target.path)? {
            PoolPage::Login if is_read => {
                let query = match head.target.parameters() {
                    Ok(query) => query,
                    Err(e) => return Some(self.finish(head, Answer::rejected(head, &e))),
                };
                let next = next_path(query.get("next"));
                self.finish(head, self.context.login_page(head, next, None))
            }
            PoolPage::Login | PoolPage::Logout if head.method == Method::Post => {
                match FormLogin::new(&self.context, request) {
                    Ok(form) => {
                        self.state = HttpLoginState::Form(Box::new(form));
                        LoginStep::Reply(Vec::new())
                    }
                    Err(answer) => self.finish(head, *answer),
                }
            }
            PoolPage::Metrics if is_read && self.context.metrics.is_open_to(request) => {
                self.finish(head, self.context.metrics.answer(head))
            }
            PoolPage::Asset(asset) if is_read => self.finish(head, Answer::of_asset(head, asset)),
            _ => return None,
        };
        Some(step)
    }

    /// Begins the login of a request.
    fn log_in(&self, request: &CheckedRequest) -> Result<LoginProgress, Refusal> {
        let CheckedRequest { client, credentials, head, .. } = request;
        let (authenticator, host) =
            (&self.context.service.authenticator, &self.context.service.host);
        let address = client.address.ip();
        self.context.check_login_not_ended(credentials)?;
        if matches!(credentials, Credentials::Authorization(_)) {
            // Also if it was verified before over TLS.
            self.context.check_password_allowed(*client)?;
        }
        if let Some(found) = cached_credentials(credentials).and_then(|text| {
            self.context.logins.get(&text, address, host.generation(), Instant::now())
        }) {
            return Ok(LoginProgress::Admitted(found));
        }
        match credentials {
            Credentials::None => authenticator.log_in_by_password("", b"", address, host),
            Credentials::Authorization(_) => {
                let refused = |text: &str| Refusal::new(ErrorCode::LoginRefused, text);
                let basic = auth::basic(&head.headers).map_err(|e| refused(e.text))?;
                let basic = basic.ok_or_else(|| refused("no credentials"))?;
                authenticator.log_in_by_password(&basic.user, &basic.password, address, host)
            }
            Credentials::Cookie(cookie) => self.context.cookies.resume(cookie, address, host),
            Credentials::SignedUrl { signature, .. } => {
                let path = signed_path(head)?;
                authenticator
                    .check_signed_url(signature, &path, address, host)
                    .map(LoginProgress::Admitted)
            }
        }
    }

    /// Hands a request over to a session.
    fn admit(&mut self, request: CheckedRequest, principal: Principal) -> HttpLoginStep {
        match self.context.service.claim_slot(&principal, request.client.address.ip()) {
            Ok(claim) => {
                let input = std::mem::take(&mut self.input);
                let request = AdmittedRequest { protocol: self.protocol, request, input };
                let front = AdmittedFront::Http(Box::new(request));
                LoginStep::Done { value: Admission { principal, claim, front }, send: Vec::new() }
            }
            Err(refusal) => {
                let answer = Answer::refused(&request.head, &refusal);
                let is_draining = refusal.code == ErrorCode::Draining;
                self.finish(&request.head, if is_draining { answer.closing() } else { answer })
            }
        }
    }

    /// Answers a request whose login is refused.
    fn refuse(&mut self, request: &CheckedRequest, refusal: &Refusal) -> HttpLoginStep {
        debug!("{}: {refusal}", request.client.address);
        let mut answer = Answer::refused(&request.head, refusal);
        let is_unauthorized = status_of(refusal.code) == Status::UNAUTHORIZED;
        let has_sent_password = matches!(request.credentials, Credentials::Authorization(_));
        if is_unauthorized && !has_sent_password && is_browser(&request.head) {
            answer = self.context.to_login(&request.head);
        } else if is_unauthorized {
            if self.context.check_password_allowed(request.client).is_ok() {
                answer = answer.with("WWW-Authenticate", auth::challenge("Relais"));
            }
            if has_sent_password {
                self.failed += 1;
            }
            if self.failed >= limits::LOGIN_TRIES {
                answer = answer.closing();
            }
        }
        self.finish(&request.head, answer)
    }

    /// Returns the step that sends an answer, and closes the connection if it cannot be kept.
    pub(super) fn finish(&self, head: &RequestHead, answer: Answer) -> HttpLoginStep {
        // What follows the head of a request with a body would be taken for a request.
        let has_body = !matches!(head.body(), Ok(BodyLength::Empty));
        let keeps = !answer.closes && !has_body && head.keeps_alive();
        let answer = if keeps { answer } else { answer.closing() };
        match answer.encode(Some(head)) {
            Ok(bytes) if keeps => LoginStep::Answer(bytes),
            Ok(bytes) => LoginStep::Close(bytes),
            Err(e) => {
                debug!("{}: {e}", self.peer);
                LoginStep::Close(Vec::new())
            }
        }
    }
}

impl HttpContext {
    /// Checks that this client may send a password.
    ///
    /// # Errors
    /// [`ErrorCode::TlsNeeded`].
    pub(super) fn check_password_allowed(&self, client: HttpClient) -> Result<(), Refusal> {
        if client.is_encrypted || !self.config.passwords.refuses_clear(client.address.ip()) {
            return Ok(());
        }
        let why = "passwords are accepted over TLS alone; use https";
        Err(Refusal::new(ErrorCode::TlsNeeded, why))
    }

    /// Checks that the login of a request has not ended, nor its user logged out.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`].
    pub(super) fn check_login_not_ended(&self, credentials: &Credentials) -> Result<(), Refusal> {
        match credentials {
            Credentials::Cookie(cookie) => self.cookies.check_not_ended(cookie, &self.service.host),
            _ => Ok(()),
        }
    }

    fn remember(&self, request: &CheckedRequest, principal: &Principal) {
        if let Some(text) = cached_credentials(&request.credentials) {
            let address = request.client.address.ip();
            self.logins.insert(&text, address, principal.clone(), Instant::now());
        }
    }

    /// Forgets a login that has ended.
    pub(super) fn forget(&self, credentials: &Credentials, client: HttpClient) {
        if let Some(text) = cached_credentials(credentials) {
            self.logins.remove(&text, client.address.ip());
        }
    }
}

/// Returns what a login is remembered by; none if it is checked each time.
///
/// Credentials of one kind never stand for those of another: only a cookie needs a token.
fn cached_credentials(credentials: &Credentials) -> Option<String> {
    match credentials {
        Credentials::None => Some(String::new()),
        Credentials::Authorization(field) => Some(format!("authorization {field}")),
        Credentials::Cookie(cookie) => Some(format!("cookie {cookie}")),
        Credentials::SignedUrl { .. } => None,
    }
}

/// Returns the path that a signature has to be for.
fn signed_path(head: &RequestHead) -> Result<TreePath, Refusal> {
    let denied = |text: String| Refusal::new(ErrorCode::Denied, text);
    let parts = head.target.decoded_parts().map_err(|e| denied(e.text.to_owned()))?;
    TreePath::new(parts.join("/")).map_err(|e| denied(e.to_string()))
}

/// Returns what an answer needs of a head.
fn head_of_answer(head: &RequestHead) -> RequestHead {
    let target = Target { path: String::new(), query: None, authority: None };
    let (method, version, headers) = (head.method.clone(), head.version, head.headers.clone());
    RequestHead { method, target, version, headers }
}

/// Returns the answer to a request for whose session there is no thread.
#[must_use]
pub fn busy(request: &AdmittedRequest) -> Vec<u8> {
    let why = "the server cannot start another session; try again later";
    let head = &request.request.head;
    let answer = Answer::refused(head, &Refusal::new(ErrorCode::Busy, why)).closing();
    answer.encode(Some(head)).unwrap_or_default()
}

impl LoginHandler for HttpLogin {
    type Value = Admission;

    fn is_known(&self) -> bool {
        let passwords = self.context.service.authenticator.passwords();
        passwords.is_some_and(|verifier| verifier.is_known(self.peer.ip()))
    }

    fn on_encrypted(&mut self, _: ChannelBinding) {
        self.is_encrypted = true;
    }

    fn input_limit(&self, _: &[u8]) -> usize {
        match &self.state {
            HttpLoginState::Form(form) => form.length(),
            // A longer head is noticed by its next byte.
            _ => relais_web::limits::INPUT,
        }
    }

    fn idle_time(&self) -> Duration {
        relais_web::limits::KEPT_TIME
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<HttpLoginStep> {
        if !self.input.is_empty() {
            input.splice(0..0, std::mem::take(&mut self.input));
        }
        if let HttpLoginState::Form(form) = &self.state {
            let body: Vec<u8> = input.get(..form.length())?.to_vec();
            input.drain(..body.len());
            return Some(self.handle_form(&body));
        }
        let head = match self.next.take() {
            Some(head) => head,
            None => match RequestHead::parse(input) {
                Ok(None) => return None,
                Ok(Some((head, length))) => {
                    input.drain(..length);
                    head
                }
                Err(e) => {
                    debug!("{}: {e}", self.peer);
                    let answer = Answer::malformed(&e).encode(None);
                    return Some(LoginStep::Close(answer.unwrap_or_default()));
                }
            },
        };
        self.input = std::mem::take(input);
        Some(self.handle(head))
    }

    fn poll_pending(&mut self) -> Option<HttpLoginStep> {
        let outcome = match &self.state {
            HttpLoginState::Request(pending, _) | HttpLoginState::FormPassword(pending, _) => {
                pending.take()?
            }
            HttpLoginState::Idle | HttpLoginState::Form(_) => return None,
        };
        let service = &self.context.service;
        let conclude = |client: HttpClient| {
            service.authenticator.conclude(outcome, client.address.ip(), &service.host)
        };
        match std::mem::replace(&mut self.state, HttpLoginState::Idle) {
            HttpLoginState::Request(_, request) => Some(match conclude(request.client) {
                Ok(principal) => {
                    self.context.remember(&request, &principal);
                    self.admit(*request, principal)
                }
                Err(refusal) => self.refuse(&request, &refusal),
            }),
            HttpLoginState::FormPassword(_, form) => {
                let result = conclude(form.client());
                Some(self.conclude_form(&form, result))
            }
            HttpLoginState::Idle | HttpLoginState::Form(_) => None,
        }
    }

    fn refuse_clear_text(&mut self, _: &[u8]) -> Vec<u8> {
        let error = relais_http::RequestError::bad("this port speaks HTTPS: use https://");
        Answer::malformed(&error).encode(None).unwrap_or_default()
    }

    fn expire(&mut self, input: &[u8]) -> Vec<u8> {
        if input.is_empty() && self.input.is_empty() {
            // An idle connection; RFC 9110 section 15.5.9 is for incomplete requests.
            return Vec::new();
        }
        let error = relais_http::RequestError::new(
            Status::REQUEST_TIMEOUT,
            "the request did not arrive in time",
        );
        Answer::malformed(&error).encode(None).unwrap_or_default()
    }
}

impl HttpLogin {
    /// Handles the body of a login or logout form.
    fn handle_form(&mut self, body: &[u8]) -> HttpLoginStep {
        let HttpLoginState::Form(mut form) =
            std::mem::replace(&mut self.state, HttpLoginState::Idle)
        else {
            return LoginStep::Close(Vec::new());
        };
        match form.begin(&self.context, body) {
            Ok(LoginProgress::Pending(pending)) => {
                self.state = HttpLoginState::FormPassword(pending, form);
                LoginStep::Pending
            }
            Ok(LoginProgress::Admitted(principal)) => self.conclude_form(&form, Ok(principal)),
            Err(answer) => self.finish_form(&form, *answer),
        }
    }

    fn conclude_form(
        &mut self,
        form: &FormLogin,
        result: Result<Principal, Refusal>,
    ) -> HttpLoginStep {
        if result.is_err() {
            self.failed += 1;
        }
        let answer = form.conclude(&self.context, result);
        let closes = self.failed >= limits::LOGIN_TRIES;
        self.finish_form(form, if closes { answer.closing() } else { answer })
    }

    /// Sends the answer to a form, whose body was read.
    fn finish_form(&self, form: &FormLogin, answer: Answer) -> HttpLoginStep {
        let mut head = head_of_answer(form.head());
        head.headers.remove("content-length");
        self.finish(&head, answer)
    }
}
