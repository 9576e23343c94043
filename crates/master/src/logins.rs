//! The master's decisions about logins: of its own clients, and of those of slaves.
//!
//! Nothing here blocks: the threads of the password verifier compute the hashes.

use std::net::IpAddr;
use std::time::Instant;

use log::{debug, info};
use relais_auth::{
    AuthenticatedUser, LoginNames, LoginRule, LoginSource, PendingLogin, Rights, Ticket,
    login_rule, renew_user,
};
use relais_proto::{
    ErrorCode, ForwardedLogin, LinkMessage, LogRateLimiter, Refusal, SlaveId, TicketRenewal,
    limits, quote,
};

use crate::core::{Core, milliseconds};
use crate::forwarded_logins::LoginQuery;

/// A login by name and password.
#[derive(Clone, Copy)]
pub(crate) struct LoginRequest<'a> {
    pub source: LoginSource,
    pub user: &'a str,
    pub password: &'a [u8],
    pub names: LoginNames,
    /// Whether the listeners of the server that the client has reached are on loopback.
    pub is_local: bool,
}

/// What follows from a login.
pub(crate) enum LoginStart {
    /// The user has logged in.
    Admitted(AuthenticatedUser),
    /// The password is being verified.
    Pending(PendingLogin),
}

impl Core {
    /// Starts a login.
    ///
    /// # Errors
    /// The refusal of the login.
    pub fn log_in(&self, login: &LoginRequest<'_>) -> Result<LoginStart, Refusal> {
        let LoginRequest { source, user, password, names, is_local } = *login;
        let accounts = self.config.accounts.current();
        match login_rule(accounts.as_deref(), user, names) {
            Ok(LoginRule::WithoutAccount) => {
                Ok(LoginStart::Admitted(self.without_account(source.addr, is_local)))
            }
            Ok(LoginRule::Anonymous(user)) => Ok(LoginStart::Admitted(user)),
            Ok(LoginRule::Password) => {
                self.passwords.submit(source, user, password).map(LoginStart::Pending)
            }
            Err(refusal) => {
                static REFUSED: LogRateLimiter = LogRateLimiter::new();
                if refusal.code == ErrorCode::LoginRefused
                    && let Some(more) = REFUSED.allow(Instant::now())
                {
                    info!("{source}: login as {} refused: {refusal}{more}", quote(user));
                }
                Err(refusal)
            }
        }
    }

    /// A client without an account, which may write only if all listeners are on loopback, and it
    /// is too.
    fn without_account(&self, client: IpAddr, is_local: bool) -> AuthenticatedUser {
        let is_local = is_local && self.is_open && client.to_canonical().is_loopback();
        let rights = if is_local { Rights::Write } else { Rights::Read };
        AuthenticatedUser::without_account(rights)
    }

    /// Starts a login that a slave has forwarded. [`Self::answer_logins`] sends a later result.
    pub fn forward_login(&self, slave: SlaveId, query: LoginQuery, login: &ForwardedLogin) {
        let request = LoginRequest {
            source: LoginSource { addr: login.client.ip().to_canonical(), slave: Some(slave) },
            user: &login.user,
            password: &login.password,
            names: LoginNames::WithAnonymous,
            is_local: login.local,
        };
        let started = self.forwarded_logins.check(query.link).and_then(|()| self.log_in(&request));
        match started {
            Ok(LoginStart::Pending(pending)) => self.forwarded_logins.add(query, pending),
            Ok(LoginStart::Admitted(user)) => self.answer_login(&query, Ok(user)),
            Err(refusal) => self.answer_login(&query, Err(refusal)),
        }
    }

    /// Sends the results of forwarded logins that are known.
    pub fn answer_logins(&self) {
        for (query, result) in self.forwarded_logins.take_results() {
            self.answer_login(&query, result);
        }
    }

    /// Issues a new ticket for a former one with the present rights of its user.
    pub fn renew_ticket(&self, query: &LoginQuery, renewal: &TicketRenewal) {
        self.answer_login(query, self.renewed_user(renewal));
    }

    fn renewed_user(&self, renewal: &TicketRenewal) -> Result<AuthenticatedUser, Refusal> {
        let bad = |why: String| Refusal::new(ErrorCode::BadTicket, why);
        let ticket = Ticket::open(&renewal.ticket, &self.config.key, self.cluster)
            .map_err(|e| bad(e.to_string()))?;
        // A transfer may outlast the ticket of its session.
        let last_ms = ticket.ends_ms.saturating_add(milliseconds(limits::TICKET_TIME));
        if last_ms <= self.time_ms() {
            return Err(bad("the ticket ended too long ago; log in again".to_owned()));
        }
        if self.ended_tickets().contains(&ticket.user, &renewal.ticket) {
            return Err(bad("this login has ended: its user has logged out".to_owned()));
        }
        let accounts = self.config.accounts.current();
        let user = renew_user(accounts.as_deref(), &ticket.user, ticket.password_id)?;
        Ok(user.unwrap_or_else(|| self.without_account(renewal.client.ip(), renewal.local)))
    }

    fn answer_login(&self, query: &LoginQuery, result: Result<AuthenticatedUser, Refusal>) {
        let LoginQuery { query, outbox, .. } = query;
        let query = *query;
        outbox.send(&match result {
            Ok(user) => {
                let (lsn, ticket) = (self.order_status.lsn(), self.mint(user));
                LinkMessage::TicketIssued { query, lsn, ticket }
            }
            Err(why) => {
                debug!("a slave's login is refused: {why}");
                LinkMessage::LoginRefused { query, why }
            }
        });
    }
}
