//! The cookies of a server: the login of a browser, and the changes that it has seen.
//!
//! The value of a login cookie is a ticket: in a cluster that of the master, which every slave
//! accepts; else one that this slave signs with a key in its own folder. Names end with the first
//! digits of the server's id, because browsers send cookies to all ports of a host.

use std::net::IpAddr;
use std::sync::Arc;

use relais_auth::{
    AuthenticatedUser, ClusterKey, SecretFileError, Ticket, cookie_name, csrf_token, is_csrf_token,
    log_out, login_cookie_name, seal, ticket_of_cookie, ticket_to_cookie, unseal,
};
use relais_engine::{
    Credential, Host, LoginProgress, Principal, SecretSource, check_not_logged_out,
};
use relais_http::{Headers, cookie};
use relais_proto::{ClusterId, ErrorCode, Refusal};

use crate::front::native::login::LoginService;

/// Name of the file with the key of a standalone slave, in its own folder.
const KEY_FILE: &str = "http.key";

/// The context string from which the key of upload URLs is derived.
const UPLOAD_PURPOSE: &str = "relais 2026-11 http upload 1";

/// Makes and checks the cookies and upload URLs of a worker.
pub struct Cookies {
    service: Arc<LoginService>,
    /// Key and id of a standalone slave; none in a cluster.
    own: Option<(ClusterKey, ClusterId)>,
}

impl Cookies {
    /// Makes the cookies of a worker; the first one of a standalone slave creates the key.
    ///
    /// # Errors
    /// The file with the key cannot be used.
    pub fn new(service: Arc<LoginService>) -> Result<Self, SecretFileError> {
        let context = &service.host.context;
        let own = match context.config.cluster {
            Some(_) => None,
            None => {
                let key = ClusterKey::load_or_create(&context.own.folder.path(KEY_FILE))?;
                Some((key, ClusterId(context.own.folder_id.0)))
            }
        };
        Ok(Self { service, own })
    }

    /// Returns the key that signs logins, and the id of the server; none if there is no key yet.
    fn key(&self) -> Option<(ClusterKey, ClusterId)> {
        self.own.clone().or_else(|| {
            let key = self.service.authenticator.secrets().key()?;
            let id = key.cluster_id();
            Some((key, id))
        })
    }

    /// Returns the name of the login cookie.
    #[must_use]
    pub fn login_name(&self) -> Option<String> {
        self.key().map(|(_, id)| login_cookie_name(id))
    }

    /// Returns the login cookie of a request; of several ones, one that holds.
    #[must_use]
    pub fn login_cookie<'a>(&self, headers: &'a Headers) -> Option<&'a str> {
        let host = &self.service.host;
        let holds =
            |value: &str| self.ticket(value).is_some() && self.check_not_ended(value, host).is_ok();
        cookie::find(headers, &self.login_name()?, holds)
    }

    /// Returns the name of the cookie with the latest change that the browser has seen.
    #[must_use]
    pub fn change_name(&self) -> Option<String> {
        self.key().map(|(_, id)| cookie_name("relais-change", id))
    }

    /// Returns the login cookie of a user who has logged in with a password.
    ///
    /// # Errors
    /// [`ErrorCode::Unsupported`] if there can be none.
    pub fn issue(&self, principal: &Principal, now_ms: u64) -> Result<String, Refusal> {
        let unsupported = |why: &str| Refusal::new(ErrorCode::Unsupported, why);
        let ticket = match (&principal.credential, &self.own) {
            (Credential::Ticket(ticket), None) => ticket.clone(),
            (Credential::Account(id), Some((key, server))) => {
                let user = AuthenticatedUser {
                    name: principal.user.clone(),
                    rights: principal.rights,
                    root: principal.root.clone(),
                    generation: principal.generation,
                    password_id: *id,
                };
                Ticket::new(user, *server, now_ms).mint(key)
            }
            _ => return Err(unsupported("this login cannot be kept in a cookie")),
        };
        let too_long = || unsupported("the root folder of this user is too long for a cookie");
        ticket_to_cookie(&ticket).ok_or_else(too_long)
    }

    /// Continues the login of a cookie.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`] if it is altered or has ended; others if it cannot be checked now.
    pub fn resume(
        &self,
        cookie: &str,
        address: IpAddr,
        host: &dyn Host,
    ) -> Result<LoginProgress, Refusal> {
        let bad = |why: &str| Refusal::new(ErrorCode::BadTicket, why);
        let ticket = ticket_of_cookie(cookie).ok_or_else(|| bad("the cookie is malformed"))?;
        let authenticator = &self.service.authenticator;
        let Some((key, server)) = &self.own else {
            return authenticator.resume_by_ticket(&ticket, address, host);
        };
        let ticket = Ticket::open(&ticket, key, *server).map_err(|e| bad(&e.to_string()))?;
        let principal =
            authenticator.resume_account(&ticket.user, ticket.password_id, address, host)?;
        Ok(LoginProgress::Admitted(principal))
    }

    /// Checks that a login cookie has not ended, nor its user logged out; a wrong cookie passes.
    ///
    /// Workers that remember the login, and sessions that are open, notice its end by it. Unlike
    /// a session, a cookie is not renewed.
    ///
    /// # Errors
    /// [`ErrorCode::BadTicket`].
    pub fn check_not_ended(&self, cookie: &str, host: &dyn Host) -> Result<(), Refusal> {
        match self.ticket(cookie) {
            Some((_, ticket)) if ticket.ends_ms <= host.now_ms() => {
                Err(Refusal::new(ErrorCode::BadTicket, "the login has ended"))
            }
            Some((bytes, ticket)) => check_not_logged_out(&ticket.user, &bytes, host),
            None => Ok(()),
        }
    }

    /// Makes a login cookie useless: in all workers at once, on other servers soon.
    pub fn end(&self, cookie: &str) {
        let host = &self.service.host;
        if let Some((bytes, ticket)) = self.ticket(cookie) {
            host.ended_tickets().insert(log_out(&ticket, &bytes, host.now_ms()));
            host.context.log_outs.changed.wake();
        }
    }

    /// Returns the ticket that a login cookie is, if this server or its master has signed it.
    fn ticket(&self, cookie: &str) -> Option<(Vec<u8>, Ticket)> {
        let (key, server) = self.key()?;
        let bytes = ticket_of_cookie(cookie)?;
        let ticket = Ticket::open(&bytes, &key, server).ok()?;
        Some((bytes, ticket))
    }

    /// Seals the state of an upload, which its URL has.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if there is no key yet.
    pub fn seal_upload(&self, fields: &[u8]) -> Result<Vec<u8>, Refusal> {
        let no_key = || Refusal::new(ErrorCode::Busy, "this slave has no cluster key yet");
        let (key, _) = self.key().ok_or_else(no_key)?;
        Ok(seal(&key, UPLOAD_PURPOSE, fields))
    }

    /// Returns the state of an upload, if this server has sealed it.
    #[must_use]
    pub fn unseal_upload(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (key, _) = self.key()?;
        unseal(&key, UPLOAD_PURPOSE, sealed).map(<[u8]>::to_vec)
    }

    /// Returns the token against forged requests that belongs to a login cookie.
    #[must_use]
    pub fn csrf_token(&self, cookie: &str) -> Option<String> {
        self.key().map(|(key, _)| csrf_token(&key, cookie))
    }

    /// Whether `token` belongs to a login cookie.
    #[must_use]
    pub fn is_csrf_token(&self, cookie: &str, token: &str) -> bool {
        self.key().is_some_and(|(key, _)| is_csrf_token(&key, cookie, token))
    }
}
