//! The front end for HTTP: RFC 9110 and 9112, over the session engine.
//!
//! `login` runs in the pool of connections before their login: it reads one request head, answers
//! what needs no session, and finds the user. `serve` is the loop of a session's thread, `dispatch`
//! the choice of a handler, and `files` has a module for each method. A kept connection without a
//! request, or with one of another user, goes back to the pool.
//! Nothing here decides about rights, paths of other users or freshness: that is the engine's.

pub mod answer;
mod checks;
mod client;
mod cookie_login;
mod cookies;
mod credentials;
mod dav;
mod dispatch;
mod error;
mod files;
mod freshness;
mod health;
mod keep_alive;
pub mod limits;
pub mod login;
mod login_cache;
pub mod metrics;
mod page;
mod path;
mod pool_page;
mod refusals;
pub mod request;
pub mod serve;
mod session;
mod uploads;

use std::io;
use std::sync::Arc;

use relais_net::IpNetwork;
use relais_net::tls::TlsServer;
use relais_web::HostRule;

use self::cookies::Cookies;
use self::health::Health;
use self::login_cache::LoginCache;
use self::metrics::MetricsPage;
use crate::config::HttpConfig;
use crate::front::native::login::LoginService;
use crate::front::replica_stream::ReplicaDialer;

/// What all HTTP sessions of a worker share.
pub struct HttpContext {
    /// The settings.
    pub config: HttpConfig,
    /// The TLS configuration of HTTPS; none if there is no listener for it.
    pub tls: Option<TlsServer>,
    /// Opens sessions with the slaves that have content which is not here.
    pub replicas: Arc<ReplicaDialer>,
    service: Arc<LoginService>,
    /// Proxies whose header fields name the client.
    trusted: Vec<IpNetwork>,
    /// The names of this server.
    hosts: HostRule,
    logins: LoginCache,
    cookies: Cookies,
    health: Health,
    metrics: MetricsPage,
}

impl HttpContext {
    /// Makes what the sessions of a worker share.
    ///
    /// # Errors
    /// The kernel provides no random bytes; the key of the cookies cannot be used.
    pub fn new(
        config: HttpConfig,
        tls: Option<TlsServer>,
        replicas: Arc<ReplicaDialer>,
        service: Arc<LoginService>,
    ) -> io::Result<Self> {
        Ok(Self {
            hosts: HostRule::new(config.hosts.iter().cloned()),
            metrics: MetricsPage::new(service.host.clone(), config.metrics_token.clone()),
            config,
            tls,
            replicas,
            trusted: service.host.context.config.trusted_proxies.clone(),
            logins: LoginCache::new()?,
            cookies: Cookies::new(service.clone()).map_err(io::Error::other)?,
            health: Health::new(service.host.clone()),
            service,
        })
    }
}
